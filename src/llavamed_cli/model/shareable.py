"""Whether a model's answers can be made side by side from one prefix, by what its configuration says of it."""

from __future__ import annotations

from typing import Any

ATTENTIONS = {"full_attention", "sliding_attention"}
BY_LENGTH = ("dynamic", "longrope")
"""Rotary positions that turn by the longest prompt in a batch: neighbours would change an answer."""
HISTORY: dict[str, tuple[Any, ...]] = {
    "no_repeat_ngram_size": (None, 0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1.0),
    "bad_words_ids": (None,),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "suppress_tokens": (None, []),
    "begin_suppress_tokens": (None, []),
    "exponential_decay_length_penalty": (None,),
    "sequence_bias": (None,),
    "guidance_scale": (None, 1.0),
    "watermarking_config": (None,),
    "stop_strings": (None,),
}
"""Settings of a folder's generation config that change greedy answers, and the values with which they do not. The
repetition penalty, which Qwen's folders have, is not among them: `answer_many` applies it."""


def why_not_shared(model: Any) -> str | None:
    """What stands against it in a LLaVA, for a person; None where nothing does."""
    words = model.model.language_model
    config = words.config
    if not getattr(words, "_supports_attention_backend", False):
        return f"a {config.model_type} brings its own attention"
    if not hasattr(words, "layers"):
        return f"a {config.model_type} names its layers otherwise"
    other = set(getattr(config, "layer_types", None) or ()) - ATTENTIONS
    if other:
        return f"its layers have {', '.join(sorted(other))}"
    for name in ("attn_logit_softcapping", "alibi"):
        if getattr(config, name, None):
            return f"its attention has {name}"
    turning = next((kind for kind in BY_LENGTH if kind in _rope_types(config)), None)
    if turning:
        return f"its rotary positions are {turning}"
    asked = model.generation_config
    for name, neutral in HISTORY.items():
        if getattr(asked, name, None) not in neutral:
            return f"its generation config asks for {name}"
    return None


def _rope_types(config: Any) -> set[str]:
    """Kinds of rotary positions, of all layers or by kind of layer."""
    found = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kinds = [found, *(one for one in found.values() if isinstance(one, dict))]
    return {str(kind.get("rope_type") or kind.get("type")) for kind in kinds}

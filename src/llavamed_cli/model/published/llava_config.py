"""From the flat config of the original LLaVA code to Hugging Face's: text model, vision tower and what joins them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import DataError, ModelError
from llavamed_cli.model.chat import ChatFormat

if TYPE_CHECKING:
    from transformers import (
        GenerationConfig,
        LlamaConfig,
        LlavaConfig,
        MistralConfig,
        PreTrainedConfig,
        PreTrainedTokenizerBase,
    )

TEXT_KEYS = frozenset(
    {
        "attention_bias",
        "attention_dropout",
        "bos_token_id",
        "eos_token_id",
        "head_dim",
        "hidden_act",
        "hidden_size",
        "initializer_range",
        "intermediate_size",
        "max_position_embeddings",
        "mlp_bias",
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "rms_norm_eps",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "sliding_window",
        "tie_word_embeddings",
        "vocab_size",
    }
)
"""Keys of a published config that say something about its language model."""
NEEDED_KEYS = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size")
LAYOUT_KEYS = frozenset(
    {"_name_or_path", "architectures", "dtype", "model_type", "torch_dtype", "transformers_version", "use_cache"}
)
"""Keys that say which format it is, or nothing about the weights."""
JOINING_KEYS = frozenset(
    {
        "image_aspect_ratio",
        "mm_hidden_size",
        "mm_patch_merge_type",
        "mm_projector_type",
        "mm_use_im_patch_token",
        "mm_use_im_start_end",
        "mm_vision_select_feature",
        "mm_vision_select_layer",
        "mm_vision_tower",
        "pad_token_id",
        "tokenizer_model_max_length",
        "tokenizer_padding_side",
        "use_mm_proj",
    }
)
"""Keys about the tower, the projector and the tokenizer that a reader follows."""


def text_config(raw: Mapping[str, Any], *, rows: int | None = None) -> LlamaConfig | MistralConfig:
    """The language model that a flat config describes; what concerns anything else is left out.

    Args:
        rows: the vocabulary's rows, where they grew.

    Raises:
        ModelError: it is neither a Llama nor a Mistral, a key is missing, or a value makes no sense.
    """
    from transformers import LlamaConfig, MistralConfig

    kind = _text_kind(raw)
    missing = [key for key in NEEDED_KEYS if raw.get(key) is None]
    if missing:
        raise ModelError(f"config.json lacks {', '.join(missing)}", where="config.json")
    values = {key: value for key, value in raw.items() if key in TEXT_KEYS}
    if kind == "llama":
        values.pop("sliding_window", None)
    if rows is not None:
        values["vocab_size"] = rows
    try:
        return MistralConfig(**values) if kind == "mistral" else LlamaConfig(**values)
    except Exception as error:  # transformers validates a stranger's values, and raises as it pleases
        raise ModelError(f"config.json makes no sense: {' '.join(str(error).split())}", where="config.json") from error


def whole_number(raw: Mapping[str, Any], key: str, default: int) -> int:
    """A config's whole number, or `default` where it has none. Raises ModelError if it is something else."""
    found = raw.get(key)
    if found is None:
        return default
    if not isinstance(found, int):
        raise ModelError(f"{key} is {found!r}, expected a whole number", where="config.json")
    return found


def ignored_keys(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys of a flat config that nothing here reads: left-overs of training and of other experiments."""
    return tuple(sorted(key for key in raw if key not in TEXT_KEYS | LAYOUT_KEYS | JOINING_KEYS))


def llava_config(
    text: PreTrainedConfig,
    vision: PreTrainedConfig,
    image_token: int,
    pad_token: int,
    feature_layer: int,
    strategy: str,
    *,
    image_size: int | None = None,
) -> LlavaConfig:
    """Hugging Face's LLaVA of two parts.

    Args:
        image_token: the id of `<image>`.
        feature_layer: which of the tower's hidden states is read; -2 is the second to last.
        strategy: "default" drops the first token, "full" keeps all.
        image_size: pixels a side, where the tower takes another size than its config names (DINOv2).

    Raises:
        ModelError: the tower has no such layer.
    """
    from transformers import LlavaConfig

    layers = int(vision.num_hidden_layers)
    if not -layers - 1 <= feature_layer <= layers:
        what = f"layer {feature_layer} of a vision tower of {layers} layers cannot be read"
        raise ModelError(what, where="config.json")
    size = image_size or int(vision.image_size)
    class_token = strategy == "full" and vision.model_type != "siglip_vision_model"
    return LlavaConfig(
        text_config=text,
        vision_config=vision,
        image_token_index=image_token,
        image_seq_length=(size // int(vision.patch_size)) ** 2 + int(class_token),
        vision_feature_layer=feature_layer,
        vision_feature_select_strategy=strategy,
        projector_hidden_act="gelu",
        multimodal_projector_bias=True,
        pad_token_id=pad_token,
        tie_word_embeddings=bool(text.tie_word_embeddings),
    )


def select_strategy(select_feature: str, *, class_token: bool) -> str:
    """HF's name for LLaVA's `mm_vision_select_feature`: "patch" leaves out the class token, "cls_patch" keeps it.

    Raises:
        ModelError: another value.
    """
    if select_feature not in ("patch", "cls_patch"):
        raise ModelError(
            f"mm_vision_select_feature is {select_feature!r}; patch and cls_patch are supported", where="config.json"
        )
    return "default" if class_token and select_feature == "patch" else "full"


def greedy_generation(tokenizer: PreTrainedTokenizerBase, template: str) -> GenerationConfig:
    """How answers are generated: greedy, to the tokenizer's end token or what the chat template ends an answer with.

    The published files are not followed: LLaVA-Med v1.0's says begin 0, end 1 and pad 0, which are other tokens.
    """
    from transformers import GenerationConfig

    words: Any = tokenizer
    try:
        ends = list(ChatFormat(tokenizer, template).stop_token_ids)
    except DataError:  # a stranger's template that ends an answer with nothing: the tokenizer's end token is left
        ends = []
    return GenerationConfig(
        do_sample=False,
        bos_token_id=words.bos_token_id,
        eos_token_id=ends if len(ends) > 1 else words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )


def _text_kind(raw: Mapping[str, Any]) -> str:
    named = " ".join([str(raw.get("model_type")), *map(str, raw.get("architectures") or ())]).lower()
    if "mistral" in named and "mixtral" not in named:
        return "mistral"
    if "llama" in named or raw.get("model_type") == "llava":
        return "llama"
    raise ModelError(
        f"the language model inside is a {raw.get('model_type')}; Llama and Mistral are supported", where="config.json"
    )

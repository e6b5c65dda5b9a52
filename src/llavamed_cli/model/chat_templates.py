"""The chat templates that come with llavamed, by the names their authors gave them, and how a model is given one.

A template is Jinja, as transformers and other servers render it, so a folder that carries one reads alike everywhere:
text or typed parts as content, the picture's place, and the tokens around it are all written by the template itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import UsageError
from llavamed_cli.records import IMAGE_MARKER

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATES = Path(__file__).parent / "templates"
BUILTIN_TEMPLATES = {
    "chatml": "ChatML, for language models that know `<|im_start|>`",
    "mistral_instruct": "LLaVA-Med v1.5: `[INST] question [/INST] answer </s>`, no system text",
    "vicuna_v1": "LLaVA v1.5, and LLaVA-Med v1.0's `vicuna_v1_1`: `USER: question ASSISTANT: answer</s>`",
    "llava_llama_2": "LLaVA over LLAMA-2: `[INST] <<SYS>>...`",
    "simple": "LLaVA-Med v1.0's answering of VQA: `###Human: question`, the picture after it, no cue to answer",
    "multimodal": "LLaVA-Med v1.0's dialogue: `simple` with its own system text",
    "simple_legacy": "LLaVA-Med v1.0: `simple` with a `### Response:` line",
    "v0": "LLaVA-Med v1.0's training: `### Human: question`, `### Assistant: answer`, one a line",
    "llava_v1": "LLaVA-Med v1.0's `llava_v1`: `vicuna_v1` with its own system text",
}
"""Names and what they are. Sources: llava/conversation.py of LLaVA-Med v1.0, of v1.5 and of LLaVA; OpenAI's ChatML."""
PICTURE_LAST = frozenset({"simple", "multimodal", "simple_legacy"})
"""Templates that put a question's single picture behind it (LLaVA-Med v1.0 llava/eval/model_vqa_med.py)."""
STARTS, ENDS = "<im_start>", "<im_end>"


def builtin_template(name: str, *, wrapped: bool = False, spaced: bool = False) -> str:
    """The Jinja text of a built-in template.

    Args:
        wrapped: pictures stand between `<im_start>` and `<im_end>` (a config's `mm_use_im_start_end`).
        spaced: write a blank where sentencepiece puts one before each chunk of text, for a tokenizer that does not
            (`"legacy": false`); see `needs_blanks`.

    Raises UsageError where there is no such template.
    """
    if name not in BUILTIN_TEMPLATES:
        raise UsageError(f"no chat template {name!r}, there are {', '.join(BUILTIN_TEMPLATES)}", where="--template")
    parts = [_text("typed_content")]
    if name != "chatml":
        parts.append(_text("own_system"))
    if name in PICTURE_LAST:
        parts.append(_text("picture_last"))
    if wrapped or spaced:
        written = f"{STARTS}{IMAGE_MARKER}{ENDS}" if wrapped else IMAGE_MARKER
        parts.append(_text("written_picture").replace("WRITTEN", written + (" " if spaced else "")))
    if spaced:
        parts.append("{%- set after_bos = ' ' -%}")
    return "".join([*parts, _text(name)])


def template_for(name: str, tokenizer: PreTrainedTokenizerBase, *, wrapped: bool = False) -> str:
    """The built-in template that gives the reference's ids with this tokenizer."""
    return builtin_template(name, wrapped=wrapped, spaced=needs_blanks(tokenizer))


def needs_blanks(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts a blank before the first text and not before the text after an added token.

    The reference tokenises the text around each picture by itself, and so has that blank everywhere.
    """
    words: Any = tokenizer
    marks = [token.content for token in words.added_tokens_decoder.values() if token.special and not token.rstrip]
    if not marks:
        return False

    def pieces(text: str) -> list[int]:
        ids: list[int] = words(text, add_special_tokens=False)["input_ids"]
        return ids

    alone, behind = pieces("a"), pieces(f"{marks[0]}a")[1:]
    return alone != behind and alone == pieces(f"{marks[0]} a")[1:]


def accept_typed_content(template: str) -> str:
    """Let a text-only template also take message content as a list of parts, as `AutoProcessor` users write it."""
    if IMAGE_MARKER in template or "['type']" in template or ".type" in template:
        return template
    return _text("typed_content") + template


def write_bos_once(tokenizer: PreTrainedTokenizerBase, template: str) -> None:
    """Stop the tokenizer from adding BOS where the template writes it.

    `apply_chat_template` and then `processor(text=...)`, the way most scripts ask, would begin with two. Without it
    that way, `apply_chat_template(tokenize=True)` and servers that add none (vLLM) all begin with one.
    A text that is not rendered by the template then begins with none.
    """
    words: Any = tokenizer
    rendered = words.apply_chat_template([{"role": "user", "content": "a"}], chat_template=template, tokenize=False)
    if words.bos_token is None or not rendered.startswith(words.bos_token):
        return
    core = words.backend_tokenizer
    stored = json.loads(core.to_str())["post_processor"]
    core.post_processor = _post_processor(_without(stored, words.bos_token))


def _without(stored: Any, bos: str) -> Any:
    """A serialised post-processor that no longer adds BOS."""
    if not isinstance(stored, dict):
        return stored
    if stored["type"] == "Sequence":
        return {**stored, "processors": [_without(part, bos) for part in stored["processors"]]}
    if stored["type"] != "TemplateProcessing":
        return stored
    kept = {
        form: [part for part in stored[form] if part.get("SpecialToken", {}).get("id") != bos]
        for form in ("single", "pair")
    }
    return {**stored, **kept, "special_tokens": {n: t for n, t in stored["special_tokens"].items() if n != bos}}


def _post_processor(stored: Any) -> Any:
    from tokenizers import Tokenizer, models

    empty = json.loads(Tokenizer(models.BPE(vocab={}, merges=[])).to_str())
    return Tokenizer.from_str(json.dumps({**empty, "post_processor": stored})).post_processor


def _text(name: str) -> str:
    return (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8").replace("\n", "")

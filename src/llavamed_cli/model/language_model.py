"""The language model a LLaVA is assembled from: a folder, a hub name, a GGUF file, or `tiny`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError, first_line
from llavamed_cli.model.chat import accept_typed_content, builtin_template
from llavamed_cli.model.precision import Choice
from llavamed_cli.model.tiny import TINY, byte_tokenizer, phantom_words, tiny_language_model
from llavamed_cli.records import IMAGE_MARKER

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

VOCABULARY_MULTIPLE = 64
"""Embedding rows are padded to a multiple of this, which GPUs multiply faster."""


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model whose tokenizer has `<image>`, a pad token and a chat template.

    chosen_template: "own", or the name of the built-in one it was given.
    """

    model: PreTrainedModel = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    template: str = field(repr=False)
    chosen_template: Choice


def load_language_model(where: str, *, dtype: torch.dtype, seed: int, template: str | None = None) -> LanguageModel:
    """Load `where` and give it what a LLaVA needs.

    Args:
        template: a built-in chat template's name, to use instead of the tokenizer's own.

    Raises:
        ModelError: nothing loadable is there, or it has no tokenizer.
    """
    if where == TINY:
        tokenizer: Any = byte_tokenizer(phantom_words())
        model: Any = tiny_language_model(len(tokenizer), seed)
        tokenizer.chat_template = builtin_template("chatml")
    else:
        model, tokenizer = _load(where, dtype)
    _add_tokens(model, tokenizer)
    if template is not None:
        return LanguageModel(model, tokenizer, _typed(template), Choice(template, "asked for"))
    if tokenizer.chat_template:
        own = accept_typed_content(tokenizer.chat_template)
        return LanguageModel(model, tokenizer, own, Choice("own", "the tokenizer brings one"))
    return LanguageModel(model, tokenizer, _typed("vicuna_v1"), Choice("vicuna_v1", "the tokenizer brings none"))


def _typed(name: str) -> str:
    return accept_typed_content(builtin_template(name))


def _load(where: str, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, extra = _place(where)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **extra)
    except Exception as error:  # a stranger's files: parsers raise whatever they stumble over
        raise ModelError(f"no tokenizer could be loaded: {first_line(error)}", where=where) from error
    try:
        model, report = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, output_loading_info=True, **extra)
    except Exception as error:
        raise ModelError(f"no language model could be loaded: {first_line(error)}", where=where) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(f"{len(missing)} tensor(s) are missing: {', '.join(missing[:5])}", where=where)
    if extra:
        model = _without_gguf_traces(model)
    return model, tokenizer


def _place(where: str) -> tuple[str, dict[str, str]]:
    """The folder or hub name to hand to transformers, and the GGUF file in it."""
    path = Path(where).expanduser()
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise ModelError("no such GGUF file", where=where)
        return str(path.parent), {"gguf_file": path.name}
    if path.is_dir():
        return str(path), {}
    if path.exists() or where.startswith((".", "/", "~")) or where.count("/") > 1:
        raise ModelError("expected a model folder, a .gguf file, or a hub name like owner/name", where=where)
    return where, {}


def _without_gguf_traces(model: Any) -> Any:
    """The same weights in a fresh model: one read from GGUF refuses to be saved (transformers 5.23)."""
    config = model.config
    del config.quantization_config
    fresh = type(model)(config)
    fresh.load_state_dict(model.state_dict())
    fresh.generation_config = model.generation_config
    return fresh.to(model.dtype)


def _add_tokens(model: Any, tokenizer: Any) -> None:
    """Add `<image>` and a pad token, and rows for them.

    A new row is the mean of the old ones, so its logit is the mean of theirs and it never wins.
    """
    import torch

    tokenizer.add_special_tokens({"extra_special_tokens": [IMAGE_MARKER]}, replace_extra_special_tokens=False)
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": "<pad>"})
    rows = model.get_input_embeddings().weight.shape[0]
    wanted = -(-max(rows, len(tokenizer)) // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
    if wanted == rows:
        return
    with torch.random.fork_rng(devices=[]):  # the rows it draws are overwritten below
        model.resize_token_embeddings(wanted, mean_resizing=False)
    with torch.no_grad():
        for table in (model.get_input_embeddings(), model.get_output_embeddings()):
            table.weight[rows:] = table.weight[:rows].float().mean(dim=0).to(table.weight.dtype)

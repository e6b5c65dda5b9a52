"""The language model a LLaVA is assembled from: a folder, a hub name, a GGUF file, `tiny`, or that of another LLaVA."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError, first_line
from llavamed_cli.model.chat_templates import accept_typed_content, template_for
from llavamed_cli.model.hub import locate
from llavamed_cli.model.precision import Choice
from llavamed_cli.model.published.detect import Layout, detect
from llavamed_cli.model.published.read import read_published
from llavamed_cli.model.published.tokenizer import load_tokenizer
from llavamed_cli.model.published.vocabulary import add_tokens, padded
from llavamed_cli.model.tiny import TINY, byte_tokenizer, phantom_words, tiny_language_model

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LLAVAS = frozenset({Layout.HUGGING_FACE, Layout.V15, Layout.V1})
PART = "language_model."


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
        tokenizer.chat_template = template_for("chatml", tokenizer)
    else:
        model, tokenizer = _load(where, dtype)
    add_tokens(tokenizer)
    _grow_vocabulary(model, len(tokenizer))
    if template is not None:
        return LanguageModel(model, tokenizer, template_for(template, tokenizer), Choice(template, "asked for"))
    if tokenizer.chat_template:
        own = accept_typed_content(tokenizer.chat_template)
        return LanguageModel(model, tokenizer, own, Choice("own", "the tokenizer brings one"))
    chosen = Choice("vicuna_v1", "the tokenizer brings none")
    return LanguageModel(model, tokenizer, template_for("vicuna_v1", tokenizer), chosen)


def _load(where: str, dtype: torch.dtype) -> tuple[Any, Any]:
    path = Path(where).expanduser()
    if path.suffix.lower() == ".gguf":
        return _from_gguf(path, dtype)
    folder = locate(where)
    if not folder.is_dir():
        raise ModelError("expected a model folder, a .gguf file, or a hub name like owner/name", where=where)
    if _is_llava(folder):
        return _out_of_llava(folder, dtype)
    tokenizer = load_tokenizer(folder)
    return _weights(where, str(folder), dtype), tokenizer


def _is_llava(folder: Path) -> bool:
    try:
        return detect(folder) in LLAVAS
    except ModelError:  # a kind that only transformers knows, or none: it says which
        return False


def _out_of_llava(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """The language half of a LLaVA of any layout, with its tokenizer and chat template."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    reading = read_published(folder)
    config: Any = reading.config.text_config
    tensors = {name.removeprefix(PART): read for name, read in reading.tensors.items() if name.startswith(PART)}
    processor: Any = reading.processor
    processor.tokenizer.chat_template = processor.chat_template
    try:
        model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
            None, config=config, state_dict=tensors, dtype=dtype
        )
    except Exception as error:
        raise ModelError(f"no language model could be loaded: {first_line(error)}", where=str(folder)) from error
    return model, processor.tokenizer


def _from_gguf(path: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import AutoTokenizer

    if not path.is_file():
        raise ModelError("no such GGUF file", where=str(path))
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    except Exception as error:  # a stranger's files: parsers raise whatever they stumble over
        raise ModelError(f"no tokenizer could be loaded: {first_line(error)}", where=str(path)) from error
    return _without_gguf_traces(_weights(str(path), str(path.parent), dtype, gguf_file=path.name)), tokenizer


def _weights(where: str, source: str, dtype: torch.dtype, **extra: str) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        model, report = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, output_loading_info=True, **extra)
    except Exception as error:
        raise ModelError(f"no language model could be loaded: {first_line(error)}", where=where) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(f"{len(missing)} tensor(s) are missing: {', '.join(missing[:5])}", where=where)
    return model


def _without_gguf_traces(model: Any) -> Any:
    """The same weights in a fresh model: one read from GGUF refuses to be saved (transformers 5.23)."""
    config = model.config
    del config.quantization_config
    fresh = type(model)(config)
    fresh.load_state_dict(model.state_dict())
    fresh.generation_config = model.generation_config
    return fresh.to(model.dtype)


def _grow_vocabulary(model: Any, tokens: int) -> None:
    """Rows for new tokens, to a multiple of 64; each the mean of the old ones, so that its logit is theirs' mean."""
    import torch

    rows = model.get_input_embeddings().weight.shape[0]
    wanted = padded(max(rows, tokens))
    if wanted == rows:
        return
    with torch.random.fork_rng(devices=[]):  # the rows it draws are overwritten below
        model.resize_token_embeddings(wanted, mean_resizing=False)
    with torch.no_grad():
        for table in (model.get_input_embeddings(), model.get_output_embeddings()):
            table.weight[rows:] = table.weight[:rows].float().mean(dim=0).to(table.weight.dtype)

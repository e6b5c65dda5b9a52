"""The parts of a checkpoint of the original code, read and renamed, put together as Hugging Face's LLaVA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError
from llavamed_cli.model.chat_templates import ENDS, STARTS, template_for
from llavamed_cli.model.precision import Choice
from llavamed_cli.model.published.choose_tower import ChosenTower
from llavamed_cli.model.published.lazy_tensor import LazyTensor
from llavamed_cli.model.published.llava_config import (
    greedy_generation,
    ignored_keys,
    llava_config,
    select_strategy,
    text_config,
    whole_number,
)
from llavamed_cli.model.published.names import TOWER
from llavamed_cli.model.published.processor import aspect_of, build_processor
from llavamed_cli.model.published.reading import LoadReport, Reading
from llavamed_cli.model.published.vocabulary import EMBEDDINGS, HEAD, NEW_ROWS, add_tokens, grow_vocabulary
from llavamed_cli.records import IMAGE_MARKER

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNREAD_KEYS = "keys of config.json that nothing reads"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a reader of an original layout found.

    raw: its config.json. tensors: language model and projector, by classic name, the vocabulary as it was stored.
    template: the built-in chat template to write conversations by, and why. ignored: stored names by reason.
    """

    layout: str
    folder: Path
    raw: Mapping[str, Any] = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    tensors: Mapping[str, LazyTensor] = field(repr=False)
    tower: ChosenTower
    template: Choice
    ignored: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    added: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def join(parts: Parts) -> Reading:
    """Give the tokenizer its two tokens, the vocabulary its rows, and the config its sub-configs.

    Raises:
        ModelError: the tables of words are not there, or the config makes no sense.
    """
    raw, tower = parts.raw, parts.tower.tower
    _check(parts)
    tokenizer: Any = parts.tokenizer
    add_tokens(tokenizer)
    tokenizer.model_max_length = whole_number(raw, "tokenizer_model_max_length", tokenizer.model_max_length)
    tokenizer.padding_side = "left"  # as llava-hf's: many prompts answered at once must end at one place
    tensors = grow_vocabulary(parts.tensors, tokenizer)
    old_rows, rows = parts.tensors[EMBEDDINGS].shape[0], tensors[EMBEDDINGS].shape[0]
    strategy = select_strategy(raw.get("mm_vision_select_feature") or "patch", class_token=tower.class_token)
    config = llava_config(
        text_config(raw, rows=rows),
        tower.config,
        image_token=tokenizer.convert_tokens_to_ids(IMAGE_MARKER),
        pad_token=tokenizer.pad_token_id,
        feature_layer=whole_number(raw, "mm_vision_select_layer", tower.feature_layer),
        strategy=strategy,
        image_size=tower.size,
    )
    template = template_for(parts.template.value, tokenizer, wrapped=bool(raw.get("mm_use_im_start_end")))
    aspect = aspect_of(raw.get("image_aspect_ratio"))
    return Reading(
        config=config,
        processor=build_processor(tokenizer, template, tower, aspect=aspect, strategy=strategy),
        generation_config=greedy_generation(tokenizer, template),
        tensors={**tensors, **{TOWER + name: tensor for name, tensor in tower.tensors.items()}},
        report=_report(parts, rows - old_rows),
    )


def _report(parts: Parts, new_rows: int) -> LoadReport:
    ignored = {
        **parts.ignored,
        **parts.tower.tower.ignored,
        **parts.tower.ignored,
        UNREAD_KEYS: ignored_keys(parts.raw),
    }
    rows = {f"{new_rows} rows of {name}": NEW_ROWS for name in (EMBEDDINGS, HEAD) if new_rows and name in parts.tensors}
    tower = {TOWER + name: how for name, how in parts.tower.tower.added.items()}
    return LoadReport(
        layout=parts.layout,
        choices={"vision tower": parts.tower.choice, "chat template": parts.template},
        used=len(parts.tensors) + len(parts.tower.tower.tensors),
        added={**rows, **tower, **parts.added},
        ignored={reason: names for reason, names in ignored.items() if names},
        notes=(*parts.tower.notes, *parts.notes),
    )


def _check(parts: Parts) -> None:
    table = parts.tensors.get(EMBEDDINGS)
    if table is None or len(table.shape) != 2:
        raise ModelError("the weights hold no table of word embeddings", where=str(parts.folder))
    if parts.raw.get("mm_use_im_start_end"):
        words: Any = parts.tokenizer
        lacking = [token for token in (STARTS, ENDS) if token not in words.get_vocab()]
        if lacking:
            raise ModelError(
                f"config.json puts pictures between {STARTS} and {ENDS}, but the tokenizer lacks {', '.join(lacking)}",
                where=str(parts.folder),
            )

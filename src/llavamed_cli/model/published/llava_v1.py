"""LLaVA 1 and LLaVA-Med 1.0 as their authors publish them: a linear projector, whole or as a delta to LLaMA.

A picture stands between `<im_start>` and `<im_end>` as a run of `<im_patch>`, whose own embedding is never read; here
the run is one of `<image>`. Added tokens keep their ids, `<image>` comes after them. The vision tower is seldom inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError
from llavamed_cli.model.precision import Choice
from llavamed_cli.model.published.choose_tower import ChosenTower, choose_tower
from llavamed_cli.model.published.delta import apply_delta, check_base, is_delta
from llavamed_cli.model.published.inside_tower import tower_names
from llavamed_cli.model.published.join import Parts, join
from llavamed_cli.model.published.lazy_tensor import LazyTensor
from llavamed_cli.model.published.names import classic_name_of_original, renamed, split_ignored
from llavamed_cli.model.published.projector_layers import Projector, projector_of
from llavamed_cli.model.published.reading import CHECKPOINT, Reading
from llavamed_cli.model.published.tensor_files import TensorFiles

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROJECTOR = "model.mm_projector."
TEMPLATE = Choice("simple", "version 1.0's own for answering")
UNSAID = {"mm_vision_select_layer": -1, "mm_vision_tower": "openai/clip-vit-large-patch14"}
"""What version 1.0 takes where config.json does not say (llava/model/llava.py, llava/eval/model_vqa_med.py)."""


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """A LLaVA of the original code in pieces: what a delta and its base give, or a projector and a language model.

    raw: the flat config, of the text and of what joins it to the tower. tensors: of the language model, and of a tower
    where one is inside, by the original code's names.
    """

    layout: str
    folder: Path
    raw: Mapping[str, Any] = field(repr=False)
    tensors: Mapping[str, LazyTensor] = field(repr=False)
    projector: Projector
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    template: Choice
    ignored: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_llava_v1(
    folder: Path,
    files: Mapping[str, LazyTensor],
    raw: Mapping[str, Any],
    *,
    base: Path | None = None,
    vision_tower: str = CHECKPOINT,
    template: str | None = None,
) -> Reading:
    """Read a checkpoint of this layout.

    Args:
        files: its tensors by stored name. raw: its config.json.
        base: for a delta, the folder of the LLaMA that it is a delta to.
        vision_tower: as `choose_tower` takes it; "checkpoint" and "stock" are the one that the config names.
        template: a built-in chat template's name, instead of the family's.

    Raises:
        ModelError: a part is missing or cannot be read; a delta without its base, with another, or a base without need.
    """
    from llavamed_cli.model.published.tokenizer import load_tokenizer

    kept, ignored = split_ignored(files)
    whole, notes = _whole(files, base, folder)
    layers = {name[len(PROJECTOR) :]: whole[name] for name in kept if name.startswith(PROJECTOR)}
    pieces = Pieces(
        layout="LLaVA 1's layout" + (", a delta added to its base" if notes else ""),
        folder=folder,
        raw=raw,
        tensors={name: whole[name] for name in kept if not name.startswith(PROJECTOR)},
        projector=projector_of(layers),
        tokenizer=load_tokenizer(folder),
        template=Choice(template, "asked for") if template else TEMPLATE,
        ignored=ignored,
        notes=notes,
    )
    return join_pieces(pieces, vision_tower)


def join_pieces(pieces: Pieces, vision_tower: str) -> Reading:
    """Find the tower, check that all fits, and put the pieces together.

    Raises:
        ModelError: as `read_llava_v1`.
    """
    raw = {**UNSAID, **pieces.raw}
    chosen = choose_tower(vision_tower, raw, pieces.tensors, pieces.folder)
    _check_widths(pieces, chosen)
    kind, inside = chosen.tower.config.model_type, frozenset(tower_names(pieces.tensors))
    names = {name: classic_name_of_original(name, kind) for name in pieces.tensors if name not in inside}
    note = pieces.projector.note
    return join(
        Parts(
            layout=pieces.layout,
            folder=pieces.folder,
            raw=raw,
            tokenizer=pieces.tokenizer,
            tensors={**renamed(pieces.tensors, names), **pieces.projector.tensors},
            tower=chosen,
            template=pieces.template,
            ignored=pieces.ignored,
            notes=(*pieces.notes, *([note] if note else [])),
        )
    )


def _whole(
    files: Mapping[str, LazyTensor], base: Path | None, folder: Path
) -> tuple[Mapping[str, LazyTensor], tuple[str, ...]]:
    """The model's own tensors, and what is to be said of where they came from."""
    if not is_delta(files):
        if base is not None:
            hint = "Leave --base out."
            raise ModelError("these weights are whole, not a delta to others", where=str(folder), hint=hint)
        return files, ()
    if base is None:
        raise ModelError(
            "these weights are a delta: the differences between the model and the LLaMA that it was trained from",
            where=str(folder),
            hint="Name that LLaMA's folder with --base (for LLaVA-Med 1.0: LLaMA 1, 7B, in Hugging Face's layout).",
        )
    under = TensorFiles.open(base)
    try:
        note = check_base(under, files)
        return apply_delta(under, files), (note,)
    except ModelError as error:
        raise ModelError(error.what, where=str(base), hint=error.hint) from None


def _check_widths(pieces: Pieces, chosen: ChosenTower) -> None:
    tower: Any = chosen.tower.config
    if tower.hidden_size != pieces.projector.vision_width:
        raise ModelError(
            f"the projector takes features of the width {pieces.projector.vision_width}, but the vision tower "
            f"({chosen.choice.value}) gives {tower.hidden_size}",
            where=str(pieces.folder),
            hint="Name the tower it was trained with: --vision-tower FOLDER.",
        )
    if pieces.raw.get("hidden_size") != pieces.projector.text_width:
        raise ModelError(
            f"the projector gives features of the width {pieces.projector.text_width}, but the language model's is "
            f"{pieces.raw.get('hidden_size')}",
            where=str(pieces.folder),
        )

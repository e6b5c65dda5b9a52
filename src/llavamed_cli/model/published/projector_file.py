"""A projector saved on its own, `mm_projector.bin`, as LLaVA's first training stage leaves it.

Its names carry whatever wrapped the model (`model.mm_projector.weight`, `base_model.model.model.mm_projector.0.bias`),
so only what follows `mm_projector.` is read; a file with the bare names is read too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError
from llavamed_cli.model.chat_templates import ENDS, STARTS
from llavamed_cli.model.precision import Choice
from llavamed_cli.model.published.delta import is_delta
from llavamed_cli.model.published.lazy_tensor import LazyTensor
from llavamed_cli.model.published.llava_config import JOINING_KEYS, text_config
from llavamed_cli.model.published.llava_v1 import PROJECTOR, TEMPLATE, Pieces, join_pieces
from llavamed_cli.model.published.llava_v15 import FAMILY_TEMPLATES
from llavamed_cli.model.published.names import split_ignored
from llavamed_cli.model.published.projector_layers import Projector, projector_of
from llavamed_cli.model.published.reading import CHECKPOINT, Reading
from llavamed_cli.model.published.tensor_files import TensorFiles
from llavamed_cli.model.published.tower_settings import read_settings
from llavamed_cli.model.published.towers import CONFIG
from llavamed_cli.model.published.vocabulary import add_rows

if TYPE_CHECKING:
    import torch

SAVED_AS = "mm_projector.bin"
STEPS = "mm_projector"
"""Folder of v1.0's intermediate files, `checkpoint-N.bin`."""
TABLE = "model.embed_tokens.weight"
EMBEDDINGS = ("embed_tokens.weight", "embed_in.weight")
BOUNDARY_TOKENS = (STARTS, ENDS)
"""Put around a picture; their rows of the word embeddings learn in the first stage too."""
TOKENIZERS = ("tokenizer.model", "tokenizer.json")


@dataclass(frozen=True)
class ProjectorFile:
    """A projector, and what lay beside it.

    boundary_rows: [2, text width], the word embeddings of `<im_start>` and `<im_end>`.
    table_rows: rows of the table they come from (2, or the whole vocabulary). ignored: stored names that are left out.
    """

    projector: Projector
    boundary_rows: LazyTensor | None = None
    table_rows: int | None = None
    ignored: tuple[str, ...] = ()


def find_projector(folder: Path) -> Path | None:
    """The projector file of a folder that holds nothing more: the final one, or else the latest step's."""
    if (folder / SAVED_AS).is_file():
        return folder / SAVED_AS
    steps = [(found, re.fullmatch(r"checkpoint-(\d+)\.bin", found.name)) for found in (folder / STEPS).glob("*.bin")]
    numbered = [(int(match[1]), found) for found, match in steps if match]
    return max(numbered)[1] if numbered else None


def read_projector(path: Path) -> ProjectorFile:
    """The projector in one file.

    Raises:
        ModelError: no projector in it, one of an unknown kind, or embeddings that are no table of words.
    """
    files = TensorFiles.open(path)
    layers: dict[str, LazyTensor] = {}
    table, ignored = None, []
    for name, tensor in files.items():
        bare = name.rpartition("mm_projector.")[2]
        if "vision_tower" in name:
            ignored.append(name)
        elif name.endswith(EMBEDDINGS):
            table = tensor
        elif bare != name or re.fullmatch(r"(\d+\.)?(weight|bias)", name):
            layers[bare] = tensor
        else:
            raise ModelError(f"the tensor {name} belongs to no projector", where=str(path))
    try:
        projector = projector_of(layers)
    except ModelError as error:
        raise ModelError(error.what, where=str(path)) from None
    if table is None:
        return ProjectorFile(projector, ignored=tuple(ignored))
    return ProjectorFile(projector, _last_rows(table, projector.text_width, path), table.shape[0], tuple(ignored))


def read_projector_file(
    where: Path, *, base: Path, vision_tower: str = CHECKPOINT, template: str | None = None
) -> Reading:
    """A LLaVA of a projector and the language model that it was trained for.

    Args:
        where: the file, or its folder. The config.json beside it says which tower, which of its layers, and whether
            pictures stand between `<im_start>` and `<im_end>`.
        base: the language model's folder (weights, config.json, tokenizer); a LLaVA of the original code serves too.

    Raises:
        ModelError: no projector or no language model there, or they do not fit each other.
    """
    from llavamed_cli.model.published.tokenizer import load_tokenizer

    path = where if where.is_file() else find_projector(where)
    if path is None:
        raise ModelError(f"there is no {SAVED_AS}", where=str(where))
    found = read_projector(path)
    home = _home(path)
    raw = _settings(read_settings(home / CONFIG), read_settings(base / CONFIG))
    words = home if any((home / name).is_file() for name in TOKENIZERS) else base
    tokenizer = load_tokenizer(words)
    language, ignored = _language_model(base)
    if raw.get("mm_use_im_start_end"):
        language = {**language, TABLE: _with_boundaries(language[TABLE], found, tokenizer, path)}
    elif found.boundary_rows is not None:
        ignored["word embeddings beside the projector, which config.json says were not trained"] = (TABLE,)
    pieces = Pieces(
        layout=f"a {found.projector.kind} projector on a {raw.get('model_type')} language model",
        folder=home,
        raw=raw,
        tensors=language,
        projector=found.projector,
        tokenizer=tokenizer,
        template=Choice(template, "asked for") if template else _template(found.projector, raw),
        ignored={**ignored, "a vision tower beside the projector": found.ignored},
    )
    return join_pieces(pieces, vision_tower)


def _template(projector: Projector, raw: Mapping[str, Any]) -> Choice:
    """The family's: version 1.0 had linear projectors, 1.5 two-layer ones."""
    if projector.kind == "linear":
        return TEMPLATE
    family = text_config(raw).model_type
    return Choice(FAMILY_TEMPLATES[family], f"a {family} of version 1.5")


def _home(path: Path) -> Path:
    """The folder whose config.json belongs to a projector file; v1.0 puts its steps one folder lower."""
    for folder in (path.parent, path.parent.parent):
        if (folder / CONFIG).is_file():
            return folder
    raise ModelError(
        f"there is no {CONFIG} beside the projector",
        where=str(path),
        hint="It says which vision tower the projector was trained on; copy it from where the file came from.",
    )


def _settings(projector: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """One flat config: what concerns the text from the base, what joins it to pictures from the projector's folder."""
    text = {key: value for key, value in base.items() if key not in JOINING_KEYS}
    return text | {key: value for key, value in projector.items() if key in JOINING_KEYS}


def _language_model(base: Path) -> tuple[dict[str, LazyTensor], dict[str, tuple[str, ...]]]:
    """The base's tensors by the original code's names, and what of a LLaVA is left out."""
    files = TensorFiles.open(base)
    if TABLE not in files:
        raise ModelError("expected a language model as base, found none", where=str(base), hint="Name its folder.")
    if is_delta(files):
        raise ModelError("the base is a delta itself, not a language model", where=str(base))
    left = tuple(name for name in files if name.startswith((PROJECTOR, "model.vision_tower.")))
    kept, ignored = split_ignored(name for name in files if name not in left)
    if left:
        ignored["the base's own projector and tower"] = left
    return {name: files[name] for name in kept}, ignored


def _with_boundaries(table: LazyTensor, found: ProjectorFile, tokenizer: Any, path: Path) -> LazyTensor:
    """The base's word embeddings with the trained rows of `<im_start>` and `<im_end>`, whose tokens are added."""
    from tokenizers import AddedToken

    old = table.shape[0]
    around = [AddedToken(token, lstrip=True, rstrip=True, special=True) for token in BOUNDARY_TOKENS]
    tokenizer.add_tokens(around, special_tokens=True)
    places = tokenizer.convert_tokens_to_ids(list(BOUNDARY_TOKENS))
    trained = found.boundary_rows
    if trained is None:
        if max(places) < old:
            return table
        raise ModelError(
            f"config.json puts pictures between {' and '.join(BOUNDARY_TOKENS)}, but neither this file nor the base "
            "has their word embeddings",
            where=str(path),
        )
    rows = max(old, max(places) + 1)
    if found.table_rows not in (len(BOUNDARY_TOKENS), rows):
        raise ModelError(
            f"its word embeddings have {found.table_rows} rows; expected {len(BOUNDARY_TOKENS)}, or the {rows} of the "
            "base's vocabulary with these tokens",
            where=str(path),
        )

    def put(grown: torch.Tensor) -> torch.Tensor:
        changed = grown.clone()
        changed[places] = trained.read().to(changed.dtype)
        return changed

    return add_rows(table, rows).map(put)


def _last_rows(table: LazyTensor, width: int, path: Path) -> LazyTensor:
    """The rows of the boundary tokens, which are the last: LLaVA adds them after every other token."""
    count = len(BOUNDARY_TOKENS)
    if len(table.shape) != 2 or table.shape[0] < count or table.shape[1] != width:
        raise ModelError(
            f"its word embeddings are of the shape {list(table.shape)}, expected rows of {width}", where=str(path)
        )
    return table.map(lambda rows: rows[-count:].clone(), shape=(count, width))

"""What kind of checkpoint a folder holds, told by its config's keys and its tensors' names, never by its own name.

`model_type: "llava"` means two things: Hugging Face's LLaVA (text_config, vision_config) and the original code's first
version (flat, with mm_ keys). What cannot be read is refused here, in one sentence that says what would be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from llavamed_cli.errors import ModelError
from llavamed_cli.model.published.delta import is_delta
from llavamed_cli.model.published.open_clip import OPEN_CLIP_CONFIG
from llavamed_cli.model.published.projector_file import find_projector
from llavamed_cli.model.published.tensor_files import TensorFiles, has_weights
from llavamed_cli.model.published.tower_settings import read_settings
from llavamed_cli.model.published.towers import CONFIG, FAMILIES, TWO_SIDED

ADAPTER_CONFIG = "adapter_config.json"
PROJECTOR_TYPES = ("linear", "mlp2x_gelu")
"""Of the original's grammar (linear | mlp{N}x_gelu | identity), what Hugging Face's projector can hold."""
ORIGINAL_PREFIXES = ("model.mm_projector.", "model.vision_tower.")
HUGGING_FACE_MARK = "multi_modal_projector."
LANGUAGE_MARK = "embed_tokens."


class Layout(Enum):
    """Kinds of checkpoints. The value is what a person is told."""

    HUGGING_FACE = "LLaVA in Hugging Face's layout"
    V15 = "LLaVA 1.5 / LLaVA-Med 1.5 (two-layer projector)"
    V1 = "LLaVA 1 / LLaVA-Med 1.0 (linear projector)"
    DELTA = "LLaVA 1 / LLaVA-Med 1.0 as a delta to LLaMA"
    PROJECTOR = "a projector alone"
    OPEN_CLIP = "a vision tower in open_clip's naming"
    TOWER = "a vision tower in Hugging Face's layout"
    LANGUAGE_MODEL = "a language model without a vision tower"
    ADAPTER = "a LoRA adapter"
    GGUF = "a GGUF file"


def detect(where: Path) -> Layout:
    """What lies at `where`, a folder or a file.

    Raises:
        ModelError: no model is there, a download is not whole, or the kind is none that is read.
    """
    if where.is_file():
        return _kind_of_file(where)
    if not where.is_dir():
        raise ModelError("no such model folder", where=str(where))
    if (where / ADAPTER_CONFIG).is_file():
        return Layout.ADAPTER
    if find_projector(where) is not None and not has_weights(where):
        return Layout.PROJECTOR
    if not (where / CONFIG).is_file():
        return _kind_without_config(where)
    return layout_of(read_settings(where / CONFIG), TensorFiles.open(where), where)


def layout_of(config: Mapping[str, Any], tensors: Mapping[str, Any], where: Path) -> Layout:
    """The layout of weights that come with a config.json.

    Args:
        tensors: LazyTensors by stored name; one small one is read, to tell a delta.
    """
    kind = str(config.get("model_type"))
    two_parts = "text_config" in config and "vision_config" in config
    if kind in FAMILIES or kind in TWO_SIDED:
        return Layout.TOWER
    if _any_starts(tensors, ("visual.",)):
        return Layout.OPEN_CLIP
    if two_parts or any(HUGGING_FACE_MARK in name for name in tensors):
        if kind != "llava":
            raise ModelError(f"a {kind} model is of another architecture than LLaVA, and is not read", where=str(where))
        return Layout.HUGGING_FACE
    if any(key.startswith("mm_") for key in config) or _any_starts(tensors, ORIGINAL_PREFIXES):
        return _original_layout(config, tensors, where)
    if any(LANGUAGE_MARK in name for name in tensors):
        return Layout.LANGUAGE_MODEL
    raise ModelError(f"a {kind} model is none that is read", where=str(where))


def projector_type(config: Mapping[str, Any], where: Path) -> str:
    """`linear` or `mlp2x_gelu`. An original config that does not say means a linear one (LLaVA 1 had no other).

    Raises:
        ModelError: another kind of projector.
    """
    found = config.get("mm_projector_type", "linear")
    if found not in PROJECTOR_TYPES:
        raise ModelError(
            f"config.json's mm_projector_type is {found!r}; {' and '.join(PROJECTOR_TYPES)} are read", where=str(where)
        )
    return str(found)


def _original_layout(config: Mapping[str, Any], tensors: Mapping[str, Any], where: Path) -> Layout:
    """The original code's layouts, by projector and by whether the weights are whole or differences."""
    _refuse_many_tiles(config, where)
    kind = projector_type(config, where)
    if not _any_starts(tensors, ORIGINAL_PREFIXES[:1]):
        raise ModelError(
            f"config.json tells of a {kind} projector, but the weights hold none (model.mm_projector...)",
            where=str(where),
        )
    if is_delta(tensors):
        if kind != "linear":
            raise ModelError(
                "these are differences to another model, with a projector of version 1.5", where=str(where)
            )
        return Layout.DELTA
    return Layout.V1 if kind == "linear" else Layout.V15


def _refuse_many_tiles(config: Mapping[str, Any], where: Path) -> None:
    """LLaVA 1.6 cuts a picture into tiles and learns a token for line ends; LLaVA's model class has neither."""
    for key, mark in (("image_aspect_ratio", "anyres"), ("mm_patch_merge_type", "spatial")):
        if str(config.get(key)).startswith(mark):
            raise ModelError(
                f"config.json's {key} is {config[key]!r}: LLaVA 1.6 and other models that cut pictures into tiles are "
                "of another architecture, and are not read",
                where=str(where),
            )


def _kind_of_file(file: Path) -> Layout:
    if file.suffix.lower() == ".gguf":
        return Layout.GGUF
    if file.suffix not in (".bin", ".safetensors"):
        raise ModelError("expected a model folder, found a file", where=str(file))
    names = TensorFiles.open(file)
    if any("mm_projector" in name for name in names) and not any(".layers." in name for name in names):
        return Layout.PROJECTOR
    raise ModelError("expected the model's folder, found one of its files", where=str(file))


def _kind_without_config(folder: Path) -> Layout:
    if next(folder.glob("*.gguf"), None) is not None:
        return Layout.GGUF
    if (folder / OPEN_CLIP_CONFIG).is_file():
        return Layout.OPEN_CLIP
    if has_weights(folder):
        raise ModelError(
            "the folder has weights but no config.json", where=str(folder), hint="Fetch the whole folder again."
        )
    raise ModelError("expected a model folder, found one without config.json and without weights", where=str(folder))


def _any_starts(names: Iterable[str], prefixes: tuple[str, ...]) -> bool:
    return any(name.startswith(prefixes) for name in names)

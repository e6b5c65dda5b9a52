"""Vision towers as others published them: CLIP, SigLIP, ViT and DINOv2 folders of Hugging Face, and open_clip's.

What a folder holds is told by its config and its tensors' names. Every tensor of the vision half must be there, and
nothing else: a tower that is loaded wrongly in silence is the worst fault a model that looks can have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError
from llavamed_cli.model.published.lazy_tensor import LazyTensor
from llavamed_cli.model.published.open_clip import OPEN_CLIP_CONFIG, named_by_open_clip, vision_half
from llavamed_cli.model.published.tensor_files import TensorFiles
from llavamed_cli.model.published.tower_settings import (
    CLIP_MEAN,
    CLIP_STD,
    Statistics,
    final_size,
    image_settings,
    read_settings,
    side,
    statistics,
)
from llavamed_cli.model.published.tower_tensors import account

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True, kw_only=True)
class TowerReading:
    """A vision tower whose tensors are still on disk.

    config: a CLIPVisionConfig, SiglipVisionConfig, ViTConfig or Dinov2Config.
    tensors: by the names that follow `vision_tower.` in llava-hf's own folders.
    size, patch: pixels a side, of a picture and of a patch. mean, std: what its pixels are normalised by.
    class_token: it puts one before its patches. any_size: it takes pictures of another size than its position table's.
    feature_layer: which hidden state LLaVA reads: the second to last, which no final norm has touched (LLaVA, section
        4.1; `mm_vision_select_layer` of LLaVA-Med).
    kind: what it is, for people. ignored: stored tensors left out, by reason. added: what no file held, and its origin.
    """

    config: PreTrainedConfig = field(repr=False)
    tensors: Mapping[str, LazyTensor] = field(repr=False)
    size: int
    patch: int
    mean: Statistics
    std: Statistics
    class_token: bool
    kind: str
    any_size: bool = False
    feature_layer: int = -2
    ignored: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    added: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class TowerFamily:
    """What must be known of a kind of tower that its config does not say.

    mean, std: the pixel statistics it was trained with, used where the folder has no image settings.
    any_size: it interpolates its position table by itself, and is given this many pixels where the folder names none.
    """

    kind: str
    mean: Statistics
    std: Statistics
    class_token: bool
    any_size: int | None = None


FAMILIES = {
    "clip_vision_model": TowerFamily("CLIP", CLIP_MEAN, CLIP_STD, class_token=True),
    "siglip_vision_model": TowerFamily("SigLIP", HALF, HALF, class_token=False),
    "dinov2": TowerFamily("DINOv2", IMAGENET_MEAN, IMAGENET_STD, class_token=True, any_size=224),
    "vit": TowerFamily("ViT", HALF, HALF, class_token=True),
}
TWO_SIDED = ("clip", "siglip")
"""Models of a vision and a text half, of which the first is taken."""
CONFIG = "config.json"


def read_tower(folder: Path) -> TowerReading:
    """The vision tower in `folder`, read as far as its tensors' shapes.

    Raises:
        ModelError: no tower that LLaVA can use lies there, or a tensor is missing, left over or of another shape.
    """
    if not folder.is_dir():
        raise ModelError("expected the folder of a vision tower", where=str(folder))
    if (folder / OPEN_CLIP_CONFIG).is_file():
        stored = TensorFiles.open(folder)
        if named_by_open_clip(stored):
            return _open_clip(folder, stored)
    if not (folder / CONFIG).is_file():
        raise ModelError(
            f"the folder has no {CONFIG} (of Hugging Face) and no {OPEN_CLIP_CONFIG} with its weights",
            where=str(folder),
            hint="Weights alone do not say what model they are: copy the config that was published with them.",
        )
    return _hugging_face(folder)


def _hugging_face(folder: Path) -> TowerReading:
    family, config = vision_config(read_settings(folder / CONFIG), folder)
    stored = TensorFiles.open(folder)
    if named_by_open_clip(stored):
        raise ModelError(f"the weights are open_clip's, and {OPEN_CLIP_CONFIG} is missing", where=str(folder))
    accounted = account(config, stored, folder)
    pixels = image_settings(folder)
    own_size = side(config.image_size, "image_size", folder / CONFIG)
    return TowerReading(
        config=config,
        tensors=accounted.tensors,
        size=(final_size(pixels) or family.any_size or own_size) if family.any_size else own_size,
        patch=side(config.patch_size, "patch_size", folder / CONFIG),
        mean=statistics(pixels, "image_mean", family.mean, folder),
        std=statistics(pixels, "image_std", family.std, folder),
        class_token=family.class_token,
        any_size=family.any_size is not None,
        kind=family.kind,
        ignored=accounted.ignored,
        added=accounted.added,
    )


def _open_clip(folder: Path, stored: TensorFiles) -> TowerReading:
    found = vision_half(folder, stored)
    accounted = account(found.config, found.tensors, folder)
    return TowerReading(
        config=found.config,
        tensors=accounted.tensors,
        size=found.config.image_size,
        patch=found.config.patch_size,
        mean=found.mean,
        std=found.std,
        class_token=True,
        kind=found.kind,
        ignored={**found.ignored, **accounted.ignored},
        added=accounted.added,
    )


def vision_config(raw: Mapping[str, Any], folder: Path) -> tuple[TowerFamily, PreTrainedConfig]:
    """The vision half that a config.json describes.

    Raises:
        ModelError: it describes something else, or values that make no sense.
    """
    from transformers import CONFIG_MAPPING
    from transformers.activations import ACT2FN

    named = str(raw.get("model_type"))
    kind = f"{named}_vision_model" if named in TWO_SIDED else named
    if kind not in FAMILIES:
        known = ", ".join(family.kind for family in FAMILIES.values())
        what = f"a {named} model" if raw.get("model_type") else "a model whose config names no model_type"
        raise ModelError(
            f"{what} is no vision tower that LLaVA can use",
            where=str(folder),
            hint=f"Known: {known} of Hugging Face, and ViTs of open_clip.",
        )
    try:
        config: Any = CONFIG_MAPPING[named].from_dict(dict(raw))
        config = config.vision_config if named in TWO_SIDED else config
    except Exception as error:  # transformers validates a stranger's values, and raises as it pleases
        reason = " ".join(str(error).split())
        raise ModelError(f"the config makes no sense: {reason}", where=str(folder / CONFIG)) from error
    if config.hidden_act not in ACT2FN:
        raise ModelError(f"the activation {config.hidden_act!r} is not known", where=str(folder / CONFIG))
    if config.num_channels != 3:
        raise ModelError(f"it takes pictures of {config.num_channels} channels, not of 3", where=str(folder / CONFIG))
    for name in ("image_size", "patch_size"):
        side(getattr(config, name), name, folder / CONFIG)
    return FAMILIES[kind], config

"""The vision tower a LLaVA is assembled from: a CLIP, SigLIP, DINOv2 or ViT folder or hub name, or `tiny`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError, first_line
from llavamed_cli.model.tiny import IMAGE_SIZE, TINY, tiny_vision_tower

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF_MEAN, HALF_STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class TowerFamily:
    """What must be known of a kind of tower that its config does not say.

    mean, std: the pixel statistics it was trained with, used where the folder has no preprocessor_config.json.
    class_token: it puts one before its patches, which LLaVA drops.
    any_size: it interpolates its position table by itself.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    class_token: bool
    any_size: bool = False


FAMILIES = {
    "clip_vision_model": TowerFamily(CLIP_MEAN, CLIP_STD, class_token=True),
    "siglip_vision_model": TowerFamily(HALF_MEAN, HALF_STD, class_token=False),
    "dinov2": TowerFamily(IMAGENET_MEAN, IMAGENET_STD, class_token=True, any_size=True),
    "vit": TowerFamily(HALF_MEAN, HALF_STD, class_token=True),
}
UNREAD = "pooler."
"""A ViT's pooler: LLaVA reads patches, never it, and many ViT folders come without."""
PARENTS = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}
"""Two-sided models whose vision half is taken."""


@dataclass(frozen=True)
class VisionTower:
    """A frozen encoder of pictures [batch, 3, size, size] into (size / patch_size)^2 tokens of its own width."""

    model: PreTrainedModel = field(repr=False)
    family: TowerFamily
    image_size: int
    patch_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def load_vision_tower(where: str, *, dtype: torch.dtype, seed: int, image_size: int | None = None) -> VisionTower:
    """Load `where`; take its pictures at `image_size` pixels, or at the size its own preprocessor names.

    Raises:
        ModelError: nothing loadable is there, its kind is unknown, tensors are missing, or it cannot take `image_size`.
    """
    if where == TINY:
        model: Any = tiny_vision_tower(seed)
        return _describe(where, model, {"size": IMAGE_SIZE}, image_size)
    model = _load(where, dtype)
    return _describe(where, model, _preprocessor(where), image_size)


def _load(where: str, dtype: torch.dtype) -> Any:
    from transformers import AutoConfig, AutoModel, CLIPVisionModel, SiglipVisionModel

    if Path(where).is_dir() and not (Path(where) / "config.json").is_file():
        raise ModelError("the folder has no config.json", where=where)
    try:
        kind = AutoConfig.from_pretrained(where).model_type
        kind = PARENTS.get(kind, kind)
        if kind not in FAMILIES:
            raise ModelError(
                f"a {kind} model is no vision tower that LLaVA can use",
                where=where,
                hint="Known: " + ", ".join(FAMILIES),
            )
        loader = {"clip_vision_model": CLIPVisionModel, "siglip_vision_model": SiglipVisionModel}.get(kind, AutoModel)
        model, report = loader.from_pretrained(where, dtype=dtype, output_loading_info=True)
    except ModelError:
        raise
    except Exception as error:  # a stranger's files: parsers raise whatever they stumble over
        raise ModelError(f"no vision tower could be loaded: {first_line(error)}", where=where) from error
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(UNREAD))
    if missing:
        raise ModelError(f"{len(missing)} tensor(s) are missing: {', '.join(missing[:5])}", where=where)
    return model.eval()


def _preprocessor(where: str) -> dict[str, Any]:
    """The folder's own preprocessor_config.json; empty where it has none."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        found, _ = ImageProcessingMixin.get_image_processor_dict(where)
    except OSError:
        return {}
    return dict(found)


def _describe(where: str, model: Any, preprocessor: dict[str, Any], wanted: int | None) -> VisionTower:
    config = model.config
    family = FAMILIES[config.model_type]
    own = _size(preprocessor) or (224 if family.any_size else int(config.image_size))
    size = wanted or own
    if size != config.image_size and not family.any_size:
        raise ModelError(
            f"this tower takes {config.image_size} pixels, not {size}", where=where, hint="Leave --image-size out."
        )
    if size % config.patch_size:
        raise ModelError(f"{size} pixels are no whole number of {config.patch_size}-pixel patches", where=where)
    return VisionTower(
        model=model,
        family=family,
        image_size=size,
        patch_size=int(config.patch_size),
        mean=tuple(preprocessor.get("image_mean") or family.mean),
        std=tuple(preprocessor.get("image_std") or family.std),
    )


def _size(preprocessor: dict[str, Any]) -> int | None:
    """The side of the square a preprocessor config ends with, in pixels."""
    size = preprocessor.get("crop_size") or preprocessor.get("size")
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    return int(size) if size else None

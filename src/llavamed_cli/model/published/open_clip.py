"""The vision half of open_clip's checkpoints as Hugging Face's models: BiomedCLIP's ViT in timm's naming, and ViTs in
OpenAI's.

A convolutional network, and a ViT that computes otherwise than these two, is refused by name: LLaVA reads patches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError, first_line
from llavamed_cli.model.published.lazy_tensor import LazyTensor
from llavamed_cli.model.published.tower_settings import (
    CLIP_MEAN,
    CLIP_STD,
    Statistics,
    read_settings,
    side,
    statistics,
)
from llavamed_cli.model.published.tower_tensors import TEXT_HALF

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

OPEN_CLIP_CONFIG = "open_clip_config.json"
VISUAL, TRUNK = "visual.", "visual.trunk."

TIMM_NAME = re.compile(r"vit_(?P<width>tiny|small|base|large)_patch(?P<patch>\d+)_(?P<size>\d+)(\.\w+|_in21k)?")
TIMM_WIDTHS = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
"""Width, blocks and heads of timm's plain ViTs (timm, models/vision_transformer.py)."""
TIMM_EPS, OPENAI_EPS = 1e-6, 1e-5
"""Of the layer norms: timm's ViTs differ from torch's default."""

TIMM_KEYS = frozenset({"timm_model_name", "timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias"}) | {
    "timm_drop",
    "timm_drop_path",
    "timm_overrides",
    "image_size",
    "patch_size",
    "patch_dropout",
}
OPENAI_KEYS = frozenset({"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size"}) | {
    "patch_dropout",
    "pool_type",
    "output_tokens",
}
"""Settings of vision_cfg that are followed, or do not touch a block's output; any other may, and is refused."""

TIMM_NAMES = (
    (re.compile(r"cls_token"), "embeddings.cls_token"),
    (re.compile(r"pos_embed"), "embeddings.position_embeddings"),
    (re.compile(r"patch_embed\.proj\.(weight|bias)"), r"embeddings.patch_embeddings.projection.\1"),
    (re.compile(r"blocks\.(\d+)\.norm1\.(weight|bias)"), r"encoder.layer.\1.layernorm_before.\2"),
    (re.compile(r"blocks\.(\d+)\.norm2\.(weight|bias)"), r"encoder.layer.\1.layernorm_after.\2"),
    (re.compile(r"blocks\.(\d+)\.attn\.proj\.(weight|bias)"), r"encoder.layer.\1.attention.output.dense.\2"),
    (re.compile(r"blocks\.(\d+)\.mlp\.fc1\.(weight|bias)"), r"encoder.layer.\1.intermediate.dense.\2"),
    (re.compile(r"blocks\.(\d+)\.mlp\.fc2\.(weight|bias)"), r"encoder.layer.\1.output.dense.\2"),
    (re.compile(r"norm\.(weight|bias)"), r"layernorm.\1"),
)
TIMM_JOINED = re.compile(r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)")
TIMM_SPLIT = "encoder.layer.{0}.attention.attention.{part}.{1}", ("query", "key", "value")

OPENAI_NAMES = (
    (re.compile(r"class_embedding"), "embeddings.class_embedding"),
    (re.compile(r"positional_embedding"), "embeddings.position_embedding.weight"),
    (re.compile(r"conv1\.weight"), "embeddings.patch_embedding.weight"),
    (re.compile(r"ln_pre\.(weight|bias)"), r"pre_layrnorm.\1"),
    (re.compile(r"ln_post\.(weight|bias)"), r"post_layernorm.\1"),
    (re.compile(r"transformer\.resblocks\.(\d+)\.ln_(1|2)\.(weight|bias)"), r"encoder.layers.\1.layer_norm\2.\3"),
    (re.compile(r"transformer\.resblocks\.(\d+)\.attn\.(out_proj\.\w+)"), r"encoder.layers.\1.self_attn.\2"),
    (re.compile(r"transformer\.resblocks\.(\d+)\.mlp\.c_fc\.(weight|bias)"), r"encoder.layers.\1.mlp.fc1.\2"),
    (re.compile(r"transformer\.resblocks\.(\d+)\.mlp\.c_proj\.(weight|bias)"), r"encoder.layers.\1.mlp.fc2.\2"),
)
OPENAI_JOINED = re.compile(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)")
OPENAI_SPLIT = "encoder.layers.{0}.self_attn.{part}_proj.{1}", ("q", "k", "v")

HEADS = re.compile(r"visual\.(head\..*|proj)")
CONVOLUTIONS = re.compile(r"visual\.(trunk\.)?(layer1|stages|stem|conv_stem|blocks\.0\.0)\b.*")
PROJECTION = "the projection into the space that pictures and texts share, which LLaVA does not read"


@dataclass(frozen=True)
class OpenClipVision:
    """The vision half in Hugging Face's terms; not checked whole yet.

    tensors: by HF's names; names that no rule knows stay as they were.
    """

    kind: str
    config: PreTrainedConfig = field(repr=False)
    tensors: Mapping[str, LazyTensor] = field(repr=False)
    ignored: Mapping[str, tuple[str, ...]] = field(repr=False)
    mean: Statistics
    std: Statistics


def named_by_open_clip(names: Mapping[str, LazyTensor]) -> bool:
    """Whether tensors are named as open_clip names them."""
    return any(name.startswith(VISUAL) for name in names)


def vision_half(folder: Path, stored: Mapping[str, LazyTensor]) -> OpenClipVision:
    """The vision half of an open_clip checkpoint.

    Raises:
        ModelError: a convolutional network, a kind of ViT not known here, or a config that lacks its parts.
    """
    convolution = next((name for name in stored if CONVOLUTIONS.fullmatch(name)), None)
    if convolution is not None:
        raise ModelError(
            f"its vision tower is a convolutional network ({convolution}); LLaVA reads the patches of a ViT",
            where=str(folder),
        )
    settings = read_settings(folder / OPEN_CLIP_CONFIG)
    model, vision = model_and_vision(settings, folder)
    in_timm = "timm_model_name" in vision
    try:
        config = _timm_config(vision, folder) if in_timm else _openai_config(model, vision, folder)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ModelError(f"vision_cfg makes no sense: {first_line(error)}", where=str(folder / OPEN_CLIP_CONFIG)) from (
            error
        )
    preprocess = settings.get("preprocess_cfg")
    preprocess = preprocess if isinstance(preprocess, dict) else {}
    return OpenClipVision(
        kind=f"open_clip ViT ({vision['timm_model_name']})" if in_timm else "open_clip ViT",
        config=config,
        tensors=_timm_tensors(stored) if in_timm else _openai_tensors(stored),
        ignored={
            TEXT_HALF: tuple(name for name in stored if not name.startswith(VISUAL)),
            PROJECTION: tuple(name for name in stored if HEADS.fullmatch(name)),
        },
        mean=statistics(preprocess, "mean", CLIP_MEAN, folder),
        std=statistics(preprocess, "std", CLIP_STD, folder),
    )


def model_and_vision(settings: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """`model_cfg` and its `vision_cfg`. Raises ModelError if they are not there."""
    model = settings.get("model_cfg")
    vision = model.get("vision_cfg") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(vision, dict):
        raise ModelError("expected model_cfg with a vision_cfg", where=str(folder / OPEN_CLIP_CONFIG))
    return model, vision


def _timm_config(vision: Mapping[str, Any], folder: Path) -> PreTrainedConfig:
    from transformers import ViTConfig

    name = str(vision["timm_model_name"])
    plain = TIMM_NAME.fullmatch(name)
    if plain is None:
        raise ModelError(
            f"its vision tower is timm's {name}; of timm, plain ViTs with a class token are read",
            where=str(folder / OPEN_CLIP_CONFIG),
            hint="For example vit_base_patch16_224, which BiomedCLIP has.",
        )
    _only(vision, TIMM_KEYS, folder)
    overrides = vision.get("timm_overrides") or {}
    _only(overrides, frozenset({"embed_dim", "depth", "num_heads", "img_size"}), folder)
    width, depth, heads = TIMM_WIDTHS[plain["width"]]
    width = int(overrides.get("embed_dim", width))
    return ViTConfig(
        hidden_size=width,
        num_hidden_layers=int(overrides.get("depth", depth)),
        num_attention_heads=int(overrides.get("num_heads", heads)),
        intermediate_size=4 * width,
        hidden_act="gelu",
        layer_norm_eps=TIMM_EPS,
        image_size=side(overrides.get("img_size", int(plain["size"])), "img_size", folder / OPEN_CLIP_CONFIG),
        patch_size=int(plain["patch"]),
    )


def _openai_config(model: Mapping[str, Any], vision: Mapping[str, Any], folder: Path) -> PreTrainedConfig:
    from transformers import CLIPVisionConfig

    _only(vision, OPENAI_KEYS, folder)
    if not isinstance(vision.get("layers"), int):
        raise ModelError(
            f"its vision tower has layers {vision.get('layers')}: no ViT, whose patches LLaVA reads",
            where=str(folder / OPEN_CLIP_CONFIG),
        )
    width = int(vision.get("width", 768))
    return CLIPVisionConfig(
        hidden_size=width,
        num_hidden_layers=vision["layers"],
        num_attention_heads=width // int(vision.get("head_width", 64)),
        intermediate_size=int(width * vision.get("mlp_ratio", 4)),
        hidden_act="quick_gelu" if model.get("quick_gelu") else "gelu",
        layer_norm_eps=OPENAI_EPS,
        image_size=side(vision.get("image_size", 224), "image_size", folder / OPEN_CLIP_CONFIG),
        patch_size=side(vision.get("patch_size", 16), "patch_size", folder / OPEN_CLIP_CONFIG),
    )


def _only(settings: Mapping[str, Any], known: frozenset[str], folder: Path) -> None:
    unknown = sorted(name for name in settings if name not in known and settings[name] not in (None, False))
    if unknown:
        raise ModelError(
            f"its vision tower is changed by {', '.join(unknown)}, which is not known here",
            where=str(folder / OPEN_CLIP_CONFIG),
        )


def _timm_tensors(stored: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    return _renamed(stored, TRUNK, TIMM_NAMES, TIMM_JOINED, TIMM_SPLIT)


def _openai_tensors(stored: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    return _renamed(stored, VISUAL, OPENAI_NAMES, OPENAI_JOINED, OPENAI_SPLIT)


def _renamed(
    stored: Mapping[str, LazyTensor],
    prefix: str,
    rules: tuple[tuple[re.Pattern[str], str], ...],
    joined: re.Pattern[str],
    split: tuple[str, tuple[str, ...]],
) -> dict[str, LazyTensor]:
    """The vision half by HF's names, with attention's three joined matrices apart."""
    renamed: dict[str, LazyTensor] = {}
    form, parts = split
    for stored_name, tensor in stored.items():
        if not stored_name.startswith(VISUAL) or HEADS.fullmatch(stored_name):
            continue
        bare = stored_name.removeprefix(prefix)
        three = joined.fullmatch(bare)
        if three is not None:
            names = [form.format(*three.groups(), part=part) for part in parts]
            renamed.update(zip(names, _thirds(tensor), strict=True))
            continue
        rule = next(((pattern, name) for pattern, name in rules if pattern.fullmatch(bare)), None)
        renamed[rule[0].sub(rule[1], bare) if rule else stored_name] = tensor
    return renamed


def _thirds(tensor: LazyTensor) -> tuple[LazyTensor, LazyTensor, LazyTensor]:
    """Rows of a joined [3 x width, ...] matrix: query, key, value. Copies, for no file holds tensors that overlap."""
    rows = tensor.shape[0] // 3
    shape = (rows, *tensor.shape[1:])

    def third(number: int) -> LazyTensor:
        return tensor.map(lambda whole: whole[number * rows : (number + 1) * rows].clone(), shape)

    return third(0), third(1), third(2)

"""Whether a tower's tensors are all there: what is stored against what its config's model holds.

Names come in three fashions: as transformers 4 saves them (`vision_model.encoder...`), as 5 does (without that prefix),
and as its models hold them in memory. All are brought to the names of llava-hf's own folders, the one form that every
transformers and other servers read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError, first_line
from llavamed_cli.model.published.lazy_tensor import LazyTensor
from llavamed_cli.model.published.tensor_shapes import check_shapes

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

TEXT_HALF = "the text half, which a vision tower has no use for"
HEAD = "a head on top of the tower (classification, reconstruction), which LLaVA does not read"
NUMBERS = "position numbers, which the model makes itself"
IGNORED = (
    (re.compile(r"(^|.*\.)position_ids"), NUMBERS),
    (re.compile(r"(text_model|text_projection|logit_scale|logit_bias|visual_projection)\b.*"), TEXT_HALF),
    (re.compile(r"(classifier|decoder)\..*"), HEAD),
)
UNREAD = re.compile(r"pooler\..*|embeddings\.mask_token")
"""What LLaVA never reads, and many folders come without: held as zeros, so that nothing is missing when saved."""
ZEROS = "zeros; never read"

PREFIXES = {
    "clip_vision_model": "vision_model.",
    "siglip_vision_model": "vision_model.",
    "vit": "vit.",
    "dinov2": "dinov2.",
}
"""What stands before the tower's own names in some folders."""
IN_MEMORY = (
    (re.compile(r"^layers\."), "encoder.layer."),
    (re.compile(r"(?<=\.attention\.)q_proj\."), "attention.query."),
    (re.compile(r"(?<=\.attention\.)k_proj\."), "attention.key."),
    (re.compile(r"(?<=\.attention\.)v_proj\."), "attention.value."),
    (re.compile(r"(?<=\.attention\.)o_proj\."), "output.dense."),
)
"""ViT and DINOv2: from what transformers 5 holds in memory to what every version saves."""
VIT_MLP = (
    (re.compile(r"(?<=\d\.)mlp\.fc1\."), "intermediate.dense."),
    (re.compile(r"(?<=\d\.)mlp\.fc2\."), "output.dense."),
)
"""ViT alone: DINOv2 saves `mlp.fc1` as it is."""


@dataclass(frozen=True)
class Accounted:
    """A tower's tensors by classic name, what was left out by reason, and what was added."""

    tensors: Mapping[str, LazyTensor]
    ignored: Mapping[str, tuple[str, ...]]
    added: Mapping[str, str]


def account(config: PreTrainedConfig, stored: Mapping[str, LazyTensor], where: Path) -> Accounted:
    """Hold `stored` against the model that `config` describes.

    Raises:
        ModelError: tensors are missing, left over or of another shape; the message lists them.
    """
    kind = str(config.model_type)
    found: dict[str, LazyTensor] = {}
    ignored: dict[str, list[str]] = {}
    for stored_name, tensor in stored.items():
        reason = next((reason for pattern, reason in IGNORED if pattern.fullmatch(stored_name)), None)
        if reason is not None:
            ignored.setdefault(reason, []).append(stored_name)
            continue
        name = bare_name(kind, stored_name)
        if name in found:
            raise ModelError(f"the tensor {name} is stored twice", where=str(where))
        found[name] = tensor
    if not found:
        raise ModelError("no tensor of a vision tower is there, only of a text model", where=str(where))
    _settle_head(config, found)
    try:
        expected = tower_shapes(config)
    except Exception as error:  # sizes that do not fit each other fail wherever transformers uses them first
        raise ModelError(f"the config makes no sense: {first_line(error)}", where=str(where)) from error
    added = {name: shape for name, shape in expected.items() if name not in found and UNREAD.fullmatch(name)}
    extra = [name for name in found if name not in expected and UNREAD.fullmatch(name)]
    for name in extra:
        ignored.setdefault(HEAD, []).append(name)
        del found[name]
    found.update({name: zeros(shape, _dtype(found)) for name, shape in added.items()})
    check_shapes(expected, found, "the tower's tensors are not those of its config", str(where))
    prefix = saved_prefix(kind)
    return Accounted(
        {prefix + name: found[name] for name in expected},
        {reason: tuple(names) for reason, names in ignored.items()},
        {prefix + name: ZEROS for name in added},
    )


def tower_class(config: PreTrainedConfig) -> Any:
    """The model that a tower's config is for; of the two-sided ones, the vision half."""
    from transformers import CLIPVisionModel, Dinov2Model, SiglipVisionModel, ViTModel

    classes = {
        "clip_vision_model": CLIPVisionModel,
        "siglip_vision_model": SiglipVisionModel,
        "vit": ViTModel,
        "dinov2": Dinov2Model,
    }
    return classes[str(config.model_type)]


def tower_shapes(config: PreTrainedConfig) -> dict[str, tuple[int, ...]]:
    """What the model of `config` holds, by bare classic name: built without weights."""
    import torch

    with torch.device("meta"):
        model = tower_class(config)(config)
    kind = str(config.model_type)
    return {bare_name(kind, name): tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def bare_name(kind: str, name: str) -> str:
    """A stored or in-memory name as every transformers saves it, without the prefix of the model around it."""
    bare = name.removeprefix(PREFIXES[kind])
    if kind in ("vit", "dinov2"):
        for pattern, saved in (*IN_MEMORY, *(VIT_MLP if kind == "vit" else ())):
            bare = pattern.sub(saved, bare)
    return bare


def saved_prefix(kind: str) -> str:
    """What llava-hf's folders put between `vision_tower.` and a tower's own names."""
    return "vision_model." if kind in ("clip_vision_model", "siglip_vision_model") else ""


def zeros(shape: tuple[int, ...], dtype: torch.dtype) -> LazyTensor:
    """Zeros that take no memory until they are read."""
    import torch

    return LazyTensor(shape, dtype, lambda: torch.zeros(shape, dtype=dtype))


def _dtype(found: Mapping[str, LazyTensor]) -> torch.dtype:
    return next(iter(found.values())).dtype


def _settle_head(config: Any, found: Iterable[str]) -> None:
    """A SigLIP saved without its pooling head is one whose config says so."""
    if config.model_type == "siglip_vision_model" and not any(name.startswith("head.") for name in found):
        config.vision_use_head = False

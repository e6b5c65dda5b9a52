"""The projector of the original LLaVA code by Hugging Face's names: two layers as they are, one layer made two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llavamed_cli.errors import ModelError
from llavamed_cli.model.published.lazy_tensor import LazyTensor
from llavamed_cli.model.published.linear_projector import linear_projector

LINEAR = frozenset({"weight", "bias"})
TWO_LAYERS = {"0": "multi_modal_projector.linear_1", "2": "multi_modal_projector.linear_2"}
"""LLaVA's mlp2x_gelu is a Sequential of linear, GELU (which has no tensor), linear."""


@dataclass(frozen=True)
class Projector:
    """A projector by HF's names.

    kind: "linear" or "mlp2x_gelu". note: what the reader should be told, where it is not exact everywhere.
    """

    tensors: dict[str, LazyTensor] = field(repr=False)
    kind: str
    vision_width: int
    text_width: int
    note: str | None = None


def projector_of(layers: Mapping[str, LazyTensor]) -> Projector:
    """The projector whose tensors, by what follows `mm_projector.`, are `layers`.

    Raises:
        ModelError: none, or of a kind other than linear and mlp2x_gelu; shapes that do not fit.
    """
    if not layers:
        raise ModelError("there is no projector (mm_projector) in it")
    if set(layers) == LINEAR:
        weight, bias = layers["weight"], layers["bias"]
        made = linear_projector(weight, bias)
        return Projector(made.tensors, "linear", weight.shape[1], weight.shape[0], note=made.note)
    if set(layers) != {f"{place}.{part}" for place in TWO_LAYERS for part in LINEAR}:
        found = ", ".join(sorted(layers)[:6])
        raise ModelError(f"the projector is neither linear nor mlp2x_gelu: it has the tensors {found}")
    shapes = [layers[name].shape for name in ("0.weight", "0.bias", "2.weight", "2.bias")]
    text = shapes[0][0]
    if len(shapes[0]) != 2 or shapes[1:] != [(text,), (text, text), (text,)]:
        raise ModelError(f"the projector's shapes do not fit each other: {', '.join(str(list(one)) for one in shapes)}")
    tensors = {
        f"{ours}.{part}": layers[f"{place}.{part}"] for place, ours in TWO_LAYERS.items() for part in sorted(LINEAR)
    }
    return Projector(tensors, "mlp2x_gelu", shapes[0][1], text)

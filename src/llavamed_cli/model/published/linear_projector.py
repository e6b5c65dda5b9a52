"""One linear layer W, b as Hugging Face's projector, which is hard-wired as linear, GELU, linear.

GELU(x) = x Phi(x) and Phi(x) + Phi(-x) = 1, so GELU(x) - GELU(-x) = x: with `linear_1 = [I; -I; 0]` and no bias,
`linear_2 = [W, -W, 0]` and bias b, the pair computes W x + b, exactly, for any x. The hidden width is the text's, so
twice the tower's width must fit in it: 2 x 1024 in 4096, in every published model. Measured (width 1024 into 4096,
outputs of about 6): fp32 differs by 4e-6; in bf16 and fp16 the error is the plain layer's own.

Narrower texts (test models) get GELU(x + B) = x + B, which holds where x + B > 6: `linear_1 = [I; 0]` and bias B,
`linear_2 = [W, 0]` and bias b - W B. That is right for features above 6 - B alone, and in fp32 alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llavamed_cli.errors import ModelError
from llavamed_cli.model.published.lazy_tensor import LazyTensor

if TYPE_CHECKING:
    import torch

SHIFT = 32.0
"""B: features down to -26 pass unchanged (GELU(6) misses 6 by 6e-9), while fp32 near 32 still resolves 2e-6 to 4e-6.
A test tower's lie within 8. Doubling B doubles both the range and the error."""


@dataclass(frozen=True)
class LinearProjector:
    """tensors: by HF's names. note: what the reader should be told, where the pair is not exact everywhere."""

    tensors: dict[str, LazyTensor] = field(repr=False)
    note: str | None = None


def linear_projector(weight: LazyTensor, bias: LazyTensor) -> LinearProjector:
    """HF's two-layer projector that computes `weight` x + `bias`.

    Args:
        weight: [text width, vision width].
        bias: [text width].

    Raises:
        ModelError: the shapes do not fit each other, or the text is narrower than the tower.
    """
    if len(weight.shape) != 2 or bias.shape != weight.shape[:1]:
        shapes = f"{list(weight.shape)} and {list(bias.shape)}"
        raise ModelError(f"a linear projector's weight and bias are of the shapes {shapes}, which do not fit")
    text, vision = weight.shape
    if 2 * vision <= text:
        return LinearProjector(_named(*_exact(weight, bias)))
    if vision <= text:
        note = (
            f"the text is less than twice as wide as the tower ({text} and {vision}), so the linear projector is only "
            f"right in fp32, and for features above {6 - SHIFT:g}"
        )
        return LinearProjector(_named(*_shifted(weight, bias)), note)
    raise ModelError(
        f"the linear projector takes {vision} features to a text width of {text}; Hugging Face's projector cannot "
        f"hold one whose text is narrower than its tower"
    )


def _named(*layers: LazyTensor) -> dict[str, LazyTensor]:
    names = ("linear_1.weight", "linear_1.bias", "linear_2.weight", "linear_2.bias")
    return {f"multi_modal_projector.{name}": layer for name, layer in zip(names, layers, strict=True)}


def _exact(weight: LazyTensor, bias: LazyTensor) -> tuple[LazyTensor, ...]:
    import torch

    text, vision = weight.shape

    def first() -> torch.Tensor:  # [text, vision]: x, then -x, then nothing
        layer = torch.zeros(text, vision, dtype=weight.dtype)
        layer[:vision] = torch.eye(vision)
        layer[vision : 2 * vision] = -torch.eye(vision)
        return layer

    def second(matrix: torch.Tensor) -> torch.Tensor:  # [text, text]
        layer = matrix.new_zeros(text, text)
        layer[:, :vision] = matrix
        layer[:, vision : 2 * vision] = -matrix
        return layer

    nothing = LazyTensor((text,), weight.dtype, lambda: torch.zeros(text, dtype=weight.dtype))
    return LazyTensor((text, vision), weight.dtype, first), nothing, weight.map(second, shape=(text, text)), bias


def _shifted(weight: LazyTensor, bias: LazyTensor) -> tuple[LazyTensor, ...]:
    """fp32 whatever the file's format: half precision has no room for both B and the features."""
    import torch

    text, vision = weight.shape
    single = torch.float32

    def first() -> torch.Tensor:  # [text, vision]: x, then nothing
        return torch.eye(text, vision, dtype=single)

    def first_bias() -> torch.Tensor:  # [text]
        shift = torch.zeros(text, dtype=single)
        shift[:vision] = SHIFT
        return shift

    def second() -> torch.Tensor:  # [text, text]
        layer = torch.zeros(text, text, dtype=single)
        layer[:, :vision] = weight.read()
        return layer

    def second_bias() -> torch.Tensor:  # [text]
        return (bias.read().double() - SHIFT * weight.read().double().sum(dim=1)).to(single)

    return (
        LazyTensor((text, vision), single, first),
        LazyTensor((text,), single, first_bias),
        LazyTensor((text, text), single, second),
        LazyTensor((text,), single, second_bias),
    )

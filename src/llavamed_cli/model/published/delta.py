"""Weights published as differences from Meta's LLaMA: added back tensor by tensor, after proof that the base fits.

Apart from shapes, nothing in a delta names its base, and a wrong one gives a model that runs and talks nonsense. The
arithmetic gives it away. A delta is target - base of two fp16 numbers, and where it is at most a quarter of the base,
that difference is exact (Sterbenz's lemma); so there delta + base is an fp16 number in every element, without rounding.
With another base it is not. Measured on normal weights, differences of 0.5 to 30 percent, a million elements: with the
right base 0 sums need rounding, with a relative of it (as Vicuna is, or the finished model) 1 to 19 percent, with a
stranger (as Llama 2 is) 31 to 42 percent. So no list of checksums is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llavamed_cli.errors import ModelError
from llavamed_cli.model.published.lazy_tensor import LazyTensor

if TYPE_CHECKING:
    import torch

GROWN = ("model.embed_tokens.weight", "lm_head.weight")
"""Tables that new tokens make taller than the base's; the rows beyond it are stored whole."""
WHOLE = "model.mm_projector."
"""What no language model has is stored whole."""
SKIPPED = "rotary_emb.inv_freq"
"""A table of constants that old files carry and no model reads."""
FINAL_NORM = "model.norm.weight"
DELTA_NORM = 0.25
"""Root mean square of the last norm's weights below which a file is a delta: a model's start at 1 and grow, and
training moves them by less than its learning rates add up to (2e-5 x 3,000 steps; 0.09 in the fixture)."""

SAMPLED_TENSORS, SAMPLED_ELEMENTS = 4, 1 << 18
LARGEST_RATIO = 0.5
"""Of norms, delta to base. A fine-tuned model is within a tenth of its base; a stranger is about 1.4 away."""
LARGEST_ROUNDED_SHARE = 0.1
"""For a base that was itself rounded to bf16, where the lemma holds but for the rounding (measured: up to 0.04)."""
LARGEST_ODD_SHARE = 0.3
"""A difference of fp16 numbers ends in zero bits (measured: up to 0.13 end in a one); half of those of any finer
numbers do not, and then the sums say nothing."""
FEWEST_SUMS = 1000
"""Fewer sums than this prove nothing."""
_HINT = (
    "LLaVA-Med's and LLaVA's v1 deltas are to LLaMA 1 as released by Meta (huggyllama/llama-7b), not Vicuna or Llama 2."
)


def is_delta(tensors: Mapping[str, LazyTensor]) -> bool:
    """Whether these are differences: the last norm's weights are then near 0, in a model near 1."""
    norm = tensors.get(FINAL_NORM)
    return norm is not None and float(norm.read().float().square().mean().sqrt()) < DELTA_NORM


def apply_delta(base: Mapping[str, LazyTensor], delta: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """base + delta, in fp16 as the reference adds them (v1.0 llava/model/apply_delta.py), read when it is wanted.

    Names are the original code's. Rows of new tokens and the projector come whole from the delta.

    Raises:
        ModelError: tensors that the other lacks, or shapes that do not fit.
    """
    _check_fit(base, delta)
    return {name: _sum(base.get(name), tensor) for name, tensor in delta.items() if not name.endswith(SKIPPED)}


def check_base(base: Mapping[str, LazyTensor], delta: Mapping[str, LazyTensor]) -> str:
    """Prove on a sample of tensors that `delta` was made from `base` (how: see the module); a sentence for the report.

    Raises:
        ModelError: the base is another model, one of the two is no base or no delta, or they do not fit.
    """
    if any(name.startswith(WHOLE) for name in base):
        raise ModelError("the base has a projector: it is a LLaVA already, not a bare language model", hint=_HINT)
    if is_delta(base):
        raise ModelError("the base is a delta itself, not a language model", hint=_HINT)
    _check_fit(base, delta)
    evidence = [_compare(base[name], delta[name]) for name in _sample(base, delta)]
    size = max((found.ratio for found in evidence), default=0.0)
    if size > LARGEST_RATIO:
        raise ModelError(f"the delta is {size:.2g} times as large as the base: it is no delta of this base", hint=_HINT)
    sums = sum(found.sums for found in evidence)
    if sums < FEWEST_SUMS:
        return "the delta changes next to nothing of the language model, so its base could not be checked"
    if sum(found.odd * found.sums for found in evidence) / sums > LARGEST_ODD_SHARE:
        return "the delta was not computed in fp16, so its base could not be checked"
    inexact = sum(found.inexact for found in evidence)
    share = inexact / sums
    rounded = all(found.bf16 for found in evidence)
    if share > (LARGEST_ROUNDED_SHARE if rounded else 0):
        near = share <= LARGEST_ROUNDED_SHARE
        kin = " (though a relative of it: fine-tuned from it, or saved in another number format)" if near else ""
        raise ModelError(
            f"the delta was not made from this base{kin}: {inexact:,} of {sums:,} sums do not come out even", hint=_HINT
        )
    if rounded and share:
        return (
            "the base fits as far as can be seen, but is rounded to bf16: a near relative would fit as well, and the "
            "model is rounded too; the base in fp16 gives proof and the exact weights"
        )
    return f"the delta was made from this base: all of {sums:,} sums compared come out even in fp16"


@dataclass(frozen=True)
class _Evidence:
    """One tensor's comparison.

    ratio: of norms. sums: how many were compared, of which inexact were no fp16 number. odd: the share of differences
    whose last bit is set. bf16: whether the base's values all have bf16's few bits.
    """

    ratio: float
    sums: int
    inexact: int
    odd: float
    bf16: bool


def _compare(base: LazyTensor, delta: LazyTensor) -> _Evidence:
    import torch

    rows = max(1, SAMPLED_ELEMENTS // base.shape[1])
    ours = base[:rows].half()
    theirs = delta[:rows, : base.shape[1]].half()
    whole, part = ours.double(), theirs.double()
    compared = (part != 0) & (part.abs() <= whole.abs() / 4)
    total = (whole + part)[compared]  # exact: no sum of such fp16 numbers needs more than float64's bits
    normal = theirs[theirs.abs() >= torch.finfo(torch.float16).tiny]
    return _Evidence(
        ratio=float(part.norm() / whole.norm()) if whole.any() else float("inf"),
        sums=int(compared.sum()),
        inexact=int((total != total.half().double()).sum()),
        odd=float((normal.view(torch.int16) & 1).float().mean()) if len(normal) else 0.0,
        bf16=bool((ours == ours.bfloat16().half()).all()),
    )


def _sample(base: Mapping[str, LazyTensor], delta: Mapping[str, LazyTensor]) -> list[str]:
    """A few matrices spread over the layers; the smallest kind of them, as each is read whole."""
    matrices = sorted(name for name in delta if name in base and len(base[name].shape) == 2 and name not in GROWN)
    if not matrices:
        return []
    least = min(base[name].bytes for name in matrices)
    small = [name for name in matrices if base[name].bytes == least]
    return small[:: -(-len(small) // SAMPLED_TENSORS)]


def _check_fit(base: Mapping[str, LazyTensor], delta: Mapping[str, LazyTensor]) -> None:
    """Refuse two sets of tensors that cannot be added, listing what is wrong."""
    absent = [name for name in delta if name not in base and not name.startswith(WHOLE) and not name.endswith(SKIPPED)]
    if absent:
        raise ModelError(f"the base lacks {len(absent)} tensor(s) of the delta: {_listed(absent)}", hint=_HINT)
    left = [name for name in base if name not in delta and not name.endswith(SKIPPED)]
    if left:
        raise ModelError(f"the delta lacks {len(left)} tensor(s) of the base: {_listed(left)}", hint=_HINT)
    both = [name for name in delta if name in base and not name.endswith(SKIPPED)]
    misfits = [name for name in both if not _fits(name, base[name].shape, delta[name].shape)]
    if misfits:
        shapes = (f"{name} {list(base[name].shape)} to {list(delta[name].shape)}" for name in misfits)
        raise ModelError(f"{len(misfits)} shape(s) of base and delta do not fit: {_listed(shapes)}", hint=_HINT)


def _fits(name: str, base: tuple[int, ...], delta: tuple[int, ...]) -> bool:
    if name not in GROWN or len(base) != len(delta):
        return base == delta
    return all(old <= new for old, new in zip(base, delta, strict=True))


def _sum(base: LazyTensor | None, delta: LazyTensor) -> LazyTensor:
    import torch

    def read() -> torch.Tensor:
        total = delta.read().to(torch.float16, copy=True)
        if base is not None:
            total[tuple(slice(size) for size in base.shape)] += base.read().to(torch.float16)
        return total

    return LazyTensor(delta.shape, torch.float16, read)


def _listed(names: Iterable[str], most: int = 5) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (" ..." if len(listed) > most else "")

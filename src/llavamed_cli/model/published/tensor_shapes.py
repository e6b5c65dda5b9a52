"""Stored tensors held against a model's: what is missing, left over or of another shape, said in one message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llavamed_cli.errors import ModelError
from llavamed_cli.model.published.lazy_tensor import LazyTensor

TENSORS_LISTED = 6


def check_shapes(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, LazyTensor], what: str, where: str
) -> None:
    """Raise a ModelError that begins with `what` unless `found` has the expected names and shapes, and no others."""
    misshapen = [
        f"{name} is {_by(found[name].shape)}, not {_by(shape)}"
        for name, shape in expected.items()
        if name in found and found[name].shape != shape
    ]
    faults = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "of another shape": misshapen,
    }
    said = [f"{len(names)} {fault}: {_listed(names)}" for fault, names in faults.items() if names]
    if said:
        raise ModelError(f"{what}; {'; '.join(said)}", where=where)


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "a single number"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:TENSORS_LISTED]) + (" ..." if len(names) > TENSORS_LISTED else "")

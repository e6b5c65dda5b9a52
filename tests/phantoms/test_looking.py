"""Whoever looks can tell: a linear reader of 64 x 64 pixels finds a mass, a cyst and a scale bar."""

from __future__ import annotations

import numpy as np
import pytest

from llavamed_cli.phantoms import Phantom, Truth, draw_phantoms

TRAIN, TEST = 150, 100


@pytest.fixture(scope="module")
def slices() -> tuple[list[Phantom], np.ndarray]:
    """CT phantoms and their pixels, (250, 4096)."""
    chosen: list[Phantom] = []
    for split, count in (("train", TRAIN), ("test", TEST)):
        chosen += [p for p in draw_phantoms(1500, split=split, seed=3) if p.kind == "ct"][:count]  # type: ignore[arg-type]
    rows = [np.asarray(p.picture.convert("L").resize((64, 64)), dtype=float).ravel() / 255 for p in chosen]
    return chosen, np.stack(rows)


def has_mass(truth: Truth) -> bool:
    return truth.finding("mass") is not None


def has_cyst(truth: Truth) -> bool:
    return truth.finding("cyst") is not None


def has_scale_bar(truth: Truth) -> bool:
    return truth.scale_bar


@pytest.mark.parametrize("what", [has_mass, has_cyst, has_scale_bar])
def test_a_linear_probe_finds_it(slices: tuple[list[Phantom], np.ndarray], what: object) -> None:
    phantoms, rows = slices
    assert len(phantoms) == TRAIN + TEST
    truths = np.array([1.0 if what(p.truth) else -1.0 for p in phantoms])  # type: ignore[operator]
    right = ridge(rows[:TRAIN], truths[:TRAIN], rows[TRAIN:]) == (truths[TRAIN:] > 0)
    # Chance is 0.5 with a deviation of 0.05; measured: 0.73, 0.89 and 1.
    assert right.mean() > 0.65


def ridge(rows: np.ndarray, truths: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """Ridge regression in its dual form; True where the answer is above zero."""
    middle = rows.mean(axis=0)
    centred = rows - middle
    weights = centred.T @ np.linalg.solve(centred @ centred.T + 10 * np.eye(len(rows)), truths - truths.mean())
    return (unseen - middle) @ weights + truths.mean() > 0

"""The intervals: that they hold the truth as often as they claim, that clusters matter, and exact corner cases."""

from __future__ import annotations

import numpy as np
import pytest

from llavamed_cli.evaluation.scoring.intervals import mean_intervals, paired_differences

TRIALS, PICTURES = 200, 60


def correlated_answers(rng: np.random.Generator) -> tuple[list[float], list[str]]:
    """Right or wrong answers about 60 pictures, some easy and some hard; right half of the time on average."""
    values: list[float] = []
    clusters: list[str] = []
    for picture in range(PICTURES):
        ease = rng.beta(0.8, 0.8)
        for _ in range(int(rng.integers(1, 7))):
            values.append(float(rng.random() < ease))
            clusters.append(str(picture))
    return values, clusters


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = held_without_clusters = 0
    for trial in range(TRIALS):
        values, clusters = correlated_answers(rng)
        by_picture = mean_intervals({"a": values}, clusters, seed=trial, draws=500)["a"]
        by_question = mean_intervals({"a": values}, [str(i) for i in range(len(values))], seed=trial, draws=500)["a"]
        held += by_picture.low <= 0.5 <= by_picture.high  # type: ignore[operator]
        held_without_clusters += by_question.low <= 0.5 <= by_question.high  # type: ignore[operator]
    assert 0.91 <= held / TRIALS <= 0.99
    assert held_without_clusters / TRIALS < 0.9


def test_width_is_the_textbook_one_where_every_question_has_its_own_picture() -> None:
    values = [1.0] * 120 + [0.0] * 80
    interval = mean_intervals({"a": values}, [str(i) for i in range(200)], seed=1)["a"]
    assert interval.value == 0.6
    half = 1.96 * (0.6 * 0.4 / 200) ** 0.5
    assert interval.low == pytest.approx(0.6 - half, abs=0.006)
    assert interval.high == pytest.approx(0.6 + half, abs=0.006)


def test_the_same_seed_gives_the_same_interval_also_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values, clusters = correlated_answers(np.random.default_rng(3))
    whole = mean_intervals({"a": values}, clusters, seed=7, draws=300)
    monkeypatch.setattr("llavamed_cli.evaluation.scoring.intervals.CELLS_AT_ONCE", PICTURES * 70)
    assert mean_intervals({"a": values}, clusters, seed=7, draws=300) == whole
    assert mean_intervals({"a": values}, clusters, seed=8, draws=300) != whole


def test_one_picture_has_no_interval() -> None:
    interval = mean_intervals({"a": [1.0, 0.0]}, ["x", "x"], seed=0)["a"]
    assert (interval.value, interval.low, interval.high, interval.n, interval.clusters) == (0.5, None, None, 2, 1)


def test_metrics_share_their_draws() -> None:
    values, clusters = correlated_answers(np.random.default_rng(1))
    both = mean_intervals({"a": values, "b": [1 - v for v in values]}, clusters, seed=0, draws=400)
    assert both["a"].low == pytest.approx(1 - both["b"].high)  # type: ignore[operator]
    assert mean_intervals({"a": values}, clusters, seed=0, draws=400)["a"] == both["a"]


def test_paired_difference_is_sharper_than_two_intervals() -> None:
    values, clusters = correlated_answers(np.random.default_rng(2))
    better = [1.0 if i % 10 == 0 else v for i, v in enumerate(values)]
    gain = paired_differences({"a": better, "only": values}, {"a": values}, clusters, seed=0)
    assert set(gain) == {"a"}
    alone = mean_intervals({"a": values}, clusters, seed=0)["a"]
    assert gain["a"].low > 0  # type: ignore[operator]
    assert gain["a"].high - gain["a"].low < (alone.high - alone.low) / 2  # type: ignore[operator]
    same = paired_differences({"a": values}, {"a": values}, clusters, seed=0)["a"]
    assert (same.value, same.low, same.high) == (0, 0, 0)

"""The intervals: that they hold the truth as often as they claim, that clusters matter, and exact corner cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llavamed_cli.evaluation.scoring import intervals
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
    monkeypatch.setattr(intervals, "CELLS_AT_ONCE", PICTURES * 70)
    intervals._times_drawn.cache_clear()
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
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


def linearised_error(values: np.ndarray, clusters: np.ndarray) -> float:
    """The standard error of a mean over clusters of unequal size, without any resampling: the cluster-robust variance
    of a ratio (Cochran 1977, 6.3; the same as of a regression on a constant with clustered errors)."""
    names = np.unique(clusters)
    residual = np.array([(values[clusters == name] - values.mean()).sum() for name in names])
    return float(np.sqrt(len(names) / (len(names) - 1) * (residual**2).sum()) / len(values))


@pytest.mark.parametrize("seed", range(4))
def test_width_is_that_of_the_clustered_standard_error(seed: int) -> None:
    """The bootstrap's sum over 300 pictures, by the formula instead of by draws: within the noise of 10,000 draws."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(300), rng.integers(1, 12, 300))
    values = 100.0 * (rng.random(len(clusters)) < rng.beta(2, 1, 300)[clusters])
    found = mean_intervals({"a": values}, clusters, seed=seed, top=100)["a"]
    half = 1.96 * linearised_error(values, clusters)
    assert found.value == pytest.approx(values.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.05)  # type: ignore[operator]


def test_many_pictures_are_resampled_in_groups_with_the_same_width() -> None:
    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(6000), rng.integers(1, 5, 6000))
    values = 100.0 * (rng.random(len(clusters)) < rng.beta(2, 1, 6000)[clusters])
    found = mean_intervals({"a": values}, clusters, seed=0)["a"]
    assert (found.clusters, found.n) == (6000, len(values))
    half = 1.96 * linearised_error(values, clusters)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.08)  # type: ignore[operator]


def test_all_right_is_not_certain() -> None:
    """Wilson's interval at 20 of 20, as Newcombe (1998) tables it: 83.9 to 100."""
    found = mean_intervals({"a": [100.0] * 20, "b": [0.0] * 20}, range(20), seed=0, top=100)
    assert (found["a"].low, found["a"].high) == (pytest.approx(83.89, abs=0.01), 100)
    assert (found["b"].low, found["b"].high) == (0, pytest.approx(16.11, abs=0.01))


def test_p_is_the_exact_one_where_every_sign_can_be_tried() -> None:
    """Five pictures, better on each by 1, 2, 3, 4, 5: of 32 ways to set the signs two are as extreme."""
    better, clusters = [1.0, 2, 3, 4, 5], list("abcde")
    found = paired_differences({"a": better}, {"a": [0.0] * 5}, clusters, seed=0)["a"]
    assert found.p == pytest.approx(2 / 32, abs=0.01)


def test_p_is_uniform_where_nothing_differs() -> None:
    rng = np.random.default_rng(11)
    clusters = np.repeat(np.arange(40), 3)
    small = 0
    for seed in range(200):
        ease = rng.random(40)[clusters]
        first, second = ((rng.random(120) < ease).astype(float) for _ in range(2))
        p = paired_differences({"a": first}, {"a": second}, clusters, seed=seed, draws=400)["a"].p
        small += p is not None and p <= 0.1
    assert 8 <= small <= 33  # 20 expected, within three standard deviations


scored = st.lists(st.tuples(st.sampled_from((0.0, 50.0, 100.0)), st.sampled_from("abcdef")), min_size=1, max_size=20)


@settings(max_examples=60)
@given(scored, st.randoms(use_true_random=False))
def test_the_value_is_inside_and_the_order_does_not_matter(rows: list[tuple[float, str]], random) -> None:  # type: ignore[no-untyped-def]
    def found(rows: list[tuple[float, str]]) -> intervals.Interval:
        values, clusters = zip(*rows, strict=True)
        return mean_intervals({"a": values}, clusters, seed=3, draws=200, top=100)["a"]

    one = found(rows)
    if one.low is not None and one.high is not None:
        assert one.low <= one.value <= one.high
    other = found(random.sample(rows, len(rows)))
    for name in ("value", "low", "high", "n", "clusters"):
        assert getattr(other, name) == pytest.approx(getattr(one, name))

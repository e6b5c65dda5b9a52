"""95% intervals by a bootstrap that resamples pictures, because questions about one picture are not independent.

The percentile bootstrap (Efron 1979) over clusters: simple and without assumptions on the scores; with few pictures, or
scores that are all alike, it is too narrow, which is why n is shown beside every interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

DRAWS = 10_000
COVERAGE = 0.95
CELLS_AT_ONCE = 4_000_000  # draws x clusters held in memory: 32 MB


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% interval. low and high are None where fewer than two pictures were asked about.

    n: questions; clusters: pictures.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    clusters: int


def mean_intervals(
    scores: Mapping[str, Sequence[float]], clusters: Sequence[str], *, seed: int, draws: int = DRAWS
) -> dict[str, Interval]:
    """The mean of each list of scores with its interval, all from the same draws.

    Args:
        scores: lists with one value a question, all of the length of `clusters`; not empty.
        clusters: the picture of each question.
    """
    import numpy as np

    values = np.array(list(scores.values()), dtype=np.float64).T  # [questions, metrics]
    names, index = np.unique(np.array(clusters), return_inverse=True)
    count, n = len(names), len(clusters)
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, index, values)
    sizes = np.bincount(index, minlength=count).astype(np.float64)
    means = values.mean(axis=0)
    if count < 2:
        return {name: Interval(float(mean), None, None, n, count) for name, mean in zip(scores, means, strict=True)}
    generator = np.random.default_rng(seed)
    drawn = []
    block = max(1, CELLS_AT_ONCE // count)
    for start in range(0, draws, block):
        times = _times_drawn(generator, min(block, draws - start), count)  # [draws, clusters]
        drawn.append((times @ sums) / (times @ sizes)[:, None])
    tail = 100 * (1 - COVERAGE) / 2
    low, high = np.percentile(np.concatenate(drawn), [tail, 100 - tail], axis=0)
    return {name: Interval(float(means[i]), float(low[i]), float(high[i]), n, count) for i, name in enumerate(scores)}


def paired_differences(
    first: Mapping[str, Sequence[float]],
    second: Mapping[str, Sequence[float]],
    clusters: Sequence[str],
    *,
    seed: int,
    draws: int = DRAWS,
) -> dict[str, Interval]:
    """The mean of first - second, question by question, for every metric that both have."""
    differences = {
        name: [a - b for a, b in zip(values, second[name], strict=True)]
        for name, values in first.items()
        if name in second
    }
    return mean_intervals(differences, clusters, seed=seed, draws=draws)


def _times_drawn(generator: numpy.random.Generator, draws: int, count: int) -> numpy.ndarray:
    """How often each of `count` clusters is drawn, for each of `draws` resamples: [draws, count] float64."""
    import numpy as np

    picks = generator.integers(count, size=(draws, count)) + np.arange(draws)[:, None] * count
    return np.bincount(picks.ravel(), minlength=draws * count).reshape(draws, count).astype(np.float64)

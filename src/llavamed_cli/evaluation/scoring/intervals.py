"""95% intervals by a bootstrap that resamples pictures, because questions about one picture are not independent.

The percentile bootstrap (Efron 1979) over clusters: simple, and without assumptions on the scores. With few pictures it
is too narrow, which is why their number stands beside every interval. Two cases are treated apart:

- Every score alike, all wrong or all right: no resample differs, so the interval is Wilson's (1927) with the number of
  pictures as its n.
- More than 2,000 pictures: they are put into 2,000 groups at random, and the groups are resampled (random groups,
  Wolter 2007). The width then has a relative error of 1.6%, and time and memory no longer grow with the pictures.

Only sums by picture enter, so that memory does not grow with draws x questions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

DRAWS = 10_000
COVERAGE = 0.95
MOST_UNITS = 2_000
"""Pictures that are resampled one by one; more are resampled in so many groups."""
CELLS_AT_ONCE = 2_000_000  # draws x units computed at once: 16 MB
DRAWN_KEPT = 4
"""Tables of draws that are kept for the next group of as many pictures: 20 MB each at most."""
NORMAL_QUANTILE = 1.959963984540054  # of COVERAGE, both sides


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% interval, which holds it.

    low, high: None where fewer than two pictures were asked about.
    n: questions; clusters: pictures.
    p: of a difference, how likely one as large is, either way, if the two answer equally well; None where not tested.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    clusters: int
    p: float | None = None


@dataclass(frozen=True)
class _Sums:
    """Scores summed by what is resampled. sums: [units, metrics], sizes: [units], questions in each."""

    names: tuple[str, ...]
    sums: numpy.ndarray
    sizes: numpy.ndarray
    clusters: int

    @property
    def means(self) -> numpy.ndarray:
        means: numpy.ndarray = self.sums.sum(axis=0) / self.sizes.sum()
        return means


def mean_intervals(
    scores: Mapping[str, Sequence[float] | numpy.ndarray],
    clusters: Sequence[Any] | numpy.ndarray,
    *,
    seed: int,
    draws: int = DRAWS,
    top: float | None = None,
) -> dict[str, Interval]:
    """The mean of each list of scores with its interval, all from the same draws.

    Args:
        scores: lists with one value a question, all of the length of `clusters`; not empty.
        clusters: the picture of each question: anything that sorts.
        top: the greatest possible score, where 0 is the least: scores that are all one or the other get Wilson's
            interval. None: they get none of their own.
    """
    return _intervals(_summed(scores.items(), clusters, seed), seed, draws, top)


def paired_differences(
    first: Mapping[str, Sequence[float] | numpy.ndarray],
    second: Mapping[str, Sequence[float] | numpy.ndarray],
    clusters: Sequence[Any] | numpy.ndarray,
    *,
    seed: int,
    draws: int = DRAWS,
) -> dict[str, Interval]:
    """The mean of first - second, question by question, for every metric that both have, with its p-value.

    p is two-sided, from a permutation test: were the two equally good, each picture's difference could as well have the
    other sign (Fisher 1935). It counts the actual signs as one of the draws, so it is never 0.
    """
    import numpy as np

    differences = (
        (name, np.asarray(values, dtype=np.float64) - np.asarray(second[name], dtype=np.float64))
        for name, values in first.items()
        if name in second
    )
    summed = _summed(differences, clusters, seed)
    intervals = _intervals(summed, seed, draws, None)
    if summed.clusters < 2:
        return intervals
    p_values = _p_values(summed, seed, draws)
    return {
        name: Interval(one.value, one.low, one.high, one.n, one.clusters, float(p))
        for (name, one), p in zip(intervals.items(), p_values, strict=True)
    }


def _summed(
    scores: Iterable[tuple[str, Sequence[float] | numpy.ndarray]], clusters: Sequence[Any] | numpy.ndarray, seed: int
) -> _Sums:
    import numpy as np

    pictures, index = np.unique(np.asarray(clusters), return_inverse=True)
    units = len(pictures)
    if units > MOST_UNITS:
        index = np.random.default_rng([seed, units]).permutation(units)[index] % MOST_UNITS
        units = MOST_UNITS
    names, columns = [], []
    for name, values in scores:
        names.append(name)
        columns.append(np.bincount(index, weights=np.asarray(values, dtype=np.float64), minlength=units))
    sums = np.array(columns).T.reshape(units, len(names))
    return _Sums(tuple(names), sums, np.bincount(index, minlength=units).astype(np.float64), len(pictures))


def _intervals(summed: _Sums, seed: int, draws: int, top: float | None) -> dict[str, Interval]:
    import numpy as np

    n, clusters, means = int(summed.sizes.sum()), summed.clusters, summed.means
    if clusters < 2:
        return {
            name: Interval(float(mean), None, None, n, clusters) for name, mean in zip(summed.names, means, strict=True)
        }
    times = _times_drawn(seed, draws, len(summed.sizes))
    drawn = np.empty((draws, len(means)))
    for part in _parts(draws, len(summed.sizes)):
        block = times[part].astype(np.float64)
        drawn[part] = (block @ summed.sums) / (block @ summed.sizes)[:, None]
    tail = 100 * (1 - COVERAGE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail], axis=0)
    found = {}
    for i, name in enumerate(summed.names):
        value = float(means[i])
        bounds = (
            _wilson(value, clusters, top)
            if top is not None and value in (0.0, top)
            else (float(low[i]), float(high[i]))
        )
        found[name] = Interval(value, min(value, bounds[0]), max(value, bounds[1]), n, clusters)
    return found


def _wilson(value: float, n: int, top: float) -> tuple[float, float]:
    """Wilson's interval of a share of 0 or 1 in n, times `top`."""
    share, square = value / top, NORMAL_QUANTILE**2
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = NORMAL_QUANTILE * math.sqrt(share * (1 - share) / n + square / (4 * n * n)) / (1 + square / n)
    return top * max(0.0, centre - half), top * min(1.0, centre + half)


def _p_values(summed: _Sums, seed: int, draws: int) -> numpy.ndarray:
    import numpy as np

    actual = np.abs(summed.sums.sum(axis=0))
    as_large = np.ones(len(actual))
    signs = _signs(seed, draws, len(summed.sizes))
    tolerance = 1e-9 * (1 + np.abs(summed.sums).sum(axis=0))  # the order of a sum must not decide a tie
    for part in _parts(draws, len(summed.sizes)):
        as_large += (np.abs(signs[part].astype(np.float64) @ summed.sums) >= actual - tolerance).sum(axis=0)
    p_values: numpy.ndarray = as_large / (draws + 1)
    return p_values


def _parts(draws: int, units: int) -> list[slice]:
    size = max(1, CELLS_AT_ONCE // units)
    return [slice(start, min(draws, start + size)) for start in range(0, draws, size)]


@lru_cache(maxsize=DRAWN_KEPT)
def _times_drawn(seed: int, draws: int, units: int) -> numpy.ndarray:
    """How often each of `units` is drawn, for each of `draws` resamples of as many: [draws, units] uint8.

    Being drawn more than 255 times does not happen: of so many units the chance is under 1e-500.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    times = np.empty((draws, units), dtype=np.uint8)
    for part in _parts(draws, units):
        rows = part.stop - part.start
        picks = generator.integers(units, size=(rows, units)) + np.arange(rows)[:, None] * units
        times[part] = np.bincount(picks.ravel(), minlength=rows * units).reshape(rows, units)
    return times


@lru_cache(maxsize=DRAWN_KEPT)
def _signs(seed: int, draws: int, units: int) -> numpy.ndarray:
    """+1 or -1 by chance: [draws, units] int8."""
    import numpy as np

    generator = np.random.default_rng([seed, 1])
    signs: numpy.ndarray = 2 * generator.integers(2, size=(draws, units), dtype=np.int8) - 1
    return signs

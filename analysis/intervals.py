"""Percentile bootstrap over items, by counts: a resample is how often each item was drawn.

Algorithm
    1. Draw n items with replacement and count each: one row of `counts` [draws, n] (`resample_counts`).
    2. Statistics are computed from the counts, all draws at once. Ranks need no sorting: with the values'
    levels
       sorted once, an item's average rank in a resample is (draws at lower levels) + (draws at its level + 1)
       / 2 (`resampled_ranks`).
    3. The interval is the central share `level` of the draws in which the statistic is defined
       (`percentile_interval`; Efron & Tibshirani 1993, chapter 13, https://doi.org/10.1201/9780429246593).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import Floats

# Draws are made in blocks of about this many counts, so that memory does not grow with draws x items.
_BLOCK = 1 << 19


class Interval(NamedTuple):
    """Bounds of an interval, NaN where there is none, and `reason`: why there is none, else None."""

    low: float
    high: float
    reason: str | None


def resample_counts(n: int, *, n_bootstrap: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield blocks [draws, n] of counts of each item in resamples of n items; `n_bootstrap` draws in all.

    Every row sums to n. The blocks depend on n, n_bootstrap and the state of rng alone.

    Raises:
        ValueError: n_bootstrap is not an integer of at least 1.
    """
    if not isinstance(n_bootstrap, (int, np.integer)) or isinstance(n_bootstrap, bool) or n_bootstrap < 1:
        raise ValueError(
            f"The n_bootstrap parameter of a bootstrap must be an integer of at least 1. Got {n_bootstrap!r} instead."
        )
    size = max(1, _BLOCK // max(n, 1))
    for start in range(0, n_bootstrap, size):
        draws = min(size, n_bootstrap - start)
        picked = rng.integers(0, n, size=(draws, n))
        picked += n * np.arange(draws)[:, None]
        yield np.bincount(picked.ravel(), minlength=draws * n).reshape(draws, n).astype(np.float64)


class Levels:
    """The distinct values of a vector [n], sorted once, for counting and ranking in resamples."""

    def __init__(self, values: Floats) -> None:
        _, self.level, sizes = np.unique(values, return_inverse=True, return_counts=True)
        self.order = np.argsort(self.level, kind="stable")
        self.starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self.distinct = len(sizes) == len(values)

    def counts(self, counts: Floats) -> Floats:
        """Counts per level [draws, levels] from counts per item [draws, n]."""
        ordered = counts[:, self.order]
        return ordered if self.distinct else np.add.reduceat(ordered, self.starts, axis=1)


def resampled_ranks(levels: Levels, counts: Floats) -> Floats:
    """Average rank of every item in every resample, less the mean rank (n + 1) / 2: [draws, n], exact.

    Items that a resample left out get the rank they would sit at; their count is 0, so that they weigh
    nothing.
    """
    per_level = levels.counts(counts)
    ranks = np.cumsum(per_level, axis=1) - (per_level + counts.shape[1]) / 2
    return ranks[:, levels.level]


def percentile_interval(draws: NDArray[np.float64], *, level: float) -> Interval:
    """Take the central share `level` of the draws [n_bootstrap] that are not NaN.

    A draw is NaN where its resample leaves the statistic undefined (all values equal, one class only). With
    fewer than half of the draws defined there is no interval: both bounds are NaN and `reason` says so.

    Raises:
        ValueError: `level` outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"The level parameter of percentile_interval must be within (0, 1). Got {level} instead.")
    defined = draws[~np.isnan(draws)]
    if defined.size < draws.size / 2 or not defined.size:
        reason = f"the statistic is undefined in {draws.size - defined.size} of {draws.size} resamples"
        return Interval(np.nan, np.nan, reason)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), None)


def draw_seed(rng: np.random.Generator, *, caller: str) -> int:
    """Draw the seed from which every group of a table starts its resamples.

    Raises:
        TypeError: rng is not a numpy.random.Generator.
    """
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"The rng parameter of {caller} must be a numpy.random.Generator. Got {type(rng).__name__} "
            f"instead; write rng=np.random.default_rng(0)."
        )
    return int(rng.integers(2**63))

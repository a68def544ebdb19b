"""Figures and their differences from the same resamples: values, intervals, standard errors and p-values.

A difference of two figures of the same items is resampled as a difference, so that what the two share cancels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .arrays import Floats
from .bootstrap import SINGLE, Bootstrap
from .intervals import NO_INTERVAL
from .resamples import Resamples, Statistic, observed
from .tuning import difference_p

# Differences of figures below this are rounding error.
_ROUNDING = 1e-12
NO_ERROR = "the difference has no standard error"


class Drawn(NamedTuple):
    """A figure of some items: its value, `low` and `high` of its interval, the bootstrap standard error `se`.

    `p` is the two-sided p-value of the value against 0 (`difference_p`), which means something for a difference;
    `reason` says why the interval is NaN although the value is not, else it is None.
    """

    value: float
    low: float
    high: float
    se: float
    p: float
    reason: str | None


UNDEFINED = Drawn(*(np.nan,) * 5, None)


def draw_figures(statistic: Statistic, resamples: Resamples, bootstrap: Bootstrap) -> dict[str, Drawn]:
    """Evaluate a statistic on the items as they are and in resamples; by the names of its figures."""
    values = _rounded(observed(statistic, resamples.n))
    if resamples.n_units < 2:
        return {
            name: Drawn(float(value), *(np.nan,) * 4, None if np.isnan(value) else SINGLE)
            for name, value in zip(statistic.names, values, strict=True)
        }
    draws = _rounded(resamples.draw([statistic])[0])
    left_out = _rounded(resamples.leave_out([statistic])[0]) if bootstrap.interval == "bca" else [None] * len(values)
    found = {}
    for name, value, drawn, left in zip(statistic.names, values.tolist(), draws, left_out, strict=True):
        bounds = NO_INTERVAL if np.isnan(value) else bootstrap.take(value, drawn, left)
        known = drawn[~np.isnan(drawn)]
        enough = not np.isnan(value) and known.size > 1 and known.size >= drawn.size / 2
        se = float(_rounded(known.std(ddof=1))) if enough else np.nan
        p = np.nan if np.isnan(value) else difference_p(value, se)
        found[name] = Drawn(value, bounds.low, bounds.high, se, p, bounds.reason)
    return found


def _rounded(values: Floats) -> Floats:
    return np.where(np.abs(values) < _ROUNDING, 0.0, values)

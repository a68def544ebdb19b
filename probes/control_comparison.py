"""Scores of a probe and of its controls, and their differences, with intervals that see testing and training.

A control and a probe are fitted to the same rows and tested on the same rows, so that much of their chance is shared.
Step 1 of `jackknife` is taken of the difference of the two scores, which pairs them: leaving a unit out of testing, and
out of training, changes both. The bounds of a difference are value +/- t sqrt(variance), Student's t with U - 1 degrees
of freedom for U units.

Of a control that is drawn at random, several times, score and changes are the means over the draws; the variance of one
draw about them is added, so that an interval spans items and draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from . import scores
from .jackknife import jackknife_interval
from .probed_rows import ProbedRows

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Side:
    """Out-of-fold predictions of the probe or of a control, m times (once, but for a control drawn at random).

    Attributes:
        predictions: [m, n], as they were made.
        deviations: [m, n], what is scored: comparable over folds.
        left_out: m arrays [n, U], the deviations by fits without one unit of training rows.
        n_features: how many numbers they are made of, the mean over folds.
        layer: that every fold chose; None otherwise, or where there is none.
        note: what else to know.
    """

    predictions: Array
    deviations: Array
    left_out: list[Array]
    n_features: int
    layer: int | None
    note: str | None

    def flat(self, rows: ProbedRows) -> bool:
        """Whether every prediction is the mean of its training rows."""
        return bool((np.abs(self.predictions - rows.baseline) <= 1e-12 * np.abs(rows.y).max()).all())


class Changes(NamedTuple):
    """A score, its values without each unit in testing and in training [U], and its variance over random draws."""

    value: float
    tested: Array
    trained: Array
    drawn: float


def changes(side: Side, rows: ProbedRows, units: Array) -> Changes:
    """Score a side on all rows, and without each unit."""
    outside = (units != np.arange(units.max() + 1)[:, None]).astype(np.float64)
    values = np.array([rows.score(deviation) for deviation in side.deviations])
    tested = np.mean([rows.draws(deviation, outside) for deviation in side.deviations], axis=0)
    trained = np.mean([_columns(rows, left_out) for left_out in side.left_out], axis=0)
    drawn = float(values.var(ddof=1)) if len(values) > 1 else 0.0
    return Changes(float(values.mean()), tested, trained, drawn)


def score_interval(side: Side, own: Changes, rows: ProbedRows, units: Array) -> tuple[float, float]:
    """95 % interval of a score: that of `probe_layers`, or for a side drawn at random one that spans its draws."""
    if len(side.deviations) == 1:
        return jackknife_interval(rows.y, side.deviations[0], side.left_out[0], units, binary=rows.binary)
    error, count = _standard_error(own)
    reach = stats.t.ppf(0.975, count - 1) * error if count > 1 else np.nan
    least = 0.0 if rows.binary else -1.0
    return float(np.maximum(own.value - reach, least)), float(np.minimum(own.value + reach, 1.0))


def difference(probe: Changes, control: Changes) -> dict[str, Any]:
    """The probe's score less a control's, its interval, the one-sided p of a difference of at most 0, and `as_good`."""
    apart = Changes(
        probe.value - control.value,
        probe.tested - control.tested,
        probe.trained - control.trained,
        probe.drawn + control.drawn,
    )
    error, count = _standard_error(apart)
    low = high = p = np.nan
    if count > 1:
        reach = stats.t.ppf(0.975, count - 1) * error
        low, high = apart.value - reach, apart.value + reach
        # Predictions that never differ have no error: the control is the probe.
        p = float(stats.t.sf(apart.value / error, count - 1)) if error > 0 else float(apart.value <= 0)
    bounds = {"difference_ci_low": low, "difference_ci_high": high}
    return {"difference": apart.value, **bounds, "p": p, "as_good": not low > 0}


def _standard_error(own: Changes) -> tuple[float, int]:
    """Standard error by the jackknife, and the number of units with a score; NaN and 0 if more than 5 % have none."""
    known = ~(np.isnan(own.tested) | np.isnan(own.trained))
    if np.isnan(own.value) or known.mean() < 1 - scores.MAX_DEGENERATE or known.sum() < 2:
        return float("nan"), 0
    count = int(known.sum())
    tested, trained = (part[known] - part[known].mean() for part in (own.tested, own.trained))
    variance = (count - 1) / count * float(tested @ tested + max(0.0, float(tested @ trained)))
    # Below this two equal scores differ by rounding alone.
    return (float(np.sqrt(variance + own.drawn)) if variance + own.drawn > 1e-24 else 0.0), count


def _columns(rows: ProbedRows, left_out: Array) -> Array:
    """Score of every column of deviations [n, U]."""
    score = scores.auroc if rows.binary else scores.pearson_columns
    return score(np.broadcast_to(rows.y[:, None], left_out.shape), left_out)

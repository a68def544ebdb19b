"""Intervals of scores of out-of-fold predictions: a jackknife that leaves each unit out of testing and of training.

Every row is tested once and has helped to train the probes of the other folds. Resampling rows beside fixed predictions
sees its first part only, and its intervals are too narrow where the probes are noisy: few rows, many features or a weak
signal (Bates, Hastie and Tibshirani 2024, doi:10.1080/01621459.2023.2197686). Here

1. t_u is the change of the score when unit u is not tested, f_u when it is not trained on: the probes of the other
   folds are fitted without it, penalties kept. A unit is a group, a row, or a few of either from one fold.
2. The variance is (U - 1) / U times the sum of t_u (t_u + f_u), at least that of t_u^2; U is the number of units. In a
   sum over pairs of b(tested, trained) it counts b(u, v)^2 + b(u, v) b(v, u) for each ordered pair, which is the
   variance of the score about the true score of these probes. Squares of t_u + f_u, the plain jackknife, count such
   pairs twice (Efron and Stein 1981, doi:10.1214/aos/1176345462).
3. The bounds are Student's with U - 1 degrees of freedom, on Fisher's scale artanh r, or artanh(2 AUROC - 1). Where a
   score of 1 or -1 has no place on that scale they are taken on their own, and cut off there.

How often they hold the truth: docs/probe_simulations.md.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from . import scores
from .folds import Folds

Array = np.ndarray

MAX_UNITS = 200


def jackknife_units(folds: Folds, most: int = MAX_UNITS) -> Array:
    """Unit of each row, [n], as 0, 1, ...: groups, or rows, put together within their test fold if they are too many.

    Args:
        folds: the outer folds.
        most: largest number of units; a fold has at least one.
    """
    units = np.empty(sum(map(len, folds.test)), dtype=np.int64)
    first = 0
    for rows in folds.test:
        codes = rows if folds.group_codes is None else folds.group_codes[rows]
        _, member = np.unique(codes, return_inverse=True)
        members = member.max() + 1
        pieces = min(members, max(1, most // len(folds.test)))
        units[rows] = first + member * pieces // members
        first += pieces
    return units


def jackknife_interval(
    y: Array, deviation: Array, left_out: Array | None, units: Array, *, binary: bool, level: float = 0.95
) -> tuple[float, float]:
    """Interval of the Pearson correlation, or of the AUROC, of a target [n] and out-of-fold predictions [n].

    Args:
        y: [n] target.
        deviation: [n] predictions, comparable over folds.
        left_out: [n, U] the same from probes that were fitted without a unit; in the unit's own fold, which it did not
            help to train, unchanged. None takes the probes as fixed.
        units: [n] unit of each row.
        binary: whether the score is the AUROC of 0/1 labels.
        level: share of intervals that hold the true score of these probes.

    Returns:
        Low and high; NaN where the score, or more than 5 % of those without a unit, is undefined.
    """
    drawn = scores.auroc_draws if binary else scores.pearson_draws
    outside = (units != np.arange(units.max() + 1)[:, None]).astype(np.float64)
    tested = drawn(y, deviation, outside)
    value = float(drawn(y, deviation, np.ones((1, len(y))))[0])
    trained = np.full(len(tested), value)
    if left_out is not None:
        columns = scores.auroc if binary else scores.pearson_columns
        trained = columns(np.broadcast_to(y[:, None], left_out.shape), left_out)
    known = ~(np.isnan(tested) | np.isnan(trained))
    if np.isnan(value) or known.mean() < 1 - scores.MAX_DEGENERATE or known.sum() < 2:
        return float("nan"), float("nan")
    count = int(known.sum())
    whole = np.concatenate([[value], tested[known], trained[known]])
    if binary:
        whole = 2 * whole - 1
    fisher = bool((np.abs(whole) < 1 - 1e-12).all())
    scale = np.arctanh(whole) if fisher else whole
    own, training = (part - part.mean() for part in np.split(scale[1:], 2))
    variance = (count - 1) / count * (own @ own + max(0.0, float(own @ training)))
    reach = stats.t.ppf((1 + level) / 2, count - 1) * np.sqrt(variance)
    bounds = scale[0] + np.array([-reach, reach])
    bounds = np.tanh(bounds) if fisher else np.clip(bounds, -1, 1)
    low, high = (bounds + 1) / 2 if binary else bounds
    return float(low), float(high)

"""One probe on one layer and one outer fold, for many targets at once: what a sweep repeats.

Each function sees the training rows' targets only. It chooses a penalty per target by an error on rows left
out inside the training fold, and returns that error, by which the sweep then chooses a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .classifier_folds import logistic_fold, mass_mean_fold, mass_mean_whitened_fold
from .device import MANY_ROWS
from .fold_fit import FoldFit, FoldFitter, in_spreads
from .folds import inner_blocks
from .linear import LOGISTIC_PENALTIES, RIDGE_PENALTIES
from .ridge_path import Array, RidgePath, Standardization, smallest_error


def ridge_fold(
    train: Array,
    test: Array,
    targets: Array,
    codes: Array | None,
    penalties: Sequence[float],
    calibrate: Array,
    *,
    units: Array | None = None,
    device: str = "cpu",
) -> FoldFit:
    """Ridge regression, or for 0/1 targets the least-squares classifier.

    The least-squares direction of a two-class target is the (regularised) linear discriminant, so ranking by
    it is ranking by LDA; and because the fit is linear in the target, all permutations cost one product.

    Args:
        train: features of the training rows, [n, d].
        test: features of the test rows, [k, d].
        targets: [n, m].
        codes: [n] group of each training row, or None.
        penalties: ascending.
        calibrate: columns of `targets` whose held-out predictions are wanted. With many rows they are the only
            ones that are computed in float64: the others, permutations, are multiplied in float32.
        units: [n] unit of each training row as 0, 1, ..., for fits without one unit; None makes none.
        device: where torch computes.
    """
    scaler = Standardization.of(train)
    path = RidgePath.of(scaler.apply(train), device=device)
    coordinates = path.coordinates(scaler.apply(test))
    blocks = inner_blocks(codes)
    grid = np.asarray(penalties)
    m = targets.shape[1]
    error, penalty, spread, predictions = np.empty(m), np.empty(m), np.empty(m), np.empty((len(test), m))

    def fit(path: RidgePath, columns: Array) -> None:
        if not columns.size:
            return
        own = targets[:, columns]
        errors = path.held_out_errors(own, penalties, blocks)
        chosen = smallest_error(errors)
        error[columns], penalty[columns] = errors[chosen, np.arange(len(chosen))], grid[chosen]
        predictions[:, columns] = path.predict(coordinates, own, penalty[columns])
        spread[columns] = path.spread(own, penalty[columns])

    if len(train) < MANY_ROWS:
        fit(path, np.arange(m))
    else:
        fit(path, np.asarray(calibrate))
        fit(path.single(), np.setdiff1d(np.arange(m), calibrate))
    wanted = targets[:, calibrate]
    held_out = wanted - path.held_out_residuals(wanted, penalty[calibrate], blocks)
    left_out = None
    if units is not None:
        fits = [path.left_out(coordinates, targets[:, c], penalty[c], units) for c in calibrate]
        left_out = np.stack([in_spreads(*fit) for fit in fits])
    return FoldFit(error, penalty, predictions, held_out, spread, left_out)


@dataclass(frozen=True)
class ProbeKind:
    """A probe by name: how it is fitted on a fold, its penalties, its targets and its usual null."""

    fit: FoldFitter
    penalties: tuple[float, ...]
    penalty_name: str
    binary_only: bool
    n_permutations: int


KINDS = {
    "ridge": ProbeKind(ridge_fold, RIDGE_PENALTIES, "alpha", False, 200),
    "mass_mean": ProbeKind(mass_mean_fold, (), "", True, 200),
    "mass_mean_whitened": ProbeKind(mass_mean_whitened_fold, (), "", True, 200),
    "logistic": ProbeKind(logistic_fold, LOGISTIC_PENALTIES, "C", True, 0),
}

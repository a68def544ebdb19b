"""One probe on one layer and one outer fold, for many targets at once: what a sweep repeats.

Each function sees the training rows' targets only. It chooses a penalty per target by an error on rows left
out inside the training fold, and returns that error, by which the sweep then chooses a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .folds import INNER_BLOCKS, inner_blocks
from .linear import LOGISTIC_PENALTIES, RIDGE_PENALTIES, LogisticProbe
from .ridge_path import Array, RidgePath, Standardization, smallest_error


@dataclass(frozen=True, eq=False)
class FoldFit:
    """What one layer and fold give for m targets.

    Attributes:
        inner_error: [m] held-out error inside the training fold at the chosen penalty: mean squared error,
            for the logistic probe mean log loss.
        penalty: [m] the chosen penalty; NaN for a probe without one.
        test: [k, m] predictions for the test rows.
        held_out: [n, c] predictions for the training rows from inner models that never saw them, for the
            first `c` columns that were asked for; None for a probe that gives probabilities itself.
    """

    inner_error: Array
    penalty: Array
    test: Array
    held_out: Array | None


FoldFitter = Callable[[Array, Array, Array, Array | None, Sequence[float], Array], FoldFit]


def ridge_fold(
    train: Array,
    test: Array,
    targets: Array,
    codes: Array | None,
    penalties: Sequence[float],
    calibrate: Array,
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
        calibrate: columns of `targets` whose held-out predictions are wanted.
    """
    scaler = Standardization.of(train)
    path = RidgePath.of(scaler.apply(train))
    blocks = inner_blocks(codes)
    errors = path.held_out_errors(targets, penalties, blocks)
    chosen = smallest_error(errors)
    penalty = np.asarray(penalties)[chosen]
    predictions = path.predict(path.coordinates(scaler.apply(test)), targets, penalty)
    wanted = targets[:, calibrate]
    held_out = wanted - path.held_out_residuals(wanted, penalty[calibrate], blocks)
    return FoldFit(errors[chosen, np.arange(len(chosen))], penalty, predictions, held_out)


def mass_mean_fold(
    train: Array,
    test: Array,
    targets: Array,
    codes: Array | None,
    penalties: Sequence[float],
    calibrate: Array,
) -> FoldFit:
    """Projection on the difference of the class means, scaled by least squares on the training rows.

    With a centred 0/1 target c the difference of means is proportional to Z^T c, so the projections of all
    targets are one product with Z Z^T. Without groups the inner blocks are every tenth row.
    """
    scaler = Standardization.of(train)
    rows = scaler.apply(train)
    gram = rows @ rows.T
    n = len(rows)
    blocks = inner_blocks(codes) or [np.arange(start, n, INNER_BLOCKS) for start in range(min(INNER_BLOCKS, n))]
    held_out = np.empty_like(targets)
    for block in blocks:
        rest = np.setdiff1d(np.arange(n), block, assume_unique=True)
        held_out[block] = _project(gram[np.ix_(rest, rest)], gram[np.ix_(block, rest)], targets[rest])
    predictions = _project(gram, scaler.apply(test) @ rows.T, targets)
    errors = np.mean((targets - held_out) ** 2, axis=0)
    return FoldFit(errors, np.full(targets.shape[1], np.nan), predictions, held_out[:, calibrate])


def _project(gram: Array, cross: Array, targets: Array) -> Array:
    """Least-squares prediction from the projection on the class-mean difference; rows of `cross` are new."""
    mean = targets.mean(axis=0)
    centred = targets - mean
    projection = gram @ centred
    offset = projection.mean(axis=0)
    projection -= offset
    spread = np.sum(projection**2, axis=0)
    covariance = np.sum(centred * projection, axis=0)
    slope = np.divide(covariance, spread, out=np.zeros_like(spread), where=spread > 0)
    return mean + slope * (cross @ centred - offset)


def logistic_fold(
    train: Array,
    test: Array,
    targets: Array,
    codes: Array | None,
    penalties: Sequence[float],
    calibrate: Array,
) -> FoldFit:
    """`LogisticProbe` fitted to each target in turn; predictions are probabilities."""
    m = targets.shape[1]
    errors, chosen, predictions = np.empty(m), np.empty(m), np.empty((len(test), m))
    for column in range(m):
        probe = LogisticProbe(C=list(penalties)).fit(train, targets[:, column], groups=codes)
        errors[column], chosen[column] = probe.inner_log_loss_.min(), probe.C_
        predictions[:, column] = probe.predict_proba(test)[:, 1]
    return FoldFit(errors, chosen, predictions, None)


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
    "logistic": ProbeKind(logistic_fold, LOGISTIC_PENALTIES, "C", True, 0),
}

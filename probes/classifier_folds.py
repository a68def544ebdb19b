"""Probes of binary targets on one layer and one outer fold: mass-mean and logistic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .fold_fit import FoldFit
from .folds import INNER_BLOCKS, inner_blocks
from .linear import LogisticProbe
from .ridge_path import Array, Standardization


def mass_mean_fold(
    train: Array,
    test: Array,
    targets: Array,
    codes: Array | None,
    penalties: Sequence[float],
    calibrate: Array,
    *,
    device: str = "cpu",
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
    *,
    device: str = "cpu",
) -> FoldFit:
    """`LogisticProbe` fitted to each target in turn; predictions are probabilities."""
    m = targets.shape[1]
    errors, chosen, predictions = np.empty(m), np.empty(m), np.empty((len(test), m))
    for column in range(m):
        probe = LogisticProbe(C=list(penalties)).fit(train, targets[:, column], groups=codes)
        errors[column], chosen[column] = probe.inner_log_loss_.min(), probe.C_
        predictions[:, column] = probe.predict_proba(test)[:, 1]
    return FoldFit(errors, chosen, predictions, None)

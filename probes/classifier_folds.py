"""Probes of binary targets on one layer and one outer fold: mass-mean, plain and whitened, and logistic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .fold_fit import FoldFit, in_spreads
from .folds import INNER_BLOCKS, inner_blocks
from .linear import shrinkage_penalty
from .logistic_path import LogisticPath
from .ridge_path import Array, RidgePath, Standardization


def mass_mean_fold(
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
    """Projection on the difference of the class means, scaled by least squares on the training rows.

    With a centred 0/1 target c the difference of means is proportional to Z^T c, so the projections of all
    targets are one product with Z Z^T. Without groups the inner blocks are every tenth row.
    """
    scaler = Standardization.of(train)
    rows = scaler.apply(train)
    gram = rows @ rows.T
    n = len(rows)
    blocks = inner_blocks(codes) or _every_tenth(n)
    held_out = np.empty_like(targets)
    for block in blocks:
        rest = np.setdiff1d(np.arange(n), block, assume_unique=True)
        held_out[block] = _project(gram[np.ix_(rest, rest)], gram[np.ix_(block, rest)], targets[rest])
    cross = scaler.apply(test) @ rows.T
    predictions = _project(gram, np.vstack([cross, gram]), targets)
    errors = np.mean((targets - held_out) ** 2, axis=0)
    left_out = None
    if units is not None:
        left_out = np.stack([_directions_without(gram, cross, targets[:, c], units) for c in calibrate])
    return FoldFit(
        inner_error=errors,
        penalty=np.full(targets.shape[1], np.nan),
        test=predictions[: len(test)],
        held_out=held_out[:, calibrate],
        spread=predictions[len(test) :].std(axis=0),
        left_out=left_out,
    )


def mass_mean_whitened_fold(
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
    """Linear discriminant analysis, scaled by least squares on the training rows: `MassMeanProbe(whiten=True)`.

    The direction is that of a ridge regression (see `linear.shrinkage_penalty`), so one decomposition serves all
    targets. The penalty is that of all training rows also where a block is left out; it never sees a target.
    """
    scaler = Standardization.of(train)
    path = RidgePath.of(scaler.apply(train), device=device)
    penalty = shrinkage_penalty(path)
    n, m = targets.shape
    blocks = inner_blocks(codes) or _every_tenth(n)
    everywhere = np.full(m, penalty)
    left = path.left
    shrunk = left * (path.eigenvalues / (path.eigenvalues + penalty))
    mean = targets.mean(axis=0)
    fitted = mean + shrunk @ (left.T @ (targets - mean))
    residuals = path.held_out_residuals(targets, everywhere, blocks)
    held_out = np.empty_like(targets)
    for block in blocks:
        rest = np.setdiff1d(np.arange(n), block, assume_unique=True)
        # A fit without the block is the fit to all rows with the block's targets replaced by its own predictions.
        seen = fitted[rest] - (1 / n + shrunk[rest] @ left[block].T) @ residuals[block]
        held_out[block] = _line(seen, targets[rest], targets[block] - residuals[block])
    coordinates = path.coordinates(scaler.apply(test))
    new = _line(fitted, targets, np.vstack([path.predict(coordinates, targets, everywhere), fitted]))
    errors = np.mean((targets - held_out) ** 2, axis=0)
    left_out = None
    if units is not None:
        # The line rises, and takes nothing from deviations that are in units of their spread.
        fits = [path.left_out(coordinates, targets[:, c], penalty, units) for c in calibrate]
        left_out = np.stack([in_spreads(*fit) for fit in fits])
    return FoldFit(
        inner_error=errors,
        penalty=np.full(m, np.nan),
        test=new[: len(test)],
        held_out=held_out[:, calibrate],
        spread=new[len(test) :].std(axis=0),
        left_out=left_out,
    )


def _project(gram: Array, cross: Array, targets: Array) -> Array:
    """Least-squares prediction from the projection on the class-mean difference; rows of `cross` are new."""
    centred = targets - targets.mean(axis=0)
    return _line(gram @ centred, targets, cross @ centred)


def _directions_without(gram: Array, cross: Array, target: Array, units: Array) -> Array:
    """Deviations [k, u] of new rows along mean differences without a unit of rows, in units of their spread."""
    kept = units[:, None] != np.arange(units.max() + 1)
    sizes = kept.sum(axis=0)
    centred = kept * (target[:, None] - target @ kept / sizes)
    projected = gram @ centred
    offset = np.sum(projected * kept, axis=0) / sizes
    return in_spreads(cross @ centred - offset, projected.std(axis=0))


def _line(scores: Array, targets: Array, new: Array) -> Array:
    """Least-squares line of each column of `targets` on its column of `scores`, at the `new` scores."""
    mean, offset = targets.mean(axis=0), scores.mean(axis=0)
    centred = scores - offset
    spread = np.sum(centred**2, axis=0)
    covariance = np.sum((targets - mean) * centred, axis=0)
    slope = np.divide(covariance, spread, out=np.zeros_like(spread), where=spread > 0)
    return mean + slope * (new - offset)


def _every_tenth(n: int) -> list[Array]:
    """Inner blocks where there are no groups."""
    return [np.arange(start, n, INNER_BLOCKS) for start in range(min(INNER_BLOCKS, n))]


def logistic_fold(
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
    """Logistic regression as `LogisticProbe` fits it, for all targets at once; predictions are probabilities."""
    scaler = Standardization.of(train)
    path = LogisticPath(scaler.apply(train), caller="The logistic probe", device=device)
    losses, starts = path.inner_log_loss(targets, penalties, codes)
    chosen, columns = losses.argmin(axis=0), np.arange(targets.shape[1])
    penalty = np.asarray(penalties)[chosen]
    fitted = path.fit(targets, penalty, starts[chosen, columns])
    new = scaler.apply(test)
    left_out = None
    if units is not None:
        left_out = np.stack([path.left_out(fitted, c, targets[:, c], penalty[c], new, units) for c in calibrate])
    return FoldFit(
        inner_error=losses[chosen, columns],
        penalty=penalty,
        test=path.predict(fitted, new),
        held_out=None,
        spread=path.fitted(fitted).std(axis=0),
        left_out=left_out,
    )

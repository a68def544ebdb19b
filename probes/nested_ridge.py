"""Out-of-fold ridge predictions from features of one's own making, the penalty chosen inside each training fold.

What a sweep does to a layer, for features that are no activations: measures of the output, lengths, words. Features may
be made anew in each fold, from its training rows, so that nothing fitted to make them has seen a test row. The inner
rows that choose the penalty are those of the sweep (`folds.inner_blocks`); within a training fold they share what was
fitted to make the features, which never sees a target.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .device import fewer_threads
from .fold_fit import in_spreads
from .folds import Folds, inner_blocks
from .linear import RIDGE_PENALTIES
from .ridge_path import RidgePath, Standardization, smallest_error

Array = np.ndarray

FoldFeatures = Callable[[int, Array, Array], tuple[Array, Array]]
"""From a fold's number, its training rows [n] and its test rows [k] to their features, [n, q] and [k, q]."""


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Predictions of n rows over F outer folds.

    Attributes:
        predictions: [n], each row by a model that never saw it.
        deviations: [n], predictions less the mean of their training rows, in units of the standard deviation of the
            model's predictions of those rows; 0 where these are all alike. As `LayerSweep.deviations`.
        inner: [F, n], for each fold the predictions of its training rows by inner models that never saw them; NaN in
            the test rows.
        penalties: [F], as chosen.
        n_features: [F], those that vary in the training rows.
        left_out: [n, U], deviations by fits without one unit of training rows (in the unit's own fold the same), which
            `jackknife` takes; None where no units were given.
    """

    predictions: Array
    deviations: Array
    inner: Array
    penalties: Array
    n_features: Array
    left_out: Array | None


def nested_ridge(
    features: FoldFeatures | Array,
    y: Array,
    folds: Folds,
    *,
    penalties: Sequence[float] = RIDGE_PENALTIES,
    scale: bool = True,
    strengths: Array | None = None,
    units: Array | None = None,
    device: str = "cpu",
) -> OutOfFold:
    """Predict each row by a ridge regression on the rows outside its fold.

    Args:
        features: [n, q], or a function that makes them for one fold.
        y: [n] target.
        folds: the outer folds.
        penalties: to choose from, ascending; on squared weights of the features as they are after scaling.
        scale: divide each feature by its standard deviation over the training rows; otherwise they are only centred.
        strengths: [q], multiplied into the scaled features: a feature of strength s has a penalty of s^-2 times that of
            one of strength 1.
        units: [n] unit of each row as 0, 1, ..., for fits without one unit (`jackknife_units`); None makes none.
        device: where torch decomposes.

    Returns:
        The predictions; where no feature varies, the mean of the training rows.
    """
    predictions, deviations = np.empty(len(y)), np.zeros(len(y))
    inner = np.full((len(folds.test), len(y)), np.nan)
    left_out = None if units is None else np.zeros((len(y), int(units.max()) + 1))
    chosen, widths = np.empty(len(folds.test)), np.empty(len(folds.test), dtype=np.int64)
    with fewer_threads(len(y)):
        for fold, test in enumerate(folds.test):
            train = folds.train(fold)
            of_train, of_test = features(fold, train, test) if callable(features) else (features[train], features[test])
            scaler = Standardization.of(of_train)
            varies = scaler.inverse_scale > 0
            weight = scaler.inverse_scale if scale else varies.astype(np.float64)
            scaler = Standardization(scaler.mean, weight if strengths is None else weight * strengths)
            widths[fold] = varies.sum()
            target = y[train][:, None]
            if not varies.any():
                predictions[test], inner[fold, train], chosen[fold] = target.mean(), target.mean(), np.nan
                continue
            path = RidgePath.of(scaler.apply(of_train), device=device)
            blocks = inner_blocks(None if folds.group_codes is None else folds.group_codes[train])
            best = smallest_error(path.held_out_errors(target, penalties, blocks))
            chosen[fold] = np.asarray(penalties)[best[0]]
            coordinates = path.coordinates(scaler.apply(of_test))
            predictions[test] = path.predict(coordinates, target, chosen[[fold]])[:, 0]
            spread = path.spread(target, chosen[[fold]])
            deviations[test] = in_spreads(predictions[test, None] - target.mean(), spread)[:, 0]
            if units is not None and left_out is not None:
                left_out[test] = deviations[test, None]
                trained, member = np.unique(units[train], return_inverse=True)
                if len(trained) > 1:  # a single unit cannot be left out: nothing would be trained on
                    without = path.left_out(coordinates, target[:, 0], chosen[fold], member)
                    left_out[np.ix_(test, trained)] = in_spreads(*without)
            residuals = path.held_out_residuals(target, chosen[[fold]], blocks)
            inner[fold, train] = (target - residuals)[:, 0]
    return OutOfFold(predictions, deviations, inner, chosen, widths, left_out)

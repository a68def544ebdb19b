"""A probe stacked on the output measures, out of fold: what each side knows that the other does not.

Stacked generalisation (Wolpert 1992, doi:10.1016/S0893-6080(05)80023-1) inside each outer fold:

1. The probe's predictions of the training rows come from inner models that never saw them
   (`LayerSweep.inner_predictions`), those of the test rows from the fold's probe. Both are taken as deviations from the
   mean of the rows that their model was fitted to: the mean itself tells nothing, and leaving a row out moves it away
   from the row.
2. `measures`: ridge of the target on the output measures and their ranks, the penalty chosen inside the training fold.
3. `both`: the same with the probe's deviation as one more feature, which the penalty leaves alone. With a strong
   penalty this is the probe recalibrated, with a weak one the regression on everything, so that neither side pays for
   the number of features of the other.
4. A 0/1 target is regressed by least squares like any other, and its predictions are turned into probabilities by a
   logistic curve through the inner predictions of the training rows (Platt 1999), as those of the probe are.

Only what is linear in measures, ranks and probe is stacked: a redundancy that needs a product of them is not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from .folds import Folds, inner_blocks, is_binary
from .nested_ridge import OutOfFold, nested_ridge
from .output_columns import MeasureFeatures
from .sweep import LayerSweep
from .sweep_record import sigmoid_through

Array = np.ndarray

# Times the strength of a measure: a penalty of a millionth.
PROBE_STRENGTH = 1000.0


@dataclass(frozen=True, eq=False)
class Predicted:
    """Out-of-fold predictions of n rows.

    Attributes:
        raw: [n], as they were made; probabilities for a 0/1 target. What R2 is taken of.
        comparable: [n], to be ranked or correlated over all folds (`comparable`).
    """

    raw: Array
    comparable: Array


@dataclass(frozen=True, eq=False)
class Stacked:
    """Predictions of one target from three sides, on the same folds.

    Attributes:
        probe, measures, both: from the nested probe, from the output measures, and from the probe stacked on them.
        baseline: [n], mean of the target over the training rows of each row's fold.
        fold: [n], number of the outer fold in which a row was held out.
    """

    probe: Predicted
    measures: Predicted
    both: Predicted
    baseline: Array
    fold: Array


def stack(result: LayerSweep, columns: pd.DataFrame) -> Stacked:
    """Stack a sweep's nested probe on output measures.

    Args:
        result: of a ridge or mass-mean probe, over n rows.
        columns: [n, m] measures of the same rows, NaN where missing.

    Raises:
        ValueError: another number of rows, or a sweep without inner predictions (of a logistic probe).
    """
    inner, y, folds = result.inner_predictions, result.target, result.folds
    if inner is None:
        raise ValueError(
            "The result parameter of stack must have inner predictions. Got a sweep of logistic probes, which has "
            "none; use kind='ridge'."
        )
    if len(columns) != len(y):
        raise ValueError(
            f"The columns parameter of stack must have a row for each of the {len(y)} rows of the sweep. Got "
            f"{len(columns)} instead."
        )
    binary = is_binary(y)
    features = MeasureFeatures(columns)
    measures = nested_ridge(features, y, folds)
    means = inner_means(y, folds)
    probe = result.nested_predictions - result.baseline

    def with_probe(fold: int, train: Array, test: Array) -> tuple[Array, Array]:
        of_train, of_test = features(fold, train, test)
        deviation = (inner[fold] - means[fold])[train]
        return np.column_stack([deviation, of_train]), np.column_stack([probe[test], of_test])

    width = 1 + features(0, folds.train(0), folds.test[0])[0].shape[1]
    both = nested_ridge(with_probe, y, folds, strengths=np.r_[PROBE_STRENGTH, np.ones(width - 1)])
    fold = np.empty(len(y), dtype=np.int64)
    for number, rows in enumerate(folds.test):
        fold[rows] = number
    raw = [_probabilities(found, y, folds) if binary else found.predictions for found in (measures, both)]
    own = result.nested_predictions if result.nested_probabilities is None else result.nested_probabilities
    base = result.baseline
    return Stacked(
        probe=Predicted(own, comparable(own, result.nested_deviations, base, y)),
        measures=Predicted(raw[0], comparable(raw[0], measures.deviations, base, y)),
        both=Predicted(raw[1], comparable(raw[1], both.deviations, base, y)),
        baseline=base,
        fold=fold,
    )


def comparable(predictions: Array, deviations: Array, baseline: Array, y: Array) -> Array:
    """Predictions that can be ranked or correlated over all folds, [n].

    Of a continuous target the deviations in units of each fold's spread (`LayerSweep.deviations`), put back on the
    scale of the target by two constants: the mean of all rows, and the factor that keeps the mean square of
    predictions - baseline. Their correlation with the target is that of the deviations. Of a 0/1 target the
    probabilities, each training fold's base rate replaced by that of all rows on the scale of log-odds.
    """
    if is_binary(y):
        return expit(logit(predictions) - logit(baseline) + logit(y.mean()))
    size = float(np.sqrt(np.mean(deviations**2)))
    factor = float(np.sqrt(np.mean((predictions - baseline) ** 2))) / size if size > 0 else 0.0
    return y.mean() + factor * deviations


def inner_means(y: Array, folds: Folds) -> Array:
    """Mean of the target over the rows that each inner model was fitted to, [F, n]; NaN in the test rows."""
    means = np.full((len(folds.test), len(y)), np.nan)
    for fold in range(len(folds.test)):
        train = folds.train(fold)
        own = y[train]
        blocks = inner_blocks(None if folds.group_codes is None else folds.group_codes[train])
        for block in blocks if blocks is not None else np.arange(len(train))[:, None]:
            means[fold, train[block]] = (own.sum() - own[block].sum()) / (len(own) - len(block))
    return means


def _probabilities(found: OutOfFold, y: Array, folds: Folds) -> Array:
    """Probabilities [n] from least-squares predictions, each fold's by its own training rows."""
    probabilities = np.empty(len(y))
    for fold, test in enumerate(folds.test):
        train = folds.train(fold)
        probabilities[test] = sigmoid_through(found.inner[fold, train], y[train], found.predictions[test])
    return probabilities

"""What two targets' out-of-fold predictions say about both targets: cross-prediction, partial scores, shared variance.

1. Scores: Pearson correlation with a numeric target, AUROC of a 0/1 target. A prediction is the deviation from its
   training fold's mean, in units of its spread (see `sweep_record`).
2. Cross-prediction: one target's prediction scored against the other target.
3. Partial scores: the partial correlation of a target with its own prediction, given the other target or given the
   other prediction.
4. Shared and separate variance: the target is regressed on its own prediction, on the other's and on both. Each
   regression is fitted inside the training fold, to predictions of the training rows by inner models that never saw
   them (stacking; Wolpert 1992, doi:10.1016/S0893-6080(05)80023-1); R2 is against the training fold's mean. A
   prediction's unique part is what the R2 of both loses without it, and the rest is shared (commonality analysis;
   Newton and Spurrell 1967, doi:10.2307/2985237). The shared part is negative where one prediction hides what the
   other tells (suppression), or where neither tells anything: out of fold an R2 may be below 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import scores
from .folds import Folds, is_binary

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class PredictedTarget:
    """A target with its out-of-fold prediction.

    Attributes:
        values: [n], numbers or 0/1.
        deviation: [n], prediction minus the mean of the row's training fold, in units that make folds comparable.
        held_out: [F, n], for each fold the same of its training rows, in the units of its test rows, by inner models
            that saw neither the row (its group) nor the fold's test rows; NaN in the test rows.
        turned: cross-predictions count the target as 1 - value and the prediction as its negative: correctness as
            error.
    """

    values: Array
    deviation: Array
    held_out: Array
    turned: bool = False

    @property
    def score_name(self) -> str:
        """`auroc` for a 0/1 target, `pearson` for any other."""
        return "auroc" if is_binary(self.values) else "pearson"

    def crossed(self) -> tuple[Array, Array]:
        """Target and prediction in the direction that cross-predictions use."""
        return (1.0 - self.values, -self.deviation) if self.turned else (self.values, self.deviation)


def cross_prediction(
    first: PredictedTarget, second: PredictedTarget, folds: Folds, weights: Array
) -> dict[str, float | str]:
    """Figures of two predicted targets of the same n rows; intervals are percentiles over weighted resamples.

    Args:
        first, second: the targets with their predictions, from the same folds.
        folds: these folds.
        weights: [b, n] how often each resample draws each row; see `scores.bootstrap_weights`.

    Returns:
        `prediction_correlation`, the Pearson correlation of both predictions; `first_score_name`, `first_score`,
        `first_on_second` (the first prediction scored against the second target), `first_given_second` and
        `first_given_second_probe` (partial scores), `first_r2_own`, `first_r2_other`, `first_r2_both` (R2 of the first
        target by its own prediction, the other's, both), `first_unique_own`, `first_unique_other`, `first_shared`;
        and the same with the places exchanged. All but the correlation, the names and the `r2` have `_ci_low` and
        `_ci_high`. Constant predictions give AUROC 0.5, other scores NaN.
    """
    figures: dict[str, float | str] = {
        "prediction_correlation": scores.pearson(first.deviation, second.deviation),
        "first_score_name": first.score_name,
        "second_score_name": second.score_name,
    }
    for name, other_name, own, other in (("first", "second", first, second), ("second", "first", second, first)):
        figures |= _scored(f"{name}_score", own.values, own.deviation, weights)
        figures |= _scored(f"{name}_on_{other_name}", other.crossed()[0], own.crossed()[1], weights)
        for suffix, given in (("", other.values), ("_probe", other.deviation)):
            columns = np.column_stack([own.values, own.deviation, given])
            figures |= _partial(f"{name}_given_{other_name}{suffix}", columns, weights)
        figures |= _shared(name, own, other, folds, weights)
    return figures


def _scored(name: str, target: Array, prediction: Array, weights: Array) -> dict[str, float]:
    if is_binary(target):
        value = float(scores.auroc(target, prediction))
        interval = scores.auroc_interval(target, prediction, weights)
        # Constant predictions are 0.5 in every resample, which is no interval.
        if np.ptp(prediction) == 0:
            interval = (float("nan"), float("nan"))
    else:
        value = scores.pearson(target, prediction)
        interval = scores.pearson_interval(target, prediction, weights)
    return _with_interval(name, value, interval)


def _partial(name: str, columns: Array, weights: Array) -> dict[str, float]:
    """Partial correlation of the first two of three columns [n, 3], given the third."""
    spread = columns.std(axis=0)
    if (spread <= 1e-12 * np.maximum(1.0, np.abs(columns).max(axis=0))).any():
        return _with_interval(name, float("nan"), (float("nan"), float("nan")))
    scaled = (columns - columns.mean(axis=0)) / spread
    ones = np.ones((1, len(columns)))
    value = float(_partial_correlations(scaled, ones)[0])
    return _with_interval(name, value, _interval(_partial_correlations(scaled, weights)))


def _partial_correlations(scaled: Array, weights: Array) -> Array:
    """Partial correlations [b] of columns 0 and 1 given 2 over weighted resamples; NaN where there is none."""
    total = weights.sum(axis=1)
    means = (weights @ scaled).T / total
    second = {
        (i, j): weights @ (scaled[:, i] * scaled[:, j]) / total - means[i] * means[j]
        for i in range(3)
        for j in range(i, 3)
    }
    with np.errstate(invalid="ignore", divide="ignore"):
        r = {(i, j): second[i, j] / np.sqrt(second[i, i] * second[j, j]) for i, j in ((0, 1), (0, 2), (1, 2))}
        rest = (1.0 - r[0, 2] ** 2) * (1.0 - r[1, 2] ** 2)
        # Where the third column determines another, nothing is left to correlate.
        partial = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt(np.where(rest > 1e-12, rest, np.nan))
    return np.asarray(partial)


def _shared(
    name: str, own: PredictedTarget, other: PredictedTarget, folds: Folds, weights: Array
) -> dict[str, float | str]:
    models: tuple[list[PredictedTarget], ...] = ([], [own], [other], [own, other])
    errors = np.column_stack([_stacked_error(own.values, model, folds) for model in models])
    figures: dict[str, float | str] = {}
    value, draws = _r2(errors, np.ones((1, len(errors)))), _r2(errors, weights)
    own_r2, other_r2, both = value[0].tolist()
    figures |= {f"{name}_r2_own": own_r2, f"{name}_r2_other": other_r2, f"{name}_r2_both": both}
    for part, mix in (("unique_own", (0, -1, 1)), ("unique_other", (-1, 0, 1)), ("shared", (1, 1, -1))):
        figures |= _with_interval(f"{name}_{part}", float(value[0] @ mix), _interval(draws @ mix))
    return figures


def _r2(errors: Array, weights: Array) -> Array:
    """R2 [b, 3] of three models over weighted resamples, from squared errors [n, 4], the mean's in front."""
    total = weights @ errors
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1.0 - total[:, 1:] / np.where(total[:, :1] > 0, total[:, :1], np.nan)


def _stacked_error(target: Array, predicted: Sequence[PredictedTarget], folds: Folds) -> Array:
    """Squared error [n] of linear regressions of [n] on predictions, one fitted to each fold's training rows."""
    error = np.empty(len(target))
    for fold, test in enumerate(folds.test):
        train = folds.train(fold)
        inner, outer = (
            np.column_stack([np.ones(len(rows)), *(one[rows] for one in columns)])
            for rows, columns in (
                (train, [part.held_out[fold] for part in predicted]),
                (test, [part.deviation for part in predicted]),
            )
        )
        # Strong penalties make predictions tiny; on one scale, `lstsq` does not take them for rounding.
        scale = np.sqrt(np.mean(inner**2, axis=0))
        scale[scale == 0] = 1.0
        coefficients = np.linalg.lstsq(inner / scale, target[train], rcond=None)[0]
        error[test] = (target[test] - outer / scale @ coefficients) ** 2
    return error


def _with_interval(name: str, value: float, interval: tuple[float, float]) -> dict[str, float]:
    return {name: value, f"{name}_ci_low": interval[0], f"{name}_ci_high": interval[1]}


def _interval(draws: Array) -> tuple[float, float]:
    """95 % percentile interval; NaN where more than 5 % of the draws are (see `scores.MAX_DEGENERATE`)."""
    known = draws[np.isfinite(draws)]
    if len(known) < (1 - scores.MAX_DEGENERATE) * len(draws):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)

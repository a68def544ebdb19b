"""What a sweep keeps of one target while layers and folds go by, and the table it becomes.

Correlations and areas under curves compare the target with the predictions' deviations from the mean of their
training rows, in units of the standard deviation of the training rows' predictions. Mean and spread know nothing
about a row, but pooled over folds they would bias the score downwards. A fold whose targets are high leaves a low
mean behind. And rows that by chance run against the others make the probes of the other folds, which have seen them,
spread less than the one that they are tested by, which then weighs more: without a signal the correlation would be
-0.06 on average, instead of 0, in 400 rows of 32 features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss

from . import scores
from .fold_fit import FoldFit, in_spreads
from .folds import Folds, is_binary
from .jackknife import jackknife_interval, jackknife_units

Array = np.ndarray


class TargetRecord:
    """Out-of-fold predictions, choices and null scores of one target; column 0 is the target as it is.

    Args:
        columns: the target and its permutations, [n, 1 + B].
        folds: the outer folds.
        n_layers: number of layers L.
    """

    def __init__(self, columns: Array, folds: Folds, n_layers: int) -> None:
        n, m = columns.shape
        self.columns = columns
        self.target = columns[:, 0]
        self.folds = folds
        self.binary = is_binary(self.target)
        self.baseline = np.empty_like(columns)
        for fold, rows in enumerate(folds.test):
            self.baseline[rows] = columns[folds.train(fold)].mean(axis=0)
        shape = (n_layers, n)
        self.predictions = np.empty(shape)
        self.deviations = np.empty(shape)
        self.intervals = np.full((n_layers, 2), np.nan)
        self.probabilities = np.empty(shape) if self.binary else None
        self.penalties = np.empty((n_layers, len(folds.test)))
        self.scores = np.empty((n_layers, m))
        self.correlations = np.full((n_layers, m), np.nan)
        self.flat = np.zeros(n_layers, dtype=bool)
        self.least_error = np.full((len(folds.test), m), np.inf)
        self.nested = np.empty((n, m))
        self.nested_deviation = np.empty((n, m))
        self.nested_probabilities = np.empty(n) if self.binary else None
        self.nested_index = np.zeros(len(folds.test), dtype=np.int64)
        self.inner_predictions: Array | None = np.full((len(folds.test), n), np.nan)
        self.units = jackknife_units(folds)
        self._layer, self._deviation = np.empty((n, m)), np.empty((n, m))
        self._left_out = np.empty((n, int(self.units.max()) + 1))
        self._nested_left_out = np.empty_like(self._left_out)

    def add_fold(self, layer: int, fold: int, fit: FoldFit, trained: Array) -> None:
        """Take one fold's predictions; the layer with the least inner error so far gives the nested ones.

        Args:
            layer: position of the layer.
            fold: position of the fold.
            fit: the fold's result for this target's columns, with held-out predictions and fits without a unit of
                column 0.
            trained: the units that were left out of training, one a time.
        """
        rows = self.folds.test[fold]
        held_out = None if fit.held_out is None else fit.held_out[:, 0]
        self._layer[rows] = fit.test
        self._deviation[rows] = in_spreads(fit.test - self.baseline[rows], fit.spread)
        self._left_out[rows] = self._deviation[rows, :1]
        if fit.left_out is not None:
            self._left_out[np.ix_(rows, trained)] = fit.left_out[0]
        self.predictions[layer, rows] = fit.test[:, 0]
        self.penalties[layer, fold] = fit.penalty[0]
        if self.probabilities is not None:
            observed = fit.test[:, 0]
            if held_out is not None:
                observed = sigmoid_through(held_out, self.target[self.folds.train(fold)], observed)
            self.probabilities[layer, rows] = observed
        # Strictly less: of equal layers the first stays.
        better = fit.inner_error < self.least_error[fold]
        self.least_error[fold, better] = fit.inner_error[better]
        chosen = np.ix_(rows, better)
        self.nested[chosen], self.nested_deviation[chosen] = fit.test[:, better], self._deviation[chosen]
        if better[0]:
            self.nested_index[fold] = layer
            self._nested_left_out[rows] = self._left_out[rows]
            if held_out is None:
                self.inner_predictions = None
            elif self.inner_predictions is not None:
                self.inner_predictions[fold, self.folds.train(fold)] = held_out
            if self.probabilities is not None and self.nested_probabilities is not None:
                self.nested_probabilities[rows] = self.probabilities[layer, rows]

    def close_layer(self, layer: int, flat: bool) -> None:
        """Score the layer's finished predictions; `flat`: its features are constant and can tell nothing."""
        self.flat[layer] = flat
        self.deviations[layer] = 0.0 if flat else self._deviation[:, 0]
        if flat:
            self.scores[layer] = 0.5 if self.binary else 0.0
        else:
            self.scores[layer] = self._score(self._layer, self._deviation)
            self.intervals[layer] = self._interval(self._deviation, self._left_out)
            if not self.binary:
                self.correlations[layer] = scores.pearson_columns(self.columns, self._deviation)

    def _score(self, predictions: Array, deviations: Array) -> Array:
        if self.binary:
            return scores.auroc(self.columns, deviations)
        return scores.r2(self.columns, predictions, self.baseline)

    def _interval(self, deviations: Array, left_out: Array) -> tuple[float, float]:
        return jackknife_interval(self.target, deviations[:, 0], left_out, self.units, binary=self.binary)

    def nested_scores(self) -> Array:
        """Nested score [1 + B] of the target and its permutations."""
        return self._score(self.nested, self.nested_deviation)

    def table(
        self, layers: Sequence[Any], probe: str, permutation: str, n_bootstrap: int, rng: np.random.Generator
    ) -> pd.DataFrame:
        """One row per layer; columns as `LayerSweep` lists them."""
        n, n_null = len(self.target), self.columns.shape[1] - 1
        within = scores.best_interval(self._ranking_draws(n_bootstrap, rng))
        low_layer, high_layer = (None, None) if within is None else (layers[position] for position in within)
        highest = self.scores[:, 1:].max(axis=0)
        best = int(np.argmax(self.scores[:, 0]))
        nested = self.nested_scores()
        nested_flat = bool(self.flat[self.nested_index].all())
        nested_low = nested_high = nested_pearson = float("nan")
        if not nested_flat:
            nested_low, nested_high = self._interval(self.nested_deviation, self._nested_left_out)
            if not self.binary:
                nested_pearson = scores.pearson(self.target, self.nested_deviation[:, 0])
        rows = []
        for index, layer in enumerate(layers):
            null, null_r = self.scores[index, 1:], self.correlations[index, 1:]
            low, high = self.intervals[index]
            row = {
                "layer": layer,
                "n": n,
                "n_groups": self.folds.n_groups,
                "folds": len(self.folds.test),
                "probe": probe,
                "score_name": "auroc" if self.binary else "r2",
                "score": self.scores[index, 0],
                **self._figures(index),
                "ci_low": low,
                "ci_high": high,
                "null_mean": null.mean() if n_null else np.nan,
                "null_sd": null.std(ddof=1) if n_null > 1 else np.nan,
                "null_pearson_mean": null_r.mean() if n_null else np.nan,
                "null_pearson_sd": null_r.std(ddof=1) if n_null > 1 else np.nan,
                "p": scores.p_value(self.scores[index, 0], null),
                "p_max": scores.p_value(self.scores[index, 0], highest),
                "best": index == best,
                "layer_low": low_layer,
                "layer_high": high_layer,
                "nested_score": nested[0],
                "nested_p": scores.p_value(nested[0], nested[1:]),
                "nested_pearson": nested_pearson,
                "nested_ci_low": nested_low,
                "nested_ci_high": nested_high,
                "permutation": permutation,
                "n_permutations": n_null,
                "note": self._note(index, low),
            }
            rows.append(row)
        return pd.DataFrame(rows).astype({"n_groups": "Int64"})

    def _figures(self, index: int) -> dict[str, float]:
        names = ("r2", "pearson", "spearman", "auroc", "auprc", "brier", "log_loss")
        figures = dict.fromkeys(names, float("nan"))
        y, deviation = self.target, self.deviations[index]
        if self.probabilities is None:
            figures["r2"] = self.scores[index, 0]
            if not self.flat[index]:
                figures["pearson"] = scores.pearson(y, deviation)
                figures["spearman"] = scores.spearman(y, deviation)
            return figures
        figures["auroc"] = self.scores[index, 0]
        figures["auprc"] = y.mean() if self.flat[index] else float(average_precision_score(y, deviation))
        figures["brier"] = float(brier_score_loss(y, self.probabilities[index]))
        figures["log_loss"] = float(log_loss(y, self.probabilities[index]))
        return figures

    def _ranking_draws(self, n_bootstrap: int, rng: np.random.Generator) -> Array:
        """Scores [b, L] by which layers are ranked, in resamples of whole groups or of rows, the probes held fixed."""
        weights = scores.bootstrap_weights(len(self.target), self.folds.group_codes, n_bootstrap, rng)
        if self.binary:
            return np.column_stack([scores.auroc_draws(self.target, own, weights) for own in self.deviations])
        # R2 in the order of its squared errors, whose yardstick all layers share.
        return -weights @ ((self.target - self.predictions) ** 2).T

    def _note(self, index: int, low: float) -> str | None:
        notes = [] if self.folds.note is None else [self.folds.note]
        if self.flat[index]:
            notes.append("the layer's activations are the same in every row")
        elif np.isnan(low):
            notes.append("no interval: there is no score without some of the groups, or rows")
        return "; ".join(notes) or None


def sigmoid_through(held_out: Array, labels: Array, new: Array) -> Array:
    """Probabilities [k] for new predictions, by a logistic curve through held-out training predictions.

    Platt 1999 on rows that the predicting model had not seen. Where the curve would fall (held-out
    predictions of noise run against the labels, since leaving a row out moves the mean away from it) the
    answer is the base rate.
    """
    spread = held_out.std()
    base = np.full(len(new), labels.mean())
    if spread <= 1e-12:
        return base
    centre = held_out.mean()
    model = LogisticRegression(C=1.0).fit(((held_out - centre) / spread)[:, None], labels)
    if model.coef_[0, 0] <= 0:
        return base
    return model.predict_proba(((new - centre) / spread)[:, None])[:, 1]

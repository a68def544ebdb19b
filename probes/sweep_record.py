"""What a sweep keeps of one target while layers and folds go by, and the table it becomes.

Correlations and areas under curves compare the target with the predictions' deviations from the mean of their
training rows. The mean itself knows nothing about a row, but a fold whose targets are high leaves a low mean
behind: pooled over folds, a probe that predicts nothing but the mean would correlate negatively.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss

from . import scores
from .fold_fits import FoldFit
from .folds import Folds, is_binary

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
        self.probabilities = np.empty(shape) if self.binary else None
        self.penalties = np.empty((n_layers, len(folds.test)))
        self.scores = np.empty((n_layers, m))
        self.correlations = np.full((n_layers, m), np.nan)
        self.flat = np.zeros(n_layers, dtype=bool)
        self.least_error = np.full((len(folds.test), m), np.inf)
        self.nested = np.empty((n, m))
        self.nested_probabilities = np.empty(n) if self.binary else None
        self.nested_index = np.zeros(len(folds.test), dtype=np.int64)
        self.inner_predictions: Array | None = np.full((len(folds.test), n), np.nan)
        self._layer = np.empty((n, m))

    def add_fold(self, layer: int, fold: int, fit: FoldFit, held_out: Array | None) -> None:
        """Take one fold's predictions; the layer with the least inner error so far gives the nested ones.

        Args:
            layer: position of the layer.
            fold: position of the fold.
            fit: the fold's result for this target's columns.
            held_out: [n - k] held-out predictions of the training rows for column 0, or None.
        """
        rows = self.folds.test[fold]
        self._layer[rows] = fit.test
        self.predictions[layer, rows] = fit.test[:, 0]
        self.penalties[layer, fold] = fit.penalty[0]
        if self.probabilities is not None:
            observed = fit.test[:, 0]
            if held_out is not None:
                observed = _sigmoid(held_out, self.target[self.folds.train(fold)], observed)
            self.probabilities[layer, rows] = observed
        # Strictly less: of equal layers the first stays.
        better = fit.inner_error < self.least_error[fold]
        self.least_error[fold, better] = fit.inner_error[better]
        self.nested[np.ix_(rows, better)] = fit.test[:, better]
        if better[0]:
            self.nested_index[fold] = layer
            if held_out is None:
                self.inner_predictions = None
            elif self.inner_predictions is not None:
                self.inner_predictions[fold, self.folds.train(fold)] = held_out
            if self.probabilities is not None and self.nested_probabilities is not None:
                self.nested_probabilities[rows] = self.probabilities[layer, rows]

    def close_layer(self, layer: int, flat: bool) -> None:
        """Score the layer's finished predictions; `flat`: its features are constant and can tell nothing."""
        self.flat[layer] = flat
        if flat:
            self.scores[layer] = 0.5 if self.binary else 0.0
        else:
            self.scores[layer] = self._score(self._layer)
            if not self.binary:
                deviation = self._layer - self.baseline
                self.correlations[layer] = scores.pearson_columns(self.columns, deviation)

    def _score(self, predictions: Array) -> Array:
        if self.binary:
            return scores.auroc(self.columns, predictions - self.baseline)
        return scores.r2(self.columns, predictions, self.baseline)

    def nested_scores(self) -> Array:
        """Nested score [1 + B] of the target and its permutations."""
        return self._score(self.nested)

    def table(
        self, layers: Sequence[Any], probe: str, permutation: str, n_bootstrap: int, rng: np.random.Generator
    ) -> pd.DataFrame:
        """One row per layer; columns as `LayerSweep` lists them."""
        n, n_null = len(self.target), self.columns.shape[1] - 1
        weights = scores.bootstrap_weights(n, self.folds.group_codes, n_bootstrap, rng)
        highest = self.scores[:, 1:].max(axis=0)
        best = int(np.argmax(self.scores[:, 0]))
        nested = self.nested_scores()
        nested_flat = bool(self.flat[self.nested_index].all())
        nested_deviation = (self.nested - self.baseline)[:, 0]
        nested_low, nested_high = self._interval(nested_deviation, weights, nested_flat)
        nested_pearson = float("nan")
        if not self.binary and not nested_flat:
            nested_pearson = scores.pearson(self.target, nested_deviation)
        rows = []
        for index, layer in enumerate(layers):
            null, null_r = self.scores[index, 1:], self.correlations[index, 1:]
            deviation = self.predictions[index] - self.baseline[:, 0]
            low, high = self._interval(deviation, weights, bool(self.flat[index]))
            row = {
                "layer": layer,
                "n": n,
                "n_groups": self.folds.n_groups,
                "folds": len(self.folds.test),
                "probe": probe,
                "score_name": "auroc" if self.binary else "r2",
                "score": self.scores[index, 0],
                **self._figures(index, deviation),
                "ci_low": low,
                "ci_high": high,
                "null_mean": null.mean() if n_null else np.nan,
                "null_sd": null.std(ddof=1) if n_null > 1 else np.nan,
                "null_pearson_mean": null_r.mean() if n_null else np.nan,
                "null_pearson_sd": null_r.std(ddof=1) if n_null > 1 else np.nan,
                "p": scores.p_value(self.scores[index, 0], null),
                "p_max": scores.p_value(self.scores[index, 0], highest),
                "best": index == best,
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

    def _figures(self, index: int, deviation: Array) -> dict[str, float]:
        names = ("r2", "pearson", "spearman", "auroc", "auprc", "brier", "log_loss")
        figures = dict.fromkeys(names, float("nan"))
        y = self.target
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

    def _interval(self, deviation: Array, weights: Array, flat: bool) -> tuple[float, float]:
        if flat:
            return float("nan"), float("nan")
        interval = scores.auroc_interval if self.binary else scores.pearson_interval
        return interval(self.target, deviation, weights)

    def _note(self, index: int, low: float) -> str | None:
        notes = [] if self.folds.note is None else [self.folds.note]
        if self.flat[index]:
            notes.append("the layer's activations are the same in every row")
        elif np.isnan(low):
            notes.append("no interval: too many resamples have no score")
        return "; ".join(notes) or None


def _sigmoid(held_out: Array, labels: Array, new: Array) -> Array:
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

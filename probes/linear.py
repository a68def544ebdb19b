"""Linear probes as scikit-learn estimators: ridge, logistic and mass-mean.

All three standardise the features on the training rows inside `fit` and fold the scaler into `coef_` and
`intercept_`, which are therefore in raw units: score = x @ coef_ + intercept_. A feature that is constant in
training has weight 0. Penalties act on the standardised features, as is usual for residual streams, whose
features differ in scale by orders of magnitude.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import linalg
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.covariance import LedoitWolf
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from .folds import group_codes, inner_blocks
from .ridge_path import Array, RidgePath, Standardization, smallest_error

RIDGE_PENALTIES = tuple(10.0**power for power in range(8))  # 1 to 10^7
LOGISTIC_PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
INNER_FOLDS = 5


class RidgeProbe(RegressorMixin, BaseEstimator):
    """Ridge regression on standardised features, the penalty fixed or chosen without seeing a held-out row.

    A list of penalties is chosen from by the exact leave-one-out squared error, or, when `groups` is given
    to `fit`, by leaving out whole groups (at most ten blocks of them): with clustered rows, leaving out one
    row at a time flatters weak penalties. Centre and scale are those of all training rows throughout. Ties
    go to the stronger penalty. One eigendecomposition of the smaller of the n x n and d x d products serves
    all penalties (leave-one-out form: Golub, Heath and Wahba 1979, doi:10.1080/00401706.1979.10489751).

    Args:
        alpha: penalty on the squared weights of the standardised features, or a sequence to choose from;
            positive. The objective is ||y - Z w - b||^2 + alpha ||w||^2, as in `sklearn.linear_model.Ridge`.

    Attributes:
        coef_: weights in raw units, [d].
        intercept_: float.
        alpha_: the penalty that was used.
        held_out_errors_: mean squared held-out error of each penalty, ascending, [p]; only with a list.
    """

    def __init__(self, alpha: float | Sequence[float] = RIDGE_PENALTIES) -> None:
        self.alpha = alpha

    def fit(self, X: Any, y: Any, groups: Any = None) -> RidgeProbe:
        """Fit on X [n, d] and y [n]; `groups` [n] are left out together when a penalty is chosen."""
        X, y = validate_data(self, X, y, y_numeric=True, dtype=np.float64, ensure_min_samples=2)
        penalties = check_penalties(self.alpha, "alpha", "RidgeProbe")
        scaler = Standardization.of(X)
        path = RidgePath.of(scaler.apply(X))
        target = y.astype(np.float64)[:, None]
        if len(penalties) > 1:
            blocks = inner_blocks(group_codes(groups, len(X)))
            errors = path.held_out_errors(target, penalties, blocks)
            self.held_out_errors_ = errors[:, 0]
            self.alpha_ = penalties[int(smallest_error(errors)[0])]
        else:
            self.alpha_ = penalties[0]
        weights = path.weights(target[:, 0], self.alpha_)
        self.coef_, self.intercept_ = scaler.fold_into(weights, target.mean())
        return self

    def predict(self, X: Any) -> Array:
        """Predicted target [k] for rows X [k, d]."""
        check_is_fitted(self)
        return validate_data(self, X, dtype=np.float64, reset=False) @ self.coef_ + self.intercept_


class _BinaryLinearProbe(ClassifierMixin, BaseEstimator):
    """What the two probes of binary targets share: the linear score is the log-odds of `classes_[1]`."""

    coef_: Array
    intercept_: float
    classes_: Array

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def _check_binary(self, X: Any, y: Any, advice: str) -> tuple[Array, Array]:
        """Validate, set `classes_` and return X [n, d] and y as 0 and 1 [n]."""
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        kind = type_of_target(y, input_name="y", raise_unknown=True)
        name = type(self).__name__
        if kind.startswith("continuous"):
            raise ValueError(f"Unknown label type: {kind}. {name} separates two classes; {advice}.")
        self.classes_, encoded = np.unique(y, return_inverse=True)
        if len(self.classes_) > 2:
            raise ValueError(
                f"Only binary classification is supported. The type of the target is {kind}. "
                f"{name} got {len(self.classes_)} classes; fit one probe per class."
            )
        if len(self.classes_) < 2:
            raise ValueError(f"{name} needs two classes. Got one class only: {self.classes_[0]!r}.")
        return X, encoded.astype(np.float64)

    def decision_function(self, X: Any) -> Array:
        """Log-odds [k] of `classes_[1]` for rows X [k, d]."""
        check_is_fitted(self)
        return validate_data(self, X, dtype=np.float64, reset=False) @ self.coef_ + self.intercept_

    def predict_proba(self, X: Any) -> Array:
        """Probabilities [k, 2] of the two classes, in the order of `classes_`."""
        score = self.decision_function(X)
        return np.column_stack([expit(-score), expit(score)])

    def predict(self, X: Any) -> Array:
        """The more likely class [k] for rows X [k, d]."""
        positive = self.decision_function(X) > 0
        return self.classes_[positive.astype(int)]


class LogisticProbe(_BinaryLinearProbe):
    """Logistic regression with an L2 penalty on standardised features, for binary targets.

    A list of penalties is chosen from by the log loss of five inner folds (stratified, or whole groups when
    `groups` is given to `fit`); ties go to the stronger penalty. With more features than rows the fit runs in
    the rows' own n-dimensional space, which is exact. A fit that does not converge warns and names its C.

    Args:
        C: inverse penalty as in `sklearn.linear_model.LogisticRegression`, or a sequence; positive.
        max_iter: limit on L-BFGS iterations.
        tol: largest gradient entry of the mean loss at convergence.

    Attributes:
        coef_: weights in raw units, [d]; `intercept_`: float; `classes_`: [2].
        C_: the inverse penalty that was used.
        inner_log_loss_: mean held-out log loss of each C in ascending order, [p]; only with a list.
        n_iter_: iterations of the final fit.
    """

    def __init__(
        self, C: float | Sequence[float] = LOGISTIC_PENALTIES, max_iter: int = 10_000, tol: float = 1e-6
    ) -> None:
        self.C = C
        self.max_iter = max_iter
        self.tol = tol

    def fit(self, X: Any, y: Any, groups: Any = None) -> LogisticProbe:
        """Fit on X [n, d] and two-class y [n]; `groups` [n] are left out together when C is chosen."""
        X, y = self._check_binary(X, y, "use RidgeProbe for a continuous target")
        penalties = check_penalties(self.C, "C", "LogisticProbe")
        scaler = Standardization.of(X)
        rows = scaler.apply(X)
        path = RidgePath.of(rows) if rows.shape[1] > rows.shape[0] else None
        coordinates = rows if path is None else path.left * np.sqrt(path.eigenvalues)
        if coordinates.shape[1] == 0:  # every feature is constant: LogisticRegression wants at least one
            coordinates = np.zeros((len(rows), 1))
            path = None
        if isinstance(self.C, (int, float)):
            self.C_ = penalties[0]
        else:
            self.inner_log_loss_ = self._inner_log_loss(coordinates, y, penalties, group_codes(groups, len(y)))
            self.C_ = penalties[int(np.argmin(self.inner_log_loss_))]
        model = self._fit_logistic(coordinates, y, self.C_)
        self.n_iter_ = int(model.n_iter_[0])
        weights = model.coef_[0]
        if path is not None:
            weights = path.rows.T @ (path.left @ (weights / np.sqrt(path.eigenvalues)))
        elif rows.shape[1] != coordinates.shape[1]:
            weights = np.zeros(rows.shape[1])
        self.coef_, self.intercept_ = scaler.fold_into(weights, float(model.intercept_[0]))
        return self

    def _inner_log_loss(self, rows: Array, y: Array, penalties: list[float], codes: Array | None) -> Array:
        if codes is not None and len(np.unique(codes)) > 1:
            splits = list(GroupKFold(min(INNER_FOLDS, len(np.unique(codes)))).split(rows, y, codes))
        else:
            rarest = int(np.bincount(y.astype(int)).min())
            if rarest < 2:
                raise ValueError(
                    "LogisticProbe chooses C on inner folds and needs at least 2 rows of each class. "
                    "Got 1 of one class; pass a single C."
                )
            splits = list(StratifiedKFold(min(INNER_FOLDS, rarest)).split(rows, y))
        losses = np.zeros(len(penalties))
        for train, test in splits:
            if len(np.unique(y[train])) < 2:
                raise ValueError(
                    "LogisticProbe chooses C on inner folds of whole groups, and the training rows of one "
                    "are of a single class; pass a single C or groups=None."
                )
            for index, penalty in enumerate(penalties):
                model = self._fit_logistic(rows[train], y[train], penalty)
                held_out = model.predict_proba(rows[test])[:, 1]
                losses[index] += log_loss(y[test], held_out, labels=[0.0, 1.0]) * len(test)
        return losses / len(y)

    def _fit_logistic(self, rows: Array, y: Array, penalty: float) -> LogisticRegression:
        model = LogisticRegression(C=penalty, max_iter=self.max_iter, tol=self.tol)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(rows, y)
        for warning in caught:
            if issubclass(warning.category, ConvergenceWarning):
                warnings.warn(
                    f"LogisticProbe did not converge at C={penalty:g} within {self.max_iter} iterations: its "
                    "weights are not the optimum. Raise max_iter or tol, or use a smaller C.",
                    ConvergenceWarning,
                    stacklevel=3,
                )
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        return model


class MassMeanProbe(_BinaryLinearProbe):
    """Difference of the two class means, a direction without fitted weights, for binary targets.

    Marks and Tegmark 2023 (arXiv 2310.06824), section 5. The direction is mean(class 1) - mean(class 0) of
    the standardised features; with `whiten` it is multiplied by the inverse of the within-class covariance,
    shrunk as Ledoit and Wolf 2004 (doi:10.1016/S0047-259X(03)00096-4), which makes it regularised linear
    discriminant analysis. Probabilities come from a logistic regression on the one projected number (C = 1 on
    its standardised values, so that separable classes stay finite); they are fitted on the training rows and
    therefore too sure where features outnumber rows. Rank by `decision_function`; calibrate on other rows.

    Args:
        whiten: multiply by the inverse within-class covariance.

    Attributes:
        coef_: direction in raw units, scaled to log-odds, [d]; `intercept_`: float; `classes_`: [2].
    """

    def __init__(self, whiten: bool = False) -> None:
        self.whiten = whiten

    def fit(self, X: Any, y: Any) -> MassMeanProbe:
        """Fit on X [n, d] and two-class y [n]."""
        advice = "split the target at its median first, or use RidgeProbe"
        X, y = self._check_binary(X, y, advice)
        scaler = Standardization.of(X)
        rows = scaler.apply(X)
        means = np.stack([rows[y == label].mean(axis=0) for label in (0, 1)])
        direction = means[1] - means[0]
        if self.whiten and direction.any():
            # A constant feature would pull the shrinkage target, the mean variance, towards 0.
            varies = scaler.inverse_scale > 0
            within = (rows - means[y.astype(int)])[:, varies]
            if not within.any():
                raise ValueError(
                    "MassMeanProbe(whiten=True) needs rows that differ within a class. "
                    f"Got {len(rows)} rows without any such difference; use whiten=False."
                )
            covariance = LedoitWolf(assume_centered=True).fit(within).covariance_
            direction[varies] = linalg.solve(covariance, direction[varies], assume_a="pos")
        projection = rows @ direction
        spread = projection.std()
        if spread > 0:
            model = LogisticRegression(C=1.0).fit((projection / spread)[:, None], y)
            slope, intercept = float(model.coef_[0, 0]) / spread, float(model.intercept_[0])
        else:  # the class means coincide: nothing but the base rate is known
            slope, intercept = 0.0, float(np.log(y.mean() / (1 - y.mean())))
        self.coef_, self.intercept_ = scaler.fold_into(direction * slope, intercept)
        return self


def check_penalties(penalties: object, param: str, caller: str) -> list[float]:
    """Return the penalties as ascending floats; a number becomes a list of one.

    Raises:
        ValueError: empty, not a number, not finite or not positive.
    """
    values = np.atleast_1d(np.asarray(penalties, dtype=object))
    try:
        numbers = sorted({float(value) for value in values.ravel()})
    except (TypeError, ValueError):
        numbers = []
    if not numbers or not all(np.isfinite(number) and number > 0 for number in numbers):
        raise ValueError(
            f"The {param} parameter of {caller} must be a positive number or a sequence of them. "
            f"Got {penalties!r} instead."
        )
    return numbers

"""Linear probes as scikit-learn estimators: ridge, logistic and mass-mean.

All three standardise the features on the training rows inside `fit` and fold the scaler into `coef_` and
`intercept_`, which are therefore in raw units: score = x @ coef_ + intercept_. A feature that is constant in
training has weight 0. Penalties act on the standardised features, as is usual for residual streams, whose
features differ in scale by orders of magnitude.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from .folds import group_codes, inner_blocks
from .logistic_path import MAX_ITER, TOLERANCE, LogisticPath
from .ridge_path import Array, RidgePath, Standardization, smallest_error

RIDGE_PENALTIES = tuple(10.0**power for power in range(8))  # 1 to 10^7
LOGISTIC_PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


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
    `groups` is given to `fit`); ties go to the stronger penalty. The objective is that of
    `sklearn.linear_model.LogisticRegression`. Newton's method runs in the rows' principal coordinates, which is exact,
    for all penalties and inner folds at once, until a bound of the distance from the minimum is small enough (see
    `logistic_solver`); a fit that does not get there warns and names its C.

    Args:
        C: inverse penalty as in `sklearn.linear_model.LogisticRegression`, or a sequence; positive.
        max_iter: limit on Newton steps.
        tol: how far the mean objective may be above its minimum, in nats per row.

    Attributes:
        coef_: weights in raw units, [d]; `intercept_`: float; `classes_`: [2].
        C_: the inverse penalty that was used.
        inner_log_loss_: mean held-out log loss of each C in ascending order, [p]; only with a list.
        suboptimality_: upper bound of the final fit's distance from the minimum, in nats per row.
        n_iter_: Newton steps of the final fit.
    """

    def __init__(
        self,
        C: float | Sequence[float] = LOGISTIC_PENALTIES,
        max_iter: int = MAX_ITER,
        tol: float = TOLERANCE,
    ) -> None:
        self.C = C
        self.max_iter = max_iter
        self.tol = tol

    def fit(self, X: Any, y: Any, groups: Any = None) -> LogisticProbe:
        """Fit on X [n, d] and two-class y [n]; `groups` [n] are left out together when C is chosen."""
        X, y = self._check_binary(X, y, "use RidgeProbe for a continuous target")
        penalties = check_penalties(self.C, "C", "LogisticProbe")
        codes = group_codes(groups, len(y))
        scaler = Standardization.of(X)
        path = LogisticPath(scaler.apply(X), caller="LogisticProbe", tol=self.tol, max_iter=self.max_iter)
        target, start = y[:, None], None
        if isinstance(self.C, (int, float)):
            self.C_ = penalties[0]
        else:
            losses, starts = path.inner_log_loss(target, penalties, codes)
            self.inner_log_loss_ = losses[:, 0]
            chosen = int(np.argmin(self.inner_log_loss_))
            self.C_, start = penalties[chosen], starts[chosen]
        fitted = path.fit(target, np.array([self.C_]), start)
        self.n_iter_, self.suboptimality_ = int(fitted.n_iter[0]), float(fitted.suboptimality[0])
        weights = path.feature_weights(fitted)[:, 0]
        self.coef_, self.intercept_ = scaler.fold_into(weights, float(fitted.intercept[0]))
        return self


class MassMeanProbe(_BinaryLinearProbe):
    """Difference of the two class means, a direction without fitted weights, for binary targets.

    Marks and Tegmark 2023 (arXiv 2310.06824), section 5. The direction is mean(class 1) - mean(class 0) of
    the standardised features. With `whiten` it is multiplied by the inverse of the features' covariance, shrunk towards
    the identity as Ledoit and Wolf 2004 (doi:10.1016/S0047-259X(03)00096-4) say. That is linear discriminant analysis:
    the covariance within the classes differs from that of all rows by a multiple of the outer product of the direction
    with itself, which changes the length of the result and nothing else (Sherman and Morrison). It is also the
    direction of ridge regression at the penalty `shrinkage_penalty`.

    Probabilities come from a logistic regression on the one projected number (C = 1 on
    its standardised values, so that separable classes stay finite); they are fitted on the training rows and
    therefore too sure where features outnumber rows. Rank by `decision_function`; calibrate on other rows.

    Args:
        whiten: multiply by the inverse covariance.

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
        if self.whiten:
            path = RidgePath.of(rows)
            direction = path.weights(y, shrinkage_penalty(path))
        else:
            direction = rows[y == 1].mean(axis=0) - rows[y == 0].mean(axis=0)
        projection = rows @ direction
        spread = projection.std()
        if spread > 0:
            model = LogisticRegression(C=1.0).fit((projection / spread)[:, None], y)
            slope, intercept = float(model.coef_[0, 0]) / spread, float(model.intercept_[0])
        else:  # the class means coincide: nothing but the base rate is known
            slope, intercept = 0.0, float(np.log(y.mean() / (1 - y.mean())))
        self.coef_, self.intercept_ = scaler.fold_into(direction * slope, intercept)
        return self


def shrinkage_penalty(path: RidgePath) -> float:
    """Ridge penalty whose direction is the class-mean difference whitened by the shrunk covariance.

    With S the covariance of n standardised rows, shrunk to (1 - r) S + r I by Ledoit and Wolf's r, the penalty is
    n r / (1 - r). The rule is label-free. `sklearn.covariance.ledoit_wolf` gives the same r from d x d products; here
    it follows from the eigenvalues and the lengths of the rows. Kept below 10^7 n, where nothing but the mean
    difference itself is left.
    """
    rows, values = path.rows, path.eigenvalues
    n, d = len(rows), np.count_nonzero(rows.any(axis=0))
    if d < 2:
        return 0.0
    mean = values.sum() / (n * d)
    product = np.sum(values**2) / n**2
    distance = product / d - mean**2
    error = (np.sum(np.sum(rows**2, axis=1) ** 2) / n - product) / (n * d)
    shrinkage = min(error / distance, 1.0) if error > 0 and distance > 0 else 0.0
    return n * shrinkage / max(1 - shrinkage, 1e-7)


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

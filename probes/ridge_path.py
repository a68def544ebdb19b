"""Ridge regressions of many targets at many penalties from one eigendecomposition.

With centred features Z [n, d], Z = U S V^T, the fitted values of ridge regression with an unpenalised
intercept are H y, where H = 11^T/n + U diag(s / (s + penalty)) U^T and s = S^2. Everything a sweep needs
follows from U and s, for any number of targets (columns) at once:

1. U and s come from the smaller of Z Z^T and Z^T Z.
2. Residuals of a model that never saw the block I of rows: (I - H_II)^-1 [(I - H) y]_I. This is exact for a
   penalised least-squares fit with the intercept refitted (Cook and Weisberg 1982, "Residuals and Influence
   in Regression", section 3.6 for blocks; Allen 1974, PRESS, for single rows).
3. Predictions for new rows z: mean(y) + z V diag(S / (s + penalty)) U^T y.

Centre and scale of the features are those of all n rows, also in step 2. They never see the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Standardization:
    """Centre and scale of each feature: mean and standard deviation (division by n) of the training rows.

    `inverse_scale` is 1 / standard deviation, and 0 for a feature that is constant up to rounding, which
    therefore takes no part in anything fitted.
    """

    mean: Array
    inverse_scale: Array

    @classmethod
    def of(cls, features: Array) -> Standardization:
        """Centre and scale of `features` [n, d]."""
        mean = features.mean(axis=0)
        deviation = features.std(axis=0)
        rounding = len(features) * np.finfo(np.float64).eps * np.abs(mean)
        inverse = np.zeros_like(deviation)
        np.divide(1.0, deviation, out=inverse, where=deviation > rounding)
        return cls(mean, inverse)

    def apply(self, features: Array) -> Array:
        """Standardise rows [k, d] with the training rows' centre and scale."""
        return (features - self.mean) * self.inverse_scale

    def fold_into(self, weights: Array, intercept: float) -> tuple[Array, float]:
        """Turn weights on standardised features into weights and intercept on raw features."""
        raw = weights * self.inverse_scale
        return raw, float(intercept - self.mean @ raw)


@dataclass(frozen=True, eq=False)
class RidgePath:
    """The eigendecomposition of one set of standardised training rows.

    Attributes:
        rows: standardised training rows Z [n, d], centred.
        left: U [n, r], orthonormal columns; r <= min(n - 1, d) is the numerical rank.
        eigenvalues: s [r], the positive eigenvalues of Z Z^T, ascending.
        right: V [d, r] if it was the cheaper side to decompose, otherwise None.
    """

    rows: Array
    left: Array
    eigenvalues: Array
    right: Array | None

    @classmethod
    def of(cls, rows: Array) -> RidgePath:
        """Decompose standardised, centred rows [n, d]."""
        n, d = rows.shape
        dual = n <= d
        values, vectors = linalg.eigh(rows @ rows.T if dual else rows.T @ rows, check_finite=False)
        keep = values > max(n, d) * np.finfo(np.float64).eps * max(values[-1], 0.0)
        values, vectors = values[keep], vectors[:, keep]
        if dual:
            return cls(rows, vectors, values, None)
        return cls(rows, (rows @ vectors) / np.sqrt(values), values, vectors)

    def coordinates(self, new: Array) -> Array:
        """Coordinates z V [k, r] of new standardised rows [k, d]."""
        if self.right is not None:
            return new @ self.right
        return (new @ self.rows.T) @ self.left / np.sqrt(self.eigenvalues)

    def _shrinkage(self, penalties: Array) -> Array:
        """s / (s + penalty), [r, m] for one penalty per column."""
        return self.eigenvalues[:, None] / (self.eigenvalues[:, None] + penalties)

    def predict(self, coordinates: Array, targets: Array, penalties: Array) -> Array:
        """Predictions [k, m] for new rows, column j fitted to targets[:, j] with penalties[j].

        Args:
            coordinates: [k, r], from `coordinates`.
            targets: [n, m].
            penalties: [m], positive.
        """
        mean = targets.mean(axis=0)
        fitted = self._shrinkage(penalties) * (self.left.T @ (targets - mean))
        return mean + coordinates @ (fitted / np.sqrt(self.eigenvalues)[:, None])

    def weights(self, target: Array, penalty: float) -> Array:
        """Weights [d] on the standardised features for one target [n] and penalty."""
        fitted = (self.left.T @ (target - target.mean())) / (self.eigenvalues + penalty)
        if self.right is not None:
            return self.right @ (np.sqrt(self.eigenvalues) * fitted)
        return self.rows.T @ (self.left @ fitted)

    def held_out_residuals(self, targets: Array, penalties: Array, blocks: Sequence[Array] | None = None) -> Array:
        """Residuals [n, m] of each row under the model that was fitted without the row's block.

        Args:
            targets: [n, m].
            penalties: [m], one per column.
            blocks: row indices of each block, a partition of the n rows into at least two blocks; None
                leaves out one row at a time.
        """
        unique, inverse = np.unique(penalties, return_inverse=True)
        residuals = np.empty_like(targets, dtype=np.float64)
        centred = targets - targets.mean(axis=0)
        scores = self.left.T @ centred
        for index, penalty in enumerate(unique):
            columns = inverse == index
            residuals[:, columns] = self._held_out(centred[:, columns], scores[:, columns], penalty, blocks)
        return residuals

    def held_out_errors(
        self, targets: Array, penalties: Sequence[float], blocks: Sequence[Array] | None = None
    ) -> Array:
        """Mean squared held-out residual [p, m] of every penalty and target; arguments as above."""
        centred = targets - targets.mean(axis=0)
        scores = self.left.T @ centred
        return np.stack(
            [np.mean(self._held_out(centred, scores, penalty, blocks) ** 2, axis=0) for penalty in penalties]
        )

    def _held_out(self, centred: Array, scores: Array, penalty: float, blocks: Sequence[Array] | None) -> Array:
        n = len(centred)
        shrink = self.eigenvalues / (self.eigenvalues + penalty)
        residuals = centred - self.left @ (shrink[:, None] * scores)
        if blocks is None:
            leverage = 1.0 / n + np.square(self.left) @ shrink
            return residuals / (1.0 - leverage)[:, None]
        for block in blocks:
            left = self.left[block]
            system = -(left * shrink) @ left.T - 1.0 / n
            system[np.diag_indices_from(system)] += 1.0
            residuals[block] = linalg.solve(system, residuals[block], assume_a="pos", check_finite=False)
        return residuals


def smallest_error(errors: Array) -> Array:
    """Index [m] of the smallest error along the first axis of [p, m]; the last of ties.

    With penalties in ascending order a tie goes to the stronger penalty, the simpler model.
    """
    return len(errors) - 1 - np.argmin(errors[::-1], axis=0)

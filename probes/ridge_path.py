"""Ridge regressions of many targets at many penalties from one eigendecomposition, on a CPU or a GPU.

With centred features Z [n, d], Z = U S V^T, the fitted values of ridge regression with an unpenalised
intercept are H y, where H = 11^T/n + U diag(s / (s + penalty)) U^T and s = S^2. Everything a sweep needs
follows from U and s, for any number of targets (columns) at once:

1. U and s come from the smaller of Z Z^T and Z^T Z, in float64.
2. Residuals of a model that never saw the block I of rows: (I - H_II)^-1 [(I - H) y]_I. This is exact for a
   penalised least-squares fit with the intercept refitted (Cook and Weisberg 1982, "Residuals and Influence
   in Regression", section 3.6 for blocks; Allen 1974, PRESS, for single rows).
3. I - H is never formed as a difference: I - H = (I - 11^T/n - U U^T) + U diag(penalty / (s + penalty)) U^T, whose
   first part knows no penalty and is 0 where the rows are of full rank. Weak penalties then lose no digits.
4. Predictions for new rows z: mean(y) + z V diag(S / (s + penalty)) U^T y.

Centre and scale of the features are those of all n rows, also in step 2. They never see the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # torch is imported where something is decomposed: reading saved signals must not wait for it
    import torch

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
        centred = features - self.mean
        centred *= self.inverse_scale
        return centred

    def fold_into(self, weights: Array, intercept: float) -> tuple[Array, float]:
        """Turn weights on standardised features into weights and intercept on raw features."""
        raw = weights * self.inverse_scale
        return raw, float(intercept - self.mean @ raw)


class RidgePath:
    """The eigendecomposition of one set of standardised training rows; arrays in and out, torch between.

    Attributes:
        rows: standardised training rows Z [n, d], centred.
        left: U [n, r], orthonormal columns; r <= min(n - 1, d) is the numerical rank.
        eigenvalues: s [r], the positive eigenvalues of Z Z^T, ascending.
        right: V [d, r] if it was the cheaper side to decompose, otherwise None.
    """

    def __init__(
        self, rows: torch.Tensor, left: torch.Tensor, eigenvalues: torch.Tensor, right: torch.Tensor | None
    ) -> None:
        self._rows, self._left, self._values, self._right = rows, left, eigenvalues, right

    @classmethod
    def of(cls, rows: Array, *, device: str | torch.device = "cpu") -> RidgePath:
        """Decompose standardised, centred rows [n, d], in float64 on `device`."""
        import torch

        z = torch.as_tensor(rows, dtype=torch.float64, device=device)
        n, d = z.shape
        dual = n <= d
        values, vectors = torch.linalg.eigh(_lower_gram(z if dual else z.T))
        keep = values > max(n, d) * torch.finfo(torch.float64).eps * values[-1].clamp_min(0.0)
        values, vectors = values[keep], vectors[:, keep]
        if dual:
            return cls(z, vectors, values, None)
        return cls(z, (z @ vectors) / values.sqrt(), values, vectors)

    def single(self) -> RidgePath:
        """The same decomposition rounded to float32, at about half the cost of every product."""
        right = None if self._right is None else self._right.float()
        return RidgePath(self._rows.float(), self._left.float(), self._values.float(), right)

    @property
    def rows(self) -> Array:
        """Standardised training rows Z [n, d]."""
        return self._rows.cpu().numpy()

    @property
    def left(self) -> Array:
        """U [n, r]."""
        return self._left.cpu().numpy()

    @property
    def eigenvalues(self) -> Array:
        """s [r], ascending."""
        return self._values.cpu().numpy()

    @property
    def right(self) -> Array | None:
        """V [d, r], or None."""
        return None if self._right is None else self._right.cpu().numpy()

    def coordinates(self, new: Array) -> Array:
        """Coordinates z V [k, r] of new standardised rows [k, d]."""
        z = self._tensor(new)
        if self._right is not None:
            return (z @ self._right).cpu().numpy()
        return ((z @ self._rows.T) @ self._left / self._values.sqrt()).cpu().numpy()

    def predict(self, coordinates: Array, targets: Array, penalties: Array) -> Array:
        """Predictions [k, m] for new rows, column j fitted to targets[:, j] with penalties[j].

        Args:
            coordinates: [k, r], from `coordinates`.
            targets: [n, m].
            penalties: [m], positive.
        """
        y = self._tensor(targets)
        mean = y.mean(dim=0)
        roots = self._values.sqrt()[:, None]
        fitted = (self._left.T @ (y - mean)) * (roots / (self._values[:, None] + self._tensor(penalties)))
        return (mean + self._tensor(coordinates) @ fitted).double().cpu().numpy()

    def spread(self, targets: Array, penalties: Array) -> Array:
        """Standard deviation [m] of the fitted values of the rows; arguments as in `predict`."""
        y = self._tensor(targets)
        shrunk = self._values[:, None] / (self._values[:, None] + self._tensor(penalties))
        fitted = shrunk * (self._left.T @ (y - y.mean(dim=0)))
        return (fitted.norm(dim=0) / len(y) ** 0.5).double().cpu().numpy()

    def left_out(self, coordinates: Array, target: Array, penalty: float, codes: Array) -> tuple[Array, Array]:
        """Predictions for new rows by fits without one block of rows, less the mean target of the other rows.

        Exact, as `held_out_residuals`, whose e_I a fit without block I is made of: it is the fit to all rows with the
        targets of I lowered by e_I.

        Args:
            coordinates: [k, r], from `coordinates`.
            target: [n].
            penalty: of all fits.
            codes: [n] block of each row as 0, 1, ..., without gaps.

        Returns:
            Deviations [k, b] for b blocks, and the standard deviation of each fit's predictions over all n rows, [b].
        """
        import torch

        y, n, b = self._tensor(target), len(target), int(codes.max()) + 1
        blocks = None if b == n else block_rows(codes)
        residuals = self._tensor(self.held_out_residuals(target[:, None], np.array([penalty]), blocks))
        moved = torch.cat([y[:, None], residuals, torch.ones_like(residuals), self._left * residuals], dim=1)
        sums = moved.new_zeros(b, moved.shape[1]).index_add_(0, torch.as_tensor(codes, device=y.device), moved)
        own, lowered, sizes, scores = sums[:, 0], sums[:, 1], sums[:, 2], sums[:, 3:]
        shrunk = self._values / (self._values + penalty)
        fitted = (shrunk * (self._left.T @ (y - y.mean()) - scores)).T  # [r, b]
        mean = (y.sum() - own) / (n - sizes)
        offset = y.mean() - lowered / n - mean
        deviations = (self._tensor(coordinates) / self._values.sqrt()) @ fitted + offset
        return deviations.cpu().numpy(), (fitted.norm(dim=0) / n**0.5).cpu().numpy()

    def weights(self, targets: Array, penalties: float | Array) -> Array:
        """Weights on the standardised features: [d] for a target [n], [d, m] for targets [n, m] and penalties [m]."""
        y = self._tensor(targets)
        columns = y[:, None] if y.ndim == 1 else y
        strength = self._tensor(np.atleast_1d(penalties))
        fitted = (self._left.T @ (columns - columns.mean(dim=0))) / (self._values[:, None] + strength)
        if self._right is not None:
            found = self._right @ (self._values.sqrt()[:, None] * fitted)
        else:
            found = self._rows.T @ (self._left @ fitted)
        return (found[:, 0] if y.ndim == 1 else found).cpu().numpy()

    def held_out_residuals(self, targets: Array, penalties: Array, blocks: Sequence[Array] | None = None) -> Array:
        """Residuals [n, m] of each row under the model that was fitted without the row's block.

        Args:
            targets: [n, m].
            penalties: [m], one per column.
            blocks: row indices of each block, a partition of the n rows into at least two blocks; None
                leaves out one row at a time.
        """
        unique, inverse = np.unique(penalties, return_inverse=True)
        residuals = np.empty(targets.shape)
        for index, penalty in enumerate(unique):
            columns = inverse == index
            held_out = _HeldOut(self, targets[:, columns], blocks)
            residuals[:, columns] = held_out.residuals(float(penalty)).double().cpu().numpy()
        return residuals

    def held_out_errors(
        self, targets: Array, penalties: Sequence[float], blocks: Sequence[Array] | None = None
    ) -> Array:
        """Mean squared held-out residual [p, m] of every penalty and target; arguments as above."""
        held_out = _HeldOut(self, targets, blocks)
        errors = [held_out.residuals(penalty).square_().mean(dim=0) for penalty in penalties]
        return np.stack([error.double().cpu().numpy() for error in errors])

    def _tensor(self, values: Array) -> torch.Tensor:
        import torch

        return torch.as_tensor(values, dtype=self._rows.dtype, device=self._rows.device)


def block_rows(codes: Array) -> list[Array]:
    """Row indices of each block, ascending, from the block of each row, [n] as 0, 1, ... without gaps."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes))[:-1])


class _HeldOut:
    """What the held-out residuals of some targets share over penalties."""

    def __init__(self, path: RidgePath, targets: Array, blocks: Sequence[Array] | None) -> None:
        left, y = path._left, path._tensor(targets)
        n = len(y)
        centred = y - y.mean(dim=0)
        self.left, self.values = left, path._values
        self.scores = left.T @ centred
        # Centred rows of full rank explain a centred target wholly; what is left would be rounding.
        self.full = left.shape[1] == n - 1
        self.outside = None if self.full else centred - left @ self.scores
        self.squares = None if blocks is not None else left.square()
        self.blocks = None if blocks is None else _Blocks(left, blocks)

    def residuals(self, penalty: float) -> torch.Tensor:
        """Held-out residuals [n, m] at one penalty."""
        shrunk = penalty / (self.values + penalty)
        residuals = self.left @ (shrunk[:, None] * self.scores)
        if self.outside is not None:
            residuals += self.outside
        if self.blocks is not None:
            return self.blocks.solve(shrunk, residuals)
        assert self.squares is not None
        kept = self.squares @ shrunk
        if not self.full:
            kept += 1.0 - 1.0 / len(self.left) - self.squares.sum(dim=1)
        return residuals.div_(kept[:, None])


class _Blocks:
    """Blocks of rows padded to one length, so that their small systems are solved as one batch."""

    def __init__(self, left: torch.Tensor, blocks: Sequence[Array]) -> None:
        import torch

        longest = max(map(len, blocks))
        # The padding points at a row of zeros behind the last one: its equations read 1 x = 0.
        rows = np.full((len(blocks), longest), len(left))
        for number, block in enumerate(blocks):
            rows[number, : len(block)] = block
        self.rows = torch.as_tensor(rows, device=left.device)
        self.present = torch.nonzero(self.rows < len(left), as_tuple=True)
        self.left = torch.cat([left, left.new_zeros(1, left.shape[1])])[self.rows]
        identity = torch.eye(longest, dtype=left.dtype, device=left.device)
        present = (self.rows < len(left)).to(left.dtype)
        mean = present[:, :, None] * present[:, None, :] / len(left)
        self.outside = identity - mean - self.left @ self.left.mT

    def solve(self, shrunk: torch.Tensor, residuals: torch.Tensor) -> torch.Tensor:
        """(I - H_II)^-1 r_I for every block, [n, m]."""
        import torch

        systems = self.outside + (self.left * shrunk) @ self.left.mT
        padded = torch.cat([residuals, residuals.new_zeros(1, residuals.shape[1])])[self.rows]
        solved = torch.cholesky_solve(padded, torch.linalg.cholesky(systems))
        residuals[self.rows[self.present]] = solved[self.present]
        return residuals


def _lower_gram(rows: torch.Tensor) -> torch.Tensor:
    """The lower triangle (and some more) of rows @ rows.T, which is all that `eigh` reads."""
    n = len(rows)
    product = rows.new_zeros(n, n)
    step = max(256, -(-n // 8))
    for start in range(0, n, step):
        stop = min(start + step, n)
        product[start:stop, :stop] = rows[start:stop] @ rows[:stop].T
    return product


def smallest_error(errors: Array) -> Array:
    """Index [m] of the smallest error along the first axis of [p, m]; the last of ties.

    With penalties in ascending order a tie goes to the stronger penalty, the simpler model.
    """
    return len(errors) - 1 - np.argmin(errors[::-1], axis=0)

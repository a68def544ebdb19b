"""Logistic regressions of many targets on one set of training rows: penalties chosen on inner folds, then the fit.

1. The rows are turned to their principal coordinates, at most min(n - 1, d) of them. That is exact: the penalty does
   not change under a rotation, and weights outside the rows' span only cost.
2. Every target, penalty and inner fold is one problem of `logistic_solver.solve_logistic`; the rows that an inner fold
   leaves out have weight 0, so that all problems share the rows. As many are solved at once as memory allows.
3. The penalty with the least log loss on the rows that were left out is chosen, the stronger one of ties, and the fit
   to all rows starts from the mean of its inner solutions.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GroupKFold, StratifiedKFold

from .fold_fit import in_spreads
from .ridge_path import Array, RidgePath, block_rows

if TYPE_CHECKING:  # torch is imported where something is fitted
    import torch

    from .logistic_solver import LogisticSolution

INNER_FOLDS = 5
TOLERANCE = 1e-10  # nats per row
MAX_ITER = 100  # three times what separable rows need at C = 10^12
# Numbers in one array of a batch, of which the solver holds about twenty: 8 MiB each.
BATCH_NUMBERS = 2**20


@dataclass(frozen=True, eq=False)
class FittedLogistic:
    """Optima for m targets.

    Attributes:
        weights: in principal coordinates, [m, r].
        intercept: [m].
        suboptimality: [m], nats per row: how far the mean objective can be above its minimum.
        n_iter: [m], Newton steps.
    """

    weights: Array
    intercept: Array
    suboptimality: Array
    n_iter: Array


class LogisticPath:
    """Penalised logistic regressions on standardised training rows Z [n, d]; arrays in and out, torch between.

    Args:
        rows: standardised and centred, [n, d]; more features than rows are no more work than as many.
        caller: who is named in messages.
        tol: bound of the mean objective's distance from its minimum, in nats per row.
        max_iter: limit of Newton steps.
        device: where torch computes.
    """

    def __init__(
        self,
        rows: Array,
        *,
        caller: str,
        tol: float = TOLERANCE,
        max_iter: int = MAX_ITER,
        device: str | torch.device = "cpu",
    ) -> None:
        import torch

        self._path = RidgePath.of(rows, device=device)
        self._roots = np.sqrt(self._path.eigenvalues)
        self._scores = torch.as_tensor(self._path.left * self._roots, device=device)
        self._caller, self._tol, self._max_iter = caller, tol, max_iter

    def inner_log_loss(self, labels: Array, penalties: Sequence[float], codes: Array | None) -> tuple[Array, Array]:
        """Mean log loss on the rows that each of five inner folds leaves out, and where the optima were.

        Args:
            labels: [n, m], 0 or 1.
            penalties: C, [p].
            codes: [n] group of each row, kept together; None, or one group, for stratified folds.

        Returns:
            Losses [p, m] in nats, and the mean over the folds of the weights in principal coordinates, [p, m, r].

        Raises:
            ValueError: fewer than two rows of a class, or an inner fold whose training rows are of one class.
        """
        import torch

        folds = np.stack([inner_folds(column, codes, self._caller) for column in labels.T])
        n, p, m, f = len(labels), len(penalties), labels.shape[1], INNER_FOLDS
        losses, starts = np.empty((p, m)), np.empty((p, m, self._scores.shape[1]))
        c = torch.as_tensor(np.asarray(penalties, dtype=np.float64), device=self._scores.device)
        width = max(1, BATCH_NUMBERS // (n * p * f))
        for first in range(0, m, width):
            part = slice(first, first + width)
            own = self._tensor(labels.T[part])
            left_out = self._tensor(folds[part])[:, None] == self._tensor(np.arange(f))[:, None]  # [m, f, n]
            shape = (p, len(own), f)
            solution = self._solve(
                own[:, None].expand(*shape, n).reshape(-1, n),
                c[:, None, None].expand(shape).reshape(-1),
                row_weights=(~left_out).to(own).expand(*shape, n).reshape(-1, n),
            )
            weights = solution.weights.reshape(*shape, -1)
            margins = weights @ self._scores.T + solution.intercept.reshape(*shape, 1)
            held_out = (margins * left_out).sum(2)  # a row is left out once
            losses[:, part] = -torch.nn.functional.logsigmoid((2 * own - 1) * held_out).mean(-1).cpu().numpy()
            starts[:, part] = weights.mean(2).cpu().numpy()
        return losses, starts

    def fit(self, labels: Array, penalties: Array, start: Array | None = None) -> FittedLogistic:
        """Fit column j of `labels` [n, m] with C = penalties[j], from weights `start` [m, r] on."""
        found: list[tuple[Array, ...]] = []
        width = max(1, BATCH_NUMBERS // len(labels))
        for first in range(0, labels.shape[1], width):
            part = slice(first, first + width)
            begin = None if start is None else self._tensor(start[part])
            solution = self._solve(self._tensor(labels.T[part]), self._tensor(penalties[part]), start=begin)
            values = (solution.weights, solution.intercept, solution.suboptimality, solution.n_iter)
            found.append(tuple(value.cpu().numpy() for value in values))
        return FittedLogistic(*map(np.concatenate, zip(*found, strict=True)))

    def predict(self, fitted: FittedLogistic, new: Array) -> Array:
        """Probabilities [k, m] of label 1 for new standardised rows [k, d]."""
        return expit(self._path.coordinates(new) @ fitted.weights.T + fitted.intercept)

    def fitted(self, fitted: FittedLogistic) -> Array:
        """Probabilities [n, m] of label 1 for the rows themselves."""
        return expit(self._path.left @ (self._roots[:, None] * fitted.weights.T) + fitted.intercept)

    def left_out(
        self, fitted: FittedLogistic, column: int, labels: Array, penalty: float, new: Array, units: Array
    ) -> Array:
        """Probabilities for new rows by fits without one unit of rows, less its base rate, in units of their spread.

        Each fit is one Newton step from the optimum of all rows (Pregibon 1981, doi:10.1214/aos/1176345513).

        Args:
            fitted: optima for all rows.
            column: which of them.
            labels: [n] labels of that optimum.
            penalty: its C.
            new: [k, d] standardised rows.
            units: [n] unit of each row as 0, 1, ...

        Returns:
            [k, u]; the spread is the standard deviation of the step's probabilities over all n rows.
        """
        n = len(labels)
        rows = np.column_stack([np.ones(n), self._path.left * self._roots])
        solution = np.r_[fitted.intercept[column], fitted.weights[column]]
        probability = expit(rows @ solution)
        curvature = probability * (1 - probability)
        ridge = np.diag(np.r_[0.0, np.full(rows.shape[1] - 1, 1 / penalty)])
        factor = linalg.cho_factor((rows * curvature[:, None]).T @ rows + ridge)
        steps = np.empty((rows.shape[1], int(units.max()) + 1))
        for unit, members in enumerate(block_rows(units)):
            own = rows[members]
            turned = linalg.cho_solve(factor, own.T)
            system = np.eye(len(members)) - (own @ turned) * curvature[members]
            steps[:, unit] = turned @ np.linalg.solve(system.T, (probability - labels)[members])
        moved = solution[:, None] + steps
        spread = expit(rows @ moved).std(axis=0)
        sizes = np.bincount(units)
        base = (labels.sum() - np.bincount(units, weights=labels)) / (n - sizes)
        ahead = np.column_stack([np.ones(len(new)), self._path.coordinates(new)])
        return in_spreads(expit(ahead @ moved) - base, spread)

    def feature_weights(self, fitted: FittedLogistic) -> Array:
        """Weights on the standardised features, [d, m]."""
        if self._path.right is not None:
            return self._path.right @ fitted.weights.T
        return self._path.rows.T @ (self._path.left @ (fitted.weights / self._roots).T)

    def _solve(self, labels: torch.Tensor, c: torch.Tensor, **settings: torch.Tensor | None) -> LogisticSolution:
        from .logistic_solver import solve_logistic

        solution = solve_logistic(self._scores, labels, c, tol=self._tol, max_iter=self._max_iter, **settings)
        if not solution.converged.all():
            failed = ~solution.converged
            warnings.warn(
                f"{self._caller} did not converge at C={float(c[failed].min()):g} within {self._max_iter} iterations "
                f"({int(failed.sum())} of {failed.numel()} fits): its weights are not the optimum, and the objective "
                f"may be {float(solution.suboptimality[failed].max()):.1g} nats per row too high. "
                "Raise max_iter or tol, or use a smaller C.",
                ConvergenceWarning,
                stacklevel=4,
            )
        return solution

    def _tensor(self, values: Array) -> torch.Tensor:
        import torch

        return torch.as_tensor(values, dtype=torch.float64, device=self._scores.device)


def inner_folds(labels: Array, codes: Array | None, caller: str) -> Array:
    """Number of the inner fold, 0 to 4, that leaves out each row, [n].

    Whole groups where there are several, otherwise stratified; fewer folds where groups or rows of a class are fewer.

    Raises:
        ValueError: fewer than two rows of a class, or a fold whose training rows are of one class.
    """
    folds = np.empty(len(labels), dtype=np.int64)
    if codes is not None and len(np.unique(codes)) > 1:
        splits = GroupKFold(min(INNER_FOLDS, len(np.unique(codes)))).split(labels, groups=codes)
    else:
        rarest = int(np.bincount(labels.astype(int), minlength=2).min())
        if rarest < 2:
            raise ValueError(
                f"{caller} chooses C on inner folds and needs at least 2 rows of each class. "
                f"Got {rarest} of one class; pass a single C."
            )
        splits = StratifiedKFold(min(INNER_FOLDS, rarest)).split(labels, labels)
    for fold, (train, test) in enumerate(splits):
        if np.ptp(labels[train]) == 0:
            raise ValueError(
                f"{caller} chooses C on inner folds of whole groups, and the training rows of one "
                "are of a single class; pass a single C or groups=None."
            )
        folds[test] = fold
    return folds

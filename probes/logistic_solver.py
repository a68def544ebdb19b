"""Many L2-penalised logistic regressions on the same rows at once, by Newton's method, each with a certificate.

For rows z_i, labels t_i in {0, 1}, row weights a_i >= 0 and an inverse penalty C, the objective is that of
`sklearn.linear_model.LogisticRegression`, with the intercept b unpenalised:

    F(w, b) = ||w||^2 / 2 + C sum_i a_i log(1 + exp(-(2 t_i - 1) (z_i w + b)))

1. The intercept is solved to rounding for given w, so that what is left, g(w) = min_b F(w, b), depends on w only.
2. The Newton direction comes from conjugate gradients, preconditioned by the diagonal that the Hessian would have
   if all rows had the same curvature; where the columns of Z are orthogonal that is all of such a Hessian. The products
   of Z with the vectors of all problems are one matrix product (truncated Newton: Hsia, Chiang and Lin 2018,
   "Preconditioned conjugate gradient methods in truncated Newton frameworks for large-scale linear classification").
3. The step is halved until the objective falls enough (Armijo).
4. g is 1-strongly convex, hence g(w) - min g <= ||grad g(w)||^2 / 2 and ||w - w*|| <= ||grad g(w)||. The first is
   also the duality gap at the natural dual point. A problem has converged, and leaves the batch, when this bound,
   divided by C sum_i a_i, is at most `tol`, and the second is at most 10^-4 ||w||: where penalties are strong, weights
   of any direction come close to the minimum.

The penalty makes the optimum finite and unique, for separable rows too. With one class only there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

FORCING = 0.1  # residual of a Newton system, relative to the gradient
ROUNDING = 1e-15  # of a gradient, relative to the product of the sizes that it is made of
COMPACT = 0.8  # share of problems still open at which the others are taken out of the batch
MAX_HALVINGS = 40
MAX_INTERCEPT = 100
INTERCEPT_TOLERANCE = 1e-12  # sum of the residuals, relative to that of their sizes
WEIGHT_TOLERANCE = 1e-4  # bound of the distance from the optimal weights, relative to the weights


@dataclass(frozen=True, eq=False)
class LogisticSolution:
    """Optima of P problems; leading batch dimensions are those of the rows and labels.

    Attributes:
        weights: [..., P, r].
        intercept: [..., P].
        gradient: [..., P], Euclidean norm of the gradient of the mean objective F / (C sum a): an upper bound of its
            largest entry, in these coordinates and in any rotation of them.
        suboptimality: [..., P], nats per row: upper bound of the mean objective's distance from its minimum.
        n_iter: [..., P], Newton steps.
        converged: [..., P], whether `suboptimality` is at most the tolerance asked for, and the weights are as close.
    """

    weights: Tensor
    intercept: Tensor
    gradient: Tensor
    suboptimality: Tensor
    n_iter: Tensor
    converged: Tensor


def solve_logistic(
    rows: Tensor,
    labels: Tensor,
    c: Tensor | float,
    *,
    row_weights: Tensor | None = None,
    start: Tensor | None = None,
    tol: float,
    max_iter: int,
) -> LogisticSolution:
    """Minimise the objective of P problems; see the module for the method and the certificate.

    Args:
        rows: Z [..., n, r], floating point. Principal coordinates (orthogonal columns) converge fastest.
        labels: [..., P, n], 0 or 1.
        c: inverse penalties, positive, [..., P] or one for all.
        row_weights: [..., P, n], at least 0; 0 leaves a row out. Default 1.
        start: weights [..., P, r] to begin from; default 0.
        tol: bound of the suboptimality at which a problem is finished, nats per row.
        max_iter: Newton steps; a problem that needs more comes back with `converged` False.

    Raises:
        ValueError: a problem whose rows of weight above 0 are of one class.
    """
    n, r = rows.shape[-2:]
    shape = torch.broadcast_shapes(rows.shape[:-2], labels.shape[:-2]) + labels.shape[-2:-1]
    signs = (1 - 2 * labels.to(rows)).expand(*shape, n)
    present = (rows.new_ones(1) if row_weights is None else row_weights.to(rows)).expand_as(signs)
    negative, positive = _class_weights(signs, present)
    open_ = _Problems(
        signs=signs,
        row_weights=present,
        c=torch.as_tensor(c).to(rows).expand(shape)[..., None],
        n_rows=negative + positive,
        weights=rows.new_zeros(*shape, r) if start is None else start.to(rows).expand(*shape, r),
        intercept=(positive / negative).log(),
        n_iter=torch.zeros(shape, dtype=torch.int64, device=rows.device),
        stuck=torch.zeros(shape, dtype=torch.bool, device=rows.device),
    )
    solution = LogisticSolution(
        weights=rows.new_empty(*shape, r),
        intercept=rows.new_empty(shape),
        gradient=rows.new_empty(shape),
        suboptimality=rows.new_empty(shape),
        n_iter=torch.empty_like(open_.n_iter),
        converged=torch.empty_like(open_.stuck),
    )
    spread = rows.square().mean(-2, keepdim=True)
    size = rows.square().sum((-2, -1)).sqrt()[..., None]
    place = torch.arange(shape[-1], device=rows.device)
    for iteration in range(max_iter + 1):
        state = open_.evaluate(rows)
        scale = (open_.c * open_.n_rows)[..., 0]
        square = state.gradient.square().sum(-1)
        bound = 0.5 * square / scale
        precise = torch.minimum(2 * scale * tol, WEIGHT_TOLERANCE**2 * open_.weights.square().sum(-1))
        converged = square <= torch.maximum(precise, (ROUNDING * size * open_.c[..., 0] * state.residual_norm) ** 2)
        finished = converged | open_.stuck | (iteration == max_iter)
        # With batch dimensions a problem leaves when its companions in all batches are finished.
        leaving = finished.reshape(-1, len(place)).all(0)
        if leaving.any():
            gone = leaving.nonzero()[:, 0]
            at = place[gone]
            solution.weights[..., at, :] = open_.weights[..., gone, :]
            solution.intercept[..., at] = open_.intercept[..., gone, 0]
            solution.gradient[..., at] = (square.sqrt() / scale)[..., gone]
            solution.suboptimality[..., at] = bound[..., gone]
            solution.n_iter[..., at] = open_.n_iter[..., gone]
            solution.converged[..., at] = converged[..., gone]
            kept = (~leaving).nonzero()[:, 0]
            if not len(kept):
                break
            place = place[kept]
            open_, state = open_.take(kept), state.take(kept)
            square, precise, finished = square[..., kept], precise[..., kept], finished[..., kept]
        # A system need not be solved better than the last step asks for.
        enough = torch.maximum(FORCING**2 * square, precise / 4).masked_fill(finished, torch.inf)
        direction = _newton_direction(rows, state, open_.c, spread, enough)
        open_.step(state, direction, direction @ rows.mT)
        open_.n_iter = open_.n_iter + ~finished
    return solution


@dataclass(eq=False)
class _Problems:
    """Problems that are still open: [..., P, n], [..., P, r], [..., P, 1] or [..., P]."""

    signs: Tensor  # 1 for label 0, -1 for label 1
    row_weights: Tensor
    c: Tensor
    n_rows: Tensor  # sum of the row weights
    weights: Tensor
    intercept: Tensor
    n_iter: Tensor
    stuck: Tensor

    def take(self, kept: Tensor) -> _Problems:
        axis = self.stuck.ndim - 1
        return _Problems(**{name: value.index_select(axis, kept) for name, value in vars(self).items()})

    def evaluate(self, rows: Tensor) -> _State:
        """Solve the intercept, then take the gradient."""
        scores = self.weights @ rows.mT
        for _ in range(MAX_INTERCEPT):
            wrong = torch.sigmoid(self.signs * (scores + self.intercept))
            residuals = self.row_weights * wrong
            curvature = residuals * (1 - wrong)
            sizes = residuals.sum(-1, keepdim=True)
            residuals *= self.signs
            slope = residuals.sum(-1, keepdim=True)
            total = curvature.sum(-1, keepdim=True)
            if (slope.abs() <= INTERCEPT_TOLERANCE * sizes).all():
                break
            # Where all rows are saturated the curvature says nothing about how far to go.
            self.intercept = self.intercept - (slope / total.clamp_min(torch.finfo(slope.dtype).tiny)).clamp(-1, 1)
        gradient = torch.addcmul(self.weights, self.c, residuals @ rows)
        return _State(scores + self.intercept, curvature, total, gradient, residuals.norm(dim=-1))

    def objective(self, weights: Tensor, margins: Tensor) -> Tensor:
        """F [..., P, 1] at the margins z_i w + b."""
        log_likelihood = (self.row_weights * logsigmoid(-self.signs * margins)).sum(-1, keepdim=True)
        return 0.5 * weights.square().sum(-1, keepdim=True) - self.c * log_likelihood

    def step(self, state: _State, direction: Tensor, change: Tensor) -> None:
        """Go along the direction, which changes the scores by `change`, the intercept following."""
        shift = -(state.curvature * change).sum(-1, keepdim=True) / state.total
        change = change + shift
        before = self.objective(self.weights, state.margins)
        slope = (state.gradient * direction).sum(-1, keepdim=True)
        rounding = 8 * torch.finfo(before.dtype).eps * before
        length = torch.ones_like(before)
        for _ in range(MAX_HALVINGS):
            after = self.objective(self.weights + length * direction, state.margins + length * change)
            short = after > before + 1e-4 * length * slope + rounding
            if not short.any():
                break
            length = torch.where(short, length / 2, length)
        length = length.masked_fill(short, 0)
        self.weights = self.weights + length * direction
        self.intercept = self.intercept + length * shift
        self.stuck = self.stuck | short[..., 0]


@dataclass(frozen=True, eq=False)
class _State:
    """What the current weights of the open problems imply."""

    margins: Tensor  # [..., P, n]
    curvature: Tensor  # [..., P, n], diagonal of D
    total: Tensor  # [..., P, 1], sum of the curvature
    gradient: Tensor  # [..., P, r]
    residual_norm: Tensor  # [..., P]

    def take(self, kept: Tensor) -> _State:
        axis = self.residual_norm.ndim - 1
        return _State(*(value.index_select(axis, kept) for value in vars(self).values()))


def _newton_direction(rows: Tensor, state: _State, c: Tensor, spread: Tensor, enough: Tensor) -> Tensor:
    """Solve H d = -gradient by preconditioned conjugate gradients until ||residual||^2 <= enough; d [..., P, r].

    H v = v + C Z^T D (Z v - its mean weighted by D), the Hessian once the intercept follows.
    """
    solution = torch.zeros_like(state.gradient)
    place = torch.arange(solution.shape[-2], device=rows.device)
    direction, residual = solution.clone(), -state.gradient
    curvature, total, enough = state.curvature, state.total, enough[..., None]
    inverse_diagonal = 1 / (1 + c * spread * total)
    search = residual * inverse_diagonal
    product = (residual * search).sum(-1, keepdim=True)
    live = residual.square().sum(-1, keepdim=True) > enough
    for _ in range(2 * solution.shape[-1] + 10):
        going = live.reshape(-1, len(place)).any(0)
        n_going = int(going.sum())
        if n_going <= COMPACT * len(place):
            gone, kept = (~going).nonzero()[:, 0], going.nonzero()[:, 0]
            solution[..., place[gone], :] = direction[..., gone, :]
            place = place[kept]
            if not n_going:
                return solution
            direction, residual, search, product, live, enough, curvature, total, c, inverse_diagonal = (
                value.index_select(-2, kept)
                for value in (
                    direction, residual, search, product, live, enough, curvature, total, c, inverse_diagonal
                )
            )  # fmt: skip
        weighted = curvature * (search @ rows.mT)
        weighted.addcmul_(curvature, weighted.sum(-1, keepdim=True) / total, value=-1)
        curved = torch.addcmul(search, c, weighted @ rows)
        # A finished problem rests: it may have nothing left to divide by.
        length = torch.where(live, product / (search * curved).sum(-1, keepdim=True), 0)
        direction.addcmul_(length, search)
        residual.addcmul_(length, curved, value=-1)
        scaled = residual * inverse_diagonal
        following = (residual * scaled).sum(-1, keepdim=True)
        search = torch.addcmul(scaled, torch.where(live, following / product, 0), search)
        product = following
        live = live & (residual.square().sum(-1, keepdim=True) > enough)
    solution[..., place, :] = direction
    return solution


def _class_weights(signs: Tensor, row_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weight of the rows of label 0 and of label 1, both [..., P, 1] and above 0."""
    negative, positive = ((row_weights * (signs == sign)).sum(-1, keepdim=True) for sign in (1, -1))
    one_class = ((negative <= 0) | (positive <= 0))[..., 0]
    if one_class.any():
        raise ValueError(
            "The labels parameter of solve_logistic must hold both classes in every problem, among rows of weight "
            f"above 0. Got one class in {int(one_class.sum())} of {one_class.numel()} problems, the first of them "
            f"{one_class.nonzero()[0].tolist()}; leave those out."
        )
    return negative, positive

"""The cosine between the directions of two targets in one layer's activations, and its null.

1. A direction is the ridge regression of a target on standardised features, the penalty chosen by held-out error
   (whole groups), the scaler folded in: weights in raw units of the residual stream.
2. The cosine of u and v in a metric M is u'Mv / sqrt(u'Mu v'Mv). With M the covariance of the activations it is the
   correlation of the readings x.u and x.v over the rows, the same in all units of the features (the Mahalanobis
   cosine of Ying, Hase and Kriegeskorte 2026, arXiv 2606.19603).
3. Two directions that are fitted to the same rows share these rows' noise: where the targets are correlated, their
   cosine comes near the targets' own correlation even if the activations know neither. So the two are fitted to
   different halves of the rows (whole groups), and the cosine is averaged over the two assignments and over random
   halvings. Its expectation is 0 when either target is noise to the activations.
4. The cosine of one target's directions from the two halves is its reliability. Estimation error lowers the cosine
   by the square root of the product of both reliabilities; dividing by it corrects for that (Spearman 1904).
5. Three nulls: the second target permuted, the first, or both in the same way. Permuting one alone breaks the
   correlation between the targets, which widens the cosine's distribution; permuting both takes away a direction
   that the activations may truly know, and noise next to a known direction scatters more. Each is too narrow where
   another fits, so the p-value is the largest of the three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .folds import Folds, TargetError, check_target, inner_blocks, permutation_drawer
from .folds import group_codes as number_groups
from .linear import RIDGE_PENALTIES, check_penalties
from .ridge_path import RidgePath, Standardization, smallest_error

Array = np.ndarray

METRICS = ("covariance", "plain", "standardized")
NULLS = ("second", "first", "both")
LEAST_ROWS = 8
_DRAWS_PER_HALVING = 50


@dataclass(frozen=True, eq=False)
class TargetPair:
    """Two targets of the same n rows with everything that the layers share: permutations and halves.

    Attributes:
        first, second: [n, 1 + B], the target and its permutations; column b of both is permuted alike.
        codes: [n] group of each row as 0, 1, ..., or None.
        halves: for each halving the rows of its two halves.
        permutation: name of the permutation scheme.
    """

    first: Array
    second: Array
    codes: Array | None
    halves: tuple[tuple[Array, Array], ...]
    permutation: str


@dataclass(frozen=True, eq=False)
class DirectionCosines:
    """The cosine between two targets' directions in one layer, with B permutations.

    Attributes:
        cosine: split-half cosine in [-1, 1]; NaN if the activations are the same in every row.
        null: [3, B], the cosine with the targets of `NULLS` permuted, in that order.
        in_sample: cosine of the directions fitted to all rows; holds the correlation of the targets' noise.
        in_sample_null: [B], that with both targets permuted alike.
        reliability: [2], split-half cosine of each target's direction with itself.
        reliability_null: [2, B], that for permuted targets.
    """

    cosine: float
    null: Array
    in_sample: float
    in_sample_null: Array
    reliability: Array
    reliability_null: Array

    @property
    def p(self) -> float:
        """Two-sided p-value of the cosine, the largest over the three nulls; NaN without permutations."""
        return float(largest_p(np.array([self.cosine]), self.null[None])[0][0])

    @property
    def disattenuated(self) -> float:
        """Cosine over the root of the product of both reliabilities; may leave [-1, 1].

        NaN unless both reliabilities are above their null (one-sided p <= 0.05, for which there must be at least 19
        permutations): a quotient by noise says nothing.
        """
        if not self.null.shape[1] or np.isnan(self.cosine):
            return float("nan")
        reached = 1 + np.sum(self.reliability_null >= self.reliability[:, None], axis=1)
        if (reached > 0.05 * (1 + self.null.shape[1])).any() or (self.reliability <= 0).any():
            return float("nan")
        return float(self.cosine / np.sqrt(self.reliability.prod()))


def direction_cosines(
    features: Array,
    first: Array,
    second: Array,
    *,
    metric: str = "covariance",
    groups: Array | None = None,
    penalties: float | Sequence[float] = RIDGE_PENALTIES,
    n_halvings: int = 5,
    n_permutations: int = 200,
    permute: str | None = None,
    device: str = "cpu",
    rng: np.random.Generator,
) -> DirectionCosines:
    """Compare the directions of two targets in one layer's activations.

    Args:
        features: activations [n, d], raw.
        first, second: targets [n], numbers or 0/1, of at least 8 rows.
        metric: `covariance` (of the activations, over all rows), `plain` (raw units of the residual stream: large
            features decide), or `standardized` (each feature in units of its standard deviation).
        groups: [n], or None. A group is never in both halves.
        penalties: alphas to choose from inside each half.
        n_halvings: random divisions into halves to average over.
        n_permutations: size B of each null.
        permute: `within` groups (default with groups), `groups`, or `free` (default without groups); see
            `folds.permutation_drawer`.
        device: where torch fits.
        rng: source of halvings and permutations, in this order.

    Raises:
        TargetError: a target that cannot be learnt in halves (see `pair_targets`), a missing group.
        ValueError: an unknown metric, or features of the wrong shape or not finite.
    """
    if metric not in METRICS:
        raise ValueError(
            f"The metric parameter of direction_cosines must be one of {', '.join(METRICS)}. Got {metric!r} instead."
        )
    pair = pair_targets(
        first, second, groups, n_halvings=n_halvings, n_permutations=n_permutations, permute=permute, rng=rng
    )
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or len(features) != len(pair.first) or not features.shape[1]:
        raise ValueError(
            f"The features parameter of direction_cosines must be [{len(pair.first)}, d]. "
            f"Got shape {features.shape} instead."
        )
    if not np.isfinite(features).all():
        raise ValueError("The features parameter of direction_cosines must be finite. Got NaN or infinity.")
    grid = check_penalties(penalties, "penalties", "direction_cosines")
    return pair_cosines(features, pair, metrics=(metric,), penalties=grid, device=device)[metric]


def pair_targets(
    first: Array,
    second: Array,
    groups: Array | None = None,
    *,
    n_halvings: int,
    n_permutations: int,
    permute: str | None,
    rng: np.random.Generator,
) -> TargetPair:
    """Draw halves and permutations for two targets [n]; arguments as in `direction_cosines`.

    Raises:
        TargetError: targets that are missing somewhere, constant, of different lengths, of fewer than 8 rows, or
            constant in a half whatever the halving; a permutation scheme that does not fit.
        ValueError: fewer than 1 halving or 0 permutations.
    """
    for name, count, least in (("n_halvings", n_halvings, 1), ("n_permutations", n_permutations, 0)):
        if count < least:
            raise ValueError(f"The {name} parameter of pair_targets must be at least {least}. Got {count} instead.")
    first, second = check_target(first), check_target(second)
    n = len(first)
    if len(second) != n or n < LEAST_ROWS:
        raise TargetError(
            f"The two targets must have the same rows, at least {LEAST_ROWS} of them: a direction is fitted to each "
            f"half. Got {n} and {len(second)} rows."
        )
    codes = number_groups(groups, n)
    halves = _halves(first, second, codes, n_halvings, rng)
    whole = Folds((np.arange(n),), codes, stratified=False, note=None)
    # Both are asked, so that a scheme is refused that cannot change one of them.
    (scheme, draw), _ = (permutation_drawer(target, whole, permute) for target in (second, first))
    rows = [np.arange(n), *(draw(rng) for _ in range(n_permutations))]
    firsts, seconds = (np.column_stack([target[order] for order in rows]) for target in (first, second))
    return TargetPair(firsts, seconds, codes, halves, scheme)


def pair_cosines(
    features: Array,
    pair: TargetPair,
    *,
    metrics: Sequence[str] = METRICS,
    penalties: Sequence[float] = RIDGE_PENALTIES,
    device: str = "cpu",
) -> Mapping[str, DirectionCosines]:
    """Cosines between a pair's directions in one layer [n, d], by metric, all from the same fits."""
    columns = np.column_stack([pair.first, pair.second])
    rows = np.arange(len(columns))

    def fitted(part: Array) -> Array:
        codes = None if pair.codes is None else pair.codes[part]
        return ridge_directions(features[part], columns[part], penalties=penalties, codes=codes, device=device)

    n_halvings, m = len(pair.halves), pair.first.shape[1]
    null = {metric: np.zeros((3, m)) for metric in metrics}
    reliability = {metric: np.zeros((2, m)) for metric in metrics}
    for half, other in pair.halves:
        directions = fitted(half), fitted(other)
        for metric in metrics:
            (a1, a2), (b1, b2) = (np.split(_unit(_in_metric(features, part, metric)), 2, axis=1) for part in directions)
            null[metric] += np.stack(
                [
                    a1[:, 0] @ b2 + b1[:, 0] @ a2,
                    b2[:, 0] @ a1 + a2[:, 0] @ b1,
                    (a1 * b2).sum(axis=0) + (b1 * a2).sum(axis=0),
                ]
            ) / (2 * n_halvings)
            reliability[metric] += np.stack([(a1 * b1).sum(axis=0), (a2 * b2).sum(axis=0)]) / n_halvings
    everything = fitted(rows)
    flat = not Standardization.of(features).inverse_scale.any()
    found = {}
    for metric in metrics:
        u, v = np.split(_unit(_in_metric(features, everything, metric)), 2, axis=1)
        in_sample = (u * v).sum(axis=0)
        blank = np.nan if flat else 0.0
        found[metric] = DirectionCosines(
            cosine=float(null[metric][2, 0] + blank),
            null=null[metric][:, 1:] + blank,
            in_sample=float(in_sample[0] + blank),
            in_sample_null=in_sample[1:] + blank,
            reliability=reliability[metric][:, 0] + blank,
            reliability_null=reliability[metric][:, 1:] + blank,
        )
    return found


def ridge_directions(
    features: Array,
    targets: Array,
    *,
    penalties: Sequence[float] = RIDGE_PENALTIES,
    codes: Array | None = None,
    device: str = "cpu",
) -> Array:
    """Weights [d, m] on raw features [n, d] of the ridge regression of each target, columns of [n, m].

    Features are standardised over the rows; each column has the penalty with the least error on groups left out
    (single rows without `codes`).
    """
    scaler = Standardization.of(features)
    path = RidgePath.of(scaler.apply(features), device=device)
    errors = path.held_out_errors(targets, penalties, inner_blocks(codes))
    chosen = np.asarray(penalties)[smallest_error(errors)]
    return path.weights(targets, chosen) * scaler.inverse_scale[:, None]


def largest_p(observed: Array, null: Array) -> tuple[Array, Array, Array]:
    """Two-sided p-values of L layers against several nulls [L, k, B]: the largest over the k nulls.

    p = (1 + #{|null - centre| >= |observed - centre|}) / (1 + B), the centre being the mean of null and observed.

    Returns:
        p [L]; p against the maximum of |null - centre| over layers [L]; the null that p comes from [L], of equal
        ones the widest. NaN without permutations and for layers that are NaN (null 0 there).
    """
    n_layers, _, count = null.shape
    missing = np.full(n_layers, np.nan)
    known = np.flatnonzero(np.isfinite(observed))
    if not count or not known.size:
        return missing, missing.copy(), np.zeros(n_layers, dtype=np.int64)
    value, draws = observed[known, None], null[known]
    centre = (draws.sum(axis=2) + value) / (1 + count)
    distance = np.abs(draws - centre[..., None])
    # Equal up to rounding is equal, as in `scores.p_value`.
    reach = np.abs(value - centre) - 1e-12
    single = (1 + np.sum(distance >= reach[..., None], axis=2)) / (1 + count)
    highest = (1 + np.sum(distance.max(axis=0) >= reach[..., None], axis=2)) / (1 + count)
    p, p_max, which = missing, missing.copy(), np.zeros(n_layers, dtype=np.int64)
    p[known], p_max[known] = single.max(axis=1), highest.max(axis=1)
    which[known] = np.lexsort((draws.std(axis=2), single), axis=1)[:, -1]
    return p, p_max, which


def _in_metric(features: Array, directions: Array, metric: str) -> Array:
    """Coordinates [k, m] of directions [d, m] in which the metric's inner product is the plain one."""
    if metric == "covariance":
        return (features - features.mean(axis=0)) @ directions
    return directions * features.std(axis=0)[:, None] if metric == "standardized" else directions


def _unit(columns: Array) -> Array:
    length = np.sqrt(np.square(columns).sum(axis=0))
    return np.divide(columns, length, out=np.zeros_like(columns), where=length > 0)


def _halves(
    first: Array, second: Array, codes: Array | None, count: int, rng: np.random.Generator
) -> tuple[tuple[Array, Array], ...]:
    """Random halvings of the rows, whole groups together, in which both targets vary in both halves."""
    n = len(first)
    labels = np.arange(n) if codes is None else codes
    sizes = np.bincount(labels)
    found: list[tuple[Array, Array]] = []
    for _ in range(_DRAWS_PER_HALVING * count):
        order = rng.permutation(len(sizes))
        middle = 1 + int(np.argmin(np.abs(np.cumsum(sizes[order])[:-1] - n / 2)))
        inside = np.isin(labels, order[:middle])
        halves = np.flatnonzero(inside), np.flatnonzero(~inside)
        if all(np.ptp(target[half]) > 0 for target in (first, second) for half in halves):
            found.append(halves)
        if len(found) == count:
            return tuple(found)
    raise TargetError(
        "Both targets must vary in both halves of the rows, groups kept whole. Got no such division into halves "
        f"in {_DRAWS_PER_HALVING * count} draws; use fewer and smaller groups, or groups=None."
    )

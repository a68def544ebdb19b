"""Representational dissimilarity on plain arrays: distances between items, and the Mantel test of two sets of them.

Response profiles are shares in descending order, so that the position of an option plays no part. Items are compared
within blocks (same number of options) only; see `rsa`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.spatial.distance import pdist, squareform

Array = np.ndarray

ACTIVATION_METRICS = ("correlation", "euclidean", "cosine")
PROFILE_METRICS = ("hellinger", "jensen_shannon", "total_variation")


def profile_dissimilarity(profiles: Array, metric: str = "hellinger") -> Array:
    """Distances [m, m] between response profiles.

    - `hellinger`: sqrt(1 - sum_j sqrt(p_j q_j)), in [0, 1];
    - `jensen_shannon`: square root of the Jensen-Shannon divergence in nats, in [0, sqrt(ln 2)];
    - `total_variation`: half the sum of |p_j - q_j|, in [0, 1].

    Args:
        profiles: [m, K] shares, each row summing to 1.
        metric: one of `PROFILE_METRICS`.
    """
    if metric == "hellinger":
        return squareform(pdist(np.sqrt(profiles))) / np.sqrt(2)
    if metric == "jensen_shannon":
        return squareform(pdist(profiles, "jensenshannon"))
    return squareform(pdist(profiles, "cityblock")) / 2


def activation_dissimilarity(activations: Array, metric: str = "correlation") -> Array:
    """Distances [m, m] between activations [m, d]; all 0 where the metric does not exist for some item.

    A correlation needs features that differ within an item, and a cosine any that is not 0.
    """
    distances = pdist(activations, metric)
    return squareform(distances if np.isfinite(distances).all() else np.zeros_like(distances))


@dataclass(frozen=True, eq=False)
class ProfileBlock:
    """Items that may be compared with each other, their profile distances, and the pairs that count.

    Attributes:
        rows: [m] rows of the items in the whole table.
        pairs: ([p], [p]) positions in `rows` of the two items of each pair that counts.
        distances: [m, m] between profiles.
        exchangeable: positions in `rows`, in sets within which a permutation moves profiles.
        closed: such a permutation turns pairs that count into pairs that count.
    """

    rows: Array
    pairs: tuple[Array, Array]
    distances: Array
    exchangeable: tuple[Array, ...]
    closed: bool

    @classmethod
    def of(
        cls, rows: Array, profiles: Array, *, metric: str, codes: Array | None, across: bool, within: bool
    ) -> ProfileBlock:
        """Set up the comparison.

        Args:
            rows: [m] rows of the items.
            profiles: [m, K], descending shares.
            metric: one of `PROFILE_METRICS`.
            codes: [m] group of each item, or None.
            across: leave out the pairs of one group.
            within: permute inside groups only.
        """
        m = len(rows)
        first, second = np.triu_indices(m, 1)
        if across and codes is not None:
            apart = codes[first] != codes[second]
            first, second = first[apart], second[apart]
        sets = [np.arange(m)]
        if within and codes is not None:
            sets = [np.flatnonzero(codes == code) for code in np.unique(codes)]
        distances = profile_dissimilarity(profiles, metric)
        closed = within or codes is None or not across
        return cls(rows, (first, second), distances, tuple(part for part in sets if len(part) > 1), closed)

    @property
    def flat(self) -> bool:
        """Whether the pairs are fewer than two or all equally far apart, up to rounding."""
        values = self.distances[self.pairs]
        return len(values) < 2 or bool(np.ptp(values) <= 1e-9)

    def ranks(self) -> Array:
        """Standardised ranks [p] of the profile distances."""
        return standardised_ranks(self.distances[self.pairs])

    def permuted_ranks(self, n_permutations: int, rng: np.random.Generator) -> list[Array]:
        """Standardised ranks [p] for each of several permutations of the profiles."""
        table = self._rank_table() if self.closed else None
        drawn = []
        for _ in range(n_permutations):
            order = self._permutation(rng)
            first, second = order[self.pairs[0]], order[self.pairs[1]]
            if table is not None:
                drawn.append(table[first, second])
            else:
                drawn.append(standardised_ranks(self.distances[first, second]))
        return drawn

    def _rank_table(self) -> Array:
        table = np.zeros(self.distances.shape, dtype=np.float32)
        table[self.pairs] = self.ranks()
        return table + table.T

    def _permutation(self, rng: np.random.Generator) -> Array:
        order = np.arange(len(self.rows))
        for positions in self.exchangeable:
            order[positions] = rng.permutation(positions)
        return order


def standardised_ranks(values: Array) -> Array:
    """Average ranks [p], centred and scaled to length 1, so that Spearman is a product; NaN if all are equal."""
    if np.ptp(values) <= 1e-9 * np.abs(values).max():  # rounding has no ranks
        return np.full(len(values), np.nan)
    ranks = stats.rankdata(values)
    ranks -= ranks.mean()
    return ranks / np.linalg.norm(ranks)


def pooled_correlation(ranks: Sequence[Array], profiles: Sequence[Array]) -> Array:
    """Spearman correlation [L] of each layer's distances with those of profiles, mean over blocks by their pairs.

    Args:
        ranks: for each block [L, p], standardised ranks of L layers' distances.
        profiles: for each block [p], standardised ranks.
    """
    sizes = np.array([len(own) for own in profiles], dtype=np.float64)
    values = np.stack([layers @ own.astype(layers.dtype) for layers, own in zip(ranks, profiles, strict=True)])
    return (sizes @ values.astype(np.float64)) / sizes.sum()

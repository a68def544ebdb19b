"""Kendall distance between two rankings of one item's options."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import Floats, one_of, paired_vectors

CONVENTIONS = ("ties", "argsort")


def kendall_distance(human: ArrayLike, model: ArrayLike, *, convention: str = "ties") -> float:
    """Share of an item's option pairs that two score vectors rank in opposite order.

    Args:
        human: scores [K] of the options by people, such as counts or proportions; only their order matters.
        model: scores [K] by the model, such as log-probabilities.
        convention: "ties": a pair tied on one side only counts one half, tied on both sides 0 (Fagin et al.
            2004, https://doi.org/10.1145/1055558.1055568, p = 1/2), so that a ranking has distance 0 to
            itself. "argsort": as the published code of arXiv 2508.08204 and 2605.30675, which compares the
            two argsort permutations as if they were rankings, for comparison with its figures only: argsort
            lists options by rank, not ranks by option, and the two differ as soon as K > 2.

    Returns:
        A distance in [0, 1]: 0 the same order, 1 the reverse; scores are tied only where exactly equal.

    Raises:
        ValueError: vectors of different length or fewer than two options, NaN or infinite scores, an unknown
            convention.
    """
    human, model = _scores(human, model, convention, "kendall_distance")
    if convention == "argsort":
        human, model = np.argsort(human, kind="stable"), np.argsort(model, kind="stable")
    first, second = _order_of_pairs(human), _order_of_pairs(model)
    return float(np.abs(first - second).mean() / 2)


def random_kendall_distance(human: ArrayLike, model: ArrayLike, *, convention: str = "ties") -> float:
    """Expected `kendall_distance` if the model's scores [K] were dealt to the options at random.

    Under "ties" it is (1 - t_h t_m) / 2 with t the share of tied pairs on each side: one half, unless both
    sides have ties. Under "argsort" ties are broken by position, which random dealing does not undo.

    Raises:
        ValueError: as `kendall_distance`.
    """
    human, model = _scores(human, model, convention, "random_kendall_distance")
    if convention == "ties":
        tied = [np.mean(_order_of_pairs(scores) == 0) for scores in (human, model)]
        return float((1 - tied[0] * tied[1]) / 2)
    model = np.sort(model)
    lower, upper = _pairs(model.size)
    # Options tied in the model keep their order of position, so that their argsort ascends; others go either way.
    descends = _order_of_pairs(np.argsort(human, kind="stable")) > 0
    return float(np.where(model[lower] == model[upper], descends, 0.5).mean())


def _scores(human: ArrayLike, model: ArrayLike, convention: str, caller: str) -> tuple[Floats, Floats]:
    one_of(convention, CONVENTIONS, parameter="convention", caller=caller)
    human, model = paired_vectors(human, model, parameters=("human", "model"), caller=caller)
    if human.size < 2:
        raise ValueError(f"The human parameter of {caller} must score at least two options. Got {human.size} instead.")
    return human, model


def _order_of_pairs(scores: Floats | NDArray[np.intp]) -> Floats:
    """Sign of first minus second over the K (K - 1) / 2 option pairs: -1 ascending, 0 tied, 1 descending."""
    first, second = _pairs(len(scores))
    return np.sign(scores[first] - scores[second]).astype(np.float64)


@lru_cache(maxsize=64)
def _pairs(k: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(k, 1)

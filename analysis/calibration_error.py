"""Expected calibration error, by equal-width bins of a probability or by ranks of any measure, and the Brier score."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Floats, one_of, scored_answers

SCHEMES = ("width", "rank")


def ece(
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    scheme: str = "width",
    bins: int = 10,
    direction: int | None = None,
    as_confidence: bool = False,
) -> float:
    """Expected calibration error: sum over bins of (share of items) |accuracy - confidence of the bin|.

    Args:
        confidence: [n], n >= 1. Under "width" a probability of being right, in [0, 1]; under "rank" any
            measure.
        correct: [n] of 0 (wrong) or 1 (right).
        scheme: "width": `bins` equal-width bins over [0, 1], each closed on the right (0 belongs to the
            first), a bin's confidence its mean (Guo et al. 2017, eq. 3, https://arxiv.org/abs/1706.04599).
            "rank": as arXiv 2508.08204: standardise (sample standard deviation), `bins` equal-width bins over
            [-m, m] with m = max |z|, closed on the right, a bin's confidence 1 - ECDF(mean z of the bin), the
            ECDF counting <=. A measure of certainty is turned round (multiplied by -1) first, so that its
            confidence grows with it.
        bins: number of bins, at least 1.
        direction: +1 if a high value means uncertain, -1 if it means certain. "rank" needs it. Under "width"
            +1 declares an uncertainty, which is not a probability of being right: it is refused.
        as_confidence: under "width", take 1 - value as the confidence; meant for a normalised entropy.

    Returns:
        A number in [0, 1], 0 at best. A perfectly calibrated sample does not score 0: the bins' accuracies
        are noisy. NaN under "rank" where all values are equal or n is 1: there is no standard deviation to
        divide by.

    Raises:
        ValueError: arrays of different length or without items, NaN or infinities, `correct` other than 0 and
            1, values outside [0, 1] under "width", an uncertainty without `as_confidence`, no direction under
            "rank".
    """
    one_of(scheme, SCHEMES, parameter="scheme", caller="ece")
    one_of(direction, (None, +1, -1), parameter="direction", caller="ece")
    if not isinstance(bins, (int, np.integer)) or isinstance(bins, bool) or bins < 1:
        raise ValueError(f"The bins parameter of ece must be an integer of at least 1. Got {bins!r} instead.")
    values, marks = scored_answers(confidence, correct, parameter="confidence", caller="ece")
    if scheme == "rank":
        if direction is None:
            raise ValueError(
                "The direction parameter of ece must be +1 (high = uncertain) or -1 (high = certain) under "
                "scheme='rank'. Got None instead."
            )
        if as_confidence:
            raise ValueError(
                "The as_confidence parameter of ece must be False under scheme='rank', which takes any "
                "measure as it "
                "is. Got True instead."
            )
        return _rank_error(direction * values, marks, int(bins))
    if as_confidence and direction == -1:
        raise ValueError(
            "The as_confidence parameter of ece must be False for a measure of certainty (direction=-1). Got "
            "True "
            "instead; it would take 1 - certainty as the confidence."
        )
    if direction == +1 and not as_confidence:
        raise ValueError(
            "The confidence parameter of ece must be a probability of being right under scheme='width'. Got "
            "a measure "
            "of uncertainty (direction=+1) instead; use scheme='rank', or as_confidence=True to take 1 - "
            "value of a "
            "normalised entropy."
        )
    values = probabilities(values, parameter="confidence", caller="ece")
    return _width_error(1 - values if as_confidence else values, marks, int(bins))


def brier(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Brier score: mean squared difference between the probability of being right [n] and 0 (wrong) or 1 (right).

    In [0, 1], 0 at best; 0.25 for saying one half throughout (Brier 1950,
    https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2).

    Raises:
        ValueError: as `ece` with scheme "width".
    """
    values, marks = scored_answers(confidence, correct, parameter="confidence", caller="brier")
    return float(np.mean((probabilities(values, parameter="confidence", caller="brier") - marks) ** 2))


def probabilities(values: Floats, *, parameter: str, caller: str) -> Floats:
    """Refuse values [n] outside [0, 1], naming the first; -0 and rounding are not forgiven."""
    outside = np.flatnonzero((values < 0) | (values > 1))
    if outside.size:
        raise ValueError(
            f"The {parameter} parameter of {caller} must be probabilities in [0, 1]. Got "
            f"{values[outside[0]]} at "
            f"position {outside[0]} instead; an entropy in nats or a log probability is not one."
        )
    return values


def _width_error(confidence: Floats, correct: Floats, bins: int) -> float:
    bin_of = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left")
    size, right, claimed = (
        np.bincount(bin_of, weights=weights, minlength=bins)
        for weights in (np.ones_like(confidence), correct, confidence)
    )
    # n_b / n |right_b / n_b - claimed_b / n_b|: the counts cancel, and empty bins add nothing.
    return float(np.abs(right - claimed).sum() / size.sum())


def _rank_error(uncertainty: Floats, correct: Floats, bins: int) -> float:
    if uncertainty.size < 2 or np.ptp(uncertainty) == 0:
        return np.nan
    z = (uncertainty - uncertainty.mean()) / uncertainty.std(ddof=1)
    # In units of m, and rounded: rounding error must not part equal values from their mean or from an edge.
    z = np.round(z / np.abs(z).max(), 12)
    bin_of = np.searchsorted(np.round(np.linspace(-1, 1, bins + 1)[1:-1], 12), z, side="left")
    size = np.bincount(bin_of, minlength=bins)
    used = size > 0
    means = np.round(np.bincount(bin_of, weights=z, minlength=bins)[used] / size[used], 12)
    accuracy = np.bincount(bin_of, weights=correct, minlength=bins)[used] / size[used]
    claimed = 1 - np.searchsorted(np.sort(z), means, side="right") / z.size
    return float(np.sum(size[used] * np.abs(accuracy - claimed)) / z.size)

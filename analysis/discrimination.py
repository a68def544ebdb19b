"""Discrimination: does the measure tell wrong answers from right ones, whatever its scale?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score

from .arrays import Floats, one_of, scored_answers
from .intervals import Levels, resample_counts, resampled_ranks


def auroc(measure: ArrayLike, correct: ArrayLike, *, direction: int) -> float:
    """Probability that a wrong answer is more uncertain than a right one, equal values counting one half.

    Args:
        measure: [n], n >= 1.
        correct: [n] of 0 (wrong) or 1 (right).
        direction: +1 if a high value of the measure means uncertain, -1 if it means certain.

    Returns:
        A number in [0, 1]: 1 where every wrong answer is more uncertain than every right one, 0.5 for a
        constant measure. NaN where all answers are right or all are wrong.

    Raises:
        ValueError: arrays of different length or without items, NaN or infinities, `correct` other than 0 and
            1, a direction other than +1 and -1.
    """
    one_of(direction, (+1, -1), parameter="direction", caller="auroc")
    values, marks = scored_answers(measure, correct, parameter="measure", caller="auroc")
    if np.ptp(marks) == 0:
        return np.nan
    return float(roc_auc_score(1 - marks, direction * values))


def bootstrap_auroc(
    measures: Floats, correct: Floats, *, directions: list[int], n_bootstrap: int, rng: np.random.Generator
) -> Floats:
    """Resample items and take the `auroc` of every column of `measures` [n, m] in each resample.

    Returns [n_bootstrap, m]; NaN where a resample holds right answers only, or wrong ones only. All columns
    share their resamples. From the ranks: (sum of the ranks of the wrong answers - w (w + 1) / 2) / (w r) for
    w wrong and r right ones.
    """
    levels = [Levels(direction * column) for direction, column in zip(directions, measures.T, strict=True)]
    n = len(correct)
    blocks = []
    for counts in resample_counts(n, n_bootstrap=n_bootstrap, rng=rng):
        wrong = counts * (1 - correct)
        n_wrong = wrong.sum(axis=1)
        pairs = n_wrong * (n - n_wrong)
        pairs = np.where(pairs > 0, pairs, np.nan)
        # Ranks come centred at (n + 1) / 2, which turns the expected rank sum into w (w - n) / 2.
        sums = [np.einsum("bi,bi->b", resampled_ranks(level, counts), wrong) for level in levels]
        block = [(total + n_wrong * (n - n_wrong) / 2) / pairs for total in sums]
        blocks.append(np.stack(block, axis=1) if block else np.empty((len(counts), 0)))
    return np.concatenate(blocks)

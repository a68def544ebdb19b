"""Scores of out-of-fold predictions, many columns at once, and their bootstrap intervals."""

from __future__ import annotations

import numpy as np
from scipy import stats

Array = np.ndarray

MAX_DEGENERATE = 0.05  # share of resamples without a score above which no interval is given


def r2(targets: Array, predictions: Array, baseline: Array) -> Array:
    """Out-of-fold R2 [m] of columns [n, m] against the mean of each row's own training fold.

    1 - sum (y - prediction)^2 / sum (y - baseline)^2; at most 1, 0 for a probe that knows no more than the
    training rows' mean, negative for a worse one. The mean of all rows is not the yardstick: no probe could
    have known it.

    Args:
        targets: [n, m].
        predictions: [n, m], out of fold.
        baseline: [n, m], mean of the column over the training rows of the row's fold.
    """
    return 1.0 - np.sum((targets - predictions) ** 2, axis=0) / np.sum((targets - baseline) ** 2, axis=0)


def pearson(x: Array, y: Array) -> float:
    """Pearson correlation of [n] and [n]; NaN where either is constant up to rounding."""
    if _constant(x) or _constant(y):
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def pearson_columns(x: Array, y: Array) -> Array:
    """Pearson correlation [m] of the columns of [n, m] and [n, m]; NaN where one is constant."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (x * y).sum(axis=0) / np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))


def spearman(x: Array, y: Array) -> float:
    """Spearman correlation, ties by their average rank; NaN where either is constant."""
    return pearson(stats.rankdata(x), stats.rankdata(y))


def auroc(labels: Array, scores: Array) -> Array:
    """Area under the ROC curve [m] of columns [n, m] of 0/1 labels and scores; ties count one half.

    0.5 for constant scores; NaN for a column of one class (Mann-Whitney form).
    """
    ranks = stats.rankdata(scores, axis=0)
    positive = labels.sum(axis=0)
    negative = len(labels) - positive
    with np.errstate(invalid="ignore", divide="ignore"):
        return ((ranks * labels).sum(axis=0) - positive * (positive + 1) / 2) / (positive * negative)


def bootstrap_weights(n: int, codes: Array | None, n_bootstrap: int, rng: np.random.Generator) -> Array:
    """How often each row is drawn in each resample, [b, n]: whole groups with replacement, or rows.

    Args:
        n: number of rows.
        codes: [n] group of each row as 0, 1, ..., or None to resample rows.
        n_bootstrap: number of resamples b.
        rng: source of the draws.
    """
    units = n if codes is None else int(codes.max()) + 1
    draws = rng.multinomial(units, np.full(units, 1.0 / units), size=n_bootstrap).astype(np.float64)
    return draws if codes is None else draws[:, codes]


def pearson_interval(x: Array, y: Array, weights: Array, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the Pearson correlation of [n] and [n] over weighted resamples [b, n].

    Resamples in which either variable is constant have no correlation and are left out; if they are more
    than 5 % of all, both ends are NaN.
    """
    return percentile_interval(pearson_draws(x, y, weights), level)


def pearson_draws(x: Array, y: Array, weights: Array) -> Array:
    """Pearson correlation [b] of [n] and [n] in weighted resamples [b, n]; NaN where either is constant."""
    if _constant(x) or _constant(y):
        return np.full(len(weights), np.nan)
    x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    total = weights.sum(axis=1)
    mean_x, mean_y = weights @ x / total, weights @ y / total
    var_x, var_y = weights @ x**2 / total - mean_x**2, weights @ y**2 / total - mean_y**2
    covariance = weights @ (x * y) / total - mean_x * mean_y
    defined = (var_x > 1e-12) & (var_y > 1e-12)
    draws = np.full(len(weights), np.nan)
    draws[defined] = covariance[defined] / np.sqrt(var_x[defined] * var_y[defined])
    return draws


def auroc_interval(labels: Array, scores: Array, weights: Array, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the AUROC of 0/1 labels [n] and scores [n] over weighted resamples [b, n].

    Resamples of one class are left out; if they are more than 5 % of all, both ends are NaN.
    """
    return percentile_interval(auroc_draws(labels, scores, weights), level)


def auroc_draws(labels: Array, scores: Array, weights: Array) -> Array:
    """AUROC [b] of 0/1 labels [n] and scores [n] in weighted resamples [b, n]; NaN where only one class is left."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
    positive = np.add.reduceat(weights[:, order] * labels[order], starts, axis=1)
    negative = np.add.reduceat(weights[:, order] * (1 - labels[order]), starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    draws = np.full(len(weights), np.nan)
    np.divide((positive * below).sum(axis=1), pairs, out=draws, where=pairs > 0)
    return draws


def percentile_interval(draws: Array, level: float = 0.95) -> tuple[float, float]:
    """Central `level` of the draws [b] that are not NaN; NaN at both ends if more than 5 % of them are."""
    known = draws[~np.isnan(draws)]
    if len(known) < (1 - MAX_DEGENERATE) * len(draws) or not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def best_interval(draws: Array, level: float = 0.95) -> tuple[int, int] | None:
    """First and last of the fewest neighbouring positions that hold the best of L scores in `level` of the resamples.

    Args:
        draws: [b, L] scores in resamples, the higher the better; of equal ones the first counts as the best.
        level: least share of the resamples.

    Returns:
        First and last position; of equally few those with the largest share, of equal shares the first. None if more
        than 5 % of the resamples lack a score.
    """
    known = draws[~np.isnan(draws).any(axis=1)]
    if len(known) < (1 - MAX_DEGENERATE) * len(draws) or not len(known):
        return None
    below = np.r_[0, np.cumsum(np.bincount(known.argmax(axis=1), minlength=draws.shape[1]))]
    width = 1
    while (within := below[width:] - below[:-width]).max() < level * len(known) - 1e-9:
        width += 1
    first = int(within.argmax())
    return first, first + width - 1


def p_value(observed: float, null: Array) -> float:
    """(1 + number of null values >= observed) / (1 + number of null values); NaN without a null.

    Phipson and Smyth 2010, doi:10.2202/1544-6115.1585: never 0, valid at any number of permutations.
    """
    if not len(null):
        return float("nan")
    # Equal up to rounding is equal: a permutation that changes nothing must count against the observed value.
    return (1 + int(np.sum(null >= observed - 1e-12 * max(1.0, abs(observed))))) / (1 + len(null))


def _constant(values: Array) -> bool:
    return bool(values.std() <= 1e-12 * max(1.0, float(np.abs(values).max())))

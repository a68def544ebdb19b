"""Does the model favour the option that people favour? Share, chance, exact test and Kendall distance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.proportion import proportion_confint, proportions_ztest

from .arrays import Floats, finite_vector, one_of, paired_vectors
from .kendall import CONVENTIONS, kendall_distance, random_kendall_distance
from .tables import group_keys, groups, numbers, present_rows, require_columns, result_table, row_name

COLUMNS = (
    "n",
    "n_missing",
    "top_answer_agreement",
    "ci_low",
    "ci_high",
    "chance",
    "chance_published",
    "p_poisson_binomial",
    "p_z",
    "kendall_distance",
    "kendall_ci_low",
    "kendall_ci_high",
    "kendall_random",
    "reason",
)


def poisson_binomial_test(hits: ArrayLike, chances: ArrayLike) -> float:
    """P(at least as many hits by chance): exact and one-sided, item i hitting with probability chances[i].

    Args:
        hits: [n] in [0, 1]; a fraction where a tie at the top was split.
        chances: [n] in [0, 1], the probability of a hit if the model chose among the item's options at
            random.

    Returns:
        p in (0, 1]. A sum of hits that is not whole is lowered to the whole number below, which can only
        raise p.

    Raises:
        ValueError: lengths that differ, no items, or values outside [0, 1].
    """
    hits, chances = paired_vectors(hits, chances, parameters=("hits", "chances"), caller="poisson_binomial_test")
    for name, values in (("hits", hits), ("chances", chances)):
        if values.size == 0 or values.min() < 0 or values.max() > 1:
            raise ValueError(
                f"The {name} parameter of poisson_binomial_test must be at least one value in [0, 1]. Got "
                f"{values[(values < 0) | (values > 1)][:3] if values.size else 'none'} instead."
            )
    least = int(np.floor(hits.sum() + 1e-9))
    # P(hits >= least) = P(misses <= n - least): summed upward from the tail, so that small p keep their
    # digits.
    return float(stats.poisson_binom(1 - chances).cdf(hits.size - least))


def mean_interval(values: ArrayLike, *, level: float) -> tuple[float, float]:
    """Student's t interval of the mean of values [n]: it may leave their range; NaN for fewer than two.

    Raises:
        ValueError: values that are not finite.
    """
    values = finite_vector(values, parameter="values", caller="mean_interval")
    if values.size < 2:
        return np.nan, np.nan
    half = stats.t.ppf((1 + level) / 2, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size)
    return float(values.mean() - half), float(values.mean() + half)


def agreement(
    table: pd.DataFrame, *, convention: str = "ties", missing: str = "raise", level: float = 0.95
) -> pd.DataFrame:
    """Compare the model's favourite option and its ranking of the options with people's, in every group.

    Args:
        table: one row per item in each group of `GROUP_KEYS`. Needs `item`, `n_options`; people's side as
            `human_top` (list of modal options) or `responses` (list of K counts or proportions); the model's
            side as `choice_log_probabilities` (list of K) or `choice` (with `choice_ties` where ties can
            happen). The Kendall distance needs both lists.
        convention: of `kendall_distance`.
        missing: what to do with items without people's answers: "raise" or "drop" (counted in `n_missing`).
        level: of the intervals.

    Returns:
        One row per group: its keys; `n`, `n_missing`; `top_answer_agreement`, the share of items whose choice
        is one of the modal options (a tie at the model's top counts by its average), with Wilson's interval
        `ci_low`, `ci_high`; `chance`, the mean of (tied modal options) / K; `chance_published`, 1 / mean(K)
        as in arXiv 2508.08204, lower than the mean of 1 / K where K varies; `p_poisson_binomial`
        (`poisson_binomial_test` against each item's own chance) and `p_z` (that paper's one-proportion z test
        against `chance_published`, variance under the null), both one-sided; `kendall_distance`, its mean
        over items, with Student's t interval `kendall_ci_low`, `kendall_ci_high`; `kendall_random`, the value
        expected of the model's scores dealt at random; `reason`, why something is NaN, else None.

    Raises:
        ValueError: a column that is missing or malformed, a repeated item, an option index outside the item.
    """
    caller = "agreement"
    one_of(convention, CONVENTIONS, parameter="convention", caller=caller)
    require_columns(table, ["n_options"], parameter="table", caller=caller)
    for either in (("human_top", "responses"), ("choice_log_probabilities", "choice")):
        if not set(either) & set(table.columns):
            raise ValueError(
                f"The table parameter of {caller} must have a column {either[0]!r} or {either[1]!r}. Got "
                f"{list(table.columns)[:12]} instead."
            )
    rows = []
    for keys, frame in groups(table, caller=caller):
        human = "human_top" if "human_top" in frame else "responses"
        lacking = np.where([_absent(value) for value in frame[human]], np.nan, 1.0)
        present = present_rows(frame, {human: lacking}, missing=missing, caller=caller)
        result = _agree(frame[present], human, convention=convention, level=level)
        rows.append({**keys, "n": int(present.sum()), "n_missing": int((~present).sum()), **result})
    return result_table(rows, keys=group_keys(table), columns=COLUMNS, text=("reason",))


def _agree(frame: pd.DataFrame, human: str, *, convention: str, level: float) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(COLUMNS[2:], np.nan)
    if frame.empty:
        return {**empty, "reason": "no item has people's answers"}
    options = numbers(frame, "n_options", caller="agreement")
    hits, chances = np.empty(len(frame)), np.empty(len(frame))
    for position, k in enumerate(options):
        modal = _modal_options(frame, position, human, k)
        chosen = _chosen_options(frame, position, k)
        hits[position] = len(modal & chosen) / len(chosen)
        chances[position] = len(modal) / k
    published = 1 / options.mean()
    low, high = proportion_confint(hits.sum(), len(hits), alpha=1 - level, method="wilson")
    _, p_z = proportions_ztest(hits.sum(), len(hits), value=published, alternative="larger", prop_var=published)
    return {
        "top_answer_agreement": hits.mean(),
        "ci_low": float(low),
        "ci_high": float(high),
        "chance": chances.mean(),
        "chance_published": published,
        "p_poisson_binomial": poisson_binomial_test(hits, chances),
        "p_z": float(p_z),
        **_kendall(frame, options, convention=convention, level=level),
    }


def _kendall(frame: pd.DataFrame, options: Floats, *, convention: str, level: float) -> dict[str, Any]:
    names = ["kendall_distance", "kendall_ci_low", "kendall_ci_high", "kendall_random"]
    for column in ("responses", "choice_log_probabilities"):
        if column not in frame or any(_absent(value) for value in frame[column]):
            return {
                **dict.fromkeys(names, np.nan),
                "reason": f"the Kendall distance needs {column} of every item",
            }
    distances, random = np.empty(len(frame)), np.empty(len(frame))
    for position, k in enumerate(options):
        human = _scores(frame, position, "responses", k)
        model = _scores(frame, position, "choice_log_probabilities", k)
        distances[position] = kendall_distance(human, model, convention=convention)
        random[position] = random_kendall_distance(human, model, convention=convention)
    bounds = mean_interval(distances, level=level)
    reason = "one item gives no interval of the Kendall distance" if len(distances) < 2 else None
    return {**dict(zip(names, (distances.mean(), *bounds, random.mean()), strict=True)), "reason": reason}


def _modal_options(frame: pd.DataFrame, position: int, human: str, k: float) -> set[int]:
    if human == "responses":
        return _largest(_scores(frame, position, "responses", k))
    return _indices(frame, position, "human_top", frame["human_top"].iloc[position], k)


def _chosen_options(frame: pd.DataFrame, position: int, k: float) -> set[int]:
    if "choice_log_probabilities" in frame:
        return _largest(_scores(frame, position, "choice_log_probabilities", k))
    if "choice_ties" in frame and frame["choice_ties"].iloc[position] > 1:
        raise ValueError(
            f"The choice_log_probabilities column given to agreement must be there where choices are tied. "
            f"Got "
            f"choice_ties {frame['choice_ties'].iloc[position]} at {row_name(frame, position)} instead: the "
            f"tied options "
            f"are not known."
        )
    return _indices(frame, position, "choice", [frame["choice"].iloc[position]], k)


def _scores(frame: pd.DataFrame, position: int, column: str, k: float) -> Floats:
    """Read a list of K scores from one row, finite and of the right length."""
    value = frame[column].iloc[position]
    scores = np.array([], dtype=np.float64) if _absent(value) else np.asarray(value, dtype=np.float64)
    if scores.shape != (k,) or not np.isfinite(scores).all():
        raise ValueError(
            f"The {column} column given to agreement must hold {k:g} finite numbers, one per option. Got "
            f"{value!r} at "
            f"{row_name(frame, position)} instead."
        )
    return scores


def _indices(frame: pd.DataFrame, position: int, column: str, value: Iterable[Any], k: float) -> set[int]:
    """Read option indices from one row, each within 0 .. K - 1."""
    indices = list(value)
    if not all(float(index) in range(int(k)) for index in indices):
        raise ValueError(
            f"The {column} column given to agreement must hold option indices from 0 to {k - 1:g}. Got "
            f"{indices} at "
            f"{row_name(frame, position)} instead."
        )
    return {int(index) for index in indices}


def _largest(scores: Floats) -> set[int]:
    return set(np.flatnonzero(scores == scores.max()).tolist())


def _absent(value: Any) -> bool:
    """Tell whether a cell that should hold a list holds none: None, NaN or an empty list."""
    return np.size(value) == 0 if np.ndim(value) else bool(pd.isna(value))

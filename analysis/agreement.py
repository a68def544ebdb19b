"""Does the model favour the option that people favour? Share, chance, exact test and Kendall distance."""

from __future__ import annotations

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
    options = _option_numbers(frame)
    model = _scores(frame, "choice_log_probabilities", options) if "choice_log_probabilities" in frame else None
    people = _scores(frame, "responses", options) if _complete(frame, "responses") else None
    modal = _option_sets(frame, human, options) if people is None or human != "responses" else _tops(people)
    chosen = _chosen(frame, options) if model is None else _tops(model)
    hits = np.array([len(top & choice) / len(choice) for top, choice in zip(modal, chosen, strict=True)])
    chances = np.array([len(top) for top in modal]) / options
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
        **_kendall(people, model, convention=convention, level=level),
    }


def _kendall(
    people: list[Floats] | None, model: list[Floats] | None, *, convention: str, level: float
) -> dict[str, Any]:
    names = ["kendall_distance", "kendall_ci_low", "kendall_ci_high", "kendall_random"]
    if people is None or model is None:
        lacking = "responses" if people is None else "choice_log_probabilities"
        return {**dict.fromkeys(names, np.nan), "reason": f"the Kendall distance needs {lacking} of every item"}
    pairs = list(zip(people, model, strict=True))
    distances = np.array([kendall_distance(*pair, convention=convention) for pair in pairs])
    random = np.array([random_kendall_distance(*pair, convention=convention) for pair in pairs])
    bounds = mean_interval(distances, level=level)
    reason = "one item gives no interval of the Kendall distance" if len(distances) < 2 else None
    return {**dict(zip(names, (distances.mean(), *bounds, random.mean()), strict=True)), "reason": reason}


def _option_numbers(frame: pd.DataFrame) -> Floats:
    """Read `n_options`: whole numbers of at least 2."""
    options = numbers(frame, "n_options", caller="agreement")
    bad = np.flatnonzero(~(options >= 2) | (options % 1 != 0))
    if bad.size:
        raise ValueError(
            f"The n_options column given to agreement must hold whole numbers of at least 2. Got {options[bad[0]]} at "
            f"{row_name(frame, int(bad[0]))} instead."
        )
    return options


def _scores(frame: pd.DataFrame, column: str, options: Floats) -> list[Floats]:
    """Read lists of scores, one finite number per option."""
    rows = []
    for position, (value, k) in enumerate(zip(frame[column], options, strict=True)):
        scores = np.array([], dtype=np.float64) if _absent(value) else np.asarray(value, dtype=np.float64)
        if scores.shape != (k,) or not np.isfinite(scores).all():
            raise ValueError(
                f"The {column} column given to agreement must hold {k:g} finite numbers, one per option. Got "
                f"{value!r} at {row_name(frame, position)} instead."
            )
        rows.append(scores)
    return rows


def _option_sets(frame: pd.DataFrame, column: str, options: Floats) -> list[set[int]]:
    """Read lists of option indices, or single ones, each within 0 .. K - 1."""
    rows = []
    for position, (value, k) in enumerate(zip(frame[column], options, strict=True)):
        indices = np.atleast_1d(value).tolist()
        if not indices or not all(index in range(int(k)) for index in indices):
            raise ValueError(
                f"The {column} column given to agreement must hold option indices from 0 to {k - 1:g}. Got {indices} "
                f"at {row_name(frame, position)} instead."
            )
        rows.append({int(index) for index in indices})
    return rows


def _chosen(frame: pd.DataFrame, options: Floats) -> list[set[int]]:
    """Read `choice`, which does not say which options were tied at the top."""
    if "choice_ties" in frame:
        tied = np.flatnonzero(numbers(frame, "choice_ties", caller="agreement") > 1)
        if tied.size:
            raise ValueError(
                f"The choice_log_probabilities column given to agreement must be there where choices are tied. Got "
                f"choice_ties {frame['choice_ties'].iloc[tied[0]]} at {row_name(frame, int(tied[0]))} instead: the "
                f"tied options are not known."
            )
    return _option_sets(frame, "choice", options)


def _tops(rows: list[Floats]) -> list[set[int]]:
    """The options that share the largest score of each item."""
    return [set(np.flatnonzero(scores == scores.max()).tolist()) for scores in rows]


def _complete(frame: pd.DataFrame, column: str) -> bool:
    return column in frame and not any(_absent(value) for value in frame[column])


def _absent(value: Any) -> bool:
    """Tell whether a cell that should hold a list holds none: None, NaN or an empty list."""
    return np.size(value) == 0 if np.ndim(value) else bool(pd.isna(value))

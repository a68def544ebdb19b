"""What interventions changed: each dose against the unedited pass, and against random directions of equal length.

1. A figure of one edit is the mean over items; its change is the mean difference from the same items unedited, with a
   bootstrap interval over items, so that items are paired with themselves.
2. The slope of a direction is the least-squares line through the origin of change against dose, sum k c_k / sum k².
3. The probe is ranked among the random directions: p = (1 + #{|random| >= |probe|}) / (1 + random directions).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .arrays import Floats, one_of
from .bootstrap import Bootstrap
from .human_calibration import Means
from .intervals import Interval
from .tables import column_names, numbers, require_columns, result_table, row_name

# Figures by name, with the column of the table that they are means of.
FIGURES = {
    "choice_entropy": "choice_entropy",
    "choice_entropy_normalized": "choice_entropy_normalized",
    "total_entropy": "total_entropy",
    "choice_probability": "choice_probability",
    "choice_mass": "choice_mass",
    "accuracy": "correct",
    "changed": "changed",
}
DEFAULT_FIGURES = ("choice_entropy", "total_entropy", "accuracy", "changed")
CONDITION = ("mode", "direction", "draw", "dose")
# A change of the choice has no direction, so it does not rise with the dose from one side to the other.
WITHOUT_SLOPE = ("changed",)
RESPONSE_KEYS = (
    *("model", "dataset", "prompt", "site", "position", "layer", "target", "target_scoring", "probe", "scoring"),
    *("where", "along", "random", "remove_to"),
)
COLUMNS = (
    *CONDITION,
    *(
        "figure",
        "n",
        "value",
        "change",
        "ci_low",
        "ci_high",
        "random_mean",
        "random_low",
        "random_high",
        "n_random",
        "p",
    ),
    *("size", "size_random", "size_p", "slope", "slope_ci_low", "slope_ci_high", "slope_p", "interval", "note"),
)
TEXT = ("figure", "interval", "note")
LEAST_RANDOM = 20


def dose_response(
    table: pd.DataFrame,
    *,
    figures: Sequence[str] | None = None,
    n_bootstrap: int = 2000,
    level: float = 0.95,
    cluster: str | None = None,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Summarise interventions: the change of each figure at each dose, beside random directions.

    Args:
        table: of `doubtlens.probes.intervene`, or any table with `item`, `mode` (`none` for the unedited pass, `add`,
            `remove`), `direction` (`probe`, `random`), `draw` (number of a random direction), `dose` and the columns
            of the figures; other columns that `intervene` gives (`layer`, `target`, ...) tell groups apart. In a
            group every condition has every item once.
        figures: of `choice_entropy`, `choice_entropy_normalized`, `total_entropy`, `choice_probability`, `choice_mass`
            (nats, shares), `accuracy` (share of right answers) and `changed` (share of items whose choice is not the
            unedited one). Default: choice entropy, total entropy, accuracy and changed, as far as they are there.
        n_bootstrap: resamples of items, or clusters, behind each interval.
        level: of the intervals.
        cluster: column whose values are drawn as whole clusters, such as `subject`.
        rng: source of the resamples.

    Returns:
        One row per group, figure and condition: the columns of the group, `mode`, `direction`, `draw`, `dose`;
        `figure`; `n`, items that have it; `value`, its mean; `change`, the mean difference from the unedited pass, and
        its interval `ci_low`, `ci_high`; `size`, the mean of the items' absolute differences: what is set to its mean
        is raised for some items and lowered for others, which `change` does not see.

        The probe's rows also have `random_mean`, `random_low`, `random_high`: mean, least and greatest change of the
        `n_random` random directions in the same condition; `p`, the share of them, and of the probe itself, that
        change it at least as much, in whichever direction; `size_random`, the mean of their sizes, and `size_p`.

        Steps (`add`) have the `slope` of their direction over all its doses, per standard deviation, with its
        interval; the probe also `slope_p`, its rank among the slopes of the random directions: one test, where `p`
        makes one per dose. `changed` has no slope, since it cannot fall. What does not apply is NaN.

        `interval` says how intervals were made; `note` what is to be known, else None.

    Raises:
        ValueError: an absent column; an unknown figure; a group without an unedited pass or without a probe; items
            that a condition lacks or has twice; a value that is missing where the figure is known for the item.
        TypeError: `table` is not a DataFrame, or `rng` no generator.
    """
    caller = "dose_response"
    require_columns(table, ["item", *CONDITION], parameter="table", caller=caller)
    names = _figures(table, figures, caller)
    bootstrap = Bootstrap.of(
        table, rng=rng, n_bootstrap=n_bootstrap, level=level, interval="percentile", cluster=cluster, caller=caller
    )
    keys = [key for key in RESPONSE_KEYS if key in table]
    rows: list[dict[str, Any]] = []
    for group, frame in _groups(table, keys):
        conditions, cells, items = _grid(frame, caller)
        for name in names:
            values = numbers(frame, FIGURES[name], caller=caller)[cells]
            known = ~np.isnan(values[0])
            if np.isnan(values[:, known]).any():
                raise ValueError(
                    f"The {FIGURES[name]} column given to {caller} must have a value in every condition of an item "
                    "that has one unedited. Got none in some; leave such items out."
                )
            if not known.any():
                continue
            found = _responses(
                conditions, values[:, known], items.iloc[known], bootstrap, slopes=name not in WITHOUT_SLOPE
            )
            rows += [{**group, "figure": name, **row} for row in found]
    return result_table(rows, keys=keys, columns=COLUMNS, text=TEXT).astype({"draw": "Int64"})


def _figures(table: pd.DataFrame, figures: Sequence[str] | None, caller: str) -> list[str]:
    if figures is None:
        found = [name for name in DEFAULT_FIGURES if FIGURES[name] in table]
        if not found:
            raise ValueError(
                f"The table parameter of {caller} must have a column of "
                f"{', '.join(FIGURES[name] for name in DEFAULT_FIGURES)}. Got {list(table.columns)[:12]} instead."
            )
        return found
    names = column_names(figures, parameter="figures", caller=caller)
    for name in names:
        one_of(name, FIGURES, parameter="figures", caller=caller)
    require_columns(table, [FIGURES[name] for name in names], parameter="figures", caller=caller)
    return names


def _groups(table: pd.DataFrame, keys: Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    if not keys:
        yield {}, table
        return
    number = table.groupby(list(keys), sort=False, dropna=False, observed=True).ngroup().to_numpy()
    for group in range(int(number.max(initial=-1)) + 1):
        frame = table.iloc[np.flatnonzero(number == group)]
        yield {key: frame[key].iloc[0] for key in keys}, frame


def _grid(frame: pd.DataFrame, caller: str) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Conditions [C], the unedited one first; the rows [C, n] of `frame` that hold them; one row per item [n]."""
    # Sorted as text, so that resamples do not depend on the order of rows.
    order = np.argsort(frame["item"].astype(str).to_numpy(), kind="stable")
    item = pd.factorize(frame["item"].astype(str), sort=True)[0]
    number = frame.groupby(list(CONDITION), sort=False, dropna=False).ngroup().to_numpy()
    first = np.unique(number, return_index=True)[1]
    conditions = frame.iloc[first][list(CONDITION)].reset_index(drop=True)
    unedited = np.flatnonzero(conditions["mode"] == "none")
    if len(unedited) != 1 or not (conditions["direction"] == "probe").any():
        seen = sorted(set(frame["mode"].astype(str) + " " + frame["direction"].astype(str)))
        raise ValueError(
            f"The table parameter of {caller} must hold one unedited condition (mode 'none') and edits along the probe "
            f"in every group. Got {len(unedited)} unedited among {seen} instead; give the whole table of intervene."
        )
    counts = np.zeros((len(conditions), item.max(initial=-1) + 1), dtype=np.int64)
    np.add.at(counts, (number, item), 1)
    if (counts != 1).any():
        condition, place = np.argwhere(counts != 1)[0]
        asked = conditions.iloc[condition].to_dict()
        where = np.flatnonzero(item == place)[0]
        raise ValueError(
            f"The table parameter of {caller} must have every item once in every condition. Got "
            f"{counts[condition, place]} rows of {asked} at the item of {row_name(frame, int(where))} instead."
        )
    cells = np.zeros(counts.shape, dtype=np.int64)
    cells[number[order], item[order]] = order
    turn = [int(unedited[0]), *(place for place in range(len(conditions)) if place != unedited[0])]
    return conditions.iloc[turn].reset_index(drop=True), cells[turn], frame.iloc[cells[unedited[0]]]


def _responses(
    conditions: pd.DataFrame, values: Floats, items: pd.DataFrame, bootstrap: Bootstrap, *, slopes: bool
) -> list[dict[str, Any]]:
    """Rows of one figure from its values [C, n], the unedited ones first."""
    change = values - values[0]
    per_item = {("change", place): row for place, row in enumerate(change)}
    draw, dose = conditions["draw"].astype("Int64"), conditions["dose"].to_numpy(dtype=np.float64, na_value=np.nan)
    added = (conditions["mode"] == "add").to_numpy()
    # The number of each condition's direction: the probe is -1.
    direction = draw.fillna(-1).to_numpy(dtype=np.int64)
    for number in np.unique(direction[added]) if slopes else ():
        own = added & (direction == number)
        per_item["slope", int(number)] = dose[own] @ change[own] / (dose[own] @ dose[own])
    resamples = bootstrap.resamples(items)
    names = list(per_item)
    found: dict[tuple[str, int], Interval] = dict(
        zip(
            names,
            bootstrap.intervals([Means({str(name): per_item[name] for name in names})], resamples)[0],
            strict=True,
        )
    )
    mean = {name: float(row.mean()) for name, row in per_item.items()}
    size = np.abs(change).mean(axis=1)
    is_random = (conditions["direction"] == "random").to_numpy()
    rows = []
    for place, condition in enumerate(conditions.to_dict("records")):
        own, bounds = mean["change", place], found["change", place]
        row = {
            **condition,
            "n": values.shape[1],
            "value": float(values[place].mean()),
            "change": own,
            "ci_low": bounds.low if place else np.nan,
            "ci_high": bounds.high if place else np.nan,
            "size": float(size[place]),
            "interval": bootstrap.label(resamples),
            "note": bounds.reason,
        }
        if added[place] and slopes:
            key = ("slope", int(direction[place]))
            row |= {"slope": mean[key], "slope_ci_low": found[key].low, "slope_ci_high": found[key].high}
        if condition["direction"] == "probe":
            same = is_random & (conditions["mode"] == condition["mode"]).to_numpy()
            if condition["mode"] == "add":
                same &= dose == dose[place]
            others = np.array([mean["change", int(number)] for number in np.flatnonzero(same)])
            row |= _beside(own, others)
            row["size_random"] = size[same].mean() if same.any() else np.nan
            row["size_p"] = rank_p(row["size"], size[same])
            if added[place] and slopes:
                others = np.array([mean["slope", int(number)] for number in np.unique(direction[added & is_random])])
                row["slope_p"] = rank_p(row["slope"], others)
        rows.append(row)
    return rows


def _beside(own: float, others: Floats) -> dict[str, Any]:
    if not len(others):
        nothing = dict.fromkeys(("random_mean", "random_low", "random_high", "p"), np.nan)
        return {**nothing, "n_random": 0, "note": "no random directions to compare with"}
    few = f"{len(others)} random directions give no p below {1 / (1 + len(others)):.3f}"
    return {
        "random_mean": others.mean(),
        "random_low": others.min(),
        "random_high": others.max(),
        "n_random": len(others),
        "p": rank_p(own, others),
        **({"note": few} if len(others) < LEAST_RANDOM else {}),
    }


def rank_p(own: float, others: Floats) -> float:
    """Rank a probe's change among those of random directions: (1 + #{|others| >= |own|}) / (1 + len(others)).

    NaN where there are none to compare with. Changes of equal size count as at least as large, to rounding.
    """
    if not len(others):
        return float("nan")
    size = np.abs(own)
    return float((1 + (np.abs(others) >= size * (1 - 1e-12)).sum()) / (1 + len(others)))

"""What instruct fine-tuning changes: every figure of a run, base against instruct on the same items.

1. The items of the two models of a pair are matched; what only one of them was asked is counted and listed.
2. Every figure is taken of both models on the same items; its difference is instruct - base.
3. Paired bootstrap: both models are resampled by the same items, and the draws of the difference give its interval.

Over several pairs, see `tuning_pairs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from .alignment import excludes_zero
from .arrays import Floats
from .bootstrap import SINGLE, Bootstrap
from .human_calibration import TEXT_MEAN
from .intervals import NO_INTERVAL
from .item_columns import Items, Reading
from .item_statistics import (
    FIGURES,
    Built,
    Cell,
    better_side,
    build,
    figure_names,
    known_measures,
    lacking_column,
    needed,
)
from .paired_items import ASKED, PairedRuns, keys_to_match, paired_runs
from .pairs import Declared, pairs_with_rows, shared_models, sharing_note
from .probe_statistics import probe_twin
from .tables import column_names, join_reasons, present_rows, require_columns, result_table

COLUMNS = (
    "figure",
    "measure",
    "n",
    "n_missing",
    "n_base_only",
    "n_instruct_only",
    "base_value",
    "instruct_value",
    "difference",
    "se",
    "ci_low",
    "ci_high",
    "p",
    "better",
    "interval",
    "reason",
    "note",
)
TEXT = ("measure", "better", "interval", "reason", "note")

NO_ERROR = "the difference has no standard error"

# Differences of figures below this are rounding error.
_ROUNDING = 1e-12


def tuning_effect(
    table: pd.DataFrame,
    pairs: Declared | None = None,
    *,
    figures: Sequence[str] | None = None,
    measures: Sequence[str] | None = None,
    match_on: Sequence[str] | None = None,
    human: str = "human_entropy_normalized",
    correct: str = "correct",
    control: str | None = "n_options",
    directions: Mapping[str, int] | None = None,
    as_confidence: bool = False,
    bins: int = 10,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    level: float = 0.95,
    interval: str = "percentile",
    cluster: str | None = None,
    missing: str = "raise",
) -> pd.DataFrame:
    """Compare base and instruct models figure by figure, on the items that both were asked.

    Args:
        table: one row per item in each group of `GROUP_KEYS`, with `model`, `item`, the measures and what the figures
            need (`FIGURES`); columns that belong to an item, such as `n_options`, `answer` and people's answers, must
            agree between the two models.
        pairs: (base, instruct) models, as `pairs_of` takes them. None where the table says it in the columns `pair`
            and `tuned` ("base" or "instruct").
        figures: names from `FIGURES`. None: those made by default, as far as the table has what they need; a figure
            that needs a column without any value in a run is left out there.
        measures: numeric columns. None: those of the measure table and the probes' predictions; one without any value
            in a run is left out there, and so is what a figure of the probes says already (`probe_pearson`).
        match_on: keys that base and instruct must share. None: all but the model. Where base and instruct models were
            asked with different prompts, say, name the others: ["dataset", "setting", "scoring", "nucleus"].
        human: column of people's disagreement, for the figures human_*.
        correct: column of 1 (right) or 0 (wrong).
        control: column held constant in `human_partial`; None for none.
        directions: +1 (high = uncertain) or -1 (high = certain) for columns outside the measure table.
        as_confidence: take 1 - value of a normalised measure of uncertainty as a probability of being right too.
        bins: of the calibration errors.
        rng, n_bootstrap, level, interval, cluster: of the bootstrap intervals, as for `alignment`.
        missing: "raise", or "drop": leave out, for each figure and measure by itself, the items where one of the two
            models lacks a value, and count them in `n_missing`. Where a model has no value at all the figure is NaN
            with its reason under both.

    Returns:
        One row per pair, combination of keys, figure and measure: `pair`, `base`, `instruct`; the keys ("a -> b" where
        base and instruct differ in one that need not match); `figure`, `measure` (None for figures of the run); `n`
        matched items that count, `n_missing` that do not, `n_base_only` and `n_instruct_only`, those that only one of
        the two was asked; `base_value`, `instruct_value`; `difference`, instruct - base; of its paired bootstrap draws
        the standard deviation `se`, `ci_low`, `ci_high` and the two-sided `p` of difference / se
        (`difference_p`); `better`, "base" or "instruct" where the interval excludes 0 and the figure has a good side,
        else None; `interval`, how it was made; `reason`, why a figure is NaN, else None; `note`, what else to know.
        `attrs["unmatched"]` lists the items that only one of the two was asked, as records with pair, keys, item and
        only_in ("base" or "instruct"): pd.DataFrame makes a table of them.

    Raises:
        ValueError: pairs that do not fit (`pairs_of`), models without a shared run or item, an item that the two were
            asked differently, an absent or malformed column, a repeated item, a missing value under missing="raise",
            an unknown figure, a measure whose direction a figure needs and nobody knows, a bad option.
        TypeError: `table` is not a DataFrame, or `rng` not a Generator.
    """
    caller = "tuning_effect"
    require_columns(table, ["model", "item"], parameter="table", caller=caller)
    bootstrap = Bootstrap.of(
        table, rng=rng, n_bootstrap=n_bootstrap, level=level, interval=interval, cluster=cluster, caller=caller
    )
    reading = Reading(
        human=human,
        correct=correct,
        control=control,
        directions=directions or {},
        as_confidence=as_confidence,
        bins=bins,
        seed=bootstrap.seed,
        caller=caller,
    )
    cells = _cells(table, figures, measures, reading)
    match = keys_to_match(table, match_on, caller=caller)
    keys = ["pair", "base", "instruct", *keys_to_match(table, None, caller=caller)]
    asked = list(dict.fromkeys([*ASKED, human, reading.answer, *filter(None, (control, cluster))]))
    rows: list[dict[str, Any]] = []
    unmatched: list[dict[str, Any]] = []
    for pair, of_pair in pairs_with_rows(table, pairs, caller=caller) if len(table) else ():
        for run in paired_runs(of_pair, pair, match=match, asked=asked, caller=caller):
            names = {"pair": pair.name, "base": pair.base, "instruct": pair.instruct, **run.keys}
            for role, items in (("base", run.base_only), ("instruct", run.instruct_only)):
                unmatched += [{**names, "item": item, "only_in": role} for item in items]
            if len(run.base):
                counts = {"n_base_only": len(run.base_only), "n_instruct_only": len(run.instruct_only)}
                effects = _Effects(run, reading, bootstrap, missing)
                asked_for = effects.with_values(cells, figures is None, measures is None)
                rows += [{**names, **counts, **row} for row in effects.rows(asked_for)]
    _note_shared_models(rows)
    result = result_table(rows, keys=keys, columns=COLUMNS, text=TEXT)
    # Records, since a DataFrame in attrs breaks concat and to_parquet.
    result.attrs["unmatched"] = unmatched
    return result


def difference_p(difference: float, se: float) -> float:
    """Two-sided p of a difference with a bootstrap standard error, against the normal distribution.

        2 (1 - Phi(|difference| / se))

    Unlike the share of draws beyond 0 it can be as small as a correction for hundreds of figures asks for. 1 for a
    difference of 0 that never varies; NaN for another that never varies, and without a standard error.
    """
    if not se > 0:
        return 1.0 if difference == 0 and se == 0 else np.nan
    return float(2 * stats.norm.sf(abs(difference) / se))


class _Effects:
    """Figures of a base and an instruct run on the same items, and their differences."""

    def __init__(self, run: PairedRuns, reading: Reading, bootstrap: Bootstrap, missing: str) -> None:
        self.run, self.bootstrap, self.missing = run, bootstrap, missing
        self.base, self.instruct = Items(run.base, reading), Items(run.instruct, reading)
        self.reading = reading

    def with_values(self, cells: Sequence[Cell], any_figure: bool, any_measure: bool) -> list[Cell]:
        """Leave out cells that nobody asked for by name and of which neither run has a value."""
        return [
            cell
            for cell in cells
            if not any(
                (any_measure if name == cell.measure else any_figure)
                and np.isnan(values).all()
                and np.isnan(other).all()
                for (name, values), other in zip(
                    needed(self.base, cell).items(), needed(self.instruct, cell).values(), strict=True
                )
            )
        ]

    def rows(self, cells: Sequence[Cell]) -> list[dict[str, Any]]:
        """Evaluate cells, those of the same items together."""
        shared: dict[bytes, list[Cell]] = {}
        for cell in cells:
            shared.setdefault(self._present(cell).tobytes(), []).append(cell)
        found: dict[Cell, dict[str, Any]] = {}
        for mask, names in shared.items():
            present = np.frombuffer(mask, dtype=np.bool_)
            counts = {"n": int(present.sum()), "n_missing": int((~present).sum())}
            for cell, result in self._compare(names, present).items():
                found[cell] = {"figure": cell.figure, "measure": cell.measure, **counts, **result}
        return [found[cell] for cell in cells]

    def _present(self, cell: Cell) -> np.ndarray:
        """Mark the items that both runs have a value for."""
        values = [needed(items, cell) for items in (self.base, self.instruct)]
        whole = any(np.isnan(column).all() for columns in values for column in columns.values())
        missing = "drop" if whole else self.missing
        masks = [
            present_rows(items.frame, columns, missing=missing, caller=self.reading.caller)
            for items, columns in zip((self.base, self.instruct), values, strict=True)
        ]
        return masks[0] & masks[1]

    def _compare(self, cells: list[Cell], present: np.ndarray) -> dict[Cell, dict[str, Any]]:
        base, instruct = build(self.base.take(present), cells), build(self.instruct.take(present), cells)
        if not present.any():
            return {cell: {**_NOTHING, "reason": self._absent(cell), "note": None} for cell in cells}
        resamples = self.bootstrap.resamples(base.items.frame)
        statistics = [*base.statistics, *instruct.statistics]
        drawn = _by_cell(base, instruct, resamples.draw(statistics))
        left_out: dict[Cell, Floats] = {}
        if self.bootstrap.interval == "bca":
            left_out = _by_cell(base, instruct, resamples.leave_out(statistics))
        values = base.observed(), instruct.observed()
        results = {}
        for cell in cells:
            pair = [side.get(cell, np.nan) for side in values]
            reasons = [_reason(side, cell, value) for side, value in zip((base, instruct), pair, strict=True)]
            difference = float(_rounded(pair[1] - pair[0]))
            bounds, draws = NO_INTERVAL, np.empty(0)
            if not np.isnan(difference) and resamples.n_units > 1:
                draws = drawn[cell]
                bounds = self.bootstrap.take(difference, draws, left_out.get(cell))
            single = None if resamples.n_units > 1 else SINGLE
            known = draws[~np.isnan(draws)]
            if known.size < draws.size / 2:
                known = np.empty(0)
            se = float(_rounded(known.std(ddof=1))) if known.size > 1 else np.nan
            p = difference_p(difference, se)
            unknown = np.isnan(p) and not np.isnan(bounds.low)
            results[cell] = {
                "base_value": pair[0],
                "instruct_value": pair[1],
                "difference": difference,
                "se": se,
                "ci_low": bounds.low,
                "ci_high": bounds.high,
                "p": p,
                "better": _better(better_side(cell, self.reading), bounds.low, bounds.high),
                "interval": self.bootstrap.label(resamples),
                "reason": join_reasons(_of_both(*reasons), bounds.reason, single, NO_ERROR if unknown else None),
                "note": self._note(cell, base, instruct),
            }
        return results

    def _absent(self, cell: Cell) -> str:
        """Say why no item counts."""
        columns = [needed(items, cell) for items in (self.base, self.instruct)]
        lacking = [
            join_reasons(*(f"no item has {name}" for name, values in side.items() if np.isnan(values).all()))
            for side in columns
        ]
        return _of_both(*lacking) or f"no item has {' and '.join(columns[0])} in both runs"

    def _note(self, cell: Cell, base: Built, instruct: Built) -> str | None:
        notes = [side.notes.get(cell) for side in (base, instruct)]
        softmax = cell.figure in ("dist_ce", "ent_ce") and "text_mean" in str(self.run.keys.get("scoring"))
        return join_reasons(*notes, TEXT_MEAN if softmax else None)


_NOTHING = dict.fromkeys(
    ("base_value", "instruct_value", "difference", "se", "ci_low", "ci_high", "p"), np.nan
) | dict.fromkeys(("better", "interval"))


def _cells(
    table: pd.DataFrame, figures: Sequence[str] | None, measures: Sequence[str] | None, reading: Reading
) -> list[Cell]:
    """List what is asked for, by figure and then by measure."""
    caller = reading.caller
    if measures is not None:
        measures = column_names(measures, parameter="measures", caller=caller) if len(measures) else []
        require_columns(table, measures, parameter="measures", caller=caller)
    cells: list[Cell] = []
    for name in figure_names(figures, caller=caller):
        lacking = lacking_column(name, reading, table)
        if lacking is not None and figures is not None:
            raise ValueError(
                f"The figures parameter of {caller} must name figures that the table has columns for. Got {name!r}, "
                f"which needs {lacking!r}, instead."
            )
        if lacking is not None:
            continue
        among: list[str | None] = (
            [None]
            if FIGURES[name].family == "run"
            else [*(measures if measures is not None else known_measures(table))]
        )
        if FIGURES[name].family == "confidence":
            among = [measure for measure in among if reading.states_confidence(str(measure))]
        if figures is None and measures is None:
            made = {cell.figure for cell in cells}
            among = [measure for measure in among if probe_twin(name, measure, reading) not in made]
        if figures is not None and not among:
            kind = "that states a probability of being right" if FIGURES[name].family == "confidence" else "at all"
            raise ValueError(
                f"The figures parameter of {caller} must name figures that the measures allow. Got {name!r} and no "
                f"measure {kind} instead."
            )
        cells += [Cell(name, measure) for measure in among]
    if not cells and len(table):
        raise ValueError(
            f"The table parameter of {caller} must have columns that figures are made of, {reading.correct!r} and "
            f"measures say. Got {list(table.columns)[:12]} instead."
        )
    return cells


def _by_cell(base: Built, instruct: Built, results: Sequence[Floats]) -> dict[Cell, Floats]:
    """Differences of results [rows, ...], those of the base's statistics first, of the cells that both have."""
    mine, theirs = base.by_cell(results[: len(base.statistics)]), instruct.by_cell(results[len(base.statistics) :])
    return {cell: _rounded(theirs[cell] - mine[cell]) for cell in mine if cell in theirs}


def _rounded(differences: Any) -> Any:
    return np.where(np.abs(differences) < _ROUNDING, 0.0, differences)


def _reason(built: Built, cell: Cell, value: float) -> str | None:
    undefined = f"{cell.figure} is undefined for these items" if np.isnan(value) else None
    return built.reasons.get(cell, undefined)


def _of_both(base: str | None, instruct: str | None) -> str | None:
    if base == instruct:
        return base
    return join_reasons(f"base: {base}" if base else None, f"instruct: {instruct}" if instruct else None)


def _better(side: int, low: float, high: float) -> str | None:
    if side == 0 or not excludes_zero(low, high):
        return None
    return "instruct" if side * low > 0 else "base"


def _note_shared_models(rows: list[dict[str, Any]]) -> None:
    shared = shared_models(list(dict.fromkeys((row["base"], row["instruct"]) for row in rows)))
    for row in rows:
        row["note"] = join_reasons(row["note"], sharing_note(row["base"], row["instruct"], shared))

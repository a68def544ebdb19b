"""Behaviour against representation: does a probe of the activations say more than the model's own output does?

1. Each output measure and the probe's out-of-fold prediction are scored against the same target on the same items:
   a correlation, or for a 0/1 target the AUROC.
2. The score of a measure is turned so that higher is better, by the sign it shows on these items or by the direction
   it declares. The turn is made once, never again in a resample, so that noise is not folded over to one side.
3. Both are resampled together: the draws of the difference give its interval, standard error and p-value.

A probe was fitted to the target, out of fold; a measure was fitted to nothing. That a probe scores higher than one
measure may only mean that no single measure is the right mixture: `incremental_r2` sets the probe against all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .answers import reading_direction
from .arrays import Floats, one_of
from .bootstrap import Bootstrap
from .correlation import METHODS, correlation, is_constant, partial_correlation
from .correlation_draws import Correlations
from .discrimination import Orders
from .multiple_tests import adjust_p_values
from .paired_draws import NO_ERROR, UNDEFINED, Drawn, draw_figures
from .resamples import Resamples, Statistic
from .tables import (
    column_names,
    group_keys,
    groups,
    join_reasons,
    numbers,
    require_columns,
    result_table,
    shared_items,
)
from .views import default_measures, views

COLUMNS = (
    "measure",
    "target",
    "probe",
    "method",
    "sign",
    "control",
    "n",
    "n_missing",
    "turn",
    "reversed",
    "r_measure",
    "r_measure_ci_low",
    "r_measure_ci_high",
    "r_probe",
    "r_probe_ci_low",
    "r_probe_ci_high",
    "difference",
    "difference_ci_low",
    "difference_ci_high",
    "se",
    "p",
    "p_holm",
    "p_bh",
    "interval",
    "reason",
    "note",
)
TEXT = ("control", "interval", "reason", "note")
AUROC = "auroc"
SIGNS = ("observed", "declared")
# +1: a high value of the target goes with doubt.
TARGET_DIRECTIONS = {
    "human_entropy": +1,
    "human_entropy_normalized": +1,
    "response_time_ms": +1,
    "human_correct": -1,
    "recall_correct": -1,
    "correct": -1,
}

PEOPLES = tuple(name for name in TARGET_DIRECTIONS if name != "correct")


def behaviour_vs_representation(
    table: pd.DataFrame,
    measures: Sequence[str] | None = None,
    *,
    target: str = "human_entropy_normalized",
    probe: str | None = None,
    method: str | None = None,
    sign: str = "observed",
    directions: Mapping[str, int] | None = None,
    control: str | Sequence[str] | None = None,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    level: float = 0.95,
    interval: str = "percentile",
    cluster: str | None = None,
    missing: str = "raise",
) -> pd.DataFrame:
    """Compare each output measure with a probe's out-of-fold prediction of the same target, item by item.

    Args:
        table: one row per item in each group of `GROUP_KEYS`, with `item`, the measures, `target` and `probe`.
        measures: numeric columns. None: those of the measure table that `table` has, a normalised twin in place of what
            it normalises, each once per run and per scoring and nucleus that it depends on (`views`).
        target: numeric column; one of nothing but 0 and 1 is scored by AUROC.
        probe: column of predictions that are comparable over folds; None for `probe_{target}`, as `signals` makes it.
        method: "pearson", "spearman", "kendall" or "auroc". None: "auroc" for a 0/1 target, else "pearson".
        sign: how a measure is turned so that higher is better. "observed": as it correlates on these items, which
            gives |r|, or the larger of AUROC and 1 - AUROC, and flatters measures that say little. "declared": by its
            direction, so that a measure that runs against it scores below 0, or below 0.5.
        directions: +1 (high = uncertain) or -1 (high = certain) for columns outside the measure table, the target among
            them; needed where sign="declared".
        control: column or columns held constant in both correlations (`partial_correlation`), such as "n_options";
            None for none. Not with AUROC.
        rng, n_bootstrap, level, interval, cluster: of the bootstrap intervals, as for `alignment`.
        missing: "raise", or "drop": leave out, for each measure by itself, the items where the measure, `target`,
            `probe` or `control` is missing, and count them in `n_missing`. Infinities are refused either way.

    Returns:
        One row per group and measure: the keys ("any" where a measure does not depend on one, with measures=None);
        `measure`, `target`, `probe`, `method`, `sign`, `control`, `n`, `n_missing`; `turn`, the sign put on the measure
        (+1 or -1, 0 where it has no score), and `reversed`, True where that is against its declared direction;
        `r_measure` and `r_probe`, correlations in [-1, 1] or areas in [0, 1], each with `_ci_low` and `_ci_high`;
        `difference`, r_probe - r_measure, above 0 where the probe says more, with `difference_ci_low` and
        `difference_ci_high`; of its paired draws the standard deviation `se` and the two-sided `p` (`difference_p`);
        `p_holm` and `p_bh`, corrected over all rows of a run (`adjust_p_values`); `interval`, how the intervals were
        made; `reason`, why a figure is NaN, else None; `note`, what else to know.

    Raises:
        ValueError: an absent or malformed column, a repeated item, a missing or infinite value, a bad option, AUROC of
            a target other than 0 and 1 or with a control, a direction that is needed and not known.
        TypeError: `table` is not a DataFrame, or `rng` not a Generator.
    """
    caller = "behaviour_vs_representation"
    require_columns(table, [target], parameter="target", caller=caller)
    probe = f"probe_{target}" if probe is None else probe
    require_columns(table, [probe], parameter="probe", caller=caller)
    controls = [] if control is None else [control] if isinstance(control, str) else list(control)
    require_columns(table, controls, parameter="control", caller=caller)
    one_of(sign, SIGNS, parameter="sign", caller=caller)
    method = _method(table, target, method, controls, caller=caller)
    bootstrap = Bootstrap.of(
        table, rng=rng, n_bootstrap=n_bootstrap, level=level, interval=interval, cluster=cluster, caller=caller
    )
    rows: list[dict[str, Any]] = []
    for part, names in _parts(table, measures, target, caller=caller):
        expected = {
            name: _expected_turn(name, target, directions, needed=sign == "declared", caller=caller) for name in names
        }
        for keys, frame in groups(part, caller=caller):
            fixed = {name: numbers(frame, name, caller=caller) for name in dict.fromkeys([target, probe, *controls])}
            found: dict[str, dict[str, Any]] = {}
            for columns, present in shared_items(frame, names, fixed, missing=missing, caller=caller):
                comparison = _Comparison(
                    {name: values[present] for name, values in fixed.items()}, target, probe, controls, method
                )
                turns = expected if sign == "declared" else dict.fromkeys(columns)
                compared = comparison.rows(columns, turns, bootstrap, bootstrap.resamples(frame[present]))
                counts = {"n": int(present.sum()), "n_missing": int((~present).sum())}
                found |= {name: {**counts, **result} for name, result in compared.items()}
            held = " and ".join(controls) or None
            asked = {"target": target, "probe": probe, "method": method, "sign": sign, "control": held}
            for name in names:
                backwards = bool(expected[name] and expected[name] == -found[name]["turn"])
                rows.append({**keys, "measure": name, **asked, **found[name], "reversed": backwards})
    corrected = dict.fromkeys(("p_holm", "p_bh"), np.nan)
    result = result_table(
        [{**row, **corrected} for row in rows], keys=group_keys(table), columns=COLUMNS, text=TEXT
    ).astype({"reversed": bool})
    return adjust_p_values(result)


def _method(table: pd.DataFrame, target: str, method: str | None, controls: list[str], *, caller: str) -> str:
    """Choose the score, and refuse an AUROC that cannot be."""
    if method is not None:
        one_of(method, (*METHODS, AUROC), parameter="method", caller=caller)
    values = numbers(table, target, caller=caller)
    classes = np.isin(values[~np.isnan(values)], (0.0, 1.0)).all() and len(values) > 0
    method = (AUROC if classes else "pearson") if method is None else method
    if method == AUROC and len(values) and not classes:
        raise ValueError(
            f"The method parameter of {caller} must be a correlation ({', '.join(METHODS)}) for a target other than 0 "
            f"and 1. Got 'auroc' for {target!r} instead."
        )
    if method == AUROC and controls:
        raise ValueError(
            f"The control parameter of {caller} must be None for an AUROC. Got {' and '.join(controls)} instead; "
            "choose method='pearson' or 'spearman' for partial correlations."
        )
    return method


def _parts(
    table: pd.DataFrame, measures: Sequence[str] | None, target: str, *, caller: str
) -> list[tuple[pd.DataFrame, list[str]]]:
    """Split the table by the measures that are looked at in it: those named, or every known measure once."""
    if measures is not None:
        names = column_names(measures, parameter="measures", caller=caller)
        require_columns(table, names, parameter="measures", caller=caller)
        return [(table, names)]
    known = default_measures(table)
    if not known:
        raise ValueError(
            f"The measures parameter of {caller} must name the columns to compare where the table has none of the "
            f"measure table. Got None and the columns {list(table.columns)[:12]} instead."
        )
    list(groups(table, caller=caller))  # refuses repeated items before rows are selected
    # What people did is the same under every scoring; whether the model's option is right is not.
    return list(views(table, known, kept=() if target in PEOPLES else ("scoring",)))


def _expected_turn(
    measure: str, target: str, directions: Mapping[str, int] | None, *, needed: bool, caller: str
) -> int | None:
    """Sign of the correlation of a measure with the target that its direction declares; None where nothing says."""
    known = {**TARGET_DIRECTIONS, **(directions or {})}
    try:
        return reading_direction(measure, directions, caller=caller) * reading_direction(target, known, caller=caller)
    except ValueError:
        if needed or (directions and {measure, target} & set(directions)):
            raise
        return None


class _Comparison:
    """The scores of measures and of a probe against one target, on the items that have them all."""

    def __init__(self, columns: dict[str, Floats], target: str, probe: str, controls: list[str], method: str) -> None:
        self.target, self.probe, self.method = target, probe, method
        self._columns = columns
        self._controls = {name: columns[name] for name in controls}
        self._held = [values for values in self._controls.values() if not is_constant(values)]

    def rows(
        self,
        measures: dict[str, Floats],
        turns: Mapping[str, int | None],
        bootstrap: Bootstrap,
        resamples: Resamples,
    ) -> dict[str, dict[str, Any]]:
        """Compare measures [n] with the probe, all in the same resamples; a turn that is None is the observed one."""
        reason = self._score(self.probe, self._columns[self.probe])[1]
        scores = {name: self._score(name, values) for name, values in measures.items()}
        whole = reason is None
        drawn = [name for name in measures if whole and scores[name][1] is None]
        signs = [turns[name] or (1 if scores[name][0] >= 0 else -1) for name in drawn]
        found: dict[str, Drawn] = {}
        if drawn:
            stacked = np.column_stack([*(measures[name] for name in drawn), self._columns[self.probe]])
            found = draw_figures(self._statistic(stacked, [*signs, 1], len(drawn)), resamples, bootstrap)
        results = {}
        for name in measures:
            number = drawn.index(name) if name in drawn else None
            measure, other, difference = (
                (UNDEFINED,) * 3
                if number is None
                else (found[f"measure_{number}"], found["probe"], found[f"difference_{number}"])
            )
            unknown = np.isnan(difference.p) and not np.isnan(difference.low)
            reasons = (scores[name][1], reason, measure.reason, other.reason, difference.reason)
            results[name] = {
                "turn": 0 if number is None else signs[number],
                "r_measure": measure.value,
                "r_measure_ci_low": measure.low,
                "r_measure_ci_high": measure.high,
                "r_probe": other.value,
                "r_probe_ci_low": other.low,
                "r_probe_ci_high": other.high,
                "difference": difference.value,
                "difference_ci_low": difference.low,
                "difference_ci_high": difference.high,
                "se": difference.se,
                "p": difference.p,
                "interval": bootstrap.label(resamples),
                "reason": join_reasons(*reasons, NO_ERROR if unknown else None),
                "note": self._note() if number is not None else None,
            }
        return results

    def _score(self, name: str, values: Floats) -> tuple[float, str | None]:
        """How far a column is from saying nothing about the target, with its sign; or NaN and why."""
        target = self._columns[self.target]
        names = (name, self.target)
        if self.method == AUROC:
            if target.size and is_constant(target):
                return np.nan, f"{self.target} is {target[0]:g} for every item"
            return correlation(values, target, method="spearman", names=names)[::2]
        if self._controls:
            stacked = np.column_stack(list(self._controls.values()))
            return partial_correlation(values, target, stacked, method=self.method, names=names)[::2]
        return correlation(values, target, method=self.method, names=names)[::2]

    def _statistic(self, columns: Floats, signs: list[int], count: int) -> Statistic:
        target = self._columns[self.target]
        if self.method == AUROC:
            # Its areas are those of telling 0 from 1 by a high value.
            return _Turned(Orders(columns, target, directions=[-sign for sign in signs]), count + 1, [1] * (count + 1))
        held = Correlations(columns, target, self._held, method=self.method)
        return _Turned(held, count + 1 if self._held else 0, signs)

    def _note(self) -> str | None:
        constant = [name for name, values in self._controls.items() if is_constant(values)]
        return f"{' and '.join(constant)} {'does' if len(constant) == 1 else 'do'} not vary" if constant else None


class _Turned:
    """Scores of m measures and of a probe, the last, and the m differences probe - measure: a `Statistic`.

    Args:
        scores: a statistic whose rows hold the m + 1 scores in a stretch.
        first: where that stretch begins.
        signs: [m + 1], put on the scores.
    """

    def __init__(self, scores: Statistic, first: int, signs: Sequence[int]) -> None:
        self._scores, self._rows = scores, slice(first, first + len(signs))
        self._signs = np.asarray(signs, dtype=np.float64)[:, None]
        numbered = range(len(signs) - 1)
        self.names = (
            *(f"measure_{number}" for number in numbered),
            "probe",
            *(f"difference_{number}" for number in numbered),
        )

    def __call__(self, counts: Floats) -> Floats:
        """Evaluate in every draw of counts [n, b]: [2 m + 1, b]."""
        scores = self._signs * self._scores(counts)[self._rows]
        return np.concatenate([scores, scores[-1] - scores[:-1]])

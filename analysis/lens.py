"""At which depth is doubt readable by the model itself? What the measures of a logit lens tell, layer by layer.

1. A measure at a layer is what `logit_lens` computes from that layer's residual through the model's own final norm and
   head. Each layer's measure is compared with people's disagreement (Spearman) and with whether the answer that the
   model gives in the end is right (AUROC), over the same items and in the same resamples.
2. The layer at which a measure tells most was picked as the best of many. So people's disagreement, or the marks of
   right and wrong, are permuted over items with the same number of options, the same way for every layer, and each
   layer is compared with the largest figure of any (`permutation`; Westfall & Young 1993).

The ranks of two marks are linear in them, so testing the AUROC of all layers is testing their Spearman correlations
with the marks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .answers import reading_direction, right_or_wrong
from .arrays import Floats
from .bootstrap import Bootstrap
from .correlation import correlation
from .correlation_draws import Correlations
from .discrimination import Orders, auroc
from .intervals import NO_INTERVAL, Interval, draw_seed
from .permutation import max_statistic_test
from .resamples import Statistic
from .tables import column_names, group_keys, groups, join_reasons, numbers, require_columns, result_table, shared_items

# Column -> the figure, and why it is NaN.
Seen = dict[str, tuple[float, str | None]]

DEFAULT_MEASURES = ("total_entropy_normalized", "choice_entropy_normalized")
COLUMNS = (
    "layer",
    "measure",
    "direction",
    "n",
    "mean",
    "n_human",
    "human_spearman",
    "human_spearman_ci_low",
    "human_spearman_ci_high",
    "p",
    "p_max",
    "n_correct",
    "correct_auroc",
    "correct_auroc_ci_low",
    "correct_auroc_ci_high",
    "correct_p",
    "correct_p_max",
    "accuracy",
    "n_layers",
    "n_permutations",
    "within",
    "interval",
    "reason",
)


def lens_curve(
    table: pd.DataFrame,
    measures: Sequence[str] | None = None,
    *,
    human: str = "human_entropy_normalized",
    correct: str = "final_correct",
    directions: Mapping[str, int] | None = None,
    within: str | Sequence[str] | None = "n_options",
    n_permutations: int = 1000,
    n_bootstrap: int = 2000,
    level: float = 0.95,
    interval: str = "percentile",
    cluster: str | None = None,
    missing: str = "raise",
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Follow what measures of a logit lens tell about people's disagreement and about errors, from layer to layer.

    Args:
        table: of `logit_lens`, or any with one row per item and `layer` in each group of `GROUP_KEYS`: `item`, `layer`,
            the measures, `human`, `correct` and `within`.
        measures: columns; default those of `total_entropy_normalized` and `choice_entropy_normalized` that are there.
        human: numeric column of people's disagreement, the same for an item in all layers.
        correct: column of 1 (right) or 0 (wrong), the same for an item in all layers: `final_correct` judges the
            answer of the whole model.
        directions: +1 (high = uncertain) or -1 (high = certain) for columns outside the measure table.
        within: column or columns whose values only items may share that are exchanged; None exchanges all items.
        n_permutations: permutations of `human` and of `correct`; the smallest p is 1 / (1 + n_permutations).
        n_bootstrap, level, interval, cluster: as for `alignment`.
        missing: "raise", or "drop": leave out, for each layer of a measure by itself, the items where the measure, or
            what it is compared with, is missing. A `human` or `correct` without any value is no error: its figures are
            NaN and `reason` says so.
        rng: source of resamples and permutations; every group and measure starts from the same seeds.

    Returns:
        One row per group, measure and layer: the keys; `layer`, `measure`, `direction`; `n` items with the measure and
        its `mean` (in the measure's own unit); `human_spearman` with people, of `n_human` items, with
        `human_spearman_ci_low` and `human_spearman_ci_high`, `p` of the layer by itself and `p_max` against the largest
        of all layers of the measure; `correct_auroc`, above 0.5 where wrong answers are the more uncertain ones
        whatever the direction, of `n_correct` items, with its interval, `correct_p` and `correct_p_max`; `accuracy`,
        the share of items whose choice at the layer is right (column `correct` of `logit_lens`; NaN without it);
        `n_layers` in the family; `n_permutations`; `within`; `interval`, how the intervals were made; `reason`, why a
        figure is NaN, else None. All p are two-sided. A measure that a group has no value of, as those of the options
        under a prompt that lists none, has no rows there.

    Raises:
        ValueError: an absent or malformed column, a repeated item, other items in one layer than in another, a missing
            or infinite value, values of `human`, `correct` or `within` that change between layers, a bad option.
        TypeError: `table` is not a DataFrame, or `rng` not a Generator.
    """
    caller = "lens_curve"
    require_columns(table, ["layer", "item"], parameter="table", caller=caller)
    if measures is None:
        measures = [name for name in DEFAULT_MEASURES if name in table] or DEFAULT_MEASURES
    measures = column_names(measures, parameter="measures", caller=caller)
    strata = [] if within is None else [within] if isinstance(within, str) else list(within)
    for parameter, names in {"measures": measures, "human": [human], "correct": [correct], "within": strata}.items():
        require_columns(table, names, parameter=parameter, caller=caller)
    signs = {name: reading_direction(name, directions, caller=caller) for name in measures}
    bootstrap = Bootstrap.of(
        table, rng=rng, n_bootstrap=n_bootstrap, level=level, interval=interval, cluster=cluster, caller=caller
    )
    tested = {"within": within, "n_permutations": n_permutations, "rng": draw_seed(rng, caller=caller)}
    fixed = {"n_permutations": int(n_permutations), "within": " x ".join(strata) or None}
    kept = list(dict.fromkeys([human, correct, *strata, *([cluster] if cluster is not None else [])]))
    rows: list[dict[str, Any]] = []
    keys = group_keys(table)
    grouped = table.groupby(keys, sort=False, dropna=False, observed=True) if keys else [((), table)]
    for _, group in grouped if len(table) else ():
        layers = _Layers(group, kept, caller=caller)
        shared = {**layers.keys, **fixed, "n_layers": len(layers.frames)}
        for measure in measures:
            if group[measure].isna().all():
                continue
            by_layer = _Measure(layers, measure, signs[measure], bootstrap, missing, tested).rows(human, correct)
            rows += [{**shared, "measure": measure, "direction": signs[measure], **row} for row in by_layer]
    return result_table(rows, keys=keys, columns=COLUMNS, text=("within", "interval", "reason"))


class _Layers:
    """The rows of one group, cut by layer: the same items in each, in the same order.

    Raises:
        ValueError: items or what is known of them differ between layers.
    """

    def __init__(self, group: pd.DataFrame, kept: Sequence[str], *, caller: str) -> None:
        depth = numbers(group, "layer", caller=caller)
        if np.isnan(depth).any():
            raise ValueError(f"The layer column given to {caller} must name the layer of every row. Got none in some.")
        self.frames: dict[Any, pd.DataFrame] = {}
        for layer in sorted(group["layer"].unique()):
            ((self.keys, frame),) = groups(group[group["layer"] == layer], caller=caller)
            self.frames[layer] = frame.reset_index(drop=True)
        first, self.base = next(iter(self.frames.items()))
        for layer, frame in self.frames.items():
            if frame["item"].tolist() != self.base["item"].tolist():
                odd = sorted(map(str, set(frame["item"]) ^ set(self.base["item"])))
                raise ValueError(
                    f"The table parameter of {caller} must hold the same items in every layer. Got {odd[0]!r} in only "
                    f"one of the layers {first} and {layer} instead."
                )
            for name in kept:
                if not frame[name].equals(self.base[name]):
                    raise ValueError(
                        f"The {name} column given to {caller} must say the same of an item in all layers. Got other "
                        f"values in layer {layer} than in layer {first} instead."
                    )


@dataclass(frozen=True, eq=False)
class _Target:
    """What a measure is compared with: `values` [n] of a column, and what the results are called."""

    column: str
    values: Floats
    count: str
    figure: str
    p: str
    p_max: str

    @property
    def ends(self) -> tuple[str, str]:
        return f"{self.figure}_ci_low", f"{self.figure}_ci_high"

    def nothing(self, n: int) -> dict[str, Any]:
        return {self.count: n, **dict.fromkeys((self.figure, *self.ends, self.p, self.p_max), np.nan)}


class _Measure:
    """One measure at every layer, as the columns of one table of items."""

    def __init__(
        self, layers: _Layers, name: str, sign: int, bootstrap: Bootstrap, missing: str, tested: Mapping[str, Any]
    ) -> None:
        self.layers, self.name, self.sign, self.bootstrap = layers, name, sign, bootstrap
        self.missing, self.tested, self.caller = missing, tested, bootstrap.caller
        self.names = {layer: f"{name} at layer {layer}" for layer in layers.frames}
        columns = {column: layers.frames[layer][name] for layer, column in self.names.items()}
        self.wide = pd.concat([layers.base, pd.DataFrame(columns)], axis=1)

    def rows(self, human: str, correct: str) -> list[dict[str, Any]]:
        """One row per layer."""
        people = numbers(self.wide, human, caller=self.caller)
        marks = right_or_wrong(self.wide, correct, caller=self.caller)
        told = [
            self._told(_Target(human, people, "n_human", "human_spearman", "p", "p_max"), self._correlations),
            self._told(
                _Target(correct, marks, "n_correct", "correct_auroc", "correct_p", "correct_p_max"), self._areas
            ),
        ]
        label = self.bootstrap.label(self.bootstrap.resamples(self.wide))
        rows = []
        for layer, name in self.names.items():
            values = numbers(self.wide, name, caller=self.caller)
            row = {"layer": layer, "n": int((~np.isnan(values)).sum()), "mean": _mean(values)}
            row |= told[0][name] | told[1][name] | {"accuracy": self._accuracy(layer), "interval": label}
            rows.append(row | {"reason": join_reasons(*(about[name]["reason"] for about in told))})
        return rows

    def _accuracy(self, layer: Any) -> float:
        frame = self.layers.frames[layer]
        return _mean(right_or_wrong(frame, "correct", caller=self.caller)) if "correct" in frame else np.nan

    def _told(self, target: _Target, figures: Callable[..., tuple[Seen, Callable[..., Statistic]]]) -> dict[str, Any]:
        """What the measure tells of a target at each layer, as columns of the result."""
        names = list(self.names.values())
        if np.isnan(target.values).all():
            return {name: {**target.nothing(0), "reason": f"no item has {target.column}"} for name in names}
        found: dict[str, dict[str, Any]] = {}
        fixed = {target.column: target.values}
        for columns, present in shared_items(self.wide, names, fixed, missing=self.missing, caller=self.caller):
            seen, statistic = figures(columns, target.values[present], target.column)
            defined = [name for name in columns if seen[name][1] is None]
            bounds: dict[str, Interval] = {}
            if defined:
                stacked = np.column_stack([columns[name] for name in defined])
                resamples = self.bootstrap.resamples(self.wide[present])
                drawn = self.bootstrap.intervals([statistic(stacked)], resamples)[0]
                # The areas of `Orders` follow as many correlations.
                bounds = dict(zip(defined, drawn[-len(defined) :], strict=True))
            for name in columns:
                value, why = seen[name]
                low, high, no_interval = bounds.get(name, NO_INTERVAL)
                row = {target.figure: value, **dict(zip(target.ends, (low, high), strict=True))}
                found[name] = {**target.nothing(int(present.sum())), **row, "reason": join_reasons(why, no_interval)}
        tests = max_statistic_test(self.wide, names, human=target.column, missing=self.missing, **self._null())
        for test in tests.to_dict("records"):
            row = found[test["measure"]]
            row |= {target.p: test["p_permutation"], target.p_max: test["p_max"]}
            row["reason"] = row["reason"] or test["reason"]
        return found

    def _null(self) -> dict[str, Any]:
        return {**self.tested, "rng": np.random.default_rng(self.tested["rng"])}

    def _correlations(
        self, columns: Mapping[str, Floats], target: Floats, column: str
    ) -> tuple[Seen, Callable[[Floats], Statistic]]:
        names = self.name, column
        pairs = {name: correlation(values, target, method="spearman", names=names) for name, values in columns.items()}
        seen = {name: (pair.value, pair.reason) for name, pair in pairs.items()}
        return seen, lambda stacked: Correlations(stacked, target, method="spearman")

    def _areas(
        self, columns: Mapping[str, Floats], marks: Floats, column: str
    ) -> tuple[Seen, Callable[[Floats], Statistic]]:
        seen: Seen
        if not len(marks):
            seen = dict.fromkeys(columns, (np.nan, f"no item has {self.name} and {column}"))
        elif np.ptp(marks) == 0:
            seen = dict.fromkeys(columns, (np.nan, f"every answer is {'right' if marks.all() else 'wrong'}"))
        else:
            seen = {name: (auroc(values, marks, direction=self.sign), None) for name, values in columns.items()}
        return seen, lambda stacked: Orders(stacked, marks, directions=[self.sign] * stacked.shape[1])


def _mean(values: Floats) -> float:
    """Mean of what is there; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan

"""Figures of what a probe must beat, and of what more items would give it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from .figure_parts import (
    BLUE,
    COLOURS,
    GREY,
    INK,
    TARGET_NAMES,
    TEXT,
    VERMILION,
    draw_intervals,
    finish,
    fold,
    label_width,
    legend_over,
    name_axes,
    numbered,
    panel_grid,
    plain,
    require,
    require_numbers,
    require_once,
    stripes,
)

SCORES = {"pearson": "Pearson r", "auroc": "AUROC"}
CONTROL_NAMES = {
    "probe": "probe",
    "options_and_length": "options and length",
    "tfidf": "words of the question",
    "output_measures": "all output measures",
    "untrained": "untrained model",
    "random_projection": "random directions",
}
# What tells the probes of a figure apart; of datasets and prompts it shows one.
_KEYS = ("model", "site", "position", "scoring", "probe")


def control_scores(controls: pd.DataFrame) -> list[Axes]:
    """Draw the probe's score above those of its controls, and the paired differences, with intervals.

    Args:
        controls: rows of `probe_controls` for targets of one scale: control, target, score_name, score, ci_low,
            ci_high, difference, difference_ci_low, difference_ci_high, as_good; model, site, position, scoring
            and probe where they differ.

    Returns:
        Two Axes that share their rows, one row per row of the table in its order: scores on the left, probe minus
        control on the right. Controls that the probe does not beat are marked in both.

    Raises:
        ValueError: columns are missing, the table is empty, holds text or infinities, mixes Pearson and AUROC, or two
            rows claim one place.
    """
    caller = "control_scores"
    needed = ["score", "ci_low", "ci_high", "difference", "difference_ci_low", "difference_ci_high"]
    require(controls, ["control", "target", "score_name", "as_good", *needed], "controls", caller)
    numbers = require_numbers(controls, needed, "controls", caller)
    name = _one_scale(controls, "controls", caller)
    runs = _labels(controls, (*_KEYS, "target"))
    require_once(controls, {"run": runs, "control": controls["control"]}, "controls", caller)
    shown = [CONTROL_NAMES.get(control, str(control)) for control in controls["control"]]
    labels = [f"{run} · {control}" if run else control for run, control in zip(runs, shown, strict=True)]
    count, probe = len(controls), (controls["control"] == "probe").to_numpy()
    good = controls["as_good"].to_numpy(dtype=bool)
    figure = Figure(figsize=(6.0 + label_width(labels), 0.9 + 0.28 * count), layout="constrained")
    scores, differences = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    places = np.arange(count, dtype=float)
    for ax, chance in ((scores, 0.5 if name == "auroc" else 0.0), (differences, 0.0)):
        stripes(ax, count)
        ax.axvline(chance, color=INK, linewidth=0.8, zorder=1)
        finish(ax)
    for chosen, colour, marker, label in (
        (probe, BLUE, "D", "probe, out of fold"),
        (~probe & ~good, GREY, "o", "control"),
        (~probe & good, VERMILION, "s", "control, not beaten by the probe"),
    ):
        if not chosen.any():
            continue
        style: dict[str, Any] = {"color": colour, "markersize": 4.5, "zorder": 3, "linestyle": "none"}
        for ax, value, interval in ((scores, "score", ""), (differences, "difference", "difference")):
            draw_intervals(ax, places[chosen], controls[chosen], interval, colour)
            ax.plot(numbers[value][chosen], places[chosen], marker=marker, label=label, **style)
    scores.set_yticks(places, labels=[plain(label) for label in labels])
    scores.set_ylim(count - 0.5, -0.5)
    differences.tick_params(labelleft=False)
    scores.set_xlabel(_scale_label(name, list(controls["target"])), fontsize=TEXT)
    differences.set_xlabel("Probe − control", fontsize=TEXT)
    legend_over([scores])
    return [scores, differences]


def learning_curves(learning: pd.DataFrame) -> list[Axes]:
    """Draw the out-of-fold score of probes by the number of rows they were fitted to, one panel per target.

    Args:
        learning: rows of `learning_curve`: target, n_train, score_name, score, ci_low, ci_high; model, site,
            position, scoring and probe where they differ. At most 8 curves.

    Returns:
        One Axes per target, on one figure. The band is the interval over items and draws.

    Raises:
        ValueError: columns are missing, the table is empty, holds text or infinities, has more curves than colours, or
            two rows claim one place.
    """
    caller = "learning_curves"
    needed = ["n_train", "score", "ci_low", "ci_high"]
    require(learning, ["target", "score_name", *needed], "learning", caller)
    numbers = require_numbers(learning, needed, "learning", caller)
    labels = _labels(learning, _KEYS)
    targets, names = numbered(learning["target"].to_numpy(dtype=object))
    require_once(
        learning, {"target": learning["target"], "curve": labels, "n_train": learning["n_train"]}, "learning", caller
    )
    curves = list(dict.fromkeys(labels))
    if len(curves) > len(COLOURS):
        raise ValueError(
            f"The learning parameter of {caller} must hold at most {len(COLOURS)} curves, one per colour. Got "
            f"{len(curves)} instead; select some."
        )
    panels = panel_grid(len(names), columns=2, width=3.6, height=3.0)
    for number, (target, ax) in enumerate(zip(names, panels, strict=True)):
        inside = targets == number
        scale = _one_scale(learning[inside], "learning", caller)
        ax.axhline(0.5 if scale == "auroc" else 0.0, color=INK, linewidth=0.8, zorder=1)
        for place, label in enumerate(curves):
            rows = np.flatnonzero(inside & (np.array(labels, dtype=object) == label))
            if not rows.size:
                continue
            rows = rows[np.argsort(numbers["n_train"][rows], kind="stable")]
            x, y, low, high = (numbers[column][rows] for column in needed)
            ax.fill_between(x, low, high, color=COLOURS[place], alpha=0.18, linewidth=0)
            ax.plot(
                x, y, "o-", color=COLOURS[place], markersize=3.5, linewidth=1.2, zorder=3, label=plain(label or "probe")
            )
        ticks = np.unique(numbers["n_train"][inside])
        ax.set_xscale("log")
        ax.set_xticks(_spaced(ticks), labels=[f"{tick:g}" for tick in _spaced(ticks)])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_ylabel(fold(_scale_label(scale, [target]), 40), fontsize=TEXT)
        finish(ax)
    legend_over(panels)
    name_axes(panels, "Rows that the probe learns from", panels[0].get_ylabel() if len(panels) == 1 else "")
    return panels


def _labels(table: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """Name rows by the keys in which the table's rows differ; "" where there are none."""
    differing = [key for key in keys if key in table and table[key].nunique(dropna=False) > 1]
    rows = table[differing].astype(object).to_dict("records")
    return [" · ".join(str(value) for value in row.values() if not pd.isna(value)) for row in rows]


def _one_scale(table: pd.DataFrame, parameter: str, caller: str) -> str:
    names = list(dict.fromkeys(table["score_name"]))
    if len(names) > 1:
        raise ValueError(
            f"The {parameter} parameter of {caller} must have scores of one scale in a panel. Got "
            f"{' and '.join(map(str, names))} instead; select one target."
        )
    return str(names[0])


def _scale_label(name: str, targets: Sequence[Any]) -> str:
    shown = list(dict.fromkeys(TARGET_NAMES.get(target, plain(target)) for target in targets))
    return f"{SCORES.get(name, plain(name))}, {' / '.join(shown)}"


def _spaced(ticks: np.ndarray) -> np.ndarray:
    """Leave out ticks that would run into the one before on an axis of ratios."""
    kept = [ticks[-1]]
    for tick in ticks[-2::-1]:
        if kept[-1] / tick >= 1.4:
            kept.append(tick)
    return np.array(kept[::-1])

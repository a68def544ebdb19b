"""Figures of behaviour against representation: each output measure beside the probe, and what lies between them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figure_parts import (
    BLUE,
    GREY,
    INK,
    TARGET_NAMES,
    TEXT,
    VERMILION,
    draw_intervals,
    finish,
    label_width,
    legend_over,
    measure_labels,
    owners,
    plain,
    require,
    require_numbers,
    require_once,
    stripes,
    unique,
)

SCORES = {"pearson": "Pearson r", "spearman": "Spearman r", "kendall": "Kendall tau", "auroc": "AUROC"}
_SERIES = ("r_measure", "r_probe", "difference")


def behaviour_dots(comparison: pd.DataFrame) -> list[Axes]:
    """Draw the score of each output measure beside the probe's, and their paired difference, with intervals.

    Args:
        comparison: rows of `behaviour_vs_representation` for one target: measure, target, method, r_measure, r_probe,
            difference, each of the last three with _ci_low and _ci_high; model, scoring and nucleus where they differ.

    Returns:
        Two Axes that share their rows, one row per row of the table: the scores on the left (a hollow dot where the
        measure was read against its declared direction), the probe's less the measure's on the right. The rows lie in
        the order of the table, named by what differs: measures, models or both. A row without a comparison is empty.

    Raises:
        ValueError: columns are missing, the table is empty, holds text or infinities, mixes targets or scores, or two
            rows claim one place.
    """
    caller = "behaviour_dots"
    needed = [name + end for name in _SERIES for end in ("", "_ci_low", "_ci_high")]
    require(comparison, ["measure", "target", "method", *needed], "comparison", caller)
    numbers = require_numbers(comparison, needed, "comparison", caller)
    for column in ("target", "method"):
        if len(unique(comparison, column)) > 1:
            raise ValueError(
                f"The comparison parameter of {caller} must hold one {column}. Got "
                f"{', '.join(map(str, unique(comparison, column)))} instead; select one."
            )
    models, labels = owners(comparison), measure_labels(comparison, marked=False)
    require_once(comparison, {"model": models, "measure": labels}, "comparison", caller)
    if len(set(models)) > 1:
        both = zip(models, labels, strict=True)
        labels = models if len(set(labels)) == 1 else np.array([f"{model} · {label}" for model, label in both])
    count = len(comparison)
    figure = Figure(figsize=(6.2 + label_width(labels), 0.9 + 0.26 * count), layout="constrained")
    scores, differences = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    places, method = np.arange(count, dtype=float), str(comparison["method"].iloc[0])
    backwards = comparison["reversed"].to_numpy(dtype=bool) if "reversed" in comparison else np.zeros(count, bool)
    for ax, chance in ((scores, 0.5 if method == "auroc" else 0.0), (differences, 0.0)):
        stripes(ax, count)
        ax.axvline(chance, color=INK, linewidth=0.8, zorder=1)
        finish(ax)
    for name, marker, colour, shift, label in (
        ("r_probe", "D", BLUE, 0.16, "probe, out of fold"),
        ("r_measure", "o", VERMILION, -0.16, "output measure"),
    ):
        draw_intervals(scores, places + shift, comparison, name, colour)
        shown = ~backwards if name == "r_measure" else np.ones(count, dtype=bool)
        scores.plot(
            numbers[name][shown], (places + shift)[shown], marker, color=colour, markersize=4.5, label=label, zorder=3
        )
    if backwards.any():
        hollow = {"color": VERMILION, "markersize": 4.5, "markerfacecolor": "white", "zorder": 3}
        scores.plot(
            numbers["r_measure"][backwards], (places - 0.16)[backwards], "o", **hollow,
            label="... read against its direction",
        )  # fmt: skip
    low, high = numbers["difference_ci_low"], numbers["difference_ci_high"]
    for chosen, colour, label in (
        (low > 0, BLUE, "the probe says more"),
        (high < 0, VERMILION, "the measure says more"),
        (~(low > 0) & ~(high < 0), GREY, "not told apart"),
    ):
        known = chosen & np.isfinite(numbers["difference"])
        if known.any():
            draw_intervals(differences, places[known], comparison[known], "difference", colour)
            differences.plot(
                numbers["difference"][known], places[known], "s", color=colour, markersize=4.5, label=label, zorder=3
            )
    scores.set_yticks(places, labels=[plain(label) for label in labels])
    scores.set_ylim(count - 0.5, -0.5)
    differences.tick_params(labelleft=False)
    target = str(comparison["target"].iloc[0])
    named = SCORES.get(method, method)
    scores.set_xlabel(f"{named}, {TARGET_NAMES.get(target, plain(target))}", fontsize=TEXT)
    differences.set_xlabel("Probe − measure", fontsize=TEXT)
    legend_over([scores, differences])
    return [scores, differences]

"""Figures of the logit lens: what its measures tell by layer."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .arrays import one_of
from .figure_parts import (
    GREY,
    INK,
    TEXT,
    finish,
    label_width,
    legend_above,
    line_style,
    measure_labels,
    new_axes,
    plain,
    require,
    require_numbers,
    require_once,
)
from .views import ANY, RUN_KEYS, depends_on

# What each figure is called, the value that says nothing, and the column that tells the best layer from chance.
FIGURES = {
    "human_spearman": ("Spearman correlation with human entropy", 0.0, "p_max"),
    "correct_auroc": ("AUROC of the model's errors", 0.5, "correct_p_max"),
    "mean": ("Mean over items", None, None),
}
LEVEL = 0.05
WIDTH = 6.4


def lens_curves(curve: pd.DataFrame, *, figure: str = "human_spearman", ax: Axes | None = None) -> Axes:
    """Draw one figure of a logit lens by layer, a line per measure, with the interval of each layer.

    Args:
        curve: rows of `lens_curve` for one run: layer, measure, the figure's column and, for `human_spearman` and
            `correct_auroc`, its interval (_ci_low, _ci_high) and the p against the maximum over layers (p_max,
            correct_p_max); scoring and nucleus where they differ.
        figure: "human_spearman", "correct_auroc", or "mean" (of measures with one unit).
        ax: Axes to draw on.

    Returns:
        The Axes. Layers that stand out of the maximum over layers (p_max <= 0.05) have a filled dot, the others a
        hollow one; a layer without the figure is a gap. `mean` has no test: its dots are filled.

    Raises:
        ValueError: an unknown figure; columns are missing, the table is empty or holds text or infinities, or two rows
            claim the same layer of a line.
    """
    caller = "lens_curves"
    one_of(figure, FIGURES, parameter="figure", caller=caller)
    title, neutral, test = FIGURES[figure]
    ends = [f"{figure}_ci_low", f"{figure}_ci_high"] if test else []
    needed = ["layer", figure, *ends, *([test] if test else [])]
    require(curve, ["measure", *needed], "curve", caller)
    curve = curve if figure == "correct_auroc" else _once(curve)
    numbers = require_numbers(curve, needed, "curve", caller)
    labels = measure_labels(curve, marked=figure != "correct_auroc")
    require_once(curve, {"line": labels, "layer": curve["layer"]}, "curve", caller)
    names = list(dict.fromkeys(labels))
    columns = 2 if label_width(names) < WIDTH / 2 - 0.7 else 1
    ax = ax or new_axes(WIDTH, 3.0 + 0.17 * -(-(len(names) + 1) // columns))
    if neutral is not None:
        ax.axhline(neutral, color=INK, linewidth=0.8, zorder=1)
    for number, label in enumerate(names):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(numbers["layer"][rows])]
        depth, values = numbers["layer"][rows], numbers[figure][rows]
        style = line_style(number)
        if ends:
            low, high = (numbers[end][rows] for end in ends)
            ax.fill_between(depth, low, high, color=style["color"], alpha=0.15, linewidth=0, zorder=0)
        ax.plot(depth, values, linewidth=1.2, label=plain(label), zorder=2, **style)
        stands_out = numbers[test][rows] <= LEVEL if test else np.ones(len(rows), dtype=bool)
        for those, face in ((stands_out, style["color"]), (~stands_out, "white")):
            dots = {"markersize": 3.5, "markeredgewidth": 0.9, "markerfacecolor": face, "color": style["color"]}
            ax.plot(depth[those], values[those], "o", linestyle="none", zorder=3, **dots)
    if test and (numbers[test] <= LEVEL).any():
        label = f"p against the best of all layers ≤ {LEVEL}"
        ax.plot([], [], "o", color=GREY, markersize=3.5, linestyle="none", label=label)
    ax.set_xlabel("Layer", fontsize=TEXT)
    ax.set_ylabel(title, fontsize=TEXT)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_above(ax, columns=columns)
    return finish(ax)


def _once(curve: pd.DataFrame) -> pd.DataFrame:
    """Keep measures that are the same under every scoring, or nucleus, under the first only, there called "any"."""
    for key in ("scoring", "nucleus"):
        if key in curve:
            free = np.array([key not in depends_on(name) for name in curve["measure"]], dtype=bool)
            given = curve[key].astype(object).where(curve[key].notna(), "")
            same = [curve[name] for name in (*RUN_KEYS, "measure") if name in curve]
            first = given == given.groupby(same, dropna=False).transform("first")
            curve = curve.assign(**{key: curve[key].astype(object).mask(free, ANY)})[~free | first]
    return curve.reset_index(drop=True)

"""What the figures share: colours, sizes, labels, and the check of their tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..probes.measure_table import MEASURES

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"
INK, GREY, PALE = "#222222", "#767676", "#dddddd"
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, "#000000", GREY)
TARGET_NAMES = {"human_entropy_normalized": "human entropy", "correct": "correctness"}
SMALL, TEXT = 8.0, 9.0
_LONGEST_LABEL = 60


def plain(text: object) -> str:
    """Prepare text from models and data for a figure: never read as mathematics, one line, not endless."""
    line = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(text))
    if len(line) > _LONGEST_LABEL:
        line = line[: _LONGEST_LABEL - 1] + "…"
    return line.replace("$", r"\$")


def new_axes(width: float, height: float) -> Axes:
    """Make Axes on a figure of their own, `width` x `height` inches, laid out without overlaps."""
    return Figure(figsize=(width, height), layout="constrained").add_subplot()


def panel_grid(count: int, *, columns: int, width: float, height: float, sharey: bool = False) -> list[Axes]:
    """Make `count` Axes of `width` x `height` inches in rows of `columns`, on one figure."""
    columns = min(count, columns)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
    panels = list(grid.flat)
    for unused in panels[count:]:
        unused.remove()
    return panels[:count]


def finish(ax: Axes) -> Axes:
    """Take off the frame and set the size of the tick labels."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=SMALL)
    ax.set_axisbelow(True)
    return ax


def legend_entries(ax: Axes) -> list[tuple[Any, str]]:
    """List what the legend of an Axes names: bars first, then lines, then areas and marks."""
    ranks: tuple[type, ...] = (BarContainer, Line2D, PolyCollection)
    entries = list(zip(*ax.get_legend_handles_labels(), strict=True))
    return sorted(
        entries, key=lambda entry: next((rank for rank, kind in enumerate(ranks) if isinstance(entry[0], kind)), 3)
    )


def legend_above(ax: Axes, *, columns: int) -> None:
    """Put the legend above the Axes, where it covers nothing."""
    handles, labels = zip(*legend_entries(ax), strict=True)
    ax.legend(
        handles, labels, fontsize=SMALL, frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns
    )


def draw_intervals(ax: Axes, places: np.ndarray, table: pd.DataFrame, name: str, colour: str) -> None:
    """Draw the intervals `name`_ci_low to `name`_ci_high as lines at `places`."""
    prefix = f"{name}_" if name else ""
    low, high = (
        table[f"{prefix}ci_low"].to_numpy(dtype=float),
        table[f"{prefix}ci_high"].to_numpy(dtype=float),
    )
    ax.hlines(places, low, high, color=colour, linewidth=1.0, zorder=2)


def limit_correlations(ax: Axes, values: pd.DataFrame) -> None:
    """Show 0 to 0.5 at least, on both sides where there is anything negative, with a little air."""
    numbers = values.to_numpy(dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    low = min(-0.1, *(numbers - 0.04)) if numbers.size else -0.1
    high = max(0.55, *(numbers + 0.04)) if numbers.size else 0.55
    ax.set_xlim(max(low, -1.02), min(high, 1.02))


def measure_labels(table: pd.DataFrame, *, joint: str = " ") -> np.ndarray:
    """Label rows by measure, (−) where high is certain, with scoring and nucleus where rows differ in them."""
    several = [key for key in ("scoring", "nucleus") if key in table and len(set(table[key]) - {"any", None}) > 1]
    labels = []
    for _, row in table.iterrows():
        name = str(row["measure"])
        if name in MEASURES and MEASURES[name].direction < 0:
            name += " (−)"
        extra = ", ".join(str(row[key]) for key in several if row[key] not in ("any", None))
        labels.append(name + (f"{joint}[{extra}]" if extra else ""))
    return np.array(labels, dtype=object)


def unique(table: pd.DataFrame, column: str) -> list:
    """List the values of a column in order of appearance; [None] where there is no such column."""
    return list(dict.fromkeys(table[column])) if column in table else [None]


def require(table: pd.DataFrame, columns: Sequence[str], parameter: str, caller: str) -> None:
    """Refuse a table without rows, or without one of the columns.

    Raises:
        ValueError: naming the columns that are missing.
    """
    missing = [column for column in columns if column not in table]
    if missing:
        raise ValueError(
            f"The {parameter} parameter of {caller} must have the columns {', '.join(columns)}. "
            f"Got {', '.join(map(str, table.columns))} instead; missing: {', '.join(missing)}."
        )
    if table.empty:
        raise ValueError(
            f"The {parameter} parameter of {caller} must have at least one row. Got an empty table instead."
        )

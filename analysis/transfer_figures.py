"""Figures of transfer: probes of every run tested on every other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from .figure_parts import (
    GREY,
    INK,
    SMALL,
    TARGET_NAMES,
    TEXT,
    TINY,
    fold,
    label_width,
    new_axes,
    plain,
    require,
    require_numbers,
    require_once,
    unique,
)
from .figure_scales import Scale, colouring
from .wording import number

_CELL_WIDTH, _CELL_HEIGHT, _TILT = 0.92, 0.44, 30.0
_LONGEST_NAME = 26
SETTINGS = ("target", "scoring", "site", "position", "nested", "rescale", "score_name")


def transfer_heatmap(transfer: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how well the probe of each run reads each run: trained on it down, tested on it across.

    Args:
        transfer: rows of `transfer_matrix` for one target: train, test, score, score_name, ci_low, ci_high, and
            target where it is to be named.
        ax: Axes to draw on; a figure that grows with the table by default.

    Returns:
        The Axes. Each cell holds the score and under it the interval; the score is bold where the interval leaves out
        chance (0 of a correlation, 0.5 of an AUROC). A run's own probe is framed. Colours end at 0.6 on either side
        of 0, or at 0.2 and 0.8 of an AUROC. Missing scores are hatched.

    Raises:
        ValueError: columns are missing, hold text or infinities, the rows mix several targets or settings, or two rows
            claim one cell.
        TypeError: not a DataFrame.
    """
    caller = "transfer_heatmap"
    require(transfer, ["train", "test", "score", "score_name", "ci_low", "ci_high"], "transfer", caller)
    values = require_numbers(transfer, ["score", "ci_low", "ci_high"], "transfer", caller)
    mixed = [key for key in SETTINGS if key in transfer and len(set(transfer[key].dropna())) > 1]
    if mixed:
        raise ValueError(
            f"The transfer parameter of {caller} must hold one matrix. Got several values of {' and '.join(mixed)} "
            f"instead; select one {' and '.join(mixed)}."
        )
    require_once(transfer, {"train": transfer["train"], "test": transfer["test"]}, "transfer", caller)
    target = str(transfer["target"].iloc[0]) if "target" in transfer else ""
    about = f", {TARGET_NAMES.get(target, plain(target))}" if target else ""
    binary = transfer["score_name"].iloc[0] == "auroc"
    scale = Scale(f"AUROC{about}", 0.5, 0.3) if binary else Scale(f"Pearson r{about}", 0.0, 0.6)
    trains, tests = unique(transfer, "train"), unique(transfer, "test")
    heads = [[fold(name, _LONGEST_NAME) for name in names] for names in (trains, tests)]
    if ax is None:
        ax = new_axes(*_size(*heads))
    colours, extend = colouring(scale, values["score"])
    missing = {(row, column) for row in range(len(trains)) for column in range(len(tests))}
    for at, (train, test) in enumerate(zip(transfer["train"], transfer["test"], strict=True)):
        row, column = trains.index(train), tests.index(test)
        score, low, high = (float(values[name][at]) for name in ("score", "ci_low", "ci_high"))
        if math.isnan(score):
            continue
        missing.discard((row, column))
        fill = colours.to_rgba(np.array([score]))[0]
        ax.add_patch(Rectangle((column, row), 1, 1, facecolor=fill, edgecolor="white", linewidth=0.8))
        ink = "white" if np.dot(fill, (0.299, 0.587, 0.114, 0.0)) < 0.5 else INK
        _write(ax, row, column, scale, (score, low, high), ink)
    for row, column in sorted(missing):
        ax.add_patch(Rectangle((column, row), 1, 1, facecolor="none", edgecolor=GREY, hatch="/////", linewidth=0))
    for name in trains:
        if name in tests:
            place = tests.index(name), trains.index(name)
            ax.add_patch(
                Rectangle(place, 1, 1, facecolor="none", edgecolor=INK, linewidth=1.2, zorder=3, clip_on=False)
            )
    ax.set_xlim(0, len(tests))
    ax.set_ylim(len(trains), 0)
    tilted: dict[str, Any] = {"rotation": _TILT, "ha": "right", "rotation_mode": "anchor"} if _tilted(heads[1]) else {}
    ax.set_xticks(np.arange(len(tests)) + 0.5, labels=heads[1], **tilted)
    ax.set_yticks(np.arange(len(trains)) + 0.5, labels=heads[0])
    ax.set_xlabel("Tested on", fontsize=TEXT)
    ax.set_ylabel("Trained on", fontsize=TEXT)
    ax.tick_params(length=0, labelsize=SMALL)
    ax.spines[:].set_visible(False)
    bar = ax.figure.colorbar(colours, ax=ax, extend=extend, pad=0.02, shrink=min(1.0, 2.0 / (0.6 + len(trains) / 2)))
    bar.set_label(scale.name, fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    if bar.solids is not None:
        bar.solids.set_rasterized(False)
        bar.solids.set_edgecolor("face")
    return ax


def _write(ax: Axes, row: int, column: int, scale: Scale, values: tuple[float, float, float], ink: str) -> None:
    """Write a score and under it its interval, where there is one."""
    score, low, high = values
    known = not (math.isnan(low) or math.isnan(high))
    neutral = scale.neutral or 0.0
    heavy = known and (low > neutral or high < neutral)
    common: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
    ax.text(
        column + 0.5, row + (0.36 if known else 0.5), scale.written(score),
        fontsize=SMALL, fontweight="bold" if heavy else "normal", **common,
    )  # fmt: skip
    if known:
        ax.text(column + 0.5, row + 0.71, f"[{number(low)}, {number(high)}]", fontsize=TINY - 1, **common)


def _tilted(heads: list[str]) -> bool:
    return label_width(heads) > _CELL_WIDTH


def _size(rows: list[str], columns: list[str]) -> tuple[float, float]:
    """Width and height in inches of a figure with these names beside and below its cells."""
    below = label_width(columns) * math.sin(math.radians(_TILT)) if _tilted(columns) else 0.2
    lines = max(name.count("\n") + 1 for name in columns)
    width = _CELL_WIDTH * len(columns) + label_width(rows) + 1.5
    return max(3.4, width), max(1.9, _CELL_HEIGHT * len(rows) + below + 0.15 * lines + 0.6)

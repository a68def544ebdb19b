"""Figures of two probed targets: the cosine of their directions, what each predicts of the other, what they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .arrays import Floats
from .figure_parts import (
    BLUE,
    GREEN,
    GREY,
    INK,
    TARGET_NAMES,
    TEXT,
    VERMILION,
    finish,
    legend_above,
    panel_grid,
    plain,
    require,
    require_numbers,
    require_once,
)

PANELS = 3
_COSINES = [
    "cosine",
    "cosine_null_mean",
    "cosine_null_sd",
    "cosine_p_max",
    "cosine_disattenuated",
    "target_correlation",
]
_CROSSED = {"first": "first_on_second", "second": "second_on_first"}
_LEVEL = 0.05


def two_target_curves(two_targets: pd.DataFrame, *, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Draw by layer how two targets' probes relate, in three panels.

    1. The cosine of their directions, its null (mean ± 1.96 sd, of the null that p comes from), and the cosine
       corrected for attenuation where there is one. Layers with cosine_p_max <= 0.05 are filled, the others hollow. The
       dashed line is the correlation of the targets themselves.
    2. Their scores on their own targets (dashed) and on each other's (with 95 % intervals), correctness counted as
       error in the latter. AUROC is drawn as 2 AUROC - 1, which is 0 by chance, as a correlation is.
    3. Of each target's variance, what its own probe alone explains and what both do (dashed).

    Args:
        two_targets: rows of `probes.two_targets` for one run, site, position and pair of targets: layer, first, second,
            target_correlation, the columns of the cosine, of the scores and of the shared and unique parts.
        axes: three Axes to draw on.

    Returns:
        The three Axes.

    Raises:
        TypeError: not a DataFrame.
        ValueError: columns are missing, hold text or infinities, a layer comes twice, or other than three Axes.
    """
    caller = "two_target_curves"
    scored = [f"{name}_score" for name in _CROSSED] + list(_CROSSED.values())
    parts = [f"{name}_{part}" for name in _CROSSED for part in ("unique_own", "shared")]
    ends = [f"{name}_ci_{end}" for name in [*_CROSSED.values(), *parts] for end in ("low", "high")]
    numeric = ["layer", *_COSINES, *scored, *parts, *ends]
    names = ["first", "second", "first_score_name", "second_score_name"]
    require(two_targets, [*numeric, *names], "two_targets", caller)
    require_once(two_targets, {"layer": two_targets["layer"]}, "two_targets", caller)
    table = two_targets.sort_values("layer")
    numbers = require_numbers(table, numeric, "two_targets", caller)
    panels = panel_grid(PANELS, columns=PANELS, width=3.3, height=3.9) if axes is None else list(axes)
    if len(panels) != PANELS:
        raise ValueError(f"The axes parameter of {caller} must be {PANELS} Axes. Got {len(panels)} instead.")
    facts = {name: str(table[name].iloc[0]) for name in names}
    _draw_cosine(panels[0], numbers)
    _draw_scores(panels[1], numbers, facts)
    _draw_variance(panels[2], numbers, facts)
    for ax in panels:
        ax.axhline(0, color=INK, linewidth=0.8, zorder=1)
        ax.set_xlabel("Layer", fontsize=TEXT)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend_above(ax, columns=1)
        finish(ax)
    return panels


def _draw_cosine(ax: Axes, numbers: dict[str, Floats]) -> None:
    layer, cosine = numbers["layer"], numbers["cosine"]
    spread = 1.96 * numbers["cosine_null_sd"]
    low, high = numbers["cosine_null_mean"] - spread, numbers["cosine_null_mean"] + spread
    ax.fill_between(layer, low, high, color=GREY, alpha=0.3, linewidth=0, label="permuted (mean ± 1.96 sd)")
    corrected: dict[str, Any] = {"color": GREEN, "markersize": 4, "linestyle": "none", "zorder": 2}
    ax.plot(layer, numbers["cosine_disattenuated"], "D", label="corrected for attenuation", **corrected)
    ax.plot(layer, cosine, color=BLUE, linewidth=1.2, zorder=3)
    found = numbers["cosine_p_max"] <= _LEVEL
    for chosen, face, label in ((~found, "white", "cosine, from separate halves"), (found, BLUE, "p max ≤ 0.05")):
        style: dict[str, Any] = {"color": BLUE, "markerfacecolor": face, "markersize": 3.5, "linestyle": "none"}
        ax.plot(layer[chosen], cosine[chosen], "o", label=label, zorder=4, **style)
    targets = numbers["target_correlation"][0]
    ax.axhline(targets, color=VERMILION, linewidth=1.0, linestyle="--", label="correlation of the targets", zorder=2)
    ax.set_ylabel("Cosine of the directions", fontsize=TEXT)


def _draw_scores(ax: Axes, numbers: dict[str, Floats], facts: dict[str, str]) -> None:
    for name, other, colour in (("first", "second", BLUE), ("second", "first", VERMILION)):
        label = f"{_target(facts[name])} probe"
        own = _from_chance(numbers[f"{name}_score"], facts[f"{name}_score_name"])
        ax.plot(numbers["layer"], own, color=colour, linewidth=1.0, linestyle="--", label=f"{label}, own target")
        crossed = _CROSSED[name]
        score = facts[f"{other}_score_name"]
        mean, low, high = (
            _from_chance(numbers[column], score) for column in (crossed, f"{crossed}_ci_low", f"{crossed}_ci_high")
        )
        ax.fill_between(numbers["layer"], low, high, color=colour, alpha=0.15, linewidth=0)
        style: dict[str, Any] = {"color": colour, "markersize": 3, "linewidth": 1.2, "zorder": 3}
        ax.plot(numbers["layer"], mean, "o-", label=f"{label}, for {_crossed(facts[other])}", **style)
    scales = {facts["first_score_name"], facts["second_score_name"]}
    labels = {"pearson": "Pearson r", "auroc": "2 AUROC − 1"}
    ax.set_ylabel(" or ".join(labels.get(name, name) for name in sorted(scales, reverse=True)), fontsize=TEXT)


def _draw_variance(ax: Axes, numbers: dict[str, Floats], facts: dict[str, str]) -> None:
    for name, colour in (("first", BLUE), ("second", VERMILION)):
        for part, what, line in (("unique_own", "its probe alone", "-"), ("shared", "shared", "--")):
            column = f"{name}_{part}"
            low, high = (numbers[f"{column}_ci_{end}"] for end in ("low", "high"))
            ax.fill_between(numbers["layer"], low, high, color=colour, alpha=0.12, linewidth=0)
            style: dict[str, Any] = {"color": colour, "linestyle": line, "linewidth": 1.2, "zorder": 3}
            ax.plot(numbers["layer"], numbers[column], label=f"{_target(facts[name])}, {what}", **style)
    ax.set_ylabel("Part of the variance (R², out of fold)", fontsize=TEXT)


def _from_chance(values: Floats, score: str) -> Floats:
    return 2.0 * values - 1.0 if score == "auroc" else np.asarray(values)


def _target(name: str) -> str:
    return TARGET_NAMES.get(name, plain(name))


def _crossed(name: str) -> str:
    return "errors" if name == "correct" else _target(name)

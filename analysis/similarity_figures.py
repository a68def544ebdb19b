"""Figures of the geometry of layers: base beside instruct, and the model beside people."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .figure_parts import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    TARGET_NAMES,
    TEXT,
    finish,
    legend_above,
    new_axes,
    panel_grid,
    plain,
    require,
    require_numbers,
    require_once,
    unique,
)

LEVEL = 0.05


def cka_curves(geometry: pd.DataFrame) -> list[Axes]:
    """Draw how alike the layers of a base and an instruct model are, and whether directions are the same.

    Args:
        geometry: rows of `geometry` for one pair: layer, cka, cka_ci_low, cka_ci_high, cka_null_mean, cka_null_sd,
            and for directions target, cosine, cosine_null_mean, cosine_null_sd, cosine_p_max, base_reliability and
            instruct_reliability.

    Returns:
        The Axes: CKA with its interval and its null, then for each target the cosine of its directions with its null;
        a filled dot has p below 0.05 against the maximum over layers, and the dotted line is the cosine that the same
        direction in both models would have at the reliability of each. Targets without any cosine have no panel.

    Raises:
        ValueError: columns are missing, hold text or infinities, or the rows mix several pairs.
        TypeError: not a DataFrame.
    """
    caller = "cka_curves"
    similarity = ["cka", "cka_ci_low", "cka_ci_high", "cka_null_mean", "cka_null_sd"]
    require(geometry, ["layer", *similarity], "geometry", caller)
    require_numbers(geometry, similarity, "geometry", caller)
    keys = ("pair", "base", "instruct", "dataset", "prompt", "site", "position")
    mixed = [key for key in keys if key in geometry and geometry[key].nunique(dropna=False) > 1]
    if mixed:
        raise ValueError(
            f"The geometry parameter of {caller} must hold one pair of runs. Got several values of "
            f"{' and '.join(mixed)} instead; select one {' and '.join(mixed)}."
        )
    place = {"layer": geometry["layer"]} | ({"target": geometry["target"]} if "target" in geometry else {})
    require_once(geometry, place, "geometry", caller)
    targets = _targets(geometry, caller)
    panels = panel_grid(1 + len(targets), columns=1, width=6.4, height=2.9, sharex=True)
    _draw_cka(geometry.drop_duplicates("layer").sort_values("layer"), panels[0])
    for ax, (target, rows) in zip(panels[1:], targets.items(), strict=True):
        _draw_cosine(rows.sort_values("layer"), target, ax)
    panels[-1].set_xlabel("Layer", fontsize=TEXT)
    return panels


def rsa_curve(rsa: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw by layer how far items with like response profiles have like activations.

    Args:
        rsa: rows of `rsa` for one run: layer, rsa, null_mean, null_sd, p_max.
        ax: Axes to draw on.

    Returns:
        The Axes. The band is the null of permuted profiles (mean ± 1.96 sd), which lies above 0 where groups of items
        are alike in both; a filled dot has p below 0.05 against the maximum over layers.

    Raises:
        ValueError: columns are missing, hold text or infinities, or two rows claim one layer.
        TypeError: not a DataFrame.
    """
    caller = "rsa_curve"
    columns = ["rsa", "null_mean", "null_sd", "p_max"]
    require(rsa, ["layer", *columns], "rsa", caller)
    require_numbers(rsa, columns, "rsa", caller)
    require_once(rsa, {"layer": rsa["layer"]}, "rsa", caller)
    ax = ax or new_axes(6.4, 3.0)
    curve = rsa.sort_values("layer")
    ax.axhline(0.0, color=INK, linewidth=0.8, zorder=1)
    _draw_null(ax, curve, "null", "profiles permuted (± 1.96 sd)")
    _draw_curve(ax, curve, "rsa", curve["p_max"] < LEVEL, BLUE, "activations and people's profiles")
    ax.set_ylabel("Spearman r of distances", fontsize=TEXT)
    return _finished(ax)


def _targets(geometry: pd.DataFrame, caller: str) -> dict[str, pd.DataFrame]:
    """Rows of each target that has a cosine somewhere."""
    if "target" not in geometry or "cosine" not in geometry:
        return {}
    names = ["cosine", "cosine_null_mean", "cosine_null_sd", "cosine_p_max", "base_reliability", "instruct_reliability"]
    require(geometry, names, "geometry", caller)
    require_numbers(geometry, names, "geometry", caller)
    parts = {str(name): geometry[geometry["target"] == name] for name in unique(geometry, "target") if name is not None}
    return {name: rows for name, rows in parts.items() if rows["cosine"].notna().any()}


def _draw_cka(rows: pd.DataFrame, ax: Axes) -> None:
    depth = rows["layer"].to_numpy(dtype=float)
    ax.axhline(0.0, color=INK, linewidth=0.8, zorder=1)
    _draw_null(ax, rows, "cka_null", "items permuted (± 1.96 sd)")
    low, high = (rows[f"cka_ci_{end}"].to_numpy(dtype=float) for end in ("low", "high"))
    ax.fill_between(depth, low, high, color=BLUE, alpha=0.2, linewidth=0, label="its 95% interval")
    ax.plot(depth, rows["cka"], "o-", color=BLUE, markersize=3, linewidth=1.2, label="debiased CKA", zorder=3)
    if "cka_standardized" in rows:
        label = "of standardised features"
        ax.plot(depth, rows["cka_standardized"], "--", color=GREEN, linewidth=1.2, label=label, zorder=2)
    ax.set_ylabel("CKA, base and instruct", fontsize=TEXT)
    _finished(ax)


def _draw_cosine(rows: pd.DataFrame, target: str, ax: Axes) -> None:
    depth = rows["layer"].to_numpy(dtype=float)
    ax.axhline(0.0, color=INK, linewidth=0.8, zorder=1)
    _draw_null(ax, rows, "cosine_null", "targets permuted (± 1.96 sd)")
    product = (rows["base_reliability"] * rows["instruct_reliability"]).to_numpy(dtype=float)
    both = (rows["base_reliability"] > 0).to_numpy() & (rows["instruct_reliability"] > 0).to_numpy()
    limit = np.sqrt(np.where(both, product, np.nan))
    if np.isfinite(limit).any():
        ax.plot(depth, limit, ":", color=INK, linewidth=1.2, label="were they the same", zorder=2)
    _draw_curve(ax, rows, "cosine", rows["cosine_p_max"] < LEVEL, ORANGE, "directions from different halves")
    ax.set_ylabel(f"Cosine, {TARGET_NAMES.get(target, plain(target))}", fontsize=TEXT)
    _finished(ax)


def _draw_null(ax: Axes, rows: pd.DataFrame, name: str, label: str) -> None:
    centre, spread = (rows[f"{name}_{part}"].to_numpy(dtype=float) for part in ("mean", "sd"))
    low, high = centre - 1.96 * spread, centre + 1.96 * spread
    ax.fill_between(rows["layer"].to_numpy(dtype=float), low, high, color=GREY, alpha=0.3, linewidth=0, label=label)


def _draw_curve(ax: Axes, rows: pd.DataFrame, column: str, found: pd.Series, colour: str, label: str) -> None:
    """Draw a line with dots, filled where the test over layers finds something."""
    ax.plot(rows["layer"], rows[column], "-", color=colour, linewidth=1.2, label=label, zorder=3)
    for part, fill, name in ((rows[~found], "white", "_"), (rows[found], colour, "p < 0.05 over all layers")):
        if len(part):
            ax.plot(part["layer"], part[column], "o", color=colour, markersize=4, mfc=fill, label=name, zorder=4)


def _finished(ax: Axes) -> Axes:
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not ax.get_xlabel() and (place := ax.get_subplotspec()) is not None and place.is_last_row():
        ax.set_xlabel("Layer", fontsize=TEXT)
    legend_above(ax, columns=2)
    return finish(ax)

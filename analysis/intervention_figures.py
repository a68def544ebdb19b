"""Figures of interventions: what moves when the residual stream is moved along a probe's direction."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from .figure_parts import (
    BLUE,
    GREY,
    INK,
    SMALL,
    TEXT,
    draw_intervals,
    finish,
    legend_over,
    panel_grid,
    plain,
    require,
    require_numbers,
    require_once,
    unique,
)

# What an axis calls a figure's change, and what the numbers are multiplied with.
CHANGES = {
    "choice_entropy": ("choice entropy (nats)", 1.0),
    "choice_entropy_normalized": ("choice entropy / ln K", 1.0),
    "total_entropy": ("total entropy (nats)", 1.0),
    "choice_probability": ("choice probability", 1.0),
    "choice_mass": ("probability on the labels", 1.0),
    "accuracy": ("accuracy (points)", 100.0),
    "changed": ("share of changed choices (%)", 100.0),
}
GROUP = ("model", "dataset", "prompt", "site", "position", "layer", "target", "target_scoring", "probe", "scoring")
SETTINGS = ("where", "along", "random", "remove_to")


def dose_response_curves(responses: pd.DataFrame) -> list[Axes]:
    """Draw the change of each figure against the dose, beside random directions: one panel per figure.

    Args:
        responses: rows of `dose_response` for one run, probe and layer: mode, direction, draw, dose, figure, change,
            ci_low, ci_high. Draws of random directions are thin lines in the band of their range, the probe is a line
            in the band of its interval; removal stands to the right of the doses.

    Returns:
        The Axes, in the order of the figures in the table.

    Raises:
        ValueError: columns are missing or hold text or infinities, or the rows mix several probes, layers or runs.
        TypeError: not a DataFrame.
    """
    caller = "dose_response_curves"
    columns = ["mode", "direction", "draw", "dose", "figure", "change", "ci_low", "ci_high"]
    require(responses, columns, "responses", caller)
    require_numbers(responses, ["dose", "change", "ci_low", "ci_high"], "responses", caller)
    mixed = [key for key in (*GROUP, *SETTINGS) if key in responses and responses[key].nunique(dropna=False) > 1]
    if mixed:
        raise ValueError(
            f"The responses parameter of {caller} must have one row per figure and condition. Got several values of "
            f"{', '.join(mixed)} instead; select one {' and '.join(mixed)}."
        )
    # As text, because what is missing equals nothing.
    conditions = [" ".join(map(str, row)) for row in responses[columns[:4]].itertuples(index=False)]
    require_once(responses, {"figure": responses["figure"], "condition": conditions}, "responses", caller)
    figures = unique(responses, "figure")
    panels = panel_grid(len(figures), columns=2, width=3.3, height=2.3)
    for ax, figure in zip(panels, figures, strict=True):
        _draw(ax, responses[responses["figure"] == figure], str(figure))
    for ax in panels[max(0, len(panels) - 2) :]:
        ax.set_xlabel("Dose (sd of what the probe reads)", fontsize=TEXT)
    legend_over(panels)
    return panels


def _draw(ax: Axes, rows: pd.DataFrame, figure: str) -> None:
    name, scale = CHANGES.get(figure, (plain(figure), 1.0))
    values = rows.assign(**{column: scale * rows[column].astype(float) for column in ("change", "ci_low", "ci_high")})
    ax.axhline(0, color=INK, linewidth=0.8, zorder=1)
    steps = values[values["mode"] == "add"]
    probe = _with_origin(steps[steps["direction"] == "probe"])
    others = [_with_origin(part) for _, part in steps[steps["direction"] == "random"].groupby("draw", sort=True)]
    if others:
        doses = others[0]["dose"].to_numpy()
        changes = np.stack([part["change"].to_numpy() for part in others])
        low, high = changes.min(axis=0), changes.max(axis=0)
        ax.fill_between(doses, low, high, color=GREY, alpha=0.2, linewidth=0, label="range of random directions")
        for number, line in enumerate(changes):
            label = None if number else "each random direction"
            ax.plot(doses, line, color=GREY, linewidth=0.5, alpha=0.6, zorder=2, label=label)
    if len(probe) > 1:
        doses = probe["dose"].to_numpy()
        low, high = (probe[f"ci_{end}"].to_numpy() for end in ("low", "high"))
        ax.fill_between(doses, low, high, color=BLUE, alpha=0.25, linewidth=0, label="probe, its interval")
        ax.plot(doses, probe["change"], "o-", color=BLUE, markersize=3, linewidth=1.3, zorder=4, label="probe")
    _draw_removal(ax, values[values["mode"] == "remove"], probe["dose"].to_numpy())
    ax.set_ylabel(f"Change of {name}" if figure != "changed" else name.capitalize(), fontsize=SMALL)
    finish(ax)


def _with_origin(part: pd.DataFrame) -> pd.DataFrame:
    """Curve by dose, with the unedited pass, which changes nothing, at 0."""
    columns = ["dose", "change", "ci_low", "ci_high"]
    origin = pd.DataFrame([dict.fromkeys(columns, 0.0)])
    return pd.concat([part[columns].astype(float), origin], ignore_index=True).sort_values("dose")


def _draw_removal(ax: Axes, rows: pd.DataFrame, doses: np.ndarray) -> None:
    """Draw the removal as points to the right of the doses, random directions beside the probe."""
    ticks = [dose for dose in doses if float(dose).is_integer()] if len(doses) > 1 else []
    labels = [f"{dose:g}".replace("-", "−") for dose in ticks]
    if len(rows):
        span = float(np.ptp(doses)) or 1.0
        at = float(doses.max()) + 0.2 * span
        probe, others = rows[rows["direction"] == "probe"], rows[rows["direction"] == "random"]
        ax.plot(np.full(len(others), at + 0.04 * span), others["change"], "_", color=GREY, markersize=5, alpha=0.8)
        draw_intervals(ax, np.full(len(probe), at - 0.04 * span), probe, "", BLUE, upright=True)
        ax.plot(np.full(len(probe), at - 0.04 * span), probe["change"], "s", color=BLUE, markersize=4, zorder=4)
        if len(ticks):
            ax.axvline(float(doses.max()) + 0.1 * span, color=GREY, linewidth=0.6, linestyle=(0, (4, 3)), zorder=0)
        ticks, labels = [*ticks, at], [*labels, "removed"]
    ax.set_xticks(ticks, labels)

"""Figures of a study: functions that take a tidy table and Axes, and return the Axes.

Each function draws on the `ax` it is given, or on a figure of its own that is large enough for the table; that
figure is `ax.figure`, which a notebook shows. No function touches pyplot's global state or the rcParams. Colours are
those of Okabe & Ito (2008), which stay apart under the common forms of colour blindness. `save_figure` in
`figure_files` writes a figure as SVG and PDF.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from .curve import layer_score
from .figure_parts import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    SKY,
    SMALL,
    TARGET_NAMES,
    TEXT,
    VERMILION,
    draw_intervals,
    finish,
    legend_above,
    limit_correlations,
    measure_labels,
    new_axes,
    panel_grid,
    plain,
    require,
    unique,
)


def correlation_bars(alignment: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the correlation of every measure with human entropy: bars by measure, coloured by model.

    Args:
        alignment: rows of `alignment`; columns measure, correlation, ci_low, ci_high, method, and model, scoring and
            nucleus where they differ. One row per bar. A missing correlation leaves its place empty.
        ax: Axes to draw on; a figure that grows with the number of bars by default.

    Returns:
        The Axes. Measures are listed from top to bottom in order of first appearance; measures of certainty, whose
        alignment is negative, carry a minus sign. Thin lines mark ±0.3 and ±0.5.

    Raises:
        ValueError: columns are missing, the table is empty, or two rows claim one bar.
    """
    require(alignment, ["measure", "correlation", "ci_low", "ci_high"], "alignment", "correlation_bars")
    models = unique(alignment, "model")
    labels = measure_labels(alignment)
    rows = list(dict.fromkeys(labels))
    owners = alignment["model"] if "model" in alignment else pd.Series([None] * len(alignment), index=alignment.index)
    if pd.DataFrame({"label": labels, "model": owners.to_numpy()}).duplicated().any():
        raise ValueError(
            "The alignment parameter of correlation_bars must have one row per model and measure (with its scoring "
            "and nucleus). Got several; draw one dataset, prompt and method at a time."
        )
    thickness = 0.8 / len(models)
    ax = ax or new_axes(7.2, 1.0 + len(rows) * max(0.22, 0.15 * len(models)))
    for mark in (-0.5, -0.3, 0.3, 0.5):
        ax.axvline(mark, color=GREY, linewidth=0.6, linestyle=(0, (4, 3)), zorder=0)
    ax.axvline(0, color=INK, linewidth=0.8, zorder=3)
    for number, model in enumerate(models):
        chosen = (owners == model).to_numpy() if model is not None else np.ones(len(alignment), dtype=bool)
        part = alignment[chosen]
        places = np.array([rows.index(label) for label in labels[chosen]], dtype=float)
        places += (number - (len(models) - 1) / 2) * thickness
        values = part["correlation"].to_numpy(dtype=float)
        colour = COLOURS[number % len(COLOURS)]
        name = None if model is None else plain(model)
        ax.barh(places, values, height=thickness * 0.9, color=colour, label=name, alpha=0.85, zorder=1)
        draw_intervals(ax, places, part, "", INK)
    ax.set_yticks(range(len(rows)), labels=[plain(row) for row in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    limit_correlations(ax, alignment[["correlation", "ci_low", "ci_high"]])
    method = "/".join(plain(method) for method in unique(alignment, "method") if method is not None)
    ax.set_xlabel(f"{method.capitalize()} correlation with human entropy".strip(), fontsize=TEXT)
    if len(models) > 1:
        ax.legend(fontsize=SMALL, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return finish(ax)


def correlation_panels(alignment: pd.DataFrame) -> list[Axes]:
    """Draw the correlations of many models: one panel per measure, one bar per model, all on one scale.

    Args:
        alignment: as for `correlation_bars`, with a column model.

    Returns:
        One Axes per measure, on one figure whose size grows with both numbers.
    """
    require(alignment, ["model", "measure", "correlation", "ci_low", "ci_high"], "alignment", "correlation_panels")
    models = unique(alignment, "model")
    labels = measure_labels(alignment)
    titles = list(dict.fromkeys(labels))
    panels = panel_grid(len(titles), columns=4, width=2.5, height=0.9 + 0.16 * len(models), sharey=True)
    for number, (title, ax) in enumerate(zip(titles, panels, strict=True)):
        part = alignment[(labels == title)]
        places = np.array([models.index(model) for model in part["model"]], dtype=float)
        for mark in (-0.5, -0.3, 0.3, 0.5):
            ax.axvline(mark, color=GREY, linewidth=0.6, linestyle=(0, (4, 3)), zorder=0)
        ax.axvline(0, color=INK, linewidth=0.8, zorder=3)
        ax.barh(places, part["correlation"].to_numpy(dtype=float), height=0.75, color=BLUE, alpha=0.85, zorder=1)
        draw_intervals(ax, places, part, "", INK)
        ax.set_title(plain(title), fontsize=SMALL)
        limit_correlations(ax, alignment[["correlation", "ci_low", "ci_high"]])
        if number % 4 == 0:
            ax.set_yticks(range(len(models)), labels=[plain(model) for model in models])
            ax.set_ylim(len(models) - 0.4, -0.6)
        finish(ax)
    method = "/".join(plain(method) for method in unique(alignment, "method") if method is not None)
    panels[0].figure.supxlabel(f"{method.capitalize()} correlation with human entropy".strip(), fontsize=TEXT)
    return panels


def control_dots(controls: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw each correlation in nats, normalised, and in nats with the number of options held constant.

    Args:
        controls: rows of `alignment_controls`; columns measure, raw, normalized, partial, each with _ci_low and
            _ci_high, and model, scoring, nucleus where they differ.
        ax: Axes to draw on; a figure of its own by default.

    Returns:
        The Axes, one line per row of the table with three dots and their intervals.
    """
    series = (
        ("raw", "both in nats", "o", VERMILION),
        ("normalized", "both normalised", "s", BLUE),
        ("partial", "in nats, options held constant", "D", GREEN),
    )
    needed = [name + suffix for name, *_ in series for suffix in ("", "_ci_low", "_ci_high")]
    require(controls, ["measure", *needed], "controls", "control_dots")
    labels = measure_labels(controls)
    if len(unique(controls, "model")) > 1:
        labels = np.array([f"{model} · {label}" for model, label in zip(controls["model"], labels, strict=True)])
    ax = ax or new_axes(7.2, 1.1 + 0.42 * len(controls))
    for stripe in range(0, len(controls), 2):
        ax.axhspan(stripe - 0.5, stripe + 0.5, color=PALE, alpha=0.35, linewidth=0, zorder=0)
    ax.axvline(0, color=INK, linewidth=0.8, zorder=1)
    for number, (name, legend, marker, colour) in enumerate(series):
        places = np.arange(len(controls)) + (number - 1) * 0.24
        ax.plot(
            controls[name].to_numpy(dtype=float),
            places,
            marker,
            color=colour,
            markersize=4.5,
            label=legend,
            zorder=3,
        )
        draw_intervals(ax, places, controls, name, colour)
    ax.set_yticks(range(len(controls)), labels=[plain(label) for label in labels])
    ax.set_ylim(len(controls) - 0.5, -0.5)
    columns = controls[needed]
    limit_correlations(ax, columns)
    ax.set_xlabel("Correlation with human entropy", fontsize=TEXT)
    legend_above(ax, columns=3)
    return finish(ax)


def layer_curve(
    layers: pd.DataFrame,
    *,
    score: str | None = None,
    best_measure: Mapping[str, Any] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the out-of-fold score of the probes by layer, with its interval, its null and the best output measure.

    Args:
        layers: rows of `probe_layers` for one run, target, probe and site: layer, target, the score's column,
            ci_low, ci_high, null_mean, null_sd, score_name, best.
        score: pearson, auroc or r2; by default the one that the interval belongs to (pearson for a continuous
            target, auroc for a binary one). The interval is drawn with that score, the null (mean ± 1.96 sd)
            with the score that `score_name` names: for a continuous target these are pearson and r2.
        best_measure: measure_label, measure_score, measure_ci_low and measure_ci_high of the output measure to
            compare with, on the same scale; see `compare_layers`.
        ax: Axes to draw on.

    Returns:
        The Axes. The best layer is ringed.

    Raises:
        ValueError: columns are missing, or the rows mix several curves.
    """
    caller = "layer_curve"
    shown = layer_score(layers) if score is None else score
    require(layers, ["layer", "target", shown, "ci_low", "ci_high"], "layers", caller)
    target = str(layers["target"].iloc[0])
    curve = layers.sort_values("layer")
    if curve["layer"].duplicated().any():
        raise ValueError(
            "The layers parameter of layer_curve must have one row per layer. Got a layer twice; select one "
            "model, dataset, prompt, target, scoring, probe and site."
        )
    ax = ax or new_axes(6.4, 3.4)
    depth = curve["layer"].to_numpy(dtype=float)
    ax.axhline(0.5 if shown == "auroc" else 0.0, color=INK, linewidth=0.8, zorder=1)
    if {"null_mean", "null_sd", "score_name"} <= set(curve) and (curve["score_name"] == shown).all():
        centre, spread = (curve[name].to_numpy(dtype=float) for name in ("null_mean", "null_sd"))
        low, high = centre - 1.96 * spread, centre + 1.96 * spread
        label = "shuffled targets (mean ± 1.96 sd)"
        ax.fill_between(depth, low, high, color=GREY, alpha=0.3, linewidth=0, label=label)
    if shown == layer_score(layers):
        low, high = (curve[name].to_numpy(dtype=float) for name in ("ci_low", "ci_high"))
        label = "its 95% interval, layer by layer"
        ax.fill_between(depth, low, high, color=BLUE, alpha=0.2, linewidth=0, label=label)
    values = curve[shown].to_numpy(dtype=float)
    ax.plot(depth, values, "o-", color=BLUE, markersize=3, linewidth=1.2, label="probe, out of fold", zorder=3)
    if "best" in curve and curve["best"].any():
        best = curve[curve["best"].astype(bool)]
        ring: dict[str, Any] = {"markersize": 9, "markerfacecolor": "none", "markeredgecolor": BLUE}
        ax.plot(best["layer"], best[shown], "o", label="best layer", zorder=4, **ring)
    if best_measure is not None:
        low, high = best_measure["measure_ci_low"], best_measure["measure_ci_high"]
        ax.axhspan(low, high, color=ORANGE, alpha=0.2, linewidth=0, zorder=0)
        label = plain(best_measure["measure_label"])
        line: dict[str, Any] = {"color": VERMILION, "linestyle": "--", "linewidth": 1.2}
        ax.axhline(best_measure["measure_score"], label=label, zorder=2, **line)
    names = {"pearson": "Pearson r", "auroc": "AUROC", "r2": "R²"}
    ax.set_xlabel("Layer", fontsize=TEXT)
    ax.set_ylabel(f"{names.get(shown, shown)}, {TARGET_NAMES.get(target, plain(target))}", fontsize=TEXT)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_above(ax, columns=2)
    return finish(ax)


def reliability_diagram(bins: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the share of right answers against the stated probability, with the number of items per bin.

    Args:
        bins: one row per bin: lower, upper (of the bin), n, confidence (mean), accuracy (NaN where n = 0).
        ax: Axes to draw on.

    Returns:
        The Axes. The diagonal is perfect calibration; the row of numbers at the top counts the items of each bin.
    """
    require(bins, ["lower", "upper", "n", "confidence", "accuracy"], "bins", "reliability_diagram")
    ax = ax or new_axes(4.2, 3.9)
    filled = bins[bins["n"] > 0]
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    ax.bar(
        filled["lower"], filled["accuracy"], width=(filled["upper"] - filled["lower"]) * 0.96, align="edge",
        color=SKY, alpha=0.55, zorder=0,
    )  # fmt: skip
    ax.plot(filled["confidence"], filled["accuracy"], "o", color=BLUE, markersize=4.5, zorder=3)
    for row in filled.itertuples():
        middle = (row.lower + row.upper) / 2
        ax.text(middle, 1.03, f"{row.n}", ha="center", va="bottom", fontsize=6.5, color=INK)
    ax.text(0.01, 1.03, "n", va="bottom", fontsize=6.5, fontstyle="italic", color=INK)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.1)
    ax.set_yticks(np.linspace(0, 1, 6))
    ax.set_xlabel("Probability of the chosen option", fontsize=TEXT)
    ax.set_ylabel("Share of right answers", fontsize=TEXT)
    return finish(ax)


def subject_heatmap(by_subject: pd.DataFrame, *, columns: str = "model", ax: Axes | None = None) -> Axes:
    """Draw the correlation of uncertainty with correctness per subject as a heatmap with its numbers.

    Args:
        by_subject: rows of `calibration_by_subject` for one measure: subject, n, spearman, and the column named by
            `columns`. A missing correlation (every answer right, or every one wrong) is hatched.
        columns: what the columns of the heatmap are.
        ax: Axes to draw on.

    Returns:
        The Axes; subjects from the one with most items down.
    """
    require(by_subject, ["subject", "n", "spearman", columns], "by_subject", "subject_heatmap")
    if by_subject.duplicated(["subject", columns]).any():
        raise ValueError(
            f"The by_subject parameter of subject_heatmap must have one row per subject and {columns}. Got several; "
            "select one measure, prompt, scoring and nucleus."
        )
    sizes = by_subject.groupby("subject")["n"].max().sort_values(ascending=False, kind="stable")
    heads = unique(by_subject, columns)
    grid = by_subject.pivot(index="subject", columns=columns, values="spearman").reindex(index=sizes.index)[heads]
    ax = ax or new_axes(2.9 + 0.62 * len(heads), 1.6 + 0.27 * len(sizes))
    values = grid.to_numpy(dtype=float)
    # Few levels: they are drawn as shapes, where a smooth scale would be a picture inside the figure.
    colours = matplotlib.colormaps["PuOr"].resampled(24)
    image = ax.pcolormesh(np.ma.masked_invalid(values), cmap=colours, vmin=-0.6, vmax=0.6, edgecolor="white")
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            ax.add_patch(Rectangle((column, row), 1, 1, facecolor="none", edgecolor=PALE, hatch="////", linewidth=0))
            continue
        text = f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")
        ink = "white" if abs(value) > 0.42 else INK
        ax.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=7, color=ink)
    ax.set_yticks(
        np.arange(len(sizes)) + 0.5,
        labels=[f"{plain(subject)} ({size:,})" for subject, size in sizes.items()],
    )
    tilt: dict[str, Any] = {} if len(heads) <= 4 else {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(np.arange(len(heads)) + 0.5, labels=[plain(head) for head in heads], **tilt)
    ax.invert_yaxis()
    bar = ax.figure.colorbar(image, ax=ax, extend="both", fraction=0.06, pad=0.03)
    bar.set_label("Spearman with correctness", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    if bar.solids is not None:
        bar.solids.set_rasterized(False)
        bar.solids.set_edgecolor("face")
    ax.tick_params(length=0, labelsize=SMALL)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def position_bars(positions: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how often the model chose each position, beside where the right answers and the people's stand.

    Args:
        positions: one row per position: position (0-based), label, chosen, answers, humans, expected (shares in
            [0, 1] of the items; NaN where unknown).
        ax: Axes to draw on.

    Returns:
        The Axes. Series that are unknown throughout are left out; a short line marks the share expected of choosing
        at random.
    """
    require(
        positions,
        ["position", "label", "chosen", "answers", "humans", "expected"],
        "positions",
        "position_bars",
    )
    table = positions.sort_values("position")
    series = [
        (name, legend, colour)
        for name, legend, colour in (
            ("chosen", "chosen by the model", BLUE),
            ("answers", "right answers", ORANGE),
            ("humans", "most chosen by people", GREEN),
        )
        if table[name].notna().any()
    ]
    ax = ax or new_axes(max(3.6, 1.4 + 0.75 * len(table)), 3.2)
    width = 0.8 / len(series)
    places = np.arange(len(table), dtype=float)
    for number, (name, legend, colour) in enumerate(series):
        shift = (number - (len(series) - 1) / 2) * width
        ax.bar(places + shift, 100 * table[name].to_numpy(dtype=float), width * 0.94, color=colour, label=legend)
    ax.hlines(
        100 * table["expected"].to_numpy(dtype=float), places - 0.42, places + 0.42, color=INK, linewidth=1.0,
        linestyle=(0, (3, 2)), label="at random",
    )  # fmt: skip
    ax.set_xticks(places, labels=[plain(label) for label in table["label"]])
    ax.set_ylabel("Share of items (%)", fontsize=TEXT)
    legend_above(ax, columns=2)
    return finish(ax)

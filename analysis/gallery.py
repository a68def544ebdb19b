"""The figures of a study: which of its tables are drawn, for which runs, with what caption."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import figures
from .curve import layer_score
from .figure_parts import TARGET_NAMES, legend_entries, panel_grid, plain
from .findings import Findings
from .phrases import asked, measure, places

FEW_MODELS = 4
HEADLINE = "choice_entropy_normalized"


@dataclass(frozen=True)
class Plate:
    """A figure of a study with the words that go with it.

    Attributes:
        stem: file name without a suffix.
        topic: the topic of the paragraphs it belongs to (see `Paragraph`).
        caption: what is drawn, for the page.
        figure: the matplotlib figure.
    """

    stem: str
    topic: str
    caption: str
    figure: Figure
    dataset: str | None = None
    prompt: str | None = None


def study_figures(findings: Findings) -> Iterator[Plate]:
    """Draw the figures of a study one after the other, by dataset and prompt; tables without rows draw nothing."""
    makers: tuple[tuple[str, str, Callable[[pd.DataFrame, Findings], tuple[Figure, str] | None]], ...] = (
        ("answers", "positions", _positions),
        ("alignment", "alignment", _correlations),
        ("options", "controls", _controls),
        ("calibration", "reliability", _reliability),
        ("calibration", "calibration_by_subject", _subjects),
        ("probes", "layers", _layers),
    )
    for place in places(findings.overview):
        for topic, name, draw in makers:
            part = asked(getattr(findings, name), place)
            drawn = None if part.empty else draw(part, findings)
            if drawn:
                if topic == "answers" and not any(
                    (part.topic, part.dataset, part.prompt) == ("answers", *place) for part in findings.paragraphs
                ):
                    topic = "agreement"
                stem = ".".join(str(word) for word in (name, *place) if word is not None)
                yield Plate(stem, topic, drawn[1], drawn[0], *place)


def _positions(part: pd.DataFrame, findings: Findings) -> tuple[Figure, str]:
    panels = _panels(part, ("model", "scoring"))
    widest = int(part["position"].max()) + 1
    axes = panel_grid(len(panels), columns=3, width=max(3.0, 1.2 + 0.5 * widest), height=2.7, sharey=True)
    _draw(panels, axes, lambda rows, ax: figures.position_bars(rows, ax=ax))
    for ax in axes:
        place = ax.get_subplotspec()
        if place is not None and not place.is_first_col():
            ax.set_ylabel("")
    return _figure(axes), (
        "How often each position is chosen by the model, holds the right answer, and is chosen by most people. The "
        "dashed marks show the share expected of choosing at random."
    )


def _correlations(part: pd.DataFrame, findings: Findings) -> tuple[Figure, str]:
    part = part[part["correlation"].notna()]
    many = "model" in part and part["model"].nunique() > FEW_MODELS
    axes = figures.correlation_panels(part) if many else [figures.correlation_bars(part)]
    return _figure(axes), (
        "Correlation of each measure with normalised human entropy, with 95% bootstrap intervals. Measures marked (−) "
        "are high where the model is certain, so that alignment makes them negative; the dashed lines stand at ±0.3 "
        "and ±0.5."
    )


def _controls(part: pd.DataFrame, findings: Findings) -> tuple[Figure, str] | None:
    part = part[part["raw"].notna()]
    facts = findings.datasets
    if "dataset" in part and "dataset" in facts:
        facts = facts[facts["dataset"].isin(part["dataset"])]
    first = part["measure"].str.startswith("choice_")
    part = pd.concat([part[first], part[~first]])
    if part.empty or (facts["fewest_options"] == facts["most_options"]).all():
        return None
    if "model" in part and part["model"].nunique() > FEW_MODELS:
        part = part[part["measure"] == "choice_entropy"]
    return _figure([figures.control_dots(part)]), (
        "What the number of options does: correlation with human entropy with both in nats, with both divided by "
        "their maximum, and in nats with the number of options held constant (partial correlation)."
    )


def _reliability(part: pd.DataFrame, findings: Findings) -> tuple[Figure, str]:
    panels = _panels(part, ("model", "scoring"))
    axes = panel_grid(len(panels), columns=3, width=2.9, height=3.1)
    _draw(panels, axes, lambda rows, ax: figures.reliability_diagram(rows, ax=ax), legend=False)
    return _figure(axes), (
        "Reliability: share of right answers (bars; dots at the mean probability of the bin) against the probability "
        "of the chosen option among the options. On the dashed line the two agree; below it the model is overconfident."
    )


def _subjects(part: pd.DataFrame, findings: Findings) -> tuple[Figure, str] | None:
    part = part[part["measure"] == HEADLINE]
    if part.empty:
        return None
    if "model" in part and part["model"].nunique() > 1:
        scoring = part["scoring"].iloc[0] if "scoring" in part else None
        part = part if scoring is None else part[part["scoring"] == scoring]
        axes, under = figures.subject_heatmap(part, columns="model"), f", scored by {scoring}" if scoring else ""
    else:
        columns = "scoring" if "scoring" in part else "measure"
        axes, under = figures.subject_heatmap(part, columns=columns), ""
    return _figure([axes]), (
        f"Spearman correlation of {HEADLINE} with correctness within each subject (number of items){under}. Negative "
        "(orange) is calibrated: less certain where wrong. Hatched: not defined."
    )


def _layers(part: pd.DataFrame, findings: Findings) -> tuple[Figure, str]:
    several = "model" in part and part["model"].nunique() > FEW_MODELS
    if several and "scoring" in part:
        first = part["scoring"].dropna().iloc[:1].tolist()
        part = part[part["scoring"].isna() | part["scoring"].isin(first)]
    panels = _panels(part, ("model", "target", "scoring", "site", "probe"))
    shown: list[tuple[str, pd.DataFrame, str | None]] = [(title, rows, None) for title, rows in panels]
    if not several:
        # R² is the score of the null: a second panel, since it lies on another scale than Pearson r.
        shown = [
            (title, rows, score)
            for title, rows in panels
            for score in ([None, "r2"] if layer_score(rows) == "pearson" else [None])
        ]
    axes = panel_grid(len(shown), columns=2 if len(shown) <= 4 else 3, width=3.7, height=3.0)
    titles = []
    for (title, rows, score), ax in zip(shown, axes, strict=True):
        best = None if score else _best_measure(rows, findings.curve)
        named = best | {"measure_label": "best output measure, with its interval"} if best else None
        figures.layer_curve(rows, score=score, best_measure=named, ax=ax)
        titles.append("\n".join(line for line in (title, f"– – {best['measure_label']}" if best else "") if line))
    _title(axes, titles)
    return _figure(axes), (
        "Probes of the residual stream by layer, predicting human entropy (Pearson r, and R² with its null) and "
        "correctness (AUROC), out of fold. The dashed line is the output measure that tells most about the same "
        "target, with its interval: |r|, or AUROC in the better direction."
    )


def _best_measure(rows: pd.DataFrame, curve: pd.DataFrame) -> dict[str, Any] | None:
    for key in ("model", "dataset", "prompt", "setting", "scoring", "target", "site", "probe"):
        if key in rows and key in curve:
            value = rows[key].iloc[0]
            curve = curve[curve[key].isna() if pd.isna(value) else curve[key] == value]
    if curve.empty or pd.isna(curve["measure"].iloc[0]):
        return None
    row = curve.iloc[0]
    return {**row.to_dict(), "measure_label": measure(row, "measure_")}


def _panels(part: pd.DataFrame, keys: tuple[str, ...]) -> list[tuple[str, pd.DataFrame]]:
    """Split by the keys that differ, titled with their values."""
    differing = [key for key in keys if key in part and part[key].nunique(dropna=False) > 1]
    if not differing:
        return [("", part)]
    panels = []
    for values, rows in part.groupby(differing, sort=False, dropna=False):
        named = [str(value) for value in values if not pd.isna(value)]
        panels.append((" · ".join(TARGET_NAMES.get(name, name) for name in named), rows))
    return panels


def _draw(
    panels: list[tuple[str, pd.DataFrame]],
    axes: list[Axes],
    draw: Callable[[pd.DataFrame, Axes], Axes],
    *,
    legend: bool = True,
) -> None:
    for (_, rows), ax in zip(panels, axes, strict=True):
        draw(rows, ax)
    _title(axes, [title for title, _ in panels], legend=legend)


def _title(axes: list[Axes], titles: list[str], *, legend: bool = True) -> None:
    """Title each panel and give all of them one legend above the figure."""
    figure = _figure(axes)
    entries: dict[str, Any] = {}
    for ax, title in zip(axes, titles, strict=True):
        for handle, label in legend_entries(ax):
            entries.setdefault(label, handle)
        own = ax.get_legend()
        if own is not None:
            own.remove()
        if title:
            whole = [" · ".join(map(plain, line.split(" · "))) for line in title.split("\n")]
            lines = [part for line in whole for part in textwrap.wrap(line, _characters(ax))]
            ax.set_title("\n".join(lines), fontsize=8, loc="left")
    if legend and entries:
        figure.legend(entries.values(), entries.keys(), loc="outside upper left", ncols=3, fontsize=8, frameon=False)


def _characters(ax: Axes) -> int:
    """Estimate how many characters of 8 points fit above a panel."""
    place = ax.get_subplotspec()
    columns = 1 if place is None else place.get_gridspec().ncols
    return max(12, int(15 * (_figure([ax]).get_size_inches()[0] / columns - 0.6)))


def _figure(axes: list[Axes]) -> Figure:
    figure = axes[0].figure
    if not isinstance(figure, Figure):
        raise TypeError(f"The Axes of a plate must lie on a figure. Got {type(figure).__name__} instead.")
    return figure

"""The figures of a study: which of its tables are drawn, for which runs, with what caption."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .curve import layer_score
from .figure_parts import TARGET_NAMES, legend_entries, panel_grid, plain
from .figures import (
    calibration_heatmap,
    control_dots,
    correlation_bars,
    correlation_heatmap,
    correlation_panels,
    layer_curve,
    permutation_histograms,
    position_bars,
    reliability_diagram,
    risk_coverage_curves,
    simultaneity_scatter,
    subject_heatmap,
    tuning_differences,
    tuning_slopes,
)
from .findings import Findings
from .phrases import Place, asked, measure, places
from .representation_gallery import across_figures, representation_figures
from .study_tables import HEADLINE as HEADLINES
from .tables import group_keys
from .views import ANY

FEW_MODELS = 4
HEADLINE = "choice_entropy_normalized"
DRAWN_FIGURES = (
    "accuracy", "top_answer_agreement", "dist_ce", "human_spearman", "probe_pearson", "auroc", "probe_auroc",
    "ece_width", "brier",
)  # fmt: skip

Drawn = tuple[Figure, str]
"""A figure and its caption."""


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
    makers: tuple[tuple[str, str, Callable[[pd.DataFrame, Findings], Drawn | None]], ...] = (
        ("answers", "positions", _positions),
        ("alignment", "alignment", _correlations),
        ("alignment", "alignment.heatmap", _correlation_grid),
        ("options", "controls", _controls),
        ("calibration", "reliability", _reliability),
        ("calibration", "risk_coverage", _risk_coverage),
        ("calibration", "calibration.heatmap", _calibration_grid),
        ("calibration", "jsd_null", _shifts),
        ("calibration", "calibration_by_subject", _subjects),
        ("simultaneity", "simultaneity", _both),
        ("tuning", "tuning", _tuning),
        ("probes", "layers", _layers),
    )
    for place in places(findings.overview):
        told = {part.topic for part in findings.paragraphs if (part.dataset, part.prompt) == place}
        for topic, name, draw in makers:
            part = asked(getattr(findings, name.partition(".")[0]), place)
            drawn = None if part.empty else draw(part, findings)
            if drawn:
                # Positions are shown even where there is no right answer to tell of.
                topic = "agreement" if topic == "answers" and topic not in told else topic
                yield Plate(_stem(name, place), topic, drawn[1], drawn[0], *place)
        for name, topic, figure, caption in representation_figures(findings, place):
            yield Plate(_stem(name, place), topic, caption, figure, *place)
    for name, topic, figure, caption in across_figures(findings):
        yield Plate(name, topic, caption, figure)


def _stem(name: str, place: Place) -> str:
    return ".".join(str(word) for word in (name, *place) if word is not None)


def _positions(part: pd.DataFrame, findings: Findings) -> Drawn:
    part, under = _one_scoring(part) if _many(part) else (part, "")
    panels = _panels(part, ("model", "scoring"))
    widest = int(part["position"].max()) + 1
    many = len(panels) > 9
    width = max(2.2, 0.9 + 0.35 * widest) if many else max(3.0, 1.2 + 0.5 * widest)
    columns = int(12 / width) if many else 3
    axes = panel_grid(len(panels), columns=columns, width=width, height=2.3 if many else 2.7, sharey=True)
    _draw(panels, axes, lambda rows, ax: position_bars(rows, ax=ax))
    for ax in axes:
        place = ax.get_subplotspec()
        if place is not None and not place.is_first_col():
            ax.set_ylabel("")
    return _figure(axes), (
        f"How often each position is chosen by the model, holds the right answer, and is chosen by most people{under}. "
        "The dashed marks show the share expected of choosing at random."
    )


def _correlations(part: pd.DataFrame, findings: Findings) -> Drawn | None:
    part = part[part["correlation"].notna()]
    if part.empty:
        return None
    under = ""
    if _many(part):
        part, under = _one_scoring(part)
    axes = correlation_panels(part) if _many(part) else [correlation_bars(part)]
    return _figure(axes), (
        f"Correlation of each measure with normalised human entropy{under}, with 95% bootstrap intervals. Measures "
        "marked (−) are high where the model is certain, so that alignment makes them negative; the dashed lines stand "
        "at ±0.3 and ±0.5."
    )


def _correlation_grid(part: pd.DataFrame, findings: Findings) -> Drawn | None:
    part, under = _one_scoring(part[part["correlation"].notna()])
    if not _many(part):
        return None
    return _figure([correlation_heatmap(part)]), (
        f"The same correlations in numbers{under}, bold where the interval leaves out 0. (−): a measure of certainty, "
        "negative when aligned. Hatched: not defined."
    )


def _controls(part: pd.DataFrame, findings: Findings) -> Drawn | None:
    part = part[part["raw"].notna()]
    facts = findings.datasets
    if "dataset" in part and "dataset" in facts:
        facts = facts[facts["dataset"].isin(part["dataset"])]
    first = part["measure"].str.startswith("choice_")
    part = pd.concat([part[first], part[~first]])
    if part.empty or (facts["fewest_options"] == facts["most_options"]).all():
        return None
    under = ""
    if _many(part):
        part, under = _one_scoring(part[part["measure"] == "choice_entropy"])
    if part.empty:
        return None
    return _figure([control_dots(part)]), (
        f"What the number of options does{under}: correlation with human entropy with both in nats, with both divided "
        "by their maximum, and in nats with the number of options held constant (partial correlation)."
    )


def _reliability(part: pd.DataFrame, findings: Findings) -> Drawn:
    part, under = _one_scoring(part) if _many(part) else (part, "")
    panels = _panels(part, ("model", "scoring"))
    many = len(panels) > 9
    axes = panel_grid(len(panels), columns=5 if many else 3, width=2.2 if many else 2.9, height=2.4 if many else 3.1)
    _draw(panels, axes, lambda rows, ax: reliability_diagram(rows, ax=ax), legend=False)
    return _figure(axes), (
        f"Reliability{under}: share of right answers (bars; dots at the mean probability of the bin) against the "
        "probability of the chosen option among the options, with Wilson's 95% intervals. On the dashed line the two "
        "agree; below it the model is overconfident."
    )


def _risk_coverage(part: pd.DataFrame, findings: Findings) -> Drawn | None:
    part, under = _one_scoring(part[part["risk"].notna()])
    if part.empty:
        return None
    axes = risk_coverage_curves(part)
    return _figure(axes), (
        f"Risk and coverage{under}: the share of wrong answers among those kept, if only the surest are. Dashed: "
        "rejecting at random; dotted: rejecting every wrong answer first. The scale leaves out coverages below 0.05."
    )


def _calibration_grid(part: pd.DataFrame, findings: Findings) -> Drawn | None:
    part, under = _one_scoring(part[part["ece_rank"].notna()])
    if "model" not in part or part["model"].nunique() < 2:
        return None
    return _figure([calibration_heatmap(part)]), (
        f"Expected calibration error by ranks of each measure{under}, and its mean over the models. 0 is best; a "
        "calibrated measure does not reach it with so many items."
    )


def _shifts(part: pd.DataFrame, findings: Findings) -> Drawn | None:
    chosen = part["measure"].isin(HEADLINES)
    part, under = _one_scoring(part[chosen] if chosen.any() else part)
    keys = [*group_keys(part), "measure"]
    part = part.merge(findings.jsd_shift[[*keys, "p"]], on=keys, how="left", validate="many_to_one")
    part = part[part["statistic"].notna()]
    if part.empty:
        return None
    return _figure(permutation_histograms(part)), (
        f"Shift of the Jensen-Shannon distance{under}: the distance between the model's choices and the right answers "
        "where it is uncertain, less that where it is certain (thick line), against relabelled items (histogram; thin "
        "line: their mean, which is not 0 where the two groups differ in size), each histogram scaled to its row, with "
        "the two-sided p. Right of the mean is calibrated."
    )


def _both(part: pd.DataFrame, findings: Findings) -> Drawn | None:
    part, under = _one_scoring(part)
    if (part["alignment"].isna() | part["auroc"].isna()).all():
        return None
    return _figure(simultaneity_scatter(part)), (
        f"Aligned and calibrated at once{under}: correlation of each measure with human entropy, turned so that right "
        "is aligned, against the AUROC of telling wrong answers from right ones, with 95% intervals. The shaded "
        "quadrant is both. The ringed measure is the best at both, chosen on these items, which flatters it."
    )


def _tuning(part: pd.DataFrame, findings: Findings) -> Drawn | None:
    """Base against instruct: the figures that bear on people and on correctness, of each measure."""
    part = part[part["figure"].isin(DRAWN_FIGURES)]
    part, under = _one_scoring(part)
    part = part[part["difference"].notna()]
    if part.empty:
        return None
    if part["pair"].nunique() == 1:
        return _figure(tuning_differences(part)), (
            f"What fine-tuning changes{under}: instruct less base, with paired 95% bootstrap intervals over items; "
            "filled where the interval leaves out 0."
        )
    place = [key for key in ("dataset", "prompt", "setting") if key in part]
    tests = findings.tuning_over_pairs
    for key in place:
        tests = tests[tests[key] == part[key].iloc[0]]
    keys = [key for key in ("scoring", "nucleus", "figure", "measure") if key in part]
    shown = set(part[keys].itertuples(index=False, name=None))
    tests = tests[[row in shown for row in tests[keys].itertuples(index=False, name=None)]]
    return _figure(tuning_slopes(part, tests)), (
        f"What fine-tuning changes{under}: a line per pair from the base value (top of the row) to the instruct value "
        "(bottom). At the right the number of pairs, the matched-pairs rank-biserial correlation (1: higher in every "
        "instruct model) and the exact p of Wilcoxon's test over pairs."
    )


def _subjects(part: pd.DataFrame, findings: Findings) -> Drawn | None:
    part = part[part["measure"] == HEADLINE]
    if part.empty:
        return None
    if "model" in part and part["model"].nunique() > 1:
        part, under = _one_scoring(part)
        axes = subject_heatmap(part, columns="model")
    else:
        under = ""
        axes = subject_heatmap(part, columns="scoring" if "scoring" in part else "measure")
    return _figure([axes]), (
        f"Spearman correlation of {HEADLINE} with correctness within each subject (number of items){under}. Negative "
        "(orange) is calibrated: less certain where wrong. Hatched: not defined."
    )


def _layers(part: pd.DataFrame, findings: Findings) -> Drawn:
    several = _many(part)
    if several and "scoring" in part:
        first = part["scoring"].dropna().iloc[:1].tolist()
        part = part[part["scoring"].isna() | part["scoring"].isin(first)]
    panels = _panels(part, ("model", "target", "scoring", "site", "position", "probe"))
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
        layer_curve(rows, score=score, best_measure=named, ax=ax)
        titles.append("\n".join(line for line in (title, f"– – {best['measure_label']}" if best else "") if line))
    _title(axes, titles)
    return _figure(axes), (
        "Probes of the residual stream by layer, predicting human entropy (Pearson r, and R² with its null) and "
        "correctness (AUROC), out of fold. The dashed line is the output measure that tells most about the same "
        "target, with its interval: |r|, or AUROC in the better direction."
    )


def _best_measure(rows: pd.DataFrame, curve: pd.DataFrame) -> dict[str, Any] | None:
    for key in ("model", "dataset", "prompt", "setting", "scoring", "target", "site", "position", "probe"):
        if key in rows and key in curve:
            value = rows[key].iloc[0]
            curve = curve[curve[key].isna() if pd.isna(value) else curve[key] == value]
    if curve.empty or pd.isna(curve["measure"].iloc[0]):
        return None
    row = curve.iloc[0]
    return {**row.to_dict(), "measure_label": measure(row, "measure_")}


def _many(part: pd.DataFrame) -> bool:
    """Tell whether there are more models than fit into one set of axes."""
    return "model" in part and part["model"].nunique() > FEW_MODELS


def _one_scoring(part: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Keep one scoring where there are several models, or pairs, beside what depends on none; and say which."""
    one_model = "model" in part and part["model"].nunique() < 2
    if "scoring" not in part or one_model or not {"model", "pair"} & set(part):
        return part, ""
    scorings = [scoring for scoring in dict.fromkeys(part["scoring"]) if scoring != ANY]
    if not scorings:
        return part, ""
    return part[part["scoring"].isin([scorings[0], ANY])], f", answers scored by {scorings[0]}"


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

"""The figures of a study's representation: controls, learning, both targets, the lens, interventions, other runs.

Curves by layer are one figure per model; studies of more than `FEW_MODELS` models show them in tables only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figures import (
    behaviour_dots,
    cka_curves,
    control_scores,
    dose_response_curves,
    learning_curves,
    lens_curves,
    rsa_curve,
    transfer_heatmap,
    two_target_curves,
)
from .findings import Findings
from .phrases import Place, asked, by
from .probe_sentences import TARGETS

FEW_MODELS = 4
HEADLINES = ("choice_entropy_normalized", "choice_probability", "total_entropy_normalized", "top_1_probability")

Drawn = tuple[str, str, Figure, str]
"""Table with what tells figures of it apart, topic, figure and caption."""


def representation_figures(findings: Findings, place: Place) -> Iterator[Drawn]:
    """Draw what one dataset and prompt has of the representation."""
    makers: tuple[tuple[str, str, Callable[[pd.DataFrame], Iterator[tuple[str, Figure, str]]]], ...] = (
        ("probe_controls", "probes", _controls),
        ("learning", "probes", _learning),
        ("similarity", "probes", _similarity),
        ("behaviour", "behaviour", _behaviour),
        ("lens", "behaviour", _lens),
        ("two_targets", "two_targets", _two_targets),
        ("interventions", "interventions", _interventions),
        ("geometry", "tuning", _geometry),
    )
    for name, topic, draw in makers:
        part = asked(getattr(findings, name), place)
        for suffix, figure, caption in draw(part) if len(part) else ():
            yield ".".join(filter(None, (name, suffix))), topic, figure, caption


def across_figures(findings: Findings) -> Iterator[Drawn]:
    """Draw what a study has across its runs: a matrix of transfer for each target."""
    table = findings.transfer
    for target, rows in by(table[table["score"].notna()], "target") if len(table) else ():
        if len(rows) > 1:
            yield (
                f"transfer.{target}",
                "transfer",
                # Runs that are asked differently have scorings of their own.
                _figure([transfer_heatmap(rows.drop(columns="scoring", errors="ignore"))]),
                f"Probes of {TARGETS.get(str(target), str(target))} trained on the run of the row and tested on that "
                "of the column, with 95% intervals; bold where the interval leaves out chance, framed: a run's own "
                "probe.",
            )


def _controls(part: pd.DataFrame) -> Iterator[tuple[str, Figure, str]]:
    part = _first_scoring(part[part["score"].notna()])
    for score, rows in by(part, "score_name"):
        if len(rows):
            yield (
                str(score),
                _figure(control_scores(rows)),
                "The probe beside its controls on the same folds, with 95% intervals; on the right the probe less "
                "each control, in pairs. Controls whose interval does not lie above 0 are as good.",
            )


def _learning(part: pd.DataFrame) -> Iterator[tuple[str, Figure, str]]:
    if _few(part):
        yield (
            "",
            _figure(learning_curves(_first_scoring(part))),
            "Out-of-fold score of probes that learn from more and more items, on the same test items, with 95% "
            "intervals over items and draws of training items.",
        )


def _similarity(part: pd.DataFrame) -> Iterator[tuple[str, Figure, str]]:
    for model, rows in _each_model(part[part["rsa"].notna()]):
        yield (
            model,
            _figure([rsa_curve(rows)]),
            "Correlation of the distances between items in each layer with the distances between people's sorted "
            "response profiles, within each number of options, and its null of permuted profiles (mean ± 1.96 sd). "
            "Filled: p < 0.05 against the maximum over layers.",
        )


def _behaviour(part: pd.DataFrame) -> Iterator[tuple[str, Figure, str]]:
    part = part[part["measure"].isin(HEADLINES)] if part["measure"].isin(HEADLINES).any() else part
    for target, rows in by(_first_scoring(part[part["difference"].notna()]), "target"):
        if len(rows) and _few(rows):
            yield (
                str(target),
                _figure(behaviour_dots(rows)),
                f"Output measures and the probe of {TARGETS.get(str(target), str(target))} on the same items, and the "
                "probe less each measure, with paired 95% intervals. The tables have every measure.",
            )


def _lens(part: pd.DataFrame) -> Iterator[tuple[str, Figure, str]]:
    for figure, what in (("human_spearman", "human entropy"), ("correct_auroc", "wrong answers")):
        for model, rows in _each_model(part[part[figure].notna()]):
            yield (
                f"{figure}.{model}".rstrip("."),
                _figure([lens_curves(rows, figure=figure)]),
                "Logit lens: output measures read from each layer through the model's own final norm and head, "
                f"beside {what}, with 95% intervals. Filled: stands out of the maximum over layers (p <= 0.05).",
            )


def _two_targets(part: pd.DataFrame) -> Iterator[tuple[str, Figure, str]]:
    for model, rows in _each_model(_first_scoring(part)):
        yield (
            model,
            _figure(two_target_curves(rows)),
            "Human entropy and correctness at once, by layer: the cosine of their directions with its null; how well "
            "each probe predicts its own target (dashed) and the other's, correctness counted as error; the variance "
            "that the probes share and explain apart. An AUROC is drawn as 2 AUROC − 1.",
        )


def _interventions(part: pd.DataFrame) -> Iterator[tuple[str, Figure, str]]:
    for model, rows in _each_model(part):
        for target, own in by(rows, "target"):
            for layer, curve in by(own, "layer"):
                yield (
                    ".".join(filter(None, (model, str(target), f"layer{layer}"))),
                    _figure(dose_response_curves(curve)),
                    f"Layer {layer} moved along the probe of {TARGETS.get(str(target), str(target))}: change of each "
                    "figure by dose, with its 95% interval over items, beside random directions of equal length "
                    "(thin lines). At the right, what the probe reads is set to its mean.",
                )


def _geometry(part: pd.DataFrame) -> Iterator[tuple[str, Figure, str]]:
    pairs = list(by(part, "pair"))
    for pair, rows in pairs if len(pairs) <= FEW_MODELS else ():
        yield (
            str(pair),
            _figure(cka_curves(rows)),
            f"{pair}, base beside instruct, by layer: debiased CKA, and the cosine of each target's directions in "
            "both models with its null. The dotted line is what the same direction would have at the reliability of "
            "each.",
        )


def _first_scoring(part: pd.DataFrame) -> pd.DataFrame:
    """Keep the first scoring of each run, and what depends on none."""
    if "scoring" not in part or part["scoring"].isna().all():
        return part
    keys = [key for key in ("model", "dataset", "prompt", "target", "measure") if key in part]
    first = (
        part.groupby(keys, sort=False, dropna=False)["scoring"].transform("first") if keys else part["scoring"].iloc[0]
    )
    return part[part["scoring"].isna() | (part["scoring"] == first)]


def _few(part: pd.DataFrame) -> bool:
    return "model" not in part or part["model"].nunique() <= FEW_MODELS


def _each_model(part: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the rows of every model where there are few, with its name where there are several."""
    models = list(by(part, "model")) if len(part) else []
    for model, rows in models if len(models) <= FEW_MODELS else ():
        yield (str(model) if len(models) > 1 else "", rows)


def _figure(axes: list[Axes]) -> Figure:
    figure = axes[0].figure
    assert isinstance(figure, Figure)
    return figure

"""The findings in words: one paragraph each, made from the tables, with numbers, intervals and conventions.

A paragraph never says more than its numbers: a correlation or a difference counts as found when its p-value survives
Holm's correction over everything looked at; otherwise the paragraph says that none is distinguishable from 0, and what
could have been found. Up to `FEW` models are told one by one, more of them by their range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from . import (
    agreement_sentences,
    alignment_sentences,
    behaviour_sentences,
    calibration_sentences,
    intervention_sentences,
    joint_sentences,
    layer_sentences,
    transfer_sentences,
    tuning_sentences,
    two_target_sentences,
)
from .clauses import LEVEL, Settings, Tables, Told, by_scoring
from .phrases import asked, places, sentences, spread, who
from .probe_sentences import probes
from .wording import count, p_value, percent, percent_interval


@dataclass(frozen=True)
class Paragraph:
    """One finding in words.

    Attributes:
        topic: answers, agreement, alignment, options, calibration, simultaneity, tuning, power, probes, behaviour,
            two_targets, interventions or transfer.
        title: what it is about.
        text: the finding, with its numbers and intervals.
        method: how to read them: intervals, tests, conventions.
        dataset, prompt: where it was found; None where the tables do not say, and across runs.
    """

    topic: str
    title: str
    text: str
    method: str
    dataset: str | None = None
    prompt: str | None = None


def paragraphs(tables: Tables, settings: Settings) -> Iterator[Paragraph]:
    """Yield the findings, dataset by dataset and prompt by prompt, in the order of a report.

    Args:
        tables: the tables of `Findings`; those that a study has nothing for are empty.
        settings: of the study: n_bootstrap, interval, level.
    """
    writers: tuple[tuple[str, str, Callable[[pd.DataFrame, Tables, Settings], Told]], ...] = (
        ("answers", "overview", _answers),
        ("agreement", "agreement", agreement_sentences.agreement),
        ("agreement", "human_calibration", agreement_sentences.distributions),
        ("agreement", "uncertainty_agreement", agreement_sentences.uncertainty),
        ("alignment", "alignment", alignment_sentences.alignment),
        ("options", "controls", alignment_sentences.options),
        ("calibration", "calibration", calibration_sentences.calibration),
        ("calibration", "calibration", calibration_sentences.stated_probability),
        ("calibration", "jsd_shift", calibration_sentences.shift),
        ("simultaneity", "simultaneity", joint_sentences.simultaneity),
        ("tuning", "tuning", tuning_sentences.tuning),
        ("tuning", "tuning_over_pairs", tuning_sentences.over_pairs),
        ("tuning", "geometry", transfer_sentences.geometry),
        ("power", "power", joint_sentences.power),
        ("probes", "curve", probes),
        ("probes", "probe_controls", layer_sentences.controls),
        ("probes", "learning", layer_sentences.learning),
        ("probes", "similarity", layer_sentences.similarity),
        ("behaviour", "behaviour", behaviour_sentences.behaviour),
        ("behaviour", "incremental", behaviour_sentences.increments),
        ("behaviour", "lens", behaviour_sentences.lens),
        ("two_targets", "two_targets", two_target_sentences.two_targets),
        ("interventions", "interventions", intervention_sentences.interventions),
    )
    names = list(dict.fromkeys(tables["overview"]["model"])) if "model" in tables["overview"] else []
    for place in places(tables["overview"]):
        for topic, name, write in writers:
            part = asked(tables[name], place)
            for title, clauses, method in write(part, tables, settings) if len(part) else ():
                yield Paragraph(topic, title, sentences(clauses, names), method, *place)
    if len(tables["transfer"]):
        for title, clauses, method in transfer_sentences.transfer(tables["transfer"], tables, settings):
            yield Paragraph("transfer", title, sentences(clauses, names), method)


def _answers(part: pd.DataFrame, tables: Tables, settings: Settings) -> Told:
    known = part[part["n_answers"] > 0]
    if known.empty:
        return

    def tell(row: pd.Series) -> str:
        share, bounds = percent(row["accuracy"]), percent_interval(row["ci_low"], row["ci_high"])
        verdict = "" if row["p"] < LEVEL else ", not above chance"
        items = count(int(row["n_answers"]), "item")
        return f"{who(row)} answers {share} {bounds} of {items} correctly ({p_value(row['p'])}{verdict})"

    def tell_many(rows: pd.DataFrame) -> str:
        above = int((rows["p"] < LEVEL).sum())
        return f"{above} of {len(rows)} models lie above chance (p < {LEVEL}); {spread(rows, 'accuracy', percent)}"

    clauses = by_scoring(known, tell, tell_many)
    chance = f"chance is {percent(known['chance'].mean())}"
    if known["best_constant"].notna().any():
        constant = percent(known["best_constant"].max())
        chance += f", and always choosing the position that is most often right would give {constant}"
    clauses.append((None, chance))
    yield (
        "Right answers",
        clauses,
        "Intervals are Wilson's, 95%; p is the one-sided exact Poisson-binomial probability of as many right answers "
        "by choosing at random.",
    )

"""The findings in words: one paragraph each, made from the tables, with numbers, intervals and conventions.

A paragraph never says more than its numbers: a correlation counts as found when its p-value survives Holm's correction
over the measures looked at; otherwise the paragraph says that none is distinguishable from 0. Up to `FEW` models are
told one by one, more of them by their range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .phrases import asked, by, measure, places, sentences, spread, who
from .views import ANY
from .wording import count, estimate, listing, number, p_value, percent, percent_interval

FEW = 3
LEVEL = 0.05
HEADLINE = "choice_entropy_normalized"
TARGETS = {"human_entropy_normalized": "normalised human entropy", "correct": "correctness"}

Tables = Mapping[str, pd.DataFrame]
Settings = Mapping[str, Any]
Clauses = list[tuple[str | None, str]]
"""Parts of a paragraph, each with the scoring it holds for."""
Told = Iterator[tuple[str, Clauses, str]]
"""Title, clauses and method of each paragraph."""


@dataclass(frozen=True)
class Paragraph:
    """One finding in words.

    Attributes:
        topic: answers, agreement, alignment, options, calibration or probes.
        title: what it is about.
        text: the finding, with its numbers and intervals.
        method: how to read them: intervals, tests, conventions.
        dataset, prompt: where it was found; None where the tables do not say.
    """

    topic: str
    title: str
    text: str
    method: str
    dataset: str | None = None
    prompt: str | None = None


def paragraphs(tables: Tables, settings: Settings) -> Iterator[Paragraph]:
    """Yield the findings, dataset by dataset and prompt by prompt, in the order of a report."""
    writers: tuple[tuple[str, str, Callable[[pd.DataFrame, Tables, Settings], Told]], ...] = (
        ("answers", "overview", _answers),
        ("agreement", "agreement", _agreement),
        ("alignment", "alignment", _alignment),
        ("options", "controls", _options),
        ("calibration", "calibration", _calibration),
        ("probes", "curve", _probes),
    )
    for place in places(tables["overview"]):
        for topic, name, write in writers:
            part = asked(tables[name], place)
            for title, clauses, method in write(part, tables, settings) if len(part) else ():
                yield Paragraph(topic, title, sentences(clauses), method, *place)


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

    clauses = _clauses(known, tell, tell_many)
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


def _agreement(part: pd.DataFrame, tables: Tables, settings: Settings) -> Told:
    part = part[part["top_answer_agreement"].notna()]
    if part.empty:
        return

    def tell(row: pd.Series) -> str:
        share = percent(row["top_answer_agreement"])
        bounds = percent_interval(row["ci_low"], row["ci_high"])
        ranking = ""
        if not np.isnan(row["kendall_distance"]):
            distance = estimate(row["kendall_distance"], row["kendall_ci_low"], row["kendall_ci_high"])
            ranking = f"; its ranking of the options lies at Kendall distance {distance} from theirs, a random ranking "
            ranking += f"at {number(row['kendall_random'])}"
        return (
            f"{who(row)} chooses one of the people's most frequent answers for {share} {bounds} of "
            f"{count(int(row['n']), 'item')}, where choosing at random gives {percent(row['chance'])} "
            f"({p_value(row['p_poisson_binomial'])}){ranking}"
        )

    def tell_many(rows: pd.DataFrame) -> str:
        above = int((rows["p_poisson_binomial"] < LEVEL).sum())
        known = rows["kendall_distance"].notna().any()
        ranking = f"; Kendall distance: {spread(rows, 'kendall_distance')}" if known else ""
        return (
            f"agreement with the people's most frequent answer is above that of choosing at random "
            f"({percent(rows['chance'].mean())}) for {above} of {len(rows)} models (p < {LEVEL}): "
            f"{spread(rows, 'top_answer_agreement', percent)}{ranking}"
        )

    yield (
        "Agreement with people's choices",
        _clauses(part, tell, tell_many),
        "Intervals are 95%, Wilson's of the agreement and Student's of the mean Kendall distance; p is the one-sided "
        "exact Poisson-binomial probability. A Kendall distance is the share of option pairs ranked in opposite order, "
        "a tie on one side counting one half.",
    )


def _alignment(part: pd.DataFrame, tables: Tables, settings: Settings) -> Told:
    part = part[part["correlation"].notna()]
    if part.empty:
        return

    def tell(row: pd.Series) -> str:
        return (
            f"the choice entropy of {who(row)} has a {row['method'].capitalize()} correlation of "
            f"{estimate(row['correlation'], row['ci_low'], row['ci_high'])} with human entropy, both normalised "
            f"(n = {int(row['n']):,})"
        )

    def tell_many(rows: pd.DataFrame) -> str:
        return f"the correlation of normalised choice entropy with human entropy: {_many(rows, 'correlation')}"

    clauses = _clauses(part[part["measure"] == HEADLINE], tell, tell_many)
    clauses += _search(part, "correlation", "with human entropy")
    facts = _facts(part, tables)
    if facts["fewest_options"] == facts["most_options"]:
        clauses.append((None, f"every item offers {facts['most_options']} options, so that their number plays no part"))
    if not np.isnan(facts["reliability_ceiling"]):
        ceiling = number(facts["reliability_ceiling"])
        noisy = "with human entropy as noisy as it is, a perfect measure could reach a correlation of about"
        clauses.append((None, f"{noisy} {ceiling}"))
    yield "Alignment with human disagreement", clauses, _method(part, settings)


def _options(part: pd.DataFrame, tables: Tables, settings: Settings) -> Told:
    facts = _facts(part, tables)
    chosen = part[part["measure"] == "choice_entropy"]
    if facts["fewest_options"] == facts["most_options"] or chosen.empty:
        return

    def tell(row: pd.Series) -> str:
        raw, normalized, partial = (
            estimate(row[name], row[f"{name}_ci_low"], row[f"{name}_ci_high"])
            for name in ("raw", "normalized", "partial")
        )
        return (
            f"the choice entropy of {who(row)} correlates with human entropy at {raw} with both in nats, at "
            f"{normalized} with both divided by ln K, and at {partial} in nats with the number of options K held "
            "constant"
        )

    def tell_many(rows: pd.DataFrame) -> str:
        return (
            f"the correlation of choice entropy with human entropy, both in nats: {spread(rows, 'raw')}; both divided "
            f"by ln K: {spread(rows, 'normalized')}; in nats with the number of options K held constant: "
            f"{spread(rows, 'partial')}"
        )

    clauses = _clauses(chosen, tell, tell_many)
    clauses.append(
        (
            None,
            f"items offer {facts['fewest_options']} to {facts['most_options']} options, and their number alone has a "
            f"Spearman correlation of {number(facts['options_human_entropy'])} with human entropy in nats and of "
            f"{number(facts['options_human_entropy_normalized'])} with normalised human entropy",
        )
    )
    yield (
        "The number of options",
        clauses,
        f"{part['method'].iloc[0].capitalize()} correlations. {_intervals(settings)}",
    )


def _calibration(part: pd.DataFrame, tables: Tables, settings: Settings) -> Told:
    defined = part[part["spearman"].notna()]
    if defined.empty:
        reasons = listing(dict.fromkeys(str(reason).split(";")[0] for reason in part["reason"].dropna()))
        clauses: Clauses = [(None, f"no measure has a correlation with correctness: {reasons}")]
        yield "Uncertainty and correctness", clauses, ""
        return

    def tell(row: pd.Series) -> str:
        return (
            f"the normalised choice entropy of {who(row)} has a Spearman correlation of "
            f"{estimate(row['spearman'], row['ci_low'], row['ci_high'])} with correctness (n = {int(row['n']):,}) and "
            f"tells wrong from right answers with an AUROC of "
            f"{estimate(row['auroc'], row['auroc_ci_low'], row['auroc_ci_high'])}{_confidence(part, row)}"
        )

    def tell_many(rows: pd.DataFrame) -> str:
        return f"the correlation of normalised choice entropy with correctness: {_many(rows, 'spearman')}"

    clauses = _clauses(defined[defined["measure"] == HEADLINE], tell, tell_many)
    clauses += _search(defined, "spearman", "with correctness")
    subjects = asked(tables["calibration_by_subject"], places(part)[0])
    undefined = int(subjects["spearman"].isna().sum()) if len(subjects) else 0
    if undefined:
        clauses.append(
            (
                None,
                f"of {count(len(subjects), 'correlation')} within single subjects {undefined} "
                f"{'is' if undefined == 1 else 'are'} not defined (every answer right, every one wrong, or a constant "
                "measure)",
            )
        )
    yield (
        "Uncertainty and correctness",
        clauses,
        "Uncertainty is calibrated where it is lower for right answers: a negative correlation, and for measures of "
        f"certainty a positive one; an AUROC of 0.5 is chance. {_method(part, settings)}",
    )


def _probes(part: pd.DataFrame, tables: Tables, settings: Settings) -> Told:
    for target, rows in by(part, "target"):
        name = TARGETS.get(str(target), str(target))
        clauses: Clauses = [(None, _probe(row)) for _, row in rows.iterrows()]
        if "model" in rows and rows["model"].nunique() > FEW:
            score, found = _score(rows.iloc[0]), int((rows["p_max"] < LEVEL).sum())
            clauses = [
                (
                    None,
                    f"the out-of-fold {score} of the best layer, over {len(rows)} curves: "
                    f"{spread(rows, 'best_score')}; {found} of them have p < {LEVEL} against the null of the "
                    f"maximum over layers; nested: {spread(rows, 'nested_score')}; best output measure: "
                    f"{spread(rows, 'measure_score')}",
                )
            ]
        yield (
            f"Probes of the residual stream for {name}",
            clauses,
            "The nested score chooses layer and penalty inside the training folds; the best output measure was chosen "
            "on the items it is scored on, which flatters it. Intervals are 95% bootstrap intervals. p permutes the "
            "target through the complete procedure.",
        )


def _probe(row: pd.Series) -> str:
    permutations = row["n_permutations"]
    least = not pd.isna(permutations) and row["p_max"] <= 1 / (1 + permutations) + 1e-12
    least_text = f", the least that {int(permutations)} permutations can give," if least else ""
    verdict = "" if row["p_max"] < LEVEL else ", not distinguishable from shuffled targets"
    scoring = row.get("scoring")
    under = f" scored by {scoring}" if isinstance(scoring, str) and scoring != ANY else ""
    text = (
        f"for {who(row)}{under}, the best of {count(int(row['n_layers']), 'layer')} is layer {row['best_layer']} with "
        f"an out-of-fold {_score(row)} of {estimate(row['best_score'], row['best_ci_low'], row['best_ci_high'])} "
        f"({p_value(row['p_max'])}{least_text} against the null of the maximum over layers{verdict}), and the nested "
        f"score is {estimate(row['nested_score'], row['nested_ci_low'], row['nested_ci_high'])} "
        f"({p_value(row['nested_p'])})"
    )
    if pd.isna(row["measure"]):
        return text
    apart = row["nested_ci_low"] > row["measure_ci_high"] or row["measure_ci_low"] > row["nested_ci_high"]
    against = ", read against its direction," if row["measure_reversed"] else ","
    return (
        f"{text}; the best of {count(int(row['n_measures']), 'output measure')}, {measure(row, 'measure_')}{against} "
        f"reaches {estimate(row['measure_score'], row['measure_ci_low'], row['measure_ci_high'])}, an interval that "
        f"{'does not overlap' if apart else 'overlaps'} with that of the nested score"
    )


def _search(part: pd.DataFrame, value: str, target: str) -> Clauses:
    """Say how many measures were looked at, how many survive the correction, and which is the strongest."""
    models = [rows for _, rows in by(part, "model")]
    if len(models) > FEW:
        survivors = [int((rows["p_holm"] < LEVEL).sum()) for rows in models]
        without = survivors.count(0)
        none = f", and none has for {count(without, 'model')}" if without else ""
        return [
            (
                None,
                f"{len(models[0])} measures were looked at for each of {len(models)} models (every scoring and nucleus "
                f"counted); {min(survivors)} to {max(survivors)} of them have a correlation {target} that survives "
                f"Holm's correction{none}",
            )
        ]
    clauses: Clauses = []
    for rows in models:
        best = rows.loc[rows[value].abs().idxmax()]
        survivors_here, alone = int((rows["p_holm"] < LEVEL).sum()), int((rows["p"] < LEVEL).sum())
        whose = f" for {who(best)}" if len(models) > 1 else ""
        looked = count(len(rows), "measure")
        if survivors_here:
            found = f"of {looked} looked at{whose}, {survivors_here} {'has' if survivors_here == 1 else 'have'} a "
            found += f"correlation {target} that survives Holm's correction ({alone} with p < {LEVEL} on their own)"
        else:
            found = f"{looked} {'was' if len(rows) == 1 else 'were'} looked at{whose}, and no correlation {target} is "
            found += f"distinguishable from 0 once that is allowed for ({alone} with p < {LEVEL} on their own)"
        strongest = estimate(best[value], best["ci_low"], best["ci_high"])
        clauses.append(
            (
                None,
                f"{found}; the strongest is {measure(best)} at {strongest} (Holm-corrected {p_value(best['p_holm'])})",
            )
        )
    return clauses


def _confidence(part: pd.DataFrame, row: pd.Series) -> str:
    same = part[part["measure"] == "choice_probability"]
    for key in ("model", "scoring"):
        if key in part:
            same = same[same[key] == row[key]]
    if same.empty or pd.isna(same["ece_width"].iloc[0]):
        return ""
    stated = same.iloc[0]
    return (
        f"; the probability of its choice among the options has an expected calibration error of "
        f"{number(stated['ece_width'])} (bins of equal width) and a Brier score of {number(stated['brier'])}"
    )


def _clauses(part: pd.DataFrame, tell: Callable[[pd.Series], str], tell_many: Callable[[pd.DataFrame], str]) -> Clauses:
    """Tell every row of each scoring, or their range where there are many."""
    clauses: Clauses = []
    for scoring, rows in by(part, "scoring"):
        told = [tell(row) for _, row in rows.iterrows()] if len(rows) <= FEW else [tell_many(rows)]
        clauses += [(scoring, text) for text in told]
    return clauses


def _many(rows: pd.DataFrame, value: str) -> str:
    clear = int(((rows["ci_low"] > 0) | (rows["ci_high"] < 0)).sum())
    return f"{spread(rows, value)}; the interval leaves out 0 for {clear} of {len(rows)} models"


def _facts(part: pd.DataFrame, tables: Tables) -> pd.Series:
    facts = tables["datasets"]
    if "dataset" in part and "dataset" in facts:
        facts = facts[facts["dataset"] == part["dataset"].iloc[0]]
    return facts.iloc[0]


def _method(part: pd.DataFrame, settings: Settings) -> str:
    nuclei = [str(name) for name in dict.fromkeys(part["nucleus"]) if name != ANY] if "nucleus" in part else []
    plural = "nucleus" if len(nuclei) == 1 else "nuclei"
    text = f" Top-p measures use the {listing(nuclei)} {plural}." if nuclei else ""
    return f"{_intervals(settings)}{text} Every measure looked at is listed in the tables."


def _intervals(settings: Settings) -> str:
    return (
        f"Intervals are 95% percentile bootstrap intervals over items (B = {settings['n_bootstrap']:,}), which do not "
        "allow for a choice among measures."
    )


def _score(row: pd.Series) -> str:
    return "AUROC" if row["score_name"] == "auroc" else "Pearson r"

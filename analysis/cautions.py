"""Warnings: what stands in the way of reading a study's numbers plainly, each from the numbers themselves.

| code | when |
|---|---|
| options_control | a correlation vanishes (or turns) once the number of options is held constant |
| letter_preference | one position takes far more answers than chance and than it is right (see `PREFERENCE`) |
| accuracy_at_chance | right answers are no more than choosing at random gives (exact test, p >= 0.05) |
| options_confound | the number of options alone correlates with human entropy |
| noisy_target | human entropy rests on so few people that no measure could correlate perfectly |
| best_layer | the best layer is not distinguishable from the null of the maximum over layers |
| nested_score | the nested score is clearly below the best layer's: picking the layer flattered it |
| not_probability | scores that are not probabilities: figures that need one are missing |
| empty_nucleus | nuclei that hold no token: size 0, entropy missing |
| ties | options that share the highest score: the first of them counts as chosen |
| undefined | measures without a correlation, and why |
| excluded | items that were left out, and why |
| left_out | what could not be asked of a run's probes, and why |
| numerical_noise | a 16-bit forward pass, and how far its numbers are from float32 |

Those of intervals and tests (few_draws, shared_model, few_clusters, independent_items, few_pairs, unmatched_items,
calibration_error_bias, no_kendall) are in `inference_cautions`, that of probes beside their controls
(control_as_good) in `representation_cautions`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pandas as pd

from . import inference_cautions, representation_cautions
from .clauses import LEVEL, Tables, Warned
from .overview import LETTERS
from .phrases import Place, asked, by_place, told
from .wording import count, estimate, listing, number, p_value, percent, some

PREFERENCE = 0.25
"""By how much the share of a position must exceed the share expected at random to be called a preference."""
BEYOND_ANSWERS = 0.1
"""By how much it must also exceed the share of right answers at that position, where there are right answers."""
CONFOUND = 0.3
CEILING = 0.98
DROP = 0.05
PROBABILITIES = ("choice_probability", "choice_mass")
Runs = list[dict[str, Any]]


@dataclass(frozen=True)
class Caution:
    """One warning: its code, "serious" (changes how a figure must be read) or "note", and its text."""

    code: str
    grade: str
    text: str
    dataset: str | None = None
    prompt: str | None = None


def cautions(tables: Tables, runs: Runs) -> list[Caution]:
    """List the warnings that the tables call for, serious ones first.

    Args:
        tables: the tables of `Findings`; those that a study has nothing for are empty.
        runs: what is known of each run: model, dataset, prompt, dtype, excluded, self_test.
    """
    makers: tuple[Callable[[Tables], Warned], ...] = (
        _letters,
        _controls,
        _confounds,
        _accuracy,
        inference_cautions.few_draws,
        inference_cautions.shared_models,
        _best_layers,
        representation_cautions.controls,
        _nested,
        _noise_of_people,
        inference_cautions.few_clusters,
        inference_cautions.independent_items,
        inference_cautions.few_pairs,
        inference_cautions.unmatched_items,
        inference_cautions.calibration_errors,
        inference_cautions.without_kendall,
        _probabilities,
        _nuclei,
        _ties,
        _undefined,
    )
    told_of = chain.from_iterable(
        [*(maker(tables) for maker in makers), _excluded(runs), _left_out(runs), _numerical_noise(runs)]
    )
    found = [Caution(code, grade, f"{_where(place)}{text}", *place) for code, grade, text, place in told_of]
    return [caution for grade in ("serious", "note") for caution in found if caution.grade == grade]


def _letters(tables: Tables) -> Warned:
    table, labels = tables["overview"], tables["positions"]
    excess = table["top_share"] - table["top_expected"]
    beyond = (table["top_share"] - table["top_answers"]).fillna(1.0)
    preferred = table[(excess >= PREFERENCE) & (beyond >= BEYOND_ANSWERS) & (table["top_p"] < 0.001)]

    def label(row: pd.Series) -> str:
        same = labels[labels["position"] == row["top_position"]]
        for key in ("model", "dataset", "prompt", "setting", "scoring"):
            if key in same and key in row.index:
                same = same[same[key] == row[key]]
        return str(same["label"].iloc[0])

    def tell(row: pd.Series) -> str:
        share, random = percent(row["top_share"]), percent(row["top_expected"])
        return f" answers {label(row)} to {share} of the items ({random} at random)"

    for place, rows in by_place(preferred):
        letter = any(label(row) in LETTERS for _, row in rows.iterrows())
        yield (
            "letter_preference",
            "serious",
            f"{told(rows, tell)}. This is a {'letter' if letter else 'position'} preference, not an "
            "answer: accuracy, agreement and choice entropies say little about the questions here. Asking every "
            "rotation of the options, or scoring their texts, avoids it.",
            place,
        )


def _controls(tables: Tables) -> Warned:
    table = tables["controls"]
    if "flag" not in table:
        return

    def tell(row: pd.Series) -> str:
        raw, partial, normalized = (
            estimate(row[name], row[f"{name}_ci_low"], row[f"{name}_ci_high"])
            for name in ("raw", "partial", "normalized")
        )
        return f", {row['measure']}: {raw} in nats, {partial} given K, {normalized} when normalised"

    for place, every in by_place(table[table["flag"].notna()]):
        for flag, rows in every.groupby("flag", sort=False):
            rows = rows.loc[rows["raw"].abs().sort_values(ascending=False, kind="stable").index]
            subject, verb = "This correlation with human entropy", str(flag)
            if len(rows) > 1:
                subject = f"{len(rows)} correlations with human entropy"
                verb = verb.replace("vanishes", "vanish").replace("changes", "change")
            text = f"{subject} {verb}: {told(rows, tell)}."
            yield "options_control", "serious", text, place


def _confounds(tables: Tables) -> Warned:
    forms = (("options_human_entropy", "in nats"), ("options_human_entropy_normalized", "divided by ln K"))
    for _, row in tables["datasets"].iterrows():
        found = [
            f"{number(row[column])} with human entropy {form}"
            for column, form in forms
            if abs(row[column]) >= CONFOUND and row[f"{column}_p"] < LEVEL
        ]
        if found:
            place = (row.get("dataset"), None)
            yield (
                "options_confound",
                "serious",
                f"The number of options ({row['fewest_options']} to {row['most_options']}) alone has a "
                f"Spearman correlation of {listing(found)}: a measure that it enters will correlate too.",
                place,
            )


def _accuracy(tables: Tables) -> Warned:
    def tell(row: pd.Series) -> str:
        return f" {percent(row['accuracy'])} (chance {percent(row['chance'])}, {p_value(row['p'])})"

    table = tables["overview"]
    for place, rows in by_place(table[table["p"] >= LEVEL]):
        yield (
            "accuracy_at_chance",
            "serious",
            f"Accuracy is not above chance: {told(rows, tell)}. What uncertainty there is can hardly be "
            "about the right answer, and its relation to correctness says little.",
            place,
        )


def _best_layers(tables: Tables) -> Warned:
    def tell(row: pd.Series) -> str:
        return f", {row['target']}: layer {row['best_layer']}, {p_value(row['p_max'])}"

    table = tables["curve"]
    for place, rows in by_place(table[table["p_max"] >= LEVEL] if len(table) else table):
        yield (
            "best_layer",
            "serious",
            f"The best layer of the probes is not distinguishable from the null of the maximum over "
            f"layers ({told(rows, tell)}). It should not be read as where the target is represented.",
            place,
        )


def _nested(tables: Tables) -> Warned:
    def tell(row: pd.Series) -> str:
        best, nested = number(row["best_score"]), number(row["nested_score"])
        return f", {row['target']}: {best} at the best layer, {nested} nested"

    table = tables["curve"]
    lower = table[table["best_score"] - table["nested_score"] >= DROP] if len(table) else table
    for place, rows in by_place(lower):
        yield (
            "nested_score",
            "note",
            f"The score of the best layer falls when the layer, too, is chosen inside the training "
            f"folds ({told(rows, tell)}). The nested score is the one to quote.",
            place,
        )


def _noise_of_people(tables: Tables) -> Warned:
    table, facts = tables["ceiling"], tables["datasets"]
    for _, row in table[table["ceiling"] < CEILING].iterrows() if len(table) else ():
        dataset = row.get("dataset")
        same = asked(facts, (dataset, None))["human_entropy_se"].dropna()
        error = f", and its standard error is {number(same.iloc[0])} nats (median, jackknife)" if len(same) else ""
        yield (
            "noisy_target",
            "note",
            f"The human entropy itself is noisy: it was measured with {row['respondents']:,.0f} people per item "
            f"(median){error}, so that even a perfect measure could not correlate with it beyond about "
            f"{estimate(row['ceiling'], row['ci_low'], row['ci_high'])}.",
            (dataset, None),
        )


def _probabilities(tables: Tables) -> Warned:
    absent = tables["absent"]
    for place, rows in by_place(absent[absent["measure"].isin(PROBABILITIES)]):
        yield (
            "not_probability",
            "note",
            f"The scores of {told(rows, lambda row: '')} are not probabilities (a mean log-likelihood "
            "per token, or a mean over rotations): choice_probability and choice_mass do not exist for them, nor do "
            "their calibration error and Brier score.",
            place,
        )


def _nuclei(tables: Tables) -> Warned:
    def tell(row: pd.Series) -> str:
        return f", {row['measure']}: {int(row['n_empty']):,} of {count(int(row['n']), 'item')}"

    for place, rows in by_place(tables["empty_nuclei"]):
        rows = rows.sort_values("n_empty", ascending=False, kind="stable")
        yield (
            "empty_nucleus",
            "note",
            f"Some nuclei are empty, because the first token alone exceeds their mass "
            f"({told(rows, tell)}). Their size is 0 and their entropy is missing: it is the surest items that go "
            "missing.",
            place,
        )


def _ties(tables: Tables) -> Warned:
    def tell(row: pd.Series) -> str:
        return f" {int(row['n_ties']):,} of {count(int(row['n']), 'item')}"

    table = tables["overview"]
    for place, rows in by_place(table[table["n_ties"] > 0]):
        yield (
            "ties",
            "note",
            f"Several options share the highest score ({told(rows, tell)}); the first of them counts as chosen.",
            place,
        )


def _undefined(tables: Tables) -> Warned:
    absent = tables["absent"].assign(reason="no item has a value")
    parts = [("correlation with anything", absent[~absent["measure"].isin(PROBABILITIES)])]
    for name, value, what in (
        ("alignment", "correlation", "correlation with human entropy"),
        ("calibration", "spearman", "correlation with correctness"),
    ):
        table = tables[name]
        parts.append((what, table[table[value].isna()] if len(table) else table))

    def tell(row: pd.Series) -> str:
        return f", {row['measure']}: {str(row['reason']).split(';')[0]}"

    for what, table in parts:
        for place, rows in by_place(table):
            subject = f"{count(len(rows), 'measure')} {'has' if len(rows) == 1 else 'have'} no {what}"
            yield "undefined", "note", f"{subject} ({told(rows, tell)}).", place


def _excluded(runs: Runs) -> Warned:
    found: dict[tuple[Any, str], None] = {}
    for run in runs:
        reasons: dict[str, list[str]] = {}
        for left in run.get("excluded") or []:
            reasons.setdefault(str(left["reason"]), []).append(str(left["item"]))
        for reason, items in reasons.items():
            text = f"{count(len(items), 'item')} left out ({some(items, 'items')}): {reason}."
            found[(run.get("dataset"), text)] = None
    for dataset, text in found:
        yield "excluded", "note", text, (dataset, None)


def _left_out(runs: Runs) -> Warned:
    for run in runs:
        for part, reason in (run.get("left_out") or {}).items():
            place = (run.get("dataset"), run.get("prompt"))
            yield "left_out", "note", f"Left out for {run.get('model', 'the model')}, {part}: {reason}", place


def _numerical_noise(runs: Runs) -> Warned:
    for run in runs:
        if str(run.get("dtype", "")) not in ("bfloat16", "float16"):
            continue
        test = run.get("self_test")
        noise = test.get("float32_noise") if isinstance(test, Mapping) else None
        measured = " How far its numbers are from float32 was not measured."
        if isinstance(noise, Mapping) and "largest_logit_difference" in noise:
            measured = (
                f" In the rows of the self-test its logits differ from a float32 pass by up to "
                f"{float(noise['largest_logit_difference']):.2g}: entropies are noisy to a like degree."
            )
        place = (run.get("dataset"), run.get("prompt"))
        yield (
            "numerical_noise",
            "note",
            f"{run.get('model', 'the model')} ran in {run['dtype']}.{measured}",
            place,
        )


def _where(place: Place) -> str:
    named = [str(part) for part in place if part is not None]
    return f"{', '.join(named)}: " if named else ""

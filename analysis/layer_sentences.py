"""Sentences about what a probe's score is worth: beside its controls, with fewer items, and without any target."""

from __future__ import annotations

import pandas as pd

from .clauses import FEW, LEVEL, Clauses, Settings, Tables, Told
from .phrases import by, counts, spread, who
from .probe_sentences import TARGETS, score_name
from .wording import count, estimate, listing, number, p_value

CONTROLS = {
    "options_and_length": "the number of options and the length",
    "tfidf": "the words of the question",
    "output_measures": "all output measures together",
    "untrained": "the same probe on an untrained model",
    "random_projection": "a few random directions of the same layer",
}


def controls(part: pd.DataFrame, tables: Tables, settings: Settings) -> Told:
    """Tell whether the probe of each target beats the baselines, and name those that are as good."""
    for target, rows in by(part, "target"):
        several = rows["model"].nunique() > FEW if "model" in rows else False
        clauses: Clauses = []
        for scoring, own in by(rows, "scoring"):
            told = [_over_models(own)] if several else [_one(probed) for _, probed in by(own, "model")]
            clauses += [(scoring if isinstance(scoring, str) else None, text) for text in told if text]
        yield (
            f"What the probe of {TARGETS.get(str(target), str(target))} must beat",
            clauses,
            "Every control predicts the same items in the same folds, its penalty chosen on the same inner items; "
            "the probe's layer is chosen inside the training folds too. A control is as good where the 95% interval "
            "of the paired difference does not lie above 0: the probe's score is then no evidence that the residual "
            "stream holds more than the control does.",
        )


def _one(rows: pd.DataFrame) -> str | None:
    probe = rows[rows["control"] == "probe"]
    others = rows[rows["control"] != "probe"]
    if probe.empty or others.empty:
        return None
    head = probe.iloc[0]
    told = [
        f"{CONTROLS.get(row['control'], row['control'])} {estimate(row['score'], row['ci_low'], row['ci_high'])} "
        f"(difference {estimate(row['difference'], row['difference_ci_low'], row['difference_ci_high'])})"
        for _, row in others.iterrows()
    ]
    good = [CONTROLS.get(name, name) for name in others.loc[others["as_good"].astype(bool), "control"]]
    verdict = (
        f"{listing(good)} {'is' if len(good) == 1 else 'are'} as good as far as these items can tell"
        if good
        else "none of them is as good"
    )
    return (
        f"for {who(head)}, the probe's nested {score_name(head)} is "
        f"{estimate(head['score'], head['ci_low'], head['ci_high'])}, and that of {listing(told)}: {verdict}"
    )


def _over_models(rows: pd.DataFrame) -> str | None:
    probes = rows[rows["control"] == "probe"]
    if probes.empty:
        return None
    told = []
    for name, own in by(rows[rows["control"] != "probe"], "control"):
        good = int(own["as_good"].astype(bool).sum())
        told.append(f"{CONTROLS.get(name, name)} for {good}")
    score = score_name(probes.iloc[0])
    return (
        f"the probe's nested {score} over {count(len(probes), 'model')}: {spread(probes, 'score')}; as good as the "
        f"probe as far as these items can tell: {listing(told)}"
    )


def learning(part: pd.DataFrame, tables: Tables, settings: Settings) -> Told:
    """Tell how the score grows with the number of items that the probe learns from."""

    def tell(rows: pd.DataFrame) -> str:
        rows = rows.sort_values("n_train")
        first, before, last = rows.iloc[0], rows.iloc[max(len(rows) - 2, 0)], rows.iloc[-1]
        gain = last["score"] - before["score"]
        return (
            f"for {who(last)}, the {score_name(last)} of {TARGETS.get(last['target'], last['target'])} goes from "
            f"{estimate(first['score'], first['ci_low'], first['ci_high'])} with "
            f"{count(int(first['n_train']), 'item')} to {estimate(last['score'], last['ci_low'], last['ci_high'])} "
            f"with {int(last['n_train']):,}, {number(gain)} of it since {int(before['n_train']):,}"
        )

    clauses: Clauses = []
    for _, rows in by(part, "target"):
        for scoring, own in by(rows, "scoring"):
            curves = [curve for _, curve in by(own, "model")]
            if len(curves) > FEW:
                ends = own[own["n_train"] == own.groupby("model")["n_train"].transform("max")]
                target = TARGETS.get(ends["target"].iloc[0], ends["target"].iloc[0])
                told = [f"the {score_name(ends.iloc[0])} of {target} with all training items: {spread(ends, 'score')}"]
            else:
                told = [tell(curve) for curve in curves]
            clauses += [(scoring if isinstance(scoring, str) else None, text) for text in told]
    yield (
        "With fewer items to learn from",
        clauses,
        "Training items were drawn at random inside each training fold; the test items are the same throughout. "
        "Intervals are 95% bootstrap intervals over items and draws. A curve that still rises at its end says that "
        "more items would read more.",
    )


def similarity(part: pd.DataFrame, tables: Tables, settings: Settings) -> Told:
    """Tell whether items that people answer with like profiles lie close to each other in some layer."""
    known = part[part["rsa"].notna()]
    if known.empty:
        return
    best = known[known["best"].astype(bool)]

    def tell(row: pd.Series) -> str:
        verdict = "" if row["p_max"] < LEVEL else ", not distinguishable from shuffled profiles"
        return (
            f"for {who(row)}, the distances of layer {row['layer']} correlate most with those of people's profiles, at "
            f"{number(row['rsa'], 3)} over {int(row['n_pairs']):,} pairs ({p_value(row['p_max'])} against the maximum "
            f"over layers{verdict})"
        )

    if len(best) > FEW:
        found = int((best["p_max"] < LEVEL).sum())
        reached = f"{found} of {len(best)} models have p < {LEVEL}"
        clauses: Clauses = [(None, f"the largest correlation over layers: {spread(best, 'rsa')}; {reached}")]
    else:
        clauses = [(None, tell(row)) for _, row in best.iterrows()]
    first = known.iloc[0]
    yield (
        "Geometry without a target",
        clauses,
        "Representational similarity: Spearman correlation of the distances between items' activations with the "
        f"{first['human'].replace('_', '-')} distances between people's response profiles, sorted from the most to "
        "the least chosen option and compared within each number of options "
        f"({counts(known.drop_duplicates('model')['n'] if 'model' in known else known['n'].head(1), 'item')}). p "
        "permutes the profiles among items with equally many options.",
    )

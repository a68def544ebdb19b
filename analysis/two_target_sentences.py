"""Sentences about human entropy and correctness at once: one direction or two, and what each says of the other."""

from __future__ import annotations

import pandas as pd

from .clauses import FEW, LEVEL, Clauses, Settings, Tables, Told
from .phrases import by, spread, who
from .wording import count, estimate, number, p_value


def two_targets(part: pd.DataFrame, tables: Tables, settings: Settings) -> Told:
    """Tell whether the directions of disagreement and of correctness are related, and what each probe says of both."""
    clauses: Clauses = []
    for scoring, rows in by(part, "scoring"):
        models = [own for _, own in by(rows, "model")]
        told = [_many(models)] if len(models) > FEW else [_one(own) for own in models]
        clauses += [(scoring, text) for text in told if text]
    if not clauses:
        return
    yield (
        "Human entropy and correctness at once",
        clauses,
        "The cosine is taken in the metric of the activations' covariance, between a direction of human entropy from "
        "one half of the subjects and one of correctness from the other, so that the correlation of the targets "
        "themselves on the same items does not count; its p is the largest over three permutation nulls, against the "
        "maximum over layers. A negative cosine means that disagreement and errors are read off alike. "
        "Cross-predictions are out of fold, with layer and penalty chosen inside the training folds, and count "
        "correctness as error: an AUROC above 0.5 says that the model errs where the probe reads disagreement. "
        "Shared variance is what either probe's prediction explains.",
    )


def _one(rows: pd.DataFrame) -> str | None:
    known = rows[rows["cosine"].notna()]
    if known.empty:
        return None
    best = known.loc[known["cosine_p_max"].idxmin()]
    verdict = "" if best["cosine_p_max"] < LEVEL else ", not distinguishable from no relation"
    return (
        f"for {who(best)}, of {count(len(rows), 'layer')} the clearest cosine is that of layer {best['layer']}, "
        f"{number(best['cosine'])} ({p_value(best['cosine_p_max'])} against the maximum over layers{verdict}; the "
        f"targets themselves correlate at {number(best['target_correlation'])}). {_cross(best)}"
    )


def _cross(row: pd.Series) -> str:
    said = (
        f"The probe of human entropy predicts errors with an AUROC of {_estimate(row, 'nested_first_on_second')}, and "
        f"the probe of errors predicts human entropy with r = {_estimate(row, 'nested_second_on_first')}"
    )
    shared = (
        f"; of the variance of human entropy, {_estimate(row, 'nested_first_shared', 3)} is read by both probes, "
        f"{_estimate(row, 'nested_first_unique_own', 3)} by its own alone"
        if "nested_first_shared" in row.index
        else ""
    )
    return said + shared


def _many(models: list[pd.DataFrame]) -> str:
    rows = [own.loc[own["cosine_p_max"].idxmin()] for own in models if own["cosine_p_max"].notna().any()]
    if not rows:
        return ""
    best = pd.DataFrame(rows)
    found = int((best["cosine_p_max"] < LEVEL).sum())
    return (
        f"the clearest cosine over layers: {spread(best, 'cosine')}; {found} of {len(best)} models have p < {LEVEL}; "
        f"the probe of human entropy as a predictor of errors, AUROC: {spread(best, 'nested_first_on_second')}; the "
        f"probe of errors as a predictor of human entropy, r: {spread(best, 'nested_second_on_first')}"
    )


def _estimate(row: pd.Series, name: str, digits: int = 2) -> str:
    return estimate(row[name], row[f"{name}_ci_low"], row[f"{name}_ci_high"], digits)

"""Sentences about probes of one run on another, and about base and instruct models layer by layer."""

from __future__ import annotations

import pandas as pd

from .clauses import LEVEL, Clauses, Settings, Tables, Told
from .phrases import by, spread
from .probe_sentences import TARGETS, score_name
from .wording import count, estimate, number, p_value

MOST = 6
"""So many scores are told one by one."""


def transfer(part: pd.DataFrame, tables: Tables, settings: Settings) -> Told:
    """Tell how well probes of other runs read each target here, beside the run's own probe."""
    for target, rows in by(part, "target"):
        rows = rows[rows["score"].notna()]
        away = rows[rows["train"] != rows["test"]]
        if away.empty:
            continue
        clauses: Clauses = []
        for name, own in by(away, "test"):
            home = rows[(rows["test"] == name) & (rows["train"] == name)]
            clauses.append((None, _tested(str(name), home, own)))
        yield (
            f"Probes of other runs: {TARGETS.get(str(target), str(target))}",
            clauses,
            f"{score_name(rows.iloc[0])} of a ridge probe that was trained on one run and tested here. Where runs "
            "share questions, no question and no subject is on both sides; where they share none, the probe learnt "
            "from all items of its run. Layer and penalty are chosen inside the training items. Intervals are 95% "
            "jackknife intervals over subjects, or items where there are none; p permutes the target here.",
        )


def _tested(name: str, home: pd.DataFrame, away: pd.DataFrame) -> str:
    said = f"on {name}, its own probe reaches {_score(home.iloc[0])}" if len(home) else f"on {name}"
    if len(away) > MOST:
        found = int((away["p"] < LEVEL).sum())
        others = spread(away, "score", name=lambda row: str(row["train"]))
        return (
            f"{said}, and the probes of {count(len(away), 'other run')} go {others}; {found} of them have p < {LEVEL}"
        )
    told = [f"that of {row['train']} {_score(row)} ({p_value(row['p'])})" for _, row in away.iterrows()]
    return f"{said}, {', '.join(told[:-1])}{' and ' if len(told) > 1 else ''}{told[-1]}"


def _score(row: pd.Series) -> str:
    return estimate(row["score"], row["ci_low"], row["ci_high"])


def geometry(part: pd.DataFrame, tables: Tables, settings: Settings) -> Told:
    """Tell how alike the layers of base and instruct models are, and whether a target keeps its direction."""
    for pair, rows in by(part, "pair"):
        first = rows.drop_duplicates("layer").sort_values("layer")
        known = first[first["cka"].notna()]
        if known.empty:
            continue
        least = known.loc[known["cka"].idxmin()]
        clauses: Clauses = [
            (
                None,
                f"debiased CKA between base and instruct goes {spread(known, 'cka', name=_layer)}; it is least at "
                f"layer {least['layer']}, {estimate(least['cka'], least['cka_ci_low'], least['cka_ci_high'])}",
            )
        ]
        for target, own in by(rows[rows["cosine"].notna()] if "cosine" in rows else rows.iloc[:0], "target"):
            if own.empty:
                continue
            best = own.loc[own["cosine_p_max"].idxmin()]
            verdict = "" if best["cosine_p_max"] < LEVEL else ", not distinguishable from unrelated directions"
            clauses.append(
                (
                    None,
                    f"the directions of {TARGETS.get(str(target), str(target))} have their clearest cosine at layer "
                    f"{best['layer']}, {number(best['cosine'])} ({p_value(best['cosine_p_max'])} against the maximum "
                    f"over layers{verdict})",
                )
            )
        yield (
            f"The layers of base and instruct: {pair}",
            clauses,
            "Linear centred kernel alignment on the items of both, debiased: 0 is expected of unrelated activations, "
            "1 is the same geometry up to rotation and scale. Cosines are taken in the metric of the activations' "
            "covariance, between directions from different halves of the items.",
        )


def _layer(row: pd.Series) -> str:
    return f"layer {row['layer']}"

"""Sentences about probes of the residual stream beside the best output measure."""

from __future__ import annotations

import pandas as pd

from .clauses import FEW, LEVEL, Clauses, Settings, Tables, Told
from .phrases import by, measure, spread, who
from .views import ANY
from .wording import count, estimate, p_value

TARGETS = {"human_entropy_normalized": "normalised human entropy", "correct": "correctness"}


def probes(part: pd.DataFrame, tables: Tables, settings: Settings) -> Told:
    """Tell each target's best layer, its nested score, and the output measure that tells most about it."""
    for target, rows in by(part, "target"):
        name = TARGETS.get(str(target), str(target))
        clauses: Clauses = [(None, _probe(row)) for _, row in rows.iterrows()]
        if "model" in rows and rows["model"].nunique() > FEW:
            score, found = score_name(rows.iloc[0]), int((rows["p_max"] < LEVEL).sum())
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
        f"an out-of-fold {score_name(row)} of {estimate(row['best_score'], row['best_ci_low'], row['best_ci_high'])} "
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


def score_name(row: pd.Series) -> str:
    """Name the score of a row of a probe's table."""
    return "AUROC" if row["score_name"] == "auroc" else "Pearson r"

"""Sentences about what moving the residual stream along the probes does to the output."""

from __future__ import annotations

import pandas as pd

from .clauses import FEW, LEVEL, Clauses, Settings, Tables, Told
from .phrases import by, spread, who
from .probe_sentences import TARGETS
from .wording import count, estimate, listing, number, p_value

FIGURES = {
    "choice_entropy": "choice entropy (nats)",
    "total_entropy": "total entropy (nats)",
    "accuracy": "accuracy",
    "changed": "the share of changed options",
}


def interventions(part: pd.DataFrame, tables: Tables, settings: Settings) -> Told:
    """Tell what steps along each probe's direction change, beside steps of equal length in random directions."""
    probes = part[part["direction"] == "probe"]
    for target, rows in by(probes, "target"):
        clauses: Clauses = []
        for figure, own in by(rows, "figure"):
            steps = own[own["mode"] == "add"]
            slopes = steps[steps["slope"].notna()].drop_duplicates([key for key in ("model", "layer") if key in steps])
            if len(slopes) > FEW:
                found = int((slopes["slope_p"] < LEVEL).sum())
                name = FIGURES.get(str(figure), str(figure))
                over = count(len(slopes), "intervention")
                clauses.append(
                    (
                        None,
                        f"the slope of {name} per standard deviation over {over}: {spread(slopes, 'slope')}; {found} "
                        f"have p < {LEVEL} among random directions",
                    )
                )
            else:
                clauses += [(None, _slope(row, str(figure))) for _, row in slopes.iterrows()]
        if "model" not in rows or rows["model"].nunique() <= FEW:
            clauses += [(None, _removal(own)) for _, own in by(rows[rows["mode"] == "remove"], "model") if len(own)]
        if not clauses:
            continue
        first = rows.iloc[0]
        where = "the last prompt token" if first["where"] == "last" else "every prompt token"
        yield (
            f"Moving along the probe of {TARGETS.get(str(target), str(target))}",
            clauses,
            f"At {where} of {count(int(rows['n'].max()), 'item')}, the residual stream is moved so that what the "
            "probe reads changes by a stated number of its standard deviations, or is set to its mean (removal); the "
            "rest of the model then runs on. p is the rank of the probe among "
            f"{count(int(rows['n_random'].max()), 'random direction')} whose steps have the same length. The slope is "
            "that of a line through the unedited pass; a dose-response that bends is not described by it: see the "
            "figure. The layer was chosen as the one where the probe reads most, on the same items.",
        )


def _slope(row: pd.Series, figure: str) -> str:
    verdict = "" if row["slope_p"] < LEVEL else ", no more than random directions do"
    return (
        f"for {who(row)} at layer {row['layer']}, {FIGURES.get(figure, figure)} changes by "
        f"{estimate(row['slope'], row['slope_ci_low'], row['slope_ci_high'], 3)} per standard deviation "
        f"({p_value(row['slope_p'])}{verdict})"
    )


def _removal(rows: pd.DataFrame) -> str:
    told = [
        f"{FIGURES.get(row['figure'], row['figure'])} by {number(row['size'], 3)} on average over items, in either "
        f"direction (random directions {number(row['size_random'], 3)}, {p_value(row['size_p'])})"
        for _, row in rows.iterrows()
    ]
    return f"removing what the probe reads from {who(rows.iloc[0])} changes {listing(told)}"

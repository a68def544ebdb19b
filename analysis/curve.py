"""Behaviour beside representation: the best output measure and the probes, on the same items and the same scale."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import pandas as pd

from ..probes.measure_table import MEASURES
from .tables import group_keys, require_columns

CONTINUOUS = "human_entropy_normalized"
COLUMNS = (
    "target",
    "site",
    "position",
    "probe",
    "score_name",
    "n_layers",
    "best_layer",
    "best_score",
    "best_ci_low",
    "best_ci_high",
    "p_max",
    "n_permutations",
    "nested_score",
    "nested_ci_low",
    "nested_ci_high",
    "nested_p",
    "n_measures",
    "measure",
    "measure_scoring",
    "measure_nucleus",
    "measure_score",
    "measure_ci_low",
    "measure_ci_high",
    "measure_reversed",
)


def layer_score(layers: pd.DataFrame) -> str:
    """Name the column of a `probe_layers` table that its interval belongs to: auroc (0/1 target) or pearson."""
    return "auroc" if "score_name" in layers and (layers["score_name"] == "auroc").any() else "pearson"


def compare_layers(layers: pd.DataFrame, alignment: pd.DataFrame, calibration: pd.DataFrame) -> pd.DataFrame:
    """Set the probes of each run and target beside the output measure that tells most about the same target.

    Args:
        layers: `probe_layers` of one or more runs and targets.
        alignment: `alignment(..., method="pearson")` of the same runs.
        calibration: `calibration` of the same runs.

    Returns:
        One row per run, target, site, position and probe, with

        - `score_name`: pearson for human entropy, auroc for correctness: the scale of all scores in the row;
        - `best_layer`, its out-of-fold `best_score` with the interval, and `p_max`, its p-value against the null of
          the maximum over layers;
        - `nested_score`, with layer and penalty chosen inside the training fold, its interval and `nested_p`;
        - `measure`: of the `n_measures` looked at the one furthest from chance in either direction, with its
          `measure_scoring` and `measure_nucleus`, and `measure_score` turned so that higher is better (|r|, or the
          larger of AUROC and 1 - AUROC) with its interval; `measure_reversed` tells that it had to be read against its
          declared direction. It was chosen on the items it is scored on, which flatters
          it; the nested score was not. None and NaN for a target without a comparable measure.

    Raises:
        ValueError: a column of `layers` that is absent.
        TypeError: an argument that is not a DataFrame.
    """
    caller = "compare_layers"
    require_columns(layers, ("layer", "best", "ci_low", "ci_high", "p_max"), parameter="layers", caller=caller)
    for table in (alignment, calibration):
        require_columns(table, [], parameter="table", caller=caller)
    keys = group_keys(layers)
    by = [*keys, *(name for name in ("target", "site", "position", "probe") if name in layers)]
    rows = []
    for names, part in layers.groupby(by, sort=False, dropna=False):
        row: dict[Hashable, object] = dict(zip(by, names, strict=True))
        score = layer_score(part)
        require_columns(part, [score], parameter="layers", caller=caller)
        best = part.loc[part["best"].astype(bool)].iloc[0]
        row |= {"score_name": score, "n_layers": len(part), "best_layer": best["layer"], "best_score": best[score]}
        row |= {"best_ci_low": best["ci_low"], "best_ci_high": best["ci_high"], "p_max": best["p_max"]}
        row["n_permutations"] = best.get("n_permutations", np.nan)
        nested = "nested_pearson" if score == "pearson" else "nested_score"
        row |= {"nested_score": best.get(nested, np.nan), "nested_p": best.get("nested_p", np.nan)}
        row |= {name: best.get(name, np.nan) for name in ("nested_ci_low", "nested_ci_high")}
        rows.append(row | _best_measure(row, keys, score, alignment, calibration))
    return pd.DataFrame(rows, columns=[*keys, *COLUMNS])


def _best_measure(
    row: dict[Hashable, object], keys: list[str], score: str, alignment: pd.DataFrame, calibration: pd.DataFrame
) -> dict[str, object]:
    nothing: dict[str, object] = {"n_measures": 0, "measure": None, "measure_scoring": None, "measure_nucleus": None}
    nothing |= dict.fromkeys(("measure_score", "measure_ci_low", "measure_ci_high"), np.nan)
    nothing["measure_reversed"] = False
    if score == "pearson" and row.get("target") == CONTINUOUS:
        table, value, low, high, centre = alignment, "correlation", "ci_low", "ci_high", 0.0
    elif score == "auroc" and row.get("target") == "correct":
        table, value, low, high, centre = calibration, "auroc", "auroc_ci_low", "auroc_ci_high", 0.5
    else:
        return nothing
    if value not in table:
        return nothing
    same = np.ones(len(table), dtype=bool)
    for key in keys:
        # Human entropy is the same under every scoring: there the probes carry none.
        if key in table and not pd.isna(row[key]):
            same &= ((table[key] == row[key]) | (table[key] == "any")).to_numpy()
    part = table[same & table[value].notna().to_numpy()]
    if part.empty:
        return nothing
    best = part.iloc[int((part[value] - centre).abs().to_numpy().argmax())]
    bounds = sorted((best[low] - centre, best[high] - centre))
    if best[value] < centre:
        bounds = [-bounds[1], -bounds[0]]
    return {
        "n_measures": len(part),
        "measure": best["measure"],
        "measure_scoring": best.get("scoring"),
        "measure_nucleus": best.get("nucleus"),
        "measure_score": abs(best[value] - centre) + centre,
        "measure_ci_low": bounds[0] + centre,
        "measure_ci_high": bounds[1] + centre,
        "measure_reversed": _reversed(best, best[value] - centre, score),
    }


def _reversed(best: pd.Series, excess: float, score: str) -> bool:
    """Tell whether a measure says the opposite of its direction; an AUROC already has the direction in it."""
    if score == "auroc":
        return bool(excess < 0)
    name = best["measure"]
    return bool(name in MEASURES and MEASURES[name].direction * excess < 0)

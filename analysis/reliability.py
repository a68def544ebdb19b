"""The bins of a reliability diagram: stated probability against the share of right answers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .calibration_error import probabilities
from .tables import group_keys, groups
from .views import without

COLUMNS = ("bin", "lower", "upper", "n", "confidence", "accuracy")


def reliability_bins(table: pd.DataFrame, *, bins: int = 10) -> pd.DataFrame:
    """Bin the probability of the chosen option among the options, as the `ece_width` of `calibration` does.

    Args:
        table: signals with item, choice_probability, choice_mass and correct (0/1, NaN where unknown). Scorings whose
            scores are no probabilities have no choice_probability, and no rows in the result; nor has a group with a
            choice_mass of 0.
        bins: number of equal-width bins over [0, 1], each closed on the right; 0 belongs to the first.

    Returns:
        One row per group (the nucleus plays no part) and bin: the keys, `bin` (from 0), `lower`, `upper`, `n`, and
        the mean `confidence` and `accuracy` of its items, NaN in an empty bin. The sum over bins of
        n |accuracy - confidence| / (sum of n) is `ece_width`.
    """
    keys = [key for key in group_keys(table) if key != "nucleus"]
    needed = ["choice_probability", "choice_mass", "correct"]
    if table.empty or not set(needed) <= set(table.columns):
        return pd.DataFrame(columns=[*keys, *COLUMNS])
    edges = np.linspace(0, 1, bins + 1)
    rows = []
    for names, part in groups(without(table, "nucleus"), caller="reliability_bins"):
        part = part[part[needed].notna().all(axis=1)]
        if part.empty or (part["choice_mass"] == 0).any():
            continue
        stated = (part["choice_probability"] / part["choice_mass"]).to_numpy(dtype=float)
        # Both come from rounded exponentials, so that the ratio may pass 1 by a few units in the last place.
        stated = np.where((stated > 1) & (stated < 1 + 1e-9), 1.0, stated)
        stated = probabilities(stated, parameter="table", caller="reliability_bins")
        right = part["correct"].to_numpy(dtype=float)
        bin_of = np.searchsorted(edges[1:-1], stated, side="left")
        for number in range(bins):
            inside = bin_of == number
            row = {**names, "bin": number, "lower": edges[number], "upper": edges[number + 1], "n": int(inside.sum())}
            row["confidence"] = stated[inside].mean() if inside.any() else np.nan
            row["accuracy"] = right[inside].mean() if inside.any() else np.nan
            rows.append(row)
    return pd.DataFrame(rows, columns=[*keys, *COLUMNS])

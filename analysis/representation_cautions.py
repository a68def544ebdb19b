"""Warnings about the representation: findings that something simpler explains as well.

| code | when |
|---|---|
| control_as_good | a probe finds its target, and a control on the same items and folds is as good |
"""

from __future__ import annotations

import pandas as pd

from .clauses import Tables, Warned
from .layer_sentences import CONTROLS
from .phrases import by_place, told
from .wording import listing, number


def controls(tables: Tables) -> Warned:
    """Name the controls that are as good as a probe which finds its target."""
    table = tables["probe_controls"]
    if table.empty:
        return
    keys = [key for key in ("model", "dataset", "prompt", "site", "position", "target", "scoring") if key in table]
    probes = table[table["control"] == "probe"]
    found = probes[probes["ci_low"] > probes["score_name"].map({"auroc": 0.5}).fillna(0.0)]
    good = table[(table["control"] != "probe") & table["as_good"].fillna(False).astype(bool)]

    def tell(row: pd.Series) -> str:
        same = pd.Series(True, index=good.index)
        for key in keys:
            same &= good[key].isna() if pd.isna(row[key]) else good[key] == row[key]
        names = [
            f"{CONTROLS.get(own['control'], own['control'])} {number(own['score'])}" for _, own in good[same].iterrows()
        ]
        return f", {row['target']}: probe {number(row['score'])}, {listing(names)}"

    explained = found.merge(good[keys].drop_duplicates(), on=keys, how="inner")
    for place, rows in by_place(explained):
        yield (
            "control_as_good",
            "serious",
            f"The score of a probe is not distinguishable from that of something simpler ({told(rows, tell)}). With "
            "these items it is no evidence that the residual stream holds more about the target than that.",
            place,
        )

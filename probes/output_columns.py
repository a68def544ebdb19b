"""Every output measure of a run, each once, as features: what the model's behaviour says about an item.

A measure of the vocabulary is the same under every answer scoring, and none but the nuclei depend on the nucleus
convention; each stands once, named `choice_margin[text_sum]` or `top_p_size_0.9[exclusive]` where there are several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .measure_table import MEASURES

if TYPE_CHECKING:
    from ..extract.store import Run

Array = np.ndarray

NUCLEI = ("inclusive", "exclusive")


class OneStatistics:
    """A run whose vocabulary-wide statistics are computed once for all scorings and nuclei."""

    def __init__(self, run: Run) -> None:
        self._statistics = run.statistics()
        self.items: pd.DataFrame = run.items
        self.info: Mapping[str, Any] = run.info
        self.scorings: Sequence[str] = run.scorings
        self.choice_scores = run.choice_scores

    def statistics(self) -> pd.DataFrame:
        """What was computed."""
        return self._statistics


def output_columns(run: Run | OneStatistics) -> pd.DataFrame:
    """Compute every output measure of a run under every scoring and nucleus: one row per item, float64.

    Columns that have no value in any row are left out; a single missing value is NaN.
    """
    from .measures import output_measures  # loads torch, which reading saved signals does not need

    cached = run if isinstance(run, OneStatistics) else OneStatistics(run)
    columns: dict[str, Array] = {}
    for scoring in run.scorings:
        for nucleus in NUCLEI:
            found = output_measures(cached, scoring=scoring, nucleus=nucleus)
            for name in MEASURES:
                if name not in found:
                    continue
                label = name
                if MEASURES[name].family == "choice":
                    label = f"{name}[{scoring}]"
                elif name.startswith("top_p_"):
                    label = f"{name}[{nucleus}]"
                columns.setdefault(label, found[name].to_numpy(dtype=np.float64))
    return pd.DataFrame(columns).dropna(axis="columns", how="all")


class MeasureFeatures:
    """Measures as features of one fold after another, each as it is and as its rank among the training rows.

    A linear map of a measure and its rank follows a relation that rises but is not straight, and a rank keeps an
    outlier from deciding. Where a measure is missing, both are those of the training rows' mean, and a further feature
    marks the gap: an empty nucleus says something itself.

    Args:
        columns: [n, m] measures, NaN where missing.
    """

    def __init__(self, columns: pd.DataFrame) -> None:
        self._values = columns.to_numpy(dtype=np.float64)
        self.gaps = columns.columns[columns.isna().any()].tolist()

    def __call__(self, fold: int, train: Array, test: Array) -> tuple[Array, Array]:
        """Features of the training and of the test rows, [n, q] and [k, q]."""
        sides: list[list[Array]] = [[], []]
        for column in self._values.T:
            known = column[train][~np.isnan(column[train])]
            for side, rows in zip(sides, (train, test), strict=True):
                values = column[rows]
                gap = np.isnan(values)
                filled = np.where(gap, known.mean() if known.size else 0.0, values)
                side += [filled, np.where(gap, 0.5, _share_below(known, filled))]
                if np.isnan(column).any():
                    side.append(gap.astype(np.float64))
        return np.column_stack(sides[0]), np.column_stack(sides[1])


def _share_below(known: Array, values: Array) -> Array:
    """Share of the known values that lie below each value, equal ones counting one half."""
    if not known.size:
        return np.full(len(values), 0.5)
    ordered = np.sort(known)
    below = np.searchsorted(ordered, values, side="left") + np.searchsorted(ordered, values, side="right")
    return below / (2 * len(ordered))

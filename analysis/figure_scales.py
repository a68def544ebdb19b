"""How a figure of the analysis is named, coloured and printed: its neutral value, its range and its decimals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from .arrays import Floats
from .wording import number

# Few levels: cells of one level are drawn as one shape, where a smooth scale would be a picture inside the figure. An
# odd number: the neutral value lies within one.
LEVELS = 25


@dataclass(frozen=True)
class Scale:
    """How to read one column of a table of findings.

    Attributes:
        name: words for an axis or a colour bar.
        neutral: the value that says nothing (0 of a correlation, 0.5 of an AUROC), in the middle of diverging
            colours; None where small and large are the ends of one sequence.
        reach: distance from `neutral` (from 0 where there is none) at which the colours end; None: as far as the data.
        decimals: decimals to print.
    """

    name: str
    neutral: float | None = None
    reach: float | None = None
    decimals: int = 2

    def written(self, value: float) -> str:
        """Write a value with the decimals of the scale, fewer from 10 on."""
        return number(value, self.decimals if abs(value) < 10 else 1 if abs(value) < 100 else 0)


_PEOPLE = "orrelation with human entropy"
SCALES = {
    "correlation": Scale(f"C{_PEOPLE}", 0.0, 0.6),
    "raw": Scale(f"C{_PEOPLE}, both in nats", 0.0, 0.6),
    "normalized": Scale(f"C{_PEOPLE}, both normalised", 0.0, 0.6),
    "partial": Scale(f"Partial c{_PEOPLE}", 0.0, 0.6),
    "human_spearman": Scale(f"Spearman c{_PEOPLE}", 0.0, 0.6),
    "human_pearson": Scale(f"Pearson c{_PEOPLE}", 0.0, 0.6),
    "human_kendall": Scale(f"Kendall c{_PEOPLE}", 0.0, 0.6),
    "human_partial": Scale(f"Partial c{_PEOPLE}", 0.0, 0.6),
    "spearman": Scale("Spearman correlation with correctness", 0.0, 0.6),
    "correct_spearman": Scale("Spearman correlation with correctness", 0.0, 0.6),
    "auroc": Scale("AUROC of errors", 0.5, 0.3),
    "auprc": Scale("AUPRC of errors"),
    "aurc": Scale("Area under the risk-coverage curve", decimals=3),
    "auarc": Scale("Area under the accuracy-rejection curve", decimals=3),
    "prr": Scale("Prediction-rejection ratio", 0.0),
    "jsd_shift": Scale("Shift of the Jensen-Shannon distance", 0.0, decimals=3),
    "ece_width": Scale("ECE, bins of equal width", decimals=3),
    "ece_mass": Scale("ECE, bins of equal mass", decimals=3),
    "ece_sweep": Scale("ECE, sweep", decimals=3),
    "ece_rank": Scale("ECE of ranks", decimals=3),
    "smece": Scale("Smooth ECE", decimals=3),
    "mce": Scale("Largest error of a bin", decimals=3),
    "brier": Scale("Brier score", decimals=3),
    "nll": Scale("Negative log-likelihood (nats)", decimals=3),
    "accuracy": Scale("Accuracy"),
    "top_answer_agreement": Scale("Agreement of top answers"),
    "kendall_distance": Scale("Kendall distance"),
    "dist_ce": Scale("Total variation from people's shares", decimals=3),
    "rank_cs": Scale("Share of items ranked as people rank them"),
    "ent_ce": Scale("Entropy less people's (nats)", 0.0),
    "probe_pearson": Scale("Pearson r of the probe with human entropy", 0.0, 0.6),
    "probe_spearman": Scale("Spearman correlation of the probe with human entropy", 0.0, 0.6),
    "probe_auroc": Scale("AUROC of the probe for right answers", 0.5, 0.3),
    "mean": Scale("Mean of the measure"),
}


def scale_of(column: str, values: Floats) -> Scale:
    """Look up the scale of a column; one that is not known diverges around 0 where `values` has negative numbers."""
    if column in SCALES:
        return SCALES[column]
    finite = values[np.isfinite(values)]
    return Scale(column.replace("_", " "), 0.0 if finite.size and finite.min() < 0 else None, None)


def colouring(scale: Scale, values: Floats) -> tuple[ScalarMappable, str]:
    """Make the colours of a scale for `values`, and say at which ends (`extend` of a colour bar) values pass them."""
    finite = values[np.isfinite(values)]
    centre = scale.neutral or 0.0
    reach = scale.reach
    if reach is None:
        farthest = float(np.abs(finite - centre).max(initial=0.0))
        step = 10.0 ** math.floor(math.log10(farthest)) / 2 if farthest > 1e-12 else 1.0
        # The tolerance keeps a farthest value that is a whole number of steps from taking one more.
        reach = step * max(1, math.ceil(farthest / step - 1e-9))
    low = centre if scale.neutral is None else centre - reach
    high = centre + reach
    if scale.neutral is None and finite.size and finite.min() < 0:
        low = -reach
    colours = matplotlib.colormaps["Blues" if scale.neutral is None else "PuOr"].resampled(LEVELS)
    under, over = bool((finite < low - 1e-9 * reach).any()), bool((finite > high + 1e-9 * reach).any())
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    return ScalarMappable(Normalize(low, high), colours), extend[under, over]

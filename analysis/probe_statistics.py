"""The figures of a run's probes: how well their out-of-fold predictions say what they were trained to say.

They are figures of the run, not of a measure of uncertainty: a probe is read from the inside of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .correlation import correlation
from .correlation_draws import Correlations
from .discrimination import Orders
from .item_columns import PROBE_COLUMNS, Reading

if TYPE_CHECKING:
    from .item_statistics import Built, Cell


def probe_correlation(built: Built, asked: Sequence[Cell], *, method: str) -> None:
    """Correlate the probe of human entropy with human entropy; `asked` is the one cell of that figure."""
    items, names = built.items, (PROBE_COLUMNS["probe_human"], PROBE_COLUMNS["probed_human"])
    prediction, human = (items.column(name) for name in names)
    reason = correlation(prediction, human, method=method, names=names).reason
    if reason is not None:
        built.reasons |= dict.fromkeys(asked, reason)
    built.add(Correlations(prediction[:, None], human, [], method=method), [asked], asked)


def probe_auroc(built: Built, asked: Sequence[Cell]) -> None:
    """Order right and wrong answers by the probe of correctness; `asked` is the one cell of that figure."""
    items = built.items
    marks = items.column(items.reading.correct)
    if np.ptp(marks) == 0:
        built.reasons |= dict.fromkeys(asked, f"every answer is {'right' if marks[0] else 'wrong'}")
    prediction = items.column(PROBE_COLUMNS["probe_correct"])
    built.add(Orders(prediction[:, None], marks, directions=[-1]), [[], asked], asked)


def probe_twin(figure: str, measure: str | None, reading: Reading) -> str | None:
    """Name the figure of the probes that says the same as a figure of a measure; None if there is none."""
    if measure == PROBE_COLUMNS["probe_correct"]:
        return {"auroc": "probe_auroc"}.get(figure)
    if measure == PROBE_COLUMNS["probe_human"] and reading.human == PROBE_COLUMNS["probed_human"]:
        return {"human_pearson": "probe_pearson", "human_spearman": "probe_spearman"}.get(figure)
    return None

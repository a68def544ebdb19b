"""What a probe knows that the output does not say, and the reverse: incremental R2 of out-of-fold predictions.

With y the target, b the mean of the training rows of an item's fold and f a prediction made without the item,

    R2(f) = 1 - sum (y - f)^2 / sum (y - b)^2.

1. Three predictions of the same target on the same folds: from all output measures, from the probe, from both.
2. `probe_over_measures` = R2(both) - R2(measures): what the activations add to everything that the output says.
   `measures_over_probe` = R2(both) - R2(probe): what the output adds to the probe.
3. All of them are taken in the same resamples of items, or of whole clusters.

Predictions are out of fold, so that a worthless addition costs a little: under no information both increments are
slightly below 0 and not above it, as the increments of a fit scored on its own rows would be. For a 0/1 target the
predictions are probabilities, and R2 is the Brier skill score (Murphy 1973, "A new vector partition of the probability
score"; DOI 10.1175/1520-0450(1973)012<0595:ANVPOT>2.0.CO;2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .arrays import Floats
from .bootstrap import Bootstrap
from .correlation import is_constant
from .paired_draws import NO_ERROR, UNDEFINED, draw_figures
from .tables import (
    group_keys,
    groups,
    join_reasons,
    numbers,
    present_rows,
    require_columns,
    result_table,
)

SOURCES = ("measures", "probe", "both")
INCREMENTS = ("probe_over_measures", "measures_over_probe")
COLUMNS = (
    "target",
    "n",
    "n_missing",
    *(f"r2_{source}{end}" for source in SOURCES for end in ("", "_ci_low", "_ci_high")),
    *(f"{increment}{end}" for increment in INCREMENTS for end in ("", "_ci_low", "_ci_high", "_se", "_p")),
    "yardstick",
    "interval",
    "reason",
    "note",
)
TEXT = ("yardstick", "interval", "reason", "note")
OWN_MEAN = "the mean of the target over these items, since the table has no training means"


def incremental_r2(
    table: pd.DataFrame,
    *,
    target: str = "human_entropy_normalized",
    measures: str | None = None,
    probe: str | None = None,
    both: str | None = None,
    baseline: str | None = None,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    level: float = 0.95,
    interval: str = "percentile",
    cluster: str | None = None,
    missing: str = "raise",
) -> pd.DataFrame:
    """Take the R2 of out-of-fold predictions from the measures, from the probe and from both, and the two increments.

    Args:
        table: one row per item in each group of `GROUP_KEYS`, with `item`, the target and the three predictions.
        target: numeric column.
        measures, probe, both: columns of the predictions, as they were made; probabilities for a 0/1 target. None for
            `measures_raw_{target}`, `probe_raw_{target}` and `probe_and_measures_raw_{target}`, as `signals` makes
            them, or where the table lacks one for the same name without `_raw`.
        baseline: column of the training mean of each item's fold, the yardstick of R2; None for `baseline_{target}`
            where the table has it, else the mean of the target over the items of the group.
        rng, n_bootstrap, level, interval, cluster: of the bootstrap intervals, as for `alignment`.
        missing: "raise", or "drop": leave out the items where the target or a prediction is missing, and count them in
            `n_missing`. Infinities are refused either way.

    Returns:
        One row per group: the keys; `target`, `n`, `n_missing`; `r2_measures`, `r2_probe`, `r2_both`, at most 1, 0 for
        a prediction no better than the yardstick, each with `_ci_low` and `_ci_high`; `probe_over_measures` and
        `measures_over_probe`, above 0 where the one adds to the other, each with `_ci_low`, `_ci_high`, the standard
        deviation `_se` of its paired draws and its two-sided `_p` (`difference_p`); `yardstick`; `interval`, how the
        intervals were made; `reason`, why a figure is NaN, else None; `note`, what else to know.

    Raises:
        ValueError: an absent or malformed column, a repeated item, a missing or infinite value, a bad option.
        TypeError: `table` is not a DataFrame, or `rng` not a Generator.
    """
    caller = "incremental_r2"
    require_columns(table, [target], parameter="target", caller=caller)
    columns = {
        "measures": measures or _default(table, "measures", target),
        "probe": probe or _default(table, "probe", target),
        "both": both or _default(table, "probe_and_measures", target),
    }
    for parameter, column in columns.items():
        require_columns(table, [column], parameter=parameter, caller=caller)
    baseline = f"baseline_{target}" if baseline is None and f"baseline_{target}" in table else baseline
    require_columns(table, [] if baseline is None else [baseline], parameter="baseline", caller=caller)
    bootstrap = Bootstrap.of(
        table, rng=rng, n_bootstrap=n_bootstrap, level=level, interval=interval, cluster=cluster, caller=caller
    )
    rows = []
    for keys, frame in groups(table, caller=caller):
        needed = [target, *columns.values(), *([] if baseline is None else [baseline])]
        values = {name: numbers(frame, name, caller=caller) for name in dict.fromkeys(needed)}
        present = present_rows(frame, values, missing=missing, caller=caller)
        kept = frame[present]
        values = {name: column[present] for name, column in values.items()}
        predictions = {source: values[column] for source, column in columns.items()}
        yardstick = values[baseline] if baseline is not None else np.full(len(kept), _mean(values[target]))
        row = _increments(values[target], predictions, yardstick, kept, bootstrap, target)
        counts = {"target": target, "n": len(kept), "n_missing": int((~present).sum())}
        rows.append({**keys, **counts, **row, "yardstick": OWN_MEAN if baseline is None else baseline})
    return result_table(rows, keys=group_keys(table), columns=COLUMNS, text=TEXT)


def _increments(
    y: Floats,
    predictions: dict[str, Floats],
    yardstick: Floats,
    frame: pd.DataFrame,
    bootstrap: Bootstrap,
    target: str,
) -> dict[str, Any]:
    spread = (y - yardstick) ** 2
    resamples = bootstrap.resamples(frame)
    found = dict.fromkeys((*SOURCES, *INCREMENTS), UNDEFINED)
    reason = "no item has them all" if not y.size else f"{target} is constant" if is_constant(y) else None
    if reason is None:
        statistic = ExplainedVariance({name: (y - values) ** 2 for name, values in predictions.items()}, spread)
        found |= draw_figures(statistic, resamples, bootstrap)
    row: dict[str, Any] = {}
    for source in SOURCES:
        figure = found[source]
        row |= {f"r2_{source}": figure.value, f"r2_{source}_ci_low": figure.low, f"r2_{source}_ci_high": figure.high}
    unknown = False
    for increment in INCREMENTS:
        figure = found[increment]
        row |= {increment: figure.value, f"{increment}_ci_low": figure.low, f"{increment}_ci_high": figure.high}
        row |= {f"{increment}_se": figure.se, f"{increment}_p": figure.p}
        unknown = unknown or bool(np.isnan(figure.p) and not np.isnan(figure.low))
    reasons = [reason, *(figure.reason for figure in found.values()), NO_ERROR if unknown else None]
    behind = [source for source in ("measures", "probe") if found[source].value < 0]
    note = f"{' and '.join(behind)} alone predict worse than the mean" if behind else None
    return {**row, "interval": bootstrap.label(resamples), "reason": join_reasons(*reasons), "note": note}


class ExplainedVariance:
    """R2 of predictions, and of the one from both less each of the others: a `Statistic`.

    Args:
        errors: squared errors [n] of the predictions "measures", "probe" and "both".
        spread: squared distances [n] of the target from the yardstick.
    """

    names = (*SOURCES, *INCREMENTS)

    def __init__(self, errors: dict[str, Floats], spread: Floats) -> None:
        self._errors = np.stack([errors[source] for source in SOURCES])
        self._spread = spread

    def __call__(self, counts: Floats) -> Floats:
        """Evaluate in every draw of counts [n, b]: [5, b]; NaN where a resample has nothing to explain."""
        total = self._spread @ counts
        r2 = 1 - (self._errors @ counts) / np.where(total > 0, total, np.nan)
        return np.concatenate([r2, r2[2:] - r2[:2]])


def _default(table: pd.DataFrame, kind: str, target: str) -> str:
    raw = f"{kind}_raw_{target}"
    return raw if raw in table else f"{kind}_{target}"


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else np.nan

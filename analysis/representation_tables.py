"""The tables of a study that set the output beside the residual stream; see `Findings`.

Those of probes, interventions and other runs come from the represent stage as they are. The output measures beside
the probe, the R2 that each adds to the other, and the curves of the logit lens are made here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from .behaviour import behaviour_vs_representation
from .dose_response import dose_response
from .incremental import incremental_r2
from .lens import lens_curve
from .study_tables import ANSWER, Plan, adjusted, as_text, each
from .views import ANY, views, without

GIVEN = {
    "controls": "probe_controls",
    "learning": "learning",
    "rsa": "similarity",
    "two_targets": "two_targets",
    "transfer": "transfer",
    "geometry": "geometry",
}
"""Tables of the represent stage, and what `Findings` calls them."""
HUMAN, CORRECT = "human_entropy_normalized", "correct"


def representation_tables(
    signals: pd.DataFrame, representation: Mapping[str, pd.DataFrame], plan: Plan
) -> dict[str, pd.DataFrame]:
    """Make the tables of `Findings` that are about the representation; what a study has nothing for is empty.

    Args:
        signals: of all runs.
        representation: tables of the represent stage by name: those of `GIVEN`, `lens`, of `logit_lens`, and
            `interventions`, of `intervene`.
        plan: of the study.

    Raises:
        ValueError: a table of another name.
    """
    known = (*GIVEN, "lens", "interventions")
    for name in representation:
        if name not in known:
            raise ValueError(
                f"The representation parameter of find must map some of {', '.join(known)} to tables. "
                f"Got {name!r} instead."
            )
    tables = {own: representation.get(name, pd.DataFrame()) for name, own in GIVEN.items()}
    tables |= _beside_the_output(signals, plan)
    lens = representation.get("lens", pd.DataFrame())
    if len(lens):
        lens = lens_curve(lens, missing="drop", rng=plan.generator("lens"), **plan.drawn)
    moved = representation.get("interventions", pd.DataFrame())
    if len(moved):
        moved = dose_response(moved, n_bootstrap=plan.n_bootstrap, rng=plan.generator("interventions"))
    tables |= {"lens": lens, "interventions": moved}
    return {name: as_text(table) for name, table in tables.items()}


def _beside_the_output(signals: pd.DataFrame, plan: Plan) -> dict[str, pd.DataFrame]:
    """Set the output measures beside the probe of the same target, one by one and all together."""
    behaviour, incremental = [], []
    for target in (HUMAN, CORRECT):
        if target not in signals or f"probe_{target}" not in signals:
            continue
        probed = signals[signals[f"probe_{target}"].notna()]
        if probed.empty:
            continue
        compare = partial(behaviour_vs_representation, target=target, missing="drop", **plan.drawn)
        parts = views(probed, plan.measures, kept=ANSWER if target == CORRECT else ())
        behaviour.append(each(parts, compare, signals, plan, f"behaviour {target}"))
        if f"measures_{target}" in probed and f"probe_and_measures_{target}" in probed:
            keys = [key for key in ("nucleus", "scoring") if key in probed and (key, target) != ("scoring", CORRECT)]
            single = probed
            for key in keys:
                single = without(single, key)
            whole: list[tuple[pd.DataFrame, list[str]]] = [(single.assign(**dict.fromkeys(keys, ANY)), [])]
            add = partial(_increments, target=target, **plan.drawn)
            incremental.append(each(whole, add, signals, plan, f"incremental {target}"))
    together = _stacked(behaviour)
    return {"behaviour": adjusted(together), "incremental": _stacked(incremental)}


def _increments(table: pd.DataFrame, measures: Sequence[str], **settings: Any) -> pd.DataFrame:
    return incremental_r2(table, missing="drop", **settings)


def _stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    tables = [table for table in tables if len(table)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

"""The tables of a study, one after the other, from its signals: what `find` puts into `Findings`.

Each measure is looked at once (`views`). Every table draws from a stream of its own, named after the table, so that one
table more or less changes no number in the others.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ..probes.measure_table import MEASURES
from . import overview
from .agreement import agreement
from .alignment import alignment, alignment_controls
from .calibration import calibration, calibration_by_subject
from .ceiling import reliability_ceiling
from .curve import compare_layers
from .human_calibration import human_calibration
from .item_statistics import FIGURES, figures_for
from .jsd_shift import jsd_shift, shift_histogram
from .multiple_tests import adjust_p_values
from .pairs import Pair
from .permutation import max_statistic_test
from .power import smallest_effects
from .power_table import power_table
from .reliability import reliability_bins
from .risk_coverage import risk_coverage
from .simultaneity import simultaneity
from .tables import group_keys
from .tuning import tuning_effect
from .tuning_pairs import tuning_over_pairs
from .uncertainty_agreement import uncertainty_and_agreement
from .views import ANY, RUN_KEYS, absent_measures, views, without

HEADLINE = ("choice_entropy_normalized", "choice_probability", "total_entropy_normalized")
# The scoring picks the model's answer, so that whatever is set beside that answer depends on it.
ANSWER = ("scoring",)
# Kendall's time grows with the square of the items.
MOST_FOR_KENDALL = 5000

Computation = Callable[..., pd.DataFrame]


@dataclass(frozen=True)
class Plan:
    """What a study asks of its signals.

    Attributes:
        measures: the measures that are looked at.
        seed: of all draws.
        n_bootstrap, interval: of every interval.
        n_permutations: of every null.
        cluster: "subject" to draw whole subjects where every item of a dataset has one, or None.
        pairs: base and instruct models.
        reordered: (model, dataset, prompt) of runs whose options were not listed as in the items table.
    """

    measures: Sequence[str]
    seed: int
    n_bootstrap: int
    n_permutations: int
    interval: str
    cluster: str | None
    pairs: Sequence[Pair]
    reordered: Sequence[tuple]

    def generator(self, name: str) -> np.random.Generator:
        """Start the stream of the table `name`."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])

    @property
    def drawn(self) -> dict[str, Any]:
        """The settings that every bootstrap takes but its generator and clusters."""
        return {"n_bootstrap": self.n_bootstrap, "interval": self.interval}


def study_tables(signals: pd.DataFrame, layers: pd.DataFrame | None, plan: Plan) -> dict[str, pd.DataFrame]:
    """Make every table of `Findings`, in the order of a report. Tables that a study has nothing for are empty."""
    human = signals[signals["human_entropy_normalized"].notna()]
    answered = signals[signals["correct"].notna()] if "correct" in signals else signals.iloc[:0]
    tables = {
        "overview": overview.answers(signals),
        "positions": overview.positions(signals, reordered=plan.reordered),
        "datasets": overview.dataset_facts(signals),
        "empty_nuclei": overview.empty_nuclei(signals),
        "absent": absent_measures(signals, plan.measures),
    }
    tables |= _beside_people(human, plan)
    tables |= _beside_answers(answered, plan)
    tables["simultaneity"] = _both(tables["alignment"], tables["calibration"])
    tables |= _pairs(signals, plan)
    tables["power"] = power_table(signals, measures=plan.measures)
    tables["layers"] = pd.DataFrame() if layers is None else layers.reset_index(drop=True)
    known = tables["layers"]
    tables["curve"] = (
        pd.DataFrame() if known.empty else compare_layers(known, tables["alignment_pearson"], tables["calibration"])
    )
    return {name: as_text(table) for name, table in tables.items()}


def _beside_people(human: pd.DataFrame, plan: Plan) -> dict[str, pd.DataFrame]:
    """Agreement, human calibration, the ceiling of the target, and alignment with its controls and corrections."""
    names = ("ceiling", "agreement", "human_calibration", "alignment", "alignment_pearson", "alignment_kendall")
    if human.empty:
        return dict.fromkeys((*names, "controls", "uncertainty_agreement"), pd.DataFrame())
    single = without(human, "nucleus")
    tables = {"agreement": agreement(single, missing="drop")} if _has_answers(single) else {"agreement": pd.DataFrame()}
    tables["ceiling"] = _ceilings(human, plan)
    tables["human_calibration"] = pd.DataFrame()
    if {"responses", "choice_log_probabilities"} <= set(single):

        def calibrate(table: pd.DataFrame, measures: Sequence[str], **options: Any) -> pd.DataFrame:
            return human_calibration(table, missing="drop", **plan.drawn, **options)

        tables["human_calibration"] = each([(single, [])], calibrate, human, plan, "human_calibration")
    for name, method in (("alignment", "spearman"), ("alignment_pearson", "pearson"), ("alignment_kendall", "kendall")):
        part = human if method != "kendall" else _small(human)
        correlate = partial(alignment, method=method, missing="drop", **plan.drawn)
        tables[name] = adjusted(each(views(part, plan.measures), correlate, human, plan, "alignment"))
    tables["alignment"] = _with_family_p(tables["alignment"], human, plan)
    raw = [name for name in MEASURES if name in human and f"{name}_normalized" in plan.measures]
    control = partial(alignment_controls, missing="drop", **plan.drawn)
    tables["controls"] = each(views(human, raw), control, human, plan, "controls")
    tables["uncertainty_agreement"] = pd.DataFrame()
    if _has_answers(human):
        relate = partial(uncertainty_and_agreement, missing="drop", **plan.drawn)
        parts = views(human, plan.measures, kept=ANSWER)
        table = each(parts, relate, human, plan, "uncertainty_agreement")
        tables["uncertainty_agreement"] = adjusted(table)
    return tables


def _beside_answers(answered: pd.DataFrame, plan: Plan) -> dict[str, pd.DataFrame]:
    """Calibration, overall and by subject, the shift of the answers, and the curves behind them."""
    few = [name for name in HEADLINE if name in plan.measures]
    calibrate = partial(calibration, missing="drop", **plan.drawn)
    parts = views(answered, plan.measures, kept=ANSWER)
    tables = {"calibration": adjusted(each(parts, calibrate, answered, plan, "calibration"))}
    subjects = answered[answered["subject"].notna()] if "subject" in answered else answered.iloc[:0]
    found = [calibration_by_subject(part, measures=names) for part, names in views(subjects, few, kept=ANSWER)]
    tables["calibration_by_subject"] = _stack(found, answered)
    tables["reliability"] = reliability_bins(answered)
    found = [risk_coverage(part, names, missing="drop") for part, names in views(answered, few, kept=ANSWER)]
    tables["risk_coverage"] = _stack(found, answered)
    shifts = {"jsd_shift": jsd_shift, "jsd_null": shift_histogram}
    for name, function in shifts.items():
        tables[name] = pd.DataFrame()
        if "answer" in answered and "choice" in answered:
            shift = partial(function, n_permutations=plan.n_permutations, missing="drop")
            found = [
                # One stream for both: the histogram is that of the null in the table.
                shift(part, names, rng=plan.generator("jsd_shift"))
                for part, names in views(answered, plan.measures, kept=ANSWER)
            ]
            tables[name] = _stack(found, answered)
    return tables


def _pairs(signals: pd.DataFrame, plan: Plan) -> dict[str, pd.DataFrame]:
    """Differences within each pair of models, and over the pairs."""
    nothing = {"tuning": pd.DataFrame(), "tuning_over_pairs": pd.DataFrame()}
    if not plan.pairs or signals.empty:
        return nothing
    paired = signals[signals["model"].isin([model for pair in plan.pairs for model in (pair.base, pair.instruct)])]
    single = without(paired, "nucleus").assign(nucleus=ANY) if "nucleus" in paired else paired

    any_scoring = without(single, "scoring").assign(scoring=ANY) if "scoring" in single else single

    def compare(table: pd.DataFrame, measures: Sequence[str], *, kind: str, **options: Any) -> pd.DataFrame:
        figures = [name for name in figures_for(table, measures) if _kind(name) == kind]
        if not figures:
            return pd.DataFrame()
        return tuning_effect(
            table, list(plan.pairs), figures=figures, measures=measures, missing="drop", **plan.drawn, **options
        )

    parts = [
        *_parts([(single, [])], partial(compare, kind="run"), plan, "tuning"),
        *_parts([(any_scoring, [])], partial(compare, kind="probe"), plan, "tuning"),
        *_parts(views(paired, plan.measures), partial(compare, kind="measure"), plan, "tuning"),
        *_parts(views(paired, plan.measures, kept=ANSWER), partial(compare, kind="answer"), plan, "tuning"),
    ]
    if not any(len(part) for part in parts):
        return nothing
    effects = pd.concat([part for part in parts if len(part)], ignore_index=True)
    by = ["pair", *(key for key in RUN_KEYS if key in effects and key != "model")]
    effects = smallest_effects(adjust_p_values(effects, by=by))
    return {"tuning": effects, "tuning_over_pairs": tuning_over_pairs(effects)}


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Hold text as objects with None where there is none, whatever pandas has made of it."""
    if not table.columns.size:
        return pd.DataFrame(columns=pd.Index([], dtype=object))
    texts = [name for name in table if not pd.api.types.is_numeric_dtype(table[name])]
    return table.assign(**{name: table[name].astype(object).where(table[name].notna(), None) for name in texts})


def _kind(figure: str) -> str:
    """Tell figures of a run from those of a measure that read the model's answer and those that do not.

    The probe of human entropy is the same under every scoring.
    """
    if FIGURES[figure].family == "run":
        return "probe" if "probe_human" in FIGURES[figure].needs else "run"
    return "answer" if {"correct", "choice", "answer"} & set(FIGURES[figure].needs) else "measure"


def _has_answers(table: pd.DataFrame) -> bool:
    """Tell whether people's favourite options and the model's can be compared."""
    return bool({"human_top", "responses"} & set(table)) and "n_options" in table


def _ceilings(human: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """The reliability ceiling of each dataset; the rows of all its runs say the same of people's answers."""
    if not {"responses", "respondents"} <= set(human):
        return pd.DataFrame()
    return reliability_ceiling(human, rng=plan.generator("ceiling"), n_bootstrap=plan.n_bootstrap)


def _small(human: pd.DataFrame) -> pd.DataFrame:
    """Leave out groups with more items than Kendall's bootstrap can take in reasonable time."""
    keys = group_keys(human)
    if not keys:
        return human if len(human) <= MOST_FOR_KENDALL else human.iloc[:0]
    return human[human.groupby(keys, dropna=False)["item"].transform("size") <= MOST_FOR_KENDALL]


def _with_family_p(table: pd.DataFrame, human: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Add `p_max`, the family-wise p of the largest correlation under permutation, to the rows of `alignment`."""
    if table.empty:
        return table
    tested = max_statistic_test(
        human,
        plan.measures,
        within="n_options",
        n_permutations=plan.n_permutations,
        rng=plan.generator("max_statistic"),
        missing="drop",
    )
    keys = [*group_keys(table), "measure"]
    return table.merge(tested[[*keys, "p_permutation", "p_max"]], on=keys, how="left", validate="one_to_one")


def _both(alignment_table: pd.DataFrame, calibration_table: pd.DataFrame) -> pd.DataFrame:
    if alignment_table.empty or calibration_table.empty:
        return pd.DataFrame()
    return simultaneity(alignment_table, calibration_table)


def each(
    parts: Iterable[tuple[pd.DataFrame, list[str]]],
    compute: Computation,
    signals: pd.DataFrame,
    plan: Plan,
    name: str,
) -> pd.DataFrame:
    """Compute a table over the parts, and put its rows into the order of the signals."""
    return _stack(_parts(parts, compute, plan, name), signals)


def _parts(
    parts: Iterable[tuple[pd.DataFrame, list[str]]], compute: Computation, plan: Plan, name: str
) -> list[pd.DataFrame]:
    """Compute a table over each part, all from the stream called `name`, clusters drawn where every item has one."""
    results = []
    for part, measures in parts:
        for rows, cluster in _clustered(part, plan):
            if len(rows):
                results.append(compute(rows, measures, rng=plan.generator(name), cluster=cluster))
    return results


def _clustered(part: pd.DataFrame, plan: Plan) -> Iterator[tuple[pd.DataFrame, str | None]]:
    """Split off the groups in which every item has a cluster, if clusters are to be drawn."""
    if plan.cluster is None or plan.cluster not in part or part.empty:
        yield part, None
        return
    keys = group_keys(part)
    there = part[plan.cluster].notna()
    whole = there.groupby([part[key] for key in keys], dropna=False).transform("all") if keys else there & there.all()
    yield part[whole], plan.cluster
    yield part[~whole], None


def adjusted(table: pd.DataFrame) -> pd.DataFrame:
    """Correct the p-values of a table by Holm and by Benjamini and Hochberg over each run; an empty one stays."""
    return table if table.empty else adjust_p_values(table)


def _stack(parts: Sequence[pd.DataFrame], signals: pd.DataFrame) -> pd.DataFrame:
    """Put tables together: runs in the order of the signals, measures in the order of the measure table."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return pd.DataFrame()
    table = pd.concat(parts, ignore_index=True)
    keys = [key for key in group_keys(table) if key in RUN_KEYS]
    runs = list(signals[keys].drop_duplicates().itertuples(index=False, name=None)) if keys else []
    place = {run: number for number, run in enumerate(runs)}
    known = {name: number for number, name in enumerate(MEASURES)}
    order = pd.DataFrame(
        {
            "run": [place[run] for run in table[keys].itertuples(index=False, name=None)] if keys else 0,
            "measure": table["measure"].map(known).fillna(len(known)) if "measure" in table else 0,
        },
        index=table.index,
    )
    return table.loc[order.sort_values(["run", "measure"], kind="stable").index].reset_index(drop=True)

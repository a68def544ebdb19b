"""The contract of every labelled statistic: what it must not depend on, what it must refuse, what it must announce.

Each function from a table to a table stands once in the table below, with the tables it is called on; every check holds
for all of them but those whose entry excuses them, with a word.
"""

import ast
import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from doubtlens.analysis.agreement import agreement
from doubtlens.analysis.agreement_items import agreement_by_item
from doubtlens.analysis.alignment import alignment, alignment_controls
from doubtlens.analysis.behaviour import behaviour_vs_representation
from doubtlens.analysis.calibration import calibration, calibration_by_subject
from doubtlens.analysis.ceiling import reliability_ceiling
from doubtlens.analysis.correlation import METHODS
from doubtlens.analysis.curve import compare_layers
from doubtlens.analysis.dose_response import dose_response
from doubtlens.analysis.human_calibration import human_calibration
from doubtlens.analysis.incremental import incremental_r2
from doubtlens.analysis.jsd_shift import jsd_shift, shift_histogram
from doubtlens.analysis.lens import lens_curve
from doubtlens.analysis.multiple_tests import adjust_p_values
from doubtlens.analysis.overview import answers, dataset_facts, empty_nuclei, positions
from doubtlens.analysis.permutation import max_statistic_test
from doubtlens.analysis.power import smallest_effects
from doubtlens.analysis.power_table import power_table
from doubtlens.analysis.reliability import reliability_bins
from doubtlens.analysis.risk_coverage import risk_coverage
from doubtlens.analysis.simultaneity import simultaneity, simultaneity_summary
from doubtlens.analysis.tables import MISSING
from doubtlens.analysis.tuning import tuning_effect
from doubtlens.analysis.tuning_pairs import tuning_from_figures, tuning_over_pairs
from doubtlens.analysis.uncertainty_agreement import uncertainty_and_agreement
from doubtlens.probes import human_targets

ROOT = Path(__file__).parents[2]
MEASURES = ["choice_entropy", "top_1_probability"]
PAIR = [("base", "instruct")]


def make_signals(n=60, groups=("base", "instruct"), column="model", **kept):
    """Signals of several groups on the same items, with ties and a varying number of options."""
    frames = []
    for number, name in enumerate(groups):
        people, rng = np.random.default_rng(98), np.random.default_rng(number)
        options = people.integers(2, 6, n)
        responses = [people.integers(0, 9, k) + np.eye(k)[0] for k in options]
        answer = people.integers(0, options)
        scores = [np.round(np.log(rng.dirichlet(np.ones(k))), 1) for k in options]
        choice = np.array([int(np.argmax(score)) for score in scores])
        # One item right and one wrong, however few there are.
        choice[:2] = ((answer + np.arange(n)) % options)[:2]
        shares = [r / r.sum() for r in responses]
        entropy = np.array([-sum(p * np.log(p) for p in share if p > 0) for share in shares])
        uncertainty, mass = rng.uniform(size=n).round(1), rng.uniform(0.8, 1, n)
        frames.append(
            pd.DataFrame(
                {
                    column: name,
                    **kept,
                    "item": np.arange(n),
                    "n_options": options,
                    "subject": np.array(["art", "law", "war"])[np.arange(n) % 3],
                    "choice_entropy": uncertainty * np.log(options),
                    "choice_entropy_normalized": uncertainty,
                    "top_1_probability": rng.uniform(size=n),
                    "choice_probability": np.round(0.96 - 0.9 * uncertainty, 2) * mass,
                    "choice_mass": mass,
                    "top_p_size_0.5": np.floor(3 * uncertainty),
                    "choice": choice,
                    "choice_ties": 1,
                    "answer": answer,
                    "correct": (choice == answer).astype(float),
                    "responses": [list(r) for r in responses],
                    "respondents": [r.sum() for r in responses],
                    "choice_log_probabilities": [list(s) for s in scores],
                    "human_entropy": entropy,
                    "human_entropy_normalized": entropy / np.log(options),
                    "human_entropy_se": 0.01 + 0.01 * people.uniform(size=n),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def make_predicted(n=60, groups=("base", "instruct")):
    """Signals with out-of-fold predictions of people's entropy: from the probe, from the measures and from both."""
    table = make_signals(n, groups)
    rng, y = np.random.default_rng(8), table["human_entropy_normalized"]
    made = {name: 0.5 * y + 0.1 * rng.normal(size=len(table)) for name in ("probe", "measures", "probe_and_measures")}
    return table.assign(**{f"{name}_human_entropy_normalized": values for name, values in made.items()})


def make_lens(n=60, groups=("base", "instruct")):
    """Signals as two layers have them, beside the answers of the whole model."""
    table = make_signals(n, groups)
    table = table.assign(final_correct=table["correct"])
    early = {name: np.random.default_rng(9).permutation(table[name]) for name in MEASURES}
    return pd.concat([table.assign(layer=0, **early), table.assign(layer=1)], ignore_index=True)


def make_moved(n=20, groups=("base", "instruct")):
    """What one step of a probe, two of random directions, and none give for every item."""
    rng = np.random.default_rng(10)
    conditions = pd.DataFrame(
        {
            "mode": ["none", "add", "add", "add"],
            "direction": ["none", "probe", "random", "random"],
            "draw": [np.nan, np.nan, 0.0, 1.0],
            "dose": [0.0, 1.0, 1.0, 1.0],
        }
    )
    items = pd.DataFrame({"model": np.repeat(groups, n), "item": np.tile(np.arange(n), len(groups))})
    table = items.merge(conditions, how="cross")
    return table.assign(layer=3, target="correct", total_entropy=rng.uniform(size=len(table)).round(2))


def make_datasets(n=60, groups=("a", "b")):
    """Signals whose groups are datasets, each asked of one model."""
    return make_signals(n, groups, "dataset", model="base")


def make_pairs(n=60, groups=("a", "b")):
    """Signals of a base and an instruct model in several datasets."""
    models = [make_signals(n, PAIR[0], dataset=name) for name in groups]
    return pd.concat(models, ignore_index=True)


def make_tests(n=8, groups=("base", "instruct")):
    """Differences with their standard errors and p-values."""
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"model": np.repeat(groups, n), "measure": np.tile([f"m{i}" for i in range(n)], len(groups))})
    return table.assign(p=rng.uniform(size=len(table)).round(1), se=rng.uniform(size=len(table)))


def make_effects(n=8, groups=("a", "b")):
    """Figures of n pairs of models."""
    rng = np.random.default_rng(4)
    pairs = [f"pair-{number}" for number in range(n)]
    table = pd.DataFrame({"dataset": np.repeat(groups, n), "figure": "accuracy", "pair": np.tile(pairs, len(groups))})
    values = rng.uniform(size=(2, len(table))).round(1)
    return table.assign(base_value=values[0], instruct_value=values[1])


def make_figures(n=8, groups=("a", "b")):
    """Published figures of n models, the even ones base models."""
    rng = np.random.default_rng(5)
    table = pd.DataFrame({"dataset": np.repeat(groups, n), "model": np.tile([f"m{i}" for i in range(n)], len(groups))})
    return table.assign(accuracy=rng.uniform(size=len(table)).round(2))


def make_sides(n=2, groups=("base", "instruct")):
    """The tables of alignment and calibration of n measures, one below the other."""
    measures = ["choice_entropy", "top_1_probability", "choice_probability", "total_entropy"][:n]
    rng = np.random.default_rng(6)
    sides = pd.DataFrame(
        [
            {"side": side, "model": group, "measure": measure, "n": 40}
            for side in ("alignment", "calibration")
            for group in groups
            for measure in measures
        ],
        columns=["side", "model", "measure", "n"],
    )
    numbers = ["correlation", "spearman", "auroc", "p", "ci_low", "ci_high", "auroc_ci_low", "auroc_ci_high"]
    return sides.assign(**{name: rng.uniform(0, 0.2, len(sides)) for name in numbers})


def make_joint(n=4, groups=("base", "instruct")):
    return simultaneity(*sides_of(make_sides(n, groups)))


def make_layers(n=6, groups=("base", "instruct")):
    """Probes of n layers, above the measures that they are compared with."""
    rng = np.random.default_rng(7)
    layers = pd.DataFrame(
        {
            "side": "layers",
            "model": np.repeat(groups, n),
            "layer": np.tile(np.arange(float(n)), len(groups)),
            "target": "human_entropy_normalized",
            "site": "resid_post",
            "probe": "ridge",
            "score_name": "r2",
            "best": np.tile(np.arange(n) == n - 1, len(groups)),
        }
    )
    names = ["pearson", "ci_low", "ci_high", "p_max", "nested_pearson", "nested_ci_low", "nested_ci_high", "nested_p"]
    layers = layers.assign(**{name: rng.uniform(size=len(layers)) for name in [*names, "n_permutations"]})
    return pd.concat([layers, make_sides(min(n, 2), groups)], ignore_index=True)


def make_items(n=20, groups=("a", "b")):
    """An items table; human_targets has no groups, so that they are in the names."""
    signals = make_signals(n, groups, "dataset")
    options = [[f"option {number}" for number in range(k)] for k in signals["n_options"]]
    named = signals["dataset"] + signals["item"].astype(str)
    kept = ["dataset", "responses", "answer", "respondents"]
    return signals[kept].assign(id=named, options=options, recall_correct=0.5, response_time_ms=900.0)


def sides_of(table):
    return [table[table["side"] == side].drop(columns="side") for side in ("alignment", "calibration")]


def layers_and_sides(table):
    layers = table[table["side"] == "layers"].drop(columns="side").astype({"best": bool})
    return compare_layers(layers, *sides_of(table))


def pairs_of_figures(table):
    models = list(dict.fromkeys(sorted(table["model"]))) or ["m0", "m1"]
    return tuning_from_figures(table, list(zip(models[::2], models[1::2], strict=False)), ["accuracy"])


def draw():
    return np.random.default_rng(11)


def by_reason(result):
    return result["reason"].map(lambda reason: isinstance(reason, str))


@dataclass(frozen=True)
class Labelled:
    """A statistic from tables to tables, as the checks see it.

    Attributes:
        function, arguments, settings: what is called with the table, these, and those made anew for each call.
        make: from a number of items and names of groups to a table.
        group: the column whose values do not see each other.
        call: stands in for the function where it takes more than one table.
        number: a column read as numbers; `missing`, one whose values may be missing, and `needs`, one that must be
            there, if these are others.
        counted: where missing values are not refused: a number that falls by one for each.
        item: the column that no group may hold twice.
        refused: how an infinity is named, after row and item.
        drawn: columns that come of random draws, beside the ends of intervals.
        scaled: columns in units of the measure.
        neutral: of a measure without spread: the value of a column, or the column that it equals.
        undefined: columns that are NaN for a measure without spread, which the reason calls constant.
        one_class: columns that are NaN where every answer is right, or people's, or none is.
        says: marks the rows that announce a NaN.
        excused: checks that do not apply, and why.
    """

    function: Callable
    arguments: tuple = ()
    settings: Callable = dict
    make: Callable = make_signals
    group: str = "model"
    call: Callable | None = None
    number: str | None = "choice_entropy"
    missing: str | None = None
    needs: str | None = None
    counted: Callable | None = None
    item: str = "item"
    refused: str = r"{number} column given to .* must be finite. Got inf at row {row} \(item {item!r}"
    drawn: tuple = ()
    scaled: tuple = ()
    neutral: Mapping = field(default_factory=dict)
    undefined: tuple = ()
    one_class: tuple = ()
    says: Callable = by_reason
    excused: Mapping = field(default_factory=dict)

    def __call__(self, table, measures=None, **options):
        if self.call is not None:
            return self.call(table)
        arguments = self.arguments if measures is None else (measures, *self.arguments[1:])
        return self.function(table, *arguments, **{**self.settings(), **options})


def seeded(**others):
    return lambda: {"rng": np.random.default_rng(11), **others}


BOOTSTRAP = seeded(n_bootstrap=40)
MEASURELESS = dict.fromkeys(("measures", "affine", "increasing", "constant"), "measureless")
DRAWLESS = {"rng": "drawless"}
RESULTS = dict.fromkeys(("infinite", "items", "few", "one_class", "finite"), "results")
FIGURES = ["accuracy", "kendall_distance", "human_spearman", "human_partial", "auroc", "prr", "ece_rank", "jsd_shift"]
SHIFTED = ("null_mean", "null_sd", "centred", "p")

STATISTICS = {
    "agreement": Labelled(agreement, number="n_options", missing="responses", excused={**MEASURELESS, **DRAWLESS}),
    "agreement_by_item": Labelled(
        agreement_by_item,
        number="n_options",
        missing="responses",
        counted=lambda result: result["reason"].isna().sum(),
        excused={**MEASURELESS, **DRAWLESS},
    ),
    "human_calibration": Labelled(
        human_calibration, (), BOOTSTRAP, number="n_options", missing="responses", excused=MEASURELESS
    ),
    **{
        f"alignment, {method}": Labelled(
            alignment,
            (MEASURES,),
            seeded(method=method, n_bootstrap=40),
            undefined=("correlation", "p", "partial", "partial_p"),
            excused={"increasing": "linear"} if method == "pearson" else {},
        )
        for method in METHODS
    },
    "alignment_controls": Labelled(
        alignment_controls,
        (["choice_entropy"],),
        BOOTSTRAP,
        undefined=("raw", "partial"),
        excused={"measures": "single"},
    ),
    "uncertainty_and_agreement": Labelled(
        uncertainty_and_agreement,
        (MEASURES,),
        BOOTSTRAP,
        neutral={"auroc": 0.5},
        undefined=("spearman", "p", "partial", "partial_p"),
        one_class=("spearman", "p", "auroc", "partial", "ci_low", "auroc_ci_low", "partial_ci_low"),
    ),
    "max_statistic_test": Labelled(
        max_statistic_test,
        (MEASURES,),
        seeded(n_permutations=40),
        drawn=("p_permutation", "p_max", "null_mean", "null_q95"),
        undefined=("correlation", "p_permutation", "p_max"),
        excused={"measures": "family"},
    ),
    **{
        f"behaviour_vs_representation, {method}": Labelled(
            behaviour_vs_representation,
            (MEASURES,),
            seeded(method=method, n_bootstrap=40),
            make_predicted,
            drawn=("se", "p", "p_holm", "p_bh"),
            undefined=("r_measure", "r_probe", "difference", "p", "p_holm"),
            excused={"measures": "family"} | ({"increasing": "linear"} if method == "pearson" else {}),
        )
        for method in METHODS
    },
    "lens_curve": Labelled(
        lens_curve,
        (MEASURES,),
        seeded(n_bootstrap=20, n_permutations=20),
        make_lens,
        drawn=("p", "p_max", "correct_p", "correct_p_max"),
        scaled=("mean",),
        neutral={"correct_auroc": 0.5},
        undefined=("human_spearman", "p"),
        refused=r"{number} at layer \d column given to .* must be finite. Got inf at row \d+ \(item {item!r}",
        excused={"missing": "paired", "affine": "mean", "one_class": "final"},
    ),
    "dose_response": Labelled(
        dose_response,
        (),
        seeded(n_bootstrap=20),
        make_moved,
        number="total_entropy",
        needs="dose",
        says=lambda result: (result["direction"] != "probe") | result["note"].notna(),
        excused={**MEASURELESS, "missing": "paired", "one_class": "moved", "twice": "conditions", "finite": "draws"},
    ),
    "incremental_r2": Labelled(
        incremental_r2,
        (),
        BOOTSTRAP,
        make_predicted,
        number="probe_human_entropy_normalized",
        drawn=("probe_over_measures_se", "probe_over_measures_p", "measures_over_probe_se", "measures_over_probe_p"),
        excused=MEASURELESS,
    ),
    "reliability_ceiling": Labelled(
        reliability_ceiling,
        (),
        seeded(n_draws=20, n_bootstrap=20),
        make_datasets,
        group="dataset",
        number="respondents",
        missing="responses",
        needs="responses",
        counted=lambda result: result["n"].sum(),
        drawn=("correlation", "reliability", "ceiling"),
        excused={**MEASURELESS, "twice": "pooled"},
    ),
    "calibration": Labelled(
        calibration,
        (["choice_probability"],),
        seeded(n_bootstrap=20, n_null=20),
        number="choice_probability",
        drawn=("smece_null", "smece_null_high", "smece_p"),
        neutral={"auroc": 0.5, "prr": 0, "auarc": "accuracy"},
        undefined=("spearman", "p", "ece_rank"),
        one_class=("spearman", "p", "auroc", "prr", "ci_low", "auroc_ci_low", "prr_ci_low"),
        excused={"measures": "single", "affine": "probability", "increasing": "probability"},
    ),
    "calibration, no probability": Labelled(
        calibration,
        (MEASURES,),
        seeded(n_bootstrap=20, n_null=20),
        scaled=("ece_rank", "ece_rank_ci_low", "ece_rank_ci_high"),
        neutral={"auroc": 0.5, "prr": 0, "auarc": "accuracy"},
        undefined=("spearman", "p", "ece_rank"),
        one_class=("spearman", "p", "auroc", "prr", "ci_low", "auroc_ci_low", "prr_ci_low"),
        excused={"finite": "improbable"},
    ),
    "calibration_by_subject": Labelled(
        calibration_by_subject,
        (MEASURES,),
        scaled=("ece_rank",),
        neutral={"auroc": 0.5, "prr": 0, "auarc": "accuracy"},
        undefined=("spearman", "ece_rank"),
        one_class=("spearman", "auroc", "prr"),
        excused=DRAWLESS,
    ),
    "jsd_shift": Labelled(
        jsd_shift,
        (MEASURES,),
        seeded(n_permutations=40),
        drawn=SHIFTED,
        undefined=("statistic", "js_high", "js_low", "p"),
        excused={"increasing": "mean"},
    ),
    "shift_histogram": Labelled(
        shift_histogram,
        (MEASURES,),
        seeded(n_permutations=40, bins=4),
        drawn=("low", "high", "n", *SHIFTED),
        undefined=("statistic", "low"),
        excused={"increasing": "mean"},
    ),
    "risk_coverage": Labelled(
        risk_coverage,
        (MEASURES,),
        lambda: {"points": 5},
        scaled=("threshold",),
        neutral={"risk": "error_rate"},
        excused=DRAWLESS,
    ),
    "reliability_bins": Labelled(
        reliability_bins,
        (),
        lambda: {"bins": 3},
        number="choice_probability",
        counted=lambda result: result["n"].sum(),
        says=lambda result: result["n"] == 0,
        excused={**MEASURELESS, **DRAWLESS, "column": "optional"},
    ),
    "tuning_effect": Labelled(
        tuning_effect,
        (PAIR,),
        seeded(n_bootstrap=20, figures=FIGURES, measures=["choice_entropy"]),
        make_pairs,
        group="dataset",
        drawn=("se", "p", "better"),
        excused=dict.fromkeys(("measures", "affine", "increasing", "constant"), "figures"),
    ),
    "tuning_over_pairs": Labelled(
        tuning_over_pairs,
        make=make_effects,
        group="dataset",
        number="base_value",
        counted=lambda result: result["n_pairs"].sum(),
        item="pair",
        refused="{number} column given to .* must be finite. Got inf at row {row}",
        excused={**MEASURELESS, **DRAWLESS, "one_class": "results"},
    ),
    "tuning_from_figures": Labelled(
        tuning_from_figures,
        ([("m0", "m1")], ["accuracy"]),
        make=make_figures,
        group="dataset",
        call=pairs_of_figures,
        number="accuracy",
        counted=lambda result: result["difference"].notna().sum(),
        item="model",
        refused="{number} column given to .* must be finite. Got inf at row {row}",
        excused={**MEASURELESS, **DRAWLESS, "one_class": "results", "items": "pairs", "empty": "pairs", "few": "pairs"},
    ),
    "adjust_p_values": Labelled(
        adjust_p_values,
        make=make_tests,
        number="p",
        counted=lambda result: result["p_holm"].notna().sum(),
        item="measure",
        refused=r"{number} column given to .* must be finite. Got inf at row {row} \(model",
        says=lambda result: result["p"].isna(),
        excused={**MEASURELESS, **DRAWLESS, "one_class": "results", "twice": "tests"},
    ),
    "smallest_effects": Labelled(
        smallest_effects,
        make=make_tests,
        number="se",
        counted=lambda result: result["smallest_difference"].notna().sum(),
        item="measure",
        refused="se parameter of smallest_difference must be a finite number",
        says=lambda result: result["se"].isna(),
        excused={**MEASURELESS, **DRAWLESS, "one_class": "results", "twice": "tests"},
    ),
    "simultaneity": Labelled(
        simultaneity,
        make=make_sides,
        arguments=([1],),
        call=lambda table: simultaneity(*sides_of(table)),
        number="correlation",
        counted=lambda result: result["joint"].notna().sum(),
        item="measure",
        excused={**MEASURELESS, **DRAWLESS, **RESULTS},
    ),
    "simultaneity_summary": Labelled(
        simultaneity_summary,
        make=make_joint,
        number="joint",
        counted=lambda result: result["n"].sum() - result["undefined"].sum(),
        item="measure",
        excused={**MEASURELESS, **DRAWLESS, **RESULTS, "twice": "results", "missing": "results"},
    ),
    "compare_layers": Labelled(
        compare_layers,
        ([1], [1]),
        make=make_layers,
        call=layers_and_sides,
        number="pearson",
        item="layer",
        excused={**MEASURELESS, **DRAWLESS, **RESULTS, "twice": "results", "missing": "results"},
    ),
    "power_table": Labelled(
        power_table,
        make=make_datasets,
        group="dataset",
        number="human_entropy_normalized",
        counted=lambda result: result["n_human"].sum(),
        one_class=("smallest_auroc", "smallest_auroc_high"),
        excused={**MEASURELESS, **DRAWLESS, "column": "optional"},
    ),
    "answers": Labelled(
        answers,
        number="n_options",
        missing="correct",
        counted=lambda result: result["n_answers"].sum(),
        says=lambda result: result["n_answers"] == 0,
        excused={**MEASURELESS, **DRAWLESS},
    ),
    "positions": Labelled(
        positions,
        make=lambda *given, **named: make_signals(*given, **named).assign(
            human_top=lambda t: [[a] for a in t["answer"]]
        ),
        number="n_options",
        says=lambda result: result["position"] < 0,
        excused={**MEASURELESS, **DRAWLESS, "missing": "shares"},
    ),
    "empty_nuclei": Labelled(
        empty_nuclei,
        number="top_p_size_0.5",
        counted=lambda result: result["n"].sum(),
        says=lambda result: result["n"] == 0,
        excused={**MEASURELESS, **DRAWLESS, "column": "optional", "few": "zeros"},
    ),
    "dataset_facts": Labelled(
        dataset_facts,
        make=make_datasets,
        group="dataset",
        number="human_entropy",
        counted=lambda result: result["n_human"].sum(),
        says=lambda result: result["n_human"] < 3,
        excused={**MEASURELESS, **DRAWLESS, "twice": "pooled"},
    ),
    "human_targets": Labelled(
        human_targets,
        make=make_items,
        group="dataset",
        number="respondents",
        missing="responses",
        needs="responses",
        counted=lambda result: result["human_entropy"].notna().sum(),
        item="id",
        refused="respondents .* Got inf for item {item!r}",
        says=lambda result: result["human_entropy"].isna(),
        excused={**MEASURELESS, **DRAWLESS, "twice": "rowwise"},
    ),
}
# What is text, a flag or a key, and never NaN unannounced.
TEXT = (
    "interval",
    "reason",
    "note",
    "flag",
    "confidence",
    "better",
    "verdict",
    "strength",
    "within",
    "control",
    "convention",
    "label",
    "human_top",
)
KEYS = (
    "model",
    "dataset",
    "pair",
    "subject",
    "figure",
    "measure",
    "item",
    "bin",
    "low",
    "coverage",
    "position",
    "layer",
    "mode",
    "direction",
    "draw",
)
CHECKS = set()


def inherited(check):
    """Run a test for every statistic whose entry does not excuse it from this check."""
    CHECKS.add(check)
    names = [name for name, statistic in STATISTICS.items() if check not in statistic.excused]
    return pytest.mark.parametrize("name", names)


@functools.cache
def made(make):
    return make()


@functools.cache
def result_of(name):
    return STATISTICS[name](table_of(name))


def table_of(name):
    """The table that a statistic is called on, made once; each test gets a copy."""
    return made(STATISTICS[name].make).copy()


def assert_same(result, expected, rtol=1e-12, atol=1e-12):
    keys = [column for column in KEYS if column in expected]
    result, expected = (frame.sort_values(keys, ignore_index=True) for frame in (result, expected))
    pd.testing.assert_frame_equal(result, expected, rtol=rtol, atol=atol)


def figures(result):
    texts = [column for column in (*TEXT, *KEYS) if column in result and result[column].dtype == object]
    return result.drop(columns=texts).select_dtypes("number").astype(float)


def spoilt(name, column, value):
    """A table with one bad value in its second group, and where it is."""
    table, group = table_of(name), STATISTICS[name].group
    row = np.flatnonzero(table[group] == table[group].unique()[1])[1]
    if np.ndim(table[column].iloc[0]) == 0:
        table = table.astype({column: float})
    table[column] = table[column].where(table.index != row, value)
    return table, row


@inherited("rows")
def test_the_order_of_the_rows_does_not_matter(name):
    table = table_of(name)
    assert_same(STATISTICS[name](table.sample(frac=1, random_state=0)), result_of(name))
    assert_same(STATISTICS[name](table.iloc[::-1]), result_of(name))


@inherited("index")
def test_the_index_does_not_matter(name):
    table = table_of(name)
    again = STATISTICS[name](table.set_axis(np.zeros(len(table), dtype=int)))
    assert_same(again.reset_index(drop=True), result_of(name).reset_index(drop=True))


@inherited("input")
def test_the_table_is_left_as_it_was(name):
    table = table_of(name)
    before = pd.DataFrame(copy.deepcopy(table.to_dict("list")))
    STATISTICS[name](table)
    pd.testing.assert_frame_equal(table, before, check_dtype=False)


@inherited("items")
def test_the_names_of_items_matter_to_draws_only(name):
    """Draws go by the order of the names; nothing else depends on it, ties in any measure included."""
    expected = result_of(name)
    items = list(dict.fromkeys(table_of(name)[STATISTICS[name].item]))
    same = [f"q-{place:03d}" for place in np.argsort(np.argsort(np.array(items, dtype=str), kind="stable"))]
    assert_same(renamed(name, dict(zip(items, same, strict=True))), expected)
    drawn = [c for c in expected if c in STATISTICS[name].drawn or c.endswith(("ci_low", "ci_high"))]
    other = np.random.default_rng(0).permutation(same)
    found = renamed(name, dict(zip(items, other, strict=True)))
    assert_same(found.drop(columns=drawn), expected.drop(columns=drawn), atol=1e-10)


def renamed(name, names):
    """The statistic of a table with its items renamed, the old names put back into the result."""
    statistic, table = STATISTICS[name], table_of(name)
    result = statistic(table.assign(**{statistic.item: table[statistic.item].map(names)}))
    back = {new: old for old, new in names.items()}
    columns = [column for column in ("item", statistic.item) if column in result]
    return result.assign(**{column: result[column].map(back) for column in columns})


@inherited("groups")
def test_groups_do_not_see_each_other(name):
    alone = [STATISTICS[name](part) for _, part in table_of(name).groupby(STATISTICS[name].group, sort=False)]
    assert len(alone) == 2
    assert_same(pd.concat(alone), result_of(name))


@inherited("measures")
def test_measures_do_not_see_each_other(name):
    measures = STATISTICS[name].arguments[0]
    assert_same(pd.concat([STATISTICS[name](table_of(name), measures=[m]) for m in measures]), result_of(name))


@inherited("finite")
def test_finite_in_gives_finite_out(name):
    assert len(result_of(name)) > 0
    assert np.isfinite(figures(result_of(name))).all(axis=None)


def mapped(name, function):
    """The statistic of its measures under a map."""
    table, measures = table_of(name), STATISTICS[name].arguments[0]
    return STATISTICS[name](table.assign(**{measure: function(table[measure]) for measure in measures}))


@inherited("affine")
def test_an_added_constant_or_unit_changes_nothing(name):
    values = [column for column in ("threshold",) if column in STATISTICS[name].scaled]
    found = mapped(name, lambda values: 8 + 2 * values)
    assert_same(found.drop(columns=values), result_of(name).drop(columns=values), rtol=1e-6, atol=1e-9)


@inherited("increasing")
def test_no_increasing_map_changes_what_reads_only_the_order(name):
    values = list(STATISTICS[name].scaled)
    found = mapped(name, np.expm1)
    assert_same(found.drop(columns=values), result_of(name).drop(columns=values), rtol=1e-9, atol=1e-9)


@inherited("infinite")
def test_an_infinity_is_refused_by_row_and_item(name):
    statistic = STATISTICS[name]
    table, row = spoilt(name, statistic.number, np.inf)
    item = table[statistic.item].tolist()[row]
    message = statistic.refused.format(number=statistic.number, row=row, item=item)
    optional = "missing" in inspect.signature(statistic.function).parameters
    for options in [{"missing": missing} for missing in MISSING] if optional else [{}]:
        with pytest.raises(ValueError, match=message):
            statistic(table, **options)


@inherited("missing")
def test_a_missing_value_is_refused_by_row_and_item_or_counted(name):
    statistic = STATISTICS[name]
    column = statistic.missing or statistic.number
    table, row = spoilt(name, column, None if np.ndim(table_of(name)[column].iloc[0]) else np.nan)
    if statistic.counted is not None:
        result = statistic(table)
        assert statistic.counted(result) == statistic.counted(result_of(name)) - 1
        assert_announced(name, result)
        return
    item = table[statistic.item].tolist()[row]
    with pytest.raises(ValueError, match=rf"{column} column .* Got 1 of \d+, the first at row {row} \(item {item!r}"):
        statistic(table)
    result = statistic(table, missing="drop")
    if "n_missing" in result:
        one = result[result["n_missing"] > 0]
        assert set(one["n_missing"]) == {1}
        assert set(one[statistic.group]) == {table[statistic.group][row]}
        assert "measure" not in one or set(one["measure"].dropna()) == {column}


@inherited("twice")
def test_an_item_twice_is_refused(name):
    table, item = table_of(name), STATISTICS[name].item
    with pytest.raises(ValueError, match=rf"must hold each {item} once (per|under)"):
        STATISTICS[name](pd.concat([table, table.iloc[[3]]]))


@inherited("empty")
def test_no_rows_give_a_table_without_rows(name):
    result = STATISTICS[name](table_of(name).head(0))
    assert len(result) == 0
    assert list(result) == list(result_of(name))


def untied_people(table):
    """Responses in which no two options are equal, the same under every model."""
    items = zip(table["item"], table["n_options"], strict=True)
    return [list(np.random.default_rng(item).permutation(k) + 1.0) for item, k in items]


def assert_announced(name, result):
    undefined = figures(result).isna().any(axis=1)
    assert STATISTICS[name].says(result)[undefined].all()


@inherited("few")
@pytest.mark.parametrize("n", [1, 2])
def test_few_items_give_numbers_or_nan_that_is_announced(name, n):
    result = STATISTICS[name](STATISTICS[name].make(n))
    assert len(result) > 0
    assert not np.isinf(figures(result)).any(axis=None)
    assert_announced(name, result)


@inherited("one_class")
@pytest.mark.parametrize("right", [True, False])
def test_one_class_only_gives_numbers_or_nan_that_names_it(name, right):
    """Every answer right and people's first choice, or none."""
    table = table_of(name).assign(correct=float(right))
    if "choice" in table:
        people = untied_people(table)
        scores = [list((1 if right else -1) * np.log(responses)) for responses in people]
        choice = table["answer"] if right else (table["answer"] + 1) % table["n_options"]
        table = table.assign(choice=choice, responses=people, choice_log_probabilities=scores)
    result = STATISTICS[name](table)
    assert_announced(name, result)
    for column in STATISTICS[name].one_class:
        assert result[column].isna().all(), column
    new = figures(result).isna().any(axis=1) & figures(result_of(name)).notna().all(axis=1)
    if "reason" in result:
        assert result["reason"][new].str.contains("every answer is|every choice|right or wrong answers").all()


@inherited("constant")
def test_a_measure_without_spread_is_neutral(name):
    statistic = STATISTICS[name]
    measures = statistic.arguments[0]
    flat = dict.fromkeys((*measures, *(f"{measure}_normalized" for measure in measures)), 0.5)
    result = statistic(table_of(name).assign(**flat, choice_mass=0.8))
    assert_announced(name, result)
    assert statistic.neutral or statistic.undefined
    for column, value in statistic.neutral.items():
        np.testing.assert_allclose(result[column], result[value] if isinstance(value, str) else value, atol=1e-12)
    for column in statistic.undefined:
        assert result[column].isna().all(), column
        assert all(f"{m} is constant" in reason for m, reason in zip(result["measure"], result["reason"], strict=True))


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("agreement", ["top_answer_agreement", "kendall_distance"]),
        ("agreement_by_item", ["agreed", "kendall_distance", "rank_cs"]),
        ("human_calibration", ["rank_cs"]),
        ("uncertainty_and_agreement", ["agreement"]),
    ],
)
def test_options_tied_by_the_model_are_averaged(name, columns):
    """A tie of two options is what breaking it either way gives on average."""
    table = made(make_signals)
    scores = [np.append(np.linspace(-2, -1, k - 2), [0, 0]) for k in table["n_options"]]
    found = {}
    for case, nudge in (("tied", 0), ("first", -1e-3), ("last", 1e-3)):
        broken = [list(score + nudge * (np.arange(len(score)) == len(score) - 1)) for score in scores]
        signals = table.assign(responses=untied_people(table), choice_log_probabilities=broken)
        found[case] = STATISTICS[name](signals)[columns].to_numpy()
    assert not np.allclose(found["first"], found["last"])
    np.testing.assert_allclose(found["tied"], (found["first"] + found["last"]) / 2, rtol=0, atol=1e-12)


@inherited("table")
def test_what_is_no_table_is_refused(name):
    statistic = STATISTICS[name]
    with pytest.raises(TypeError, match=rf" of {statistic.function.__name__} must be a pandas.DataFrame. Got list"):
        statistic.function([1], *statistic.arguments, **statistic.settings())


@inherited("column")
def test_an_absent_column_is_named(name):
    statistic = STATISTICS[name]
    column = statistic.needs or statistic.number
    with pytest.raises(ValueError, match=rf"of {statistic.function.__name__} must .*{column}"):
        statistic(table_of(name).rename(columns={column: f"{column}s"}))


@inherited("rng")
def test_a_seed_is_no_generator(name):
    function = STATISTICS[name].function.__name__
    with pytest.raises(TypeError, match=f"rng parameter of {function} must be a numpy.random.Generator. Got int"):
        STATISTICS[name](table_of(name), rng=0)


def test_excuses_are_words_for_checks_that_there_are():
    for statistic in STATISTICS.values():
        assert set(statistic.excused) <= CHECKS
        assert all(word.isalpha() for word in statistic.excused.values())


# Functions from tables to tables that take no figure.
OTHERS = {"absent_measures": "lists", "without": "selects"}


def functions_of_tables():
    """Public functions from a table to a table, but for modules that put the tables of a study together or in words."""
    composing = {"study_tables", "findings", "phrases", "clauses"}
    for path in sorted((ROOT / "analysis").glob("*.py")):
        if path.stem in composing or path.stem.endswith("sentences"):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.args.args:
                first, result = (ast.unparse(part) for part in (node.args.args[0].annotation, node.returns))
                if first == result == "pd.DataFrame":
                    yield node.name


def test_every_function_from_table_to_table_stands_in_the_table():
    listed = {statistic.function.__name__ for statistic in STATISTICS.values()} - {"human_targets"}
    assert listed | set(OTHERS) == set(functions_of_tables())
    assert not listed & set(OTHERS)

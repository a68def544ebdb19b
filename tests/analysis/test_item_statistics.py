import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from doubtlens.analysis import agreement, calibration, ece
from doubtlens.analysis.calibration_error import mce
from doubtlens.analysis.human_calibration import human_calibration
from doubtlens.analysis.item_columns import Items, Reading
from doubtlens.analysis.item_statistics import (
    FIGURES,
    Cell,
    better_side,
    build,
    figure_names,
    known_measures,
    lacking_column,
    needed,
)
from doubtlens.analysis.jsd_shift import jsd_shift
from doubtlens.analysis.probe_statistics import probe_twin
from doubtlens.analysis.resamples import Resamples
from doubtlens.analysis.smooth_calibration import smece

MEASURES = ("choice_entropy_normalized", "choice_probability")
CELLS = [
    Cell(name, measure)
    for name, figure in FIGURES.items()
    for measure in ([None] if figure.family == "run" else MEASURES)
    if figure.family != "confidence" or measure == "choice_probability"
]


def make_run(n=40, seed=0):
    """Rows of one run, with ties, several numbers of options and people's answers."""
    rng = np.random.default_rng(seed)
    options = rng.integers(2, 6, n)
    responses = [(rng.integers(0, 9, k) + np.eye(k)[0]).tolist() for k in options]
    logs = [np.log(rng.dirichlet(np.ones(k))).tolist() for k in options]
    shares = [np.array(r) / sum(r) for r in responses]
    entropy = np.array([stats.entropy(share) for share in shares]) / np.log(options)
    choice = np.array([int(np.argmax(row)) for row in logs])
    answer = rng.integers(0, options)
    mass = rng.uniform(0.8, 1, n)
    return pd.DataFrame(
        {
            "item": [f"q{number:03d}" for number in range(n)],
            "n_options": options,
            "responses": responses,
            "choice_log_probabilities": logs,
            "human_entropy_normalized": entropy,
            "choice": choice,
            "answer": answer,
            "correct": (choice == answer).astype(float),
            "choice_entropy_normalized": [stats.entropy(np.exp(row)) / np.log(len(row)) for row in logs],
            "choice_probability": [np.exp(max(row)) for row in logs] * mass,
            "choice_mass": mass,
            "probe_human_entropy_normalized": entropy + rng.normal(0, 0.2, n),
            "probe_correct": np.clip(0.5 + 0.2 * (choice == answer) + rng.normal(0, 0.2, n), 0.01, 0.99).round(1),
        }
    ).round({"choice_entropy_normalized": 1})


def value_of(frame, figure, measure=None, **reading):
    cell = Cell(figure, measure)
    built = build(Items(frame, Reading(**reading)), [cell])
    return built.observed().get(cell, built.reasons.get(cell))


@pytest.fixture(scope="module")
def frame():
    return make_run()


@pytest.fixture(scope="module")
def values(frame):
    return build(Items(frame, Reading()), CELLS).observed()


def test_every_figure_has_a_value(values):
    assert set(values) == set(CELLS)
    assert np.isfinite(list(values.values())).all()


def test_figures_of_the_run_are_those_of_the_tables(frame, values):
    whole = agreement(frame).iloc[0]
    human = human_calibration(frame, rng=np.random.default_rng(0), n_bootstrap=2).iloc[0]
    assert values[Cell("accuracy", None)] == frame["correct"].mean()
    for name in ("top_answer_agreement", "kendall_distance"):
        assert values[Cell(name, None)] == pytest.approx(whole[name], rel=1e-12)
    for name in ("dist_ce", "rank_cs", "ent_ce"):
        assert values[Cell(name, None)] == pytest.approx(human[name], rel=1e-12)


def test_figures_of_the_probes_are_those_of_scipy_and_scikit_learn(frame, values):
    human = frame["probe_human_entropy_normalized"], frame["human_entropy_normalized"]
    assert values[Cell("probe_pearson", None)] == pytest.approx(stats.pearsonr(*human).statistic, rel=1e-10)
    assert values[Cell("probe_spearman", None)] == pytest.approx(stats.spearmanr(*human).statistic, rel=1e-10)
    assert values[Cell("probe_auroc", None)] == pytest.approx(roc_auc_score(frame["correct"], frame["probe_correct"]))
    # A probe is compared with its own target, whatever the measures are compared with.
    other = frame.assign(human_entropy=frame["human_entropy_normalized"] * np.log(frame["n_options"]))
    assert value_of(other, "probe_pearson", human="human_entropy") == values[Cell("probe_pearson", None)]
    for figure, measure in (("human_pearson", "probe_human_entropy_normalized"), ("auroc", "probe_correct")):
        twin = {"human_pearson": "probe_pearson", "auroc": "probe_auroc"}[figure]
        assert values[Cell(twin, None)] == pytest.approx(value_of(frame, figure, measure), rel=1e-12)
        assert probe_twin(figure, measure, Reading()) == twin
        assert probe_twin(figure, "choice_entropy", Reading()) is None
    assert probe_twin("human_pearson", "probe_human_entropy_normalized", Reading(human="human_entropy")) is None


@pytest.mark.parametrize(("measure", "sign"), [(MEASURES[0], 1), (MEASURES[1], -1)])
def test_figures_of_a_measure_are_those_of_scipy_and_scikit_learn(frame, values, measure, sign):
    x, human, right = frame[measure], frame["human_entropy_normalized"], frame["correct"]
    ranks = np.array([stats.rankdata(column) for column in (x, human, frame["n_options"])])
    residuals = [row - np.polyval(np.polyfit(ranks[2], row, 1), ranks[2]) for row in ranks[:2]]
    table = calibration(frame, [measure], rng=np.random.default_rng(0), n_bootstrap=2).iloc[0]
    shift = jsd_shift(frame, [measure], n_permutations=2, rng=np.random.default_rng(0)).iloc[0]
    order = np.argsort(sign * x.to_numpy(), kind="stable")
    expected = {
        "mean": x.mean(),
        "human_spearman": stats.spearmanr(x, human).statistic,
        "human_pearson": stats.pearsonr(x, human).statistic,
        "human_kendall": stats.kendalltau(x, human).statistic,
        "human_partial": stats.pearsonr(*residuals).statistic,
        "correct_spearman": stats.spearmanr(x, right).statistic,
        "auroc": roc_auc_score(1 - right, sign * x),
        "auprc": average_precision_score(1 - right, sign * x),
        "ece_rank": ece(x, right, scheme="rank", direction=sign),
        "jsd_shift": shift["statistic"],
    }
    if x.is_unique:
        expected["aurc"] = np.mean(np.cumsum(1 - right.to_numpy()[order]) / np.arange(1, len(x) + 1))
    for name, value in expected.items():
        assert values[Cell(name, measure)] == pytest.approx(value, rel=1e-10), name
    assert values[Cell("auroc", measure)] == pytest.approx(table["auroc"], rel=1e-12)
    assert values[Cell("auarc", measure)] == pytest.approx(1 - values[Cell("aurc", measure)], rel=1e-12)
    gain = values[Cell("auarc", measure)] - right.mean()
    best = np.mean(np.minimum(1, right.sum() / np.arange(1, len(x) + 1))) - right.mean()
    assert values[Cell("prr", measure)] == pytest.approx(gain / best, rel=1e-10)


def test_figures_of_a_confidence_are_those_of_the_plain_functions(frame, values):
    stated, right = frame["choice_probability"] / frame["choice_mass"], frame["correct"]
    expected = {
        "ece_width": ece(stated, right),
        "ece_mass": ece(stated, right, scheme="mass"),
        "ece_sweep": ece(stated, right, scheme="sweep"),
        "mce": mce(stated, right),
        "brier": brier_score_loss(right, stated),
        "nll": log_loss(right, stated),
    }
    for name, value in expected.items():
        assert values[Cell(name, "choice_probability")] == pytest.approx(value, rel=1e-10), name
    assert values[Cell("smece", "choice_probability")] == pytest.approx(smece(stated, right), rel=1e-4)


def test_a_draw_is_the_figure_of_the_repeated_items(frame):
    built = build(Items(frame, Reading()), CELLS)
    draws = built.by_cell(Resamples(len(frame), 4, 5).draw(built.statistics))
    (counts,) = Resamples(len(frame), 4, 5).blocks()
    for draw in range(4):
        again = frame.iloc[np.repeat(np.arange(len(frame)), counts[:, draw].astype(int))]
        again = again.assign(item=[f"q{number:03d}" for number in range(len(again))])
        expected = build(Items(again, Reading()), CELLS).observed()
        for cell in CELLS:
            assert draws[cell][draw] == pytest.approx(expected[cell], rel=1e-9, abs=1e-12), cell


def test_the_order_of_the_rows_does_not_matter(frame, values):
    turned = build(Items(frame.iloc[::-1], Reading()), CELLS).observed()
    assert {cell: turned[cell] for cell in CELLS} == pytest.approx(values, rel=1e-12)


def test_cells_that_share_a_statistic_are_the_same_alone(frame, values):
    for cell in CELLS:
        assert build(Items(frame, Reading()), [cell]).observed() == {cell: pytest.approx(values[cell], rel=1e-12)}


@pytest.mark.parametrize(
    ("change", "figure", "measure", "reason"),
    [
        ({"correct": 1.0}, "auroc", MEASURES[0], "every answer is right"),
        ({"correct": 1.0}, "correct_spearman", MEASURES[0], "every answer is right"),
        ({"correct": 1.0}, "auprc", MEASURES[0], "every answer is right"),
        ({"correct": 0.0}, "prr", MEASURES[0], "every answer is wrong"),
        ({MEASURES[0]: 0.5}, "correct_spearman", MEASURES[0], "choice_entropy_normalized is constant"),
        ({MEASURES[0]: 0.5}, "ece_rank", MEASURES[0], "choice_entropy_normalized is constant"),
        ({MEASURES[0]: 0.5}, "jsd_shift", MEASURES[0], "choice_entropy_normalized is constant"),
        ({MEASURES[0]: 0.5}, "human_kendall", MEASURES[0], "choice_entropy_normalized is constant"),
        ({"human_entropy_normalized": 0.5}, "human_pearson", MEASURES[0], "human_entropy_normalized is constant"),
        ({"n_options": np.tile([2, 5], 20), MEASURES[0]: np.tile([0.2, 0.5], 20)}, "human_partial", MEASURES[0],
         "choice_entropy_normalized is determined by the control"),
        ({"correct": 1.0}, "probe_auroc", None, "every answer is right"),
        ({"probe_human_entropy_normalized": 0.4}, "probe_pearson", None,
         "probe_human_entropy_normalized is constant"),
        ({"human_entropy_normalized": 0.4}, "probe_spearman", None, "human_entropy_normalized is constant"),
        ({"choice_mass": 0.0}, "brier", "choice_probability", "choice_mass is 0 for 40 items"),
        ({"choice_probability": 1.0, "choice_mass": 1.0, "correct": np.tile([1, 0], 20)}, "nll", "choice_probability",
         "infinite: 20 answers had no chance of being as they are"),
    ],
)  # fmt: skip
def test_undefined_figures_say_why(frame, change, figure, measure, reason):
    assert value_of(frame.assign(**change), figure, measure).startswith(reason)


def test_a_constant_measure_discriminates_like_chance(frame):
    constant = frame.assign(**{MEASURES[0]: 0.5})
    assert value_of(constant, "auroc", MEASURES[0]) == 0.5
    assert value_of(constant, "prr", MEASURES[0]) == 0
    assert value_of(constant, "aurc", MEASURES[0]) == pytest.approx(1 - frame["correct"].mean())


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_items_give_a_figure_or_a_reason(n):
    built = build(Items(make_run().head(n), Reading()), CELLS)
    found = built.observed()
    assert all((cell in found) != (cell in built.reasons) for cell in CELLS)
    assert np.isfinite(list(found.values())).all()
    few = built.reasons[Cell("human_spearman", MEASURES[0])]
    assert few == (f"n = {n} is too few (3 items are needed)" if n else
                   "no item has choice_entropy_normalized and human_entropy_normalized")  # fmt: skip


def test_a_control_that_does_not_vary_is_noted(frame):
    cell = Cell("human_partial", MEASURES[0])
    built = build(Items(frame.assign(n_options=4), Reading()), [cell])
    assert built.notes[cell] == "n_options does not vary: human_partial is human_spearman"
    assert built.observed()[cell] == pytest.approx(value_of(frame, "human_spearman", MEASURES[0]), rel=1e-12)


def test_a_normalised_entropy_may_stand_in_for_a_confidence(frame):
    reading = Reading(as_confidence=True)
    assert [reading.states_confidence(name) for name in (*MEASURES, "choice_mass", "own")] == [True, True, False, False]
    assert not Reading().states_confidence(MEASURES[0])
    expected = ece(frame[MEASURES[0]], frame["correct"], direction=1, as_confidence=True)
    assert value_of(frame, "ece_width", MEASURES[0], as_confidence=True) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("figure", "measure", "side"),
    [
        ("human_spearman", "choice_entropy", 1),
        ("human_spearman", "choice_probability", -1),
        ("human_spearman", "own", 1),
        ("human_spearman", "unheard", 0),
        ("correct_spearman", "choice_entropy", -1),
        ("correct_spearman", "choice_probability", 1),
        ("auroc", "choice_probability", 1),
        ("aurc", "choice_entropy", -1),
        ("mean", "choice_entropy", 0),
        ("accuracy", None, 1),
        ("ent_ce", None, 0),
        ("probe_pearson", None, 1),
        ("probe_auroc", None, 1),
        ("brier", "choice_probability", -1),
    ],
)
def test_which_side_is_good(figure, measure, side):
    assert better_side(Cell(figure, measure), Reading(directions={"own": 1})) == side


def test_a_measure_that_mirrors_another_mirrors_its_good_side(frame):
    # Certainty = 1 - uncertainty, hence every figure that has a good side is as good, whichever of the two states it.
    both = frame.assign(doubt=frame[MEASURES[1]], trust=1 - frame[MEASURES[1]])
    reading = Reading(directions={"doubt": 1, "trust": -1})
    for name, figure in FIGURES.items():
        if figure.family == "measure" and figure.better:
            values = [build(Items(both, reading), [Cell(name, one)]).observed()[Cell(name, one)]
                      for one in ("doubt", "trust")]  # fmt: skip
            sides = [better_side(Cell(name, one), reading) for one in ("doubt", "trust")]
            assert values[0] * sides[0] == pytest.approx(values[1] * sides[1], abs=1e-9), name


def test_names_of_figures():
    assert figure_names(["brier", "accuracy"], caller="f") == ["accuracy", "brier"]
    default = figure_names(None, caller="f")
    assert set(FIGURES) - set(default) == {"human_kendall", "auarc", "jsd_shift", "ece_sweep", "smece"}
    with pytest.raises(ValueError, match=r"figures parameter of f must name figures of FIGURES. Got 'auroq'.*'auroc'"):
        figure_names(["auroq"], caller="f")
    for none in ("auroc", []):
        with pytest.raises(ValueError, match="figures parameter of f must be a list of names"):
            figure_names(none, caller="f")


def test_what_a_table_allows(frame):
    assert known_measures(frame.assign(probe_correct=0.5)) == [
        "choice_entropy_normalized", "choice_probability", "choice_mass",
        "probe_human_entropy_normalized", "probe_correct",
    ]  # fmt: skip
    assert all(lacking_column(name, Reading(), frame) is None for name in FIGURES)
    for figure, column in (
        ("accuracy", "correct"),
        ("human_partial", "n_options"),
        ("jsd_shift", "answer"),
        ("rank_cs", "choice_log_probabilities"),
        ("probe_spearman", "probe_human_entropy_normalized"),
        ("probe_auroc", "probe_correct"),
    ):
        assert lacking_column(figure, Reading(), frame.drop(columns=column)) == column
    assert lacking_column("human_partial", Reading(control=None), frame) == "control"
    less = frame.drop(columns=["responses", "choice_log_probabilities"])
    assert lacking_column("top_answer_agreement", Reading(), less) == "responses"
    assert lacking_column("top_answer_agreement", Reading(), less.assign(human_top=0)) is None
    assert lacking_column("kendall_distance", Reading(), less.assign(human_top=0)) == "responses"


def test_what_an_item_must_have(frame):
    items = Items(frame, Reading())
    expected = {
        Cell("accuracy", None): ["correct"],
        Cell("rank_cs", None): ["responses"],
        Cell("probe_pearson", None): ["probe_human_entropy_normalized", "human_entropy_normalized"],
        Cell("probe_auroc", None): ["probe_correct", "correct"],
        Cell("mean", MEASURES[0]): [MEASURES[0]],
        Cell("human_partial", MEASURES[0]): [MEASURES[0], "human_entropy_normalized", "n_options"],
        Cell("jsd_shift", MEASURES[0]): [MEASURES[0], "choice", "answer"],
        Cell("brier", MEASURES[1]): [MEASURES[1], "correct", "choice_mass"],
    }
    assert {cell: list(needed(items, cell)) for cell in expected} == expected
    modal = Items(frame.assign(human_top=0), Reading())
    assert list(needed(modal, Cell("top_answer_agreement", None))) == ["human_top"]


def test_bad_columns_are_named_by_row_and_item(frame):
    with pytest.raises(
        ValueError, match=r"correct column given to Items must be 1 \(right\).* Got 2.0 at row 0 \(item"
    ):
        value_of(frame.assign(correct=2.0), "accuracy")
    with pytest.raises(ValueError, match=r"own column given to Items must be finite. Got inf at row 0"):
        value_of(frame.assign(own=np.inf), "mean", "own")
    with pytest.raises(ValueError, match=r"must name a measure, as measure_table\(\) lists them. Got 'own'"):
        value_of(frame.assign(own=frame["correct"] + 0.5), "auroc", "own")


def test_values_of_an_item_stay_with_it(frame):
    turned = Items(frame.iloc[::-1], Reading())
    for figure in ("agreed", "kendall_distance"):
        plain = Items(frame, Reading()).agreement(figure)
        assert turned.agreement(figure)[::-1].tolist() == plain.tolist()
        present = np.arange(len(frame)) % 3 > 0
        assert turned.take(present[::-1]).agreement(figure)[::-1].tolist() == plain[present].tolist()
    assert turned.column("correct")[::-1].tolist() == frame["correct"].tolist()


def test_items_at_the_mean_are_dealt_by_the_seed(frame):
    # 0.5 is the mean: the coins decide where these items count.
    even = frame.assign(doubt=np.tile([0.0, 0.5, 0.5, 1.0], 10))
    found = [value_of(even, "jsd_shift", "doubt", directions={"doubt": 1}, seed=seed) for seed in (1, 1, 2, 3)]
    assert found[0] == found[1]
    assert len(set(found)) == 3

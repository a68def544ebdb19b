import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from doubtlens.analysis.intervals import draw_seed
from doubtlens.analysis.item_statistics import FIGURES
from doubtlens.analysis.resamples import Resamples
from doubtlens.analysis.tuning import difference_p, tuning_effect
from doubtlens.analysis.tuning_pairs import tuning_over_pairs

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "coane_five_pairs.parquet"
MEASURES = ["choice_entropy", "choice_probability"]
PAIRS = [("a", "a-it")]


def make_run(model, seed, n=30, **keys):
    """One run: what is asked is the same for every seed, what is answered is not."""
    asked, own = np.random.default_rng(99), np.random.default_rng(seed)
    options = asked.integers(2, 6, n)
    responses = [(asked.integers(0, 9, k) + np.eye(k)[0]).tolist() for k in options]
    answer = asked.integers(0, options)
    human = [stats.entropy(row) / np.log(len(row)) for row in responses]
    logs = [np.log(own.dirichlet(np.ones(k))).tolist() for k in options]
    choice = np.where(own.random(n) < 0.5, answer, [int(np.argmax(row)) for row in logs])
    return pd.DataFrame(
        {
            "model": model,
            "dataset": "d",
            **keys,
            "item": [f"q{number:03d}" for number in range(n)],
            "subject": np.array(["art", "law", "war"])[np.arange(n) % 3],
            "n_options": options,
            "responses": responses,
            "answer": answer,
            "human_entropy_normalized": human,
            "choice_log_probabilities": logs,
            "choice": choice,
            "correct": (choice == answer).astype(float),
            "choice_entropy": np.round([stats.entropy(np.exp(row)) for row in logs], 1),
            "choice_probability": own.uniform(0.2, 0.8, n),
            "choice_mass": own.uniform(0.8, 1, n),
            "probe_human_entropy_normalized": np.array(human) + own.normal(0, 0.3, n),
            "probe_correct": own.uniform(0.3, 0.7, n),
        }
    )


def make_table(*seeds, models=("a", "a-it"), **options):
    runs = zip(models, seeds or (1, 2), strict=True)
    return pd.concat([make_run(model, seed, **options) for model, seed in runs], ignore_index=True)


def effect(table, pairs=PAIRS, **options):
    options = {"measures": MEASURES, "n_bootstrap": 40} | options
    return tuning_effect(table, pairs, **({"rng": np.random.default_rng(5)} | options))


def row_of(result, figure, measure=None):
    same = result["measure"].isna() if measure is None else result["measure"] == measure
    (row,) = result[(result["figure"] == figure) & same].to_dict("records")
    return row


def assert_same(result, expected):
    order = ["pair", "figure", "measure"]
    result, expected = (frame.sort_values(order).reset_index(drop=True) for frame in (result, expected))
    pd.testing.assert_frame_equal(result, expected, rtol=1e-10, atol=1e-12)


@pytest.fixture(scope="module")
def result():
    return effect(make_table())


def test_an_accuracy_by_hand():
    table = pd.DataFrame({"model": list("aaaabbbb"), "item": [1, 2, 3, 4] * 2, "correct": [1.0, 0, 0, 1, 1, 1, 1, 1]})
    result = tuning_effect(table, [("a", "b")], rng=np.random.default_rng(0), n_bootstrap=4000)
    (row,) = result.to_dict("records")
    assert (row["pair"], row["figure"], row["n"], row["base_value"], row["instruct_value"]) == (
        "a",
        "accuracy",
        4,
        0.5,
        1,
    )
    assert row["difference"] == 0.5
    # The share of items 2 and 3 among four draws: binomial(4, 1/2) / 4, with sd 1/4 and P(0) = 1/16.
    assert row["se"] == pytest.approx(0.25, abs=0.01)
    assert (row["ci_low"], row["ci_high"]) == (0, 1)
    # Two standard errors.
    assert row["p"] == pytest.approx(2 * stats.norm.sf(2), abs=0.005)
    assert row["better"] is None


def test_every_default_figure_is_there_and_finite(result):
    default = [name for name, figure in FIGURES.items() if figure.default]
    assert list(dict.fromkeys(result["figure"])) == default
    numbers = ["n", "base_value", "instruct_value", "difference", "se", "ci_low", "ci_high", "p"]
    assert np.isfinite(result[numbers].astype(float)).all(axis=None)
    assert result["reason"].isna().all()
    assert (result["interval"] == "95% percentile, items").all()
    confidences = result[[FIGURES[name].family == "confidence" for name in result["figure"]]]
    assert set(confidences["measure"]) == {"choice_probability"}


def test_what_a_figure_of_the_probes_says_is_not_said_twice():
    table = make_table()
    found = effect(table, measures=None, n_bootstrap=2)
    probes = found[found["measure"].isin(["probe_human_entropy_normalized", "probe_correct"])]
    told = set(probes[["figure", "measure"]].itertuples(index=False, name=None))
    assert ("human_spearman", "probe_correct") in told
    assert not told & {
        ("human_pearson", "probe_human_entropy_normalized"),
        ("human_spearman", "probe_human_entropy_normalized"),
        ("auroc", "probe_correct"),
    }
    # By name it is made, and so it is where the measures are compared with another column.
    named = effect(table, measures=["probe_correct"], n_bootstrap=2)
    values = [row_of(named, "auroc", "probe_correct"), row_of(named, "probe_auroc")]
    assert values[0]["difference"] == pytest.approx(values[1]["difference"], rel=1e-12)
    other = effect(table.assign(doubt=table["human_entropy_normalized"]), measures=None, human="doubt", n_bootstrap=2)
    assert row_of(other, "human_pearson", "probe_human_entropy_normalized")["n"] == 30


def test_a_probe_that_one_model_lacks_is_told():
    table = make_table()
    table.loc[table["model"] == "a-it", "probe_correct"] = np.nan
    row = row_of(effect(table, missing="drop"), "probe_auroc")
    assert np.isnan(row["difference"])
    assert row["reason"] == "instruct: no item has probe_correct"
    found = effect(table.assign(probe_correct=np.nan), missing="drop")
    assert "probe_auroc" not in set(found["figure"])


def test_the_paired_bootstrap_is_a_loop_over_shared_resamples(result):
    base, instruct = (make_run(model, seed) for model, seed in (("a", 1), ("a-it", 2)))
    (counts,) = Resamples(30, 40, draw_seed(np.random.default_rng(5), caller="test")).blocks()
    figures = {
        ("accuracy", None): lambda run: run["correct"].mean(),
        ("mean", "choice_entropy"): lambda run: run["choice_entropy"].mean(),
        ("human_spearman", "choice_entropy"): lambda run: (
            stats.spearmanr(run["choice_entropy"], run["human_entropy_normalized"]).statistic
        ),
        ("auroc", "choice_probability"): lambda run: roc_auc_score(run["correct"], run["choice_probability"]),
        ("probe_pearson", None): lambda run: (
            stats.pearsonr(run["probe_human_entropy_normalized"], run["human_entropy_normalized"]).statistic
        ),
        ("probe_auroc", None): lambda run: roc_auc_score(run["correct"], run["probe_correct"]),
        ("brier", "choice_probability"): lambda run: np.mean(
            (run["choice_probability"] / run["choice_mass"] - run["correct"]) ** 2
        ),
    }
    for name, figure in figures.items():
        draws = []
        for drawn in counts.T.astype(int):
            rows = np.repeat(np.arange(30), drawn)
            draws.append(figure(instruct.iloc[rows]) - figure(base.iloc[rows]))
        draws = np.array(draws)
        row = row_of(result, *name)
        assert row["difference"] == pytest.approx(figure(instruct) - figure(base), rel=1e-10)
        assert row["se"] == pytest.approx(draws.std(ddof=1), rel=1e-10)
        assert [row["ci_low"], row["ci_high"]] == pytest.approx(np.quantile(draws, [0.025, 0.975]), rel=1e-10)
        z = (figure(instruct) - figure(base)) / draws.std(ddof=1)
        assert row["p"] == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-9)


def test_pairing_narrows_the_interval():
    # Two models that err on the same items differ little however hard the items are.
    table = make_table(1, 1)
    flipped = np.flatnonzero(table["model"] == "a-it")[:2]
    table.loc[flipped, "correct"] = 1 - table.loc[flipped, "correct"]
    row = row_of(effect(table), "accuracy")
    alone = np.sqrt(2 * row["base_value"] * (1 - row["base_value"]) / 30)
    assert row["se"] < alone / 2


def test_a_model_against_its_copy_differs_by_nothing():
    result = effect(make_table(1, 1))
    for column in ("difference", "se", "ci_low", "ci_high"):
        assert (result[column] == 0).all()
    assert (result["p"] == 1).all()
    assert result["better"].isna().all()


def test_turning_the_pair_round_turns_the_signs(result):
    turned = effect(make_table(), [("a-it", "a")])
    assert turned["difference"].to_numpy() == pytest.approx(-result["difference"].to_numpy())
    assert turned["ci_low"].to_numpy() == pytest.approx(-result["ci_high"].to_numpy())
    assert turned["p"].to_numpy() == pytest.approx(result["p"].to_numpy())
    swap = {"base": "instruct", "instruct": "base", None: None}
    assert turned["better"].tolist() == [
        swap[one] for one in result["better"].astype(object).where(result["better"].notna(), None)
    ]


def test_the_better_model_is_named_by_what_is_good_for_the_figure():
    table = make_table(1, 1)
    tuned = table["model"] == "a-it"
    right = table["correct"].astype(bool)
    # The tuned model is always right where the other is, and its measures are clearer.
    table.loc[tuned, "correct"] = np.where(np.arange(tuned.sum()) % 4 == 0, 0.0, 1.0)
    table.loc[tuned, "choice_entropy"] = 2 - table.loc[tuned, "correct"]
    table.loc[~tuned, "choice_entropy"] = 1.0 + right[~tuned] + np.arange(30) / 100
    table.loc[tuned, "choice_probability"] = table.loc[tuned, "correct"] * 0.5 + 0.2
    table.loc[~tuned, "choice_probability"] = 0.7 - 0.5 * right[~tuned] - np.arange(30) / 1000
    result = effect(table.assign(choice_mass=1.0), n_bootstrap=200)
    for figure in ("auroc", "correct_spearman", "aurc", "brier", "ece_width", "prr"):
        rows = result[result["figure"] == figure]
        assert (rows["better"] == "instruct").all(), figure
    signs = result[result["figure"] == "correct_spearman"].set_index("measure")["difference"]
    assert signs["choice_entropy"] < 0 < signs["choice_probability"]
    assert result[result["figure"] == "mean"]["better"].isna().all()


def test_rows_columns_and_other_models_do_not_matter(result):
    table = make_table()
    assert_same(effect(table.sample(frac=1, random_state=1)), result)
    assert_same(effect(table.set_index(np.zeros(len(table)))), result)
    assert_same(effect(pd.concat([make_run("other", 7), table])), result)
    assert_same(effect(table[table.columns[::-1]]), result)


def test_two_pairs_are_each_as_alone(result):
    more = pd.concat([make_table(), make_table(3, 4, models=("b", "b-it"))])
    both = effect(more, {"a": ("a", "a-it"), "second": ("b", "b-it")})
    assert_same(both[both["pair"] == "a"], result)
    assert set(both["pair"]) == {"a", "second"}
    # The same items and the same seed: the resamples are shared.
    swapped = effect(more, [("b", "b-it"), ("a", "a-it")])
    assert_same(swapped[swapped["pair"] == "a"], result)


def test_a_measure_alone_is_as_beside_others(result):
    alone = effect(make_table(), measures=MEASURES[:1], figures=["auroc"])
    pd.testing.assert_series_equal(
        alone.iloc[0], pd.Series(row_of(result, "auroc", MEASURES[0])), check_names=False, check_dtype=False
    )


def test_items_of_one_model_only_are_counted_and_listed():
    table = make_table()
    less = table[~((table["model"] == "a-it") & (table["item"].isin(["q003", "q007"]))) & ~(
        (table["model"] == "a") & (table["item"] == "q011"))]  # fmt: skip
    result = effect(less)
    assert (result["n"] == 27).all()
    assert (result["n_base_only"] == 2).all()
    assert (result["n_instruct_only"] == 1).all()
    unmatched = pd.DataFrame(result.attrs["unmatched"])
    assert unmatched[["pair", "dataset", "item", "only_in"]].to_numpy().tolist() == [
        ["a", "d", "q003", "base"], ["a", "d", "q007", "base"], ["a", "d", "q011", "instruct"]
    ]  # fmt: skip
    shared = table[~table["item"].isin(["q003", "q007", "q011"])]
    counts = ["n_base_only", "n_instruct_only"]
    assert_same(result.drop(columns=counts), effect(shared).drop(columns=counts))


def test_results_with_unmatched_items_can_be_joined_and_saved(tmp_path):
    table = make_table()
    parts = [effect(table[table.index != row], figures=["accuracy"]) for row in (3, 4)]
    joined = pd.concat(parts)
    joined.to_parquet(tmp_path / "effects.parquet")
    assert len(pd.read_parquet(tmp_path / "effects.parquet")) == 2


def test_prompts_may_differ_if_they_need_not_match():
    table = pd.concat([make_run("a", 1, prompt="plain"), make_run("a-it", 2, prompt="chat")])
    with pytest.raises(
        ValueError, match=r"share dataset x prompt. Got 'a' with dataset 'd', prompt 'plain' and 'a-it'"
    ):
        effect(table)
    result = effect(table, match_on=["dataset"])
    assert set(result["prompt"]) == {"plain -> chat"}
    assert_same(result.drop(columns="prompt"), effect(make_table()))


def test_every_combination_of_keys_is_a_group():
    one, other = make_table(prompt="p", scoring="s"), make_table(3, 4, prompt="p", scoring="t")
    result = effect(pd.concat([one, other]), figures=["accuracy", "auroc"])
    assert list(result.columns[:7]) == ["pair", "base", "instruct", "dataset", "prompt", "scoring", "figure"]
    assert_same(result[result["scoring"] == "t"], effect(other, figures=["accuracy", "auroc"]))


def test_a_missing_value_is_refused_or_dropped_on_both_sides():
    table = make_table()
    table.loc[4, "choice_entropy"] = np.nan
    table.loc[35, "choice_entropy"] = np.nan
    with pytest.raises(
        ValueError, match=r"choice_entropy column given to tuning_effect .* Got 1 of 30, the first at row 4"
    ):
        effect(table)
    result = effect(table, missing="drop")
    there = result[result["measure"] == "choice_entropy"]
    assert (there["n"] == 28).all()
    assert (there["n_missing"] == 2).all()
    assert (result[result["measure"] != "choice_entropy"]["n_missing"] == 0).all()
    without = effect(table.drop(index=[4, 5, 34, 35]), measures=["choice_entropy"])
    expected = row_of(without, "human_spearman", "choice_entropy")
    found = row_of(result, "human_spearman", "choice_entropy")
    for column in ("base_value", "instruct_value", "se", "ci_low", "p"):
        assert found[column] == pytest.approx(expected[column], rel=1e-10)


def test_missing_answers_of_people_are_refused_or_dropped():
    table = make_table()
    table["responses"] = table["responses"].where(~table["item"].isin(["q003"]), None)
    with pytest.raises(ValueError, match=r"responses column given to tuning_effect .* Got 1 of 30"):
        effect(table, figures=["dist_ce"])
    assert effect(table, figures=["dist_ce"], missing="drop")["n"].tolist() == [29]


def test_what_a_run_lacks_altogether_is_left_out_unless_named():
    table = pd.concat([make_table(), make_table().assign(dataset="opinions", correct=np.nan, choice_mass=np.nan)])
    result = effect(table)
    opinions = result[result["dataset"] == "opinions"]
    assert "accuracy" not in set(opinions["figure"])
    assert "brier" not in set(opinions["figure"])
    assert "human_spearman" in set(opinions["figure"])
    assert opinions["reason"].isna().all()
    named = effect(table, figures=["accuracy", "auroc"], measures=["choice_entropy"])
    named = named[named["dataset"] == "opinions"]
    assert named["reason"].tolist() == ["no item has correct"] * 2
    assert (named["n"] == 0).all()
    absent = make_table().assign(total_entropy=np.nan)
    assert "total_entropy" not in set(effect(absent, measures=None)["measure"])
    assert "total_entropy" in set(effect(absent, measures=["total_entropy"])["measure"])


def test_a_figure_that_one_of_the_two_lacks_altogether_says_which():
    table = make_table()
    table.loc[table["model"] == "a-it", "correct"] = np.nan
    row = row_of(effect(table), "accuracy")
    assert row["reason"] == "instruct: no item has correct"
    assert np.isnan([row["base_value"], row["difference"], row["p"]]).all()


def test_a_figure_undefined_in_one_of_the_two_keeps_the_other_value():
    table = make_table()
    table.loc[table["model"] == "a-it", "correct"] = 1.0
    table.loc[table["model"] == "a", "choice_entropy"] = 0.5
    result = effect(table)
    row = row_of(result, "auroc", "choice_probability")
    assert row["reason"] == "instruct: every answer is right"
    assert np.isfinite(row["base_value"])
    assert np.isnan([row["instruct_value"], row["difference"], row["se"], row["ci_low"], row["p"]]).all()
    assert row["better"] is None
    assert row_of(result, "correct_spearman", "choice_entropy")["reason"] == (
        "base: choice_entropy is constant; instruct: every answer is right"
    )
    assert row_of(result, "aurc", "choice_entropy")["reason"] is None
    announced = result["reason"].notna()
    assert (result["difference"].isna() == announced).all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_items_give_numbers_or_a_reason(n):
    result = effect(make_table(n=n))
    figures = result[["base_value", "instruct_value", "difference", "se", "ci_low", "ci_high", "p"]].astype(float)
    assert (figures.notna().all(axis=1) | result["reason"].notna()).all()
    if n == 1:
        row = row_of(result, "accuracy")
        assert row["reason"] == "one item, or cluster, gives no interval"
        assert np.isfinite(row["difference"])
        assert np.isnan([row["se"], row["ci_low"], row["p"]]).all()


def test_no_rows_give_no_rows(result):
    nothing = effect(make_table().head(0))
    assert len(nothing) == 0
    assert list(nothing) == list(result)


def test_bca_and_clusters_are_named_and_differ(result):
    bca, clusters = effect(make_table(), interval="bca"), effect(make_table(), cluster="subject")
    assert set(bca["interval"]) == {"95% bca, items"}
    assert set(clusters["interval"]) == {"95% percentile, 3 clusters of subject"}
    assert bca["se"].to_numpy() == pytest.approx(result["se"].to_numpy())
    assert not np.allclose(bca["ci_low"], result["ci_low"], equal_nan=True)
    # A maximum of noise is larger in nearly every resample than in the sample.
    assert set(bca["figure"][bca["ci_low"].isna()]) <= {"mce"}
    assert (bca["ci_low"].isna() == bca["reason"].notna()).all()
    assert not np.allclose(clusters["se"], result["se"])
    one = effect(make_table().assign(subject="art"), cluster="subject")
    assert set(one["reason"]) == {"one item, or cluster, gives no interval"}


def test_pairs_may_stand_in_the_table(result):
    table = make_table().assign(pair="a")
    table["tuned"] = table["model"].map({"a": "base", "a-it": "instruct"})
    assert_same(effect(table, None), result)


def test_a_model_in_several_pairs_is_noted():
    table = pd.concat([make_table(), make_run("a-chat", 3)])
    result = effect(table, [("a", "a-it"), ("a", "a-chat")], figures=["accuracy"])
    assert result["note"].tolist() == ["a in several pairs: they are not independent"] * 2
    assert result["pair"].tolist() == ["a -> a-it", "a -> a-chat"]


def test_what_else_to_know_is_noted(result):
    def notes(table):
        return effect(table).set_index(["figure", "measure"])["note"]

    constant = notes(make_table().assign(n_options=6, responses=None))
    assert constant["human_partial", "choice_entropy"] == "n_options does not vary: human_partial is human_spearman"
    assert row_of(result, "brier", "choice_probability")["note"] == "confidence: choice_probability / choice_mass"
    shift = effect(make_table(), figures=["jsd_shift"], n_bootstrap=3)
    assert "biases" in row_of(shift, "jsd_shift", "choice_entropy")["note"]
    softmax = effect(make_table(scoring="text_mean"), figures=["dist_ce", "kendall_distance"])
    assert softmax["note"].notna().tolist() == [False, True]


def test_slow_figures_are_made_when_named():
    result = effect(make_table(), figures=["human_kendall", "ece_sweep", "smece"], n_bootstrap=3)
    assert result["figure"].tolist() == ["human_kendall", "human_kendall", "ece_sweep", "smece"]
    assert np.isfinite(result["se"]).all()


def test_own_columns(result):
    renamed = make_table().rename(
        columns={"choice_entropy": "doubt", "human_entropy_normalized": "people", "correct": "right"}
    )
    own = effect(renamed, measures=["doubt"], directions={"doubt": 1}, human="people", correct="right")
    for figure in ("auroc", "human_spearman"):
        expected, found = row_of(result, figure, "choice_entropy"), row_of(own, figure, "doubt")
        assert (found["difference"], found["ci_low"]) == (expected["difference"], expected["ci_low"])
    # What needs no direction asks for none.
    plain = effect(renamed, measures=["doubt"], human="people", figures=["mean", "human_spearman"])
    assert plain["better"].isna().all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"pairs": [("a", "a-itt")]}, ValueError, r"Got the instruct 'a-itt' instead. Did you mean 'a-it'"),
        ({"pairs": None}, ValueError, "unless the table has the columns 'pair' and 'tuned'"),
        ({"figures": ["acuracy"]}, ValueError, "figures parameter of tuning_effect .* Did you mean 'accuracy'"),
        ({"figures": "accuracy"}, ValueError, "must be a list of names. Got 'accuracy'"),
        ({"measures": ["entropy"]}, ValueError, "measures parameter of tuning_effect must name columns .*'entropy'"),
        ({"figures": ["brier"], "measures": ["choice_entropy"]}, ValueError,
         "Got 'brier' and no measure that states a probability of being right"),
        ({"figures": ["auroc"], "measures": []}, ValueError, "Got 'auroc' and no measure at all"),
        ({"human": "nobody", "figures": ["human_pearson"]}, ValueError, "'human_pearson', which needs 'nobody'"),
        ({"control": None, "figures": ["human_partial"]}, ValueError, "'human_partial', which needs 'control'"),
        ({"interval": "normal"}, ValueError, "interval parameter of tuning_effect must be one of 'percentile', 'bca'"),
        ({"level": 95}, ValueError, r"level parameter of tuning_effect must be within \(0, 1\)"),
        ({"cluster": "topic"}, ValueError, "cluster parameter of tuning_effect"),
        ({"missing": "ignore"}, ValueError, "missing parameter of tuning_effect must be one of 'raise', 'drop'"),
        ({"match_on": ["model"]}, ValueError, "match_on parameter of tuning_effect must name keys"),
        ({"n_bootstrap": 0}, ValueError, "n_bootstrap parameter"),
        ({"bins": 0}, ValueError, "bins parameter"),
        ({"directions": {"choice_entropy": 2}}, ValueError, "directions parameter"),
        ({"rng": 5}, TypeError, "rng parameter of tuning_effect must be a numpy.random.Generator"),
    ],
)  # fmt: skip
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        effect(make_table(), **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="model"), "'model', which the table lacks"),
        (lambda t: pd.concat([t, t.iloc[[3]]]), "each item once"),
        (lambda t: t.assign(correct=2), r"correct column given to tuning_effect must be 1 \(right\)"),
        (lambda t: t.assign(choice_entropy=np.inf), "choice_entropy column given to tuning_effect must be finite"),
        (
            lambda t: t.assign(n_options=t["n_options"] + (t.index == 33)),
            "n_options column .* must be the same .*'q003'",
        ),
        (lambda t: t.assign(answer=t["answer"].where(t.index != 33, 9)), "answer column .* must be the same .*'q003'"),
        (lambda t: t.assign(choice_probability=3.0), "choice_probability column given to tuning_effect must be a prob"),
        (lambda t: t[["model", "item", "subject"]], "must have columns that figures are made of"),
    ],
)
def test_bad_tables(change, message):
    with pytest.raises(ValueError, match=message):
        effect(change(make_table()), measures=None if "figures" in message else MEASURES)


def test_p_of_a_difference_by_hand():
    assert difference_p(1.959963984540054, 1) == pytest.approx(0.05)
    assert difference_p(-3, 1.5) == pytest.approx(2 * stats.norm.sf(2))
    assert difference_p(8, 1) < 1e-14
    assert difference_p(0.0, 0.0) == 1
    assert np.isnan(difference_p(0.1, 0.0))
    assert np.isnan(difference_p(0.1, np.nan))


@pytest.mark.skipif(not REFERENCE.exists(), reason="../shared/reference/coane_five_pairs.parquet is absent")
def test_published_pairs_against_independent_code():
    measures = ["mc_choice-ent", "mc_total-ent", "mc_top-k-ent-10", "mc_top-p-len-0.95", "mc_top-p-ent-0.9"]
    frame = pd.read_parquet(REFERENCE).rename(columns={"row": "item", "human-ent": "human_entropy_normalized"})
    frame["correct"] = (frame["cloze_pred"] == frame["Correct_Answer"]).astype(float)
    frame["responses"] = frame["human_answer_ratios"].map(json.loads)
    pairs = [(model, f"{model}_Ins") for model in frame["model"].unique() if not model.endswith("_Ins")]
    effects = tuning_effect(
        frame,
        pairs,
        figures=["accuracy", "human_spearman"],
        measures=measures,
        rng=np.random.default_rng(0),
        n_bootstrap=99,
    )
    over = tuning_over_pairs(effects).set_index(["figure", "measure"])
    assert len(over) == 6
    assert (over["smallest_p"] == 0.0625).all()
    for name in over.index:
        differences = []
        for base, instruct in pairs:
            two = [frame[frame["model"] == model] for model in (base, instruct)]
            if name[0] == "accuracy":
                values = [np.mean(run["cloze_pred"] == run["Correct_Answer"]) for run in two]
            else:
                values = [stats.spearmanr(run[name[1]], run["human_entropy_normalized"]).statistic for run in two]
            differences.append(values[1] - values[0])
        ranks = stats.rankdata(np.abs(differences))
        assert over.loc[name, "rank_biserial"] == pytest.approx(ranks @ np.sign(differences) / 15, rel=1e-12)
        assert over.loc[name, "p"] == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue, rel=1e-12)
    # As the paper prints it: alignment falls in all five pairs.
    assert over.loc[("human_spearman", "mc_choice-ent"), "rank_biserial"] == -1

"""Each output measure against a probe: scores, their turn, and paired differences that hold what they claim."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from doubtlens.analysis import behaviour_vs_representation
from doubtlens.analysis.resamples import Resamples

TARGET = "human_entropy_normalized"


def items(n=80, seed=0, measure=0.5, probe=0.5, binary=False, **columns):
    """Items whose measure and probe correlate with the target as told."""
    rng = np.random.default_rng(seed)
    y = rng.standard_normal(n)
    noisy = [share * y + np.sqrt(1 - share**2) * rng.standard_normal(n) for share in (measure, probe)]
    target = "correct" if binary else TARGET
    table = pd.DataFrame({"model": "m", "item": np.arange(n), target: (y > 0).astype(float) if binary else y})
    return table.assign(**{"total_entropy": noisy[0], f"probe_{target}": noisy[1]}, **columns)


def compared(table, measures=("total_entropy",), seed=0, **settings):
    settings = {"n_bootstrap": 200} | settings
    measures = None if measures is None else list(measures)
    return behaviour_vs_representation(table, measures, rng=np.random.default_rng(seed), **settings)


@pytest.mark.parametrize("method", ["pearson", "spearman", "kendall", "auroc"])
def test_scores_are_those_of_scipy_and_scikit_learn(method):
    binary = method == "auroc"
    table = items(binary=binary).assign(total_entropy=lambda t: -t["total_entropy"])
    target = "correct" if binary else TARGET
    row = compared(table, target=target, method=None if method in ("pearson", "auroc") else method).iloc[0]
    score = {
        "pearson": lambda x, y: stats.pearsonr(x, y).statistic,
        "spearman": lambda x, y: stats.spearmanr(x, y).statistic,
        "kendall": lambda x, y: stats.kendalltau(x, y).statistic,
        "auroc": lambda x, y: roc_auc_score(y, x),
    }[method]
    measure, probe = (score(table[name], table[target]) for name in ("total_entropy", f"probe_{target}"))
    turned = 1 - measure if binary else -measure
    assert row["method"] == method
    assert row["turn"] == -1
    assert (row["r_measure"], row["r_probe"]) == pytest.approx((turned, probe))
    assert row["difference"] == pytest.approx(probe - turned)
    assert row["r_measure_ci_low"] < row["r_measure"] < row["r_measure_ci_high"]
    assert row["r_probe_ci_low"] < row["r_probe"] < row["r_probe_ci_high"]


def test_intervals_and_p_are_those_of_a_loop_over_the_same_resamples():
    table = items(n=30)
    row = compared(table, n_bootstrap=50, level=0.9).iloc[0]
    seed = int(np.random.default_rng(0).integers(2**63))
    # Rows are resampled in the order of their items' names.
    ordered = table.sort_values("item", key=lambda names: names.map(str))
    draws = []
    for counts in np.concatenate(list(Resamples(30, 50, seed).blocks()), axis=1).T:
        drawn = ordered.loc[ordered.index.repeat(counts.astype(int))]
        r = drawn[[TARGET, "total_entropy", f"probe_{TARGET}"]].corr().iloc[0]
        draws.append(r.iloc[2] - r.iloc[1])
    low, high = np.quantile(draws, [0.05, 0.95])
    assert (row["difference_ci_low"], row["difference_ci_high"]) == pytest.approx((low, high))
    assert row["se"] == pytest.approx(np.std(draws, ddof=1))
    assert row["p"] == pytest.approx(2 * stats.norm.sf(abs(row["difference"]) / row["se"]))


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(("probe", "least", "most"), [(0.5, 0.88, 0.995), (0.85, 0.0, 0.05)])
def test_the_difference_covers_0_where_probe_and_measure_say_as_much(binary, probe, least, most):
    """95% intervals hold 0 in 95% of studies (three standard errors wide), and hardly ever where they differ."""
    held = []
    for seed in range(80):
        table = items(n=150, seed=seed, probe=probe, binary=binary)
        row = compared(table, target="correct" if binary else TARGET, n_bootstrap=100).iloc[0]
        held.append(row["difference_ci_low"] <= 0 <= row["difference_ci_high"])
    assert least <= np.mean(held) <= most


def test_a_copy_of_the_probe_differs_by_nothing():
    table = items().assign(total_entropy=lambda t: 3 * t[f"probe_{TARGET}"] - 1)
    row = compared(table).iloc[0]
    assert row[["difference", "difference_ci_low", "difference_ci_high", "se"]].tolist() == [0, 0, 0, 0]
    assert row["p"] == 1


def test_a_measure_that_runs_against_its_direction_is_turned_or_scores_below_nothing():
    table = items().assign(total_entropy=lambda t: -t["total_entropy"])
    observed, declared = (compared(table, sign=sign).iloc[0] for sign in ("observed", "declared"))
    assert (observed["turn"], observed["reversed"]) == (-1, True)
    assert (declared["turn"], declared["reversed"]) == (1, False)
    assert observed["r_measure"] == pytest.approx(-declared["r_measure"])
    assert observed["r_measure"] > 0.3
    # A measure of certainty is expected to fall with people's disagreement, and to rise with right answers.
    certain = table.rename(columns={"total_entropy": "choice_probability"})
    assert not compared(certain, ["choice_probability"]).iloc[0]["reversed"]
    right = items(binary=True).rename(columns={"total_entropy": "choice_probability"})
    row = compared(right, ["choice_probability"], target="correct", sign="declared").iloc[0]
    assert (row["turn"], row["reversed"]) == (1, False)
    assert row["r_measure"] > 0.6


def test_the_turn_is_not_made_again_in_each_resample():
    """Folding noise over at 0 would lift the lower end of the interval of a measure that says nothing above 0."""
    row = compared(items(measure=0.0)).iloc[0]
    assert row["r_measure"] >= 0
    assert row["r_measure_ci_low"] < -0.05


def test_columns_of_ones_own_need_a_direction_only_where_it_is_used():
    table = items(doubt=lambda t: t["total_entropy"])
    assert not compared(table, ["doubt"]).iloc[0]["reversed"]
    with pytest.raises(ValueError, match="Got 'doubt' instead"):
        compared(table, ["doubt"], sign="declared")
    assert compared(table, ["doubt"], directions={"doubt": -1}).iloc[0]["reversed"]
    assert compared(table, ["doubt"], sign="declared", directions={"doubt": -1}).iloc[0]["r_measure"] < 0
    renamed = table.rename(columns={TARGET: "spread", f"probe_{TARGET}": "probe_spread"})
    with pytest.raises(ValueError, match="Got 'spread' instead"):
        compared(renamed, target="spread", sign="declared")
    row = compared(renamed, target="spread", sign="declared", directions={"spread": -1}).iloc[0]
    assert row["turn"] == -1


def test_a_control_is_held_constant_on_both_sides():
    length = np.random.default_rng(4).standard_normal(80)
    table = items(measure=0.0, probe=0.0, length=length).assign(
        **{name: lambda t, name=name: t[name] + 2 * length for name in (TARGET, "total_entropy", f"probe_{TARGET}")}
    )
    plain, held = compared(table).iloc[0], compared(table, control="length").iloc[0]
    assert plain["r_measure"] > 0.6
    assert abs(held["r_measure"]) < 0.25
    residuals = [
        table[name] - np.polyval(np.polyfit(length, table[name], 1), length)
        for name in (TARGET, "total_entropy", f"probe_{TARGET}")
    ]
    assert held["r_probe"] == pytest.approx(np.corrcoef(residuals[0], residuals[2])[0, 1])
    assert held["control"] == "length"
    flat = compared(table.assign(length=4.0), control="length").iloc[0]
    assert flat["r_probe"] == pytest.approx(plain["r_probe"])
    assert flat["note"] == "length does not vary"


def test_known_measures_are_looked_at_once_per_scoring_and_nucleus():
    parts = []
    for scoring in ("label_single", "text_sum"):
        for nucleus in ("inclusive", "exclusive"):
            part = items(probe=0.8, scoring=scoring, nucleus=nucleus)
            part["total_entropy_normalized"] = part["total_entropy"] / 9
            part["choice_margin"] = part["total_entropy"] * (1 if scoring == "text_sum" else 2)
            parts.append(part.assign(**{"top_p_size_0.9": part["total_entropy"].round()}))
    table = pd.concat(parts)
    result = compared(table, None)
    keys = [tuple(row) for row in result[["measure", "scoring", "nucleus"]].to_numpy()]
    assert keys == [
        ("total_entropy_normalized", "any", "any"),
        ("top_p_size_0.9", "any", "inclusive"), ("top_p_size_0.9", "any", "exclusive"),
        ("choice_margin", "label_single", "any"), ("choice_margin", "text_sum", "any"),
    ]  # fmt: skip
    right = table.rename(columns={TARGET: "correct", f"probe_{TARGET}": "probe_correct"})
    right["correct"] = (right["correct"] > 0).astype(float)
    assert set(compared(right, None, target="correct")["scoring"]) == {"label_single", "text_sum"}
    # One family: five tests.
    assert result["p_holm"].min() == pytest.approx(5 * result["p"].min())
    assert (result["p_bh"] <= result["p_holm"] + 1e-12).all()


def test_items_are_dropped_for_each_measure_by_itself_and_whole_clusters_drawn():
    table = items(varentropy=1.0, subject=np.repeat(list("abcdefgh"), 10))
    table["varentropy"] = table["total_entropy"].where(table.index > 4)
    result = compared(table, ["total_entropy", "varentropy"], missing="drop", cluster="subject")
    assert result["n"].tolist() == [80, 75]
    assert result["n_missing"].tolist() == [0, 5]
    assert set(result["interval"]) == {"95% percentile, 8 clusters of subject"}
    alone = compared(table[["model", "item", TARGET, "total_entropy", f"probe_{TARGET}", "subject"]], cluster="subject")
    assert alone["difference_ci_low"].iloc[0] == result["difference_ci_low"].iloc[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"total_entropy": 1.0}, "total_entropy is constant"),
        ({"probe_correct": 0.5}, "probe_correct is constant"),
        ({"correct": 1.0}, "correct is 1 for every item"),
    ],
)
def test_what_cannot_be_compared_says_why(change, reason):
    row = compared(items(binary=True).assign(**change), target="correct").iloc[0]
    assert np.isnan([row["r_measure"], row["r_probe"], row["difference"], row["p"]]).all()
    assert row["reason"] == reason
    assert (row["turn"], row["reversed"]) == (0, False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sign": "either"}, "sign parameter of behaviour_vs_representation must be one of 'observed', 'declared'"),
        ({"method": "auroc"}, r"must be a correlation \(pearson, spearman, kendall\) for a target other than 0 and 1"),
        ({"method": "pearsn"}, "method parameter .* must be one of 'pearson', 'spearman', 'kendall', 'auroc'"),
        (
            {"probe": "probe"},
            "probe parameter of behaviour_vs_representation must name columns of the table. Got 'probe'",
        ),
        ({"target": "human"}, "target parameter of behaviour_vs_representation must name columns .* Got 'human'"),
        ({"measures": []}, "must name at least one column"),
        ({"directions": {"total_entropy": 2}}, r"must be \+1 or -1. Got 2 for 'total_entropy'"),
    ],
)
def test_bad_arguments(settings, message):
    with pytest.raises(ValueError, match=message):
        compared(items(), **settings)


def test_an_auroc_has_no_control_and_a_table_needs_some_measure():
    with pytest.raises(ValueError, match=r"control parameter of .* must be None for an AUROC. Got n_options"):
        compared(items(binary=True, n_options=4), target="correct", control="n_options")
    with pytest.raises(ValueError, match="must name the columns to compare where the table has none of the measure"):
        compared(items().drop(columns="total_entropy"), None)

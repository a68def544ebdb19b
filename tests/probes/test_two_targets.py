"""Two targets of a run: planted directions, the same folds as the sweep, keys, missing values, refusals."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.preprocessing import StandardScaler

from doubtlens.probes import scores, two_targets
from doubtlens.probes.directions import direction_cosines
from doubtlens.probes.folds import TargetError, inner_blocks, outer_folds
from doubtlens.probes.sweep import sweep_targets

FAST = {"n_permutations": 19, "n_bootstrap": 20, "n_halvings": 2, "n_splits": 4, "progress": False, "device": "cpu"}
N = 72


class MadeRun:
    """A run in memory, 72 items of 3 options in 6 subjects, with people's entropy and correctness as wanted.

    Disagreement and errors share a part and have one each of their own. Layer 4 knows none of these, layer 6 the
    shared part, layer 8 the two others on an axis each.
    """

    layers = [4, 6, 8]  # noqa: RUF012
    sites = ["resid_mid", "resid_post"]  # noqa: RUF012
    positions = ["last", "labels"]  # noqa: RUF012
    scorings = ("label_single", "text_mean")

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        shared, of_people, of_errors = rng.standard_normal((3, N))
        doubt, error = shared + of_people, shared + of_errors
        right = error < np.median(error)
        # The more doubt, the more even the counts.
        counts = np.round(100 * np.exp(-np.exp(-doubt)[:, None] * np.arange(3))) + 1
        self.items = pd.DataFrame(
            {
                "id": [f"q{row}" for row in range(N)],
                "options": [list("abc")] * N,
                "answer": pd.array(rng.integers(0, 3, N), dtype="Int64"),
                "responses": pd.Series([row.tolist() for row in counts], dtype=object),
                "respondents": pd.array([None] * N, dtype="Int64"),
                "subject": [f"s{row % 6}" for row in range(N)],
                "n_options": 3,
            }
        )
        self.info = {"model": "tiny", "dataset": "made", "prompt": "two_shot"}
        self.right = right
        activations = rng.standard_normal((3, N, 6))
        activations[1, :, 0] += 4 * shared
        activations[2, :, 0] += 4 * of_people
        activations[2, :, 1] += 4 * of_errors
        self._activations = activations.astype(np.float32)

    def residual(self, layer, site="resid_post", position="last"):
        values = self._activations[self.layers.index(layer)] + np.float32(site == "resid_mid")
        if position == "labels":
            return np.repeat(values[:, None], 3, axis=1) + np.array([-1, 0, 1], dtype=np.float32)[:, None]
        return values

    def choice_scores(self, scoring):
        answer = self.items["answer"].to_numpy(dtype=np.int64, na_value=0)
        chosen = np.where(self.right, answer, (answer + 1) % 3)
        if scoring == "text_mean":
            chosen = np.roll(chosen, 1)
        return -1.0 - (np.arange(3) != chosen[:, None])


def compared(run, seed=0, **settings):
    return two_targets(run, rng=np.random.default_rng(seed), **(FAST | settings))


def test_one_axis_and_two_axes_are_told_apart():
    table = compared(MadeRun(), seed=1, n_halvings=8).set_index("layer")
    # What disagreement and correctness are read from is the same, with opposite signs.
    assert table["cosine"].loc[6] < -0.7
    assert table["cosine_p"].loc[6] == 0.05 <= table["cosine_p_max"].loc[6] <= 0.1
    assert table["cosine_disattenuated"].loc[6] == pytest.approx(-1, abs=0.15)
    # The targets are correlated, but each is read from elsewhere.
    assert table["target_correlation"].iloc[0] < -0.2
    assert abs(table["cosine"].loc[8]) < 0.3
    assert abs(table["cosine_disattenuated"].loc[8]) < 0.3
    assert table.loc[8, ["first_reliability", "second_reliability"]].min() > 0.5
    assert table["cosine_p"].loc[[4, 8]].min() > 0.05
    assert np.isnan(table["cosine_disattenuated"].loc[4])
    # The probe of one target tells about the other where the direction is one.
    assert table["first_on_second_ci_low"].loc[6] > 0.5 > table["first_on_second"].loc[8] - 0.1
    assert table["second_on_first"].loc[6] > 0.3 > table["second_on_first"].loc[8] + 0.1
    for target in ("first", "second"):
        assert table[f"{target}_shared"].loc[6] > 0.15 > table[f"{target}_shared"].loc[8]
        assert table[f"{target}_unique_own"].loc[6] < 0.1 < 0.15 < table[f"{target}_unique_own"].loc[8]


def test_predictions_are_those_of_a_sweep_on_the_same_folds():
    run = MadeRun()
    table = compared(run, seed=3)
    entropy = _entropy(run)
    correct = run.right.astype(float)
    rng = np.random.default_rng(3)
    drawn = np.random.default_rng(int(rng.integers(2**63)))  # as a sweep draws its folds
    folds = outer_folds(correct, run.items["subject"].to_numpy(), n_splits=4, rng=drawn)
    first, second = sweep_targets(
        {layer: run.residual(layer) for layer in run.layers}, [entropy, correct], folds=folds, n_permutations=0,
        n_bootstrap=1, rng=rng,
    )  # fmt: skip
    for row in range(3):
        one, other = first.deviations[row], second.deviations[row]
        assert table["first_score"].iloc[row] == pytest.approx(np.corrcoef(entropy, one)[0, 1])
        assert table["second_score"].iloc[row] == pytest.approx(scores.auroc(correct, other))
        assert table["first_on_second"].iloc[row] == pytest.approx(scores.auroc(1 - correct, one))
        assert table["second_on_first"].iloc[row] == pytest.approx(np.corrcoef(entropy, -other)[0, 1])
    one, other = first.nested_deviations, second.nested_deviations
    assert table["nested_first_score"].iloc[0] == pytest.approx(np.corrcoef(entropy, one)[0, 1])
    assert table["nested_second_score"].iloc[0] == pytest.approx(scores.auroc(correct, other))
    assert table["nested_first_on_second"].iloc[0] == pytest.approx(scores.auroc(1 - correct, one))
    nested = table.filter(regex="^nested_")
    assert (nested.nunique(dropna=False) == 1).all()
    assert {f"nested_{name}" for name in table.loc[:, "prediction_correlation":"second_shared_ci_high"]} == {*nested}


def test_shared_variance_is_stacked_inside_the_training_folds():
    run = MadeRun()
    table = compared(run, layers=[6], penalties=10.0, seed=5)
    subjects = run.items["subject"].to_numpy()
    targets = np.column_stack([_entropy(run), run.right])
    drawn = np.random.default_rng(int(np.random.default_rng(5).integers(2**63)))  # as a sweep draws its folds
    folds = outer_folds(targets[:, 1], subjects, n_splits=4, rng=drawn)
    error = baseline = 0.0
    for fold, test in enumerate(folds.test):
        train = folds.train(fold)
        scaler = StandardScaler().fit(run.residual(6)[train])
        rows, new, known = (
            scaler.transform(run.residual(6)[train]),
            scaler.transform(run.residual(6)[test]),
            targets[train],
        )
        inner = np.empty_like(known)
        for block in inner_blocks(folds.group_codes[train]):
            rest = np.setdiff1d(np.arange(len(train)), block)
            inner[block] = Ridge(alpha=10.0).fit(rows[rest], known[rest]).predict(rows[block]) - known[rest].mean(
                axis=0
            )
        outer = Ridge(alpha=10.0).fit(rows, known).predict(new) - known.mean(axis=0)
        stack = LinearRegression().fit(inner, known[:, 0])
        error += np.sum((targets[test, 0] - stack.predict(outer)) ** 2)
        baseline += np.sum((targets[test, 0] - known[:, 0].mean()) ** 2)
    assert table.loc[0, "first_r2_both"] == pytest.approx(1 - error / baseline, rel=1e-5)
    assert table.loc[0, "nested_first_r2_both"] == table.loc[0, "first_r2_both"]


def test_cosines_are_those_of_the_arrays():
    run = MadeRun()
    table = compared(run, groups=None, seed=4)
    found = {}
    for metric in ("covariance", "plain"):
        rng = np.random.default_rng(4)
        outer_folds(run.right.astype(float), None, n_splits=4, rng=rng)
        found[metric] = direction_cosines(
            run.residual(8), _entropy(run), run.right.astype(float), metric=metric, n_halvings=2, n_permutations=19,
            rng=rng,
        )  # fmt: skip
    row = table.iloc[2]
    assert (row["cosine_plain"], row["cosine_plain_p"]) == pytest.approx((found["plain"].cosine, found["plain"].p))
    found = found["covariance"]
    assert row["cosine"] == pytest.approx(found.cosine)
    assert row["cosine_p"] == found.p
    assert row["cosine_in_sample"] == pytest.approx(found.in_sample)
    assert row["cosine_in_sample_null_mean"] == pytest.approx(found.in_sample_null.mean())
    assert row[["first_reliability", "second_reliability"]].tolist() == pytest.approx(found.reliability)
    null = found.null[["second", "first", "both"].index(row["cosine_null"])]
    assert (row["cosine_null_mean"], row["cosine_null_sd"]) == pytest.approx((null.mean(), null.std(ddof=1)))


def _entropy(run):
    shares = np.array(run.items["responses"].tolist())
    shares /= shares.sum(axis=1, keepdims=True)
    return -(shares * np.log(shares)).sum(axis=1) / np.log(3)


def test_keys_sites_positions_and_scorings():
    run = MadeRun()
    table = compared(run, layers=[8, 4], site="resid_mid", position="labels", scoring="text_mean")
    assert table["layer"].tolist() == [8, 4]
    keys = table.iloc[0, :13].to_dict()
    assert keys == {
        "model": "tiny", "dataset": "made", "prompt": "two_shot", "site": "resid_mid", "position": "labels",
        "layer": 8, "first": "human_entropy_normalized", "second": "correct", "scoring": "text_mean", "n": N,
        "n_missing": 0, "n_groups": 6, "folds": 4,
    }  # fmt: skip
    assert (table["permutation"] == "within").all()
    assert (table["n_permutations"] == 19).all()
    plain = compared(run, layers=[8, 4], scoring="text_mean")
    numbers = plain.select_dtypes("float").columns
    # A constant added to all activations, and the mean over labels that are spread around it, change nothing.
    assert np.allclose(table[numbers], plain[numbers], equal_nan=True, rtol=1e-4, atol=1e-4)
    assert not np.allclose(plain["second_score"], compared(run, layers=[8, 4])["second_score"])


def test_targets_may_be_numbers_and_come_in_any_order():
    run = MadeRun()
    table = compared(run, first="correct", second=_entropy(run), layers=[6])
    assert table.loc[0, ["first", "second", "scoring"]].tolist() == ["correct", "given", "label_single"]
    assert table.loc[0, "first_score_name"] == "auroc"
    # Read the other way round, errors still go with disagreement.
    assert table.loc[0, "first_on_second"] > 0.5
    assert table.loc[0, "second_on_first"] > 0.5
    rng = np.random.default_rng(0)
    both = compared(run, first=rng.standard_normal(N), second=rng.standard_normal(N), layers=[6])
    assert both.loc[0, ["first", "second"]].tolist() == ["given_1", "given_2"]
    assert both["scoring"].isna().all()


def test_items_without_a_target_are_dropped_or_named():
    run = MadeRun()
    run.items.loc[3, "answer"] = pd.NA
    run.items.at[7, "responses"] = None
    table = compared(run, layers=[6])
    assert table.loc[0, ["n", "n_missing"]].tolist() == [N - 2, 2]
    with pytest.raises(TargetError, match=r"must be known for every item .* Got a gap in items q3, q7; pass missing="):
        compared(run, missing="raise")


def test_without_groups_one_set_of_folds_serves_both_targets():
    run = MadeRun()
    table = compared(run, groups=None, layers=[6])
    assert pd.isna(table.loc[0, "n_groups"])
    assert table.loc[0, "permutation"] == "free"
    assert table.loc[0, "first_score"] > 0.4
    few = compared(run, n_splits=10, layers=[6])
    assert few.loc[0, "note"] == "6 folds instead of 10: there are 6 groups"


def test_a_layer_that_is_the_same_in_every_row_is_named():
    run = MadeRun()
    run._activations[0] = 1.5
    table = compared(run)
    assert table.loc[0, "note"] == "the layer's activations are the same in every row"
    assert table["note"].isna().tolist() == [False, True, True]
    assert table.loc[0, ["cosine", "cosine_p", "cosine_p_max", "cosine_plain", "first_score"]].isna().all()
    assert table["cosine_null"].isna().tolist() == [True, False, False]
    assert table.loc[0, "first_on_second"] == 0.5
    assert table["cosine_p"].iloc[1] <= table["cosine_p_max"].iloc[1] < 0.3
    # Without permutations there are cosines and no tests.
    bare = compared(run, n_permutations=0)
    assert bare["cosine"].iloc[1] < -0.6
    assert bare[["cosine_p", "cosine_null_mean", "cosine_disattenuated"]].isna().all(axis=None)


def test_the_table_is_the_same_for_the_same_seed_and_survives_parquet(tmp_path):
    run = MadeRun()
    one, other, third = (compared(run, seed=seed, layers=[8]) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, other)
    assert one.loc[0, "cosine"] != third.loc[0, "cosine"]
    one.to_parquet(tmp_path / "two_targets.parquet")
    assert pd.read_parquet(tmp_path / "two_targets.parquet").columns.tolist() == one.columns.tolist()


def test_the_progress_bar_goes_to_stderr(capsys):
    compared(MadeRun(), layers=[4], progress=True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first": "correct"}, "must be different targets. Got 'correct' and 'correct'"),
        ({"first": "human_entropi"}, "must name a target .*Got 'human_entropi'.*human_entropy"),
        ({"first": np.ones(5)}, r"one number per item, \[72\]. Got shape \(5,\)"),
        ({"scoring": "label_singel"}, "must name a scoring of the run .*label_single"),
        ({"second": "human_entropy", "scoring": "label_single"}, "scoring parameter of two_targets must be None"),
        ({"site": "mlp_out"}, "The site parameter of two_targets must name a site of the run"),
        ({"position": "question_last"}, "The position parameter of two_targets must name a position of the run"),
        ({"layers": [5]}, "The layers parameter of two_targets must name layers of the run .*Got '5'"),
        ({"layers": [4, 4]}, r"must name layers, each once. Got \[4, 4\]"),
        ({"layers": []}, r"must name layers, each once. Got \[\]"),
        ({"groups": "subjekt"}, "must name a column of the items.*subject"),
        ({"missing": "ignore"}, "must be 'raise' or 'drop'. Got 'ignore'"),
        ({"n_bootstrap": 0}, "n_bootstrap parameter of two_targets must be at least 1. Got 0"),
        ({"n_permutations": -1}, "n_permutations parameter of .* must be at least 0"),
        ({"penalties": []}, "penalties parameter of two_targets"),
        ({"n_splits": 1}, "n_splits parameter of outer_folds must be at least 2"),
        ({"n_splits": 80, "groups": None}, "at least one row per fold. Got 72 rows for 80 folds"),
        ({"device": "cuda:99"}, "device parameter of .*Got 'cuda:99'"),
        ({"first": np.full(N, 0.5)}, "The target 'given' cannot be compared: .* must vary. Got 0.5 in all 72 rows"),
        ({"first": np.full(N, np.nan)}, "The target 'given' is missing for every item"),
        ({"first": np.r_[np.arange(5), np.full(N - 5, np.nan)]}, "at least 8 items.* Got 5 items with 'given' and"),
        ({"first": (np.arange(N) % 6 == 0).astype(float)}, "both classes outside every test fold"),
    ],
)  # fmt: skip
def test_bad_arguments(settings, message):
    with pytest.raises(ValueError, match=message):
        compared(MadeRun(), **settings)


def test_one_class_and_activations_that_are_not_numbers():
    run = MadeRun()
    run.right = np.ones(N, dtype=bool)
    with pytest.raises(TargetError, match=r"The target 'correct' cannot be compared: .* vary\. Got 1 in all 72"):
        compared(run)
    run = MadeRun()
    run._activations[1, 5, 2] = np.nan
    with pytest.raises(ValueError, match=r"Activations of layer 6 must be finite. Got NaN or inf in items q5; extract"):
        compared(run)

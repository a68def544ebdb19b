"""The curves of a logit lens against scipy, scikit-learn and a loop of permutations."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import roc_auc_score

from doubtlens.analysis import alignment, calibration, lens_curve

LAYERS, N = (0, 4, 9), 60
MEASURES = ["total_entropy", "choice_margin"]


def made(seed: int = 0, *, scorings=("label_single",), n: int = N) -> pd.DataFrame:
    """60 items at three layers: the deeper, the more the measures know of people and of errors."""
    rng = np.random.default_rng(seed)
    human = rng.uniform(0.1, 0.9, n)
    parts = []
    for scoring in scorings:
        final = (rng.uniform(size=n) > 0.3 + 0.4 * human).astype(float)
        for depth, layer in enumerate(LAYERS):
            doubt = depth * human + rng.normal(0, 0.5, n)
            parts.append(
                pd.DataFrame(
                    {
                        "model": "m", "dataset": "d", "item": [f"q{number:02d}" for number in range(n)],
                        "prompt": "p", "setting": "choice", "scoring": scoring, "nucleus": "inclusive", "layer": layer,
                        "total_entropy": doubt, "choice_margin": np.round(1 - doubt + rng.normal(0, 0.3, n), 1),
                        "correct": (rng.uniform(size=n) > 0.5).astype(float), "final_correct": final,
                        "n_options": 2 + np.arange(n) % 3, "human_entropy_normalized": human,
                        "subject": [f"s{number % 6}" for number in range(n)],
                    }
                )
            )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def curve(table: pd.DataFrame, measures=MEASURES, seed: int = 0, **settings) -> pd.DataFrame:
    settings = {"n_bootstrap": 50, "n_permutations": 99} | settings
    return lens_curve(table, measures, rng=np.random.default_rng(seed), **settings)


def test_the_figures_are_those_of_scipy_and_scikit_learn():
    table = made(scorings=("label_single", "label_variants"))
    found = curve(table)
    order = pd.MultiIndex.from_product([("label_single", "label_variants"), MEASURES, LAYERS])
    assert found[["scoring", "measure", "layer"]].to_numpy().tolist() == [list(row) for row in order]
    for row in found.to_dict("records"):
        part = table[(table["layer"] == row["layer"]) & (table["scoring"] == row["scoring"])]
        values, sign = part[row["measure"]], {"total_entropy": 1, "choice_margin": -1}[row["measure"]]
        assert row["direction"] == sign
        assert row["mean"] == pytest.approx(values.mean())
        assert row["human_spearman"] == pytest.approx(spearmanr(values, part["human_entropy_normalized"]).statistic)
        assert row["correct_auroc"] == pytest.approx(roc_auc_score(1 - part["final_correct"], sign * values))
        assert row["accuracy"] == part["correct"].mean()
        assert (row["n"], row["n_human"], row["n_correct"], row["n_layers"]) == (N, N, N, 3)
    assert found["human_spearman"].abs().iloc[2] > 0.5
    assert set(found["reason"]) == {None}


@pytest.mark.parametrize("cluster", [None, "subject"])
def test_the_intervals_are_those_of_alignment_and_calibration(cluster):
    """Of one layer's table: the same resamples of the same items."""
    table = made()
    found = curve(table, ["choice_margin"], seed=3, cluster=cluster, level=0.9, interval="bca")
    options = {"n_bootstrap": 50, "cluster": cluster, "level": 0.9, "interval": "bca"}
    for layer, row in found.set_index("layer").iterrows():
        part = table[table["layer"] == layer]
        people = alignment(part, ["choice_margin"], rng=np.random.default_rng(3), control=None, **options).iloc[0]
        errors = calibration(
            part, ["choice_margin"], correct="final_correct", n_null=2, rng=np.random.default_rng(3), **options
        ).iloc[0]
        for end in ("ci_low", "ci_high"):
            assert row[f"human_spearman_{end}"] == pytest.approx(people[end])
            assert row[f"correct_auroc_{end}"] == pytest.approx(errors[f"auroc_{end}"])
        assert row["interval"] == people["interval"]


def test_the_best_layer_is_tested_against_the_best_of_permuted_people():
    table = made(1)
    permutations = 999
    found = curve(table, ["total_entropy"], n_permutations=permutations)
    first = table[table["layer"] == 0].reset_index(drop=True)
    rng = np.random.default_rng(5)
    for column, p, p_max in (
        ("human_entropy_normalized", "p", "p_max"),
        ("final_correct", "correct_p", "correct_p_max"),
    ):
        target = rankdata(first[column])
        ranks = [rankdata(table.loc[table["layer"] == layer, "total_entropy"]) for layer in LAYERS]
        null = np.empty((permutations, len(LAYERS)))
        for draw in range(permutations):
            order = np.arange(N)
            for count in (2, 3, 4):
                rows = np.flatnonzero(first["n_options"] == count)
                order[rows] = rng.permutation(rows)
            null[draw] = [np.corrcoef(rank, target[order])[0, 1] for rank in ranks]
        seen = np.array([np.corrcoef(rank, target)[0, 1] for rank in ranks])
        z, seen_z = abs((null - null.mean(0)) / null.std(0)), abs((seen - null.mean(0)) / null.std(0))
        own = (1 + (z >= seen_z).sum(axis=0)) / (1 + permutations)
        whole = (1 + (z.max(axis=1)[:, None] >= seen_z).sum(axis=0)) / (1 + permutations)
        np.testing.assert_allclose(found[p], own, atol=0.05)
        np.testing.assert_allclose(found[p_max], whole, atol=0.05)
        assert (found[p_max] >= found[p]).all()
        assert found[p_max].iloc[0] > found[p].iloc[0] + 0.02


def test_nothing_depends_on_the_order_of_rows_or_on_other_groups():
    table = made(scorings=("label_single", "label_variants"))
    whole = curve(table)
    shuffled = curve(table.sample(frac=1, random_state=1))
    keys = ["scoring", "measure", "layer"]
    pd.testing.assert_frame_equal(
        whole.sort_values(keys, ignore_index=True), shuffled.sort_values(keys, ignore_index=True)
    )
    alone = curve(table[table["scoring"] == "label_variants"], ["choice_margin"])
    same = whole[(whole["scoring"] == "label_variants") & (whole["measure"] == "choice_margin")]
    pd.testing.assert_frame_equal(alone, same.reset_index(drop=True))


def test_a_layer_that_tells_nothing_has_no_correlation_and_one_half():
    table = made()
    table.loc[table["layer"] == 4, "total_entropy"] = 2.5
    row = curve(table, ["total_entropy"]).set_index("layer").loc[4]
    assert np.isnan(row[["human_spearman", "human_spearman_ci_low", "p", "p_max"]].to_numpy(dtype=float)).all()
    assert row[["correct_auroc", "correct_auroc_ci_low", "correct_auroc_ci_high"]].tolist() == [0.5] * 3
    assert row["reason"].startswith("total_entropy is constant")


def test_data_without_people_or_without_answers_say_so():
    table = made()
    nobody = curve(table.assign(human_entropy_normalized=np.nan), ["total_entropy"])
    assert nobody["human_spearman"].isna().all()
    assert nobody["p_max"].isna().all()
    assert set(nobody["reason"]) == {"no item has human_entropy_normalized"}
    assert (nobody["n_human"] == 0).all()
    whole = curve(table, ["total_entropy"])
    pd.testing.assert_series_equal(nobody["correct_auroc"], whole["correct_auroc"])
    none = curve(table.assign(final_correct=np.nan, correct=np.nan), ["total_entropy"])
    pd.testing.assert_series_equal(none["human_spearman"], whole["human_spearman"])
    assert none[["correct_auroc", "correct_p_max", "accuracy"]].isna().all(axis=None)
    right = curve(table.assign(final_correct=1.0), ["total_entropy"])
    assert right["correct_auroc"].isna().all()
    assert right["reason"].str.startswith("every answer is right").all()


def test_what_is_missing_is_refused_or_left_out_and_counted():
    table = made()
    table.loc[(table["layer"] == 4) & table["item"].isin(["q03", "q05"]), "total_entropy"] = np.nan
    table.loc[table["item"] == "q07", "human_entropy_normalized"] = np.nan
    table.loc[table["item"].isin(["q03", "q09"]), "final_correct"] = np.nan
    with pytest.raises(ValueError, match=r"given to lens_curve must have no missing value. .* missing='drop'"):
        curve(table, ["total_entropy"])
    found = curve(table, ["total_entropy"], missing="drop").set_index("layer")
    assert found["n"].tolist() == [60, 58, 60]
    assert found["n_human"].tolist() == [59, 57, 59]
    assert found["n_correct"].tolist() == [58, 57, 58]
    part = table[(table["layer"] == 4)].dropna(subset=["total_entropy", "human_entropy_normalized"])
    expected = spearmanr(part["total_entropy"], part["human_entropy_normalized"]).statistic
    assert found.loc[4, "human_spearman"] == pytest.approx(expected)
    assert found[["p_max", "correct_p_max"]].notna().all(axis=None)
    table.loc[table["layer"] == 9, "total_entropy"] = np.nan
    empty = curve(table, ["total_entropy"], missing="drop").set_index("layer").loc[9]
    assert (empty["n"], empty["n_human"]) == (0, 0)
    assert np.isnan(
        empty[["mean", "human_spearman", "correct_auroc", "p", "correct_p_max"]].to_numpy(dtype=float)
    ).all()
    assert "n = 0 is too few" in empty["reason"]


def test_open_prompts_have_no_rows_for_measures_of_options():
    table = made()
    table["total_entropy_normalized"], table["choice_entropy_normalized"] = (
        table["total_entropy"],
        table["choice_margin"],
    )
    opened = table.drop(columns=["correct"]).assign(prompt="open", scoring=None, choice_entropy_normalized=np.nan)
    both = pd.concat([table, opened], ignore_index=True)
    found = curve(both, None)
    counts = found.groupby(["prompt", "measure"]).size().to_dict()
    listed = [
        ("p", "total_entropy_normalized"),
        ("p", "choice_entropy_normalized"),
        ("open", "total_entropy_normalized"),
    ]
    assert counts == dict.fromkeys(listed, 3)
    assert found.loc[found["prompt"] == "open", "scoring"].isna().all()
    assert found.loc[found["prompt"] == "open", "accuracy"].isna().all()
    assert curve(opened.drop(columns="choice_entropy_normalized"), None)["measure"].unique().tolist() == [
        "total_entropy_normalized"
    ]


def test_a_table_of_ones_own_needs_no_keys_and_no_strata():
    table = made()[["item", "layer", "total_entropy", "human_entropy_normalized", "final_correct"]]
    table = table.rename(columns={"total_entropy": "doubt"})
    found = curve(table, ["doubt"], directions={"doubt": 1}, within=None)
    assert found.columns[0] == "layer"
    assert set(found["within"]) == {None}
    expected = curve(made(), ["total_entropy"], within=None)
    np.testing.assert_array_equal(found["correct_auroc"], expected["correct_auroc"])


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({}, {"measures": ["entropy"]}, r"measures parameter of lens_curve must name columns .* Got 'entropy'"),
        ({}, {"human": "human_entropi_normalized"}, r"Did you mean 'human_entropy_normalized'"),
        ({}, {"correct": "right"}, r"correct parameter of lens_curve must name columns"),
        ({}, {"within": "k"}, r"within parameter of lens_curve must name columns"),
        ({}, {"measures": ["layer"]}, r"Got 'layer' instead"),
        ({}, {"directions": {"total_entropy": 2}}, r"must be \+1 or -1. Got 2"),
        ({}, {"n_permutations": 0}, r"n_permutations parameter of .* must be an integer of at least 1. Got 0"),
        ({}, {"level": 2}, r"level parameter of lens_curve must be within"),
        ({}, {"missing": "ignore"}, r"missing parameter of lens_curve must be one of"),
        ({"layer": None}, {}, r"Got 'layer', which the table lacks"),
        ({"final_correct": 0.5}, {}, r"final_correct column given to lens_curve must be 1 \(right\), 0 \(wrong\)"),
        ({"layer": np.nan}, {}, r"layer column given to lens_curve must name the layer of every row"),
    ],
)
def test_bad_input_is_named(change, settings, message):
    table = made().assign(**{name: value for name, value in change.items() if value is not None})
    table = table.drop(columns=[name for name, value in change.items() if value is None])
    settings = {"measures": ["total_entropy"]} | settings
    with pytest.raises(ValueError, match=message):
        curve(table, **settings)


def test_layers_of_other_items_or_other_people_are_refused():
    table = made()
    with pytest.raises(ValueError, match=r"the same items in every layer. Got 'q00' in only one of the layers 0 and 9"):
        curve(table[(table["layer"] != 9) | (table["item"] != "q00")])
    with pytest.raises(ValueError, match=r"must hold each item once per .* Got a second row at"):
        curve(pd.concat([table, table.tail(1)]))
    for name in ("human_entropy_normalized", "final_correct", "n_options"):
        odd = table.copy()
        odd.loc[(odd["layer"] == 4) & (odd["item"] == "q05"), name] = 1 - odd.loc[odd["item"] == "q05", name].iloc[0]
        with pytest.raises(
            ValueError, match=rf"{name} column .* same of an item in all layers. Got other values in layer 4"
        ):
            curve(odd)
    with pytest.raises(TypeError, match=r"rng parameter of lens_curve must be a numpy.random.Generator"):
        lens_curve(table, MEASURES, rng=0)

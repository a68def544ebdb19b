"""Controls: a confound alone is named as one, a signal of its own beats them all, and what is compared is the same."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from doubtlens.probes import probe_controls, probe_layers
from doubtlens.probes.control_comparison import Changes, difference
from doubtlens.probes.control_features import RandomDirections, TextFeatures, options_and_length
from doubtlens.probes.controls import _partial
from doubtlens.probes.folds import outer_folds
from doubtlens.probes.nested_ridge import nested_ridge
from doubtlens.probes.output_columns import MeasureFeatures, output_columns
from doubtlens.probes.probed_rows import fold_means
from doubtlens.probes.sweep import sweep

NAMES = ["probe", "options_and_length", "tfidf", "output_measures", "random_projection"]


def controls_of(run, target, seed=0, **settings):
    settings = {"n_random": 3, "n_splits": 5, "progress": False, "device": "cpu"} | settings
    return probe_controls(run, target, rng=np.random.default_rng(seed), **settings).set_index("control")


def folds_of(y, groups=None, seed=0):
    """The folds of `probe_layers` and of the controls for equal generators."""
    drawn = np.random.default_rng(int(np.random.default_rng(seed).integers(2**63)))
    return outer_folds(y, groups, n_splits=5, rng=drawn)


# --- what they are for ----------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [False, True])
def test_a_target_that_is_a_matter_of_length_is_named_as_such(asked_run, binary):
    """The probe reads length from the activations and scores high; counting words does as well."""
    run = asked_run()
    y = np.log(run.lengths) + 0.2 * run.doubt
    y = (y > np.median(y)).astype(float) if binary else y
    table = controls_of(run.knows(np.log(run.lengths)), y)
    assert table.loc["probe", "score"] > 0.8
    assert table.loc["options_and_length", "score"] > 0.8
    assert table.loc["options_and_length", "as_good"]
    assert table.loc["options_and_length", "difference_ci_low"] <= 0
    # Nothing is left of the probe once the prediction from length is held constant.
    assert abs(table.loc["probe", "partial"]) < 0.25
    assert not table.loc[["output_measures"], "as_good"].any()


@pytest.mark.parametrize("subjects", [0, 8])
def test_a_signal_of_its_own_beats_every_control(asked_run, subjects):
    run = asked_run(subjects=subjects).knows(np.zeros(120) + asked_run().doubt, 6.0)
    table = controls_of(run, run.doubt, untrained=asked_run(subjects=subjects, name="random"))
    others = table.drop(index=["probe", "random_projection"])
    assert table.loc["probe", "score"] > 0.9
    assert not others["as_good"].any()
    assert (others["difference_ci_low"] > 0).all()
    assert (others["p"] < 0.001).all()
    assert table.loc["probe", "partial"] > 0.9
    assert (table.loc["probe", "layer"], table.loc["random_projection", "layer"]) == (1, 1)
    assert "untrained" in others.index


def test_noise_beats_no_control(asked_run):
    """Over several studies, the interval of the difference to a control rarely lies above 0 where nobody knows."""
    clear = 0
    for seed in range(6):
        run = asked_run(n=100, d=8, seed=seed)
        run.activations = np.random.default_rng(100 + seed).standard_normal((3, 100, 8))
        table = controls_of(run, run.doubt, seed, n_random=2, layers=[0])
        clear += (~table.drop(index="probe")["as_good"]).sum()
    # 24 comparisons at 2.5 %, which are not independent.
    assert clear <= 3


# --- what is compared -----------------------------------------------------------------------------------


@pytest.mark.parametrize("subjects", [0, 8])
def test_scores_are_those_of_the_same_folds(asked_run, subjects):
    """Probe, lengths, words and measures, each predicted by hand in the folds that the same seed gives."""
    run = asked_run(n=80, subjects=subjects).knows(asked_run(n=80).doubt, 0.4)
    y = run.doubt
    table = controls_of(run, y)
    groups = run.items["subject"].to_numpy() if subjects else None
    folds = folds_of(y, groups)
    swept = sweep(run.activations, y, folds=folds, n_permutations=0, n_bootstrap=1, rng=np.random.default_rng(0))
    fits = {
        "options_and_length": nested_ridge(options_and_length(run).to_numpy(), y, folds),
        "tfidf": nested_ridge(
            TextFeatures(run.items["question"]), y, folds, penalties=10.0 ** np.arange(-3, 5), scale=False
        ),
        "output_measures": nested_ridge(MeasureFeatures(output_columns(run)), y, folds),
    }
    means = fold_means(y, folds)
    predictions = {"probe": swept.nested_predictions} | {name: fit.predictions for name, fit in fits.items()}
    deviations = {"probe": swept.nested_deviations} | {name: fit.deviations for name, fit in fits.items()}
    for name, values in predictions.items():
        assert table.loc[name, "score"] == pytest.approx(np.corrcoef(y, deviations[name])[0, 1])
        assert table.loc[name, "r2"] == pytest.approx(1 - ((y - values) ** 2).sum() / ((y - means) ** 2).sum())
        if name != "probe":
            difference = table.loc["probe", "score"] - table.loc[name, "score"]
            assert table.loc[name, "difference"] == pytest.approx(difference)
        if name != "options_and_length":
            residuals = [
                part
                - np.polyval(np.polyfit(deviations["options_and_length"], part, 1), deviations["options_and_length"])
                for part in (y, deviations[name])
            ]
            assert table.loc[name, "partial"] == pytest.approx(np.corrcoef(*residuals)[0, 1])
    assert np.isnan(table.loc["options_and_length", "partial"])
    assert table.loc["probe", ["difference", "difference_ci_low", "p"]].isna().all()
    assert table["n_groups"].isna().all() == (subjects == 0)


def test_the_probe_is_that_of_probe_layers(asked_run):
    run = asked_run(n=80, subjects=8).knows(asked_run(n=80).doubt, 0.5)
    alone = probe_layers(run, run.doubt, n_splits=5, n_permutations=0, progress=False, rng=np.random.default_rng(0))
    row = controls_of(run, run.doubt).loc["probe"]
    for mine, theirs in (("score", "nested_pearson"), ("ci_low", "nested_ci_low"), ("ci_high", "nested_ci_high")):
        assert row[mine] == pytest.approx(alone[theirs].iloc[0])
    assert row["r2"] == pytest.approx(alone["nested_score"].iloc[0])


def test_zero_one_targets_are_scored_by_auroc(asked_run):
    run = asked_run().knows(asked_run().doubt, 1.0)
    y = (run.doubt > 0).astype(float)
    table = controls_of(run, y)
    folds = folds_of(y)
    lengths = nested_ridge(options_and_length(run).to_numpy(), y, folds).deviations
    assert set(table["score_name"]) == {"auroc"}
    assert table.loc["options_and_length", "score"] == pytest.approx(roc_auc_score(y, lengths))
    assert table.loc["probe", "score"] > 0.8


def test_a_difference_by_hand():
    """Three units: changes of the difference in testing are -1, 0 and 1, in training -0.5, 0 and 0.5."""
    probe = Changes(0.9, np.array([0.1, 1.0, 1.9]), np.array([0.4, 0.9, 1.4]), 0.0)
    control = Changes(0.4, np.array([0.2, 0.1, 0.0]), np.array([0.2, 0.2, 0.2]), 0.0)
    tested, trained = np.array([-0.1, 0.9, 1.9]), np.array([0.2, 0.7, 1.2])
    variance = 2 / 3 * sum((t - 0.9) * (t - 0.9 + f - 0.7) for t, f in zip(tested, trained, strict=True))
    reach = stats.t.ppf(0.975, 2) * np.sqrt(variance)
    found = difference(probe, control)
    assert found["difference"] == 0.5
    assert (found["difference_ci_low"], found["difference_ci_high"]) == pytest.approx((0.5 - reach, 0.5 + reach))
    assert found["p"] == pytest.approx(stats.t.sf(0.5 / np.sqrt(variance), 2))
    assert found["as_good"]
    # A control that is drawn at random adds the variance of a draw; training that steadies the score takes nothing off.
    wider = difference(probe, control._replace(drawn=0.3))
    reach = stats.t.ppf(0.975, 2) * np.sqrt(variance + 0.3)
    assert wider["difference_ci_low"] == pytest.approx(0.5 - reach)
    steady = difference(probe._replace(trained=probe.trained[::-1]), control)
    assert steady["difference_ci_high"] == pytest.approx(0.5 + stats.t.ppf(0.975, 2) * np.sqrt(2 / 3 * 2))
    unknown = difference(probe._replace(tested=np.full(3, np.nan)), control)
    assert np.isnan([unknown["difference_ci_low"], unknown["p"]]).all()
    assert unknown["as_good"]


def test_a_control_that_is_the_probe_differs_by_nothing(asked_run):
    run = asked_run(name="one").knows(asked_run().doubt, 1.0)
    twin = asked_run(name="two").knows(asked_run().doubt, 1.0)
    twin.activations = run.activations
    row = controls_of(run, run.doubt, untrained=twin).loc["untrained"]
    assert row[["difference", "difference_ci_low", "difference_ci_high", "p"]].tolist() == [0, 0, 0, 1]
    assert row["as_good"]
    assert row["note"] == "org/two"


def test_the_table_has_its_columns_and_says_what_was_compared(asked_run):
    run = asked_run(n=60).knows(asked_run(n=60).doubt)
    table = probe_controls(
        run, "human_entropy_normalized", n_splits=5, n_random=4, n_directions=3, progress=False,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert table.columns.tolist() == [
        "model", "dataset", "prompt", "site", "position", "layer", "target", "scoring", "probe", "control", "n",
        "n_missing", "n_groups", "n_features", "score_name", "score", "ci_low", "ci_high", "r2", "partial",
        "difference", "difference_ci_low", "difference_ci_high", "p", "as_good", "note",
    ]  # fmt: skip
    assert table["control"].tolist() == NAMES
    rows = table.set_index("control")
    assert rows.loc["probe", "n_features"] == 16
    assert rows.loc["options_and_length", "n_features"] == 8
    assert rows.loc["random_projection", "n_features"] == 3
    assert rows.loc["random_projection", "note"].startswith("mean of 4 draws of 3 directions, sd 0.")
    assert table["n"].eq(60).all()
    assert table["target"].eq("human_entropy_normalized").all()
    assert table["as_good"].dtype == bool
    again = probe_controls(
        run, "human_entropy_normalized", n_splits=5, n_random=4, n_directions=3, progress=False,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    pd.testing.assert_frame_equal(table, again)


def test_a_probe_that_says_nothing_beats_nothing(asked_run):
    run = asked_run(n=60)
    run.activations[:] = 1.0
    table = controls_of(run, run.doubt)
    assert table["as_good"].drop("probe").all()
    assert table.loc["probe", "note"].startswith("every prediction is the training mean")
    assert table["difference"].isna().all()
    run = asked_run(n=60).knows(asked_run(n=60).doubt)
    run.items["question"] = "?"
    rows = controls_of(run, run.doubt)
    assert rows.loc["tfidf", "note"] == "every prediction is the training mean"
    assert not rows.loc["tfidf", "as_good"]
    assert np.isnan(rows.loc["tfidf", "difference"])


def test_missing_targets_and_gaps_in_measures_are_announced(asked_run):
    run = asked_run(n=60)
    y = run.doubt.copy()
    y[3] = np.nan
    with pytest.raises(ValueError, match=r"'given' must be known for every item of the run. Got none for items q3"):
        controls_of(run, y)
    # Logits so far apart that the exclusive nucleus of 0.5 is empty.
    run._logits[:20] *= 20
    table = controls_of(run, y, missing="drop")
    assert table["n"].eq(59).all()
    assert table["n_missing"].eq(1).all()
    note = table.loc["output_measures", "note"]
    assert note.startswith(
        "marked where missing, and filled with the training mean: top_p_entropy_0.95[exclusive] in 19"
    )
    assert note.endswith("and 4 more items")
    run.items["n_options"] = 3
    run.items["options"] = [list("abc")] * 60
    run.items["answer"] = pd.array([0] * 60, dtype="Int64")
    assert controls_of(run, run.doubt).loc["options_and_length", "note"] == "n_options does not vary"


# --- the features ---------------------------------------------------------------------------------------


def test_lengths_by_hand(asked_run):
    run = asked_run(n=4)
    run.items["question"] = ["Who?", "Is it so?", " One  two three ", "é"]
    run.rows = pd.DataFrame({"item": [0, 0, 1, 2, 3], "rotation": [0, 1, 0, 0, 0], "n_tokens": [10, 14, 20, 30, 40]})
    found = options_and_length(run)
    assert found["prompt_tokens"].tolist() == [12, 20, 30, 40]
    assert found["question_characters"].tolist() == [4, 9, 16, 1]
    assert found["question_words"].tolist() == [1, 3, 3, 1]
    np.testing.assert_allclose(found["log_prompt_tokens"], np.log([12, 20, 30, 40]))
    np.testing.assert_allclose(found["log_n_options"], np.log(run.items["n_options"]))
    np.testing.assert_allclose(found["log_question_words"], np.log([2, 4, 4, 2]))


def test_words_are_learnt_from_the_training_rows():
    texts = np.array(["red green", "green blue", "red red", "violet red"], dtype=object)
    train, test = TextFeatures(texts)(0, np.array([0, 1, 2]), np.array([3]))
    vectorizer = TfidfVectorizer().fit(texts[:3])
    np.testing.assert_allclose(train, vectorizer.transform(texts[:3]).toarray())
    np.testing.assert_allclose(test, vectorizer.transform(texts[3:]).toarray())
    assert train.shape[1] == 3


def test_random_directions_are_taken_of_standardised_activations():
    rng = np.random.default_rng(0)
    rows, directions = rng.standard_normal((20, 6)) * 10 ** rng.uniform(0, 3, 6), rng.standard_normal((6, 2))
    train, test = np.arange(15), np.arange(15, 20)
    found = RandomDirections([rows], directions)(0, train, test)
    scaler = StandardScaler().fit(rows[train])
    np.testing.assert_allclose(found[0], scaler.transform(rows[train]) @ directions)
    np.testing.assert_allclose(found[1], scaler.transform(rows[test]) @ directions)


def test_every_measure_stands_once_and_gaps_are_marked(asked_run):
    run = asked_run(n=30)
    run._logits[:8] *= 30
    columns = output_columns(run)
    assert "choice_margin[label_single]" in columns
    assert "choice_margin[text_mean]" in columns
    assert {"top_p_size_0.9[inclusive]", "top_p_size_0.9[exclusive]", "total_entropy"} <= set(columns)
    # text_mean states no probability.
    assert "choice_mass[label_single]" in columns
    assert "choice_mass[text_mean]" not in columns
    gappy = "top_p_entropy_0.5[exclusive]"
    assert columns[gappy].isna().any()
    pair = columns[["varentropy", gappy]].set_axis(["a", "b"], axis=1)
    train, test = np.arange(4, 30), np.arange(4)
    of_train, of_test = MeasureFeatures(pair)(0, train, test)
    assert of_train.shape == (26, 5)
    known = pair["b"].iloc[4:].dropna()
    gap = pair["b"].isna().to_numpy()
    np.testing.assert_allclose(of_test[gap[:4], 2], known.mean())
    np.testing.assert_allclose(of_test[gap[:4], 3], 0.5)
    np.testing.assert_array_equal(of_train[:, 4], gap[4:])
    a = pair["a"].to_numpy()
    below = [((a[4:] < value).sum() + (a[4:] == value).sum() / 2) / 26 for value in a]
    np.testing.assert_allclose(np.r_[of_test[:, 1], of_train[:, 1]], below)


def test_a_partial_correlation_is_that_of_residuals_and_a_constant_controls_nothing():
    x, y, z = np.random.default_rng(0).standard_normal((3, 30))
    assert _partial(y, x, np.zeros(30)) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert np.isnan(_partial(y, z, z))


# --- refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("items", "others", "same items, prompt and width. Its items is 'others', and that of the run 'i'"),
        ("prompt", "bare", "Its prompt is 'bare', and that of the run 'two_shot'"),
        ("chat", True, "Its chat is True, and that of the run None"),
        ("prompts", "x", "Its prompts is 'x', and that of the run 'p'"),
        ("tokens", "x", "Its tokens is 'x', and that of the run 't'"),
        ("d_model", 8, "Its d_model is 8, and that of the run 16"),
        ("n_layers", 9, "Its n_layers is 9, and that of the run 3"),
        ("weights", "weights of tiny", "of other weights than the run's. Its weights is the same, 'weights of tiny'"),
        ("checkpoint", "org/tiny", "Its checkpoint is the same, 'org/tiny'; extract checkpoint.untrained"),
    ],
)
def test_a_run_that_is_no_untrained_twin_is_refused(asked_run, field, value, message):
    twin = asked_run(name="random")
    twin.info[field] = value
    with pytest.raises(ValueError, match=message):
        controls_of(asked_run(), "human_entropy_normalized", untrained=twin)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_random": 1}, "n_random parameter of probe_controls must be at least 2. Got 1 instead"),
        ({"n_directions": 0}, "n_directions parameter of probe_controls must be at least 1. Got 0 instead"),
        ({"penalties": []}, "penalties parameter of probe_controls must be a positive number or a sequence"),
        ({"missing": "keep"}, "missing parameter of probe_controls must be 'raise' or 'drop'. Got 'keep'"),
        ({"site": "resid_past"}, "Got 'resid_past' instead"),
        ({"target": "human_entropi"}, "Did you mean 'human_entropy'"),
    ],
)
def test_bad_arguments(asked_run, settings, message):
    target = settings.pop("target", "human_entropy_normalized")
    with pytest.raises(ValueError, match=message):
        controls_of(asked_run(n=30), target, **settings)

"""Probes and signals of a run: targets, groups, keys, missing values and the Parquet round trip."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from doubtlens.extract.statistics import logit_statistics
from doubtlens.probes import human_targets, load_signals, output_measures, probe_layers
from doubtlens.probes.layers import item_activations
from doubtlens.probes.signals import signals

VOCABULARY = 128
FAST = {"n_permutations": 19, "n_bootstrap": 20, "progress": False}


class MadeRun:
    """A run in memory: 60 items of 2 to 4 options, four layers; layer 2 knows the human entropy."""

    layers = [3, 5, 7, 9]  # noqa: RUF012
    sites = ["resid_mid", "resid_post"]  # noqa: RUF012
    positions = ["last", "question_mean", "labels"]  # noqa: RUF012
    scorings = ("label_single", "text_mean")

    def __init__(self, n=60, seed=0):
        rng = np.random.default_rng(seed)
        counts = rng.integers(2, 5, n)
        self.items = pd.DataFrame(
            {
                "id": [f"q{row}" for row in range(n)],
                "question": "Which?",
                "options": [list("abcd")[:k] for k in counts],
                "answer": pd.array([int(rng.integers(k)) for k in counts], dtype="Int64"),
                "responses": pd.Series([rng.integers(1, 30, k).astype(float).tolist() for k in counts], dtype=object),
                "respondents": pd.array([None] * n, dtype="Int64"),
                "subject": [f"s{row % 6}" for row in range(n)],
                "excluded": None,
                "prompt": "Which? ...",
                "n_options": counts,
            }
        )
        self.info = {
            "model": "tiny", "dataset": "made", "prompt": "two_shot", "setting": "choice",
            "permutations": "none", "vocab_size": VOCABULARY, "logits": "full",
        }  # fmt: skip
        self._logits = rng.standard_normal((n, VOCABULARY)) * 3
        self._activations = rng.standard_normal((4, n, 16)).astype(np.float32)
        known = human_targets(self.items)["human_entropy_normalized"].to_numpy()
        self._activations[2, :, :4] += 8 * known[:, None]
        self.statistics_computed = 0

    def residual(self, layer, site="resid_post", position="last"):
        """At `question_mean` the layers stand in reverse; the labels of an item have `last` for their mean."""
        offset = 100.0 if site == "resid_mid" else 0.0
        layers = self.layers[::-1] if position == "question_mean" else self.layers
        values = self._activations[layers.index(layer)] + np.float32(offset)
        if position != "labels":
            return values
        counts = self.items["n_options"].to_numpy()[:, None]
        place = np.arange(4)
        from_mean = np.where(place < counts, place - (counts - 1) / 2, np.nan)
        return (values[:, None] + from_mean[..., None]).astype(np.float32)

    def choice_scores(self, scoring):
        start = 10 * self.scorings.index(scoring)
        scores = self._logits - np.log(np.exp(self._logits).sum(1, keepdims=True))
        scores = scores[:, start : start + 4].copy()
        scores[np.arange(4) >= self.items["n_options"].to_numpy()[:, None]] = np.nan
        return scores

    def statistics(self):
        self.statistics_computed += 1
        return pd.DataFrame(logit_statistics(self._logits))


def probed(run, target="human_entropy_normalized", seed=0, **settings):
    return probe_layers(run, target, rng=np.random.default_rng(seed), **(FAST | settings))


def made_signals(run, seed=0, **settings):
    return signals(run, rng=np.random.default_rng(seed), **(FAST | settings))


# --- probe_layers ---------------------------------------------------------------------------------------


def test_the_layer_that_knows_is_found():
    table = probed(MadeRun())
    columns = [
        "model", "dataset", "prompt", "site", "position", "layer", "target", "scoring", "probe", "n", "n_missing",
        "n_groups", "folds", "score_name", "score", "r2", "pearson", "spearman", "auroc", "auprc", "brier",
        "log_loss", "ci_low", "ci_high", "null_mean", "null_sd", "null_pearson_mean", "null_pearson_sd",
        "p", "p_max", "best", "layer_low", "layer_high", "nested_score", "nested_p", "nested_pearson", "nested_ci_low",
        "nested_ci_high", "permutation", "n_permutations", "note",
    ]  # fmt: skip
    assert table.columns.tolist() == columns
    assert table["layer"].tolist() == [3, 5, 7, 9]
    assert table.loc[table["best"], "layer"].tolist() == [7]
    assert table.loc[2, "p_max"] == 0.05
    assert table.loc[2, "nested_pearson"] > 0.5
    first = table.iloc[0]
    assert first[["model", "dataset", "prompt", "site"]].tolist() == ["tiny", "made", "two_shot", "resid_post"]
    assert first[["target", "probe", "score_name"]].tolist() == ["human_entropy_normalized", "ridge", "r2"]
    assert first[["n", "n_missing", "n_groups", "folds"]].tolist() == [60, 0, 6, 6]
    assert first["permutation"] == "within"


def test_correct_compares_the_best_option_with_the_answer():
    run = MadeRun()
    right = np.nanargmax(run.choice_scores("text_mean"), axis=1) == run.items["answer"].to_numpy(dtype=int)
    named = probed(run, "correct", scoring="text_mean")
    given = probed(run, right)
    assert named["score_name"].eq("auroc").all()
    assert named["scoring"].eq("text_mean").all()
    assert given["target"].eq("given").all()
    assert np.array_equal(named["auroc"], given["auroc"])
    assert not np.array_equal(named["auroc"], probed(run, "correct")["auroc"])
    assert probed(run, "correct")["scoring"].eq("label_single").all()


@pytest.mark.parametrize("probe", ["mass_mean", "logistic"])
def test_other_probes_by_name(probe):
    table = probed(MadeRun(), "correct", probe=probe, n_permutations=None, layers=[7])
    assert table["probe"].tolist() == [probe]
    assert table["n_permutations"].tolist() == [{"mass_mean": 200, "logistic": 0}[probe]]


def test_layers_site_and_groups_are_chosen():
    run = MadeRun()
    table = probed(run, layers=[9, 3], site="resid_mid", groups=None)
    assert table["layer"].tolist() == [9, 3]
    assert table["site"].eq("resid_mid").all()
    assert table["n_groups"].isna().all()
    assert table["folds"].eq(10).all()
    assert table["permutation"].eq("free").all()
    given = np.arange(60) % 3
    assert probed(run, groups=given, layers=[3])["n_groups"].tolist() == [3]
    run.items["author"] = given
    assert probed(run, groups="author", layers=[3])["n_groups"].tolist() == [3]


def test_the_position_is_chosen_and_labels_are_averaged():
    run = MadeRun()
    table = probed(run, position="question_mean")
    assert table["position"].eq("question_mean").all()
    assert table.loc[table["best"], "layer"].tolist() == [5]
    assert probed(run, layers=[7])["position"].tolist() == ["last"]
    last, labels = probed(run, layers=[7]), probed(run, layers=[7], position="labels")
    assert labels["position"].tolist() == ["labels"]
    np.testing.assert_allclose(labels["score"], last["score"], rtol=1e-4)
    table = made_signals(run, targets=["human_entropy_normalized"], position="labels").layers
    assert table["position"].eq("labels").all()
    np.testing.assert_allclose(item_activations(run, 7, position="labels"), run.residual(7), atol=1e-5)


def test_a_nan_among_the_labels_of_an_item_is_not_averaged_away():
    run = MadeRun()
    whole = run.residual

    def damaged(layer, site="resid_post", position="last"):
        values = whole(layer, site, position)
        values[4, 1, 0] = np.nan
        return values

    run.residual = damaged
    with pytest.raises(ValueError, match=r"Features of layer 3 must be finite. Got NaN or inf in items q4"):
        probed(run, position="labels")


@pytest.mark.parametrize("subjects", ["absent", None, "history"])
def test_without_subjects_folds_are_plain(subjects):
    run = MadeRun()
    run.items = run.items.drop(columns="subject") if subjects == "absent" else run.items.assign(subject=subjects)
    assert probed(run, layers=[3])["n_groups"].isna().all()


def test_missing_targets_are_named_or_dropped_and_counted():
    run = MadeRun()
    run.items.at[4, "responses"] = None
    with pytest.raises(
        ValueError, match=r"known for every item of the run. Got none for items q4; pass missing='drop'"
    ):
        probed(run)
    table = probed(run, missing="drop")
    assert table["n"].eq(59).all()
    assert table["n_missing"].eq(1).all()
    with pytest.raises(ValueError, match=r"'recall_correct' is missing for every item of the run"):
        probed(run, "recall_correct", missing="drop")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "human_entropi"}, "Got 'human_entropi' instead. Did you mean 'human_entropy'?"),
        ({"site": "resid_past"}, r"a site of the run \(resid_mid, resid_post\). Got 'resid_past'.*'resid_post'\?"),
        ({"position": "lable"}, r"a position of the run \(last, question_mean, labels\). Got 'lable'.*'labels'\?"),
        ({"layers": [3, 8]}, r"layers of the run \(3, 5, 7, 9\). Got '8' instead"),
        ({"probe": "rigde"}, "Did you mean 'ridge'?"),
        ({"groups": "subjekt"}, r"a column of the items.*Got 'subjekt' instead. Did you mean 'subject'\?"),
        ({"target": "correct", "scoring": "text_sum"}, "Got 'text_sum' instead. Did you mean 'text_mean'?"),
        ({"scoring": "text_mean"}, "must be None for 'human_entropy_normalized', which no answer scoring enters"),
        ({"missing": "ignore"}, "missing parameter of probe_layers must be 'raise' or 'drop'. Got 'ignore'"),
        ({"target": np.ones(3)}, r"a name or one number per item, \[60\]. Got shape \(3,\) instead"),
        ({"target": np.ones(60)}, "y parameter must vary. Got 1 in all 60 rows"),
        ({"probe": "logistic"}, "kind='logistic' is for targets of 0 and 1"),
    ],
)
def test_bad_arguments(settings, message):
    with pytest.raises(ValueError, match=message):
        probed(MadeRun(), **settings)


def test_bad_groups_and_activations_name_the_items():
    run = MadeRun()
    run.items.loc[[2, 5], "subject"] = None
    with pytest.raises(
        ValueError, match=r"'subject' must be filled for all items or none. Got no value for items q2, q5"
    ):
        probed(run)
    run = MadeRun()
    run._activations[1, 7, 0] = np.nan
    with pytest.raises(ValueError, match=r"Features of layer 5 must be finite. Got NaN or inf in items q7"):
        probed(run)


def test_the_progress_bar_goes_to_stderr(capsys):
    probed(MadeRun(), progress=True, layers=[3])
    assert capsys.readouterr().out == ""


# --- signals --------------------------------------------------------------------------------------------


def test_signals_hold_measures_targets_and_nested_predictions():
    run = MadeRun()
    result = made_signals(run)
    table = result.table
    assert run.statistics_computed == 1
    assert len(table) == 60 * 2 * 2
    assert not table.duplicated(["model", "dataset", "item", "prompt", "setting", "scoring", "nucleus"]).any()
    for (scoring, nucleus), rows in table.groupby(["scoring", "nucleus"], sort=False):
        measures = output_measures(run, scoring=scoring, nucleus=nucleus)
        pd.testing.assert_frame_equal(rows[measures.columns].reset_index(drop=True), measures)
        scores = run.choice_scores(scoring)
        assert rows["item"].tolist() == run.items["id"].tolist()
        assert rows["correct"].tolist() == (rows["choice"] == rows["answer"]).astype(float).tolist()
        for row, (kept, k) in enumerate(zip(rows["choice_log_probabilities"], run.items["n_options"], strict=True)):
            assert kept == scores[row, :k].tolist()
        human = human_targets(run.items)
        for column in ("n_options", "human_entropy", "human_entropy_normalized", "human_correct"):
            assert rows[column].tolist() == human[column].tolist()
        assert rows["human_top"].tolist() == human["human_top"].tolist()
        assert rows["responses"].tolist() == run.items["responses"].tolist()
        assert rows["subject"].tolist() == run.items["subject"].tolist()
        assert rows["respondents"].tolist() == run.items["respondents"].tolist()
        assert rows["recall_correct"].isna().all()
        assert np.corrcoef(rows["probe_human_entropy_normalized"], rows["human_entropy_normalized"])[0, 1] > 0.5
        assert rows["probe_correct"].between(0, 1).all()
    # One prediction of the human target for all rows of an item, one of correctness per scoring.
    assert (table.groupby("item")["probe_human_entropy_normalized"].nunique() == 1).all()
    assert (table.groupby(["item", "scoring"])["probe_correct"].nunique() == 1).all()
    assert (table.groupby("item")["probe_correct"].nunique() == 2).sum() > 50
    assert result.skipped == {}


def test_signals_hold_what_takes_the_r2_of_probe_measures_and_both():
    run = MadeRun()
    result = made_signals(run)
    target = "human_entropy_normalized"
    y, probe, measures, both, baseline, fold = (
        result.table[f"{kind}{target}"].iloc[:60].to_numpy(dtype=float)
        for kind in ("", "probe_raw_", "measures_raw_", "probe_and_measures_raw_", "baseline_", "fold_")
    )
    layers = result.layers[result.layers["target"] == target]
    assert 1 - ((y - probe) ** 2).sum() / ((y - baseline) ** 2).sum() == pytest.approx(layers["nested_score"].iloc[0])
    comparable = result.table[f"probe_{target}"].iloc[:60]
    assert np.corrcoef(comparable, y)[0, 1] == pytest.approx(layers["nested_pearson"].iloc[0])
    assert sorted(set(fold)) == list(range(6))
    for number in range(6):
        assert set(run.items["subject"][fold == number]).isdisjoint(run.items["subject"][fold != number])
        np.testing.assert_allclose(baseline[fold == number], y[fold != number].mean())
    # The output knows nothing here, and adding it to the probe takes nothing away.
    assert np.corrcoef(measures, y)[0, 1] < 0.3
    assert np.corrcoef(both, y)[0, 1] > 0.5
    kinds = [kind + end for kind in ("probe", "measures", "probe_and_measures") for end in ("", "_raw")]
    probabilities = result.table[[f"{kind}_correct" for kind in kinds]]
    assert (probabilities.gt(0) & probabilities.lt(1)).all(axis=None)
    # Correctness differs between scorings, and so does what is made of it.
    assert result.table.groupby("item")["measures_correct"].nunique().max() == 2


def test_signals_layers_are_those_of_probe_layers():
    run = MadeRun()
    layers = made_signals(run).layers
    assert layers[["target", "scoring"]].drop_duplicates().fillna("-").to_numpy().tolist() == [
        ["human_entropy_normalized", "-"], ["correct", "label_single"], ["correct", "text_mean"],
    ]  # fmt: skip
    for target, scoring in (("human_entropy_normalized", None), ("correct", "label_single")):
        alone = probed(run, target, scoring=scoring)
        rows = layers[layers["target"] == target].iloc[:4]
        assert rows["layer"].tolist() == alone["layer"].tolist()
        assert np.allclose(rows["score"], alone["score"])
        assert np.allclose(rows["nested_score"], alone["nested_score"])


def test_nested_predictions_stand_at_their_items():
    run = MadeRun()
    run.items.loc[[0, 31], "answer"] = None
    run.items.at[9, "responses"] = None
    table = made_signals(run, n_permutations=0, layers=[7]).table
    missing = table[table["probe_correct"].isna()]
    assert set(missing["item"]) == {"q0", "q31"}
    assert missing["correct"].isna().all()
    others = ["measures_correct", "probe_and_measures_correct", "probe_raw_correct", "baseline_correct", "fold_correct"]
    assert missing[others].isna().all(axis=None)
    assert table.loc[table["probe_correct"].notna(), others].notna().all(axis=None)
    assert len(missing) == 8
    missing = table[table["probe_human_entropy_normalized"].isna()]
    assert set(missing["item"]) == {"q9"}
    assert missing["responses"].isna().all()
    known = table.dropna(subset="human_entropy_normalized")
    assert np.corrcoef(known["probe_human_entropy_normalized"], known["human_entropy_normalized"])[0, 1] > 0.5


def test_targets_that_the_data_cannot_support_are_named():
    run = MadeRun()
    run.items["answer"] = pd.array([None] * 60, dtype="Int64")
    run.items["responses"] = pd.Series([[1.0] * k for k in run.items["n_options"]], dtype=object)
    result = made_signals(run)
    assert result.skipped["correct (label_single)"] == "it is missing for every item"
    assert "must vary. Got 1 in all 60 rows" in result.skipped["human_entropy_normalized"]
    assert len(result.skipped) == 3
    assert result.layers.empty
    assert result.table[["probe_correct", "probe_human_entropy_normalized"]].isna().all(axis=None)
    assert len(result.table) == 240


def test_signals_take_the_scorings_nuclei_and_targets_that_are_named():
    result = made_signals(
        MadeRun(), scorings=["text_mean"], nuclei=["inclusive"], targets=["human_entropy"], layers=[3]
    )
    assert len(result.table) == 60
    assert result.layers[["target", "layer"]].to_numpy().tolist() == [["human_entropy", 3]]
    assert "probe_human_entropy" in result.table
    assert "probe_correct" not in result.table
    bare = made_signals(MadeRun(), targets=[])
    assert bare.layers.empty
    with pytest.raises(ValueError, match=r"Got 'label_singel' instead. Did you mean 'label_single'\?"):
        made_signals(MadeRun(), scorings=["label_singel"])
    with pytest.raises(ValueError, match=r"Got 'corect' instead. Did you mean 'correct'\?"):
        made_signals(MadeRun(), targets=["corect"])
    with pytest.raises(ValueError, match=r"must not be empty. Got \(\) and \('inclusive', 'exclusive'\)"):
        made_signals(MadeRun(), scorings=[])


def test_signals_are_the_same_for_the_same_seed():
    one, two = made_signals(MadeRun()), made_signals(MadeRun())
    pd.testing.assert_frame_equal(one.table, two.table)
    pd.testing.assert_frame_equal(one.layers, two.layers)


# --- Parquet --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gaps", [False, True])
def test_round_trip(tmp_path, gaps):
    run = MadeRun()
    if gaps:
        run.items.at[9, "responses"] = None
        run.items["answer"] = pd.array([None] * 60, dtype="Int64")
    result = made_signals(run, layers=[3])
    paths = result.save(tmp_path / "run.two_shot")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
    assert [path.name for path in paths] == ["run.two_shot.signals.parquet", "run.two_shot.layers.parquet"]
    again = load_signals(tmp_path / "run.two_shot")
    pd.testing.assert_frame_equal(again.table, result.table)
    pd.testing.assert_frame_equal(again.layers, result.layers)
    assert again.skipped == result.skipped
    assert bool(again.skipped) == gaps
    assert isinstance(again.table["choice_log_probabilities"].iloc[0], list)
    assert isinstance(again.table["human_top"].iloc[0], list)


def test_an_empty_layer_table_survives(tmp_path):
    made_signals(MadeRun(), targets=[]).save(tmp_path / "run")
    assert load_signals(tmp_path / "run").layers.empty


def test_a_failed_write_leaves_no_pair_that_looks_whole(tmp_path, monkeypatch):
    from doubtlens.probes import signals as module

    result = made_signals(MadeRun(), layers=[3])
    result.save(tmp_path / "run")

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        result.save(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match=r"no file .*run.signals.parquet. Signals.save\('.*run'\) writes it"):
        load_signals(tmp_path / "run")


def test_bad_files(tmp_path):
    result = made_signals(MadeRun(), layers=[3])
    with pytest.raises(FileNotFoundError, match=r"stem parameter of Signals.save must lie in a folder that exists"):
        result.save(tmp_path / "none" / "run")
    result.save(tmp_path / "run")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "run.layers.parquet")
    with pytest.raises(ValueError, match=r"run.layers.parquet has no column 'layer', so it is not what Signals.save"):
        load_signals(tmp_path / "run")
    (tmp_path / "run.layers.parquet").write_bytes(b"not parquet")
    with pytest.raises(ValueError, match=r"run.layers.parquet cannot be read as Parquet"):
        load_signals(tmp_path / "run")


def test_reading_signals_and_sweeping_need_no_torch():
    code = (
        "import sys; from doubtlens.probes import load_signals, probe_layers, RidgeProbe, LayerSweep; "
        "import doubtlens.probes.sweep; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

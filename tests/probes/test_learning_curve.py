"""The learning curve: its end is the sweep, its subsets lie in the training folds, and noise stays flat."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from doubtlens.probes import learning_curve
from doubtlens.probes.folds import outer_folds
from doubtlens.probes.learning_curve import KINDS, _draw
from doubtlens.probes.probed_rows import ProbedRows
from doubtlens.probes.sweep import sweep


def curve_of(run, target, seed=0, **settings):
    settings = {"repeats": 3, "n_bootstrap": 100, "n_splits": 5, "progress": False, "device": "cpu"} | settings
    return learning_curve(run, target, rng=np.random.default_rng(seed), **settings)


def test_more_rows_make_a_better_probe_and_none_of_noise(asked_run):
    run = asked_run().knows(asked_run().doubt, 0.7)
    table = curve_of(run, run.doubt, sizes=[12, 30, 96], repeats=5)
    assert table["n_train"].tolist() == [12, 30, 96]
    assert table["score"].is_monotonic_increasing
    assert table["r2"].is_monotonic_increasing
    assert table["score"].iloc[-1] > table["score"].iloc[0] + 0.1 > 0.4
    # Few rows are drawn in very different ways, all of them in one.
    assert table["score_sd"].iloc[0] > 3 * table["score_sd"].iloc[-1]
    assert ((table["ci_low"] < table["score"]) & (table["score"] < table["ci_high"])).all()
    noise = asked_run(seed=3)
    flat = curve_of(noise, noise.doubt, sizes=[20, 96], layer=0)
    assert (flat["score"].abs() < 0.25).all()
    assert (flat["ci_low"] < 0.05).all()


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("layer", [None, 1])
def test_the_end_of_the_curve_is_the_sweep(asked_run, binary, layer):
    """With folds of one size, all training rows are drawn: every repeat is the nested probe of the sweep."""
    run = asked_run(n=60).knows(asked_run(n=60).doubt, 0.5)
    y = (np.argsort(np.argsort(run.doubt)) >= 30).astype(float) if binary else run.doubt
    table = curve_of(run, y, layer=layer, sizes=[48])
    drawn = np.random.default_rng(int(np.random.default_rng(0).integers(2**63)))  # as a sweep draws its folds
    folds = outer_folds(y, None, n_splits=5, rng=drawn)
    kept = run.activations if layer is None else run.activations[[layer]]
    result = sweep(kept, y, folds=folds, n_permutations=0, n_bootstrap=1, rng=np.random.default_rng(0)).table.iloc[0]
    assert table["score"].iloc[0] == pytest.approx(result["nested_score" if binary else "nested_pearson"])
    if not binary:
        assert table["r2"].iloc[0] == pytest.approx(result["nested_score"])
    assert table["score_sd"].iloc[0] == pytest.approx(0, abs=1e-9)
    assert table["score_name"].iloc[0] == ("auroc" if binary else "pearson")


def test_subsets_are_drawn_within_the_training_folds_and_groups_stay_whole(asked_run, monkeypatch):
    run = asked_run(subjects=8)
    run.activations[1, :, 0] = np.arange(120)
    subjects = np.arange(120) % 8
    seen = []
    ridge = KINDS["ridge"]

    def fit(train, test, targets, codes, penalties, calibrate, **settings):
        rows, held_out = train[:, 0].astype(int), test[:, 0].astype(int)
        seen.append((rows, held_out))
        np.testing.assert_array_equal(targets[:, 0], run.doubt[rows])
        np.testing.assert_array_equal(
            np.unique(codes, return_inverse=True)[1], np.unique(subjects[rows], return_inverse=True)[1]
        )
        return ridge.fit(train, test, targets, codes, penalties, calibrate, **settings)

    monkeypatch.setitem(KINDS, "ridge", dataclasses.replace(ridge, fit=fit))
    curve_of(run, run.doubt, layer=1, sizes=[15, 60], repeats=2)
    fits = [pair for pair in seen if len(pair[0]) in (15, 60)]
    assert [len(rows) for rows, _ in fits] == [15, 15, 60, 60] * 5
    for rows, held_out in fits:
        assert len(set(rows)) == len(rows)
        assert not set(subjects[rows]) & set(subjects[held_out])
    # Two draws of a size differ, and test folds are whole.
    assert set(fits[0][0]) != set(fits[1][0])
    assert sorted(np.concatenate([held_out for _, held_out in fits[::4]])) == list(range(120))


def test_draws_of_two_classes_keep_their_share_and_one_of_each(asked_run):
    run = asked_run(n=100)
    y = (np.arange(100) % 10 == 0).astype(float)
    rows = ProbedRows.of(
        run, y, scoring=None, groups=None, n_splits=5, missing="raise", caller="test", rng=np.random.default_rng(0)
    )
    train = rows.folds.train(0)
    for size, ones in ((10, 1), (40, 4), (80, 8)):
        drawn = _draw(train, rows, size, np.random.default_rng(1))
        assert len(set(drawn)) == size
        assert set(drawn) <= set(train)
        assert y[drawn].sum() == ones


def test_the_table_and_its_default_sizes(asked_run):
    run = asked_run(n=60)
    table = curve_of(run, "human_entropy_normalized")
    assert table.columns.tolist() == [
        "model", "dataset", "prompt", "site", "position", "layer", "target", "scoring", "probe", "n_train", "repeats",
        "n", "n_missing", "n_groups", "score_name", "score", "score_sd", "ci_low", "ci_high", "r2", "note",
    ]  # fmt: skip
    assert table["n_train"].tolist() == [10, 14, 19, 26, 35, 48]
    assert table["repeats"].eq(3).all()
    assert table["n"].eq(60).all()
    again = curve_of(run, "human_entropy_normalized")
    pd.testing.assert_frame_equal(table, again)
    if table["layer"].isna().all():
        assert table["note"].str.contains(r"layer \d in \d.* folds").all()


def test_layers_that_folds_chose_are_spelt_out(asked_run):
    run = asked_run(n=60)
    run.activations[2] = run.activations[1] = run.activations[0]
    assert curve_of(run, run.doubt, sizes=[20])["layer"].tolist() == [0]
    run = asked_run(n=60).knows(asked_run(n=60).doubt, 0.1, layer=0).knows(asked_run(n=60).doubt, 0.1, layer=2)
    table = curve_of(run, run.doubt, sizes=[20], seed=1)
    assert table["layer"].isna().all() == ("folds" in (table["note"].iloc[0] or ""))


def test_other_probes_and_flat_activations(asked_run):
    run = asked_run(n=60).knows(asked_run(n=60).doubt, 0.5)
    y = (run.doubt > 0).astype(float)
    for probe in ("mass_mean", "logistic"):
        table = curve_of(run, y, probe=probe, layer=1, sizes=[30, 40], repeats=2)
        assert table["probe"].eq(probe).all()
        assert (table["score"] > 0.6).all()
    run.activations[:] = 1.0
    table = curve_of(run, run.doubt, layer=1, sizes=[30])
    assert np.isnan(table[["score", "ci_low"]].to_numpy(dtype=float)).all()
    assert table["note"].iloc[0].startswith("no score in 3 of 3 repeats: their predictions do not vary")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sizes": [9]}, r"sizes parameter of learning_curve must be different whole numbers from 10 to 24.*Got \[9\]"),
        ({"sizes": [25]}, r"from 10 to 24, the smallest training fold. Got \[25\]"),
        ({"sizes": [12, 12]}, r"must be different whole numbers .* Got \[12, 12\]"),
        ({"sizes": [12.5]}, r"must be different whole numbers .* Got \[12.5\]"),
        ({"sizes": []}, r"must be different whole numbers .* Got \[\]"),
        ({"repeats": 1}, "repeats parameter of learning_curve must be at least 2. Got 1"),
        ({"layer": 1, "layers": [1, 2]}, r"layers parameter of learning_curve must be None where a layer is named"),
        ({"layer": 7}, r"layers of the run \(0, 1, 2\). Got '7'"),
        ({"probe": "rigde"}, "Did you mean 'ridge'"),
        ({"missing": "keep"}, "missing parameter of learning_curve must be 'raise' or 'drop'"),
    ],
)
def test_bad_arguments(asked_run, settings, message):
    with pytest.raises(ValueError, match=message):
        curve_of(asked_run(n=30), asked_run(n=30).doubt, **settings)

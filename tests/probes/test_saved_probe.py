"""Fitted probes: what is fitted, what is stored, what is refused, and the file itself."""

import json
import os
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
from safetensors import safe_open
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from doubtlens.probes import LogisticProbe, SavedProbe, fit_probe, human_targets, load_probe, probe_layers

LAYERS, WIDTH, N = [2, 5], 6, 48
LEFT_OUT = object()


class MadeRun:
    """48 items of 2 to 4 options in six subjects; layer 5 knows the human entropy, and dimension 3 of it is dead."""

    sites = ["resid_mid", "resid_post"]  # noqa: RUF012
    positions = ["last", "labels"]  # noqa: RUF012
    layers = LAYERS
    scorings = ("label_single",)

    def __init__(self, width=WIDTH, **info):
        rng = np.random.default_rng(0)
        counts = rng.integers(2, 5, N)
        self.items = pd.DataFrame(
            {
                "id": [f"q{row}" for row in range(N)],
                "options": [list("abcd")[:k] for k in counts],
                "answer": pd.array([0] * N, dtype="Int64"),
                "responses": pd.Series([rng.integers(1, 30, k).astype(float).tolist() for k in counts], dtype=object),
                "subject": [f"s{row % 6}" for row in range(N)],
                "n_options": counts,
            }
        )
        self.info = {
            "model": "tiny", "checkpoint": "made/tiny", "revision": None, "weights": "ab12", "config": "c0",
            "dtype": "float32", "d_model": width, "dataset": "made", "prompt": "two_shot", "items": "f00d",
        } | info  # fmt: skip
        self.activations = rng.standard_normal((2, N, width)) * 10.0 ** np.arange(-1, width - 1)
        self.activations[1, :, 0] += self.entropy()
        self.activations[1, :, 3] = 7.0
        self.scores = np.where(np.arange(4) < counts[:, None], rng.standard_normal((N, 4)), np.nan)

    def entropy(self):
        return human_targets(self.items)["human_entropy_normalized"].to_numpy()

    def residual(self, layer, site="resid_post", position="last"):
        values = (self.activations[LAYERS.index(layer)] + (site == "resid_mid")).astype(np.float32)
        if position == "last":
            return values
        beyond = np.arange(4) >= self.items["n_options"].to_numpy()[:, None]
        spread = np.arange(4) - (self.items["n_options"].to_numpy()[:, None] - 1) / 2
        return np.where(beyond[..., None], np.nan, values[:, None] + 3 + spread[..., None]).astype(np.float32)

    def choice_scores(self, scoring):
        return self.scores


def fitted(run=None, target="human_entropy_normalized", seed=0, **settings):
    settings = {"layer": 5, "n_bootstrap": 50} | settings
    return fit_probe(MadeRun() if run is None else run, target, rng=np.random.default_rng(seed), **settings)


def binary(run):
    return (run.entropy() > np.median(run.entropy())).astype(float)


# --- what is fitted ---------------------------------------------------------------------------------------


def test_the_direction_is_ridge_on_standardised_features_in_raw_units():
    run = MadeRun()
    probe = fitted(run, penalties=30.0)
    x, y = run.residual(5).astype(np.float64), run.entropy()
    scaler = StandardScaler().fit(x)
    ridge = Ridge(alpha=30.0).fit(scaler.transform(x), y)
    np.testing.assert_allclose(probe.predict(run), ridge.predict(scaler.transform(x)), rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        probe.direction * probe.scaler_scale, ridge.coef_ * (x.std(0) > 0), rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(probe.scaler_mean, x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(probe.scaler_scale, x.std(axis=0), rtol=1e-12)
    assert probe.direction[3] == probe.scaler_scale[3] == 0
    assert (probe.penalty, probe.n, probe.kind, probe.calibration) == (30.0, N, "ridge", None)


def test_the_penalty_is_the_one_with_the_least_error_on_groups_left_out():
    run = MadeRun()
    grid = [1.0, 10.0, 100.0, 1000.0]
    x = StandardScaler().fit_transform(run.residual(5).astype(np.float64))
    y = run.entropy() + np.random.default_rng(1).normal(0, 0.3, N)
    subject = run.items["subject"].to_numpy()
    errors = []
    for alpha in grid:
        out = np.empty(N)
        for name in np.unique(subject):
            rest = subject != name
            out[~rest] = Ridge(alpha=alpha).fit(x[rest], y[rest]).predict(x[~rest])
        errors.append(np.mean((y - out) ** 2))
    probe = fitted(run, y, penalties=grid)
    assert probe.penalty == grid[int(np.argmin(errors))]
    assert probe.penalty not in (grid[0], grid[-1])


@pytest.mark.parametrize("target", ["human_entropy_normalized", "correct"])
def test_the_score_is_that_of_probe_layers(target):
    run = MadeRun()
    probe = fitted(run, target, seed=3)
    table = probe_layers(
        run, target, layers=[5], n_permutations=0, n_bootstrap=50, progress=False, rng=np.random.default_rng(3)
    )
    name = "auroc" if target == "correct" else "pearson"
    assert probe.score_name == name
    np.testing.assert_array_equal(
        [probe.score, probe.ci_low, probe.ci_high], table.loc[0, [name, "ci_low", "ci_high"]].to_numpy(dtype=float)
    )
    assert probe.scoring == ("label_single" if target == "correct" else None)
    for subject in run.items["subject"].unique():
        assert len(set(probe.folds[run.items["subject"] == subject])) == 1
    assert sorted(set(probe.folds)) == list(range(6))


def test_sd_is_that_of_the_projections_and_a_step_along_the_direction_is_a_step_of_the_score():
    run = MadeRun()
    probe = fitted(run)
    x = run.residual(5)
    projected = probe.project(x)
    assert probe.sd == pytest.approx(np.std(projected), rel=1e-12)
    np.testing.assert_allclose(probe.predict(run), projected + probe.intercept, rtol=1e-12)
    step = 2 * probe.sd / np.linalg.norm(probe.direction) * probe.direction_unit
    np.testing.assert_allclose(probe.project(x.astype(np.float64) + step), projected + 2 * probe.sd, rtol=1e-9)
    assert np.linalg.norm(probe.direction_unit) == pytest.approx(1)
    assert probe.project(x[0]).shape == ()
    assert probe.project(x.reshape(4, 12, WIDTH)).shape == (4, 12)


def test_a_logistic_probe_predicts_its_own_probabilities():
    run = MadeRun()
    y = binary(run)
    probe = fitted(run, y, probe="logistic", penalties=0.1)
    own = LogisticProbe(C=0.1).fit(run.residual(5), y)
    np.testing.assert_allclose(probe.predict(run), own.predict_proba(run.residual(5))[:, 1], rtol=1e-9)
    assert (probe.target, probe.calibration, probe.penalty) == ("given", (1.0, 0.0), 0.1)


def test_a_mass_mean_probe_points_from_one_mean_to_the_other():
    run = MadeRun()
    y = binary(run)
    probe = fitted(run, y, probe="mass_mean")
    x = run.residual(5).astype(np.float64)
    varies = probe.scaler_scale > 0
    difference = (x[y == 1].mean(0) - x[y == 0].mean(0))[varies] / probe.scaler_scale[varies] ** 2
    cosine = probe.direction[varies] @ difference / np.linalg.norm(probe.direction) / np.linalg.norm(difference)
    assert cosine == pytest.approx(1)
    # The score is a least-squares prediction: regressing the labels on it changes nothing.
    score = probe.project(x) + probe.intercept
    np.testing.assert_allclose(np.polyfit(score, y, 1), [1, 0], atol=1e-9)
    assert probe.penalty is None


@pytest.mark.parametrize("kind", ["ridge", "mass_mean"])
def test_probabilities_come_from_a_curve_through_out_of_fold_scores(kind):
    run = MadeRun()
    y = binary(run)
    probe = fitted(run, y, probe=kind, **({} if kind == "mass_mean" else {"penalties": 10.0}), n_splits=6)
    score = np.empty(N)
    x = run.residual(5).astype(np.float64)
    for fold in range(6):
        rest = probe.folds != fold
        scaler = StandardScaler().fit(x[rest])
        train, test = scaler.transform(x[rest]), scaler.transform(x[~rest])
        if kind == "ridge":
            out = Ridge(alpha=10.0).fit(train, y[rest]).predict(test)
        else:
            direction = train[y[rest] == 1].mean(0) - train[y[rest] == 0].mean(0)
            out = np.polyval(np.polyfit(train @ direction, y[rest], 1), test @ direction)
        score[~rest] = out - y[rest].mean() + y.mean()
    spread = score.std()
    curve = LogisticRegression(C=1.0, tol=1e-8).fit(score[:, None] / spread, y)
    mine = (probe.project(x) + probe.intercept)[:, None] / spread
    np.testing.assert_allclose(probe.predict(run), curve.predict_proba(mine)[:, 1], rtol=0, atol=1e-6)
    assert np.corrcoef(probe.predict(run), y)[0, 1] > 0.2


def test_where_the_out_of_fold_curve_falls_the_prediction_is_the_base_rate_and_the_direction_stays():
    run = MadeRun()
    y = np.zeros(N)
    y[np.random.default_rng(2).permutation(N)[:12]] = 1
    probe = fitted(run, y, layer=2)
    assert probe.calibration is not None
    assert probe.calibration[0] == 0
    np.testing.assert_allclose(probe.predict(run), 0.25, rtol=1e-12)
    assert np.linalg.norm(probe.direction) > 0


def test_labels_are_read_as_their_mean():
    run = MadeRun()
    probe = fitted(run, position="labels", penalties=1.0)
    last = fitted(run, penalties=1.0)
    np.testing.assert_allclose(probe.direction, last.direction, rtol=1e-4)
    np.testing.assert_allclose(probe.scaler_mean, last.scaler_mean + 3, rtol=1e-5)
    np.testing.assert_allclose(probe.predict(run), last.predict(run), rtol=1e-4)


def test_items_without_a_target_are_left_out_on_request():
    run = MadeRun()
    run.items.at[4, "responses"] = None
    with pytest.raises(
        ValueError, match=r"'human_entropy_normalized' must be known for every item.*q4.*missing='drop'"
    ):
        fitted(run)
    probe = fitted(run, missing="drop")
    assert (probe.n, len(probe.items), len(probe.folds)) == (N - 1, N - 1, N - 1)
    assert "q4" not in probe.items
    np.testing.assert_array_equal(np.flatnonzero(~probe.trained_on(run)), [4])
    assert len(probe.predict(run)) == N


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": 3}, r"The layer parameter of fit_probe must name a layer of the run \(2, 5\)\. Got '3' instead"),
        ({"site": "resid_pots"}, r"site parameter of fit_probe.*Got 'resid_pots' instead\. Did you mean 'resid_post'"),
        ({"position": "question"}, r"position parameter of fit_probe.*\(last, labels\)\. Got 'question'"),
        ({"probe": "rigde"}, "Got 'rigde' instead. Did you mean 'ridge'"),
        ({"probe": "mass_mean"}, "kind='mass_mean' is for targets of 0 and 1"),
        ({"target": "mood"}, "must name a target.*Got 'mood'"),
        ({"target": "human_entropy_normalised"}, "Did you mean 'human_entropy_normalized'"),
        ({"missing": "ignore"}, "must be 'raise' or 'drop'. Got 'ignore'"),
        ({"penalties": -1.0}, "must be a positive number"),
        ({"target": np.ones(N)}, "must vary"),
    ],
)
def test_bad_input_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        fitted(**settings)


def test_a_layer_alike_for_all_items_and_one_that_is_not_finite_are_refused():
    run = MadeRun()
    run.activations[0] = 3.0
    with pytest.raises(ValueError, match=r"must name a layer that differs between items. Got layer 2 of resid_post"):
        fitted(run, layer=2)
    run.activations[1, 7, 0] = np.inf
    with pytest.raises(ValueError, match=r"Features of layer 5 must be finite.*q7"):
        fitted(run)


# --- what is refused when it is applied -------------------------------------------------------------------


def test_a_run_of_another_kind_is_refused_by_the_field():
    probe = fitted()
    for field, value, message in [
        ("site", "resid_pre", r"must hold the probe's site, 'resid_pre'. Got \['resid_mid', 'resid_post'\] in the run"),
        ("position", "question_mean", r"must hold the probe's position, 'question_mean'. Got \['last', 'labels'\]"),
        ("layer", 4, r"must hold the probe's layer, 4. Got \[2, 5\] in the run of tiny on made, two_shot"),
    ]:
        with pytest.raises(ValueError, match=message):
            replace(probe, **{field: value}).predict(MadeRun())
    with pytest.raises(ValueError, match=r"must have the probe's d_model, 6. Got 8 in the run of tiny on made"):
        probe.predict(MadeRun(width=8), check_checkpoint=False)


@pytest.mark.parametrize("field", ["weights", "config"])
def test_another_checkpoint_is_refused_unless_the_probe_is_carried_over(field):
    probe = fitted()
    other = MadeRun(**{field: "zz", "model": "tiny-it"})
    known = {"weights": "ab12", "config": "c0"}[field]
    with pytest.raises(
        ValueError, match=rf"{field} = '{known}' \(tiny\)\. Got 'zz' \(tiny-it\) instead; pass check_checkpoint=False"
    ):
        probe.predict(other)
    np.testing.assert_array_equal(probe.predict(other, check_checkpoint=False), probe.predict(MadeRun()))


def test_activations_of_another_width_or_not_finite_are_refused():
    probe = fitted()
    with pytest.raises(ValueError, match=r"must have the width of the probe, \[\.\.\., 6\]. Got shape \(3, 5\)"):
        probe.project(np.zeros((3, 5)))
    with pytest.raises(ValueError, match=r"must be finite. Got NaN or inf"):
        probe.predict_activations(np.full(WIDTH, np.nan))


def test_a_probe_cannot_be_changed():
    probe = fitted()
    with pytest.raises(ValueError, match=r"read-only"):
        probe.direction[0] = 1.0
    with pytest.raises(AttributeError, match=r"cannot assign"):
        probe.layer = 1  # type: ignore[misc]
    with pytest.raises(
        ValueError, match=r"The scaler_mean parameter of SavedProbe must be finite numbers of one width"
    ):
        replace(probe, scaler_mean=np.zeros(5))
    with pytest.raises(ValueError, match=r"one entry for each of n = 48 items. Got \(3,\) and 48"):
        replace(probe, folds=np.zeros(3))
    with pytest.raises(ValueError, match=r"sd parameter of SavedProbe must be finite. Got nan"):
        replace(probe, sd=float("nan"))


# --- the file ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["human_entropy_normalized", "correct"])
def test_a_round_trip_changes_no_bit(tmp_path, target):
    run = MadeRun()
    probe = fitted(run, target)
    again = load_probe(probe.save(tmp_path / "p.safetensors"))
    for field in fields(SavedProbe):
        mine, theirs = getattr(probe, field.name), getattr(again, field.name)
        if isinstance(mine, np.ndarray):
            assert mine.tobytes() == theirs.tobytes()
            assert mine.dtype == theirs.dtype
        else:
            assert mine == theirs
            assert type(mine) is type(theirs) or field.name == "checkpoint"
    np.testing.assert_array_equal(probe.predict(run), again.predict(run))
    again.save(tmp_path / "q.safetensors")
    assert (tmp_path / "p.safetensors").read_bytes() == (tmp_path / "q.safetensors").read_bytes()
    assert repr(probe) == repr(again)
    assert repr(probe).startswith(f"SavedProbe(ridge for {target} at resid_post of layer 5, last, tiny on made")


def test_a_score_that_does_not_exist_stays_missing(tmp_path):
    probe = replace(fitted(), score=float("nan"), ci_low=float("nan"), ci_high=float("nan"))
    again = load_probe(probe.save(tmp_path / "p.safetensors"))
    assert np.isnan([again.score, again.ci_low, again.ci_high]).all()


def test_the_file_can_be_read_without_doubtlens(tmp_path):
    """As docs/saved_probes.md says."""
    run = MadeRun()
    probe = fitted(run)
    with safe_open(probe.save(tmp_path / "p.safetensors"), framework="numpy") as file:
        about = json.loads(file.metadata()["doubtlens"])
        direction = file.get_tensor("direction")
    assert (about["format"], about["format_version"]) == ("doubtlens-probe", 1)
    np.testing.assert_allclose(run.residual(about["layer"]) @ direction + about["intercept"], probe.predict(run))


def tampered(path, **changes):
    """The probe in `path` with fields of its metadata changed, or left out (LEFT_OUT)."""
    with safe_open(path, framework="numpy") as file:
        about = json.loads(file.metadata()["doubtlens"]) | changes
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    about = {name: value for name, value in about.items() if value is not LEFT_OUT}
    path.write_bytes(safetensors.numpy.save(tensors, metadata={"doubtlens": json.dumps(about)}))
    return path


def test_damaged_and_foreign_files_are_refused(tmp_path):
    good = fitted().save(tmp_path / "good.safetensors").read_bytes()
    path = tmp_path / "bad.safetensors"
    with pytest.raises(FileNotFoundError, match=r"There is no probe file .*bad.safetensors"):
        load_probe(path)
    for content in (b"", b"\x00\x01", b"hello, this is a text", good[:-9], good[:200], good + b"x"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot be read as safetensors .* another kind of file, or truncated"):
            load_probe(path)
    weights = {"direction": np.ones(3)}
    for metadata, shown in ((None, "None"), ({"format": "pt"}, "None"), ({"doubtlens": '{"format": "x"}'}, "'x'")):
        path.write_bytes(safetensors.numpy.save(weights, metadata=metadata))
        with pytest.raises(
            ValueError, match=f"not a saved probe of doubtlens: the 'format' in its metadata is {shown}"
        ):
            load_probe(path)
    path.write_bytes(safetensors.numpy.save(weights, metadata={"doubtlens": "{"}))
    with pytest.raises(ValueError, match=r"its metadata 'doubtlens' is no JSON"):
        load_probe(path)
    path.write_bytes(good)
    with pytest.raises(ValueError, match=r"has format version 2, and this doubtlens reads up to 1: update doubtlens"):
        load_probe(tampered(path, format_version=2))
    for changes, message in [
        ({"intercept": LEFT_OUT}, "lacks the field 'intercept'"),
        ({"checkpoint": {"model": "tiny"}}, "lacks the field 'checkpoint'"),
        ({"intercept": "0.5"}, "a field of its metadata is of the wrong type"),
        ({"items": 3}, "a field of its metadata is of the wrong type"),
        ({"n": 47}, "one entry for each of n = 47 items"),
    ]:
        path.write_bytes(good)
        with pytest.raises(ValueError, match=message):
            load_probe(tampered(path, **changes))


def test_missing_and_wrong_tensors_are_named(tmp_path):
    path = fitted().save(tmp_path / "p.safetensors")
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for change, message in [
        ({"scaler_scale": None}, "must hold the tensor 'scaler_scale' as F64. Got None"),
        ({"direction": tensors["direction"].astype(np.float32)}, "must hold the tensor 'direction' as F64. Got F32"),
        ({"direction": np.full(WIDTH, np.nan)}, "The direction parameter of SavedProbe must be finite"),
    ]:
        changed = {name: value for name, value in (tensors | change).items() if value is not None}
        path.write_bytes(safetensors.numpy.save(changed, metadata=metadata))
        with pytest.raises(ValueError, match=message):
            load_probe(path)


def test_a_failing_write_leaves_the_older_probe(tmp_path, monkeypatch):
    probe = fitted()
    path = probe.save(tmp_path / "p.safetensors")
    before = path.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left"):
        replace(probe, layer=2).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["p.safetensors"]
    with pytest.raises(FileNotFoundError, match=r"must lie in a folder that exists. Got .*; create .*nowhere first"):
        probe.save(tmp_path / "nowhere" / "p.safetensors")


def test_loading_does_not_import_torch():
    code = "import sys; from doubtlens.probes import load_probe; load_probe; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

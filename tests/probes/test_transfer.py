"""Transfer between runs: planted directions, rows that must not be seen, explicit loops, refusals."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from doubtlens.probes import RidgeProbe, probe_layers
from doubtlens.probes.cross_run_folds import RunRows, cross_run_folds, question_keys
from doubtlens.probes.cross_run_permutations import permuted_targets
from doubtlens.probes.folds import TargetError
from doubtlens.probes.jackknife import jackknife_interval
from doubtlens.probes.layers import run_target
from doubtlens.probes.transfer import COLUMNS, transfer_matrix

ENTROPY = "human_entropy_normalized"


class PlainRun:
    """A run in memory: n items of two options, two layers of noise; the second knows the human entropy."""

    sites = ["resid_post"]  # noqa: RUF012
    positions = ["last", "question_mean"]  # noqa: RUF012
    scorings = ("label_single",)

    def __init__(self, dataset="made", *, n=80, seed=0, groups=8, strength=3.0, direction=None, prompt="plain", d=12):
        rng = np.random.default_rng(seed)
        share = rng.integers(1, 50, n) / 100
        self.layers = [0, 1]
        self.items = pd.DataFrame(
            {
                "id": [f"q{row}" for row in range(n)],
                "question": [f"{dataset} {row}?" for row in range(n)],
                "options": [["yes", "no"]] * n,
                "answer": pd.array(rng.integers(0, 2, n), dtype="Int64"),
                "responses": pd.Series([[100 * one, 100 - 100 * one] for one in share], dtype=object),
                "respondents": pd.array([100] * n, dtype="Int64"),
                "subject": [f"s{row % groups}" for row in range(n)] if groups else None,
                "n_options": 2,
            }
        )
        self.info = {"model": "tiny", "dataset": dataset, "prompt": prompt, "d_model": d, "n_layers": 2}
        self.activations = rng.standard_normal((2, n, d))
        self.direction = np.eye(d)[0] if direction is None else np.asarray(direction, dtype=float)
        self.activations[1] += strength * self.target()[:, None] * self.direction
        self.scores = rng.standard_normal((n, 2))

    def target(self, name=ENTROPY):
        return run_target(self, name).values

    def residual(self, layer, site="resid_post", position="last"):
        return self.activations[self.layers.index(layer)].astype(np.float32)

    def choice_scores(self, scoring):
        return self.scores


def moved(**settings):
    return transfer_matrix(
        **({"n_permutations": 99, "n_splits": 5, "progress": False, "layer": 1} | settings),
        rng=np.random.default_rng(settings.pop("seed", 0)),
    )


def cell(table, train, test):
    (row,) = table[(table["train"] == train) & (table["test"] == test)].to_dict("records")
    return row


# --- what it is for -------------------------------------------------------------------------------------


def test_a_direction_transfers_as_far_as_it_is_the_same():
    rows = np.eye(12)
    runs = {
        "same": PlainRun("same", seed=1),
        "again": PlainRun("again", seed=2),
        "opposite": PlainRun("opposite", seed=3, direction=-rows[0]),
        "other": PlainRun("other", seed=4, direction=rows[5]),
    }
    table = moved(runs=runs)
    assert table.columns.tolist() == list(COLUMNS)
    assert table[["train", "test"]].to_records(index=False).tolist() == [(a, b) for a in runs for b in runs]
    for train, test in (("same", "again"), ("again", "same"), ("again", "again")):
        row = cell(table, train, test)
        assert row["ci_low"] > 0.2
        assert row["ci_low"] < row["score"] < row["ci_high"]
        assert row["p"] == 0.01
        assert row["r2"] > 0.1
    assert cell(table, "same", "opposite")["ci_high"] < -0.2
    assert cell(table, "same", "opposite")["p"] > 0.9
    assert cell(table, "same", "other")["ci_low"] < 0.1
    assert table.loc[table["train"] == table["test"], "folds"].tolist() == [5] * 4
    assert table.loc[table["train"] != table["test"], "folds"].isna().all()
    assert (table["n_shared"] == np.where(table["train"] == table["test"], 80, 0)).all()
    assert table["score_name"].unique().tolist() == ["pearson"]
    assert table["permutation"].unique().tolist() == ["within"]


@pytest.mark.parametrize("groups", ["subject", None])
def test_a_probe_that_knows_the_items_themselves_transfers_nothing(groups):
    """The same noise under two prompts: fitted to all rows of the one, a probe would know the other by heart."""
    first, second = PlainRun(seed=1, strength=0, d=200), PlainRun(seed=1, strength=0, d=200, prompt="chat")
    naive = RidgeProbe(alpha=1.0).fit(first.activations[1], first.target()).predict(second.activations[1])
    assert np.corrcoef(naive, second.target())[0, 1] > 0.99
    table = moved(runs=[first, second], groups=groups, penalties=1.0)
    assert table["train"].tolist() == ["plain", "plain", "chat", "chat"]
    assert (table["score"] < 0.25).all()
    assert (table["p"] > 0.05).all()
    assert (table["n_shared"] == 80).all()
    assert (table["folds"] == 5).all()


def test_nor_does_one_that_knows_their_subjects():
    """Half of the items of each run are of its own, but of subjects whose other items the other run has."""
    rng = np.random.default_rng(0)
    both = [PlainRun(seed=1, strength=0, groups=10, prompt=prompt) for prompt in ("plain", "chat")]
    subjects = both[0].items["subject"].str[1:].astype(int).to_numpy()
    centres = rng.standard_normal((10, 12)) * 5
    level = rng.integers(10, 50, 10)
    for number, run in enumerate(both):
        own = np.arange(80) >= 40
        run.items.loc[own, "id"] = [f"{number} {row}" for row in np.flatnonzero(own)]
        run.items.loc[own, "question"] = [f"{number} {row}?" for row in np.flatnonzero(own)]
        run.items["responses"] = [[int(level[s]), int(100 - level[s])] for s in subjects]
        run.activations = run.activations + centres[subjects]
    naive = RidgeProbe(alpha=1.0).fit(both[0].activations[1], both[0].target()).predict(both[1].activations[1])
    assert np.corrcoef(naive, both[1].target())[0, 1] > 0.9
    table = moved(runs=both, penalties=1.0, permute="groups")
    assert (table["score"] < 0.3).all()
    assert cell(table, "plain", "chat")["n_shared"] == 40


def test_the_layer_is_chosen_inside_the_training_rows():
    runs = [PlainRun("one", seed=1), PlainRun("two", seed=2)]
    # Only the test run knows the target at layer 0, and nothing of that may be used.
    runs[1].activations[0] = 9 * runs[1].target()[:, None]
    table = moved(runs=runs, layer="nested")
    fixed = moved(runs=runs, layer=1)
    assert table["nested"].all()
    assert not fixed["nested"].any()
    assert cell(table, "one", "two")["layer"] == 1
    assert cell(table, "one", "two")["score"] == cell(fixed, "one", "two")["score"]
    assert cell(table, "two", "two")["layer"] == 0
    assert cell(table, "two", "one")["layer"] == 0


# --- equal to explicit loops ----------------------------------------------------------------------------


def folds_of(runs, seed=0, n_splits=5, groups=True):
    seed = int(np.random.default_rng(seed).integers(2**63))
    rows = [
        RunRows("run", question_keys(run.items), run.items["subject"].to_numpy() if groups else None, run.target())
        for run in runs
    ]
    return cross_run_folds(rows, n_splits=n_splits, seed=seed)


@pytest.mark.parametrize("rescale", ["train", "each"])
def test_a_pair_with_shared_items_equals_a_loop(rescale):
    first, second = PlainRun(seed=1), PlainRun(seed=1, prompt="chat")
    second.activations = second.activations * 1.5 + np.random.default_rng(3).standard_normal(12)
    table = moved(runs=[first, second], penalties=30.0, rescale=rescale)
    folds = folds_of([first, second])
    y, prediction, baseline = first.target(), np.empty(80), np.empty(80)
    x, z = (run.activations[1].astype(np.float32).astype(float) for run in (first, second))
    subject = np.arange(80) % 8
    # Column 0: probes of all training rows; column 1 + s: of those without subject s.
    deviations = np.empty((80, 9))
    for test in folds.test[1]:
        train = np.setdiff1d(np.arange(80), test)
        assert not set(subject[train]) & set(subject[test])
        own = StandardScaler().fit(x[train])
        scaler = own if rescale == "train" else StandardScaler().fit(z[train])
        for column in range(9):
            rows = train[subject[train] != column - 1]
            model = Ridge(alpha=30.0).fit(own.transform(x[rows]), y[rows])
            outside, values = (model.predict(scaler.transform(z[part])) for part in (train, test))
            deviations[test, column] = (values - outside.mean()) / outside.std()
            if column == 0:
                prediction[test], baseline[test] = values, y[train].mean()
    row = cell(table, "plain", "chat")
    assert row["score"] == pytest.approx(np.corrcoef(y, deviations[:, 0])[0, 1], abs=1e-9)
    expected = 1 - np.sum((y - prediction) ** 2) / np.sum((y - baseline) ** 2)
    assert row["r2"] == pytest.approx(expected, abs=1e-9)
    interval = jackknife_interval(y, deviations[:, 0], deviations[:, 1:], subject, binary=False)
    assert [row["ci_low"], row["ci_high"]] == pytest.approx(interval, abs=1e-9)


def test_the_null_of_a_pair_with_shared_items_equals_a_loop():
    """Targets of both runs permuted alike, before the penalty is chosen and the probes are fitted."""
    first, second = PlainRun(seed=1, strength=0.8), PlainRun(seed=1, prompt="chat", strength=0.8)
    second.activations = second.activations + 0.5 * np.random.default_rng(3).standard_normal((2, 80, 12))
    table = moved(runs=[first, second], penalties=[1.0, 100.0], n_permutations=12)
    rng = np.random.default_rng(0)
    seed = int(rng.integers(2**63))
    subject = first.items["subject"].to_numpy()
    rows = [RunRows("run", question_keys(run.items), subject, run.target()) for run in (first, second)]
    folds = cross_run_folds(rows, n_splits=5, seed=seed)
    (own, tested), schemes = permuted_targets(rows, folds, None, n_permutations=12, rng=rng)
    assert schemes == ["within"] * 2
    assert np.array_equal(own, tested)
    scores = []
    for y in own.T:
        deviation = np.empty(80)
        for test in folds.test[1]:
            train = np.setdiff1d(np.arange(80), test)
            probe = RidgeProbe([1.0, 100.0]).fit(first.residual(1)[train], y[train], groups=subject[train])
            outside, values = (probe.predict(second.residual(1)[part]) for part in (train, test))
            deviation[test] = (values - outside.mean()) / outside.std()
        scores.append(np.corrcoef(y, deviation)[0, 1])
    row = cell(table, "plain", "chat")
    assert row["score"] == pytest.approx(scores[0], abs=1e-9)
    assert row["p"] == pytest.approx((1 + np.sum(np.array(scores[1:]) >= scores[0])) / 13)
    assert 1 / 13 < row["p"] < 1


def test_a_pair_without_shared_items_equals_one_fit():
    first, second = PlainRun("one", seed=1), PlainRun("two", seed=2, n=50)
    probe = RidgeProbe([1.0, 30.0, 1e3]).fit(first.residual(1), first.target(), groups=first.items["subject"])
    predicted = probe.predict(second.residual(1))
    row = cell(moved(runs=[first, second], penalties=[1.0, 30.0, 1e3]), "one", "two")
    assert row["score"] == pytest.approx(np.corrcoef(second.target(), predicted)[0, 1], abs=1e-9)
    assert row["r2"] == pytest.approx(r2_score(second.target(), predicted), abs=1e-9)
    assert (row["n_train"], row["n_test"], row["n_groups"]) == (80, 50, 8)
    units = folds_of([second]).units[0]
    interval = jackknife_interval(second.target(), predicted, None, units, binary=False)
    assert [row["ci_low"], row["ci_high"]] == pytest.approx(interval, abs=1e-9)


@pytest.mark.parametrize("groups", ["subject", None])
def test_the_diagonal_is_the_nested_score_of_probe_layers(groups):
    runs = [PlainRun("one", seed=1, strength=1.0), PlainRun("two", seed=2)]
    table = moved(runs=runs, layer="nested", groups=groups)
    settings = {"n_permutations": 0, "n_splits": 5, "n_bootstrap": 10, "progress": False, "groups": groups}
    alone = probe_layers(runs[0], rng=np.random.default_rng(0), **settings)
    row = cell(table, "one", "one")
    assert row["score"] == pytest.approx(alone["nested_pearson"].iloc[0], abs=1e-9)
    assert row["r2"] == pytest.approx(alone["nested_score"].iloc[0], abs=1e-9)
    # There the probes without a unit are compared with the mean target of their rows, here with their mean prediction.
    interval = alone[["nested_ci_low", "nested_ci_high"]].iloc[0].tolist()
    assert [row["ci_low"], row["ci_high"]] == pytest.approx(interval, abs=0.02)


def test_a_binary_target_is_scored_by_its_auroc():
    runs = [PlainRun("one", seed=1), PlainRun("two", seed=2)]
    for run in runs:
        run.activations[1, :, 3] += 2 * run.target("correct")
    table = moved(runs=runs, target="correct", penalties=[1.0, 100.0])
    row = cell(table, "one", "two")
    x, y = (run.residual(1) for run in runs)
    probe = RidgeProbe([1.0, 100.0]).fit(x, runs[0].target("correct"), groups=runs[0].items["subject"])
    assert row["score"] == pytest.approx(roc_auc_score(runs[1].target("correct"), probe.predict(y)))
    assert (row["score_name"], row["scoring"], row["p"]) == ("auroc", "label_single", 0.01)
    assert np.isnan(row["r2"])
    assert row["ci_low"] > 0.5


def test_rescaling_each_run_undoes_a_shift_and_a_scale():
    first, second, changed = PlainRun("one", seed=1), PlainRun("two", seed=2), PlainRun("two", seed=2)
    rng = np.random.default_rng(0)
    changed.activations = changed.activations * rng.uniform(0.1, 10, 12) + 20 * rng.standard_normal(12)
    found = {
        (name, rescale): cell(moved(runs={"one": first, "two": run}, rescale=rescale), "one", "two")
        for name, run in (("plain", second), ("changed", changed))
        for rescale in ("train", "each")
    }
    assert found["changed", "each"]["score"] == pytest.approx(found["plain", "each"]["score"], abs=1e-5)
    assert found["changed", "each"]["r2"] == pytest.approx(found["plain", "each"]["r2"], abs=1e-5)
    assert found["changed", "train"]["r2"] < -10
    assert found["plain", "train"]["r2"] > 0


def test_a_shift_alone_costs_no_correlation_also_over_folds():
    first, second = PlainRun(seed=1), PlainRun(seed=1, prompt="chat")
    before = cell(moved(runs=[first, second], penalties=10.0), "plain", "chat")
    second.activations = second.activations + 50.0
    after = cell(moved(runs=[first, second], penalties=10.0), "plain", "chat")
    assert after["score"] == pytest.approx(before["score"], abs=1e-4)
    assert after["r2"] < -10


# --- links and folds ------------------------------------------------------------------------------------


def made_rows(questions, groups, seed=0):
    target = np.random.default_rng(seed).standard_normal(len(questions))
    return RunRows("run", questions, None if groups is None else np.array(groups, dtype=object), target)


@pytest.mark.parametrize("seed", range(5))
def test_linked_rows_are_held_out_together_in_every_run(seed):
    rng = np.random.default_rng(seed)
    runs = []
    for _ in range(3):
        questions = rng.integers(0, 300, 40)
        groups = np.where(rng.uniform(size=40) < 0.1, rng.integers(0, 30, 40), questions // 10)
        runs.append(made_rows(questions.tolist(), groups.tolist(), seed))
    runs.append(made_rows([f"own {row}" for row in range(30)], [0] * 15 + [1] * 15))
    folds = cross_run_folds(runs, n_splits=4, seed=1)
    assert not folds.linked(0, 3)
    assert folds.linked(0, 1)
    of_question, of_group, of_unit = {}, {}, {}
    for number, run in enumerate(runs):
        fold_of = np.empty(len(run.target), dtype=int)
        for fold, rows in enumerate(folds.test[number]):
            fold_of[rows] = fold
        assert sorted(np.concatenate(folds.test[number])) == list(range(len(run.target)))
        if number == 3:
            assert len(folds.test[3]) == 2
            assert folds.notes[3].startswith("2 folds instead of 4")
            continue
        for row in range(len(run.target)):
            assert of_question.setdefault(run.questions[row], fold_of[row]) == fold_of[row]
            assert of_group.setdefault(run.groups[row], fold_of[row]) == fold_of[row]
            assert of_unit.setdefault(folds.links[number][row], folds.units[number][row]) == folds.units[number][row]


def test_subjects_of_unrelated_runs_are_different_ones():
    one = made_rows([f"a{row}" for row in range(8)], ["x", "y"] * 4)
    other = made_rows([f"b{row}" for row in range(8)], ["x", "y"] * 4)
    third = made_rows(["a0", *(f"c{row}" for row in range(7))], ["x", "y"] * 4)
    assert not cross_run_folds([one, other], n_splits=2, seed=0).linked(0, 1)
    folds = cross_run_folds([one, other, third], n_splits=2, seed=0)
    assert [folds.linked(0, 1), folds.linked(0, 2), folds.linked(1, 2)] == [False, True, False]
    assert len(set(folds.links[0]) | set(folds.links[2])) == 2


def test_rows_that_are_linked_throughout_are_refused():
    one, other = made_rows([1, 2, 3, 4], ["x", "x", "y", "y"]), made_rows([1, 2, 3, 4], ["x", "y", "x", "y"])
    for runs in ([one, other], [made_rows([1, 1, 2, 2], ["x", "y", "x", "y"])]):
        with pytest.raises(TargetError, match=r"is linked with every other .* Pass groups=None"):
            cross_run_folds(runs, n_splits=2, seed=0)


def test_a_single_subject_groups_nothing_but_its_questions_stay_together():
    questions = [row // 2 for row in range(20)]
    alone = cross_run_folds([made_rows(questions, ["x"] * 20)], n_splits=4, seed=0)
    together = cross_run_folds([made_rows(questions, ["x"] * 20), made_rows(questions, ["x"] * 20)], n_splits=4, seed=0)
    for folds in (alone, together):
        assert all({row ^ 1 for row in rows.tolist()} == set(rows.tolist()) for rows in folds.test[0])


def test_the_order_of_options_makes_no_other_question():
    items = pd.DataFrame({"question": ["a?", "a?", "a?"], "options": [["x", "y"], ["y", "x"], ["x", "z"]]})
    first, second, third = question_keys(items)
    assert first == second != third


# --- permutations ---------------------------------------------------------------------------------------


def shared_rows():
    """Two runs that share items 0 to 29 in another order, and have ten of their own each; a third of other items."""
    rng, orders = np.random.default_rng(1), []
    for own in (range(100, 110), range(200, 210)):
        orders.append(rng.permutation([*range(30), *own]))
    runs = [made_rows(order.tolist(), (order % 5).tolist(), seed) for seed, order in enumerate(orders)]
    return [*runs, made_rows([f"other {row}" for row in range(20)], [row % 4 for row in range(20)], 7)]


@pytest.mark.parametrize(("permute", "scheme"), [(None, "within"), ("free", "free")])
def test_what_runs_share_is_permuted_alike(permute, scheme):
    runs = shared_rows()
    folds = cross_run_folds(runs, n_splits=4, seed=0)
    columns, schemes = permuted_targets(runs, folds, permute, n_permutations=20, rng=np.random.default_rng(0))
    assert schemes == [scheme] * 3
    sources = []
    for run, permuted in zip(runs, columns, strict=True):
        assert np.array_equal(permuted[:, 0], run.target)
        place = {value: row for row, value in enumerate(run.target)}
        source = np.vectorize(place.get)(permuted)
        assert all(sorted(column) == list(range(len(run.target))) for column in source.T)
        same_group = (run.groups[source] == run.groups[:, None]).all()
        assert same_group == (scheme == "within")
        sources.append(
            [{run.questions[row]: run.questions[of] for row, of in enumerate(column)} for column in source.T]
        )
    for first, second in zip(*sources[:2], strict=True):
        shared = set(first) & set(second)
        assert {first[question] for question in shared} == shared  # items of one run stay with those of one run
        assert all(first[question] == second[question] for question in shared)
    assert any(question != of for question, of in sources[0][1].items())


def test_whole_groups_change_places():
    # Two runs of the same items, constant in their subjects: only whole subjects can change places.
    subject = [row // 4 for row in range(24)]
    runs = [made_rows(list(range(24)), subject, 3) for _ in range(2)]
    runs = [
        RunRows(run.name, run.questions, run.groups, np.array(subject) * 10.0 + shift) for shift, run in enumerate(runs)
    ]
    folds = cross_run_folds(runs, n_splits=3, seed=0)
    (one, other), schemes = permuted_targets(runs, folds, "groups", n_permutations=9, rng=np.random.default_rng(0))
    assert schemes == ["groups"] * 2
    assert np.array_equal(other, one + 1)
    assert all((one[at : at + 4] == one[at]).all() for at in range(0, 24, 4))
    assert (np.sort(one, axis=0) == np.sort(one[:, :1], axis=0)).all()
    assert (one[:, 1:] != one[:, :1]).any()
    with pytest.raises(
        TargetError, match=r"permute='within' cannot change the target of the run 'run'.*permute='groups'"
    ):
        permuted_targets(runs, folds, "within", n_permutations=1, rng=np.random.default_rng(0))


def test_stratified_folds_are_permuted_inside():
    run = RunRows("run", list(range(40)), None, np.tile([0.0, 1.0], 20))
    folds = cross_run_folds([run], n_splits=5, seed=0)
    assert folds.stratified == [True]
    (columns,), schemes = permuted_targets([run], folds, None, n_permutations=5, rng=np.random.default_rng(0))
    assert schemes == ["within_fold"]
    for rows in folds.test[0]:
        assert (columns[rows].sum(axis=0) == columns[rows, 0].sum()).all()
    with pytest.raises(TargetError, match=r"permute='within' needs groups, and there are none .* in 'run'"):
        permuted_targets([run], folds, "within", n_permutations=1, rng=np.random.default_rng(0))
    with pytest.raises(TargetError, match="permute parameter must be one of"):
        permuted_targets([run], folds, "all", n_permutations=1, rng=np.random.default_rng(0))


# --- bad input ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"runs": [PlainRun()]}, "must hold at least two runs. Got 1 instead; probe_layers"),
        ({"runs": [PlainRun(), PlainRun()]}, "Got 'the same model, dataset and prompt' twice; pass a mapping"),
        ({"runs": [PlainRun("a"), PlainRun("a"), PlainRun("b")]}, "Got 'a' twice; pass a mapping"),
        (
            {"layer": 7},
            r"layer parameter of transfer_matrix must name a layer of the run 'a' \(0, 1, nested\). Got '7'",
        ),
        ({"site": "resid_mid"}, "must name a site of the run 'a' .*'resid_mid'"),
        ({"position": "labels"}, "must name a position of the run 'a'"),
        ({"rescale": "none"}, "rescale parameter of transfer_matrix must name one of these"),
        ({"missing": "skip"}, "missing parameter of transfer_matrix must name one of these"),
        ({"target": "entropy"}, "The target parameter of .* must name a target"),
        ({"n_permutations": 0}, "n_permutations parameter of transfer_matrix must be at least 1"),
        ({"penalties": []}, "penalties parameter of transfer_matrix must be a positive number"),
        ({"groups": "topic"}, "must name a column of the items"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        moved(**({"runs": {"a": PlainRun("a"), "b": PlainRun("b", seed=1)}} | settings))


def test_runs_that_do_not_fit_are_refused():
    first = PlainRun("a", seed=1)
    wide, deep = PlainRun("b", d=13), PlainRun("b")
    with pytest.raises(ValueError, match=r"runs of one width \(d_model\).*12 of 'a', 13 of 'b'"):
        moved(runs=[first, wide])
    deep.info["n_layers"] = 3
    with pytest.raises(ValueError, match=r"runs of one depth \(n_layers\).*2 of 'a', 3 of 'b'"):
        moved(runs=[first, deep])
    del wide.info["d_model"]
    with pytest.raises(ValueError, match=r"must hold runs of one width. Got 12 of 'a', 13 of 'b' at layer 1"):
        moved(runs=[first, wide])
    apart = PlainRun("b")
    apart.layers = [2, 3]
    with pytest.raises(ValueError, match=r"with a layer in common. Got \[0, 1\] of 'a', \[2, 3\] of 'b'"):
        moved(runs=[first, apart], layer="nested")


def test_items_whose_answers_contradict_each_other_are_refused():
    first, second = PlainRun(seed=1), PlainRun(seed=1, prompt="chat")
    second.items.at[3, "responses"] = [50.0, 50.0]
    with pytest.raises(
        TargetError, match=r"another human_entropy_normalized in 'plain' and 'chat' for items q3, which"
    ):
        moved(runs=[first, second])
    second.items.at[3, "id"] = "another"
    assert len(moved(runs=[first, second])) == 4  # the same question put to other people
    second.scores = -second.scores
    assert len(moved(runs=[first, second], target="correct")) == 4


def test_missing_targets_are_dropped_or_refused():
    first, second = PlainRun("a", seed=1), PlainRun("b", seed=2)
    second.items.at[5, "responses"] = None
    table = moved(runs=[first, second])
    assert cell(table, "a", "b")["n_test"] == 79
    assert cell(table, "a", "b")["n_test_missing"] == 1
    assert cell(table, "b", "a")["n_train_missing"] == 1
    with pytest.raises(TargetError, match="Got none for items q5; pass missing='drop'") as caught:
        moved(runs=[first, second], missing="raise")
    assert caught.value.__notes__ == ["in the run 'b' given to transfer_matrix"]
    second.items["responses"] = None
    with pytest.raises(TargetError, match="missing for every item"):
        moved(runs=[first, second])


def test_constant_targets_and_activations():
    first, second = PlainRun("a", seed=1), PlainRun("b", seed=2)
    second.activations[1] = 1.5
    table = moved(runs=[first, second])
    assert np.isnan(cell(table, "b", "a")["score"])
    assert cell(table, "b", "a")["note"] == "the training run's activations are the same in every row"
    assert cell(table, "a", "b")["note"] == "the predictions are the same in every row"
    assert np.isnan(cell(table, "a", "b")["p"])
    second.activations[1, 7, 2] = np.nan
    with pytest.raises(ValueError, match=r"layer 1 of the run 'b' must be finite. Got NaN or inf in items q7"):
        moved(runs=[first, second])
    second.items["responses"] = [[10, 90]] * 80
    with pytest.raises(TargetError, match="must vary"):
        moved(runs=[first, second])


def test_without_groups_a_repeated_question_does_not_hold_the_null_still():
    runs = [PlainRun("a", seed=1), PlainRun("b", seed=2)]
    runs[1].items.loc[1, ["question", "responses"]] = runs[1].items.loc[0, ["question", "responses"]]
    row = cell(moved(runs=runs, groups=None), "a", "b")
    assert row["permutation"] == "free"
    assert (row["p"], row["n_groups"]) == (0.01, 79)


def test_a_seed_gives_the_same_table():
    runs = [PlainRun("a", seed=1), PlainRun("b", seed=2)]
    pd.testing.assert_frame_equal(moved(runs=runs), moved(runs=runs))


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"The device parameter of .* must be .*Got 'meta-gpu' instead"):
        moved(runs=[PlainRun("a", seed=1), PlainRun("b", seed=2)], device="meta-gpu")


@pytest.mark.gpu
def test_a_gpu_gives_the_scores_of_the_cpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    runs = [PlainRun("a", seed=1), PlainRun("a", seed=1, prompt="chat"), PlainRun("b", seed=2)]
    here, there = (moved(runs=runs, layer="nested", device=device) for device in ("cpu", "cuda"))
    pd.testing.assert_frame_equal(here, there, rtol=1e-8, atol=1e-8)

"""The sweep: it finds a planted signal, nothing in noise, and equals explicit loops of scikit-learn."""

import re

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from doubtlens.probes import fold_fits
from doubtlens.probes.folds import TargetError, inner_blocks, outer_folds, permutation_drawer
from doubtlens.probes.linear import LogisticProbe, RidgeProbe
from doubtlens.probes.sweep import sweep, sweep_targets
from doubtlens.probes.sweep_record import sigmoid_through

PENALTIES = [1.0, 30.0, 1000.0]


def noise(seed=0, n=60, d=12, n_layers=3, n_groups=8):
    """Features of uneven scale, a continuous target with a mean per group, and its median split."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n_layers, n, d)) * 10 ** rng.uniform(-1, 2, d) + rng.uniform(-20, 20, d)
    groups = rng.permutation(np.arange(n) % n_groups)
    y = rng.standard_normal(n) + rng.standard_normal(n_groups)[groups]
    return features, y, (y > np.median(y)).astype(float), groups


def run(features, y, seed=1, **settings):
    settings = {"n_splits": 5, "n_permutations": 0, "n_bootstrap": 50} | settings
    return sweep(features, y, rng=np.random.default_rng(seed), **settings)


# --- what it is for -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "binary"), [("ridge", False), ("ridge", True), ("mass_mean", True)])
@pytest.mark.parametrize("grouped", [False, True])
def test_a_planted_signal_is_found_at_its_layer(kind, binary, grouped):
    features, y, labels, groups = noise(3, n=120, n_layers=6)
    features[4, :, :3] += (features[4, :, :3].std(0) * y[:, None]) / y.std()
    result = run(features, labels if binary else y, groups=groups if grouped else None, kind=kind, n_permutations=99)
    table = result.table
    assert table.loc[table["best"], "layer"].tolist() == [4]
    assert table.loc[4, ["p", "p_max", "nested_p"]].tolist() == [0.01] * 3
    assert (table["p_max"].drop(4) > 0.05).all()
    assert result.nested_layers.tolist() == [4] * 5
    assert np.array_equal(result.nested_predictions, result.predictions[4])
    assert table.loc[4, "ci_low"] > (0.5 if binary else 0)
    assert table.loc[4, "ci_low"] < table.loc[4, "auroc" if binary else "pearson"] < table.loc[4, "ci_high"]
    assert table["permutation"].iloc[0] == ("within" if grouped else "within_fold" if binary else "free")


def test_a_planted_signal_is_not_found_once_its_labels_are_shuffled():
    features, y, _, groups = noise(n=120)
    features[1, :, :3] += features[1, :, :3].std(0) * y[:, None]
    shuffled = np.random.default_rng(5).permutation(y)
    assert run(features, shuffled, groups=groups, n_permutations=99).table["p_max"].min() > 0.05


@pytest.mark.parametrize(
    ("kind", "binary", "grouped"),
    [("ridge", False, True), ("ridge", True, False), ("ridge", False, False), ("mass_mean", True, True)],
)
def test_p_values_are_uniform_in_noise(kind, binary, grouped):
    p_max, nested, single = [], [], []
    for seed in range(60):
        features, y, labels, groups = noise(seed, n=40, d=6, n_layers=2, n_groups=7)
        table = run(
            features, labels if binary else y, seed, groups=groups if grouped else None, kind=kind,
            penalties=None if kind == "mass_mean" else PENALTIES, n_permutations=19, n_splits=4, n_bootstrap=1,
        ).table  # fmt: skip
        p_max.append(table["p_max"].min())
        nested.append(table["nested_p"].iloc[0])
        single.append(table["p"].iloc[0])
    for values in (p_max, nested, single):
        # Binomial(60, 0.05) and (60, 0.5), with three standard deviations to either side.
        assert np.sum(np.array(values) <= 0.05) <= 3 + 3 * 1.69
        assert 30 - 12 <= np.sum(np.array(values) <= 0.5) <= 30 + 12


def test_a_probe_that_tells_groups_apart_is_not_significant_within_groups():
    # Each feature is a group's indicator plus noise: all there is to know about y is its group's mean.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 12)
    y = 3.0 * rng.standard_normal(10)[groups // 2 * 2] + rng.standard_normal(120)
    features = 3.0 * np.eye(5)[groups // 2][None] + rng.standard_normal((1, 120, 5))
    within = run(features, y, groups=groups, n_splits=10, n_permutations=99).table
    free = run(features, y, groups=groups, n_splits=10, n_permutations=99, permute="free").table
    assert within["r2"].iloc[0] > 0.3
    assert free["p"].iloc[0] == 0.01
    assert within["p"].iloc[0] > 0.05
    assert (within["permutation"].iloc[0], free["permutation"].iloc[0]) == ("within", "free")


# --- nothing of the test fold enters a choice -----------------------------------------------------------


@pytest.mark.parametrize("groups", [None, np.arange(60) % 12])
def test_the_test_fold_is_never_seen(groups):
    features, y, _, _ = noise()
    honest = run(features, y, groups=groups, penalties=PENALTIES)
    fold = 2
    test = honest.folds.test[fold]
    poisoned = y.copy()
    poisoned[test] = 1e3 * np.random.default_rng(0).standard_normal(len(test))
    other = run(features, poisoned, groups=groups, penalties=PENALTIES)
    assert np.array_equal(other.folds.test[fold], test)
    assert np.array_equal(other.penalties[:, fold], honest.penalties[:, fold])
    assert other.nested_layers[fold] == honest.nested_layers[fold]
    assert np.allclose(other.predictions[:, test], honest.predictions[:, test], atol=1e-12)
    assert np.allclose(other.nested_predictions[test], honest.nested_predictions[test], atol=1e-12)
    # The poison does reach the other folds: the check above is not empty.
    rest = np.delete(np.arange(60), test)
    assert not np.allclose(other.predictions[:, rest], honest.predictions[:, rest])


def test_test_rows_do_not_move_the_scaler():
    features, y, _, _ = noise()
    honest = run(features, y)
    test = honest.folds.test[0]
    features = features.copy()
    features[:, test[0]] *= 1e6
    moved = run(features, y)
    assert np.allclose(moved.predictions[:, test[1:]], honest.predictions[:, test[1:]])


# --- equality with explicit loops -----------------------------------------------------------------------


@pytest.mark.parametrize("d", [12, 80])
@pytest.mark.parametrize("grouped", [False, True])
def test_ridge_equals_a_loop_of_scikit_learn(d, grouped):
    features, y, _, groups = noise(d=d)
    groups = groups if grouped else None
    result = run(features, y, groups=groups, penalties=PENALTIES)
    nested = np.empty(60)
    for fold, test in enumerate(result.folds.test):
        train = np.delete(np.arange(60), test)
        inner_of_layers = []
        for layer in range(3):
            scaler = StandardScaler().fit(features[layer, train])
            rows = scaler.transform(features[layer, train])
            if grouped:
                _, codes = np.unique(groups[train], return_inverse=True)
                splits = [(np.flatnonzero(codes != c), np.flatnonzero(codes == c)) for c in set(codes)]
            else:
                splits = [(np.delete(np.arange(len(train)), i), [i]) for i in range(len(train))]
            errors = []
            for penalty in PENALTIES:
                squares = 0.0
                for rest, left_out in splits:
                    model = Ridge(penalty).fit(rows[rest], y[train][rest])
                    squares += np.sum((y[train][left_out] - model.predict(rows[left_out])) ** 2)
                errors.append(squares)
            best = int(np.argmin(errors))
            assert result.penalties[layer, fold] == PENALTIES[best]
            model = Ridge(PENALTIES[best]).fit(rows, y[train])
            predicted = model.predict(scaler.transform(features[layer, test]))
            assert np.allclose(result.predictions[layer, test], predicted, rtol=1e-6, atol=1e-8)
            inner_of_layers.append((errors[best], predicted))
        chosen = int(np.argmin([error for error, _ in inner_of_layers]))
        assert result.nested_layers[fold] == chosen
        nested[test] = inner_of_layers[chosen][1]
    assert np.allclose(result.nested_predictions, nested, rtol=1e-6, atol=1e-8)
    baseline = np.empty(60)
    for test in result.folds.test:
        baseline[test] = np.delete(y, test).mean()
    expected = 1 - np.sum((y - nested) ** 2) / np.sum((y - baseline) ** 2)
    assert result.nested_score == pytest.approx(expected, rel=1e-6)


def test_ridge_equals_the_estimator_fold_by_fold():
    features, y, _, groups = noise(n_groups=20)
    result = run(features, y, groups=groups)
    for fold, test in enumerate(result.folds.test):
        train = np.delete(np.arange(60), test)
        probe = RidgeProbe().fit(features[1, train], y[train], groups=groups[train])
        assert np.allclose(result.predictions[1, test], probe.predict(features[1, test]))
        assert result.penalties[1, fold] == probe.alpha_


@pytest.mark.parametrize("grouped", [False, True])
def test_mass_mean_equals_a_loop(grouped):
    features, _, labels, groups = noise()
    train, test = np.arange(45), np.arange(45, 60)
    codes = groups[train] if grouped else None
    fit = fold_fits.mass_mean_fold(features[0, train], features[0, test], labels[train, None], codes, [], np.array([0]))
    scaler = StandardScaler().fit(features[0, train])
    rows, y = scaler.transform(features[0, train]), labels[train]

    def loop(fitted, new):
        means = [rows[fitted][y[fitted] == label].mean(0) for label in (0, 1)]
        projected = rows[fitted] @ (means[1] - means[0])
        line = LinearRegression().fit(projected[:, None], y[fitted])
        return line.predict((new @ (means[1] - means[0]))[:, None])

    assert np.allclose(fit.test[:, 0], loop(train, scaler.transform(features[0, test])))
    blocks = inner_blocks(codes) if grouped else [np.arange(start, 45, 10) for start in range(10)]
    for block in blocks:
        assert np.allclose(fit.held_out[block, 0], loop(np.delete(train, block), rows[block]))
    assert fit.inner_error[0] == pytest.approx(np.mean((y - fit.held_out[:, 0]) ** 2))


def test_logistic_equals_the_estimator_fold_by_fold():
    features, _, labels, groups = noise(n_layers=2)
    result = run(features, labels, groups=groups, kind="logistic", penalties=[1e-3, 0.1])
    least = []
    for fold, test in enumerate(result.folds.test):
        train = np.delete(np.arange(60), test)
        losses = []
        for layer in range(2):
            probe = LogisticProbe(C=[1e-3, 0.1]).fit(features[layer, train], labels[train], groups=groups[train])
            expected = probe.predict_proba(features[layer, test])[:, 1]
            assert np.allclose(result.predictions[layer, test], expected)
            assert np.allclose(result.probabilities[layer, test], expected)
            assert result.penalties[layer, fold] == probe.C_
            losses.append(probe.inner_log_loss_.min())
        least.append(int(np.argmin(losses)))
    assert result.nested_layers.tolist() == least
    assert result.table["p"].isna().all()
    assert result.table["n_permutations"].eq(0).all()


@pytest.mark.parametrize(
    ("kind", "binary", "grouped"),
    [("ridge", False, True), ("ridge", True, True), ("ridge", True, False), ("mass_mean", True, True)],
)
def test_the_batched_null_equals_an_explicit_loop(kind, binary, grouped):
    features, y, labels, groups = noise()
    target, groups = labels if binary else y, groups if grouped else None
    penalties = None if kind == "mass_mean" else PENALTIES
    result = run(features, target, groups=groups, kind=kind, penalties=penalties, n_permutations=6)
    rng = np.random.default_rng(1)
    fold_rng = np.random.default_rng(int(rng.integers(2**63)))
    folds = outer_folds(target, groups, n_splits=5, rng=fold_rng)
    _, draw = permutation_drawer(target, folds, None)
    correlations = []
    for number in range(6):
        shuffled = target[draw(rng)]
        # Stratified folds come out the same only for the same target, so one target's folds serve both.
        alone = run_on(folds, features, shuffled, kind, penalties)
        assert np.allclose(result.null[number], alone[0])
        assert result.nested_null[number] == pytest.approx(alone[1])
        if not binary:
            correlations.append([np.corrcoef(shuffled, row)[0, 1] for row in alone[2]])
    table = result.table
    if not binary:
        assert np.allclose(table["null_pearson_mean"], np.mean(correlations, axis=0))
        assert np.allclose(table["null_pearson_sd"], np.std(correlations, axis=0, ddof=1))
    assert np.allclose(table["null_mean"], result.null.mean(0))
    assert np.allclose(table["null_sd"], result.null.std(0, ddof=1))
    highest = result.null.max(1)
    assert np.allclose(table["p_max"], [(1 + np.sum(highest >= score)) / 7 for score in table["score"]])
    assert np.allclose(table["p"], [(1 + np.sum(result.null[:, i] >= table["score"][i])) / 7 for i in range(3)])
    assert (table["nested_p"] == (1 + np.sum(result.nested_null >= result.nested_score)) / 7).all()


def run_on(folds, features, y, kind, penalties):
    """Scores [L], nested score and deviations [L, n] of one target on given folds, a layer and fold at a time."""
    predictions, nested, baseline = np.empty((len(features), len(y))), np.empty(len(y)), np.empty(len(y))
    deviations, nested_deviation = np.empty_like(predictions), np.empty(len(y))
    for fold, test in enumerate(folds.test):
        train = folds.train(fold)
        baseline[test] = y[train].mean()
        codes = None if folds.group_codes is None else folds.group_codes[train]
        order = np.r_[test, train]
        fits = [
            fold_fits.KINDS[kind].fit(x[train], x[order], y[train, None], codes, penalties, np.array([0]))
            for x in features
        ]
        for layer, fit in enumerate(fits):
            predictions[layer, test] = fit.test[: len(test), 0]
            deviations[layer, test] = (predictions[layer, test] - baseline[test]) / fit.test[len(test) :, 0].std()
        chosen = int(np.argmin([fit.inner_error[0] for fit in fits]))
        nested[test], nested_deviation[test] = predictions[chosen, test], deviations[chosen, test]
    if set(y) == {0.0, 1.0}:
        return [roc_auc_score(y, row) for row in deviations], roc_auc_score(y, nested_deviation), deviations
    total = np.sum((y - baseline) ** 2)
    r2 = [1 - np.sum((y - row) ** 2) / total for row in predictions]
    return r2, 1 - np.sum((y - nested) ** 2) / total, deviations


# --- the table ------------------------------------------------------------------------------------------


def test_figures_of_a_binary_target():
    features, _, labels, groups = noise(n=90)
    features[1, :, 0] += 2 * features[1, :, 0].std() * labels
    result = run(features, labels, groups=groups)
    for index, row in result.table.iterrows():
        assert row["score_name"] == "auroc"
        deviation = result.deviations[index]
        assert row["score"] == row["auroc"] == pytest.approx(roc_auc_score(labels, deviation))
        assert row["auprc"] == pytest.approx(average_precision_score(labels, deviation))
        assert row["brier"] == pytest.approx(brier_score_loss(labels, result.probabilities[index]))
        assert row["log_loss"] == pytest.approx(log_loss(labels, result.probabilities[index]))
        assert np.isnan([row["r2"], row["pearson"], row["spearman"], row["nested_pearson"]]).all()
    assert ((result.probabilities > 0) & (result.probabilities < 1)).all()
    # A planted signal makes probabilities better than the base rate.
    assert result.table.loc[1, "log_loss"] < log_loss(labels, np.full(90, labels.mean())) - 0.05
    for fold, test in enumerate(result.folds.test):
        layer = list(range(3)).index(result.nested_layers[fold])
        assert np.array_equal(result.nested_probabilities[test], result.probabilities[layer, test])


def test_figures_of_a_continuous_target():
    features, y, _, groups = noise()
    result = run(features, y, groups=groups, n_permutations=3)
    for index, row in result.table.iterrows():
        deviation = result.deviations[index]
        assert row["score"] == row["r2"]
        assert row["pearson"] == pytest.approx(np.corrcoef(y, deviation)[0, 1])
        assert row["spearman"] == pytest.approx(stats.spearmanr(y, deviation).statistic)
        assert np.isnan([row["auroc"], row["auprc"], row["brier"], row["log_loss"]]).all()
    expected = np.corrcoef(y, result.nested_deviations)[0, 1]
    assert result.table["nested_pearson"].iloc[0] == pytest.approx(expected)
    assert result.table["n_groups"].tolist() == [8] * 3
    assert result.table["folds"].tolist() == [5] * 3
    assert result.probabilities is None


@pytest.mark.parametrize("binary", [False, True])
def test_knowing_only_the_training_mean_is_not_a_negative_correlation(binary):
    # Groups differ, features say nothing, penalties are so strong that each prediction is its training mean.
    features, y, _, groups = noise(n=200, n_groups=10)
    y += 3 * (groups % 2)
    target = (y > np.median(y)).astype(float) if binary else y
    result = run(features, target, groups=groups, penalties=[1e9], n_splits=10)
    for index in range(3):
        assert np.corrcoef(result.predictions[index], target)[0, 1] < -0.5
        assert (np.corrcoef(result.predictions[index] - result.baseline, target)[0, 1]) > -0.3
    assert (result.table["auroc"] > 0.35).all() if binary else (result.table["pearson"] > -0.3).all()


def test_comparable_predictions_differ_from_the_nested_ones_by_the_folds_means():
    features, y, labels, groups = noise()
    result = run(features, y, groups=groups)
    assert np.allclose(result.comparable_predictions() - y.mean(), result.nested_predictions - result.baseline)
    result = run(features, labels, groups=groups)
    odds, nested, base = (
        p / (1 - p) for p in (result.comparable_predictions(), result.nested_probabilities, result.baseline)
    )
    assert np.allclose(odds * (1 - labels.mean()) / labels.mean(), nested / base)


def test_rows_may_come_in_any_order():
    features, y, _, groups = noise()
    order = np.random.default_rng(0).permutation(60)
    # Each group a fold, so that the folds do not depend on the order.
    one = run(features, y, groups=groups, n_splits=8)
    other = run(features[:, order], y[order], groups=groups[order], n_splits=8)
    assert np.allclose(one.predictions[:, order], other.predictions)
    assert np.allclose(one.table["r2"], other.table["r2"])


def test_a_layer_that_is_the_same_in_every_row_knows_nothing():
    features, y, labels, _ = noise()
    features[1] = features[1, 0]
    row = run(features, y, n_permutations=9).table.loc[1]
    assert row["r2"] == 0
    assert row["p"] == 1
    assert np.isnan([row["pearson"], row["spearman"], row["ci_low"]]).all()
    assert row["note"] == "the layer's activations are the same in every row"
    row = run(features, labels, n_permutations=9).table.loc[1]
    assert (row["auroc"], row["auprc"], row["p"]) == (0.5, 0.5, 1)
    assert np.isnan(row["ci_low"])


def test_fewer_groups_than_folds_is_noted():
    features, y, _, groups = noise(n_groups=4)
    table = run(features, y, groups=groups).table
    assert table["folds"].tolist() == [4] * 3
    assert table["note"].tolist() == ["4 folds instead of 5: there are 4 groups"] * 3


def test_two_groups_are_enough():
    features, y, _, groups = noise(n_groups=2)
    assert run(features, y, groups=groups, n_permutations=9).table["folds"].tolist() == [2] * 3


def test_targets_share_folds_and_change_nothing_for_each_other():
    features, y, labels, groups = noise()
    for given in (groups, None):
        rng = np.random.default_rng(1)
        together = sweep_targets(features, [y, labels], groups=given, n_splits=5, n_permutations=2, rng=rng)
        for target, result in zip((y, labels), together, strict=True):
            alone = run(features, target, groups=given)
            assert np.allclose(alone.predictions, result.predictions)
            assert np.allclose(alone.nested_predictions, result.nested_predictions)
            if result.probabilities is not None:
                assert np.allclose(alone.probabilities, result.probabilities)


def test_the_same_generator_gives_the_same_table():
    features, y, _, groups = noise()
    one, two = (run(features, y, groups=groups, n_permutations=9).table for _ in range(2))
    assert one.equals(two)


def test_layers_by_function_mapping_or_array():
    features, y, _, _ = noise()
    seen = []
    calls = {"layers": [2, 0], "progress": lambda done, total: seen.append((done, total))}
    array = run(features, y, **calls)
    assert seen == [(1, 2), (2, 2)]
    assert array.table["layer"].tolist() == [2, 0]
    assert np.array_equal(array.predictions, run(lambda layer: features[layer], y, layers=[2, 0]).predictions)
    named = run({"last": features[2], "first": features[0]}, y)
    assert named.table["layer"].tolist() == ["last", "first"]
    assert np.array_equal(named.predictions, array.predictions)
    assert set(named.nested_layers) <= {"last", "first"}


def test_probabilities_come_from_held_out_predictions():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 20_000).astype(float)
    log_odds = 2 * (2 * labels - 1) + 2 * rng.standard_normal(20_000)  # their true slope is 1, offset 0
    assert np.allclose(
        sigmoid_through(5 + 3 * log_odds, labels, 5 + 3 * np.array([-1, 0, 1])), [0.27, 0.5, 0.73], atol=0.03
    )
    # Held-out predictions that run against the labels, or are all alike, say nothing but the base rate.
    assert np.allclose(sigmoid_through(-log_odds, labels, np.array([-1.0, 1.0])), labels.mean())
    assert np.allclose(sigmoid_through(np.ones(20_000), labels, np.array([-1.0, 1.0])), labels.mean())


# --- bad input ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "forest"}, "must be one of ridge, mass_mean, mass_mean_whitened, logistic. Got 'forest'"),
        ({"kind": "mass_mean", "penalties": [1.0]}, "kind='mass_mean' has no penalty. Got penalties=[1.0]"),
        ({"penalties": [0.0]}, "penalties parameter of sweep must be a positive number or a sequence of them"),
        ({"n_permutations": -1}, "n_permutations parameter of sweep must be at least 0. Got -1 instead"),
        ({"n_bootstrap": 0}, "n_bootstrap parameter of sweep must be at least 1. Got 0 instead"),
        ({"layers": [0, 7]}, "layers parameter of sweep must be among [0, 1, 2]. Got [7] instead"),
        ({"layers": [1, 1]}, "must not repeat a layer. Got [1, 1] instead"),
        ({"layers": []}, "must name the layers when features is a function"),
        ({"n_splits": 61}, "Got 60 rows for 61 folds"),
    ],
)
def test_bad_settings(settings, message):
    features, _, labels, _ = noise()
    with pytest.raises(ValueError, match=re.escape(message)):
        run(features, labels, **settings)


def test_bad_targets_and_features():
    features, y, _, _ = noise()
    for kind in ("mass_mean", "logistic"):
        with pytest.raises(TargetError, match=f"kind='{kind}' is for targets of 0 and 1.*use kind='ridge'"):
            run(features, y, kind=kind)
    with pytest.raises(TargetError, match="in items q3; drop those rows first"):
        run(features, np.where(np.arange(60) == 3, np.nan, y), names=[f"q{i}" for i in range(60)])
    with pytest.raises(ValueError, match=r"must be \[layers, rows, d\]. Got shape \(60, 12\)"):
        run(features[0], y)
    with pytest.raises(ValueError, match=r"Features of layer 0 must be \[60, d\]. Got shape \(59, 12\)"):
        run(features[:, :59], y)
    with pytest.raises(ValueError, match=r"all of the same length. Got lengths \[60, 59\] instead"):
        sweep_targets(features, [y, y[:59]], rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"at least one target, all of the same length. Got lengths \[\]"):
        sweep_targets(features, [], rng=np.random.default_rng(0))
    features[1, 5, 3] = np.inf
    with pytest.raises(ValueError, match=r"Features of layer 1 must be finite. Got NaN or inf in rows 5; extract"):
        run(features, y)


def test_inner_groups_are_the_training_rows_own():
    # GroupKFold of the training rows' codes: whole groups, one block each while they are at most ten.
    codes = np.array([4, 4, 9, 9, 9, 2])
    blocks = {tuple(block) for block in inner_blocks(codes)}
    assert blocks == {(0, 1), (2, 3, 4), (5,)}
    assert blocks == {tuple(test) for _, test in GroupKFold(3).split(codes, groups=codes)}


# --- what is stacked on a probe ---------------------------------------------------------------------------


@pytest.mark.parametrize("grouped", [False, True])
def test_inner_predictions_come_from_models_that_saw_neither_the_row_nor_the_fold(grouped):
    features, y, _, groups = noise(4, n=40, n_layers=3)
    result = run(features, y, groups=groups if grouped else None, penalties=PENALTIES, n_splits=4)
    for fold, test in enumerate(result.folds.test):
        train = result.folds.train(fold)
        assert np.isnan(result.inner_predictions[fold, test]).all()
        layer = result.nested_layers[fold]
        rows = StandardScaler().fit_transform(features[layer, train])
        blocks = inner_blocks(groups[train] if grouped else None) or [[row] for row in range(len(train))]
        for block in blocks:
            rest = np.setdiff1d(np.arange(len(train)), block)
            model = Ridge(result.penalties[layer, fold]).fit(rows[rest], y[train][rest])
            found = result.inner_predictions[fold, train[block]]
            assert np.allclose(found, model.predict(rows[block]), atol=1e-8)


def test_a_logistic_sweep_has_no_inner_predictions():
    features, _, labels, _ = noise(n=40, n_layers=1)
    assert run(features, labels, kind="logistic", penalties=[0.1, 1.0]).inner_predictions is None


# --- folds that are given, devices ------------------------------------------------------------------------


def test_given_folds_serve_every_target():
    features, y, labels, groups = noise(n=48)
    folds = outer_folds(y, groups, n_splits=4, rng=np.random.default_rng(7))
    both = sweep_targets(features, [y, labels], folds=folds, n_permutations=3, rng=np.random.default_rng(0))
    assert all(result.folds is folds for result in both)
    alone = sweep(features, y, folds=folds, n_permutations=0, rng=np.random.default_rng(1))
    assert np.allclose(alone.predictions, both[0].predictions, rtol=0, atol=1e-12)
    assert both[0].table["permutation"].iloc[0] == "within"


def test_given_folds_must_fit_the_rows():
    features, y, _, groups = noise(n=48)
    folds = outer_folds(y, n_splits=4, rng=np.random.default_rng(7))
    with pytest.raises(ValueError, match="groups parameter of sweep must be None where folds are given"):
        run(features, y, folds=folds, groups=groups)
    with pytest.raises(ValueError, match=r"must hold each of the 47 rows once\. Got folds of 48 rows"):
        run(features[:, :47], y[:47], folds=folds)
    lone = np.zeros(48)
    lone[folds.test[2]] = 1.0
    with pytest.raises(TargetError, match="both classes outside every test fold of the folds parameter"):
        run(features, lone, folds=folds)


def test_a_device_that_is_not_there_is_refused_before_anything_is_fitted():
    features, y, _, _ = noise(n=40)
    with pytest.raises(
        ValueError, match=r'device parameter of sweep must be "auto", "cpu" or a GPU .* Got \'cuda:99\''
    ):
        run(features, y, device="cuda:99")
    assert np.array_equal(run(features, y, device="auto").predictions, run(features, y, device="cpu").predictions)


@pytest.mark.gpu
def test_a_gpu_gives_the_numbers_of_the_cpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    features, y, _, groups = noise(n=60)
    there, here = (run(features, y, groups=groups, n_permutations=9, device=device) for device in ("cuda", "cpu"))
    assert np.allclose(there.predictions, here.predictions, atol=1e-8)
    assert np.allclose(there.null, here.null, atol=1e-8)


def test_threads_are_as_they_were_after_a_sweep():
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        features, y, _, _ = noise(n=40)
        run(features, y)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_many_rows_take_the_narrow_path_for_permutations_only(monkeypatch):
    features, y, _, groups = noise(n=60)
    wide = run(features, y, groups=groups, n_permutations=9)
    monkeypatch.setattr(fold_fits, "MANY_ROWS", 1)
    narrow = run(features, y, groups=groups, n_permutations=9)
    assert np.allclose(narrow.predictions, wide.predictions, rtol=0, atol=1e-12)
    assert np.abs(narrow.null - wide.null).max() > 1e-9
    assert np.allclose(narrow.null, wide.null, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("binary", [False, True])
def test_layers_between_which_the_best_lies_equal_a_loop_over_resamples(binary):
    features, y, labels, groups = noise(7, n=90, n_layers=5)
    features[2, :, :3] += 0.2 * features[2, :, :3].std(0) * y[:, None]
    features[3, :, :3] += 0.2 * features[3, :, :3].std(0) * y[:, None]
    target = labels if binary else y
    result = run(features, target, groups=groups, n_bootstrap=80)
    rng = np.random.default_rng(1)
    rng.integers(2**63)
    codes = result.folds.group_codes
    best = []
    for drawn in rng.multinomial(8, np.full(8, 1 / 8), size=80):
        rows = np.repeat(np.arange(90), drawn[codes])
        if binary:
            best.append(np.argmax([roc_auc_score(target[rows], own[rows]) for own in result.deviations]))
        else:
            best.append(np.argmin([np.sum((target - own)[rows] ** 2) for own in result.predictions]))
    held = {(i, j): np.mean([i <= one <= j for one in best]) for i in range(5) for j in range(i, 5)}
    low, high = min((pair for pair in held if held[pair] >= 0.95), key=lambda pair: (pair[1] - pair[0], -held[pair]))
    assert result.table["layer_low"].tolist() == [low] * 5
    assert result.table["layer_high"].tolist() == [high] * 5
    assert low < high
    named = run(dict(zip("abcde", features, strict=True)), target, groups=groups, n_bootstrap=80).table
    assert named[["layer_low", "layer_high"]].iloc[0].tolist() == ["abcde"[low], "abcde"[high]]

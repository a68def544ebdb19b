"""Folds of classifiers: against explicit loops and scikit-learn's linear discriminant analysis."""

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler

from doubtlens.probes.classifier_folds import logistic_fold, mass_mean_fold, mass_mean_whitened_fold
from doubtlens.probes.folds import inner_blocks
from doubtlens.probes.linear import LogisticProbe, MassMeanProbe, shrinkage_penalty
from doubtlens.probes.ridge_path import RidgePath, Standardization
from doubtlens.probes.sweep import sweep

PENALTIES = [1e-4, 1e-2, 1.0]


def made(n=60, d=12, seed=0):
    """Correlated training and test features of uneven scale; a target and two permutations of it; groups."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n + 15, d)) @ rng.standard_normal((d, d)) * 10 ** rng.uniform(-1, 2, d) + 5
    score = (x / x.std(0))[:, :3].sum(1) + rng.standard_normal(n + 15)
    y = (score > np.quantile(score, 0.6)).astype(float)[:n]
    return x[:n], x[n:], np.stack([y, rng.permutation(y), rng.permutation(y)], axis=1), np.arange(n) % 8


def line(scores, y, new):
    return LinearRegression().fit(scores[:, None], y).predict(new[:, None])


def discriminant(rows, y, penalty):
    """Direction and shrinkage of scikit-learn's LDA whose total covariance has `penalty` / n on its diagonal."""
    n, d = rows.shape
    within = sum(np.cov(rows[y == label].T, bias=True) * np.mean(y == label) for label in (0, 1))
    added = penalty / n / (np.trace(within) / d)
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=added / (1 + added)).fit(rows, y)
    return model.coef_[0]


@pytest.mark.parametrize("d", [12, 90])
def test_shrinkage_is_that_of_ledoit_and_wolf(d):
    x, *_ = made(d=d)
    rows = StandardScaler().fit_transform(x)
    rate = ledoit_wolf_shrinkage(rows, assume_centered=True)
    assert shrinkage_penalty(RidgePath.of(rows)) == pytest.approx(60 * rate / (1 - rate))
    with_constant = Standardization.of(np.column_stack([x, np.full(60, 3.0)])).apply(
        np.column_stack([x, np.full(60, 3)])
    )
    assert shrinkage_penalty(RidgePath.of(with_constant)) == pytest.approx(60 * rate / (1 - rate))
    assert shrinkage_penalty(RidgePath.of(rows[:, :1])) == 0.0


@pytest.mark.parametrize("d", [12, 90])
@pytest.mark.parametrize("grouped", [False, True])
def test_the_whitened_fold_is_linear_discriminant_analysis(d, grouped):
    train, test, targets, groups = made(d=d)
    codes = groups if grouped else None
    fit = mass_mean_whitened_fold(train, test, targets, codes, [], np.array([0, 2]))
    scaler = StandardScaler().fit(train)
    rows, new = scaler.transform(train), scaler.transform(test)
    rate = ledoit_wolf_shrinkage(rows, assume_centered=True)
    penalty = 60 * rate / (1 - rate)
    blocks = inner_blocks(codes) if grouped else [np.arange(start, 60, 10) for start in range(10)]
    for column, y in enumerate(targets.T):
        direction = discriminant(rows, y, penalty)
        assert np.allclose(fit.test[:, column], line(rows @ direction, y, new @ direction), atol=1e-8)
        held_out = np.empty(60)
        for block in blocks:
            rest = np.delete(np.arange(60), block)
            direction = discriminant(rows[rest], y[rest], penalty)
            held_out[block] = line(rows[rest] @ direction, y[rest], rows[block] @ direction)
        assert fit.inner_error[column] == pytest.approx(np.mean((y - held_out) ** 2))
        if column != 1:
            assert np.allclose(fit.held_out[:, column // 2], held_out, atol=1e-8)
    assert np.isnan(fit.penalty).all()


def test_the_whitened_fold_ranks_as_the_estimator():
    train, test, targets, _ = made()
    fit = mass_mean_whitened_fold(train, test, targets, None, [], np.array([0]))
    probe = MassMeanProbe(whiten=True).fit(train, targets[:, 0])
    assert np.corrcoef(fit.test[:, 0], probe.decision_function(test))[0, 1] == pytest.approx(1.0)


def test_whitening_sets_aside_a_direction_that_only_adds_noise():
    rng = np.random.default_rng(0)
    y = np.tile([0.0, 1.0], 200)
    common = rng.standard_normal(400)
    x = np.column_stack([common + 0.7 * y, common, *rng.standard_normal((4, 400))])
    x += 0.2 * rng.standard_normal((400, 6))
    fits = [
        fold(x[:200], x[200:], y[:200, None], None, [], np.array([0]))
        for fold in (mass_mean_fold, mass_mean_whitened_fold)
    ]
    plain, whitened = (roc_auc_score(y[200:], fit.test[:, 0]) for fit in fits)
    assert plain < 0.7
    assert whitened > 0.85
    assert fits[1].inner_error[0] < fits[0].inner_error[0]


def test_where_all_is_shrunk_the_plain_difference_is_left():
    # One row far from all others makes up the covariance, so that its error is as large as itself.
    rng = np.random.default_rng(1)
    train, test, y = rng.standard_normal((40, 10)), rng.standard_normal((7, 10)), np.tile([0.0, 1.0], 20)[:, None]
    train[3] *= 1000
    assert shrinkage_penalty(RidgePath.of(StandardScaler().fit_transform(train))) == pytest.approx(40e7)
    plain = mass_mean_fold(train, test, y, None, [], np.array([0]))
    whitened = mass_mean_whitened_fold(train, test, y, None, [], np.array([0]))
    assert np.allclose(whitened.test, plain.test, rtol=1e-5)
    assert np.allclose(whitened.held_out, plain.held_out, rtol=1e-5)


@pytest.mark.parametrize("fold", [mass_mean_fold, mass_mean_whitened_fold, logistic_fold])
def test_constant_features_give_the_base_rate(fold):
    targets = made()[2]
    fit = fold(np.ones((60, 3)), np.ones((4, 3)), targets, None, PENALTIES, np.array([0]))
    assert np.allclose(fit.test, targets.mean(axis=0))
    if fold is logistic_fold:
        assert (fit.penalty == PENALTIES[0]).all()  # of penalties that do as well, the strongest


@pytest.mark.parametrize("fold", [mass_mean_fold, mass_mean_whitened_fold, logistic_fold])
def test_targets_together_are_as_each_alone(fold):
    train, test, targets, groups = made(d=90)
    together = fold(train, test, targets, groups, PENALTIES, np.array([0]))
    for column in range(3):
        alone = fold(train, test, targets[:, [column]], groups, PENALTIES, np.array([0]))
        assert np.allclose(together.test[:, column], alone.test[:, 0], rtol=0, atol=1e-9)
        assert together.inner_error[column] == pytest.approx(alone.inner_error[0])
        assert np.array_equal(together.penalty[column], alone.penalty[0], equal_nan=True)


@pytest.mark.parametrize("d", [12, 90])
@pytest.mark.parametrize("grouped", [False, True])
def test_the_logistic_fold_equals_a_loop_of_scikit_learn(d, grouped):
    train, test, targets, groups = made(d=d)
    codes = groups if grouped else None
    fit = logistic_fold(train, test, targets, codes, PENALTIES, np.array([0]))
    scaler = StandardScaler().fit(train)
    rows, new = scaler.transform(train), scaler.transform(test)

    def model(chosen, y, c):
        return LogisticRegression(C=c, solver="newton-cholesky", tol=1e-12).fit(rows[chosen], y[chosen])

    for column, y in enumerate(targets.T[:2]):
        splits = list(GroupKFold(5).split(rows, y, groups) if grouped else StratifiedKFold(5).split(rows, y))
        losses = np.zeros(3)
        for rest, out in splits:
            for index, c in enumerate(PENALTIES):
                probability = model(rest, y, c).predict_proba(rows[out])[:, 1]
                losses[index] += log_loss(y[out], probability, labels=[0, 1]) * len(out) / 60
        assert fit.penalty[column] == PENALTIES[int(np.argmin(losses))]
        assert fit.inner_error[column] == pytest.approx(min(losses), abs=1e-5)
        predicted = model(np.arange(60), y, fit.penalty[column]).predict_proba(new)[:, 1]
        assert np.allclose(fit.test[:, column], predicted, rtol=0, atol=1e-4)
    assert fit.held_out is None


def test_the_logistic_fold_is_the_estimator():
    train, test, targets, groups = made(d=90)
    fit = logistic_fold(train, test, targets[:, :1], groups, PENALTIES, np.array([0]))
    probe = LogisticProbe(C=PENALTIES).fit(train, targets[:, 0], groups=groups)
    assert np.allclose(fit.test[:, 0], probe.predict_proba(test)[:, 1], rtol=0, atol=1e-9)
    assert fit.inner_error[0] == pytest.approx(probe.inner_log_loss_.min())
    assert fit.penalty[0] == probe.C_


@pytest.mark.parametrize("kind", ["mass_mean_whitened", "logistic"])
def test_a_sweep_finds_the_layer_against_its_null(kind):
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((3, 60, 10)) + 2 * rng.standard_normal((3, 60, 1)), np.tile([0.0, 1.0], 30)
    x[1, :, 0] += 2 * y
    found = sweep(
        x, y, kind=kind, n_splits=4, n_permutations=19, n_bootstrap=20, rng=rng,
        penalties=[1e-2, 1.0] if kind == "logistic" else None,
    )  # fmt: skip
    assert found.table["best"].tolist() == [False, True, False]
    assert found.table.loc[1, ["p", "p_max", "nested_p"]].tolist() == [0.05] * 3
    assert found.table.loc[[0, 2], "p_max"].min() > 0.1
    assert found.table["probe"].eq(kind).all()

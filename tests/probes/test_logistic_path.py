"""Penalties chosen on inner folds, and the fit: against explicit loops of scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedKFold

from doubtlens.probes import logistic_path
from doubtlens.probes.logistic_path import LogisticPath, inner_folds

PENALTIES = [1e-4, 1e-2, 1.0]


def made(n=45, d=12, seed=0):
    """Standardised rows that share a strong component, and three targets of different base rates."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, d)) + 2 * rng.standard_normal((n, 1))
    rows = (rows - rows.mean(0)) / rows.std(0)
    score = rows[:, :3].sum(1) + 2 * rng.standard_normal(n)
    return rows, np.stack([score > np.quantile(score, q) for q in (0.5, 0.7, 0.92)], axis=1).astype(float)


def sklearn(rows, y, c):
    return LogisticRegression(C=c, solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(rows, y)


@pytest.mark.parametrize("d", [12, 80])
@pytest.mark.parametrize("grouped", [False, True])
def test_inner_losses_equal_a_loop(d, grouped):
    rows, labels = made(d=d)
    codes = np.arange(45) % 7 if grouped else None
    path = LogisticPath(rows, caller="test")
    losses, starts = path.inner_log_loss(labels, PENALTIES, codes)
    assert losses.shape == (3, 3)
    for column, y in enumerate(labels.T):
        folds = min(5, int(min(y.sum(), (1 - y).sum())))
        splits = GroupKFold(5).split(rows, y, codes) if grouped else StratifiedKFold(folds).split(rows, y)
        expected = np.zeros(3)
        for train, test in splits:
            for index, c in enumerate(PENALTIES):
                probability = sklearn(rows[train], y[train], c).predict_proba(rows[test])
                expected[index] -= np.log(probability[np.arange(len(test)), y[test].astype(int)]).sum() / 45
        assert np.allclose(losses[:, column], expected, rtol=0, atol=1e-5)
    assert starts.shape == (3, 3, min(44, d))


@pytest.mark.parametrize("d", [12, 80])
def test_fits_equal_scikit_learn(d):
    rows, labels = made(d=d)
    new = made(n=9, d=d, seed=1)[0]
    path = LogisticPath(rows, caller="test")
    c = np.array([1.0, 1e-3, 10.0])
    fitted = path.fit(labels, c)
    assert (fitted.suboptimality <= 1e-10).all()
    weights, predicted = path.feature_weights(fitted), path.predict(fitted, new)
    for column, y in enumerate(labels.T):
        model = sklearn(rows, y, c[column])
        assert np.allclose(weights[:, column], model.coef_[0], rtol=0, atol=1e-4 * np.linalg.norm(model.coef_))
        assert np.allclose(predicted[:, column], model.predict_proba(new)[:, 1], rtol=0, atol=1e-4)


def test_the_fit_starts_from_the_mean_of_the_inner_solutions():
    rows, labels = made(d=80)
    path = LogisticPath(rows, caller="test")
    starts = path.inner_log_loss(labels, [10.0], None)[1][0]
    c = np.full(3, 10.0)
    warm, cold = path.fit(labels, c, starts), path.fit(labels, c)
    assert np.allclose(warm.weights, cold.weights, atol=1e-3)
    assert (warm.n_iter < cold.n_iter).all()
    inner = [sklearn(rows[train], labels[train, 0], 10.0) for train, _ in StratifiedKFold(5).split(rows, labels[:, 0])]
    expected = np.mean([model.coef_[0] for model in inner], axis=0)
    assert np.allclose(path.feature_weights(replace(warm, weights=starts))[:, 0], expected, atol=1e-4)


def test_small_batches_give_the_same(monkeypatch):
    rows, labels = made()
    path = LogisticPath(rows, caller="test")
    whole = path.inner_log_loss(labels, PENALTIES, None), path.fit(labels, np.ones(3))
    monkeypatch.setattr(logistic_path, "BATCH_NUMBERS", 1)
    parts = path.inner_log_loss(labels, PENALTIES, None), path.fit(labels, np.ones(3))
    for one, other in zip(whole[0], parts[0], strict=True):
        assert np.allclose(one, other, rtol=0, atol=1e-9)
    assert np.allclose(whole[1].weights, parts[1].weights, rtol=0, atol=1e-9)


def test_a_fit_that_runs_out_of_steps_warns_by_name():
    rows, labels = made()
    path = LogisticPath(rows, caller="The probe", max_iter=1)
    with pytest.warns(
        ConvergenceWarning,
        match=r"^The probe did not converge at C=10 within 1 iterations \(1 of 2 fits\): .* may be .* nats per row too "
        r"high\. Raise max_iter or tol, or use a smaller C\.$",
    ):
        path.fit(labels[:, :2], np.array([1e-8, 10.0]))


def test_inner_folds_are_whole_groups_or_stratified():
    y = np.tile([0.0, 1.0], 20)
    codes = np.arange(40) // 5
    grouped = inner_folds(y, codes, "test")
    assert sorted(set(grouped)) == [0, 1, 2, 3, 4]
    assert all(len(set(grouped[codes == code])) == 1 for code in range(8))
    plain = inner_folds(y, np.zeros(40, dtype=int), "test")
    assert [y[plain == fold].mean() for fold in range(5)] == [0.5] * 5
    assert set(inner_folds(np.array([1.0, 1, 1, 0, 0, 0, 0, 0]), None, "test")) == {0, 1, 2}


def test_inner_folds_refuse_what_cannot_be_chosen_on():
    with pytest.raises(
        ValueError, match=r"^The probe chooses C on inner folds and needs .*Got 1 of one class; pass a si"
    ):
        inner_folds(np.eye(6)[0], None, "The probe")
    with pytest.raises(ValueError, match="training rows of one are of a single class; pass a single C or groups=None"):
        inner_folds(np.repeat([0.0, 1.0], 5), np.repeat([0, 1], 5), "The probe")

"""The three probes against scikit-learn, explicit loops and cases solved by hand."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.model_selection import GroupKFold, LeaveOneOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from doubtlens.probes.linear import LogisticProbe, MassMeanProbe, RidgeProbe
from doubtlens.probes.ridge_path import RidgePath, Standardization, smallest_error

SHAPES = [(40, 15), (25, 60)]
PENALTIES = [0.1, 1.0, 10.0, 100.0, 1e4]


def made(n, d, seed=0):
    """Rows with features of very different scale and centre, a continuous and a binary target."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n, d)) * 10 ** rng.uniform(-2, 3, d) + rng.uniform(-50, 50, d)
    standard = (features - features.mean(0)) / features.std(0)
    y = standard[:, 0] - 0.5 * standard[:, 1] + 0.5 * rng.standard_normal(n) + 3
    return features, y, (y > np.median(y)).astype(int)


PROBES = [
    RidgeProbe(),
    RidgeProbe(alpha=1.0),
    LogisticProbe(),
    LogisticProbe(C=0.1),
    MassMeanProbe(),
    MassMeanProbe(whiten=True),
]


@parametrize_with_checks(PROBES)
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def test_two_rows_by_hand():
    # z = (-1, 1), y centred = (-2, 2): w = sum(zy) / (sum(z^2) + alpha) = 4 / (2 + 2) = 1; raw = 1 / sd = 1 / 3.
    probe = RidgeProbe(alpha=2.0).fit([[4.0, 7.0], [10.0, 7.0]], [1.0, 5.0])
    assert probe.coef_ == pytest.approx([1 / 3, 0.0])
    assert probe.intercept_ == pytest.approx(3 - 7 / 3)
    assert probe.predict([[7.0, -100.0]]) == pytest.approx([3.0])


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_ridge_equals_scikit_learn(n, d):
    features, y, _ = made(n, d)
    oracle = make_pipeline(StandardScaler(), Ridge(7.0)).fit(features, y)
    probe = RidgeProbe(alpha=7.0).fit(features, y)
    new = made(11, d, seed=1)[0]
    assert np.allclose(probe.predict(new), oracle.predict(new), rtol=1e-8, atol=1e-8)
    assert np.allclose(probe.coef_, oracle[1].coef_ / oracle[0].scale_, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_ridge_chooses_the_penalty_of_ridge_cv(n, d):
    features, y, _ = made(n, d)
    scaled = StandardScaler().fit_transform(features)
    oracle = RidgeCV(alphas=PENALTIES, store_cv_results=True).fit(scaled, y)
    probe = RidgeProbe(alpha=PENALTIES).fit(features, y)
    assert probe.alpha_ == oracle.alpha_
    assert np.allclose(probe.held_out_errors_, oracle.cv_results_.mean(axis=0), rtol=1e-6)
    assert np.allclose(probe.predict(features), oracle.predict(scaled), rtol=1e-6)


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("grouped", [False, True])
def test_held_out_residuals_equal_an_explicit_loop(n, d, grouped):
    features, y, _ = made(n, d)
    rows = Standardization.of(features).apply(features)
    targets = np.column_stack([y, np.random.default_rng(3).permutation(y)])
    groups = np.arange(n) % 4
    splits = list(GroupKFold(4).split(rows, groups=groups) if grouped else LeaveOneOut().split(rows))
    path = RidgePath.of(rows)
    blocks = [test for _, test in splits] if grouped else None
    for penalty in PENALTIES:
        loop = np.empty_like(targets)
        for train, test in splits:
            model = Ridge(penalty).fit(rows[train], targets[train])
            loop[test] = targets[test] - model.predict(rows[test])
        closed = path.held_out_residuals(targets, np.array([penalty, penalty]), blocks)
        assert np.allclose(closed, loop, rtol=1e-7, atol=1e-8)
        assert np.allclose(path.held_out_errors(targets, [penalty], blocks)[0], np.mean(loop**2, axis=0))


def test_each_column_gets_its_own_penalty():
    features, y, _ = made(30, 12)
    path = RidgePath.of(Standardization.of(features).apply(features))
    targets = np.column_stack([y, y, y**2])
    penalties = np.array([1.0, 100.0, 1.0])
    together = path.held_out_residuals(targets, penalties)
    for column, penalty in enumerate(penalties):
        alone = path.held_out_residuals(targets[:, [column]], np.array([penalty]))
        assert np.allclose(together[:, [column]], alone)


def test_groups_make_the_penalty_stronger_where_rows_repeat():
    # Each row stands four times: leaving out one leaves its twins, so the weakest penalty looks best.
    rng = np.random.default_rng(0)
    features, y = rng.standard_normal((20, 30)), rng.standard_normal(20)
    groups = np.repeat(np.arange(20), 4)
    features, y = features[groups], y[groups]
    assert RidgeProbe(alpha=PENALTIES).fit(features, y).alpha_ == PENALTIES[0]
    assert RidgeProbe(alpha=PENALTIES).fit(features, y, groups=groups).alpha_ >= 100


def test_ties_go_to_the_stronger_penalty():
    assert smallest_error(np.array([[1.0, 2.0], [1.0, 1.0], [3.0, 1.0]])).tolist() == [1, 2]
    constant = np.ones((6, 2))
    assert RidgeProbe(alpha=[1.0, 2.0]).fit(constant, np.arange(6.0)).alpha_ == 2.0


@pytest.mark.parametrize("probe", [RidgeProbe(), LogisticProbe(), MassMeanProbe(), MassMeanProbe(whiten=True)])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 + 0.1])
def test_a_constant_feature_has_no_weight(probe, value):
    features, _, labels = made(30, 5)
    features[:, 2] = value
    fitted = probe.fit(features, labels)
    assert fitted.coef_[2] == 0.0
    without = clone(probe).fit(np.delete(features, 2, axis=1), labels)
    assert np.allclose(np.delete(fitted.coef_, 2), without.coef_, rtol=1e-3, atol=1e-6)


def test_only_constant_features_give_the_mean_or_the_base_rate():
    features, y = np.ones((8, 3)), np.array([0, 0, 0, 1, 0, 1, 0, 0])
    assert RidgeProbe().fit(features, y).predict(np.zeros((1, 3))) == pytest.approx([0.25])
    for probe in (LogisticProbe(), LogisticProbe(C=1.0), MassMeanProbe(), MassMeanProbe(whiten=True)):
        assert probe.fit(features, y).predict_proba(np.zeros((1, 3)))[0, 1] == pytest.approx(0.25, abs=1e-4)


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_logistic_equals_scikit_learn(n, d):
    features, _, labels = made(n, d)
    names = np.array(["unsure", "sure"])[labels]
    oracle = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, tol=1e-10, max_iter=100_000))
    oracle.fit(features, names)
    probe = LogisticProbe(C=0.3).fit(features, names)
    new = made(11, d, seed=1)[0]
    assert probe.classes_.tolist() == ["sure", "unsure"]
    assert np.allclose(probe.predict_proba(new), oracle.predict_proba(new), atol=1e-4)
    assert (probe.predict(new) == oracle.predict(new)).all()
    difference = probe.coef_ * features.std(0) - oracle[1].coef_[0]
    assert np.linalg.norm(difference) <= 2e-4 * np.linalg.norm(oracle[1].coef_)
    assert probe.suboptimality_ <= 1e-10


def test_logistic_chooses_by_grouped_log_loss():
    features, _, labels = made(40, 60)
    groups = np.arange(40) % 8
    probe = LogisticProbe(C=[1.0, 1e-3]).fit(features, labels, groups=groups)
    scaled = StandardScaler().fit_transform(features)
    for penalty, loss in zip([1e-3, 1.0], probe.inner_log_loss_, strict=True):
        total = 0.0
        for train, test in GroupKFold(5).split(scaled, groups=groups):
            model = LogisticRegression(C=penalty, tol=1e-10, max_iter=10_000).fit(scaled[train], labels[train])
            chosen = model.predict_proba(scaled[test])[np.arange(len(test)), labels[test]]
            total -= np.log(chosen).sum()
        assert loss == pytest.approx(total / 40, rel=1e-4)
    assert [1e-3, 1.0][int(np.argmin(probe.inner_log_loss_))] == probe.C_


def test_logistic_says_when_it_did_not_converge():
    features, _, labels = made(40, 15)
    with pytest.warns(ConvergenceWarning, match=r"did not converge at C=1 within 2 iterations.*Raise max_iter"):
        LogisticProbe(C=1.0, max_iter=2).fit(features, labels)


def test_mass_mean_is_the_difference_of_means():
    features, _, labels = made(40, 15)
    scaled = StandardScaler().fit(features)
    rows = scaled.transform(features)
    difference = rows[labels == 1].mean(0) - rows[labels == 0].mean(0)
    direction = MassMeanProbe().fit(features, labels).coef_ * scaled.scale_
    assert np.allclose(direction / np.linalg.norm(direction), difference / np.linalg.norm(difference))


@pytest.mark.parametrize(("n", "d"), [(400, 8), *SHAPES])
def test_whitened_mass_mean_is_linear_discriminant_analysis(n, d):
    features, _, labels = made(n, d)
    features = features + features.std(0) * np.random.default_rng(4).standard_normal((n, 1))  # they correlate
    rows = StandardScaler().fit_transform(features)
    rate = ledoit_wolf_shrinkage(rows, assume_centered=True)
    assert 0.001 < rate < 0.9
    # (1 - rate) S_within + rate I, written as scikit-learn does, with the mean variance within the classes.
    within = sum(rows[labels == label].var(axis=0).mean() * np.mean(labels == label) for label in (0, 1))
    added = rate / (1 - rate) / within
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=added / (1 + added))
    expected = oracle.fit(rows, labels).coef_[0]
    direction = MassMeanProbe(whiten=True).fit(features, labels).coef_ * features.std(0)
    cosine = direction @ expected / np.linalg.norm(direction) / np.linalg.norm(expected)
    assert cosine == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("probe", [LogisticProbe(C=1e-3), MassMeanProbe(), MassMeanProbe(whiten=True)])
def test_probabilities_decisions_and_classes_agree(probe):
    features, _, labels = made(40, 60)
    probe.fit(features, labels)
    probability = probe.predict_proba(features)
    assert np.allclose(probability.sum(1), 1)
    assert ((probability[:, 1] > 0.5) == (probe.predict(features) == 1)).all()
    assert np.allclose(np.log(probability[:, 1] / probability[:, 0]), probe.decision_function(features))
    assert probe.score(features, labels) > 0.9


@pytest.mark.parametrize("bad", [0, -1.0, [], [1.0, -2.0], "strong", None, [np.inf], np.nan])
def test_bad_penalties(bad):
    features, y, labels = made(10, 3)
    with pytest.raises(ValueError, match="The alpha parameter of RidgeProbe must be a positive number or a seq"):
        RidgeProbe(alpha=bad).fit(features, y)
    with pytest.raises(ValueError, match="The C parameter of LogisticProbe must be a positive number or a seq"):
        LogisticProbe(C=bad).fit(features, labels)


def test_bad_targets():
    features, y, labels = made(10, 3)
    with pytest.raises(ValueError, match=r"continuous. MassMeanProbe separates two classes; split the target"):
        MassMeanProbe().fit(features, y)
    with pytest.raises(ValueError, match=r"continuous. LogisticProbe separates two classes; use RidgeProbe"):
        LogisticProbe().fit(features, y)
    with pytest.raises(ValueError, match="LogisticProbe got 3 classes; fit one probe per class"):
        LogisticProbe().fit(features, np.arange(10) % 3)
    with pytest.raises(ValueError, match=r"needs two classes. Got one class only: np.int64\(1\)|only: 1"):
        MassMeanProbe().fit(features, np.ones(10, dtype=int))
    with pytest.raises(ValueError, match=r"at least 2 rows of each class. Got 1 of one class; pass a single C"):
        LogisticProbe().fit(features, np.arange(10) == 3)
    with pytest.raises(ValueError, match="training rows of one are of a single class; pass a single C"):
        LogisticProbe().fit(features, labels, groups=labels)
    with pytest.raises(ValueError, match="no group in rows 9; fill them in or pass groups=None"):
        RidgeProbe().fit(features, y, groups=[*"abcabcabc", None])
    with pytest.raises(ValueError, match="must name a group for each of 10 rows"):
        RidgeProbe().fit(features, y, groups=[1, 2])

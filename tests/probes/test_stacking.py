"""Stacking a probe on the output measures: by an explicit loop, blind to the test fold, and honest over studies."""

from operator import attrgetter

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from doubtlens.analysis import incremental_r2
from doubtlens.probes.folds import outer_folds
from doubtlens.probes.output_columns import MeasureFeatures
from doubtlens.probes.stacking import inner_means, stack
from doubtlens.probes.sweep import sweep

PENALTIES = [10.0**power for power in range(8)]


def study(seed=0, n=150, d=12, m=5, behaviour=0.0, own=0.0, shared=0.0, subjects=0):
    """Activations, measures and a target with a part that both hold, one of each alone, and noise."""
    rng = np.random.default_rng(seed)
    of_both, of_output, of_inside, noise = rng.standard_normal((4, n))
    y = shared * of_both + behaviour * of_output + own * of_inside + 0.7 * noise
    activations, measures = rng.standard_normal((2, n, d)), rng.standard_normal((n, m))
    activations[1, :, :3] += 2 * of_inside[:, None] * bool(own) + 2 * of_both[:, None] * bool(shared)
    measures[:, :2] += 2 * of_output[:, None] * bool(behaviour) + 2 * of_both[:, None] * bool(shared)
    groups = np.arange(n) % subjects if subjects else None
    return activations, pd.DataFrame(measures).add_prefix("m"), y, groups


def swept(activations, y, groups=None, seed=0, **settings):
    settings = {"n_splits": 5, "n_permutations": 0, "n_bootstrap": 1} | settings
    return sweep(activations, y, groups=groups, rng=np.random.default_rng(seed), **settings)


@pytest.mark.parametrize("subjects", [0, 9])
def test_it_equals_an_explicit_loop(subjects):
    activations, measures, y, groups = study(n=45 if subjects else 25, behaviour=0.5, own=0.5, subjects=subjects)
    result = swept(activations, y, groups)
    found = stack(result, measures)
    features = MeasureFeatures(measures)
    for fold, test in enumerate(result.folds.test):
        train = result.folds.train(fold)
        if groups is None:
            splits = [(np.delete(np.arange(len(train)), row), [row]) for row in range(len(train))]
        else:
            splits = list(GroupKFold(min(10, len(set(groups[train])))).split(train, groups=groups[train]))
        deviation = np.empty(len(train))
        for kept, left in splits:
            deviation[left] = result.inner_predictions[fold, train[left]] - y[train[kept]].mean()
        of_train, of_test = features(fold, train, test)
        of_train = np.column_stack([deviation, of_train])
        of_test = np.column_stack([(result.nested_predictions - result.baseline)[test], of_test])
        for columns, expected in ((slice(1, None), found.measures.raw), (slice(None), found.both.raw)):
            scaler = StandardScaler().fit(of_train[:, columns])
            rows, new = scaler.transform(of_train[:, columns]), scaler.transform(of_test[:, columns])
            if columns.start is None:
                rows[:, 0], new[:, 0] = 1000 * rows[:, 0], 1000 * new[:, 0]
            errors = [
                np.mean([np.mean((Ridge(p).fit(rows[a], y[train][a]).predict(rows[b]) - y[train][b]) ** 2)
                         * len(b) * len(splits) / len(train) for a, b in splits])
                for p in PENALTIES
            ]  # fmt: skip
            model = Ridge(PENALTIES[int(np.argmin(errors))]).fit(rows, y[train])
            np.testing.assert_allclose(expected[test], model.predict(new), rtol=1e-5, atol=1e-7)
        assert set(found.fold[test]) == {fold}


def test_the_test_fold_is_never_seen():
    activations, measures, y, groups = study(n=80, behaviour=0.5, own=0.5, subjects=10)
    folds = outer_folds(y, groups, n_splits=5, rng=np.random.default_rng(0))
    honest = stack(swept(activations, y, folds=folds), measures)
    test = folds.test[1]
    poisoned = y.copy()
    poisoned[test] = 1e3 * np.random.default_rng(1).standard_normal(len(test))
    other = stack(swept(activations, poisoned, folds=folds), measures)
    for name in ("measures.raw", "both.raw", "probe.raw", "baseline"):
        mine, theirs = (attrgetter(name)(found) for found in (honest, other))
        np.testing.assert_allclose(theirs[test], mine[test], rtol=1e-8, atol=1e-10)
        assert not np.allclose(np.delete(theirs, test), np.delete(mine, test))


@pytest.mark.parametrize("subjects", [0, 5])
def test_inner_means_are_those_of_the_other_rows(subjects):
    _, _, y, groups = study(n=20, subjects=subjects)
    folds = outer_folds(y, groups, n_splits=4, rng=np.random.default_rng(0))
    means = inner_means(y, folds)
    for fold, test in enumerate(folds.test):
        train = folds.train(fold)
        assert np.isnan(means[fold, test]).all()
        for row in train:
            rest = [other for other in train if (groups[other] != groups[row] if subjects else other != row)]
            assert means[fold, row] == pytest.approx(y[rest].mean())


def test_predictions_of_all_folds_are_comparable():
    activations, measures, y, groups = study(n=100, behaviour=0.6, own=0.6, subjects=7)
    result = swept(activations, y, groups)
    found = stack(result, measures)
    # The probe's correlates with the target as the nested probe does, on the target's own scale.
    assert np.corrcoef(found.probe.comparable, y)[0, 1] == pytest.approx(result.table["nested_pearson"].iloc[0])
    np.testing.assert_array_equal(found.probe.raw, result.nested_predictions)
    for side in (found.probe, found.measures, found.both):
        assert np.mean((side.comparable - y.mean()) ** 2) == pytest.approx(np.mean((side.raw - result.baseline) ** 2))
        for test in result.folds.test:
            assert np.corrcoef(side.raw[test], side.comparable[test])[0, 1] == pytest.approx(1)
        assert np.corrcoef(side.comparable, y)[0, 1] > 0.3


def test_probabilities_of_all_folds_are_comparable():
    activations, measures, y, groups = study(n=100, behaviour=0.6, own=0.6, subjects=7)
    y = (y > np.quantile(y, 0.6)).astype(float)
    result = swept(activations, y, groups)
    found = stack(result, measures)
    assert np.ptp(result.baseline) > 0.01
    np.testing.assert_allclose(found.probe.comparable, result.comparable_predictions())
    for side in (found.probe, found.measures, found.both):
        assert ((side.raw > 0) & (side.raw < 1)).all()
        shifted = logit(side.raw) - logit(result.baseline) + logit(y.mean())
        np.testing.assert_allclose(logit(side.comparable), shifted)
        assert np.corrcoef(side.comparable, y)[0, 1] > 0.15


def test_a_probe_that_says_nothing_is_the_mean():
    _, measures, y, _ = study(n=60)
    found = stack(swept(np.ones((1, 60, 3)), y), measures)
    np.testing.assert_allclose(found.probe.raw, found.baseline)
    np.testing.assert_allclose(found.probe.comparable, y.mean())


def increments(seed, binary=False, **parts):
    activations, measures, y, groups = study(seed, n=120, **parts)
    y = (y > np.median(y)).astype(float) if binary else y
    found = stack(swept(activations, y, groups, seed), measures)
    target = "correct" if binary else "human_entropy_normalized"
    sides = {"probe": found.probe, "measures": found.measures, "probe_and_measures": found.both}
    table = pd.DataFrame({"item": range(len(y)), target: y, f"baseline_{target}": found.baseline})
    table = table.assign(**{f"{name}_raw_{target}": side.raw for name, side in sides.items()})
    return incremental_r2(table, target=target, n_bootstrap=200, rng=np.random.default_rng(seed)).iloc[0]


@pytest.mark.parametrize("binary", [False, True])
def test_what_the_probe_knows_beyond_the_measures_is_found(binary):
    rows = pd.DataFrame([increments(seed, binary, behaviour=0.6, own=0.8) for seed in range(4)])
    assert (rows["probe_over_measures_ci_low"] > 0).all()
    assert (rows["measures_over_probe"] > 0).all()
    assert (rows["r2_both"] > rows[["r2_probe", "r2_measures"]].max(axis=1)).all()


@pytest.mark.parametrize("parts", [{}, {"behaviour": 0.8}])
def test_a_probe_that_knows_nothing_more_adds_nothing(parts):
    rows = pd.DataFrame([increments(seed, **parts) for seed in range(8)])
    # A worthless addition costs a hundredth or two, and is not taken for one that helps.
    assert -0.04 < rows["probe_over_measures"].mean() < 0.01
    assert (rows["probe_over_measures_ci_low"] > 0).sum() <= 1
    if parts:
        assert (rows["measures_over_probe_ci_low"] > 0).all()


def test_a_probe_that_repeats_a_measure_adds_nothing():
    rows = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        known = rng.standard_normal(120)
        y = 0.7 * known + 0.7 * rng.standard_normal(120)
        result = swept(np.stack([known[:, None] * [1.0, -2.0, 0.5]] * 2), y)
        found = stack(result, pd.DataFrame({"m": known}))
        spread = ((y - found.baseline) ** 2).sum()
        rows.append([1 - ((y - side.raw) ** 2).sum() / spread for side in (found.measures, found.probe, found.both)])
    r2 = np.array(rows)
    assert (r2 > 0.2).all()
    np.testing.assert_allclose(r2[:, 2].mean(), r2[:, 0].mean(), atol=0.02)
    np.testing.assert_allclose(r2[:, 2].mean(), r2[:, 1].mean(), atol=0.02)


def test_refusals():
    activations, measures, y, _ = study(n=40)
    logistic = swept(activations, (y > 0).astype(float), kind="logistic", penalties=[0.1])
    with pytest.raises(
        ValueError, match=r"must have inner predictions. Got a sweep of logistic probes, which has none"
    ):
        stack(logistic, measures)
    with pytest.raises(ValueError, match=r"a row for each of the 40 rows of the sweep. Got 39 instead"):
        stack(swept(activations, y), measures.iloc[1:])

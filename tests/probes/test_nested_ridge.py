"""Ridge on features of one's own making equals an explicit loop of scikit-learn, and sees no test row."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from doubtlens.probes.folds import outer_folds
from doubtlens.probes.jackknife import jackknife_units
from doubtlens.probes.nested_ridge import nested_ridge

PENALTIES = [0.1, 10.0, 1000.0]


def made(seed=0, n=45, q=6, n_groups=9):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n, q)) * 10.0 ** rng.integers(-1, 3, q) + 5
    y = (features[:, 0] - 5) / features[:, 0].std() + rng.standard_normal(n)
    return features, y, np.arange(n) % n_groups


def folds_of(y, groups, n_splits=5):
    return outer_folds(y, groups, n_splits=n_splits, rng=np.random.default_rng(1))


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("strengths", [None, np.array([100.0, 1, 1, 1, 2, 1])])
def test_it_equals_a_loop_of_scikit_learn(scale, grouped, strengths):
    features, y, groups = made()
    folds = folds_of(y, groups if grouped else None)
    found = nested_ridge(features, y, folds, penalties=PENALTIES, scale=scale, strengths=strengths)
    weight = np.ones(6) if strengths is None else strengths
    for fold, test in enumerate(folds.test):
        train = np.delete(np.arange(45), test)
        scaler = StandardScaler(with_std=scale).fit(features[train])
        rows, new = (scaler.transform(features[part]) * weight for part in (train, test))
        if grouped:
            splits = list(GroupKFold(min(10, len(set(groups[train])))).split(rows, groups=groups[train]))
        else:
            splits = [(np.delete(np.arange(len(train)), row), [row]) for row in range(len(train))]
        held_out = np.empty((3, len(train)))
        for number, penalty in enumerate(PENALTIES):
            for kept, left in splits:
                held_out[number, left] = Ridge(penalty).fit(rows[kept], y[train][kept]).predict(rows[left])
        best = int(np.argmin(((held_out - y[train]) ** 2).mean(axis=1)))
        assert found.penalties[fold] == PENALTIES[best]
        np.testing.assert_allclose(found.inner[fold, train], held_out[best], rtol=1e-6, atol=1e-8)
        assert np.isnan(found.inner[fold, test]).all()
        model = Ridge(PENALTIES[best]).fit(rows, y[train])
        np.testing.assert_allclose(found.predictions[test], model.predict(new), rtol=1e-6, atol=1e-8)
        deviations = (model.predict(new) - y[train].mean()) / model.predict(rows).std()
        np.testing.assert_allclose(found.deviations[test], deviations, rtol=1e-6, atol=1e-8)


def test_a_feature_of_great_strength_is_not_shrunk():
    features, y, _ = made()
    folds = folds_of(y, None)
    column = features[:, :1]
    free = nested_ridge(column, y, folds, penalties=[1e4], strengths=np.array([1e6]))
    for fold, test in enumerate(folds.test):
        train = folds.train(fold)
        line = np.polyfit(column[train, 0], y[train], 1)
        np.testing.assert_allclose(free.predictions[test], np.polyval(line, column[test, 0]), rtol=1e-6)


def test_features_are_made_anew_from_the_training_rows_of_each_fold():
    features, y, _ = made()
    folds = folds_of(y, None)
    seen = []

    def of_fold(fold, train, test):
        seen.append((fold, sorted(train), sorted(test)))
        assert not set(train) & set(test)
        return features[train], features[test]

    found = nested_ridge(of_fold, y, folds)
    assert [fold for fold, *_ in seen] == list(range(5))
    assert sorted(row for _, _, test in seen for row in test) == list(range(45))
    np.testing.assert_array_equal(found.predictions, nested_ridge(features, y, folds).predictions)


def test_what_does_not_vary_in_training_predicts_the_mean():
    _, y, _ = made()
    folds = folds_of(y, None)
    found = nested_ridge(np.full((45, 2), 7.0), y, folds)
    for fold, test in enumerate(folds.test):
        np.testing.assert_allclose(found.predictions[test], y[folds.train(fold)].mean())
    assert found.n_features.tolist() == [0] * 5
    assert not found.deviations.any()
    assert np.isnan(found.penalties).all()
    one = nested_ridge(np.column_stack([np.ones(45), np.arange(45)]), y, folds)
    assert one.n_features.tolist() == [1] * 5


def test_the_test_fold_is_never_seen():
    features, y, groups = made()
    folds = folds_of(y, groups)
    honest = nested_ridge(features, y, folds)
    test = folds.test[2]
    poisoned = y.copy()
    poisoned[test] = 1e3
    other = nested_ridge(features, poisoned, folds)
    np.testing.assert_array_equal(other.predictions[test], honest.predictions[test])
    assert not np.allclose(np.delete(other.predictions, test), np.delete(honest.predictions, test))


@pytest.mark.parametrize("grouped", [True, False])
def test_fits_without_a_unit_are_made_anew_with_the_penalty_kept(grouped):
    features, y, groups = made(n=27)
    folds = folds_of(y, groups if grouped else None, n_splits=3)
    units = jackknife_units(folds)
    found = nested_ridge(features, y, folds, penalties=PENALTIES, units=units)
    assert found.left_out.shape == (27, 9 if grouped else 27)
    for fold, test in enumerate(folds.test):
        train = folds.train(fold)
        scaler = StandardScaler().fit(features[train])
        rows, new = scaler.transform(features[train]), scaler.transform(features[test])
        for unit in range(units.max() + 1):
            kept = units[train] != unit
            if kept.all():
                np.testing.assert_array_equal(found.left_out[test, unit], found.deviations[test])
                continue
            model = Ridge(found.penalties[fold]).fit(rows[kept], y[train][kept])
            expected = (model.predict(new) - y[train][kept].mean()) / model.predict(rows).std()
            np.testing.assert_allclose(found.left_out[test, unit], expected, rtol=1e-6, atol=1e-8)
    assert nested_ridge(features, y, folds).left_out is None

"""Intervals of out-of-fold scores: fits without a unit against scikit-learn, the variance against a loop."""

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from doubtlens.probes.fold_fit import in_spreads
from doubtlens.probes.fold_fits import KINDS
from doubtlens.probes.folds import outer_folds
from doubtlens.probes.jackknife import jackknife_interval, jackknife_units
from doubtlens.probes.linear import shrinkage_penalty
from doubtlens.probes.ridge_path import RidgePath
from doubtlens.probes.sweep import sweep


def rows(seed=0, n=40, d=6, k=9):
    """Training rows of uneven scale with a target, test rows, and a unit of each training row."""
    rng = np.random.default_rng(seed)
    scale = 10 ** rng.uniform(-1, 1, d)
    train, test = rng.standard_normal((n, d)) * scale + 3, rng.standard_normal((k, d)) * scale + 3
    y = train[:, 0] / scale[0] + rng.standard_normal(n)
    return train, test, y, np.r_[np.arange(7), rng.integers(0, 7, n - 7)]


def alone(kind, train, y, penalty=None):
    """Fit one probe with libraries, on rows that are standardised already; a function of new rows."""
    if kind == "ridge":
        return Ridge(penalty).fit(train, y).predict
    if kind == "logistic":
        model = LogisticRegression(C=penalty, tol=1e-10, max_iter=1000).fit(train, y)
        return lambda new: model.predict_proba(new)[:, 1]
    direction = train[y == 1].mean(0) - train[y == 0].mean(0)
    projected = train @ direction
    slope, intercept = np.polyfit(projected, y, 1)
    return lambda new: slope * (new @ direction) + intercept


@pytest.mark.parametrize("d", [6, 60])
@pytest.mark.parametrize("kind", ["ridge", "mass_mean", "logistic"])
@pytest.mark.parametrize("single", [True, False])
def test_fits_without_a_unit_equal_refits(kind, d, single):
    train, test, y, units = rows(d=d)
    y = y if kind == "ridge" else (y > np.median(y)).astype(float)
    units = np.arange(40) if single else units
    grid = {"ridge": [30.0], "mass_mean": [], "logistic": [0.02]}[kind]
    # A second column, so that the one asked for is not the first.
    both = np.column_stack([1 - y[::-1], y])
    fit = KINDS[kind].fit(train, test, both, None, grid, np.array([1]), units=units)
    scaler = StandardScaler().fit(train)
    standard, new = scaler.transform(train), scaler.transform(test)
    predict = alone(kind, standard, y, *grid)
    assert np.allclose(fit.spread[1], predict(standard).std())
    whole = (predict(new) - y.mean()) / fit.spread[1]
    for unit in range(units.max() + 1):
        kept = units != unit
        predict = alone(kind, standard[kept], y[kept], *grid)
        expected = (predict(new) - y[kept].mean()) / predict(standard).std()
        if kind == "logistic":  # one step of Newton's: most of the way
            assert np.linalg.norm(fit.left_out[0, :, unit] - expected) < 0.1 * np.linalg.norm(expected - whole) + 1e-4
        else:
            assert np.allclose(fit.left_out[0, :, unit], expected, atol=1e-8)


def test_the_whitened_mean_difference_without_a_unit_is_its_ridge_without_it():
    train, test, y, units = rows()
    y = (y > np.median(y)).astype(float)
    fit = KINDS["mass_mean_whitened"].fit(train, test, y[:, None], None, [], np.array([0]), units=units)
    scaler = StandardScaler().fit(train)
    standard, new = scaler.transform(train), scaler.transform(test)
    penalty = shrinkage_penalty(RidgePath.of(standard))
    assert np.allclose((fit.test[:, 0] - y.mean()) / fit.spread[0], in_spreads(*ridge(standard, new, y, penalty)))
    for unit in range(7):
        expected = in_spreads(*ridge(standard, new, y, penalty, units != unit))
        assert np.allclose(fit.left_out[0, :, unit], expected)


def ridge(standard, new, y, penalty, kept=slice(None)):
    model = Ridge(penalty).fit(standard[kept], y[kept])
    return model.predict(new) - y[kept].mean(), np.array(model.predict(standard).std())


def test_predictions_that_are_all_alike_have_no_deviation():
    assert in_spreads(np.ones((2, 3)), np.array([2.0, 0.0, 1e-14])).tolist() == [[0.5, 0.0, 0.0]] * 2
    assert in_spreads(np.ones(2), np.zeros(2)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("grouped", [False, True])
def test_units_are_groups_or_rows_put_together_within_folds(grouped):
    rng = np.random.default_rng(0)
    groups = np.r_[np.arange(60), rng.integers(0, 60, 240)] if grouped else None
    folds = outer_folds(rng.standard_normal(300), groups, rng=rng)
    small = jackknife_units(folds, 300)
    codes = np.arange(300) if groups is None else folds.group_codes
    assert len(np.unique(np.column_stack([small, codes]), axis=0)) == len(np.unique(codes)) == small.max() + 1
    merged = jackknife_units(folds, 25)
    assert np.unique(merged).tolist() == list(range(20))
    for test in folds.test:
        assert len(np.unique(merged[test])) == 2
    # No unit is on both sides, and none cuts a group.
    assert len(np.unique(np.column_stack([merged, small]), axis=0)) == small.max() + 1
    assert np.bincount(merged).min() > 5


@pytest.mark.parametrize("binary", [False, True])
def test_the_interval_equals_a_loop(binary):
    rng = np.random.default_rng(1)
    y = rng.standard_normal(60)
    deviation, units = 0.5 * y + rng.standard_normal(60), np.arange(60) % 12
    left_out = deviation[:, None] + 0.3 * rng.standard_normal((60, 12))
    y = (y > 0).astype(float) if binary else y

    def score(rows, values):
        r = 2 * roc_auc_score(y[rows], values[rows]) - 1 if binary else np.corrcoef(y[rows], values[rows])[0, 1]
        return np.arctanh(r)

    every = np.arange(60)
    tested = np.array([score(units != unit, deviation) for unit in range(12)])
    trained = np.array([score(every, left_out[:, unit]) for unit in range(12)])
    tested, trained = tested - tested.mean(), trained - trained.mean()
    for given, both in ((None, 0.0), (left_out, tested @ trained), (2 * deviation[:, None] - left_out, -1.0)):
        low, high = jackknife_interval(y, deviation, given, units, binary=binary, level=0.9)
        variance = 11 / 12 * (tested @ tested + max(both, 0.0))
        if both < 0:  # whichever way training pulls, the interval is at least that of fixed probes
            assert high - low >= np.ptp(jackknife_interval(y, deviation, None, units, binary=binary, level=0.9)) - 1e-12
            continue
        bounds = np.tanh(score(every, deviation) + stats.t.ppf([0.05, 0.95], 11) * np.sqrt(variance))
        assert np.allclose([low, high], (bounds + 1) / 2 if binary else bounds)


def test_training_on_what_is_tested_widens_the_interval():
    # Half of a variance of pairs is in who is tested; the other half in who is trained on.
    rng = np.random.default_rng(2)
    y, deviation = rng.standard_normal((2, 100))
    units = np.arange(100)
    tested = np.array([np.corrcoef(np.delete(y, i), np.delete(deviation, i))[0, 1] for i in units])
    # A fit without unit i that moves the score as much as not testing i does.
    slope = np.corrcoef(y, deviation)[0, 1]
    moved = deviation[:, None] + np.outer(y, (tested - slope) * deviation.std() / y.std())
    fixed = np.ptp(jackknife_interval(y, deviation, None, units, binary=False))
    both = np.ptp(jackknife_interval(y, deviation, moved, units, binary=False))
    assert both == pytest.approx(fixed * np.sqrt(2), rel=0.02)


def test_scores_at_the_end_of_the_scale():
    labels = np.repeat([0.0, 1.0], 10)
    assert jackknife_interval(labels, np.arange(20.0), None, np.arange(20), binary=True) == (1.0, 1.0)
    y = np.arange(20.0)
    assert np.allclose(jackknife_interval(y, 2 * y, None, np.arange(20), binary=False), 1.0)
    # Perfect, but not without the fifth unit: no place on Fisher's scale, so cut off at 1.
    left_out = np.repeat(np.arange(20.0)[:, None], 20, axis=1)
    left_out[9, 4], left_out[10, 4] = 10, 9
    values = np.arange(20.0)
    values[[9, 10]] = 9.5
    low, high = jackknife_interval(labels, values, left_out, np.arange(20), binary=True)
    assert 0.95 < low < high == 1.0


def test_no_interval_without_a_score():
    y, flat, units = np.arange(20.0), np.ones(20), np.arange(20)
    assert np.isnan(jackknife_interval(y, flat, None, units, binary=False)).all()
    # Without the group that holds all ones there is no AUROC, and it is one group in ten.
    labels = (np.arange(20) < 2).astype(float)
    values = np.sin(np.arange(20.0))
    assert np.isnan(jackknife_interval(labels, values, None, units // 2, binary=True)).all()
    assert not np.isnan(jackknife_interval(labels, values, None, units, binary=True)).any()


def test_the_sweep_gives_these_intervals():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((2, 80, 20)), rng.standard_normal(80)
    x[1, :, 0] += y
    groups = np.arange(80) % 16
    for target in (y, (y > 0).astype(float)):
        result = sweep(x, target, groups=groups, penalties=[10.0], n_permutations=0, rng=np.random.default_rng(0))
        units = jackknife_units(result.folds)
        left_out = np.repeat(result.deviations[1][:, None], 16, axis=1)
        for fold, test in enumerate(result.folds.test):
            train = result.folds.train(fold)
            scaler = StandardScaler().fit(x[1, train])
            standard, new = scaler.transform(x[1, train]), scaler.transform(x[1, test])
            for unit in np.unique(units[train]):
                kept = units[train] != unit
                left_out[test, unit] = in_spreads(*ridge(standard, new, target[train], 10.0, kept))
        binary = target is not y
        expected = jackknife_interval(target, result.deviations[1], left_out, units, binary=binary)
        row = result.table.loc[1]
        assert np.allclose(row[["ci_low", "ci_high"]].astype(float), expected)
        # Layer 1 is chosen in every fold.
        assert np.allclose(row[["nested_ci_low", "nested_ci_high"]].astype(float), expected)
        assert expected != jackknife_interval(target, result.deviations[1], None, units, binary=binary)

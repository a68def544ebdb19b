"""Figures of two predicted targets: regressions of residuals, explicit stacking, hand cases, resamples."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score

from doubtlens.probes.cross_prediction import PredictedTarget, cross_prediction
from doubtlens.probes.folds import outer_folds
from doubtlens.probes.scores import bootstrap_weights

N = 60


def made(seed=0, shared=1.0, noise=0.5):
    """A number and a 0/1 target with predictions that see a shared part and a part of their own."""
    rng = np.random.default_rng(seed)
    common, *own = rng.standard_normal((3, N))
    y, z = shared * common + own[0], shared * common + own[1]
    targets = [y, (z > np.median(z)).astype(float)]
    folds = outer_folds(targets[0], None, n_splits=5, rng=rng)
    predicted = []
    for target, seen in zip(targets, (y, z), strict=True):
        deviation = seen - seen.mean() + noise * rng.standard_normal(N)
        held_out = np.full((5, N), np.nan)
        for fold in range(5):
            train = folds.train(fold)
            held_out[fold, train] = seen[train] - seen.mean() + noise * rng.standard_normal(len(train))
        predicted.append(PredictedTarget(target, deviation, held_out))
    return *predicted, folds, bootstrap_weights(N, None, 200, rng)


def residual(x, given):
    design = np.column_stack([np.ones(N), given])
    return x - design @ np.linalg.lstsq(design, x, rcond=None)[0]


def test_scores_and_cross_scores():
    first, second, folds, weights = made()
    found = cross_prediction(first, second, folds, weights)
    assert (found["first_score_name"], found["second_score_name"]) == ("pearson", "auroc")
    assert found["first_score"] == pytest.approx(np.corrcoef(first.values, first.deviation)[0, 1])
    assert found["second_score"] == pytest.approx(roc_auc_score(second.values, second.deviation))
    assert found["first_on_second"] == pytest.approx(roc_auc_score(second.values, first.deviation))
    assert found["second_on_first"] == pytest.approx(np.corrcoef(first.values, second.deviation)[0, 1])
    assert found["prediction_correlation"] == pytest.approx(np.corrcoef(first.deviation, second.deviation)[0, 1])
    for name in ("first_score", "second_score", "first_on_second", "second_on_first", "first_given_second"):
        assert found[f"{name}_ci_low"] < found[name] < found[f"{name}_ci_high"]


def test_correctness_is_crossed_as_error():
    first, second, folds, weights = made()
    error = PredictedTarget(second.values, second.deviation, second.held_out, turned=True)
    plain, turned = (cross_prediction(first, other, folds, weights) for other in (second, error))
    assert turned["first_on_second"] == pytest.approx(1 - plain["first_on_second"])
    assert turned["second_on_first"] == pytest.approx(-plain["second_on_first"])
    assert turned["first_on_second_ci_low"] == pytest.approx(1 - plain["first_on_second_ci_high"])
    crossed = {name for name in plain if name.startswith(("first_on_second", "second_on_first"))}
    same = [name for name in plain if name not in crossed and not name.endswith("name")]
    assert [turned[name] for name in same] == pytest.approx([plain[name] for name in same])


def test_partial_scores_are_correlations_of_residuals():
    first, second, folds, weights = made(3)
    found = cross_prediction(first, second, folds, weights)
    for name, given in (("first_given_second", second.values), ("first_given_second_probe", second.deviation)):
        left = np.corrcoef(residual(first.values, given), residual(first.deviation, given))[0, 1]
        assert found[name] == pytest.approx(left)
    left = np.corrcoef(residual(second.values, first.values), residual(second.deviation, first.values))[0, 1]
    assert found["second_given_first"] == pytest.approx(left)


def test_intervals_are_percentiles_over_the_resamples():
    first, second, folds, weights = made(1)
    found = cross_prediction(first, second, folds, weights)
    draws = []
    for weight in weights:
        rows = np.repeat(np.arange(N), weight.astype(int))
        given = np.column_stack([np.ones(N), second.values[rows]])
        left = [
            x[rows] - given @ np.linalg.lstsq(given, x[rows], rcond=None)[0] for x in (first.values, first.deviation)
        ]
        draws.append(np.corrcoef(*left)[0, 1])
    expected = np.quantile(draws, [0.025, 0.975])
    assert [found["first_given_second_ci_low"], found["first_given_second_ci_high"]] == pytest.approx(expected)


def test_shared_variance_is_that_of_explicit_stacks():
    first, second, folds, weights = made(2)
    found = cross_prediction(first, second, folds, weights)

    def r2(target, columns):
        error = baseline = 0.0
        for fold, test in enumerate(folds.test):
            train = folds.train(fold)
            inner = np.column_stack([one.held_out[fold, train] for one in columns])
            outer = np.column_stack([one.deviation[test] for one in columns])
            model = LinearRegression().fit(inner, target[train])
            error += np.sum((target[test] - model.predict(outer)) ** 2)
            baseline += np.sum((target[test] - target[train].mean()) ** 2)
        return 1 - error / baseline

    for name, own, other in (("first", first, second), ("second", second, first)):
        alone, crossed, both = (r2(own.values, columns) for columns in ([own], [other], [own, other]))
        assert found[f"{name}_r2_own"] == pytest.approx(alone)
        assert found[f"{name}_r2_other"] == pytest.approx(crossed)
        assert found[f"{name}_r2_both"] == pytest.approx(both)
        assert found[f"{name}_unique_own"] == pytest.approx(both - crossed)
        assert found[f"{name}_unique_other"] == pytest.approx(both - alone)
        assert found[f"{name}_shared"] == pytest.approx(alone + crossed - both)
        assert found[f"{name}_shared_ci_low"] < found[f"{name}_shared"] < found[f"{name}_shared_ci_high"]


def test_the_same_prediction_twice_is_all_shared_and_unrelated_ones_share_nothing():
    first, _, folds, weights = made(noise=0.1)
    twin = PredictedTarget(first.values + 0.1, first.deviation, first.held_out)
    found = cross_prediction(first, twin, folds, weights)
    assert found["first_shared"] == pytest.approx(found["first_r2_own"])
    assert found["first_unique_own"] == pytest.approx(0, abs=1e-9)
    assert found["prediction_correlation"] == pytest.approx(1)
    # Given the other prediction, its twin, nothing is left.
    assert np.isnan(found["first_given_second_probe"])
    apart = cross_prediction(*made(shared=0.0, noise=0.1))
    assert apart["first_unique_own"] > 0.9
    assert abs(apart["first_shared"]) < 0.15
    assert cross_prediction(*made(shared=2.0, noise=0.1))["first_shared"] > 0.5


@pytest.mark.parametrize("scale", [1e-9, 1e6])
def test_the_scale_of_predictions_does_not_matter(scale):
    first, second, folds, weights = made()
    scaled = PredictedTarget(first.values, scale * first.deviation, scale * first.held_out)
    one, other = (cross_prediction(part, second, folds, weights) for part in (first, scaled))
    for name in ("first_r2_both", "second_r2_both", "second_shared", "first_score"):
        assert other[name] == pytest.approx(one[name], rel=1e-6)


def test_constant_predictions_say_nothing():
    first, second, folds, weights = made()
    flat = PredictedTarget(first.values, np.zeros(N), np.where(np.isnan(first.held_out), np.nan, 0.0))
    found = cross_prediction(flat, second, folds, weights)
    assert found["first_on_second"] == 0.5
    assert np.isnan([found["first_score"], found["first_on_second_ci_low"], found["first_given_second"]]).all()
    assert found["first_r2_own"] == pytest.approx(0)
    assert found["second_unique_other"] == pytest.approx(0)
    assert found["second_unique_own"] == pytest.approx(found["second_r2_own"])

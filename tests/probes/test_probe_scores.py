"""Scores of many columns at once, against scikit-learn and explicit resampling."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import r2_score, roc_auc_score

from doubtlens.probes import scores


def test_r2_is_against_the_training_mean():
    # Errors (1, -1), distances from the training folds' means (2, 4): 1 - 2 / 20.
    assert scores.r2(*np.array([[[2.0], [6.0]], [[1.0], [7.0]], [[4.0], [2.0]]])) == pytest.approx([0.9])
    rng = np.random.default_rng(0)
    y, predictions = rng.random((30, 3)), rng.random((30, 3))
    overall = np.broadcast_to(y.mean(0), y.shape)
    assert np.allclose(scores.r2(y, predictions, overall), r2_score(y, predictions, multioutput="raw_values"))


def test_auroc_of_columns_equals_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (40, 6)).astype(float)
    values = rng.integers(0, 5, (40, 6)).astype(float)
    values[:, 5] = 1.0
    expected = [roc_auc_score(labels[:, j], values[:, j]) for j in range(6)]
    assert np.allclose(scores.auroc(labels, values), expected)
    assert scores.auroc(labels, values)[5] == 0.5
    assert np.isnan(scores.auroc(np.ones((4, 1)), np.arange(4.0)[:, None])).all()


def test_correlations():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, 30).astype(float), rng.random(30)
    assert scores.pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic)
    assert scores.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    # A constant with rounding noise has no correlation, whatever the noise correlates with.
    assert np.isnan(scores.pearson(0.7 + 1e-16 * y, y))
    assert np.isnan(scores.spearman(np.ones(30), y))


@pytest.mark.parametrize("grouped", [False, True])
def test_intervals_equal_an_explicit_bootstrap(grouped):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 8, 50).astype(float)
    y = x + 4 * rng.standard_normal(50)
    labels = (y > 4).astype(float)
    codes = np.r_[np.arange(10), rng.integers(0, 10, 40)] if grouped else None
    weights = scores.bootstrap_weights(50, codes, 300, np.random.default_rng(1))
    if grouped:
        assert all(len(set(row[codes == 3])) == 1 for row in weights)
    else:
        assert (weights.sum(1) == 50).all()
    correlations, areas = [], []
    for row in weights:
        drawn = np.repeat(np.arange(50), row.astype(int))
        correlations.append(np.corrcoef(x[drawn], y[drawn])[0, 1])
        areas.append(roc_auc_score(labels[drawn], x[drawn]))
    assert np.allclose(scores.pearson_interval(x, y, weights), np.quantile(correlations, [0.025, 0.975]))
    assert np.allclose(scores.auroc_interval(labels, x, weights), np.quantile(areas, [0.025, 0.975]))


def test_resamples_without_a_score_are_left_out_or_end_the_interval():
    labels, values = np.array([1.0] + [0.0] * 39), np.arange(40.0)
    rare = scores.bootstrap_weights(40, None, 1000, np.random.default_rng(0))
    assert np.isnan(scores.auroc_interval(labels, values, rare)).all()  # a third of the resamples miss the one
    few = np.ones((100, 40))
    few[:4, 0] = 0
    assert scores.auroc_interval(labels, values, few) == (0.0, 0.0)
    two = np.zeros((100, 40))
    two[:, :2] = 1
    two[:4, 1] = 0
    assert np.allclose(scores.pearson_interval(values, 2 * values, two), 1.0)
    two[:6, 1] = 0
    assert np.isnan(scores.pearson_interval(values, 2 * values, two)).all()
    assert np.isnan(scores.pearson_interval(np.ones(40), values, rare)).all()


def test_p_values_count_the_observed_one():
    assert scores.p_value(2.0, np.array([1.0, 2.0, 3.0])) == 0.75
    assert scores.p_value(4.0, np.array([1.0, 2.0, 3.0])) == 0.25
    assert scores.p_value(0.3, np.array([0.1 + 0.2 - 1e-15])) == 1.0
    assert np.isnan(scores.p_value(1.0, np.array([])))


def test_the_fewest_neighbours_that_hold_the_best_of_several_scores():
    best = np.repeat([0, 1, 2, 3], [10, 50, 36, 4])
    draws = np.eye(5)[best]
    assert scores.best_interval(draws) == (0, 2)  # 96 of 100; layers 1 to 3 hold 90
    assert scores.best_interval(draws, level=0.97) == (0, 3)
    assert scores.best_interval(draws, level=0.86) == (1, 2)
    assert scores.best_interval(draws, level=0.5) == (1, 1)
    assert scores.best_interval(draws, level=1.0) == (0, 3)
    assert scores.best_interval(np.zeros((10, 4))) == (0, 0)  # of equal layers the first counts as the best
    draws[:5, 4] = np.nan
    assert scores.best_interval(draws) == (0, 2)  # 91 of the 95 that are left
    draws[:6, 4] = np.nan
    assert scores.best_interval(draws) is None

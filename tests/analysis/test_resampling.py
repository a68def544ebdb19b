"""Bootstrapped correlations against a loop that draws the items, recomputes and calls scipy."""

import numpy as np
import pytest

from doubtlens.analysis.correlation import correlation, partial_correlation
from doubtlens.analysis.intervals import resample_counts
from doubtlens.analysis.resampling import bootstrap_correlations

METHODS = ["pearson", "spearman", "kendall"]


def loop(measures, target, controls, method, n_bootstrap, seed):
    """One draw at a time: repeat each item as often as it was drawn, then the array layer."""
    plain, partial = [], []
    for block in resample_counts(len(target), n_bootstrap=n_bootstrap, rng=np.random.default_rng(seed)):
        for counts in block.astype(int):
            x, y, z = (np.repeat(part, counts, axis=0) for part in (measures, target, controls))
            plain.append([correlation(column, y, method=method).value for column in x.T])
            partial.append([partial_correlation(column, y, z, method=method).value for column in x.T])
    return np.array(plain), np.array(partial)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("q", [1, 2])
def test_draws_equal_a_loop_over_scipy(method, q):
    rng = np.random.default_rng(0)
    controls = rng.integers(2, 6, size=(25, q)).astype(float)
    target = controls[:, 0] + rng.normal(size=25)
    measures = np.column_stack([target + rng.normal(size=25), np.round(rng.normal(size=25)), 1e6 + rng.normal(size=25)])
    draws = bootstrap_correlations(
        measures, target, list(controls.T), method=method, n_bootstrap=60, rng=np.random.default_rng(1)
    )
    expected = loop(measures, target, controls, method, 60, 1)
    assert draws[0].shape == (60, 3)
    np.testing.assert_allclose(draws[0], expected[0], atol=1e-9)
    np.testing.assert_allclose(draws[1], expected[1], atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_draws_that_are_constant_are_nan(method):
    # Nearly every value is the same, so that about a third of the resamples of each vector are constant.
    target = np.array([0.1] * 9 + [0.7])
    measures = np.column_stack([np.roll(target, 1), np.arange(10.0)])
    controls = np.roll(target, 3)[:, None]
    draws = bootstrap_correlations(
        measures, target, [controls[:, 0]], method=method, n_bootstrap=80, rng=np.random.default_rng(2)
    )
    expected = loop(measures, target, controls, method, 80, 2)
    assert 10 < np.isnan(expected[0]).sum() < 150
    np.testing.assert_allclose(draws[0], expected[0], atol=1e-9)
    np.testing.assert_allclose(draws[1], expected[1], atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_blocks_change_nothing(method, monkeypatch):
    rng = np.random.default_rng(3)
    measures, target, control = rng.normal(size=(30, 2)), rng.normal(size=30), rng.normal(size=30)
    whole = bootstrap_correlations(
        measures, target, [control], method=method, n_bootstrap=21, rng=np.random.default_rng(4)
    )
    monkeypatch.setattr("doubtlens.analysis.intervals._BLOCK", 30 * 4)
    monkeypatch.setattr("doubtlens.analysis.resampling._SIGNS", 30 * 7)
    blocks = bootstrap_correlations(
        measures, target, [control], method=method, n_bootstrap=21, rng=np.random.default_rng(4)
    )
    np.testing.assert_allclose(blocks[0], whole[0], atol=1e-12)
    np.testing.assert_allclose(blocks[1], whole[1], atol=1e-12)


def test_no_control_gives_the_plain_draws_twice_and_no_measures_none():
    rng = np.random.default_rng(5)
    plain, partial = bootstrap_correlations(
        rng.normal(size=(12, 2)), rng.normal(size=12), [], method="spearman", n_bootstrap=5, rng=rng
    )
    assert np.array_equal(plain, partial)
    empty = bootstrap_correlations(
        np.empty((12, 0)), rng.normal(size=12), [], method="spearman", n_bootstrap=5, rng=rng
    )
    assert empty[0].shape == empty[1].shape == (5, 0)


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_spread_of_the_draws_is_the_standard_error(method):
    # For two independent normal variables the standard error of r is close to 1 / sqrt(n - 1).
    rng = np.random.default_rng(6)
    draws, _ = bootstrap_correlations(
        rng.normal(size=(200, 20)), rng.normal(size=200), [], method=method, n_bootstrap=300, rng=rng
    )
    assert draws.std(axis=0).mean() == pytest.approx(1 / np.sqrt(199), rel=0.1)

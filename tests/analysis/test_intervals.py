"""Resampling by counts: ranks against scipy on the drawn items, percentiles against numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from doubtlens.analysis.intervals import Levels, draw_seed, percentile_interval, resample_counts, resampled_ranks


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(0, 10**6))
def test_ranks_equal_those_of_the_drawn_items(values, seed):
    values = np.array(values, dtype=float)
    n = len(values)
    picked = np.random.default_rng(seed).integers(0, n, size=n)
    counts = np.bincount(picked, minlength=n)[None].astype(float)
    ranks = resampled_ranks(Levels(values), counts)[0]
    assert np.array_equal(ranks[picked] + (n + 1) / 2, stats.rankdata(values[picked]))


def test_counts_sum_to_n_and_average_to_one():
    counts = np.concatenate(list(resample_counts(50, n_bootstrap=4000, rng=np.random.default_rng(0))))
    assert counts.shape == (4000, 50)
    assert (counts.sum(axis=1) == 50).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(50), abs=0.08)
    # Binomial(50, 1/50) has variance 0.98.
    assert counts.var() == pytest.approx(0.98, abs=0.02)


def test_blocks_continue_one_stream(monkeypatch):
    whole = np.concatenate(list(resample_counts(9, n_bootstrap=20, rng=np.random.default_rng(3))))
    monkeypatch.setattr("doubtlens.analysis.intervals._BLOCK", 9 * 3)
    blocks = list(resample_counts(9, n_bootstrap=20, rng=np.random.default_rng(3)))
    assert [len(block) for block in blocks] == [3] * 6 + [2]
    assert np.array_equal(np.concatenate(blocks), whole)


def test_percentiles():
    draws = np.arange(1001.0)
    assert percentile_interval(draws, level=0.9) == pytest.approx((50, 950, None))
    assert percentile_interval(np.append(draws, np.nan), level=0.9) == pytest.approx((50, 950, None))
    low, high, reason = percentile_interval(np.array([1.0, np.nan, np.nan]), level=0.9)
    assert np.isnan([low, high]).all()
    assert reason == "the statistic is undefined in 2 of 3 resamples"
    with pytest.raises(ValueError, match=r"The level parameter of percentile_interval must be within \(0, 1\). Got 95"):
        percentile_interval(draws, level=95)


@pytest.mark.parametrize("n_bootstrap", [0, -1, 2.5, True, None])
def test_bad_n_bootstrap(n_bootstrap):
    with pytest.raises(ValueError, match=r"The n_bootstrap parameter of .* must be an integer of at least 1. Got"):
        next(resample_counts(3, n_bootstrap=n_bootstrap, rng=np.random.default_rng(0)))


def test_bad_rng():
    with pytest.raises(TypeError, match=r"The rng parameter of alignment must be .*Generator. Got int instead"):
        draw_seed(0, caller="alignment")

"""Debiased CKA: what it must not depend on, explicit loops, noise, and its interval."""

from itertools import permutations

import numpy as np
import pytest

from doubtlens.probes.similarity import KernelAlignment, cka, u_centre


def related(n=40, d=6, e=9, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    return x, x @ rng.standard_normal((d, e)) / np.sqrt(d) + noise * rng.standard_normal((n, e))


def hsic_over_quadruples(k, m):
    """The unbiased estimator as Song et al. define it: a mean over all ordered quadruples of different rows."""
    total, count = 0.0, 0
    for i, j, q, r in permutations(range(len(k)), 4):
        total += k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q])
        count += 1
    return total / count


def plain_cka(x, y):
    k, m = ((side - side.mean(0)) @ (side - side.mean(0)).T for side in (x, y))
    return np.vdot(k, m) / (np.linalg.norm(k) * np.linalg.norm(m))


# --- definition -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("d", "e"), [(2, 3), (20, 3), (20, 30)])
def test_it_equals_the_mean_over_quadruples(d, e):
    """Narrow features take the route through X^T Y, wide ones that through the Gram matrices."""
    x, y = related(n=8, d=d, e=e)
    k, m = x @ x.T, y @ y.T
    expected = hsic_over_quadruples(k, m) / np.sqrt(hsic_over_quadruples(k, k) * hsic_over_quadruples(m, m))
    assert cka(x, y) == pytest.approx(expected, abs=1e-12)
    assert KernelAlignment.of(x, y).value == pytest.approx(expected, abs=1e-12)


def test_a_case_by_hand():
    """Points 0, 1, 2, 4 on a line against 0, 0, 1, 1: U-centred by hand in fractions."""
    x, y = np.array([[0.0], [1], [2], [4]]), np.array([[0.0], [0], [1], [1]])
    a, b = (u_centre(side @ side.T) for side in (x, y))
    # Products of pairs: x 12 13 14 23 24 34 = 0 0 0 2 4 8, row sums 0 6 10 12; y: only 34 = 1, row sums 0 0 1 1.
    assert a[0, 1] == pytest.approx(0 - (0 + 6) / 2 + 28 / 6)
    assert b[2, 3] == pytest.approx(1 - (1 + 1) / 2 + 2 / 6)
    expected = np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b))
    assert cka(x, y) == pytest.approx(expected)
    assert np.allclose(a.sum(0), 0)
    assert np.allclose(a.diagonal(), 0)


def test_it_is_1_for_the_same_and_about_0_for_noise():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((421, 4096)), rng.standard_normal((421, 4096))
    assert cka(x, x) == pytest.approx(1.0, abs=1e-12)
    assert plain_cka(x, y) == pytest.approx(0.91, abs=0.005)
    assert abs(cka(x, y)) < 0.02
    small = [cka(*rng.standard_normal((2, 30, 50))) for _ in range(200)]
    assert abs(np.mean(small)) < 0.01
    assert 60 < np.sum(np.array(small) < 0) < 140


def test_the_plain_form_in_many_rows_is_where_it_goes():
    x, y = related(n=1500, d=4, e=5)
    assert cka(x, y) == pytest.approx(plain_cka(x, y), abs=0.005)


def test_what_changes_nothing():
    x, y = related()
    rng = np.random.default_rng(1)
    value = cka(x, y)
    rotation = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    order = rng.permutation(40)
    assert cka(y, x) == pytest.approx(value)
    assert cka(x @ rotation, y) == pytest.approx(value)
    assert cka(3e-4 * x, -1e5 * y) == pytest.approx(value)
    assert cka(1e150 * x, 1e-150 * y) == pytest.approx(value)
    assert cka(x + 7.0, y - rng.standard_normal(9)) == pytest.approx(value)
    assert cka(x[order], y[order]) == pytest.approx(value)
    assert cka(np.hstack([x, np.zeros((40, 100))]), y) == pytest.approx(value)
    assert abs(cka(x * np.array([100, 1, 1, 1, 1, 1]), y) - value) > 0.01
    assert abs(cka(x[order], y) - value) > 0.1


def test_activations_without_structure_have_no_cka():
    x, _ = related()
    for blank in (np.full((40, 3), 0.1), np.zeros((40, 2)), np.eye(40)):
        assert np.isnan(cka(x, blank))
        assert np.isnan(cka(blank, x))
        assert np.isnan(KernelAlignment.of(x, blank).value)
        assert np.isnan(KernelAlignment.of(x, blank).interval()).all()


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros(4), np.zeros((4, 1)), r"The x parameter of cka must be \[rows, features\]. Got shape \(4,\)"),
        (np.zeros((4, 1)), np.zeros((4, 0)), r"The y parameter of cka must be \[rows, features\]. Got shape \(4, 0\)"),
        (np.zeros((5, 1)), np.zeros((4, 1)), "must have the same rows, at least 4. Got 5 and 4"),
        (np.zeros((3, 1)), np.zeros((3, 1)), "must have the same rows, at least 4. Got 3 and 3"),
        (np.array([[0], [np.nan], [1], [np.inf]]), np.zeros((4, 1)), "x parameter of cka must be finite.*rows 1, 3"),
    ],
)
def test_bad_input_is_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        cka(x, y)


# --- resampling -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("grouped", [False, True])
def test_leaving_out_equals_computing_anew(grouped):
    x, y = related(n=25)
    codes = np.random.default_rng(2).integers(0, 6, 25) if grouped else np.arange(25)
    expected = [cka(x[codes != group], y[codes != group]) for group in range(codes.max() + 1)]
    assert KernelAlignment.of(x, y).left_out(codes) == pytest.approx(expected, abs=1e-12)


def test_the_jackknife_of_single_rows_is_the_usual_one():
    x, y = related(n=25)
    alignment = KernelAlignment.of(x, y)
    values = np.arctanh(alignment.left_out(np.arange(25)))
    error = np.sqrt(24 / 25 * np.sum((values - values.mean()) ** 2))
    low, high = np.arctanh(alignment.interval())
    assert (low + high) / 2 == pytest.approx(np.arctanh(alignment.value))
    assert (high - low) / 2 == pytest.approx(2.0639 * error, rel=1e-4)  # Student's t of 24 degrees of freedom


def test_permuted_rows_are_paired_anew():
    x, y = related()
    alignment, order = KernelAlignment.of(x, y), np.random.default_rng(0).permutation(40)
    assert alignment.permuted(order) == pytest.approx(cka(x, y[order]))


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    mixing = 0.5 * rng.standard_normal((4, 3))
    # In the limit CKA is ||C||^2 over the norms of both covariances: x is white, y = x mixing + noise.
    inner = mixing.T @ mixing
    truth = np.sum(mixing**2) / np.sqrt(4 * np.sum((inner + np.eye(3)) ** 2))
    held = 0
    for _ in range(300):
        x = rng.standard_normal((60, 4))
        low, high = KernelAlignment.of(x, x @ mixing + rng.standard_normal((60, 3))).interval()
        held += low <= truth <= high
    assert 273 <= held <= 297


def test_intervals_that_cannot_be_had():
    x, y = related(n=8)
    alignment = KernelAlignment.of(x, y)
    assert np.isnan(alignment.interval(np.zeros(8, dtype=int))).all()
    assert np.isnan(alignment.interval(np.array([0] * 5 + [1] * 3))).all()
    assert np.isfinite(alignment.interval(np.array([0] * 4 + [1] * 4))).all()
    assert KernelAlignment.of(x, 2 * x).interval() == pytest.approx((1.0, 1.0))

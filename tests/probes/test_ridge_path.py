"""The eigendecomposition behind ridge probes: equal to scikit-learn, in float32 nearly, on a GPU the same."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge, RidgeCV

from doubtlens.probes.ridge_path import RidgePath, Standardization

SHAPES = [(40, 9), (25, 60)]
gpu = pytest.param("cuda", marks=pytest.mark.gpu)


@pytest.fixture(params=["cpu", gpu])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return request.param


def problem(n, d, m=5, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n + 7, d)) * 10 ** rng.uniform(-2, 2, d) + rng.uniform(-50, 50, d)
    scaler = Standardization.of(rows[:n])
    targets = rng.standard_normal((n, m)) + 3.0
    return scaler.apply(rows[:n]), scaler.apply(rows[n:]), targets, rng


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("penalty", [1e-3, 1.0, 1e4])
def test_predictions_and_weights_equal_scikit_learn(n, d, penalty, device):
    train, test, targets, _ = problem(n, d)
    path = RidgePath.of(train, device=device)
    model = Ridge(penalty, solver="svd").fit(train, targets)
    penalties = np.full(targets.shape[1], penalty)
    predicted = path.predict(path.coordinates(test), targets, penalties)
    assert np.allclose(predicted, model.predict(test), rtol=0, atol=1e-9)
    assert np.allclose(path.weights(targets, penalties), model.coef_.T, rtol=0, atol=1e-9)
    assert np.allclose(path.weights(targets[:, 1], penalty), model.coef_[1], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_every_column_has_its_own_penalty(n, d):
    train, test, targets, rng = problem(n, d)
    path, penalties = RidgePath.of(train), 10 ** rng.uniform(-2, 4, targets.shape[1])
    predicted = path.predict(path.coordinates(test), targets, penalties)
    for column, penalty in enumerate(penalties):
        model = Ridge(penalty, solver="svd").fit(train, targets[:, column])
        assert np.allclose(predicted[:, column], model.predict(test), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_leave_one_out_errors_equal_those_of_ridge_cv(n, d, device):
    train, _, targets, _ = problem(n, d)
    grid = [0.1, 10.0, 1e3]
    errors = RidgePath.of(train, device=device).held_out_errors(targets, grid)
    peer = RidgeCV(grid, store_cv_results=True).fit(train, targets).cv_results_
    assert np.allclose(errors, peer.mean(axis=0).T, rtol=1e-8, atol=0)


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_blocks_of_uneven_size_equal_refits_without_them(n, d, device):
    train, _, targets, rng = problem(n, d)
    cuts = np.sort(rng.choice(np.arange(2, n - 2), 3, replace=False))
    blocks = np.split(rng.permutation(n), cuts)
    penalties = np.array([0.5, 0.5, 20.0, 3e3, 1e5])
    residuals = RidgePath.of(train, device=device).held_out_residuals(targets, penalties, blocks)
    for column, penalty in enumerate(penalties):
        for block in blocks:
            rest = np.setdiff1d(np.arange(n), block)
            model = Ridge(penalty, solver="svd").fit(train[rest], targets[rest, column])
            expected = targets[block, column] - model.predict(train[block])
            assert np.allclose(residuals[block, column], expected, rtol=0, atol=1e-8)


def test_weak_penalties_lose_no_digits():
    # More features than rows: 1 - leverage is about penalty / eigenvalue, the difference of two numbers near 1.
    train, _, targets, _ = problem(30, 200)
    (error,) = RidgePath.of(train).held_out_errors(targets, [1e-6])
    inverse = np.linalg.inv(train @ train.T + 1e-6 * np.eye(30) + 1e6)  # 1e6: an intercept with next to no penalty
    expected = np.mean((inverse @ targets / np.diag(inverse)[:, None]) ** 2, axis=0)
    assert np.allclose(error, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("blocked", [False, True])
def test_half_the_precision_gives_the_same_to_five_digits(n, d, blocked):
    train, test, targets, _ = problem(n, d)
    path, grid = RidgePath.of(train), [1.0, 100.0, 1e4]
    blocks = [np.arange(0, n, 2), np.arange(1, n, 2)] if blocked else None
    wide, narrow = (part.held_out_errors(targets, grid, blocks) for part in (path, path.single()))
    assert narrow.dtype == np.float64
    assert not np.array_equal(wide, narrow)
    assert np.allclose(wide, narrow, rtol=1e-5, atol=0)
    penalties = np.full(targets.shape[1], 10.0)
    near, exact = (part.predict(part.coordinates(test), targets, penalties) for part in (path.single(), path))
    assert np.allclose(near, exact, rtol=1e-5, atol=1e-5)


def test_constant_rows_have_no_directions():
    path = RidgePath.of(np.zeros((6, 3)))
    targets = np.arange(12.0).reshape(6, 2)
    assert path.left.shape == (6, 0)
    assert np.array_equal(path.predict(path.coordinates(np.zeros((2, 3))), targets, np.ones(2)), [[5.0, 6.0]] * 2)
    expected = [np.mean((targets[:, 0] - (30 - targets[:, 0]) / 5) ** 2)] * 2
    assert np.allclose(path.held_out_errors(targets, [1.0])[0], expected)

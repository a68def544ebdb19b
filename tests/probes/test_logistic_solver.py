"""Batched logistic regression: against scikit-learn, scipy, cases solved by hand, and its own certificate."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from doubtlens.probes.logistic_solver import solve_logistic

PRECISE = {"tol": 1e-10, "max_iter": 100}


def made(n, d, *, separable=False, share=0.5, seed=0):
    """Rows with columns of uneven scale, and labels that a noisy or an exact line draws."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, d)) * 10 ** rng.uniform(-1, 1, d)
    score = z / z.std(0) @ rng.standard_normal(d) + (0 if separable else 2 * np.sqrt(d)) * rng.standard_normal(n)
    return z, (score > np.quantile(score, 1 - share)).astype(float)


def solve(z, labels, c, **settings):
    rows = torch.as_tensor(z, dtype=torch.float64)
    return solve_logistic(rows, torch.as_tensor(labels), torch.as_tensor(c), **PRECISE | settings)


def mean_objective(w, b, z, t, c, a=1.0):
    a = np.broadcast_to(a, t.shape)
    return (w @ w / 2 + c * (a * np.logaddexp(0, (1 - 2 * t) * (z @ w + b))).sum()) / (c * a.sum())


def oracle(z, t, c, a=None):
    model = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(z, t, sample_weight=a)
    return model.coef_[0], float(model.intercept_[0])


@pytest.mark.parametrize(
    ("n", "d", "separable", "share"),
    [(40, 15, False, 0.5), (40, 15, True, 0.5), (25, 60, False, 0.5), (200, 20, False, 0.04), (12, 1, True, 0.5)],
)
def test_equals_scikit_learn_at_weak_and_strong_penalties(n, d, separable, share):
    z, t = made(n, d, separable=separable, share=share)
    penalties = [1e-6, 1e-3, 1e-1, 1.0, 1e2, 1e4]
    found = solve(z, np.tile(t, (6, 1)), penalties)
    assert found.converged.all()
    for index, c in enumerate(penalties):
        w, b = oracle(z, t, c)
        assert np.linalg.norm(found.weights[index].numpy() - w) <= 1.5e-4 * np.linalg.norm(w)
        assert found.intercept[index].item() == pytest.approx(b, rel=1e-3, abs=1e-4)
        own = mean_objective(found.weights[index].numpy(), found.intercept[index].item(), z, t, c)
        assert own - mean_objective(w, b, z, t, c) <= 1e-9


@pytest.mark.parametrize("steps", [0, 1, 2, 4, 8])
def test_the_certificate_bounds_loss_and_weights_at_every_step(steps):
    z, t = made(40, 15)
    for c in (1e-4, 0.1, 10.0):
        w, b = oracle(z, t, c)
        found = solve(z, t[None], c, max_iter=steps, tol=0.0)
        least = mean_objective(w, b, z, t, c)
        excess = mean_objective(found.weights[0].numpy(), found.intercept.item(), z, t, c) - least
        bound = found.suboptimality.item()
        assert -1e-15 <= excess <= bound + 1e-15
        distance = np.linalg.norm(found.weights[0].numpy() - w)
        assert distance <= found.gradient.item() * c * 40 * (1 + 1e-6) + 1e-9
        assert bound == pytest.approx(found.gradient.item() ** 2 * c * 40 / 2)
        assert bound <= 1e-6 or steps < 8


def test_the_gradient_is_that_of_the_mean_objective():
    z, t = made(30, 4)
    found = solve(z, t[None], 2.0, max_iter=1)
    at = np.append(found.weights[0].numpy(), found.intercept.item())

    def loss(x):
        return mean_objective(x[:4], x[4], z, t, 2.0)

    steps = 1e-6 * np.eye(5)
    gradient = np.array([(loss(at + step) - loss(at - step)) / 2e-6 for step in steps])
    assert found.gradient.item() == pytest.approx(np.linalg.norm(gradient), rel=1e-4)
    assert abs(gradient[4]) < 1e-8  # the intercept is solved
    assert not found.converged.any()


def test_one_feature_by_hand():
    # z = (-1, 1), t = (0, 1): b = 0 and w = 2 C / (1 + e^w). At w = ln 3 that is C = 2 ln 3.
    found = solve([[-1.0], [1.0]], [[0.0, 1.0]], 2 * np.log(3.0))
    assert found.weights.item() == pytest.approx(np.log(3.0))
    assert found.intercept.item() == pytest.approx(0.0, abs=1e-12)


def test_the_intercept_is_not_penalised():
    z, t = made(100, 3, share=0.1)
    found = solve(z, t[None], 1e-12)
    assert found.intercept.item() == pytest.approx(np.log(0.1 / 0.9), abs=1e-6)


def test_separable_rows_have_finite_weights_up_to_huge_c():
    z, t = made(40, 60, separable=True)
    penalties = [1e6, 1e8, 1e10, 1e12]
    found = solve(z, np.tile(t, (4, 1)), penalties)
    assert found.converged.all()
    assert ((z @ found.weights.numpy().T + found.intercept.numpy() > 0) == t[:, None].astype(bool)).all()
    for index, c in enumerate(penalties[:2]):

        def both(x, c=c):
            margins = (1 - 2 * t) * (z @ x[:-1] + x[-1])
            residual = c * (1 - 2 * t) / (1 + np.exp(-margins))
            gradient = np.append(x[:-1] + z.T @ residual, residual.sum())
            return x[:-1] @ x[:-1] / 2 + c * np.logaddexp(0, margins).sum(), gradient

        start = np.append(found.weights[index].numpy(), found.intercept[index].item())
        polished = minimize(both, start, jac=True, method="BFGS", options={"gtol": 1e-6})
        assert both(start)[0] - polished.fun <= 1e-6 * polished.fun


def test_useless_features_leave_the_base_rate():
    # The class means coincide up to rounding: the optimum is w = 0, where no weight can be relatively precise.
    z, t = made(40, 3, share=0.25)
    for label in (0, 1):
        z[t == label] -= z[t == label].mean(axis=0)
    found = solve(z, np.tile(t, (3, 1)), [1e-3, 1.0, 1e3])
    assert found.converged.all()
    assert found.weights.abs().max() <= 1e-12
    assert torch.allclose(found.intercept, torch.full((3,), np.log(1 / 3), dtype=torch.float64))
    none = solve(np.zeros((4, 0)), [[0.0, 0, 0, 1]], [1.0])
    assert none.weights.shape == (1, 0)
    assert none.intercept.item() == pytest.approx(np.log(1 / 3))


def test_weights_of_rows_count_and_weight_zero_leaves_out():
    z, t = made(40, 6)
    rng = np.random.default_rng(1)
    weights = np.stack([rng.integers(0, 3, 40).astype(float), (rng.random(40) < 0.7).astype(float)])
    found = solve(z, np.tile(t, (2, 1)), [0.3, 5.0], row_weights=torch.as_tensor(weights))
    for index, c in enumerate((0.3, 5.0)):
        w, b = oracle(z, t, c, weights[index])
        assert np.allclose(found.weights[index], w, atol=1e-5)
        assert found.intercept[index].item() == pytest.approx(b, abs=1e-5)
    kept = weights[1] > 0
    alone = solve(z[kept], t[None, kept], 5.0)
    assert np.allclose(alone.weights[0], found.weights[1], atol=1e-5)


def test_many_problems_are_as_each_alone_whatever_their_order():
    z, t = made(40, 60)
    rng = np.random.default_rng(2)
    labels = np.stack([rng.permutation(t) for _ in range(12)])
    penalties = 10.0 ** rng.uniform(-4, 2, 12)
    together = solve(z, labels, penalties)
    order = rng.permutation(12)
    turned = solve(z, labels[order], penalties[order])
    for index in range(12):
        alone = solve(z, labels[[index]], penalties[[index]])
        assert torch.allclose(together.weights[index], alone.weights[0], rtol=0, atol=1e-9)
        assert together.n_iter[index] == alone.n_iter[0]
    assert torch.allclose(turned.weights, together.weights[order], rtol=0, atol=1e-9)


def test_layers_in_a_batch_are_as_a_loop_over_layers():
    parts = [made(30, 8, seed=seed) for seed in range(3)]
    z = np.stack([part[0] for part in parts])
    labels = np.stack([np.stack([part[1], 1 - part[1]]) for part in parts])
    weights = torch.as_tensor((np.random.default_rng(0).random((3, 2, 30)) < 0.8).astype(float))
    penalties = np.array([[1e-5, 10.0], [1e-1, 1.0], [100.0, 1e-3]])
    together = solve(z, labels, penalties, row_weights=weights)
    assert together.weights.shape == (3, 2, 8)
    assert together.converged.all()
    for layer in range(3):
        alone = solve(z[layer], labels[layer], penalties[layer], row_weights=weights[layer])
        assert torch.allclose(together.weights[layer], alone.weights, rtol=0, atol=1e-9)
        assert torch.allclose(together.intercept[layer], alone.intercept, rtol=0, atol=1e-9)
        assert (together.n_iter[layer] == alone.n_iter).all()


def test_a_good_start_saves_steps():
    z, t = made(40, 15)
    cold = solve(z, t[None], 10.0)
    warm = solve(z, t[None], 10.0, start=cold.weights)
    assert warm.n_iter.item() == 0
    assert 4 <= cold.n_iter.item() <= 12
    far = solve(z, t[None], 10.0, start=100 * torch.ones(1, 15))
    assert torch.allclose(far.weights, cold.weights, atol=1e-4)


def test_a_fit_that_runs_out_of_steps_says_so():
    z, t = made(40, 15)
    found = solve(z, np.tile(t, (2, 1)), [1e-8, 100.0], max_iter=1)
    assert found.converged.tolist() == [True, False]
    assert found.n_iter.tolist() == [1, 1]
    assert found.suboptimality[1] > 1e-3


def test_one_class_is_refused():
    z, t = made(10, 2)
    left_out = torch.as_tensor(np.stack([np.ones(10), t]))
    with pytest.raises(ValueError, match=r"hold both classes in every problem.*in 1 of 2 problems, the first .*\[1\]"):
        solve(z, np.tile(t, (2, 1)), 1.0, row_weights=left_out)


@pytest.mark.gpu
def test_a_gpu_gives_the_weights_of_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    z, t = made(40, 15)
    labels, penalties = np.tile(t, (3, 1)), [1e-3, 1.0, 100.0]
    here = solve(z, labels, penalties)
    rows = torch.as_tensor(z, device="cuda")
    there = solve_logistic(rows, torch.as_tensor(labels), torch.as_tensor(penalties, device="cuda"), **PRECISE)
    assert torch.allclose(there.weights.cpu(), here.weights, rtol=0, atol=1e-6)
    assert there.converged.all()

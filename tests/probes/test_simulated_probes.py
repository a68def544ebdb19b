"""Small versions of benchmarks/probe_simulations.py: probes find what is planted, and nothing where nothing is.

Bounds are three standard deviations of a binomial count from what is demanded; that the checks can fail is shown on
intervals, tests and permutations that are known to be wrong.
"""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score

from doubtlens.probes.fold_fits import KINDS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def simulations():
    """The benchmark's module, with `Population` and `Worth`."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("probe_simulations")
    finally:
        sys.path.remove(str(BENCHMARKS))


def least(share, runs):
    """Three standard deviations below a share of so many runs."""
    return share - 3 * np.sqrt(share * (1 - share) / runs)


def most(share, runs):
    return share + 3 * np.sqrt(share * (1 - share) / runs)


# --- the population ---------------------------------------------------------------------------------------


def test_the_planted_strength_is_the_multiple_correlation(simulations):
    population = simulations.Population(
        n_layers=3, n_features=12, best=1, strength=0.6, subjects=0.3, confound=0.4, sized=0.5
    )
    study = population.draw(np.random.default_rng(0), 40_000, 20_000)
    size = np.column_stack([study.words, study.options])
    for layer, strength in enumerate(population.strengths):
        rows = study.activations[layer]
        assert np.allclose(
            (rows - rows.mean(0)).T @ study.latent / 40_000, population.covariance(layer), atol=0.05 * rows.std(0)
        )
        assert np.allclose(
            np.cov(rows.T), population.mixing.T @ population.mixing, atol=0.05 * np.outer(rows.std(0), rows.std(0))
        )
        # Of a target that owes 0.16 of its variance to size, of which activations correlate with each half by 0.5.
        read = LinearRegression().fit(rows, study.latent).score(rows, study.latent)
        assert read == pytest.approx(strength**2 * 0.84 + 0.25 * 0.16, abs=0.015)
    assert LinearRegression().fit(size, study.latent).score(size, study.latent) == pytest.approx(0.16, abs=0.015)
    # Two rows of a subject share its part: 0.3 of what of the target is no matter of size.
    pairs = study.latent[:20_000], study.latent[20_000:]
    assert np.array_equal(study.subject[:20_000], study.subject[20_000:])
    assert np.corrcoef(*pairs)[0, 1] == pytest.approx(0.3 * 0.84, abs=0.03)
    neighbours = [np.corrcoef(study.activations[layer][:, 0], study.activations[1][:, 0])[0, 1] for layer in (0, 2)]
    assert min(neighbours) > 0.5


@pytest.mark.parametrize(("kind", "cut"), [("ridge", None), ("ridge", 0.4), ("mass_mean", 0.0), ("logistic", 0.4)])
def test_the_worth_of_probes_is_their_score_on_new_rows(simulations, kind, cut):
    population = simulations.Population(n_layers=2, n_features=8, best=1, strength=0.6, subjects=0.2)
    scenario = simulations.Scenario(population, 60, 12, cut=cut, kind=kind, folds=3)
    rng = np.random.default_rng(1)
    study, target = scenario.draw(rng)
    swept = scenario.sweep(study, target, rng, n_permutations=0, n_bootstrap=1)
    worth = simulations.Worth.of(population, study, swept, kind, cut)
    new, new_target = simulations.Scenario(population, 30_000, 30_000, cut=cut).draw(rng)
    fold = np.random.default_rng(2).choice(3, 30_000, p=[len(test) / 60 for test in swept.folds.test])
    for layer in range(2):
        # The probes of a sweep of the same rows, read off by sweeping new rows as one more fold: here by hand.
        readings, predictions, baseline = np.empty((3, 30_000))
        for number in range(3):
            train = swept.folds.train(number)
            penalties = np.array([swept.penalties[layer, number]])
            grid = [] if kind == "mass_mean" else penalties.tolist()
            fit = KINDS[kind].fit(
                study.activations[layer, train],
                np.vstack([new.activations[layer], study.activations[layer, train]]),
                target[train, None], swept.folds.group_codes[train], grid, np.array([0]),
            )  # fmt: skip
            own = fold == number
            predicted, fitted = np.split(fit.test[:, 0], [30_000])
            predictions[own], baseline[own] = predicted[own], target[train].mean()
            readings[own] = (predicted[own] - target[train].mean()) / fitted.std()
        if cut is None:
            assert worth.score[layer] == pytest.approx(np.corrcoef(readings, new_target)[0, 1], abs=0.02)
            total = np.mean((new_target - baseline) ** 2)
            r2 = 1 - np.mean((new_target - predictions) ** 2) / total
            assert worth.ranking[layer] == pytest.approx(r2, abs=0.02)
        else:
            assert worth.score[layer] == pytest.approx(roc_auc_score(new_target, readings), abs=0.012)
    assert swept.nested_layers.tolist() == [1, 1, 1]
    assert worth.nested == pytest.approx(worth.score[1])


# --- what is there is found -------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [None, 0.3])
def test_intervals_hold_the_worth_and_layers_the_planted_one(simulations, cut):
    population = simulations.Population(n_layers=2, n_features=10, best=1, strength=0.6)
    found = simulations.signal(simulations.Scenario(population, 60, cut=cut, folds=4), 30, (0, 0), 100)
    for place in ("planted", "best", "nested"):
        assert found[place]["coverage"] >= least(0.95, 30)
        assert abs(found[place]["bias"]) < 0.06
    assert found["layer"]["recovered"] > 0.5
    assert found["layer"]["holds_planted"] >= least(0.95, 30)


def test_intervals_of_few_subjects_hold_the_worth_and_percentiles_of_fixed_probes_do_not(simulations):
    population = simulations.Population(n_layers=1, n_features=20, best=0, strength=0.3, subjects=0.2)
    found = simulations.signal(simulations.Scenario(population, 66, 11, even=False, folds=4), 80, (0, 1), 100)[
        "planted"
    ]
    assert found["coverage"] >= least(0.95, 80)
    assert found["fixed"] < least(0.95, 80)


# --- nothing is found where nothing is --------------------------------------------------------------------


@pytest.mark.parametrize("subjects", [None, 10])
def test_the_best_layer_of_noise_is_seldom_significant(simulations, subjects):
    population = simulations.Population(n_layers=5, n_features=4, best=0, strength=0.0, persistence=0.0, subjects=0.3)
    rates = simulations.null(simulations.Scenario(population, 40, subjects, folds=3), 60, (0, 2), 19)
    for test in ("best_layer", "nested", "one_layer"):
        assert rates[test] <= most(0.05, 60)
    # Without the maximum over layers the best of five would be far too good.
    assert rates["warning_least_p_over_layers"] > most(0.05, 60)


def test_rows_of_clustered_subjects_must_not_be_exchanged_freely(simulations):
    population = simulations.Population(n_layers=2, n_features=6, best=0, strength=0.0, subjects=0.5)
    rates = simulations.null(
        simulations.Scenario(population, 60, 6, grouped=False, wrong=True, folds=4), 30, (0, 3), 19
    )
    assert rates["best_layer"] > most(0.05, 30)


def test_a_target_of_size_alone_is_named_as_such(simulations):
    population = simulations.Population(n_layers=2, n_features=12, best=1, strength=0.0, confound=0.8, sized=0.7)
    rates = simulations.size(simulations.Scenario(population, 120, folds=4), 3, (0, 4), 19)
    assert rates["probe_finds_something"] == 1
    assert rates["options_and_length_as_good"] == 1
    own = simulations.Population(n_layers=2, n_features=12, best=1, strength=0.8, sized=0.7)
    rates = simulations.size(simulations.Scenario(own, 120, folds=4), 3, (0, 5), 19)
    assert rates["probe_finds_something"] == 1
    assert rates["options_and_length_as_good"] == 0


def test_what_leaves_the_limits_is_listed(simulations):
    scenario = simulations.Scenario(simulations.Population(), 10)
    rates = {place: {"coverage": 0.95} for place in ("planted", "best", "nested")} | {"best": {"coverage": 0.92}}
    assert simulations.outside("signal", scenario, rates) == ["best: 0.92"]
    rates = {"best_layer": 0.08, "nested": 0.05, "one_layer": 0.03}
    assert simulations.outside("null", scenario, rates) == ["best_layer: 0.08"]
    assert simulations.outside("null", simulations.Scenario(simulations.Population(), 10, wrong=True), rates) == []

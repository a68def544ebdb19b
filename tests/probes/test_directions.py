"""Cosines of two targets' directions: planted directions, honest rates under correlated noise, explicit loops."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, LeaveOneOut, cross_val_predict
from sklearn.preprocessing import StandardScaler

from doubtlens.probes.directions import (
    METRICS,
    NULLS,
    TargetPair,
    direction_cosines,
    largest_p,
    pair_cosines,
    pair_targets,
    ridge_directions,
)
from doubtlens.probes.folds import TargetError

PENALTIES = [1.0, 30.0, 1000.0]


def made(seed=0, n=60, d=8, correlation=0.0, first=None, second=None, binary=True):
    """Features on axes of falling variance, and two targets with correlated noise that follow an axis or none."""
    rng = np.random.default_rng(seed)
    axes = rng.standard_normal((n, d))
    noise = rng.standard_normal((n, 2)) @ np.linalg.cholesky([[1.0, correlation], [correlation, 1.0]]).T
    for column, axis in enumerate((first, second)):
        if axis is not None:
            noise[:, column] += 3.0 * axes[:, axis]
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    y, z = noise.T
    return axes / np.sqrt(np.arange(1, d + 1)) @ rotation, y, (z > np.median(z)).astype(float) if binary else z


def cosines(features, first, second, seed=1, **settings):
    settings = {"n_halvings": 2, "n_permutations": 39, "penalties": PENALTIES} | settings
    return direction_cosines(features, first, second, rng=np.random.default_rng(seed), **settings)


# --- what it is for -------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_one_direction_for_both_targets_is_found(metric):
    found = cosines(*made(n=120, first=0, second=0, correlation=0.5), metric=metric)
    assert found.cosine > 0.75
    assert found.p == 1 / 40
    assert 0.85 < found.disattenuated < 1.15
    turned = cosines(*made(n=120, first=0, second=0, correlation=0.5)[:2], 1 - made(n=120, first=0, second=0)[2])
    assert turned.cosine < -0.75
    assert turned.p == 1 / 40


def test_orthogonal_directions_are_told_from_badly_estimated_ones():
    found = cosines(*made(n=120, first=0, second=1, correlation=0.5))
    assert abs(found.cosine) < 0.3
    assert found.p > 0.05
    assert found.reliability.min() > 0.6
    assert abs(found.disattenuated) < 0.35
    # The activations know nothing of the second target: no quotient by a reliability of noise.
    assert np.isnan(cosines(*made(1, n=120, first=0, correlation=0.5)).disattenuated)


def test_correlated_targets_share_no_direction_of_noise():
    rates = {"p": 0, "in_sample": 0, "first": 0}
    in_sample = []
    for seed in range(60):
        features, y, z = made(seed, n=40, correlation=0.9, binary=False)
        found = cosines(features, y, z, n_permutations=19, penalties=[10.0])
        in_sample.append(found.in_sample)
        rates["p"] += found.p <= 0.05
        # The null that would be too narrow: it loses the correlation of the targets.
        alone = largest_p(np.array([found.cosine]), found.null[None, :1])[0][0]
        rates["first"] += alone <= 0.05
    # Directions of the same rows inherit the targets' correlation, those of different rows do not.
    assert np.mean(in_sample) > 0.8
    # Binomial(60, 0.05), three standard deviations.
    assert rates["p"] <= 3 + 3 * 1.69
    assert rates["first"] > rates["p"]


@pytest.mark.parametrize("known", [{"first": 0}, {"second": 0}, {"first": 0, "second": 1}])
def test_known_directions_raise_no_false_alarm(known):
    hits = 0
    for seed in range(50):
        found = cosines(*made(seed, n=40, correlation=0.6, **known), n_permutations=19, penalties=[10.0])
        hits += found.p <= 0.05
    assert hits <= 2.5 + 3 * 1.54


def test_differences_between_groups_stay_in_the_null():
    # Both targets and one feature differ between groups alone: the cosine is high, and that is no news.
    rng = np.random.default_rng(0)
    groups = np.arange(80) % 8
    level = np.linspace(-3, 3, 8)[groups]
    features = np.column_stack([level, rng.standard_normal((80, 4))])
    y, z = level + rng.standard_normal((2, 80))
    within = cosines(features, y, z, groups=groups)
    assert within.cosine > 0.8
    assert within.p > 0.05
    assert cosines(features, y, z, groups=groups, permute="free").p == 1 / 40


# --- equal to explicit loops ----------------------------------------------------------------------------


def explicit_direction(features, target, groups=None, penalties=PENALTIES):
    """Ridge direction in raw units, the penalty by held-out error, with scikit-learn."""
    scaler = StandardScaler().fit(features)
    rows = scaler.transform(features)
    if groups is None:
        splits = list(LeaveOneOut().split(rows))
    else:
        splits = list(GroupKFold(min(10, len(np.unique(groups)))).split(rows, groups=groups))
    errors = [
        np.mean((target - cross_val_predict(Ridge(alpha=alpha), rows, target, cv=splits)) ** 2) for alpha in penalties
    ]
    return Ridge(alpha=penalties[int(np.argmin(errors))]).fit(rows, target).coef_ / scaler.scale_


def explicit_cosine(u, v, features, metric):
    weights = {
        "covariance": np.cov(features, rowvar=False),
        "plain": np.eye(len(u)),
        "standardized": np.diag(features.var(axis=0)),
    }[metric]
    return u @ weights @ v / np.sqrt((u @ weights @ u) * (v @ weights @ v))


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("d", [5, 40])
def test_directions_are_those_of_scikit_learn(grouped, d):
    features, y, z = made(3, n=36, d=d, first=1, second=2)
    features = features * np.random.default_rng(0).uniform(0.1, 50, d) + 5
    codes = np.arange(36) % 6 if grouped else None
    found = ridge_directions(features, np.column_stack([y, z]), penalties=PENALTIES, codes=codes)
    expected = [explicit_direction(features, target, codes) for target in (y, z)]
    assert np.allclose(found.T, expected, rtol=1e-6, atol=1e-12)


def test_cosines_are_those_of_a_loop():
    features, y, z = made(5, n=24, d=6, first=0, second=1)
    features = features * np.random.default_rng(0).uniform(0.1, 50, 6) + 5
    groups = np.arange(24) % 6
    pair = pair_targets(y, z, groups, n_halvings=2, n_permutations=2, permute=None, rng=np.random.default_rng(2))
    found = pair_cosines(features, pair, penalties=PENALTIES[:2])
    columns = {"y": pair.first.T, "z": pair.second.T}
    parts = [half for halving in pair.halves for half in halving]
    directions = {
        (name, draw, part): explicit_direction(features[rows], column[rows], groups[rows], PENALTIES[:2])
        for name in columns
        for draw, column in enumerate(columns[name])
        for part, rows in enumerate([*parts, np.arange(24)])
    }

    def cosine(first, second, metric):
        pairs = ((0, 1), (1, 0), (2, 3), (3, 2))
        vectors = [(directions[*first, one], directions[*second, two]) for one, two in pairs]
        return np.mean([explicit_cosine(*both, features, metric) for both in vectors])

    for metric, one in found.items():
        assert one.cosine == pytest.approx(cosine(("y", 0), ("z", 0), metric))
        for draw in (1, 2):
            expected = {
                "second": cosine(("y", 0), ("z", draw), metric),
                "first": cosine(("y", draw), ("z", 0), metric),
                "both": cosine(("y", draw), ("z", draw), metric),
            }
            assert one.null[:, draw - 1] == pytest.approx([expected[name] for name in NULLS])
            own = [cosine((name, draw), (name, draw), metric) for name in "yz"]
            assert one.reliability_null[:, draw - 1] == pytest.approx(own)
        assert one.reliability == pytest.approx([cosine((name, 0), (name, 0), metric) for name in "yz"])
        whole = [
            explicit_cosine(directions["y", draw, 4], directions["z", draw, 4], features, metric) for draw in range(3)
        ]
        assert [one.in_sample, *one.in_sample_null] == pytest.approx(whole)
    assert list(found) == list(METRICS)


def test_permutations_and_halves_keep_groups():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(7), [3, 9, 4, 6, 2, 8, 4])
    y, z = rng.standard_normal((2, 36))
    pair = pair_targets(y, z, groups, n_halvings=20, n_permutations=4, permute=None, rng=rng)
    assert pair.permutation == "within"
    for draw in range(5):
        order = [int(np.flatnonzero(z == value)[0]) for value in pair.second[:, draw]]
        assert np.array_equal(pair.first[:, draw], y[order])
        assert np.array_equal(groups[order], groups)
    for half, other in pair.halves:
        assert sorted([*half, *other]) == list(range(36))
        assert not set(groups[half]) & set(groups[other])
        # The largest group has 9 rows, so that a cut at most 4.5 rows from the middle exists.
        assert abs(len(half) - 18) <= 4.5
    assert len({tuple(half) for half, _ in pair.halves}) > 10


def test_units_and_names_of_the_targets_do_not_matter():
    features, y, z = made(4, first=0, second=1)
    found = cosines(features, y, z)
    other = cosines(features * np.geomspace(0.01, 100, 8) + 3, 5 * y - 2, z)
    assert other.cosine == pytest.approx(found.cosine)
    assert other.p == found.p
    swapped = cosines(features, z, y)
    assert swapped.cosine == pytest.approx(found.cosine)
    assert swapped.null == pytest.approx(found.null[[1, 0, 2]])
    assert cosines(features, y, -z).cosine == pytest.approx(-found.cosine)
    # Plain cosines do change: large features decide.
    plain = [cosines(part, y, z, metric="plain").cosine for part in (features, features * np.geomspace(0.01, 100, 8))]
    assert abs(plain[0] - plain[1]) > 1e-3


def test_p_is_the_largest_of_the_nulls():
    observed = np.array([0.5, -0.1, np.nan])
    null = np.zeros((3, 2, 4))
    null[0] = [[0.1, -0.1, 0.2, -0.2], [0.4, -0.6, 0.7, -0.5]]
    null[1] = [[0.0, 0.0, 0.9, -0.8], [0.1, 0.1, -0.1, -0.1]]
    # Layer 0: first null, centre 0.1: distances 0, .2, .1, .3 against .4; second, centre 0.1: .3, .7, .6, .6.
    # Layer 1: first null, centre 0: 0, 0, .9, .8 against .1; second, centre -0.02: .12, .12, .08, .08 against .08.
    p, p_max, which = largest_p(observed, null)
    assert p[:2] == pytest.approx([4 / 5, 5 / 5])
    assert which[:2].tolist() == [1, 1]
    # Maxima over layers: first null 0, .2, .9, .8: two reach .4 and four of four reach .1 but for the first.
    assert p_max[:2] == pytest.approx([4 / 5, 5 / 5])
    assert largest_p(observed, null[:, :1])[0][:2] == pytest.approx([1 / 5, 3 / 5])
    assert largest_p(observed, null[:, :1])[1][:2] == pytest.approx([3 / 5, 4 / 5])
    assert np.isnan([p[2], p_max[2]]).all()
    assert np.isnan(largest_p(observed, np.zeros((3, 2, 0)))[0]).all()


# --- bad input ------------------------------------------------------------------------------------------


def test_activations_that_are_all_equal_have_no_direction():
    _, y, z = made()
    found = cosines(np.full((60, 3), 2.0), y, z)
    assert np.isnan([found.cosine, found.in_sample, found.p, found.disattenuated, *found.reliability]).all()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"metric": "euclidean"}, ValueError, "must be one of covariance, plain, standardized. Got 'euclidean'"),
        ({"n_halvings": 0}, ValueError, "n_halvings parameter of pair_targets must be at least 1. Got 0"),
        ({"n_permutations": -1}, ValueError, "n_permutations parameter of pair_targets must be at least 0. Got -1"),
        ({"features": np.zeros((59, 2))}, ValueError, r"must be \[60, d\]. Got shape \(59, 2\)"),
        ({"features": np.full((60, 2), np.inf)}, ValueError, "must be finite"),
        ({"first": np.ones(60)}, TargetError, "must vary. Got 1 in all 60 rows"),
        ({"first": np.full(60, np.nan)}, TargetError, "must be finite in every row. Got 60 missing"),
        ({"first": np.arange(59.0)}, TargetError, "must have the same rows, .* Got 59 and 60 rows"),
        ({"second": np.eye(60)[0]}, TargetError, "Both targets must vary in both halves"),
        ({"groups": np.arange(60) % 2, "second": np.arange(60) % 2}, TargetError, "vary in both halves"),
        ({"groups": np.arange(60) % 7, "second": np.arange(60) % 7}, TargetError, "constant in every group"),
        ({"permute": "within"}, TargetError, "needs groups"),
        ({"penalties": []}, ValueError, "penalties parameter of direction_cosines"),
    ],
)
def test_bad_arguments(changes, error, message):
    features, y, z = made()
    arguments = {"features": features, "first": y, "second": z} | changes
    with pytest.raises(error, match=message):
        cosines(arguments.pop("features"), arguments.pop("first"), arguments.pop("second"), **arguments)


def test_too_few_rows():
    features, y, _ = made()
    with pytest.raises(TargetError, match=r"at least 8 of them: a direction is fitted to each half\. Got 7 and 7 rows"):
        cosines(features[:7], y[:7], y[7:14])


def test_the_same_seed_gives_the_same_cosines():
    pair = [cosines(*made(), seed=seed) for seed in (3, 3, 4)]
    assert np.array_equal(pair[0].null, pair[1].null)
    assert not np.array_equal(pair[0].null, pair[2].null)
    assert isinstance(
        pair_targets(*made()[1:], n_halvings=1, n_permutations=0, permute=None, rng=np.random.default_rng(0)),
        TargetPair,
    )


@pytest.mark.gpu
def test_a_gpu_gives_the_cosines_of_the_cpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    here, there = (cosines(*made(first=0, second=1), device=device) for device in ("cpu", "cuda"))
    assert there.null == pytest.approx(here.null, abs=1e-8)
    assert there.cosine == pytest.approx(here.cosine, abs=1e-8)

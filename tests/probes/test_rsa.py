"""RSA: a planted geometry, the order of the options, an explicit loop, the null, refusals."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import jensenshannon, pdist
from scipy.stats import spearmanr

from doubtlens.probes.dissimilarity import (
    ACTIVATION_METRICS,
    ProfileBlock,
    activation_dissimilarity,
    profile_dissimilarity,
    standardised_ranks,
)
from doubtlens.probes.folds import TargetError
from doubtlens.probes.rsa import rsa, sorted_profiles


class AnsweredRun:
    """A run in memory: items of 2 to 4 options in three subjects; layer 4 lies as people's profiles do."""

    sites = ["resid_post"]  # noqa: RUF012
    positions = ["last", "labels"]  # noqa: RUF012
    layers = [2, 4]  # noqa: RUF012

    def __init__(self, n=60, seed=0, strength=20.0, counts=(2, 3, 4)):
        rng = np.random.default_rng(seed)
        counts = rng.choice(counts, n)
        self.items = pd.DataFrame(
            {
                "id": [f"q{row}" for row in range(n)],
                "responses": pd.Series([rng.integers(1, 60, k).astype(float).tolist() for k in counts], dtype=object),
                "subject": [f"s{row % 3}" for row in range(n)],
                "n_options": counts,
            }
        )
        self.info = {"model": "tiny", "dataset": "made", "prompt": "plain"}
        self.activations = rng.standard_normal((2, n, 6))
        for row, profile in enumerate(sorted_profiles(self.items)):
            self.activations[1, row, : len(profile)] += strength * np.sqrt(profile)

    def residual(self, layer, site="resid_post", position="last"):
        values = self.activations[self.layers.index(layer)].astype(np.float32)
        return values if position == "last" else np.repeat(values[:, None], 4, axis=1)


def compared(run, seed=0, **settings):
    return rsa(run, rng=np.random.default_rng(seed), **({"n_permutations": 99, "progress": False} | settings))


# --- what it is for -------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ACTIVATION_METRICS)
@pytest.mark.parametrize("human", ["hellinger", "jensen_shannon", "total_variation"])
def test_a_planted_geometry_is_found(metric, human):
    table = compared(AnsweredRun(), metric=metric, human=human)
    assert table["layer"].tolist() == [2, 4]
    assert table["best"].tolist() == [False, True]
    assert table["rsa"][1] > 0.25
    assert table[["p", "p_max"]].iloc[1].tolist() == [0.01, 0.01]
    assert table["p_max"][0] > 0.05
    assert abs(table["null_mean"][1]) < 0.1
    columns = [
        "model", "dataset", "prompt", "site", "position", "layer", "metric", "human", "pairs", "n", "n_missing",
        "n_skipped", "n_groups", "n_pairs", "ks", "rsa", "null_mean", "null_sd", "p", "p_max", "best", "permutation",
        "n_permutations", "note",
    ]  # fmt: skip
    assert table.columns.tolist() == columns


def test_the_order_of_the_options_plays_no_part():
    run, turned = AnsweredRun(), AnsweredRun()
    rng = np.random.default_rng(5)
    turned.items["responses"] = [list(rng.permutation(given)) for given in run.items["responses"]]
    scaled = AnsweredRun()
    scaled.items["responses"] = [[7 * count for count in given] for given in run.items["responses"]]
    expected = compared(run)
    pd.testing.assert_frame_equal(compared(turned), expected)
    pd.testing.assert_frame_equal(compared(scaled), expected)


def test_profiles_of_letters_would_find_a_position():
    """Activations that know at which letter people's favourite stands know nothing that is asked for."""
    run = AnsweredRun(strength=0, counts=(4,))
    favourite = np.random.default_rng(1).integers(0, 4, 60)
    run.items["responses"] = [
        (given + 100 * np.eye(4)[own]).tolist() for given, own in zip(run.items["responses"], favourite, strict=True)
    ]
    run.activations[1, :, :4] += 6 * np.eye(4)[favourite]
    letters = pdist(np.array([np.sqrt(np.array(given) / sum(given)) for given in run.items["responses"]]))
    assert spearmanr(letters, pdist(run.activations[1])).statistic > 0.3
    assert abs(compared(run)["rsa"][1]) < 0.1


def test_noise_gives_uniform_p_values_also_with_subjects_alike_in_both():
    found = []
    for seed in range(100):
        run = AnsweredRun(n=30, seed=seed, strength=0, counts=(3,))
        subject = np.arange(30) % 3
        run.activations += 2 * np.random.default_rng(seed).standard_normal((3, 6))[subject]
        level = np.array([[9, 1, 1], [5, 4, 2], [3, 3, 3]])[subject]
        run.items["responses"] = [
            (np.array(given) / 20 + own).tolist() for given, own in zip(run.items["responses"], level, strict=True)
        ]
        found.append(compared(run, seed=seed, n_permutations=39))
    for values in ([table["p"][0] for table in found], [table["p_max"].min() for table in found]):
        assert np.sum(np.array(values) <= 0.05) <= 13
        assert 0.4 < np.mean(values) < 0.6
    # What the subjects share is in the value and in its null.
    assert np.mean([abs(table["null_mean"][0]) for table in found]) > 0.15


# --- equal to a loop ------------------------------------------------------------------------------------


def by_hand(run, layer, human, across):
    """Spearman over the pairs of each K, weighted by pairs; correlations of standardised features."""
    x = run.residual(layer).astype(float)
    x = (x - x.mean(0)) / x.std(0)
    total, count = 0.0, 0
    for k in sorted(run.items["n_options"].unique()):
        rows = np.flatnonzero(run.items["n_options"] == k)
        first, second = [], []
        for at, i in enumerate(rows):
            for j in rows[at + 1 :]:
                if across and run.items["subject"][i] == run.items["subject"][j]:
                    continue
                p, q = (np.sort(np.array(run.items["responses"][row]))[::-1] for row in (i, j))
                first.append(1 - np.corrcoef(x[i], x[j])[0, 1])
                second.append(human(p / p.sum(), q / q.sum()))
        total += len(first) * spearmanr(first, second).statistic
        count += len(first)
    return total / count, count


@pytest.mark.parametrize("pairs", ["across", "all"])
@pytest.mark.parametrize(
    ("name", "human"),
    [
        ("hellinger", lambda p, q: np.sqrt(1 - np.sum(np.sqrt(p * q)))),
        ("jensen_shannon", jensenshannon),
        ("total_variation", lambda p, q: np.abs(p - q).sum() / 2),
    ],
)
def test_it_equals_a_loop_over_pairs(pairs, name, human):
    run = AnsweredRun(n=40, strength=2.0)
    expected, count = by_hand(run, 4, human, pairs == "across")
    row = compared(run, layers=[4], pairs=pairs, human=name).iloc[0]
    assert row["rsa"] == pytest.approx(expected, abs=1e-6)
    assert row["n_pairs"] == count
    assert row["pairs"] == pairs


def test_the_distances_of_profiles_by_hand():
    profiles = np.array([[1.0, 0.0], [0.5, 0.5]])
    assert profile_dissimilarity(profiles, "hellinger")[0, 1] == pytest.approx(np.sqrt(1 - np.sqrt(0.5)))
    assert profile_dissimilarity(profiles, "total_variation")[0, 1] == pytest.approx(0.5)
    # Mixture (3/4, 1/4): (ln(4/3) + ln(2/3) / 2 + ln(2) / 2) / 2.
    expected = np.sqrt((np.log(4 / 3) + np.log(2 / 3) / 2 + np.log(2) / 2) / 2)
    assert profile_dissimilarity(profiles, "jensen_shannon")[0, 1] == pytest.approx(expected)


@pytest.mark.parametrize(("across", "within"), [(True, True), (True, False), (False, True), (False, False)])
def test_permuted_ranks_are_those_of_permuted_profiles(across, within):
    rng = np.random.default_rng(0)
    codes, shares = rng.integers(0, 4, 15), rng.dirichlet(np.ones(3), 15)
    block = ProfileBlock.of(np.arange(15), shares, metric="hellinger", codes=codes, across=across, within=within)
    assert block.closed == (within or not across)
    (drawn,) = block.permuted_ranks(1, np.random.default_rng(1))
    order, again = np.arange(15), np.random.default_rng(1)
    for positions in block.exchangeable:
        order[positions] = again.permutation(positions)
    assert not np.array_equal(order, np.arange(15))
    assert np.array_equal(codes[order], codes) == within
    permuted = ProfileBlock.of(
        np.arange(15), shares[order], metric="hellinger", codes=codes, across=across, within=within
    )
    assert drawn == pytest.approx(permuted.ranks(), abs=1e-6)
    assert (codes[block.pairs[0]] != codes[block.pairs[1]]).all() == across


def test_activations_that_have_no_distance():
    rows = np.random.default_rng(0).standard_normal((5, 3))
    rows[2] = 0.0
    assert (activation_dissimilarity(rows, "cosine") == 0).all()
    assert np.isnan(standardised_ranks(np.full(4, 0.3) + 1e-17)).all()


# --- what is left out -----------------------------------------------------------------------------------


def test_items_that_cannot_be_compared_are_counted():
    run = AnsweredRun(counts=(2, 3))
    run.items.at[0, "responses"] = None
    for row in (1, 2, 4):  # three items of five options are too few
        run.items.at[row, "responses"] = [1.0, 2.0, 3.0, 4.0, 5.0]
    for row in range(6, 12):  # and six that were answered alike tell nothing
        run.items.at[row, "responses"] = [2.0, 1.0, 1.0, 1.0]
    row = compared(run).iloc[0]
    k = [len(given) for given in run.items["responses"] if given is not None]
    assert (row["n"], row["n_missing"], row["n_skipped"], row["n_groups"]) == (50, 1, 9, 3)
    assert row["ks"] == f"2: {k.count(2)}, 3: {k.count(3)}"


def test_without_groups_all_pairs_count_and_profiles_move_freely():
    run = AnsweredRun()
    table = compared(run, groups=None)
    assert table["pairs"].tolist() == ["all", "all"]
    assert table["permutation"].tolist() == ["free", "free"]
    assert table["n_groups"].isna().all()
    assert compared(run)["permutation"].tolist() == ["within", "within"]
    assert compared(run, permute="free")["permutation"].tolist() == ["free", "free"]
    run.items["subject"] = None
    pd.testing.assert_frame_equal(compared(run), table)


def test_a_layer_of_equal_activations_is_told():
    run = AnsweredRun()
    run.activations[0] = 3.5
    table = compared(run)
    assert table["note"][0] == "the layer's activations are at equal distances"
    assert pd.isna(table["note"][1])
    assert table.loc[0, ["rsa", "p", "p_max"]].isna().all()
    assert table["p_max"][1] == 0.01
    run.activations[1] = 1.0
    assert not compared(run)["best"].any()


def test_labels_are_averaged():
    run = AnsweredRun(counts=(4,))
    assert compared(run, position="labels")["rsa"].tolist() == pytest.approx(compared(run)["rsa"].tolist(), abs=1e-6)


# --- bad input ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": [3]}, "layers parameter of rsa must name layers of the run .*'3'"),
        ({"layers": []}, "layers parameter of rsa must name at least one layer"),
        ({"site": "resid_mid"}, "site parameter of rsa"),
        ({"position": "question_last"}, "position parameter of rsa"),
        ({"metric": "mahalanobis"}, "metric parameter of rsa must name one of these"),
        ({"human": "euclidean"}, "human parameter of rsa must name one of these"),
        ({"pairs": "within"}, "pairs parameter of rsa must name one of these"),
        ({"permute": "groups"}, "permute parameter of rsa must name a scheme"),
        ({"permute": "within", "groups": None}, "permute='within' needs groups"),
        ({"groups": np.arange(60)}, "exchanges items of one group and one K, and no two are; use permute='free'"),
        ({"n_permutations": 0}, "n_permutations parameter of rsa must be at least 1. Got 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        compared(AnsweredRun(), **settings)


def test_bad_responses_and_activations_are_refused():
    run = AnsweredRun(counts=(2, 3))
    run.activations[0, 5, 1] = np.inf
    with pytest.raises(ValueError, match=r"layer 2 must be finite. Got NaN or inf in items q5; extract"):
        compared(run)
    run.items["responses"] = [[1.0, 2.0]] * 60
    with pytest.raises(
        TargetError, match=r"needs 4 of one K whose profiles differ, of several groups. Got 60 of K = 2"
    ):
        compared(run)
    run.items["responses"] = [None] * 60
    with pytest.raises(TargetError, match=r"must have responses. Got none for any item"):
        compared(run)

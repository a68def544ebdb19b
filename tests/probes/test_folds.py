"""Who may stand in which fold, and where a permuted target may go."""

import re

import numpy as np
import pytest

from doubtlens.probes.folds import TargetError, check_target, inner_blocks, outer_folds, permutation_drawer


def folds_of(y, groups=None, n_splits=5, seed=0):
    return outer_folds(np.asarray(y), groups, n_splits=n_splits, rng=np.random.default_rng(seed))


def uneven_groups(n_groups=13, seed=0):
    return np.repeat(np.array([f"g{i}" for i in range(n_groups)]), np.arange(1, n_groups + 1))


@pytest.mark.parametrize("seed", range(5))
def test_groups_never_stand_on_both_sides(seed):
    groups = np.random.default_rng(seed).permutation(uneven_groups())
    folds = folds_of(np.arange(len(groups)), groups, seed=seed)
    assert sorted(np.concatenate(folds.test)) == list(range(len(groups)))
    for fold, test in enumerate(folds.test):
        assert not set(groups[test]) & set(groups[folds.train(fold)])
        assert sorted([*test, *folds.train(fold)]) == list(range(len(groups)))
    assert folds.n_groups == 13
    assert folds.note is None


def test_grouped_folds_are_balanced_in_rows():
    sizes = [len(test) for test in folds_of(np.arange(91), uneven_groups()).test]
    assert max(sizes) - min(sizes) <= 3


def test_fewer_groups_than_folds_makes_each_group_a_fold():
    groups = np.arange(30) % 4
    folds = folds_of(np.arange(30), groups, n_splits=10)
    assert sorted(groups[test[0]] for test in folds.test) == [0, 1, 2, 3]
    assert folds.note == "4 folds instead of 10: there are 4 groups"


def test_one_group_is_no_group():
    folds = folds_of(np.arange(30), np.array(["all"] * 30))
    assert folds.group_codes is None
    assert folds.n_groups is None
    assert len(folds.test) == 5


def test_a_binary_target_is_stratified_and_a_rare_one_is_not():
    y = (np.arange(50) < 15).astype(int)
    folds = folds_of(y)
    assert folds.stratified
    assert [y[test].sum() for test in folds.test] == [3] * 5
    assert not folds_of((np.arange(50) < 4).astype(int)).stratified
    assert not folds_of(np.arange(50)).stratified


@pytest.mark.parametrize("groups", [None, np.arange(40) % 10])
@pytest.mark.parametrize("y", [np.arange(40), np.arange(40) % 2])
def test_folds_are_shuffled_by_the_generator_alone(y, groups):
    def tests(seed):
        return [test.tolist() for test in folds_of(y, groups, seed=seed).test]

    assert tests(1) == tests(1)
    assert sorted(tests(1)) != sorted(tests(2))


def test_inner_blocks_are_whole_groups_at_most_ten():
    codes = np.random.default_rng(0).integers(0, 24, 200)
    blocks = inner_blocks(codes)
    assert len(blocks) == 10
    assert sorted(np.concatenate(blocks)) == list(range(200))
    for block in blocks:
        assert not set(codes[block]) & set(np.delete(codes, block))
    assert inner_blocks(np.array([7, 7, 7])) is None
    assert inner_blocks(None) is None
    assert len(inner_blocks(np.array([5, 5, 9]))) == 2


def test_within_permutes_inside_groups_only():
    groups = np.random.default_rng(0).integers(0, 6, 60)
    y = np.random.default_rng(1).random(60)
    name, draw = permutation_drawer(y, folds_of(y, groups), None)
    rng = np.random.default_rng(2)
    drawn = [draw(rng) for _ in range(20)]
    assert name == "within"
    assert len({tuple(indices) for indices in drawn}) == 20
    for indices in drawn:
        assert sorted(indices) == list(range(60))
        assert (groups[indices] == groups).all()


def test_groups_change_places_with_groups_of_their_size():
    groups = np.array([0, 0, 1, 2, 2, 3, 3, 4])
    y = groups.astype(float)
    name, draw = permutation_drawer(y, folds_of(y, groups, 3), "groups")
    rng = np.random.default_rng(0)
    seen = {tuple(y[draw(rng)]) for _ in range(200)}
    assert name == "groups"
    assert len(seen) == 6 * 2
    assert all(values[0] == values[1] and values[3] == values[4] and values[5] == values[6] for values in seen)
    assert {values[2] for values in seen} == {1.0, 4.0}


def test_free_permutes_anything_and_stays_in_the_fold_where_folds_are_stratified():
    y = np.random.default_rng(0).random(40)
    name, draw = permutation_drawer(y, folds_of(y), None)
    assert name == "free"
    assert sorted(draw(np.random.default_rng(0))) == list(range(40))
    labels = np.arange(40) % 2
    folds = folds_of(labels)
    name, draw = permutation_drawer(labels, folds, "free")
    indices = draw(np.random.default_rng(0))
    assert name == "within_fold"
    assert not (indices == np.arange(40)).all()
    for test in folds.test:
        assert set(indices[test]) == set(test)
    # With groups the folds are not stratified, and free means free.
    groups = np.arange(40) % 8
    assert permutation_drawer(labels, folds_of(labels, groups), "free")[0] == "free"


def refuses(message):
    return pytest.raises(TargetError, match=re.escape(message))


def test_bad_targets():
    with refuses("Got 2 missing or infinite values, in rows 1, 3; drop those rows first"):
        check_target(np.array([1.0, np.nan, 2.0, np.inf]))
    with refuses("in items b; drop those rows"):
        check_target(np.array([1.0, np.nan]), names=["a", "b"])
    with refuses("in rows 0, 1, 2, 3, 4 and 3 more"):
        check_target(np.full(8, np.nan))
    with refuses("must vary. Got 3 in all 4 rows: nothing can be learnt"):
        check_target(np.full(4, 3))
    with refuses("must be numeric. Got dtype <U1 instead"):
        check_target(np.array(["a", "b"]))
    with refuses("must be one number per row. Got shape (2, 2) instead"):
        check_target(np.ones((2, 2)))


def test_bad_folds():
    y = np.arange(4.0)
    with refuses("Got 4 rows for 5 folds"):
        folds_of(y)
    with refuses("n_splits parameter of outer_folds must be at least 2. Got 1 instead"):
        folds_of(y, n_splits=1)
    with refuses("must name a group for each of 4 rows. Got shape (3,)"):
        folds_of(y, np.array([1, 2, 3]), 2)
    with refuses("Got no group in rows 2, 3; fill them in or pass groups=None"):
        folds_of(y, np.array([1.0, 2.0, np.nan, np.nan]), 2)
    with refuses("Got no group in rows 1"):
        folds_of(y, np.array(["a", None, "b", "c"], dtype=object), 2)
    with refuses("needs both classes outside every test fold. Got 5 ones in 10 rows, and fold"):
        folds_of(np.arange(10) < 5, np.arange(10) < 5, 2)


def test_bad_permutations():
    y, groups = np.arange(12.0), np.arange(12) % 3
    with refuses("permute parameter must be one of within, groups, free. Got 'all' instead"):
        permutation_drawer(y, folds_of(y, groups, 3), "all")
    with refuses("permute='within' needs groups, and there are none (or one)"):
        permutation_drawer(y, folds_of(y), "within")
    with refuses("constant in every group; use permute='groups'"):
        permutation_drawer(groups * 1.0, folds_of(groups, groups, 3), None)
    uneven = np.array([0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3, 3])
    with refuses("no two such groups differ in y; use permute='within'"):
        permutation_drawer(y, folds_of(y, uneven, 3), "groups")

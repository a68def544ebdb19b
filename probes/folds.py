"""Outer folds, inner blocks and permutations: which rows a probe may learn from.

Rows that share a group (subject, question) never stand on both sides of a split, and a permuted target
never moves between groups unless that is asked for. Plain folds flatter: questions on one subject resemble
each other, so a probe that recognises the subject would count as one that reads doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

Array = np.ndarray

PERMUTATIONS = ("within", "groups", "free")
INNER_BLOCKS = 10


class TargetError(ValueError):
    """The target, or its grouping, cannot be cross-validated."""


@dataclass(frozen=True, eq=False)
class Folds:
    """A partition of n rows into test folds.

    Attributes:
        test: row indices of each fold, ascending; together every row once.
        group_codes: [n] group of each row as 0, 1, ..., or None without groups.
        stratified: every fold has the same share of both classes, to one row.
        note: why there are fewer folds than asked for, or None.
    """

    test: tuple[Array, ...]
    group_codes: Array | None
    stratified: bool
    note: str | None

    @property
    def n_groups(self) -> int | None:
        """How many groups the rows fall into; None without groups."""
        return None if self.group_codes is None else int(self.group_codes.max()) + 1

    def train(self, fold: int) -> Array:
        """Row indices outside a test fold, ascending."""
        n = sum(len(rows) for rows in self.test)
        return np.setdiff1d(np.arange(n), self.test[fold], assume_unique=True)


def check_target(target: Array, *, names: Sequence[object] | None = None) -> Array:
    """Return the target as float64 [n] if it can be learnt: numbers, all present, not all equal.

    Args:
        target: [n] numbers or booleans.
        names: what to call the rows in messages (item ids); row numbers when None.

    Raises:
        TargetError: missing or infinite values (the rows are named), or one value throughout.
    """
    values = np.asarray(target)
    if values.ndim != 1:
        raise TargetError(f"The y parameter must be one number per row. Got shape {values.shape} instead.")
    try:
        values = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TargetError(f"The y parameter must be numeric. Got dtype {values.dtype} instead.") from error
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        raise TargetError(
            f"The y parameter must be finite in every row. Got {wrong.size} missing or infinite values, in "
            f"{name_rows(wrong, names)}; drop those rows first."
        )
    # Equal up to rounding is equal: ln K / ln K is not always 1 in floating point.
    if values.size and np.ptp(values) <= 1e-12 * np.abs(values).max():
        raise TargetError(
            f"The y parameter must vary. Got {values[0]:g} in all {values.size} rows: nothing can be learnt."
        )
    return values


def is_binary(target: Array) -> bool:
    """Whether a checked target holds nothing but 0 and 1."""
    return bool(np.isin(target, (0.0, 1.0)).all())


def outer_folds(y: Array, groups: Array | None = None, *, n_splits: int = 10, rng: np.random.Generator) -> Folds:
    """Split rows into shuffled test folds, whole groups together.

    With groups, folds hold whole groups and are balanced in rows (largest group first into the lightest
    fold, equal groups in random order); with fewer groups than `n_splits` each group is a fold, which
    `note` says. A single group counts as none. Without groups a binary target is stratified.

    Args:
        y: [n] target; only its classes matter, and only if it is binary (0 and 1).
        groups: [n] group of each row, or None.
        n_splits: number of folds, at least 2.
        rng: source of the shuffling.

    Raises:
        TargetError: a bad target (see `check_target`), fewer rows than folds, a missing group, or a
            training fold without both classes.
    """
    y = check_target(y)
    n = len(y)
    if n_splits < 2:
        raise TargetError(f"The n_splits parameter of outer_folds must be at least 2. Got {n_splits} instead.")
    if n < n_splits:
        raise TargetError(f"outer_folds needs at least one row per fold. Got {n} rows for {n_splits} folds.")
    binary = is_binary(y)
    codes = group_codes(groups, n)
    seed = int(rng.integers(2**32))
    note = None
    stratified = False
    if codes is not None:
        n_groups = int(codes.max()) + 1
        if n_groups < n_splits:
            note = f"{n_groups} folds instead of {n_splits}: there are {n_groups} groups"
        shuffled = rng.permutation(n_groups)[codes]
        splits = GroupKFold(min(n_splits, n_groups)).split(y, groups=shuffled)
    elif binary and np.bincount(y.astype(int)).min() >= n_splits:
        stratified = True
        splits = StratifiedKFold(n_splits, shuffle=True, random_state=seed).split(y, y)
    else:
        splits = KFold(n_splits, shuffle=True, random_state=seed).split(y)
    folds = Folds(tuple(test for _, test in splits), codes, stratified, note)
    if binary:
        for fold in range(len(folds.test)):
            if len(np.unique(y[folds.train(fold)])) < 2:
                raise TargetError(
                    f"A binary y needs both classes outside every test fold. Got {int(y.sum())} ones in {n} "
                    f"rows, and fold {fold} holds a whole class; use fewer folds, or groups=None."
                )
    return folds


def group_codes(groups: Array | None, n: int) -> Array | None:
    """Number the groups 0, 1, ... in order of appearance; None without groups or with a single one.

    Raises:
        TargetError: the wrong length, or a missing group (None or NaN).
    """
    if groups is None:
        return None
    groups = np.asarray(groups)
    if groups.shape != (n,):
        raise TargetError(f"The groups parameter must name a group for each of {n} rows. Got shape {groups.shape}.")
    missing = np.flatnonzero([group is None or group != group for group in groups])
    if missing.size:
        raise TargetError(
            f"The groups parameter must not have gaps. Got no group in {name_rows(missing, None)}; "
            "fill them in or pass groups=None."
        )
    codes: dict[object, int] = {}
    numbered = np.array([codes.setdefault(group, len(codes)) for group in groups.tolist()], dtype=np.int64)
    return numbered if len(codes) > 1 else None


def inner_blocks(codes: Array | None) -> list[Array] | None:
    """Blocks of training rows that are left out together to choose a penalty or a layer.

    Whole groups, merged into at most ten blocks of balanced size; None (single rows) without groups or
    where the training rows are of one group only.

    Args:
        codes: [n] group of each training row, or None.
    """
    if codes is None:
        return None
    present = len(np.unique(codes))
    if present < 2:
        return None
    splits = GroupKFold(min(INNER_BLOCKS, present)).split(codes, groups=codes)
    return [test for _, test in splits]


def permutation_drawer(y: Array, folds: Folds, permute: str | None) -> tuple[str, Callable[..., Array]]:
    """Choose how the null shuffles the target; returns the scheme's name and a function of an rng.

    The function returns row indices [n]: the permuted target is y[indices]. Schemes:

    - `within`: rows are exchanged inside their group (default with groups). Differences between groups stay
      in the null, so a probe that only tells groups apart is not significant.
    - `groups`: whole groups change places with groups of the same size, rows in order; for targets that are
      constant within groups.
    - `free`: any row with any other (default without groups). With stratified folds the result is called
      `within_fold`: rows are exchanged inside their test fold, because every permuted target must be one that
      the same folds would stratify, or the p-value is not exact.

    Raises:
        TargetError: an unknown scheme, one that needs groups without any, or one that cannot change y.
    """
    if permute is None:
        permute = "free" if folds.group_codes is None else "within"
    if permute not in PERMUTATIONS:
        raise TargetError(f"The permute parameter must be one of {', '.join(PERMUTATIONS)}. Got {permute!r} instead.")
    if permute == "free":
        if folds.stratified:
            return "within_fold", _within([np.asarray(rows) for rows in folds.test], len(y))
        return "free", lambda rng: rng.permutation(len(y))
    if folds.group_codes is None:
        raise TargetError(
            f"permute={permute!r} needs groups, and there are none (or one); pass groups or permute='free'."
        )
    members = [np.flatnonzero(folds.group_codes == code) for code in range(folds.group_codes.max() + 1)]
    if permute == "within":
        if all(np.all(y[rows] == y[rows[0]]) for rows in members):
            raise TargetError(
                "permute='within' cannot change a y that is constant in every group; use permute='groups'."
            )
        return "within", _within(members, len(y))
    sizes = np.array([len(rows) for rows in members])
    shared = [np.flatnonzero(sizes == size) for size in np.unique(sizes)]
    if not any(
        any(not np.array_equal(y[members[alike[0]]], y[members[other]]) for other in alike[1:]) for alike in shared
    ):
        raise TargetError(
            "permute='groups' exchanges groups of equal size, and no two such groups differ in y; use permute='within'."
        )
    return "groups", _between(members, shared, len(y))


def _within(members: list[Array], n: int) -> Callable[..., Array]:
    def draw(rng: np.random.Generator) -> Array:
        indices = np.arange(n)
        for rows in members:
            indices[rows] = rng.permutation(rows)
        return indices

    return draw


def _between(members: list[Array], shared: list[Array], n: int) -> Callable[..., Array]:
    def draw(rng: np.random.Generator) -> Array:
        indices = np.arange(n)
        for alike in shared:
            for target, source in zip(alike, rng.permutation(alike), strict=True):
                indices[members[target]] = members[source]
        return indices

    return draw


def name_rows(rows: Array, names: Sequence[object] | None) -> str:
    """List row numbers, or the rows' names, for a message: the first five and how many more."""
    shown = [str(names[row]) if names is not None else str(row) for row in rows[:5]]
    kind = "items" if names is not None else "rows"
    return f"{kind} {', '.join(shown)}" + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")

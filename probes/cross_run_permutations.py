"""Permutations of a target over several runs at once, for the null of what is learnt in one run and tested in another.

Runs that share items share what is permuted: if an item gets the target of another, it gets it in every run, each run
its own value of it. So items change places only with items that the same runs hold (equally often), inside their group
unless that is not wanted. Schemes as in `folds.permutation_drawer`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .cross_run_folds import CrossRunFolds, RunRows
from .folds import PERMUTATIONS, TargetError

Array = np.ndarray

Item = list[tuple[int, int]]
"""The rows of one question, as (run, row), in order."""


def permuted_targets(
    runs: Sequence[RunRows],
    folds: CrossRunFolds,
    permute: str | None,
    *,
    n_permutations: int,
    rng: np.random.Generator,
) -> tuple[list[Array], list[str]]:
    """Draw the null's targets.

    Args:
        runs: as given to `cross_run_folds`.
        folds: what it returned.
        permute: `within` groups (default where the run has groups), `groups` (whole groups change places with groups
            of the same items' pattern) or `free` (default without); `free` becomes `within_fold` where folds are
            stratified.
        n_permutations: how many, B.
        rng: source of the permutations.

    Returns:
        Of each run its target and B permutations [n, 1 + B], and the name of the scheme.

    Raises:
        TargetError: an unknown scheme, one that needs groups without any, or one that cannot change a run's target.
    """
    if permute is not None and permute not in PERMUTATIONS:
        raise TargetError(f"The permute parameter must be one of {', '.join(PERMUTATIONS)}. Got {permute!r} instead.")
    columns = [np.repeat(run.target[:, None].astype(np.float64), 1 + n_permutations, axis=1) for run in runs]
    schemes = [""] * len(runs)
    for family in np.unique(folds.family):
        members = np.flatnonzero(folds.family == family).tolist()
        grouped = any(folds.codes(member) is not None and runs[member].groups is not None for member in members)
        scheme = permute or ("within" if grouped else "free")
        if scheme != "free" and not grouped:
            raise TargetError(
                f"permute={scheme!r} needs groups, and there are none (or one) in "
                f"{' and '.join(repr(runs[member].name) for member in members)}; pass groups or permute='free'."
            )
        stratified = scheme == "free" and folds.stratified[members[0]]
        for member in members:
            schemes[member] = "within_fold" if stratified else scheme
        sets = _exchangeable(runs, folds, members, schemes[members[0]])
        _refuse_fixed(runs, members, sets, scheme)
        for column in range(1, 1 + n_permutations):
            for alike in sets:
                for target, source in zip(alike, rng.permutation(len(alike)), strict=True):
                    for (run, to), (_, of) in zip(target, alike[source], strict=True):
                        columns[run][to, column] = runs[run].target[of]
    return columns, schemes


def _exchangeable(
    runs: Sequence[RunRows], folds: CrossRunFolds, members: Sequence[int], scheme: str
) -> list[list[Item]]:
    """Sets of items, or of whole groups, that may change places, as the rows they bring."""
    items: dict[object, Item] = {}
    for member in members:
        for row, question in enumerate(runs[member].questions):
            items.setdefault(question, []).append((member, row))
    places: dict[object, list[Item]] = {}
    for rows in items.values():
        member, row = rows[0]
        link = int(folds.links[member][row])
        if scheme == "groups":
            places.setdefault(link, []).append(rows)
        else:
            kept = {"within": link, "within_fold": int(folds.fold_of(member)[row])}.get(scheme, 0)
            places.setdefault((kept, _pattern(rows)), []).append(rows)
    if scheme != "groups":
        return [alike for alike in places.values() if len(alike) > 1]
    groups: dict[object, list[Item]] = {}
    for members_of_group in places.values():
        pattern = tuple(map(_pattern, members_of_group))
        groups.setdefault(pattern, []).append([place for rows in members_of_group for place in rows])
    return [alike for alike in groups.values() if len(alike) > 1]


def _pattern(rows: Item) -> tuple[int, ...]:
    """The runs that hold an item, in order, as often as they hold it."""
    return tuple(run for run, _ in rows)


def _refuse_fixed(runs: Sequence[RunRows], members: Sequence[int], sets: Sequence[Sequence[Item]], scheme: str) -> None:
    """Refuse a scheme under which the target of some run stays as it is."""
    for member in members:
        values = (
            [tuple(runs[member].target[row] for run, row in item if run == member) for item in alike] for alike in sets
        )
        if not any(len(set(alike)) > 1 for alike in values):
            mend = {"within": "permute='groups'", "groups": "permute='within'"}.get(scheme, "more items")
            raise TargetError(
                f"permute={scheme!r} cannot change the target of the run {runs[member].name!r}: no two items that may "
                f"change places differ in it; use {mend}."
            )

"""Folds over several runs that may hold the same items: no probe is tested on a question, or a group, it has seen.

1. Two rows hold the same question if question and options agree, whatever their ids and prompts.
2. Runs that share a question, directly or through other runs, are of one family. A group (subject) of that name is
   one group throughout a family; in another family it is another group, since nothing says that "politics" of one
   survey is "politics" of the next.
3. Rows that share a question or a group are linked, also through other rows. Linked rows stand on the same side of
   every split.
4. Each family has one set of folds over all rows of all its runs, so that scores of its pairs can be compared.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .folds import Folds, TargetError, group_codes, outer_folds
from .jackknife import jackknife_units

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class RunRows:
    """The rows of one run that take part.

    Attributes:
        name: of the run, for messages.
        questions: [n] what tells questions apart (`question_keys`).
        groups: [n] group of each row, or None.
        target: [n].
    """

    name: str
    questions: Sequence[Hashable]
    groups: Array | None
    target: Array


@dataclass(frozen=True, eq=False)
class CrossRunFolds:
    """Which rows of which run are held out together.

    Attributes:
        links: of each run [n], a number that linked rows share, within and between runs.
        test: of each run, its rows in each fold of its family, ascending; a fold may be empty in one of its runs.
        units: of each run [n], the unit of each row in a jackknife (`jackknife.jackknife_units`), numbered alike in all
            runs of a family: what is left out of testing in one run is left out of training in another.
        family: number of the family of each run.
        stratified: of each run, whether every fold has the same share of both classes.
        notes: of each run, why there are fewer folds than asked for, or None.
    """

    links: list[Array]
    test: list[tuple[Array, ...]]
    units: list[Array]
    family: Array
    stratified: list[bool]
    notes: list[str | None]

    def fold_of(self, run: int) -> Array:
        """Fold of each row of a run."""
        numbers = np.empty(len(self.links[run]), dtype=np.int64)
        for fold, rows in enumerate(self.test[run]):
            numbers[rows] = fold
        return numbers

    def linked(self, first: int, second: int) -> bool:
        """Whether two runs have rows that are linked."""
        return bool(np.isin(self.links[first], self.links[second]).any())

    def codes(self, run: int) -> Array | None:
        """Group of each row of a run as 0, 1, ...; None where no two rows are linked, or all are."""
        codes = group_codes(self.links[run], len(self.links[run]))
        return None if codes is None or codes.max() + 1 == len(codes) else codes


def cross_run_folds(runs: Sequence[RunRows], *, n_splits: int, seed: int) -> CrossRunFolds:
    """Split the rows of several runs; see the module.

    A run that shares nothing with others gets the folds of `outer_folds`.

    Args:
        runs: at least one.
        n_splits: folds per family.
        seed: of the folds, the same for each family.

    Raises:
        TargetError: rows that are all linked, so that nothing could be held out, and as `outer_folds`.
    """
    family = _families(runs)
    links = _links(runs, family)
    test: list[tuple[Array, ...]] = [()] * len(runs)
    units: list[Array] = [np.empty(0, dtype=np.int64)] * len(runs)
    stratified = [False] * len(runs)
    notes: list[str | None] = [None] * len(runs)
    for number in np.unique(family):
        members = np.flatnonzero(family == number).tolist()
        names = " and ".join(repr(runs[member].name) for member in members)
        together = np.concatenate([links[member] for member in members])
        if len(np.unique(together)) == 1 and len(together) > 1:
            raise TargetError(
                f"Every row of {names} is linked with every other by its question or group, so that nothing can be "
                "held out. Pass groups=None, or another groups column."
            )
        target = np.concatenate([runs[member].target for member in members])
        sizes = np.unique(together, return_counts=True)[1]
        try:
            folds = outer_folds(
                target, together if sizes.max() > 1 else None, n_splits=n_splits, rng=np.random.default_rng(seed)
            )
        except TargetError as error:
            error.add_note(f"while splitting the rows of {names}")
            raise
        together_units = jackknife_units(folds)
        starts = np.cumsum([0, *(len(runs[member].target) for member in members)])
        for place, member in enumerate(members):
            test[member] = _part(folds, starts[place], starts[place + 1])
            units[member] = together_units[starts[place] : starts[place + 1]]
            stratified[member], notes[member] = folds.stratified, folds.note
    return CrossRunFolds(links, test, units, family, stratified, notes)


def question_keys(items: pd.DataFrame) -> list[Hashable]:
    """What tells the questions of an items table apart: the question and its options in any order, [N]."""
    return [
        (question, tuple(sorted(map(str, options))))
        for question, options in zip(items["question"], items["options"], strict=True)
    ]


def _part(folds: Folds, start: int, stop: int) -> tuple[Array, ...]:
    """The rows of one run in each fold of rows that stand one run after the other."""
    return tuple(rows[(rows >= start) & (rows < stop)] - start for rows in folds.test)


def _groups(run: RunRows) -> list[Hashable]:
    """Group of each row of a run, None where there are none."""
    return [None] * len(run.target) if run.groups is None else run.groups.tolist()


def _families(runs: Sequence[RunRows]) -> Array:
    """Number of the family of each run."""
    keys = [set(run.questions) for run in runs]
    shared = [[not mine.isdisjoint(theirs) for theirs in keys] for mine in keys]
    return connected_components(np.array(shared), directed=False)[1]


def _links(runs: Sequence[RunRows], family: Array) -> list[Array]:
    """Number of the connected component of each row, rows being joined by questions and groups.

    A family of one group counts as ungrouped, as in `folds.outer_folds`.
    """
    single = {
        number
        for number in set(family.tolist())
        if len({group for run, own in zip(runs, family, strict=True) if own == number for group in _groups(run)}) == 1
    }
    numbers: dict[Hashable, int] = {}
    pairs: list[tuple[int, int]] = []
    row = 0
    for run, of_family in zip(runs, family.tolist(), strict=True):
        for question, group in zip(run.questions, _groups(run), strict=True):
            named: list[Hashable] = [("question", question)]
            named += [] if group is None or of_family in single else [("group", of_family, group)]
            pairs += [(row, numbers.setdefault(name, len(numbers))) for name in named]
            row += 1
    rows, names = np.array(pairs).T
    size = row + len(numbers)
    graph = coo_array((np.ones(len(rows)), (rows, row + names)), shape=(size, size))
    components = connected_components(graph, directed=False)[1][:row]
    return np.split(components, np.cumsum([len(run.target) for run in runs])[:-1])

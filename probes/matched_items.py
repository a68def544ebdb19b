"""The items that two runs have in common, matched by id, and the checks that they are the same questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .cross_run_folds import question_keys
from .folds import TargetError

if TYPE_CHECKING:
    from ..extract.store import Run

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class MatchedItems:
    """Items of two runs.

    Attributes:
        ids: [n] of the items in both, in the order of the first run.
        first, second: [n] their rows in each run.
        first_only, second_only: ids of the items of one run.
    """

    ids: list[object]
    first: Array
    second: Array
    first_only: list[object]
    second_only: list[object]

    @classmethod
    def of(cls, first: Run, second: Run, *, caller: str) -> MatchedItems:
        """Match the items of two runs by id.

        Raises:
            ValueError: no id in common, or one that stands for different questions or options.
        """
        ids = [run.items["id"].tolist() for run in (first, second)]
        place = {item: row for row, item in enumerate(ids[1])}
        kept = [row for row, item in enumerate(ids[0]) if item in place]
        if not kept:
            raise ValueError(
                f"{caller} needs runs of the same items. Got {_listed(ids[0])} and {_listed(ids[1])}, with no id in "
                "common."
            )
        rows = np.array(kept), np.array([place[ids[0][row]] for row in kept])
        questions = [question_keys(run.items) for run in (first, second)]
        other = [
            ids[0][a]
            for a, b in zip(*(part.tolist() for part in rows), strict=True)
            if questions[0][a] != questions[1][b]
        ]
        if other:
            raise ValueError(
                f"{caller} needs runs of the same items. Got ids that stand for another question or other options in "
                f"the second run: {_listed(other)}; the runs were made from different tables."
            )
        known = set(ids[0])
        first_only = [item for item in ids[0] if item not in place]
        return cls([ids[0][row] for row in kept], *rows, first_only, [item for item in ids[1] if item not in known])

    def refuse_contradictions(self, first: Array, second: Array, target: str, *, caller: str) -> None:
        """Refuse values [n] of one target that differ where both runs know them.

        Raises:
            TargetError: naming the items.
        """
        known = np.isfinite(first) & np.isfinite(second)
        odd = np.flatnonzero(known & ~np.isclose(first, second, rtol=1e-9, atol=1e-12))
        if odd.size:
            raise TargetError(
                f"{caller} needs runs whose items agree. Got another {target} in the second run for "
                f"{_listed([self.ids[row] for row in odd])}: the runs were made from different responses."
            )


def _listed(items: list[object]) -> str:
    shown = ", ".join(map(str, items[:5]))
    return f"items {shown}" + (f" and {len(items) - 5} more" if len(items) > 5 else "")

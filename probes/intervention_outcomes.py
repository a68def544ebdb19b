"""What the edited logits of a run's prompts say: option scores and total entropy, gathered into one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy.special import logsumexp

from ..extract.scoring import label_scores
from ..extract.selftest import TOLERANCE
from ..extract.statistics import logit_statistics
from .answer_tokens import answer_tokens
from .layers import correctness
from .measures import output_measures

if TYPE_CHECKING:
    from ..extract.checkpoints import Checkpoint
    from ..extract.store import Run

Array = np.ndarray

KEYS = ("model", "dataset", "prompt")
_CHOICE_MEASURES = ["choice_entropy", "choice_entropy_normalized"]


class Outcomes:
    """Reads the outcomes of edits off final logits, row by row of a run.

    Args:
        checkpoint: the one of the run.
        run: an open run.
        scoring: a label scoring of the run; None where the prompt lists no options, so that there are no labels.
        rows: [R] prompt rows that are run again; those of an item stand together.
        counts: number of edits of each group, the unedited pass being a group of one.

    Attributes:
        baseline_error: the largest relative error of unedited logits against the run's own, so far.
    """

    def __init__(
        self, checkpoint: Checkpoint, run: Run, scoring: str | None, rows: Array, counts: Sequence[int]
    ) -> None:
        self.run, self.scoring, self.rows = run, scoring, rows
        self.plan = None if scoring is None else answer_tokens(checkpoint, run, caller="intervene")
        self.items = run.rows["item"].to_numpy()[rows]
        self.ids = run.items["id"].to_numpy()
        width = run.items["n_options"].max()
        self.entropy = [np.full((len(rows), count), np.nan) for count in counts]
        self.scores = [np.full((len(rows), count, width), np.nan) for count in counts]
        self.baseline_error, self._tolerance = 0.0, TOLERANCE[checkpoint.dtype_name]

    def add(self, place: int, group: int, logits: torch.Tensor) -> None:
        """Keep the outcomes of one group of edits, float32 logits [D, V], for the row at a place of `rows`.

        Raises:
            ValueError: logits that are not finite; the item is named.
        """
        row = int(self.rows[place])
        try:
            self.entropy[group][place] = logit_statistics(logits, top_k=(), top_p=())["total_entropy"]
        except ValueError as error:
            error.add_note(f"after an edit, at item {self.ids[self.items[place]]!r}: are the doses too large?")
            raise
        if self.plan is not None:
            found = label_scores(self.plan, [row] * len(logits), logits)[str(self.scoring)]
            self.scores[group][place] = found[:, : self.scores[group].shape[2]]

    def compare(self, place: int, logits: torch.Tensor) -> None:
        """Hold unedited logits [V] against those that the run keeps, all of them or its largest.

        Raises:
            ValueError: they differ by more than the dtype's tolerance; the item is named.
        """
        row = int(self.rows[place])
        found = logits.double().cpu().numpy()
        if self.run.info["logits"] == "full":
            known = self.run.logits()[row].astype(np.float64)
        else:
            values, ids = self._largest()
            known, found = values[row].astype(np.float64), found[ids[row]]
        known, found = known - known.mean(), found - found.mean()
        error = float(np.linalg.norm(found - known) / max(np.linalg.norm(known), np.finfo(np.float64).tiny))
        self.baseline_error = max(self.baseline_error, error)
        if not error <= self._tolerance:
            raise ValueError(
                f"The run parameter of intervene must hold the logits that its checkpoint gives, to a relative error "
                f"of {self._tolerance:g}. Got {error:.3g} for the unedited prompt of item "
                f"{self.ids[self.items[place]]!r} instead: the run was made elsewhere in another way; extract again."
            )

    def _largest(self) -> tuple[Array, Array]:
        if not hasattr(self, "_kept"):
            self._kept = self.run.largest_logits()
        return self._kept

    def table(self, group: int, conditions: Mapping[str, Sequence[Any]], keys: Mapping[str, Any]) -> pd.DataFrame:
        """Outcomes of the unedited pass (group 0) and of one group of edits: one row per condition and item.

        Args:
            group: number of the group.
            conditions: `mode`, `direction`, `draw` and `dose` of each of its edits.
            keys: columns that are the same in every row.
        """
        counts = np.bincount(np.unique(self.items, return_inverse=True)[1])
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])

        def per_item(groups: Sequence[Array]) -> Array:
            values = np.concatenate([groups[0], groups[group]], axis=1)
            sums = np.add.reduceat(values, starts, axis=0)
            return np.moveaxis(sums / counts.reshape(-1, *(1,) * (values.ndim - 1)), 0, 1)

        entropy = per_item(self.entropy)
        n_conditions, n = entropy.shape
        items = self.items[starts]
        columns: dict[str, Any] = {key: self.run.info[key] for key in KEYS} | dict(keys)
        for name, unedited in (("mode", "none"), ("direction", "none"), ("draw", None), ("dose", 0.0)):
            values = pd.array([unedited, *conditions[name]], dtype={"draw": "Int64"}.get(name))
            columns[name] = values.repeat(n)
        columns["item"] = np.tile(self.ids[items], n_conditions)
        if "subject" in self.run.items:
            columns["subject"] = np.tile(self.run.items["subject"].to_numpy()[items], n_conditions)
        columns["total_entropy"] = entropy.ravel()
        table = pd.DataFrame(columns)
        return table if self.plan is None else self._with_choices(table, items, per_item, n_conditions)

    def _with_choices(self, table: pd.DataFrame, items: Array, per_item: Any, n_conditions: int) -> pd.DataFrame:
        cyclic = self.run.info["permutations"] == "cyclic"
        # Renormalising each rotation first would shift an item's scores alike: neither entropy nor choice would change.
        flat = per_item(self.scores).reshape(len(table), -1)
        n_options = np.tile(self.run.items["n_options"].to_numpy()[items], n_conditions)
        measured = output_measures(
            choice_logits=flat, n_options=n_options, scoring=self.scoring, measures=_CHOICE_MEASURES
        )
        choice = measured["choice"].to_numpy()
        found = {name: measured[name].to_numpy() for name in _CHOICE_MEASURES}
        if not cyclic:  # a mean of log-probabilities is none of the labels
            found["choice_probability"] = np.exp(np.minimum(np.nanmax(flat, axis=1), 0))
            found["choice_mass"] = np.exp(np.minimum(logsumexp(np.where(np.isnan(flat), -np.inf, flat), axis=1), 0))
        answer = pd.concat([self.run.items["answer"].iloc[items]] * n_conditions)
        found |= {
            "choice": choice,
            "correct": correctness(answer, choice),
            "changed": choice != np.tile(choice[: len(items)], n_conditions),
        }
        return table.assign(**found)

"""The rows of a run that probes of one target are fitted on, scored and named: what the tables of controls share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from . import scores
from .folds import Folds, TargetError, check_target, is_binary, name_rows, outer_folds
from .layers import RunTarget, run_groups, run_target

if TYPE_CHECKING:
    from ..extract.store import Run

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class ProbedRows:
    """The n items of a run whose target is known, and their outer folds.

    Attributes:
        target: the target over all N items of the run.
        present: [N], True for the n items.
        y: [n] target.
        folds: the outer folds, with the groups in them.
        baseline: [n] mean of the target over the training rows of each row's fold.
    """

    target: RunTarget
    present: Array
    y: Array
    folds: Folds
    baseline: Array

    @classmethod
    def of(
        cls,
        run: Run,
        target: str | Array,
        *,
        scoring: str | None,
        groups: str | Array | None,
        n_splits: int,
        missing: str,
        caller: str,
        rng: np.random.Generator,
    ) -> ProbedRows:
        """Look up the target, drop or refuse the items without it, and draw the folds.

        Raises:
            ValueError: an unknown target, scoring or column of groups, or word for `missing`.
            TargetError: items without the target under missing="raise", or a target that cannot be cross-validated.
        """
        if missing not in ("raise", "drop"):
            raise ValueError(f"The missing parameter of {caller} must be 'raise' or 'drop'. Got {missing!r} instead.")
        wanted = run_target(run, target, scoring)
        present = np.isfinite(wanted.values)
        names = run.items["id"].tolist()
        if missing == "raise" and not present.all():
            raise TargetError(
                f"The target {wanted.name!r} must be known for every item of the run. Got none for "
                f"{name_rows(np.flatnonzero(~present), names)}; pass missing='drop' to leave those items out."
            )
        if not present.any():
            raise TargetError(f"The target {wanted.name!r} is missing for every item of the run.")
        y = check_target(wanted.values[present])
        codes = run_groups(run, groups)
        # As `sweep_targets` draws them: equal generators give the folds of `probe_layers`.
        drawn = np.random.default_rng(int(rng.integers(2**63)))
        folds = outer_folds(y, None if codes is None else codes[present], n_splits=n_splits, rng=drawn)
        return cls(wanted, present, y, folds, fold_means(y, folds))

    @property
    def binary(self) -> bool:
        """Whether the target holds nothing but 0 and 1."""
        return is_binary(self.y)

    @property
    def score_name(self) -> str:
        """The reporting scale: `auroc` for a 0/1 target, else `pearson`."""
        return "auroc" if self.binary else "pearson"

    def score(self, deviation: Array) -> float:
        """Score deviations [n] of predictions from their training means; a Pearson of a constant is NaN."""
        if self.binary:
            return float(scores.auroc(self.y[:, None], deviation[:, None])[0])
        return scores.pearson(self.y, deviation)

    def draws(self, deviation: Array, weights: Array) -> Array:
        """The same in weighted resamples [b, n]: [b], NaN where a resample leaves it undefined."""
        draw = scores.auroc_draws if self.binary else scores.pearson_draws
        return draw(self.y, deviation, weights)

    def weights(self, n_bootstrap: int, rng: np.random.Generator) -> Array:
        """Resamples [b, n] of whole groups, or of rows where there are none."""
        return scores.bootstrap_weights(len(self.y), self.folds.group_codes, n_bootstrap, rng)

    def r2(self, predictions: Array) -> float:
        """R2 of predictions [n] against the training means."""
        return float(scores.r2(self.y, predictions, self.baseline))

    def keys(self, run: Run, site: str, position: str, probe: str) -> dict[str, Any]:
        """The columns that say what was probed."""
        named: dict[str, Any] = {key: run.info[key] for key in ("model", "dataset", "prompt")}
        of_target = {"target": self.target.name, "scoring": self.target.scoring}
        return {**named, "site": site, "position": position, "layer": None, **of_target, "probe": probe}


def fold_means(y: Array, folds: Folds) -> Array:
    """Mean of y [n] over the training rows of each row's fold, [n]."""
    means = np.empty(len(y))
    for fold, test in enumerate(folds.test):
        means[test] = y[folds.train(fold)].mean()
    return means


def nested_layer(layers: Array) -> tuple[int | None, str | None]:
    """The layer that every fold chose, or None and in words how many folds chose which."""
    counts = pd.Series(layers).value_counts(sort=False).sort_index()
    if len(counts) == 1:
        return int(counts.index[0]), None
    return None, "layer " + ", ".join(f"{layer} in {folds}" for layer, folds in counts.items()) + " folds"

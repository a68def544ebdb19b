"""The result of one probe on one layer and one outer fold, for many targets at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class FoldFit:
    """What one layer and fold give for m targets.

    Attributes:
        inner_error: [m] held-out error inside the training fold at the chosen penalty: mean squared error,
            for the logistic probe mean log loss.
        penalty: [m] the chosen penalty; NaN for a probe without one.
        test: [k, m] predictions for the test rows.
        held_out: [n, c] predictions for the training rows from inner models that never saw them, for the
            first `c` columns that were asked for; None for a probe that gives probabilities itself.
        spread: [m] standard deviation of the predictions of the training rows, the unit in which predictions of
            different folds are compared; 0 where they are all alike.
        left_out: [c, k, u] deviations of the test rows' predictions from the mean target of the training rows, in units
            of the spread, each from a fit without one unit of training rows, for the c columns that were asked for;
            None where no units were given.
    """

    inner_error: Array
    penalty: Array
    test: Array
    held_out: Array | None
    spread: Array
    left_out: Array | None = None

    def of_target(self, place: int, columns: slice) -> FoldFit:
        """Take some columns, of which the first was the one at `place` among those asked for."""
        held_out = None if self.held_out is None else self.held_out[:, place : place + 1]
        left_out = None if self.left_out is None else self.left_out[place : place + 1]
        every = (self.inner_error[columns], self.penalty[columns], self.test[:, columns])
        return FoldFit(*every, held_out, self.spread[columns], left_out)


FoldFitter = Callable[..., FoldFit]
"""Called with (train, test, targets, codes, penalties, calibrate, units=, device=); see `fold_fits.ridge_fold`."""


def in_spreads(deviations: Array, spread: Array) -> Array:
    """Divide by the spread, along the last axis; 0 where it is none but for rounding, beside the largest."""
    return np.divide(deviations, spread, out=np.zeros_like(deviations), where=spread > 1e-12 * spread.max(initial=0.0))

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
    """

    inner_error: Array
    penalty: Array
    test: Array
    held_out: Array | None


FoldFitter = Callable[..., FoldFit]
"""Called with (train, test, targets, codes, penalties, calibrate, device=...); see `fold_fits.ridge_fold`."""

"""The ridge probes that transfer needs: per training run one for each fold, and one of all rows for unlinked runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .cross_run_folds import CrossRunFolds, RunRows
from .folds import TargetError, inner_blocks
from .ridge_path import RidgePath, Standardization, smallest_error

Array = np.ndarray

RESCALE = ("train", "each")


@dataclass(frozen=True, eq=False)
class TestPart:
    """What a probe predicts of one run.

    Attributes:
        run: number of the run.
        rows: the rows that are predicted.
        outside: rows that give centre and spread of the predictions, and the scale of features under rescale="each":
            those outside the fold, so that no prediction depends on which other rows are predicted with it.
    """

    run: int
    rows: Array
    outside: Array


@dataclass(frozen=True, eq=False)
class TestPrediction:
    """What a probe predicts of a `TestPart`.

    Attributes:
        values: [k] predictions as they are.
        deviations: [k] less their mean over the rows outside, in units of their standard deviation there; 0 where
            that is none.
        left_out: [k, u] the same from fits without one unit of training rows each.
        trained: [u] these units.
    """

    values: Array
    deviations: Array
    left_out: Array
    trained: Array


class TransferFit:
    """A ridge probe of some rows of one run, at the layer with the least held-out error so far.

    Args:
        train: number of the training run.
        rows: the training rows.
        y: [n] their target.
        codes: [n] their groups as 0, 1, ..., or None.
        units: [n] their jackknife units, or None to leave none out.
        parts: what it predicts.

    Attributes:
        layer: the layer that was chosen.
        flat: at it the features are the same in every training row.
        predictions: of each part.
    """

    def __init__(
        self,
        train: int,
        rows: Array,
        y: Array,
        codes: Array | None,
        units: Array | None,
        parts: Sequence[TestPart],
    ) -> None:
        self.train, self.rows, self.y, self.parts = train, rows, y, list(parts)
        self.layer, self.flat = -1, True
        self.predictions: list[TestPrediction] = []
        self._blocks = inner_blocks(codes)
        self._units, self._unit = np.unique(np.zeros(len(y)) if units is None else units, return_inverse=True)
        self._least_error = np.inf

    def offer(
        self,
        layer: int,
        features: Sequence[Array],
        penalties: Sequence[float],
        rescale: str,
        *,
        device: str = "cpu",
    ) -> None:
        """Fit at a layer, and keep the predictions if no layer before had as small a held-out error.

        Args:
            layer: its number.
            features: activations [n, d] of every run at that layer.
            penalties: ascending, to choose from by held-out error.
            rescale: one of `RESCALE`.
            device: where torch fits.
        """
        own = features[self.train][self.rows]
        scaler = Standardization.of(own)
        path = RidgePath.of(scaler.apply(own), device=device)
        errors = path.held_out_errors(self.y[:, None], penalties, self._blocks)[:, 0]
        chosen = int(smallest_error(errors[:, None])[0])
        if not errors[chosen] < self._least_error:
            return
        self._least_error, self.layer = float(errors[chosen]), layer
        self.flat = not scaler.inverse_scale.any()
        self.predictions = []
        for part in self.parts:
            outside = features[part.run][part.outside]
            standard = Standardization.of(outside) if rescale == "each" else scaler
            new = standard.apply(np.vstack([features[part.run][part.rows], outside]))
            # A feature that is constant in training has no weight, whatever it does in the test run.
            new[:, scaler.inverse_scale == 0] = 0.0
            self.predictions.append(self._predict(path, path.coordinates(new), penalties[chosen], len(part.rows)))

    def _predict(self, path: RidgePath, coordinates: Array, penalty: float, k: int) -> TestPrediction:
        """Predict the first `k` rows; the others are those outside."""
        predicted = path.predict(coordinates, self.y[:, None], np.array([penalty]))
        columns = predicted
        # A single unit cannot be left out: nothing would be trained on.
        if len(self._units) > 1 and not self.flat:
            columns = np.hstack([predicted, path.left_out(coordinates, self.y, penalty, self._unit)[0]])
        centre, spread = columns[k:].mean(axis=0), columns[k:].std(axis=0)
        # Predictions that differ in rounding only are equal.
        known = spread > 1e-10 * self.y.std()
        deviations = np.divide(columns[:k] - centre, spread, out=np.zeros_like(columns[:k]), where=known)
        trained = self._units if columns.shape[1] > 1 else self._units[:0]
        return TestPrediction(predicted[:k, 0], deviations[:, 0], deviations[:, 1:], trained)

    def part_of(self, run: int) -> int | None:
        """Place of a run among the parts, or None."""
        return next((place for place, part in enumerate(self.parts) if part.run == run), None)


def transfer_fits(runs: Sequence[RunRows], folds: CrossRunFolds) -> list[TransferFit]:
    """List the probes to fit: per run and fold for the runs it is linked with, and one of all rows for the others.

    Raises:
        TargetError: the training rows of a probe have fewer than two values of the target.
    """
    every = [np.arange(len(run.target)) for run in runs]
    fits = []
    for a, run in enumerate(runs):
        linked = [folds.linked(a, b) for b in range(len(runs))]
        codes = folds.codes(a)
        for fold in range(len(folds.test[a])):
            train = np.setdiff1d(every[a], folds.test[a][fold], assume_unique=True)
            parts = []
            for b in np.flatnonzero(linked).tolist():
                rows = folds.test[b][fold]
                outside = np.setdiff1d(every[b], rows, assume_unique=True)
                # A run that lies in one fold has no other rows: its one probe needs nothing in common with others.
                parts += [TestPart(b, rows, outside if len(outside) else rows)] if len(rows) else []
            if parts:
                where = f"outside fold {fold}, which it shares with other runs"
                fits.append(_fit(run, a, train, codes, folds.units[a], parts, where))
        parts = [TestPart(b, every[b], every[b]) for b in range(len(runs)) if not linked[b]]
        if parts:
            fits.append(_fit(run, a, every[a], codes, None, parts, "in all"))
    return fits


def _fit(
    run: RunRows,
    number: int,
    rows: Array,
    codes: Array | None,
    units: Array | None,
    parts: Sequence[TestPart],
    where: str,
) -> TransferFit:
    y = run.target[rows]
    if len(np.unique(y)) < 2:
        raise TargetError(
            f"The training rows of the run {run.name!r} must hold at least two values of the target. Got {len(y)} rows "
            f"of {len(np.unique(y))} {where}; use fewer folds, or other groups."
        )
    return TransferFit(
        number, rows, y, None if codes is None else codes[rows], None if units is None else units[rows], parts
    )

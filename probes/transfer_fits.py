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
        values: [k] predictions as they are, of the target itself.
        deviations: [k, m] of the target and its permutations, less their mean over the rows outside, in units of
            their standard deviation there; 0 where that is none.
        left_out: [k, u] those of the target from fits without one unit of training rows each.
        trained: [u] these units.
    """

    values: Array
    deviations: Array
    left_out: Array
    trained: Array


class TransferFit:
    """A ridge probe of some rows of one run, at the layer with the least held-out error so far.

    The same is done, choices of layer and penalty included, for permutations of the target.

    Args:
        train: number of the training run.
        rows: the training rows.
        y: [n, m] their target, and permutations of it.
        codes: [n] their groups as 0, 1, ..., or None.
        units: [n] their jackknife units, or None to leave none out.
        parts: what it predicts.

    Attributes:
        layer: the layer that was chosen for the target itself.
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
        self._blocks = inner_blocks(codes)
        numbers, inside = np.unique(np.zeros(len(y), dtype=np.int64) if units is None else units, return_inverse=True)
        # A single unit cannot be left out: nothing would be trained on.
        self._inside: Array | None = inside if len(numbers) > 1 else None
        trained = numbers if len(numbers) > 1 else numbers[:0]
        self._least_error = np.full(y.shape[1], np.inf)
        self.predictions = [
            TestPrediction(np.zeros(k), np.zeros((k, y.shape[1])), np.zeros((k, len(trained))), trained)
            for k in (len(part.rows) for part in self.parts)
        ]

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
        errors = path.held_out_errors(self.y, penalties, self._blocks)
        chosen = smallest_error(errors)
        least = errors[chosen, np.arange(len(chosen))]
        # Strictly less: of equal layers the first stays.
        better = least < self._least_error
        if not better.any():
            return
        self._least_error[better] = least[better]
        penalty = np.asarray(penalties)[chosen]
        if better[0]:
            self.layer, self.flat = layer, not scaler.inverse_scale.any()
        for part, found in zip(self.parts, self.predictions, strict=True):
            outside = features[part.run][part.outside]
            standard = Standardization.of(outside) if rescale == "each" else scaler
            new = standard.apply(np.vstack([features[part.run][part.rows], outside]))
            # A feature that is constant in training has no weight, whatever it does in the test run.
            new[:, scaler.inverse_scale == 0] = 0.0
            self._predict(path, path.coordinates(new), penalty, better, found)

    def _predict(
        self, path: RidgePath, coordinates: Array, penalty: Array, better: Array, found: TestPrediction
    ) -> None:
        """Put predictions of the better columns in place of what was found before; the last rows are those outside."""
        k = len(found.values)
        predicted = path.predict(coordinates, self.y[:, better], penalty[better])
        found.deviations[:, better] = _deviations(predicted, k, self.y[:, better].std(axis=0))
        if not better[0]:
            return
        found.values[:] = predicted[:k, 0]
        if self.flat:
            found.left_out[:] = 0.0
        elif self._inside is not None:
            without = path.left_out(coordinates, self.y[:, 0], float(penalty[0]), self._inside)[0]
            found.left_out[:] = _deviations(without, k, self.y[:, 0].std())

    def part_of(self, run: int) -> int | None:
        """Place of a run among the parts, or None."""
        return next((place for place, part in enumerate(self.parts) if part.run == run), None)


def _deviations(predicted: Array, k: int, scale: Array | float) -> Array:
    """Deviations [k, m] of the first rows from the mean of the others, in units of their spread; 0 where it is none."""
    centre, spread = predicted[k:].mean(axis=0), predicted[k:].std(axis=0)
    # Predictions that differ in rounding only are equal.
    return np.divide(predicted[:k] - centre, spread, out=np.zeros_like(predicted[:k]), where=spread > 1e-10 * scale)


def transfer_fits(runs: Sequence[RunRows], folds: CrossRunFolds, targets: Sequence[Array]) -> list[TransferFit]:
    """List the probes to fit: per run and fold for the runs it is linked with, and one of all rows for the others.

    The former are fitted to the permutations too, which go through everything that the target goes through. The latter
    have not seen what is permuted in the test run.

    Args:
        runs: the runs.
        folds: their folds.
        targets: of each run its target and permutations [n, m] (`permuted_targets`).

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
                fits.append(_fit(run, targets[a], a, train, codes, folds.units[a], parts, where))
        parts = [TestPart(b, every[b], every[b]) for b in range(len(runs)) if not linked[b]]
        if parts:
            fits.append(_fit(run, targets[a][:, :1], a, every[a], codes, None, parts, "in all"))
    return fits


def _fit(
    run: RunRows,
    targets: Array,
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
        number,
        rows,
        targets[rows],
        None if codes is None else codes[rows],
        None if units is None else units[rows],
        parts,
    )

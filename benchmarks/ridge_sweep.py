"""Ridge probes of all layers, with penalties, folds, targets and permutations, against loops of scikit-learn.

`small` is the sweep of a small model (30 layers of 576 features), `large` one of a large model whose residual stream is
bfloat16 on disk and is read a layer at a time. Both sides standardise on the training rows and choose the penalty by
leave-one-out; their chosen penalties and out-of-fold predictions are compared before anything is timed. Peers:

- `ridge_cv_per_target`: RidgeCV for each layer, fold, target and permutation, as a loop over probes is written;
- `ridge_cv_multi_target`: RidgeCV(alpha_per_target=True) for all targets and permutations of a layer and fold at once,
  the best that scikit-learn offers.

Both are timed on a part of the work and scaled up, by the factors that are printed. Prints one JSON object.

    python benchmarks/ridge_sweep.py --case small
    python benchmarks/ridge_sweep.py --case large --device cuda
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
import torch
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from doubtlens.extract.hdf5 import RowArray, read_float32, write_rows
from doubtlens.probes.folds import outer_folds
from doubtlens.probes.sweep import sweep_targets

PENALTIES = tuple(np.logspace(0, 7, 12))
CASES = {"small": (421, 30, 576), "large": (3000, 32, 4096)}
FOLDS, TARGETS, PERMUTATIONS = 10, 3, 200


def stored(path: Path, n: int, layers: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Write synthetic residual streams in bfloat16, laid out as a run file has them; return targets [TARGETS, n].

    Features differ in scale by two orders of magnitude and share factors, as those of residual streams do; each target
    is carried weakly by the layers in the middle.
    """
    targets = rng.standard_normal((TARGETS, n)).astype(np.float32)
    scale = (10 ** rng.uniform(-1, 1, d)).astype(np.float32)
    mixing = rng.standard_normal((64, d)).astype(np.float32)
    with h5py.File(path, "w") as file:
        dataset = RowArray("residual", "bfloat16", (layers, d), layered=True).create(file, n, chunked=True)
        step = 256  # whole chunks, so that what is held stays small
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            block = np.empty((rows.stop - rows.start, layers, d), dtype=np.uint16)
            for layer in range(layers):
                values = rng.standard_normal((len(block), d), dtype=np.float32)
                values += rng.standard_normal((len(block), 64), dtype=np.float32) @ mixing / 4
                strength = 2.0 * np.exp(-(((layer - layers / 2) / 4) ** 2))
                values[:, :TARGETS] += strength * targets[:, rows].T
                block[:, layer] = (values * scale + 3 * scale).view(np.uint32) >> 16
            write_rows(dataset, start, block)
    return targets.astype(np.float64)


class Peak:
    """The largest resident memory of this process while open, in GiB beyond what it had on entry."""

    def __enter__(self) -> Peak:
        self._process, self._stop = psutil.Process(), threading.Event()
        self._before = self.gib = self._process.memory_info().rss / 2**30
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.gib = max(self.gib, self._process.memory_info().rss / 2**30)

    def __exit__(self, *problem: object) -> None:
        self._stop.set()
        self._thread.join()


def compared(read: Any, layers: int, targets: np.ndarray, device: str) -> dict[str, float]:
    """Largest difference from scikit-learn in two layers, with the same folds: predictions and chosen penalties."""
    rng = np.random.default_rng(1)
    folds = outer_folds(targets[0], n_splits=FOLDS, rng=rng)
    chosen = [0, layers // 2]
    ours = sweep_targets(
        read, list(targets), layers=chosen, folds=folds, penalties=PENALTIES, n_permutations=0, n_bootstrap=1,
        device=device, rng=rng,
    )  # fmt: skip
    worst, differing = 0.0, 0
    for place, layer in enumerate(chosen):
        rows = read(layer).astype(np.float64)
        for fold, test in list(enumerate(folds.test))[:2]:
            train = folds.train(fold)
            model = make_pipeline(StandardScaler(), RidgeCV(PENALTIES, alpha_per_target=True))
            expected = model.fit(rows[train], targets[:, train].T).predict(rows[test])
            for number, result in enumerate(ours):
                worst = max(worst, float(np.abs(result.predictions[place, test] - expected[:, number]).max()))
                differing += not np.isclose(result.penalties[place, fold], model[-1].alpha_[number])
    return {"largest_prediction_difference": worst, "differing_penalties": differing}


def peers(read: Any, layers: int, targets: np.ndarray, multi_only: bool) -> dict[str, dict[str, float]]:
    """Seconds of both loops over the whole sweep, from the part that is timed here."""
    rng = np.random.default_rng(1)
    folds = outer_folds(targets[0], n_splits=FOLDS, rng=rng)
    rows, train = read(0).astype(np.float64), folds.train(0)
    columns = np.column_stack(
        [target[rng.permutation(len(target))] for target in targets for _ in range(PERMUTATIONS + 1)]
    )
    found = {}
    if not multi_only:
        fits, started = 12, time.perf_counter()
        for column in range(fits):
            model = make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
            model.fit(rows[train], columns[train, column]).predict(rows[folds.test[0]])
        seconds = time.perf_counter() - started
        factor = layers * FOLDS * columns.shape[1] / fits
        found["ridge_cv_per_target"] = {"timed_s": seconds, "scaled_by": factor, "seconds": seconds * factor}
    started = time.perf_counter()
    model = make_pipeline(StandardScaler(), RidgeCV(PENALTIES, alpha_per_target=True))
    model.fit(rows[train], columns[train]).predict(rows[folds.test[0]])
    seconds = time.perf_counter() - started
    factor = layers * FOLDS
    found["ridge_cv_multi_target"] = {"timed_s": seconds, "scaled_by": factor, "seconds": seconds * factor}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, default="small")
    parser.add_argument("--layers", type=int, help="sweep only so many layers (the figures say how many)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--groups", type=int, default=0, help="group the rows into so many subjects")
    parser.add_argument("--no-peers", action="store_true")
    arguments = parser.parse_args()
    n, layers, d = CASES[arguments.case]
    layers = arguments.layers or layers
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "residual.h5"
        targets = stored(path, n, layers, d, rng)
        with h5py.File(path, "r") as file:
            dataset = file["residual"]

            def read(layer: int) -> np.ndarray:
                return read_float32(dataset, 0, n, layer)

            result: dict[str, Any] = {
                "case": arguments.case, "n": n, "layers": layers, "d": d, "folds": FOLDS, "targets": TARGETS,
                "penalties": len(PENALTIES), "permutations": PERMUTATIONS, "groups": arguments.groups,
                "device": arguments.device, "threads": torch.get_num_threads(),
                "compared": compared(read, layers, targets, arguments.device),
            }  # fmt: skip
            groups = rng.integers(0, arguments.groups, n) if arguments.groups else None
            with Peak() as peak:
                started = time.perf_counter()
                sweep_targets(
                    read, list(targets), groups=groups, layers=range(layers), penalties=PENALTIES,
                    n_splits=FOLDS, n_permutations=PERMUTATIONS, device=arguments.device, rng=rng,
                )  # fmt: skip
                result["sweep_s"] = time.perf_counter() - started
            result["peak_gib"] = peak.gib
            if not arguments.no_peers:
                result["peers"] = peers(read, layers, targets, multi_only=arguments.case == "large")
                for peer in result["peers"].values():
                    peer["ratio"] = peer["seconds"] / result["sweep_s"]
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

"""How a probe's out-of-fold score grows with the number of rows that it learns from.

1. Rows are split into outer folds, whole groups together, as in a sweep. Test rows are never thinned out.
2. The layer of each fold is the one asked for, or the one that a sweep chooses inside the whole training fold. That
   choice saw all training rows at every size, and no test row: the curve is that of a probe at a layer already found.
3. For each size, n rows are drawn from each training fold at random, without regard to groups; 0/1 targets keep the
   fold's share of ones. Scaling and penalty are those of the drawn rows. Step 3 is repeated with new draws.
4. A repeat scores the predictions of all rows, as deviations from the mean of the rows drawn and in units of their
   spread over these (`sweep_record`). The score of a size is the mean over its repeats; each bootstrap
   resample takes whole groups of rows and one repeat, so that the interval spans items and draws.

A curve still rising at its end says that more items would make a better probe; one that is flat at 0 does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from . import scores
from .device import fewer_threads, resolve_device
from .fold_fit import in_spreads
from .fold_fits import KINDS
from .layers import item_activations, known_probe, progress_bar, sweep_run
from .linear import check_penalties
from .probed_rows import ProbedRows, nested_layer

if TYPE_CHECKING:
    from ..extract.store import Run

Array = np.ndarray

SIZES = 6
COLUMNS = (
    "model",
    "dataset",
    "prompt",
    "site",
    "position",
    "layer",
    "target",
    "scoring",
    "probe",
    "n_train",
    "repeats",
    "n",
    "n_missing",
    "n_groups",
    "score_name",
    "score",
    "score_sd",
    "ci_low",
    "ci_high",
    "r2",
    "note",
)


def learning_curve(
    run: Run,
    target: str | Array = "human_entropy_normalized",
    *,
    layer: int | None = None,
    sizes: Sequence[int] | None = None,
    repeats: int = 10,
    layers: Sequence[int] | None = None,
    site: str = "resid_post",
    position: str = "last",
    probe: str | None = None,
    scoring: str | None = None,
    groups: str | Array | None = "subject",
    n_splits: int = 10,
    penalties: float | Sequence[float] | None = None,
    missing: str = "raise",
    n_bootstrap: int = 2000,
    device: str = "auto",
    progress: bool = True,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Score probes that learn from more and more rows, out of fold, on the same test rows.

    Args:
        run: an open run.
        target, layers, site, position, probe, scoring, groups, n_splits, penalties, missing, device: as in
            `probe_layers`.
        layer: the layer to probe. None: in each fold the one (of `layers`) with the least inner error over the whole
            training fold.
        sizes: numbers of training rows, each from 10 to the size of the smallest training fold. None: six, evenly
            spaced in ratio from a sixteenth of that size, at least 10, up to it.
        repeats: draws of training rows per size, at least 2.
        n_bootstrap: resamples of whole groups, or of rows where there are none.
        progress: show a progress bar on stderr.
        rng: source of folds, draws and resamples.

    Returns:
        One row per size, ascending: `model`, `dataset`, `prompt`, `site`, `position`, `layer` (missing where folds
        chose different ones, which `note` spells out), `target`, `scoring`, `probe`, `n_train`, `repeats`; `n` rows
        scored, `n_missing`, `n_groups`; `score_name` (`pearson` or `auroc`), `score`, the mean over the repeats of the
        score of the predictions' deviations from their own training mean, `score_sd` over the repeats, and the 95 %
        interval `ci_low`, `ci_high` over items and draws; `r2`, the mean over repeats of R2 against the mean of the
        whole training fold, one yardstick for all sizes, so that small sizes also pay for their own mean; `note`.

    Raises:
        ValueError: as `probe_layers`; a layer together with `layers`; sizes out of range, repeated or not whole; fewer
            than 2 repeats.
    """
    caller = "learning_curve"
    kind = KINDS[known_probe(probe)]
    if repeats < 2:
        raise ValueError(f"The repeats parameter of {caller} must be at least 2. Got {repeats} instead.")
    if layer is not None and layers is not None:
        raise ValueError(
            f"The layers parameter of {caller} must be None where a layer is named: it lists what to choose from. Got "
            f"layer={layer!r} and layers={list(layers)!r} instead."
        )
    rows = ProbedRows.of(
        run, target, scoring=scoring, groups=groups, n_splits=n_splits, missing=missing, caller=caller, rng=rng
    )
    least = min(len(rows.y) - len(test) for test in rows.folds.test)
    wanted = _sizes(sizes, least, caller)
    settings: dict[str, Any] = {"kind": known_probe(probe), "penalties": penalties, "folds": rows.folds}
    settings |= {"n_permutations": 0, "n_bootstrap": 1, "device": device, "groups": None}
    # With a layer named this only checks it and what else the sweep asks for; it is one layer's work.
    with progress_bar(f"probing {rows.target.name}", progress) as report:
        (swept,) = sweep_run(
            run, [rows.target], site=site, position=position, layers=layers if layer is None else [layer],
            progress=report, rng=rng, **settings,
        )  # fmt: skip
    offered = kind.penalties if penalties is None else penalties
    grid = check_penalties(offered, "penalties", caller) if kind.penalties else []
    read = {
        chosen: item_activations(run, chosen, site, position)[rows.present]
        for chosen in dict.fromkeys(swept.nested_layers.tolist())
    }
    shape = (len(wanted), repeats, len(rows.y))
    predictions, deviations = np.empty(shape), np.empty(shape)
    folds, at = rows.folds, resolve_device(device, caller="learning_curve")
    with fewer_threads(len(rows.y)), progress_bar("fitting to fewer rows", progress) as report:
        for fold, test in enumerate(folds.test):
            train, features = folds.train(fold), read[swept.nested_layers[fold]].astype(np.float64)
            for number, size in enumerate(wanted):
                for repeat in range(repeats):
                    drawn = _draw(train, rows, size, rng)
                    codes = None if folds.group_codes is None else folds.group_codes[drawn]
                    y = rows.y[drawn][:, None]
                    fit = kind.fit(features[drawn], features[test], y, codes, grid, np.array([0]), device=at)
                    predictions[number, repeat, test] = fit.test[:, 0]
                    deviations[number, repeat, test] = in_spreads(fit.test - y.mean(), fit.spread)[:, 0]
            if report is not None:
                report(fold + 1, len(folds.test))
    named, chose = nested_layer(swept.nested_layers)
    keys = {**rows.keys(run, site, position, known_probe(probe)), "layer": named}
    keys |= {"repeats": repeats, "n": len(rows.y), "n_missing": int((~rows.present).sum())}
    keys |= {"n_groups": folds.n_groups, "score_name": rows.score_name}
    weights, which = rows.weights(n_bootstrap, rng), rng.integers(repeats, size=n_bootstrap)
    table = []
    for size, predicted, deviation in zip(wanted, predictions, deviations, strict=True):
        score = _scored(rows, deviation, weights, which)
        notes = [chose, folds.note, score.pop("note")]
        r2 = float(np.mean([rows.r2(one) for one in predicted]))
        table.append(keys | {"n_train": size, **score, "r2": r2, "note": "; ".join(filter(None, notes)) or None})
    return pd.DataFrame(table, columns=list(COLUMNS)).astype({"layer": "Int64", "n_groups": "Int64"})


def _sizes(sizes: Sequence[int] | None, least: int, caller: str) -> list[int]:
    """Check the numbers of training rows, or choose them."""
    if sizes is None:
        start = min(max(10, least // 16), least)
        return sorted({int(size) for size in np.rint(np.geomspace(start, least, SIZES))})
    wanted = list(sizes)
    whole = all(isinstance(size, (int, np.integer)) and not isinstance(size, bool) for size in wanted)
    if not wanted or not whole or len(set(wanted)) < len(wanted) or not all(10 <= size <= least for size in wanted):
        raise ValueError(
            f"The sizes parameter of {caller} must be different whole numbers from 10 to {least}, the smallest "
            f"training fold. Got {wanted} instead."
        )
    return sorted(int(size) for size in wanted)


def _draw(train: Array, rows: ProbedRows, size: int, rng: np.random.Generator) -> Array:
    """Rows of a training fold, drawn without replacement; of a 0/1 target the fold's share of ones, at least one of
    each class."""
    if not rows.binary:
        return np.sort(rng.choice(train, size, replace=False))
    ones, zeros = train[rows.y[train] == 1], train[rows.y[train] == 0]
    share = int(np.clip(np.rint(size * len(ones) / len(train)), 1, size - 1))
    share = int(np.clip(share, size - len(zeros), len(ones)))
    return np.sort(np.r_[rng.choice(ones, share, replace=False), rng.choice(zeros, size - share, replace=False)])


def _scored(rows: ProbedRows, deviations: Array, weights: Array, which: Array) -> dict[str, Any]:
    """Mean score of the repeats [m, n], their spread, and the interval over resamples of items and repeats."""
    values = np.array([rows.score(deviation) for deviation in deviations])
    known = values[~np.isnan(values)]
    drawn = np.stack([rows.draws(deviation, weights) for deviation in deviations])
    low, high = scores.percentile_interval(drawn[which, np.arange(len(weights))])
    notes = []
    if len(known) < len(values):
        notes.append(f"no score in {len(values) - len(known)} of {len(values)} repeats: their predictions do not vary")
    if np.isnan(low):
        notes.append("no interval: too many resamples have no score")
    return {
        "score": known.mean() if len(known) else np.nan,
        "score_sd": known.std(ddof=1) if len(known) > 1 else np.nan,
        "ci_low": low,
        "ci_high": high,
        "note": "; ".join(notes),
    }

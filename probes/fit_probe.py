"""`fit_probe`: one probe of one layer, fitted on all items, to be kept.

1. The sweep (`sweep`) scores the layer out of fold: that is the score on record.
2. The probe is fitted on all items, its penalty chosen by held-out error, groups left out together.
3. For a 0/1 target the ridge and mass-mean scores, which are least-squares predictions, get a logistic curve through
   the out-of-fold predictions of step 1 (Platt 1999): in sample they would be too sure.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from .folds import TargetError, is_binary, name_rows
from .layers import RunTarget, item_activations, known_probe, run_groups, run_target
from .linear import LOGISTIC_PENALTIES, RIDGE_PENALTIES, LogisticProbe, MassMeanProbe, RidgeProbe
from .measure_table import unknown_name
from .ridge_path import Standardization
from .saved_probe import CHECKPOINT_FIELDS, SavedProbe
from .sweep import LayerSweep, sweep

if TYPE_CHECKING:
    from ..extract.store import Run

Array = np.ndarray


def fit_probe(
    run: Run,
    target: str | Array = "human_entropy_normalized",
    *,
    layer: int,
    site: str = "resid_post",
    position: str = "last",
    probe: str = "ridge",
    scoring: str | None = None,
    groups: str | Array | None = "subject",
    penalties: float | Sequence[float] | None = None,
    n_splits: int = 10,
    n_bootstrap: int = 2000,
    missing: str = "raise",
    rng: np.random.Generator,
) -> SavedProbe:
    """Fit a probe on all items of a run, to be saved, applied to other runs, or used as a direction.

    The layer is to be chosen beforehand: if it was picked from the scores of `probe_layers` on the same items, the
    score on record is as flattering as that choice.

    Args:
        run: an open run.
        target, site, position, probe, scoring, groups: as in `probe_layers`.
        layer: a layer of the run.
        penalties: alpha of `ridge` or C of `logistic`, one or several to choose from by held-out error; default
            1 to 10^7, and 10^-5 to 1.
        n_splits: outer folds of the score; fewer groups than this give as many folds as groups.
        n_bootstrap: resamples of whole groups, or items, behind the interval of the score.
        missing: what to do with items whose target is missing: `raise` or `drop`.
        rng: source of folds and resamples.

    Raises:
        ValueError: an unknown target, layer, site, position, probe, scoring or groups column (with the nearest
            known name); a target that is missing (the items are named), constant, or has too few rows; a layer whose
            activations are the same for every item, or not finite.
    """
    kind = known_probe(probe)
    for name, given, known in (
        ("site", site, run.sites),
        ("position", position, run.positions),
        ("layer", str(layer), [str(number) for number in run.layers]),
    ):
        if given not in known:
            raise ValueError(unknown_name(name, "fit_probe", f"a {name} of the run", given, known))
    if missing not in ("raise", "drop"):
        raise ValueError(f"The missing parameter of fit_probe must be 'raise' or 'drop'. Got {missing!r} instead.")
    wanted = run_target(run, target, scoring)
    present = np.isfinite(wanted.values)
    ids = run.items["id"].astype(str).to_numpy()
    if not present.any() or (missing == "raise" and not present.all()):
        gaps = name_rows(np.flatnonzero(~present), ids.tolist())
        mend = "pass missing='drop' to leave those items out" if present.any() else "choose another target"
        raise TargetError(
            f"The target {wanted.name!r} must be known for every item of the run. Got none for {gaps}; {mend}."
        )
    codes = run_groups(run, groups)
    codes = None if codes is None else codes[present]
    x = item_activations(run, layer, site, position)[present].astype(np.float64)
    y = wanted.values[present]
    scored = sweep(
        {layer: x}, y, groups=codes, kind=kind, penalties=penalties, n_splits=n_splits, n_permutations=0,
        n_bootstrap=n_bootstrap, names=ids[present].tolist(), rng=rng,
    )  # fmt: skip
    scaler = Standardization.of(x)
    if not scaler.inverse_scale.any():
        raise ValueError(
            f"The layer parameter of fit_probe must name a layer that differs between items. Got layer {layer} of "
            f"{site} at {position}, where the activations of all {len(x)} items are the same."
        )
    direction, intercept, penalty = _fitted(kind, x, y, codes, penalties)
    return SavedProbe(
        direction=direction,
        intercept=intercept,
        kind=kind,
        calibration=_calibration(kind, scored, y),
        scaler_mean=scaler.mean,
        scaler_scale=np.where(scaler.inverse_scale > 0, x.std(axis=0), 0.0),
        penalty=penalty,
        sd=float((x @ direction).std()),
        n=len(x),
        items=tuple(ids[present]),
        folds=_fold_numbers(scored),
        **_score(scored),
        **_origin(run, wanted, layer, site, position),
    )


def _fitted(
    kind: str, x: Array, y: Array, codes: Array | None, penalties: float | Sequence[float] | None
) -> tuple[Array, float, float | None]:
    """Direction, intercept and penalty of the probe on all rows."""
    if kind == "logistic":
        logistic = LogisticProbe(C=LOGISTIC_PENALTIES if penalties is None else penalties).fit(x, y, groups=codes)
        return logistic.coef_, logistic.intercept_, float(logistic.C_)
    if kind == "ridge":
        ridge = RidgeProbe(alpha=RIDGE_PENALTIES if penalties is None else penalties).fit(x, y, groups=codes)
        return ridge.coef_, ridge.intercept_, float(ridge.alpha_)
    direction = MassMeanProbe(whiten=kind == "mass_mean_whitened").fit(x, y).coef_
    projection = x @ direction
    # Put on the scale of the labels by least squares, as the sweep does.
    slope = float(np.cov(projection, y, bias=True)[0, 1] / projection.var()) if direction.any() else 0.0
    return slope * direction, float(y.mean() - slope * projection.mean()), None


def _calibration(kind: str, scored: LayerSweep, y: Array) -> tuple[float, float] | None:
    """Slope and offset of the log-odds of 1 given the score; None for a target that is not 0/1."""
    if not is_binary(y):
        return None
    if kind == "logistic":
        return 1.0, 0.0
    # A fold's training mean says nothing about a row: it gives way to the mean of all rows.
    scores = scored.predictions[0] - scored.baseline + y.mean()
    centre, spread = scores.mean(), scores.std()
    if spread > 1e-12:
        curve = LogisticRegression(C=1.0, tol=1e-8).fit(((scores - centre) / spread)[:, None], y)
        slope = float(curve.coef_[0, 0] / spread)
        if slope > 0:
            return slope, float(curve.intercept_[0] - slope * centre)
    return 0.0, float(logit(y.mean()))


def _fold_numbers(scored: LayerSweep) -> Array:
    numbers = np.empty(len(scored.target), dtype=np.int64)
    for fold, rows in enumerate(scored.folds.test):
        numbers[rows] = fold
    return numbers


def _score(scored: LayerSweep) -> dict[str, Any]:
    row = scored.table.iloc[0]
    name = "auroc" if is_binary(scored.target) else "pearson"
    return {"score_name": name} | {
        field: float(row[column]) for field, column in (("score", name), ("ci_low", "ci_low"), ("ci_high", "ci_high"))
    }


def _origin(run: Run, target: RunTarget, layer: int, site: str, position: str) -> dict[str, Any]:
    return {
        "target": target.name,
        "scoring": target.scoring,
        "site": site,
        "position": position,
        "layer": int(layer),
        "checkpoint": {name: run.info[name] for name in CHECKPOINT_FIELDS},
        "dataset": run.info["dataset"],
        "prompt": run.info["prompt"],
        "items_hash": run.info["items"],
        "version": importlib.metadata.version("doubtlens"),
    }

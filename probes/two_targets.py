"""Two targets of a run at once: is the direction of human disagreement also that of the model's errors?

For every layer: the cosine between the two targets' directions with its nulls (`directions`), and what the
out-of-fold predictions say about both targets (`cross_prediction`); the same items and folds for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from . import scores
from .cross_prediction import PredictedTarget, cross_prediction
from .device import fewer_threads, resolve_device
from .directions import LEAST_ROWS, NULLS, DirectionCosines, largest_p, pair_cosines, pair_targets
from .fold_fit import in_spreads
from .fold_fits import ridge_fold
from .folds import Folds, TargetError, check_target, inner_blocks, is_binary, name_rows, outer_folds
from .layers import RunTarget, item_activations, progress_bar, run_groups, run_target
from .linear import RIDGE_PENALTIES, check_penalties
from .measure_table import unknown_name
from .ridge_path import Standardization

if TYPE_CHECKING:
    from ..extract.store import Run

Array = np.ndarray


def two_targets(
    run: Run,
    first: str | Array = "human_entropy_normalized",
    second: str | Array = "correct",
    *,
    scoring: str | None = None,
    layers: Sequence[int] | None = None,
    site: str = "resid_post",
    position: str = "last",
    groups: str | Array | None = "subject",
    n_splits: int = 10,
    penalties: float | Sequence[float] | None = None,
    n_halvings: int = 10,
    n_permutations: int = 200,
    permute: str | None = None,
    n_bootstrap: int = 2000,
    missing: str = "drop",
    device: str = "auto",
    progress: bool = True,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Compare the ridge directions and the out-of-fold predictions of two targets, layer by layer.

    Cosines are signed as the targets are named: between human entropy and `correct` a negative cosine says that
    disagreement and errors are read off alike. Cross-predictions count correctness as error (1 - correct), so that
    above 0.5 (AUROC) or 0 (Pearson) the model errs, or is predicted to err, where people disagree.

    Args:
        run: an open run.
        first, second: two different targets, as in `probe_layers`.
        scoring: answer scoring that decides what the model's option is; only where one target is `correct`, default
            the first of the run.
        layers, site, position, groups, n_splits, penalties, permute: as in `probe_layers`. Without groups, folds are
            stratified by the 0/1 target, the second if both are.
        n_halvings: random divisions of the rows (whole groups) into halves; the cosine is averaged over them.
        n_permutations: size of each null of the cosine.
        n_bootstrap: resamples of rows, or of whole groups, behind the 95 % intervals.
        missing: what to do with items of which a target is missing: `drop` (counted in `n_missing`) or `raise`.
        device: where torch fits: `cpu`, `cuda`, ...; `auto` takes a GPU where there is one.
        progress: show a progress bar on stderr.
        rng: source of folds, halvings, permutations and resamples, in this order.

    Returns:
        One row per layer: `model`, `dataset`, `prompt`, `site`, `position`, `layer`, `first`, `second`, `scoring`,
        `n`, `n_missing`, `n_groups`, `folds`; `target_correlation` (Pearson, of the targets themselves);

        - `cosine`, in the metric of the activations' covariance, from directions of different halves;
          `cosine_null` (which target is permuted in the null that p comes from: `second`, `first` or `both`), its
          `cosine_null_mean` and `cosine_null_sd`; `cosine_p` (two-sided, the largest over the three nulls) and
          `cosine_p_max` (against the maximum over layers);
        - `first_reliability`, `second_reliability` (cosine of a target's own directions from both halves) and
          `cosine_disattenuated` (corrected for them; NaN unless both are above their null);
        - `cosine_in_sample`, of directions from all rows, and `cosine_in_sample_null_mean`, its mean with both targets
          permuted alike: what the correlation of the targets alone gives. It has no p-value: see `directions`;
        - `cosine_plain`, `cosine_plain_p`, `cosine_plain_p_max`: in raw units of the residual stream;
        - the figures of `cross_prediction` (scores, cross-predictions, partial scores, shared and separate variance),
          and again with `nested_` in front, the same in every row, for predictions of the layer that has the least
          inner error in each training fold, chosen for each target by itself;

        then `permutation`, `n_permutations`, `n_halvings`, `note`. A layer whose activations are the same in every row
        has NaN cosines and a note.

    Raises:
        ValueError: an unknown target, layer, site, position, scoring or groups column (with the nearest known name);
            the same target twice; a target that is missing (items are named), constant, or has too few rows;
            activations that are not finite.
    """
    if missing not in ("raise", "drop"):
        raise ValueError(f"The missing parameter of two_targets must be 'raise' or 'drop'. Got {missing!r} instead.")
    if n_bootstrap < 1:
        raise ValueError(f"The n_bootstrap parameter of two_targets must be at least 1. Got {n_bootstrap} instead.")
    pair = _run_targets(run, first, second, scoring)
    names = run.items["id"].to_numpy()
    present = np.isfinite(pair[0].values) & np.isfinite(pair[1].values)
    _check_present(pair, present, names, missing)
    chosen = _known_layers(run, layers, site, position)
    grouped = run_groups(run, groups)
    design = _Design.draw(
        [_checked(target, present, names) for target in pair],
        None if grouped is None else grouped[present],
        n_splits=n_splits,
        penalties=check_penalties(RIDGE_PENALTIES if penalties is None else penalties, "penalties", "two_targets"),
        device=resolve_device(device, caller="two_targets"),
        rng=rng,
    )
    values = design.targets
    halves = pair_targets(
        values[:, 0], values[:, 1], design.folds.group_codes,
        n_halvings=n_halvings, n_permutations=n_permutations, permute=permute, rng=rng,
    )  # fmt: skip
    weights = scores.bootstrap_weights(len(values), design.folds.group_codes, n_bootstrap, rng)

    predictions, cosines = [], []
    with progress_bar("comparing two targets", progress) as report, fewer_threads(len(values)):
        for number, layer in enumerate(chosen):
            rows = item_activations(run, layer, site, position)[present].astype(np.float64)
            wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
            if wrong.size:
                raise ValueError(
                    f"Activations of layer {layer} must be finite. Got NaN or inf in "
                    f"{name_rows(wrong, names[present].tolist())}; extract those items again, in float32 if the model "
                    "overflows."
                )
            predictions.append(design.predict(rows))
            metrics = ("covariance", "plain")
            cosines.append(
                pair_cosines(rows, halves, metrics=metrics, penalties=design.penalties, device=design.device)
            )
            if report is not None:
                report(number + 1, len(chosen))

    turned = [target.name == "correct" for target in pair]
    figures = [design.figures(one, turned, weights) for one in predictions]
    nested = design.figures(design.nested(predictions), turned, weights)
    keys: dict[str, Any] = {key: run.info[key] for key in ("model", "dataset", "prompt")}
    keys |= {"site": site, "position": position}
    facts = {
        "first": pair[0].name,
        "second": pair[1].name,
        "scoring": pair[0].scoring or pair[1].scoring,
        "n": len(values),
        "n_missing": int((~present).sum()),
        "n_groups": design.folds.n_groups,
        "folds": len(design.folds.test),
        "target_correlation": scores.pearson(values[:, 0], values[:, 1]),
    }
    last = {"permutation": halves.permutation, "n_permutations": n_permutations, "n_halvings": n_halvings}
    table = pd.DataFrame(
        [
            {**keys, "layer": layer, **facts, **cosine, **own, **{f"nested_{name}": nested[name] for name in nested}}
            | {**last, "note": _note(design.folds, one.flat)}
            for layer, cosine, own, one in zip(chosen, _cosine_columns(cosines), figures, predictions, strict=True)
        ]
    )
    return table.astype({"n_groups": "Int64"})


@dataclass(frozen=True, eq=False)
class _Predictions:
    """Both targets' predictions from one layer, as deviations from training means in units of their spread.

    Attributes:
        deviation: [2, n], out of fold; axis 0 is the target.
        held_out: [2, F, n], of each fold's training rows by inner models; NaN in its test rows.
        inner_error: [2, F], held-out error at the chosen penalty.
        flat: the activations are the same in every row.
    """

    deviation: Array
    held_out: Array
    inner_error: Array
    flat: bool


@dataclass(frozen=True, eq=False)
class _Design:
    """What all layers share: targets [n, 2], folds, penalties and the device."""

    targets: Array
    folds: Folds
    penalties: list[float]
    device: str

    @classmethod
    def draw(
        cls,
        targets: Sequence[Array],
        groups: Array | None,
        *,
        n_splits: int,
        penalties: list[float],
        device: str,
        rng: np.random.Generator,
    ) -> _Design:
        stratify = targets[1] if is_binary(targets[1]) else targets[0]
        # As `sweep_targets` draws them: equal generators give the folds of `probe_layers`.
        drawn = np.random.default_rng(int(rng.integers(2**63)))
        folds = outer_folds(stratify, groups, n_splits=n_splits, rng=drawn)
        for target in targets:
            if is_binary(target) and any(np.ptp(target[folds.train(fold)]) == 0 for fold in range(len(folds.test))):
                raise TargetError(
                    "A 0/1 target needs both classes outside every test fold. Got a fold that holds a whole class; use "
                    "fewer folds, or groups=None."
                )
        return cls(np.column_stack(targets), folds, penalties, device)

    def predict(self, rows: Array) -> _Predictions:
        n, count = len(rows), len(self.folds.test)
        deviation, held_out, error = np.empty((2, n)), np.full((2, count, n), np.nan), np.empty((2, count))
        for fold, test in enumerate(self.folds.test):
            train = self.folds.train(fold)
            targets = self.targets[train]
            codes = None if self.folds.group_codes is None else self.folds.group_codes[train]
            fit = ridge_fold(rows[train], rows[test], targets, codes, self.penalties, np.arange(2), device=self.device)
            assert fit.held_out is not None
            deviation[:, test] = in_spreads(fit.test - targets.mean(axis=0), fit.spread).T
            held_out[:, fold, train] = in_spreads(fit.held_out - _means_without_block(targets, codes), fit.spread).T
            error[:, fold] = fit.inner_error
        flat = not Standardization.of(rows).inverse_scale.any()
        if flat:  # what is left is rounding, which AUROC would rank
            deviation, held_out = np.zeros_like(deviation), 0.0 * held_out
        return _Predictions(deviation, held_out, error, flat)

    def nested(self, layers: Sequence[_Predictions]) -> _Predictions:
        """For each target and fold the predictions of the layer with the least inner error, the first of equal ones."""
        errors = np.stack([one.inner_error for one in layers])
        best = errors.argmin(axis=0)
        deviation, held_out = np.empty_like(layers[0].deviation), np.empty_like(layers[0].held_out)
        for target in range(2):
            for fold, test in enumerate(self.folds.test):
                layer = layers[best[target, fold]]
                deviation[target, test] = layer.deviation[target, test]
                held_out[target, fold] = layer.held_out[target, fold]
        return _Predictions(deviation, held_out, errors.min(axis=0), flat=all(one.flat for one in layers))

    def figures(self, one: _Predictions, turned: Sequence[bool], weights: Array) -> dict[str, float | str]:
        first, second = (
            PredictedTarget(self.targets[:, place], one.deviation[place], one.held_out[place], turned[place])
            for place in range(2)
        )
        return cross_prediction(first, second, self.folds, weights)


def _means_without_block(targets: Array, codes: Array | None) -> Array:
    """Mean [n, m] of each column over the rows outside a row's inner block: what its inner model knew."""
    n = len(targets)
    total = targets.sum(axis=0)
    blocks = inner_blocks(codes)
    if blocks is None:
        return (total - targets) / (n - 1)
    means = np.empty_like(targets)
    for block in blocks:
        means[block] = (total - targets[block].sum(axis=0)) / (n - len(block))
    return means


def _run_targets(run: Run, first: str | Array, second: str | Array, scoring: str | None) -> list[RunTarget]:
    if scoring is not None and "correct" not in [name for name in (first, second) if isinstance(name, str)]:
        raise ValueError(
            "The scoring parameter of two_targets must be None unless a target is 'correct', which alone depends on "
            f"it. Got {scoring!r} instead."
        )
    pair = [
        run_target(run, target, scoring if isinstance(target, str) and target == "correct" else None)
        for target in (first, second)
    ]
    if np.array_equal(pair[0].values, pair[1].values, equal_nan=True):
        raise ValueError(
            "The first and second parameters of two_targets must be different targets. Got "
            f"{pair[0].name!r} and {pair[1].name!r}, which are the same for every item."
        )
    if pair[0].name == pair[1].name == "given":
        pair = [RunTarget(f"given_{number}", one.values, None) for number, one in enumerate(pair, start=1)]
    return pair


def _check_present(pair: Sequence[RunTarget], present: Array, names: Array, missing: str) -> None:
    for target in pair:
        if not np.isfinite(target.values).any():
            raise TargetError(f"The target {target.name!r} is missing for every item of the run.")
    if missing == "raise" and not present.all():
        raise TargetError(
            f"The targets {pair[0].name!r} and {pair[1].name!r} must be known for every item of the run. Got a gap in "
            f"{name_rows(np.flatnonzero(~present), names.tolist())}; pass missing='drop' to leave those items out."
        )
    if present.sum() < LEAST_ROWS:
        raise TargetError(
            f"two_targets needs both targets for at least {LEAST_ROWS} items, to fit a direction to each half. Got "
            f"{present.sum()} items with {pair[0].name!r} and {pair[1].name!r} instead."
        )


def _checked(target: RunTarget, present: Array, names: Array) -> Array:
    """The target's values [n] of the items present, if they vary."""
    try:
        return check_target(target.values[present], names=names[present].tolist())
    except TargetError as error:
        raise TargetError(f"The target {target.name!r} cannot be compared: {error}") from error


def _known_layers(run: Run, layers: Sequence[int] | None, site: str, position: str) -> list[int]:
    caller = "two_targets"
    if site not in run.sites:
        raise ValueError(unknown_name("site", caller, "a site of the run", site, run.sites))
    if position not in run.positions:
        raise ValueError(unknown_name("position", caller, "a position of the run", position, run.positions))
    chosen = list(run.layers if layers is None else layers)
    for layer in chosen:
        if layer not in run.layers:
            known = [str(known) for known in run.layers]
            raise ValueError(unknown_name("layers", caller, "layers of the run", str(layer), known))
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(f"The layers parameter of two_targets must name layers, each once. Got {chosen} instead.")
    return chosen


def _cosine_columns(cosines: Sequence[Any]) -> list[dict[str, Any]]:
    """The columns of the cosines, one dictionary per layer."""
    by_metric: dict[str, list[DirectionCosines]] = {
        metric: [one[metric] for one in cosines] for metric in ("covariance", "plain")
    }
    tests = {
        metric: largest_p(np.array([one.cosine for one in every]), np.stack([one.null for one in every]))
        for metric, every in by_metric.items()
    }
    rows = []
    for index, (one, plain) in enumerate(zip(by_metric["covariance"], by_metric["plain"], strict=True)):
        p, p_max, which = (part[index] for part in tests["covariance"])
        null = one.null[which]
        count = null.size
        rows.append(
            {
                "cosine": one.cosine,
                "cosine_null": NULLS[which] if count and np.isfinite(one.cosine) else None,
                "cosine_null_mean": null.mean() if count else np.nan,
                "cosine_null_sd": null.std(ddof=1) if count > 1 else np.nan,
                "cosine_p": p,
                "cosine_p_max": p_max,
                "cosine_disattenuated": one.disattenuated,
                "first_reliability": one.reliability[0],
                "second_reliability": one.reliability[1],
                "cosine_in_sample": one.in_sample,
                "cosine_in_sample_null_mean": one.in_sample_null.mean() if count else np.nan,
                "cosine_plain": plain.cosine,
                "cosine_plain_p": tests["plain"][0][index],
                "cosine_plain_p_max": tests["plain"][1][index],
            }
        )
    return rows


def _note(folds: Folds, flat: bool) -> str | None:
    notes = [] if folds.note is None else [folds.note]
    if flat:
        notes.append("the layer's activations are the same in every row")
    return "; ".join(notes) or None

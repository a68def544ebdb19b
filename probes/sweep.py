"""The sweep of a linear probe over layers, with nested choices and a shuffled-label null.

1. Rows are split into outer folds (whole groups together).
2. For each layer and outer fold the features are standardised on the training rows, and the penalty is chosen
   by the error on rows (groups) left out inside the training rows; the test rows are predicted once.
3. Claim one, the curve: each layer's out-of-fold score (correlations and AUROC of the predictions' deviations
   from their training mean, in units of their spread; see `sweep_record`). The best layer is tested against the
   null of the maximum over layers (`p_max`), because it was picked as the maximum.
4. Claim two, the nested score: in each outer fold the layer, too, is the one with the least inner error, so
   that nothing about the test rows has entered any choice.
5. Null: the target is permuted and steps 2 to 4 are repeated, choices included. A ridge fit is linear in the
   target: permutations are further columns of one factorisation.

Max-statistic: Westfall and Young 1993, "Resampling-Based Multiple Testing". Nested choice: Varma and Simon
2006, doi:10.1186/1471-2105-7-91.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from .device import fewer_threads, resolve_device
from .fold_fits import KINDS, ProbeKind
from .folds import Folds, TargetError, check_target, is_binary, name_rows, outer_folds, permutation_drawer
from .linear import check_penalties
from .ridge_path import Standardization
from .sweep_record import TargetRecord

Array = np.ndarray
Features = Callable[[Any], Array] | Mapping[Any, Array] | Array


@dataclass(frozen=True, eq=False)
class LayerSweep:
    """A probe's out-of-fold results over L layers, for n rows, F outer folds and B permutations.

    Attributes:
        table: one row per layer: layer, n, n_groups, folds, probe, score_name, score, r2, pearson, spearman,
            auroc, auprc, brier, log_loss, ci_low, ci_high, null_mean, null_sd, null_pearson_mean, null_pearson_sd,
            p, p_max, best, layer_low, layer_high, nested_score, nested_p, nested_pearson, nested_ci_low,
            nested_ci_high, permutation, n_permutations, note. The intervals ci and nested_ci, of pearson or auroc, are
            those of `jackknife`; layer_low to layer_high are the fewest that hold the best layer in 95 % of resamples.
        target: [n], as it was given.
        baseline: [n], mean of the target over the training rows of each row's fold.
        predictions: [L, n], each row predicted by a probe that never saw it. For a 0/1 target and the ridge
            or mass-mean probe a least-squares prediction, which may leave [0, 1].
        probabilities: [L, n] for a 0/1 target, otherwise None.
        deviations: [L, n], what correlations and AUROC are taken of: predictions less `baseline`, divided by the
            standard deviation of the same probe's predictions of its training rows; 0 where those are all alike.
        nested_predictions: [n], layer and penalty chosen inside the training fold.
        nested_deviations: [n], their deviations.
        nested_probabilities: [n] for a 0/1 target, otherwise None.
        penalties: [L, F], chosen penalty; NaN for a probe without one.
        nested_layers: [F], the layer chosen in each outer fold.
        inner_predictions: [F, n], for each outer fold the predictions of its training rows at the nested layer, by
            inner models that saw neither the row (its group) nor the fold's test rows; NaN in the test rows. What is
            to be stacked on the probe is fitted to these. None for the logistic probe.
        null: [B, L] scores under permuted targets; `nested_null`: [B].
        folds: the outer folds; `folds.note` says why there are fewer than asked for.
    """

    table: pd.DataFrame
    target: Array
    baseline: Array
    predictions: Array
    probabilities: Array | None
    deviations: Array
    nested_predictions: Array
    nested_deviations: Array
    nested_probabilities: Array | None
    penalties: Array
    nested_layers: Array
    inner_predictions: Array | None
    null: Array
    nested_null: Array
    folds: Folds

    @property
    def nested_score(self) -> float:
        """R2 or AUROC of the nested predictions."""
        return float(self.table["nested_score"].iloc[0])

    def comparable_predictions(self) -> Array:
        """Nested predictions [n] to be ranked or correlated over all folds; probabilities for a 0/1 target.

        The training mean of each fold gives way to the mean of all rows, one constant (for probabilities on
        the scale of log-odds). As they are, nested predictions stand a little lower where the fold's own
        targets are high.
        """
        mean = self.target.mean()
        if self.nested_probabilities is None:
            return self.nested_predictions - self.baseline + mean
        return expit(logit(self.nested_probabilities) - logit(self.baseline) + logit(mean))


def sweep(features: Features, y: Array, **settings: Any) -> LayerSweep:
    """Sweep one target [n] over layers; arguments and errors as in `sweep_targets`."""
    return sweep_targets(features, [y], **settings)[0]


def sweep_targets(
    features: Features,
    targets: Sequence[Array],
    *,
    groups: Array | None = None,
    layers: Sequence[Any] | None = None,
    kind: str = "ridge",
    penalties: float | Sequence[float] | None = None,
    n_splits: int = 10,
    folds: Folds | None = None,
    n_permutations: int | None = None,
    permute: str | None = None,
    n_bootstrap: int = 2000,
    names: Sequence[object] | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    rng: np.random.Generator,
) -> list[LayerSweep]:
    """Sweep several targets of the same rows over layers, sharing folds and factorisations where they can.

    Args:
        features: activations [n, d] of a layer: a function of the layer, a mapping, or an array [L, n, d].
        targets: each [n], numbers; one of only 0 and 1 is binary and scored by AUROC, any other by R2.
        groups: [n], or None. Rows of a group are never on both sides of a split.
        layers: which layers, in order; default all (needed when `features` is a function).
        kind: "ridge" (for a 0/1 target: least-squares classifier), "mass_mean", "mass_mean_whitened" (linear
            discriminant analysis) or "logistic" (these three 0/1 only).
        penalties: what to choose from: alpha of ridge, C of logistic; default 1 to 10^7, and 10^-5 to 1.
        n_splits: outer folds; fewer groups than this give as many folds as groups.
        folds: outer folds of `folds.outer_folds` to use for every target, in place of groups and n_splits.
        n_permutations: size of the null. Default 200, and 0 for "logistic", whose null is a full refit of
            everything per permutation; without a null its columns are NaN.
        permute: "within" groups (default with groups), "groups" or "free" (default without groups); see
            `folds.permutation_drawer`.
        n_bootstrap: resamples of rows, or of whole groups, behind layer_low and layer_high.
        names: what to call the rows in messages (item ids).
        device: where torch fits: "cpu", "cuda", "cuda:1", or "auto" for a GPU where there is one.
        progress: called with (layers done, layers in all).
        rng: source of folds, permutations and resamples, in this order.

    Returns:
        One `LayerSweep` per target, in order.

    Raises:
        TargetError: targets, groups or folds that cannot be cross-validated.
        ValueError: an unknown kind, bad penalties, features of the wrong shape or not finite.
    """
    if kind not in KINDS:
        raise ValueError(f"The kind parameter of sweep must be one of {', '.join(KINDS)}. Got {kind!r} instead.")
    probe = KINDS[kind]
    grid = _penalty_grid(probe, kind, penalties)
    n_null = probe.n_permutations if n_permutations is None else n_permutations
    for name, count, least in (("n_permutations", n_null, 0), ("n_bootstrap", n_bootstrap, 1)):
        if count < least:
            raise ValueError(f"The {name} parameter of sweep must be at least {least}. Got {count} instead.")
    checked = [check_target(target, names=names) for target in targets]
    if len({len(target) for target in checked}) != 1:
        raise ValueError(
            "The targets parameter of sweep_targets must hold at least one target, all of the same length. "
            f"Got lengths {[len(target) for target in checked]} instead."
        )
    if probe.binary_only and not all(is_binary(target) for target in checked):
        raise TargetError(
            f"kind={kind!r} is for targets of 0 and 1. Got other values; use kind='ridge', or split the target "
            "at its median first."
        )
    layer_names, read = _reader(features, layers, len(checked[0]), names)

    # One seed for all targets: grouped folds are then the same, and so are those of continuous targets.
    seed = int(rng.integers(2**63))
    records, schemes = [], []
    for target in checked:
        own = folds
        if own is None:
            own = outer_folds(target, groups, n_splits=n_splits, rng=np.random.default_rng(seed))
        else:
            _check_folds(own, target, groups)
        scheme, draw = permutation_drawer(target, own, permute)
        columns = np.column_stack([target, *(target[draw(rng)] for _ in range(n_null))])
        records.append(TargetRecord(columns, own, len(layer_names)))
        schemes.append(scheme)

    passes = _shared_folds(records)
    device = resolve_device(device, caller="sweep")
    with fewer_threads(len(checked[0])):
        for number, together in enumerate(passes):
            _run(
                read,
                layer_names,
                probe,
                grid,
                together,
                progress,
                number,
                len(passes),
                resolve_device(device, caller="sweep"),
            )
    results = []
    for record, scheme in zip(records, schemes, strict=True):
        table = record.table(layer_names, kind, scheme, n_bootstrap, rng)
        results.append(
            LayerSweep(
                table=table,
                target=record.target,
                baseline=record.baseline[:, 0],
                predictions=record.predictions,
                probabilities=record.probabilities,
                deviations=record.deviations,
                nested_predictions=record.nested[:, 0],
                nested_deviations=record.nested_deviation[:, 0],
                nested_probabilities=record.nested_probabilities,
                penalties=record.penalties,
                nested_layers=np.asarray(layer_names)[record.nested_index],
                inner_predictions=record.inner_predictions,
                null=record.scores[:, 1:].T,
                nested_null=record.nested_scores()[1:],
                folds=record.folds,
            )
        )
    return results


def _run(
    read: Callable[[Any], Array],
    layers: Sequence[Any],
    probe: ProbeKind,
    grid: list[float],
    records: list[TargetRecord],
    progress: Callable[[int, int], None] | None,
    number: int,
    n_passes: int,
    device: str,
) -> None:
    """Pass once over all layers for targets that share their folds."""
    folds = records[0].folds
    columns = np.column_stack([record.columns for record in records])
    widths = [record.columns.shape[1] for record in records]
    starts = np.cumsum([0, *widths[:-1]])
    splits = [(folds.train(fold), test) for fold, test in enumerate(folds.test)]
    units = records[0].units
    for index, layer in enumerate(layers):
        rows = read(layer)
        flat = True
        for fold, (train, test) in enumerate(splits):
            codes = None if folds.group_codes is None else folds.group_codes[train]
            trained, inside = np.unique(units[train], return_inverse=True)
            # A single unit cannot be left out: nothing would be trained on.
            left_out = {"units": inside} if len(trained) > 1 else {}
            fit = probe.fit(rows[train], rows[test], columns[train], codes, grid, starts, **left_out, device=device)
            for place, (record, start, width) in enumerate(zip(records, starts, widths, strict=True)):
                record.add_fold(index, fold, fit.of_target(place, slice(start, start + width)), trained)
            flat = flat and not Standardization.of(rows[train]).inverse_scale.any()
        for record in records:
            record.close_layer(index, flat)
        if progress is not None:
            progress(number * len(layers) + index + 1, n_passes * len(layers))


def _check_folds(folds: Folds, target: Array, groups: Array | None) -> None:
    if groups is not None:
        raise ValueError("The groups parameter of sweep must be None where folds are given: they know their groups.")
    rows = np.sort(np.concatenate(folds.test))
    if not np.array_equal(rows, np.arange(len(target))):
        raise ValueError(
            f"The folds parameter of sweep must hold each of the {len(target)} rows once. "
            f"Got folds of {len(rows)} rows instead."
        )
    if is_binary(target) and any(np.ptp(target[folds.train(fold)]) == 0 for fold in range(len(folds.test))):
        raise TargetError("A binary y needs both classes outside every test fold of the folds parameter.")


def _shared_folds(records: list[TargetRecord]) -> list[list[TargetRecord]]:
    """Put together the targets whose folds are the same."""
    passes: list[list[TargetRecord]] = []
    for record in records:
        for together in passes:
            mine, theirs = record.folds.test, together[0].folds.test
            if len(mine) == len(theirs) and all(map(np.array_equal, mine, theirs)):
                together.append(record)
                break
        else:
            passes.append([record])
    return passes


def _penalty_grid(probe: ProbeKind, kind: str, penalties: float | Sequence[float] | None) -> list[float]:
    if not probe.penalties:
        if penalties is not None:
            raise ValueError(f"kind={kind!r} has no penalty. Got penalties={penalties!r}; leave it out.")
        return []
    return check_penalties(probe.penalties if penalties is None else penalties, "penalties", "sweep")


def _reader(
    features: Features, layers: Sequence[Any] | None, n: int, names: Sequence[object] | None
) -> tuple[list[Any], Callable[[Any], Array]]:
    """Layers to sweep, and a function that reads one as checked float64 [n, d]."""
    get: Callable[[Any], Array]
    if isinstance(features, Mapping):
        known, get = list(features), features.__getitem__
    elif callable(features):
        known, get = None, features
    else:
        stack = np.asarray(features)
        if stack.ndim != 3:
            raise ValueError(
                f"The features parameter of sweep must be [layers, rows, d]. Got shape {stack.shape} instead."
            )
        known, get = list(range(len(stack))), stack.__getitem__
    chosen = known if layers is None else list(layers)
    if not chosen:
        raise ValueError("The layers parameter of sweep must name the layers when features is a function.")
    if len(set(chosen)) != len(chosen):
        raise ValueError(f"The layers parameter of sweep must not repeat a layer. Got {chosen} instead.")
    unknown = [] if known is None else [layer for layer in chosen if layer not in known]
    if unknown:
        raise ValueError(f"The layers parameter of sweep must be among {known}. Got {unknown} instead.")

    def read(layer: Any) -> Array:
        rows = np.asarray(get(layer), dtype=np.float64)
        if rows.ndim != 2 or len(rows) != n or rows.shape[1] == 0:
            raise ValueError(f"Features of layer {layer} must be [{n}, d]. Got shape {rows.shape} instead.")
        wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if wrong.size:
            raise ValueError(
                f"Features of layer {layer} must be finite. Got NaN or inf in {name_rows(wrong, names)}; "
                "extract those items again, in float32 if the model overflows."
            )
        return rows

    return chosen, read

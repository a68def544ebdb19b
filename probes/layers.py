"""Probes of a run, layer by layer: `probe_layers`, and the targets and groups it reads from the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .fold_fits import KINDS
from .folds import TargetError, name_rows
from .measure_table import unknown_name
from .sweep import LayerSweep, sweep_targets
from .targets import human_targets

if TYPE_CHECKING:
    from ..extract.store import Run

Array = np.ndarray

HUMAN_TARGETS = (
    "human_entropy_normalized",
    "human_entropy",
    "human_correct",
    "recall_correct",
    "response_time_ms",
)


@dataclass(frozen=True, eq=False)
class RunTarget:
    """One target of a run.

    Attributes:
        name: column name of the target.
        values: [N], NaN where missing.
        scoring: the answer scoring behind it, None where none is.
    """

    name: str
    values: Array
    scoring: str | None


def probe_layers(
    run: Run,
    target: str | Array = "human_entropy_normalized",
    *,
    layers: Sequence[int] | None = None,
    site: str = "resid_post",
    position: str = "last",
    probe: str | None = None,
    groups: str | Array | None = "subject",
    scoring: str | None = None,
    n_splits: int = 10,
    penalties: float | Sequence[float] | None = None,
    n_permutations: int | None = None,
    permute: str | None = None,
    n_bootstrap: int = 2000,
    missing: str = "raise",
    device: str = "auto",
    progress: bool = True,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Probe every layer of a run for a target, out of fold, with an interval and a shuffled-label null.

    Args:
        run: an open run.
        target: `human_entropy_normalized`, `human_entropy`, `human_correct`, `recall_correct` or
            `response_time_ms` (see `human_targets`); `correct` (1 where the model's option is the right one);
            or numbers [N], one per item, of which 0 and 1 alone make a binary target.
        layers: layers of the run; default all.
        site: `resid_pre`, `resid_mid`, `resid_post`, `attn_out` or `mlp_out`, if the run has it.
        position: `last`, `question_last`, `question_mean` or `labels` (the mean over an item's labels), if the run
            has it; see `Run.residual`.
        probe: `ridge` (default; for a binary target the least-squares classifier), or, for binary targets only,
            `mass_mean`, `mass_mean_whitened` (linear discriminant analysis) or `logistic`.
        groups: items column whose values are kept together in a fold, or one group per item [N]; None for
            plain folds. A column with no value, or one value, in all items groups nothing.
        scoring: answer scoring that decides what the model's option is; only for `correct`, default the first
            of the run.
        n_splits, penalties, n_permutations, permute, n_bootstrap: as in `sweep.sweep_targets`.
        missing: what to do with items whose target is missing: `raise` or `drop` (counted in `n_missing`).
        device: where probes are fitted: `cpu`, `cuda`, ...; `auto` takes a GPU where there is one.
        progress: show a progress bar on stderr.
        rng: source of folds, permutations and resamples.

    Returns:
        One row per layer: `model`, `dataset`, `prompt`, `site`, `position`, `layer`, `target`, `scoring`, `probe`,
        `n`, `n_missing`, `n_groups` (missing without groups), `folds`, `score_name` (`r2` or `auroc`), `score`,
        `r2`, `pearson`, `spearman` (continuous targets, NaN otherwise), `auroc`, `auprc`, `brier`, `log_loss`
        (binary ones), `ci_low` and `ci_high` (95 % interval of pearson or auroc, by a jackknife over groups or
        rows that sees testing and training), `null_mean` and `null_sd` of the score under permuted targets
        (`null_pearson_mean` and `null_pearson_sd` of pearson, for continuous ones), `p` (this layer alone),
        `p_max` (against the null of the maximum over layers), `best`, and, the same in every row,
        `layer_low` and `layer_high` (the fewest neighbouring layers that hold the best one in 95 % of bootstrap
        resamples of groups or rows), `nested_score`, `nested_p`, `nested_pearson`, `nested_ci_low`,
        `nested_ci_high` for layer and penalty chosen inside the training folds; `permutation`, `n_permutations`,
        `note`. High scores mean that the
        layer tells more about the target.

    Raises:
        ValueError: an unknown target, layer, site, position, probe, scoring or groups column (with the nearest
            known name); a target that is missing (the items are named), constant, or has too few rows.
    """
    if missing not in ("raise", "drop"):
        raise ValueError(f"The missing parameter of probe_layers must be 'raise' or 'drop'. Got {missing!r} instead.")
    wanted = run_target(run, target, scoring)
    present = np.isfinite(wanted.values)
    if missing == "raise" and not present.all():
        gaps = name_rows(np.flatnonzero(~present), run.items["id"].tolist())
        raise TargetError(
            f"The target {wanted.name!r} must be known for every item of the run. Got none for {gaps}; "
            "pass missing='drop' to leave those items out."
        )
    settings: dict[str, Any] = {
        "groups": run_groups(run, groups),
        "kind": known_probe(probe),
        "n_splits": n_splits,
        "penalties": penalties,
        "n_permutations": n_permutations,
        "permute": permute,
        "n_bootstrap": n_bootstrap,
        "device": device,
    }
    with progress_bar(f"probing {wanted.name}", progress) as report:
        (result,) = sweep_run(
            run, [wanted], site=site, position=position, layers=layers, progress=report, rng=rng, **settings
        )
    return layer_table(run, wanted, result, site, position)


def sweep_run(
    run: Run,
    targets: Sequence[RunTarget],
    *,
    site: str,
    layers: Sequence[int] | None,
    groups: Array | None,
    position: str = "last",
    **settings: Any,
) -> list[LayerSweep]:
    """Sweep targets that are known for the same items of a run; arguments as in `sweep.sweep_targets`."""
    if site not in run.sites:
        raise ValueError(unknown_name("site", "probe_layers", "a site of the run", site, run.sites))
    if position not in run.positions:
        raise ValueError(unknown_name("position", "probe_layers", "a position of the run", position, run.positions))
    for layer in run.layers if layers is None else layers:
        if layer not in run.layers:
            known = [str(known) for known in run.layers]
            raise ValueError(unknown_name("layers", "probe_layers", "layers of the run", str(layer), known))
    present = np.isfinite(targets[0].values)
    names = run.items["id"].to_numpy()[present].tolist()
    if not present.any():
        raise TargetError(f"The target {targets[0].name!r} is missing for every item of the run.")
    return sweep_targets(
        lambda layer: item_activations(run, layer, site, position)[present],
        [target.values[present] for target in targets],
        groups=None if groups is None else groups[present],
        layers=run.layers if layers is None else list(layers),
        names=names,
        **settings,
    )


def item_activations(run: Run, layer: int, site: str = "resid_post", position: str = "last") -> Array:
    """One vector per item, float32 [N, d]: `Run.residual`, for the position `labels` the mean over an item's labels."""
    values = run.residual(layer, site, position)
    if position != "labels":
        return values
    counts = run.items["n_options"].to_numpy()[:, None]
    listed = np.arange(values.shape[1]) < counts
    # Only what lies beyond an item's options may be missing: any other NaN stays to be seen.
    return (np.where(listed[..., None], values, 0).sum(axis=1, dtype=np.float64) / counts).astype(np.float32)


def run_target(run: Run, target: str | Array, scoring: str | None = None) -> RunTarget:
    """Look up a target by name, or take numbers [N]; see `probe_layers`."""
    n = len(run.items)
    if not isinstance(target, str):
        values = np.asarray(target)
        if values.shape != (n,):
            raise ValueError(
                f"The target parameter of probe_layers must be a name or one number per item, [{n}]. "
                f"Got shape {values.shape} instead."
            )
        return RunTarget("given", values.astype(np.float64), None)
    if target == "correct":
        scoring = run.scorings[0] if scoring is None else scoring
        if scoring not in run.scorings:
            raise ValueError(unknown_name("scoring", "probe_layers", "a scoring of the run", scoring, run.scorings))
        return RunTarget(target, correctness(run.items["answer"], choices(run.choice_scores(scoring))), scoring)
    if target not in HUMAN_TARGETS:
        known = [*HUMAN_TARGETS, "correct"]
        raise ValueError(unknown_name("target", "probe_layers", "a target", target, known))
    if scoring is not None:
        raise ValueError(
            f"The scoring parameter of probe_layers must be None for {target!r}, which no answer scoring enters. "
            f"Got {scoring!r} instead."
        )
    return RunTarget(target, human_targets(run.items)[target].to_numpy(dtype=np.float64), None)


def run_groups(run: Run, groups: str | Array | None) -> Array | None:
    """Group of each item [N] from a column of the items, or as given; None where nothing is grouped."""
    if groups is None:
        return None
    if not isinstance(groups, str):
        return np.asarray(groups)
    if groups not in run.items:
        if groups == "subject":  # the default must not refuse items that know no subjects
            return None
        known = [str(column) for column in run.items]
        raise ValueError(unknown_name("groups", "probe_layers", "a column of the items", groups, known))
    column = run.items[groups]
    gaps = np.flatnonzero(column.isna())
    if len(gaps) == len(column):
        return None
    if gaps.size:
        raise TargetError(
            f"The groups column {groups!r} must be filled for all items or none. Got no value for "
            f"{name_rows(gaps, run.items['id'].tolist())}; fill them in or pass groups=None."
        )
    return column.to_numpy(dtype=object)


def known_probe(probe: str | None) -> str:
    """Name of the probe, `ridge` for None."""
    if probe is None:
        return "ridge"
    if probe not in KINDS:
        raise ValueError(unknown_name("probe", "probe_layers", "a probe", probe, KINDS))
    return probe


def choices(scores: Array) -> Array:
    """Position of the best option [N] from scores [N, Kmax] with NaN beyond an item's K; the lowest of ties."""
    return np.nanargmax(scores, axis=1)


def correctness(answer: pd.Series, choice: Array) -> Array:
    """1.0 where the choice [N] is the answer [N], 0.0 where not, NaN where no answer is known."""
    known = answer.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isnan(known), np.nan, (known == choice).astype(np.float64))


def layer_table(run: Run, target: RunTarget, result: LayerSweep, site: str, position: str = "last") -> pd.DataFrame:
    """Put the run's keys in front of a sweep's table."""
    keys: dict[str, Any] = {key: run.info[key] for key in ("model", "dataset", "prompt")}
    table = result.table.assign(
        **keys,
        site=site,
        position=position,
        target=target.name,
        scoring=target.scoring,
        n_missing=int(np.isnan(target.values).sum()),
    )
    first = [*keys, "site", "position", "layer", "target", "scoring", "probe", "n", "n_missing"]
    return table[first + [column for column in table if column not in first]]


@contextmanager
def progress_bar(label: str, shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a function of (layers done, layers in all) that moves a bar on stderr, or None if not shown."""
    if not shown:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)

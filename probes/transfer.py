"""Transfer: a ridge probe trained on one run and tested on another, for every ordered pair of runs.

1. Runs that share no item: the probe is fitted to all rows of the training run and predicts all rows of the test run.
2. Runs that share items (base and instruct, two prompts of one dataset, a run with itself): the rows are split by
   `cross_run_folds`, and each test row is predicted by the probe of its fold, which saw neither its question nor
   its group in the training run. The diagonal is therefore the nested score of `probe_layers`.
3. The penalty, and with layer="nested" the layer, is chosen by held-out error inside the training rows.
4. Correlations and AUROC compare the test target with the prediction's deviation from the probe's mean prediction for
   the rows of the test run outside the fold, in units of the standard deviation there; neither knows a test row. On the
   diagonal these are mean and spread over the training rows, as in `sweep_record`. A change of the activations' mean or
   scale from run to run moves all predictions alike and costs nothing here; it costs r2, which takes predictions as
   they are.
5. Null: the test target is permuted. In linked runs the items' targets are permuted in all of them alike, and training
   and all choices are repeated; a probe of other items has not seen what is permuted, and stays as it is.
6. Intervals are those of `jackknife`: units (groups, or rows) are left out of testing and, where the runs are linked,
   of training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from . import scores
from .cross_run_folds import RunRows, cross_run_folds, question_keys
from .cross_run_permutations import permuted_targets
from .device import fewer_threads, resolve_device
from .folds import TargetError, check_target, is_binary, name_rows
from .jackknife import jackknife_interval
from .layers import RunTarget, item_activations, progress_bar, run_groups, run_target
from .linear import RIDGE_PENALTIES, check_penalties
from .measure_table import unknown_name
from .probed_rows import nested_layer
from .transfer_fits import RESCALE, TransferFit, transfer_fits

if TYPE_CHECKING:
    from ..extract.store import Run

Array = np.ndarray

RUN_KEYS = ("model", "dataset", "prompt")
COLUMNS = (
    *("train", "test", "target", "scoring", "site", "position", "layer", "nested", "rescale"),
    *(f"{side}_{key}" for side in ("train", "test") for key in RUN_KEYS),
    *("n_train", "n_test", "n_train_missing", "n_test_missing", "n_shared", "folds", "n_groups", "score_name", "score"),
    *("ci_low", "ci_high", "r2", "p", "permutation", "n_permutations", "note"),
)


def transfer_matrix(
    runs: Mapping[str, Run] | Sequence[Run],
    target: str = "human_entropy_normalized",
    *,
    layer: int | str = "nested",
    site: str = "resid_post",
    position: str = "last",
    scoring: str | None = None,
    groups: str | None = "subject",
    rescale: str = "train",
    n_splits: int = 10,
    penalties: float | Sequence[float] | None = None,
    n_permutations: int = 200,
    permute: str | None = None,
    missing: str = "drop",
    device: str = "auto",
    progress: bool = True,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Train a ridge probe on each run and test it on each: every ordered pair, the diagonal included.

    Args:
        runs: at least two open runs of one architecture, by name, or a list; then their names are what differs
            in model, dataset and prompt.
        target: as in `probe_layers`, by name.
        layer: the same layer of every run, or "nested": chosen inside the training rows of the training run.
        site, position: as in `probe_layers`.
        scoring: answer scoring behind `correct`, of every run; default the first of each.
        groups: items column whose values are kept together; None for none. A column with no value in a run
            groups nothing there. Subjects of the same name are one group only in runs that share items.
        rescale: how features of the test run are standardised: "train", with the training rows' mean and standard
            deviation, so that the probe is applied as it is; or "each", with those of the test run (its rows
            outside the fold, all rows where there are no folds), which asks only for the same direction after
            shift and scale. No target is used for either, and the diagonal is the same.
        n_splits: as in `sweep.sweep_targets`.
        penalties: alpha of ridge, one or several to choose from; default 1 to 10^7.
        n_permutations: size of the null of `p`.
        permute: "within" groups (default with groups), "groups" or "free"; see `permuted_targets` in
            `cross_run_permutations`.
        missing: items whose target is missing: "drop" (counted) or "raise".
        device: where torch fits: `cpu`, `cuda`, ...; `auto` takes a GPU where there is one.
        progress: show a progress bar on stderr.
        rng: source of folds and permutations.

    Returns:
        One row per ordered pair: `train`, `test` (names); `target`, `scoring` ("a -> b" where the two differ),
        `site`, `position`, `layer` (missing where folds chose different ones: see `note`), `nested`, `rescale`;
        `train_model`, `train_dataset`, `train_prompt` and the same of `test_`; `n_train` and `n_test` rows with a
        target, `n_train_missing`, `n_test_missing`, `n_shared` test rows whose question is in the training run,
        `folds` (missing where the probe was fitted to all rows), `n_groups` of the test run; `score_name` (`pearson`,
        or `auroc` for a 0/1 target), `score`, `ci_low`, `ci_high` (95 %, by `jackknife`; a probe that was fitted to
        all rows of another run is held fixed); `r2` (continuous targets: predictions as they are, against the mean of
        the test run's rows outside the fold, or of all its rows without folds; at most 1, below 0 where mean or scale
        does not transfer); `p` (one-sided, the test target permuted; of linked runs both targets alike, before training
        and all choices), `permutation`, `n_permutations`, `note`.

    Raises:
        ValueError: fewer than two runs, runs of one name, of different depth or width, an unknown name.
        TargetError: a target that is missing, constant or contradicted between runs, or cannot be split.
    """
    named = _named(runs)
    layers = _layers(named, layer, site, position)
    _check_names(rescale=rescale, missing=missing)
    if n_permutations < 1:
        raise ValueError(
            f"The n_permutations parameter of transfer_matrix must be at least 1. Got {n_permutations} instead."
        )
    grid = check_penalties(RIDGE_PENALTIES if penalties is None else penalties, "penalties", "transfer_matrix")
    sides = [_Side.of(name, run, target, scoring, groups, missing) for name, run in named.items()]
    _refuse_contradictions(sides, target)
    seed = int(rng.integers(2**63))
    folds = cross_run_folds([side.rows for side in sides], n_splits=n_splits, seed=seed)
    where = resolve_device(device, caller="transfer_matrix")
    rows_of = [side.rows for side in sides]
    targets, schemes = permuted_targets(rows_of, folds, permute, n_permutations=n_permutations, rng=rng)
    fits = transfer_fits(rows_of, folds, targets)
    largest = max(len(side.y) for side in sides)
    binary = all(is_binary(side.y) for side in sides)
    with progress_bar(f"transfer of {target}", progress) as report, fewer_threads(largest):
        for done, number in enumerate(layers):
            features = [side.features(number, site, position) for side in sides]
            _same_width(sides, features, number)
            for fit in fits:
                fit.offer(number, features, grid, rescale, device=where)
            if report is not None:
                report(done + 1, len(layers))
    keys = {"target": target, "site": site, "position": position, "nested": layer == "nested", "rescale": rescale}
    tests = [_Test(targets[at], _count(folds.codes(at)), folds.units[at], schemes[at]) for at, side in enumerate(sides)]
    rows = []
    for a, first in enumerate(sides):
        for b, second in enumerate(sides):
            own = [fit for fit in fits if fit.train == a and fit.part_of(b) is not None]
            linked = folds.linked(a, b)
            chosen, split = nested_layer(np.array([fit.layer for fit in own]))
            facts = {
                "train": first.name,
                "test": second.name,
                "scoring": _both(first.target.scoring, second.target.scoring),
                "layer": chosen,
                **first.keys("train"),
                **second.keys("test"),
                "n_shared": int(sum(key in first.known for key in second.rows.questions)),
                "folds": len(own) if linked else None,
                **tests[b].scored(own, b, binary, [folds.notes[b] if linked else None, split]),
            }
            rows.append({**keys, **facts})
    return pd.DataFrame(rows)[list(COLUMNS)].astype(dict.fromkeys(("layer", "folds", "n_groups"), "Int64"))


@dataclass(frozen=True, eq=False)
class _Side:
    """One run: its rows with a target."""

    name: str
    run: Run
    target: RunTarget
    present: Array
    rows: RunRows
    known: frozenset[Any]

    @classmethod
    def of(cls, name: str, run: Run, target: str, scoring: str | None, groups: str | None, missing: str) -> _Side:
        try:
            wanted = run_target(run, target, scoring)
            present = np.isfinite(wanted.values)
            if missing == "raise" and not present.all():
                gaps = name_rows(np.flatnonzero(~present), run.items["id"].tolist())
                raise TargetError(
                    f"The target {target!r} must be known for every item. Got none for {gaps}; pass missing='drop' to "
                    "leave those items out."
                )
            if not present.any():
                raise TargetError(f"The target {target!r} is missing for every item of the run.")
            y = check_target(wanted.values[present], names=run.items["id"].to_numpy()[present].tolist())
            given = run_groups(run, groups)
        except ValueError as error:
            error.add_note(f"in the run {name!r} given to transfer_matrix")
            raise
        keys = question_keys(run.items[present])
        rows = RunRows(name, keys, None if given is None else given[present], y)
        return cls(name, run, wanted, present, rows, frozenset(keys))

    @property
    def y(self) -> Array:
        return self.rows.target

    @property
    def items(self) -> list[tuple[Any, Any]]:
        """Id and question of each row."""
        return list(zip(self.run.items["id"].to_numpy()[self.present].tolist(), self.rows.questions, strict=True))

    def keys(self, side: str) -> dict[str, Any]:
        counts = {f"n_{side}": len(self.y), f"n_{side}_missing": int((~self.present).sum())}
        return {f"{side}_{key}": self.run.info[key] for key in RUN_KEYS} | counts

    def features(self, layer: int, site: str, position: str) -> Array:
        rows = item_activations(self.run, layer, site, position)[self.present].astype(np.float64)
        wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if wrong.size:
            names = self.run.items["id"].to_numpy()[self.present].tolist()
            raise ValueError(
                f"Activations of layer {layer} of the run {self.name!r} must be finite. Got NaN or inf in "
                f"{name_rows(wrong, names)}; extract those items again, in float32 if the model overflows."
            )
        return rows


@dataclass(frozen=True, eq=False)
class _Test:
    """The test target of a run and its permutations [n, 1 + B], the same for every training run."""

    columns: Array
    n_groups: int | None
    units: Array
    scheme: str

    def scored(self, fits: list[TransferFit], run: int, binary: bool, known: list[str | None]) -> dict[str, Any]:
        """Put the predictions of the fits together and score them."""
        numbers, units = np.unique(self.units, return_inverse=True)
        y = self.columns[:, 0]
        n = len(y)
        prediction, deviations, baseline = np.empty(n), np.empty(self.columns.shape), np.empty(n)
        left_out = np.empty((n, len(numbers)))
        for fit in fits:
            place = fit.part_of(run)
            assert place is not None
            rows, found = fit.parts[place].rows, fit.predictions[place]
            # A probe that knows no permutations is the same for all of them.
            prediction[rows], deviations[rows] = found.values, found.deviations
            baseline[rows] = y[fit.parts[place].outside].mean()
            left_out[rows] = found.deviations[:, :1]
            shared, trained, tested = np.intersect1d(found.trained, numbers, return_indices=True)
            if len(shared):
                left_out[np.ix_(rows, tested)] = found.left_out[:, trained]
        flat = all(fit.flat for fit in fits)
        score, low, high, p = (0.5 if binary else np.nan), np.nan, np.nan, np.nan
        if not flat:
            every = scores.auroc(self.columns, deviations) if binary else _pearson_columns(self.columns, deviations)
            score = float(every[0])
        if not flat and not np.isnan(score):
            low, high = jackknife_interval(y, deviations[:, 0], left_out, units, binary=binary)
            p = scores.p_value(score, every[1:])
        notes = [note for note in known if note]
        if flat:
            notes.append("the training run's activations are the same in every row")
        elif np.isnan(score):
            notes.append("the predictions are the same in every row")
        elif np.isnan(low):
            notes.append("no interval: there is no score without some of the groups, or rows")
        r2 = np.nan if binary else float(scores.r2(y, prediction, baseline))
        return {
            "n_groups": self.n_groups,
            "score_name": "auroc" if binary else "pearson",
            "score": score,
            "ci_low": low,
            "ci_high": high,
            "r2": r2,
            "p": p,
            "permutation": self.scheme,
            "n_permutations": self.columns.shape[1] - 1,
            "note": "; ".join(notes) or None,
        }


def _pearson_columns(x: Array, y: Array) -> Array:
    """Pearson correlation of columns; that of a constant column is 0, and NaN in the first."""
    found = scores.pearson_columns(x, y)
    return np.where(np.isnan(found) & (np.arange(len(found)) > 0), 0.0, found)


def _count(codes: Array | None) -> int | None:
    return None if codes is None else int(codes.max()) + 1


def _named(runs: Mapping[str, Run] | Sequence[Run]) -> dict[str, Run]:
    """The runs by name; those of a list are named by what differs between them."""
    if isinstance(runs, Mapping):
        named = {str(name): run for name, run in runs.items()}
    else:
        listed = list(runs)
        differing = [key for key in RUN_KEYS if len({run.info[key] for run in listed}) > 1]
        names = [" ".join(str(run.info[key]) for key in differing) for run in listed]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            first = twice[0] or "the same model, dataset and prompt"
            raise ValueError(
                "The runs parameter of transfer_matrix must hold runs that differ in model, dataset or prompt. Got "
                f"{first!r} twice; pass a mapping of names of your own to runs."
            )
        named = dict(zip(names, listed, strict=True))
    if len(named) < 2:
        raise ValueError(
            f"The runs parameter of transfer_matrix must hold at least two runs. Got {len(named)} instead; "
            "probe_layers scores a probe on the run it was trained on."
        )
    return named


def _check_names(**names: str) -> None:
    known = {"rescale": RESCALE, "missing": ("drop", "raise")}
    for parameter, name in names.items():
        if name not in known[parameter]:
            raise ValueError(unknown_name(parameter, "transfer_matrix", "one of these", name, known[parameter]))


def _layers(runs: Mapping[str, Run], layer: int | str, site: str, position: str) -> list[int]:
    """The layers to fit: the one asked for, or those that all runs have."""
    for key, what in (("n_layers", "depth"), ("d_model", "width")):
        sizes = {name: run.info[key] for name, run in runs.items() if key in run.info}
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"{size} of {name!r}" for name, size in sizes.items())
            raise ValueError(
                f"The runs parameter of transfer_matrix must hold runs of one {what} ({key}): a probe of one "
                f"architecture reads no other. Got {listed} instead."
            )
    for name, run in runs.items():
        place = f"of the run {name!r}"
        if site not in run.sites:
            raise ValueError(unknown_name("site", "transfer_matrix", f"a site {place}", site, run.sites))
        if position not in run.positions:
            known = run.positions
            raise ValueError(unknown_name("position", "transfer_matrix", f"a position {place}", position, known))
        if layer != "nested" and layer not in run.layers:
            known = [*map(str, run.layers), "nested"]
            raise ValueError(unknown_name("layer", "transfer_matrix", f"a layer {place}", str(layer), known))
    if layer != "nested":
        return [int(layer)]
    shared = [number for number in next(iter(runs.values())).layers if all(number in r.layers for r in runs.values())]
    if not shared:
        listed = ", ".join(f"{run.layers} of {name!r}" for name, run in runs.items())
        raise ValueError(f"The runs parameter of transfer_matrix must hold runs with a layer in common. Got {listed}.")
    return shared


def _same_width(sides: Sequence[_Side], features: Sequence[Array], layer: int) -> None:
    if len({rows.shape[1] for rows in features}) > 1:
        listed = ", ".join(f"{rows.shape[1]} of {side.name!r}" for side, rows in zip(sides, features, strict=True))
        raise ValueError(
            f"The runs parameter of transfer_matrix must hold runs of one width. Got {listed} at layer {layer} instead."
        )


def _refuse_contradictions(sides: Sequence[_Side], target: str) -> None:
    """People's answers to an item are the same whichever model or prompt is asked; correctness is not."""
    if target == "correct":
        return
    for number, first in enumerate(sides):
        own = dict(zip(first.items, first.y.tolist(), strict=True))
        for second in sides[number + 1 :]:
            odd = [
                item[0]
                for item, value in zip(second.items, second.y.tolist(), strict=True)
                if item in own and not np.isclose(own[item], value, rtol=1e-9, atol=1e-12)
            ]
            if odd:
                raise TargetError(
                    f"The runs parameter of transfer_matrix must hold runs whose items agree. Got another {target} in "
                    f"{first.name!r} and {second.name!r} for items {', '.join(map(str, odd[:5]))}"
                    f"{f' and {len(odd) - 5} more' if len(odd) > 5 else ''}, which are the same question by the same "
                    "id: one of the runs was made from other responses; extract it again, or give those items ids of "
                    "their own."
                )


def _both(first: str | None, second: str | None) -> str | None:
    return first if first == second else f"{first} -> {second}"

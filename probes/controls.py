"""Does a probe beat what needs no trained activations? The probe's nested predictions against those of baselines.

1. The probe is swept over the layers, layer and penalty chosen inside each training fold (`sweep`).
2. Each control predicts the same rows in the same folds, its penalty chosen on the same inner rows.
3. Both are scored by their deviations from the training means, in units of their spread over the training rows
   (`sweep_record`): Pearson r, or AUROC for a 0/1 target.
4. Probe and control are resampled together, by whole groups. Where the interval of the difference reaches 0, the
   control is as good as far as these items can tell, and the probe's score is no evidence of more than the control has.

The controls are those of `control_features`, the output measures (`output_columns`) and, where a run of one is given,
the same model before training: Zhang and Bowman 2018, arXiv 1809.10040; Hewitt and Liang 2019, arXiv 1909.03368, for
why a score alone says little of what a representation holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from . import scores
from .control_features import TFIDF_PENALTIES, RandomDirections, TextFeatures, options_and_length
from .layers import item_activations, progress_bar, sweep_run
from .linear import RIDGE_PENALTIES, check_penalties
from .nested_ridge import OutOfFold, nested_ridge
from .output_columns import MeasureFeatures, output_columns
from .probed_rows import ProbedRows, nested_layer
from .sweep import LayerSweep

if TYPE_CHECKING:
    from ..extract.store import Run

Array = np.ndarray

CONTROLS = ("options_and_length", "tfidf", "output_measures", "untrained", "random_projection")
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
    "control",
    "n",
    "n_missing",
    "n_groups",
    "n_features",
    "score_name",
    "score",
    "ci_low",
    "ci_high",
    "r2",
    "partial",
    "difference",
    "difference_ci_low",
    "difference_ci_high",
    "p",
    "as_good",
    "note",
)
# What must agree for a run of the untrained model to be one of the same items, asked in the same words.
SAME = ("items", "prompt", "chat", "permutations", "prompts", "tokens", "d_model", "n_layers")


@dataclass(frozen=True, eq=False)
class _Side:
    """Predictions of the probe or of a control.

    Attributes:
        predictions: [m, n], out of fold; m > 1 for a control that is drawn several times.
        deviations: [m, n], what is scored: comparable over folds.
        n_features: how many numbers they are made of.
        layer: that every fold chose; None otherwise, or where there is none.
        note: what else to know.
    """

    predictions: Array
    deviations: Array
    n_features: int
    layer: int | None
    note: str | None


def probe_controls(
    run: Run,
    target: str | Array = "human_entropy_normalized",
    *,
    untrained: Run | None = None,
    layers: Sequence[int] | None = None,
    site: str = "resid_post",
    position: str = "last",
    scoring: str | None = None,
    groups: str | Array | None = "subject",
    n_splits: int = 10,
    penalties: float | Sequence[float] | None = None,
    n_random: int = 20,
    n_directions: int = 10,
    missing: str = "raise",
    n_bootstrap: int = 2000,
    device: str = "auto",
    progress: bool = True,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Compare a ridge probe with the baselines that it must beat, out of fold, on the same items and folds.

    Args:
        run: an open run.
        target, layers, site, position, scoring, groups, n_splits, missing, device: as in `probe_layers`.
        untrained: a run of the untrained model (`Checkpoint.untrained`) on the same items and prompt; None leaves this
            control out.
        penalties: to choose from, for the probe and for all controls but `tfidf`; default 1 to 10^7.
        n_random: draws of the random directions, at least 2.
        n_directions: how many directions make one draw.
        n_bootstrap: resamples of whole groups, or of rows where there are none.
        progress: show a progress bar on stderr.
        rng: source of folds, directions and resamples.

    Returns:
        One row for the probe and for each control: `model`, `dataset`, `prompt`, `site`, `position`, `layer` (that all
        folds chose; missing where they differ, which `note` spells out, and for a control without layers), `target`,
        `scoring`, `probe`; `control`:

        - `probe`, the ridge probe, layer and penalty chosen inside the training folds;
        - `options_and_length`, number of options, tokens of the prompt, characters and words of the question;
        - `tfidf`, words of the question;
        - `output_measures`, every measure of the run under every scoring and nucleus, and its rank;
        - `untrained`, the probe on the untrained model;
        - `random_projection`, the probe's layer of each fold along `n_directions` random directions: `score` is the
          mean over the draws, and each resample takes one of them, so that the interval spans items and draws;

        `n`, `n_missing`, `n_groups`; `n_features` (over the folds, their mean); `score_name` (`pearson` or `auroc`),
        `score` with its 95 % interval `ci_low`, `ci_high`; `r2` against the training means; `partial`, the Pearson
        correlation of target and prediction with the prediction of `options_and_length` held constant (missing for
        that one itself); `difference`, probe minus control, with its paired interval `difference_ci_low`,
        `difference_ci_high`; `p`, one-sided, (1 + resamples in which the difference is at most 0) / (1 + resamples);
        `as_good`, True where that interval does not lie above 0; `note`. A prediction that is the training mean in
        every row has no correlation (an AUROC of 0.5): no difference can be taken from it, and it is not as good; if
        it is the probe's, every control is. The comparisons are missing in the row of the probe.

    Raises:
        ValueError: as `probe_layers`; an `untrained` run of other items, prompt or width, or of the very weights of
            `run` (the field is named); fewer than 2 draws or 1 direction.
    """
    caller = "probe_controls"
    for name, count, least in (("n_random", n_random, 2), ("n_directions", n_directions, 1)):
        if count < least:
            raise ValueError(f"The {name} parameter of {caller} must be at least {least}. Got {count} instead.")
    grid = check_penalties(RIDGE_PENALTIES if penalties is None else penalties, "penalties", caller)
    if untrained is not None:
        _refuse_other(run, untrained)
    rows = ProbedRows.of(
        run, target, scoring=scoring, groups=groups, n_splits=n_splits, missing=missing, caller=caller, rng=rng
    )
    settings: dict[str, Any] = {"site": site, "position": position, "layers": layers, "groups": None, "device": device}
    settings |= {"folds": rows.folds, "penalties": grid, "n_permutations": 0, "n_bootstrap": 1}
    sides: dict[str, _Side] = {}
    with progress_bar(f"probing {rows.target.name}", progress) as report:
        (swept,) = sweep_run(run, [rows.target], progress=report, rng=rng, **settings)
    activations = {
        layer: item_activations(run, layer, site, position)[rows.present]
        for layer in dict.fromkeys(swept.nested_layers.tolist())
    }
    width = next(iter(activations.values())).shape[1]
    sides["probe"] = _swept(swept, width, None)
    sides |= _without_activations(run, rows, grid)
    if untrained is not None:
        with progress_bar("probing the untrained model", progress) as report:
            (twin,) = sweep_run(untrained, [rows.target], progress=report, rng=rng, **settings)
        named = str(untrained.info.get("checkpoint", untrained.info["model"]))
        sides["untrained"] = _swept(twin, width, named)
    of_fold = [activations[layer] for layer in swept.nested_layers.tolist()]
    drawn = [
        nested_ridge(
            RandomDirections(of_fold, rng.standard_normal((width, n_directions))), rows.y, rows.folds, penalties=grid
        )
        for _ in range(n_random)
    ]
    deviations = np.stack([found.deviations for found in drawn])
    spread = np.std([rows.score(row) for row in deviations], ddof=1)
    note = f"mean of {n_random} draws of {n_directions} directions, sd {spread:.3f}"
    layer, chosen = nested_layer(swept.nested_layers)
    sides["random_projection"] = _Side(
        np.stack([found.predictions for found in drawn]), deviations, n_directions, layer, _join(note, chosen)
    )
    return _table(run, rows, sides, site, position, n_bootstrap, rng)


def _swept(result: LayerSweep, width: int, note: str | None) -> _Side:
    layer, chosen = nested_layer(result.nested_layers)
    return _Side(result.nested_predictions[None], result.nested_deviations[None], width, layer, _join(note, chosen))


def _fitted(found: OutOfFold, note: str | None) -> _Side:
    return _Side(found.predictions[None], found.deviations[None], int(np.rint(found.n_features.mean())), None, note)


def _without_activations(run: Run, rows: ProbedRows, grid: list[float]) -> dict[str, _Side]:
    """The controls that read no activations: lengths, words and the output."""
    lengths = options_and_length(run)[rows.present]
    found = nested_ridge(lengths.to_numpy(), rows.y, rows.folds, penalties=grid)
    fixed = [name for name in lengths if not name.startswith("log_") and lengths[name].nunique() == 1]
    note = f"{' and '.join(fixed)} {'does' if len(fixed) == 1 else 'do'} not vary" if fixed else None
    sides = {"options_and_length": _fitted(found, note)}

    texts = TextFeatures(run.items["question"].astype(str).to_numpy()[rows.present])
    found = nested_ridge(texts, rows.y, rows.folds, penalties=TFIDF_PENALTIES, scale=False)
    sides["tfidf"] = _fitted(found, None)

    columns = output_columns(run)[rows.present]
    measures = MeasureFeatures(columns)
    found = nested_ridge(measures, rows.y, rows.folds, penalties=grid)
    gaps = [f"{name} in {int(columns[name].isna().sum())}" for name in measures.gaps]
    listed = ", ".join(gaps[:4]) + (f" and {len(gaps) - 4} more" if len(gaps) > 4 else "")
    note = f"marked where missing, and filled with the training mean: {listed} items" if gaps else None
    sides["output_measures"] = _fitted(found, note)
    return sides


def _table(
    run: Run,
    rows: ProbedRows,
    sides: dict[str, _Side],
    site: str,
    position: str,
    n_bootstrap: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    weights = rows.weights(n_bootstrap, rng)
    which = rng.integers(2**32, size=n_bootstrap)
    deviations = {name: side.deviations for name, side in sides.items()}
    values = {name: float(np.mean([rows.score(row) for row in part])) for name, part in deviations.items()}
    draws = {name: _one_of(part, rows, weights, which) for name, part in deviations.items()}
    rounding = 1e-12 * np.abs(rows.y).max()
    flat = {name: bool((np.abs(side.predictions - rows.baseline) <= rounding).all()) for name, side in sides.items()}
    keys = rows.keys(run, site, position, "ridge")
    counts = {
        "n": len(rows.y),
        "n_missing": int((~rows.present).sum()),
        "n_groups": rows.folds.n_groups,
        "score_name": rows.score_name,
    }
    table = []
    for name, side in sides.items():
        low, high = scores.percentile_interval(draws[name]) if not flat[name] else (np.nan, np.nan)
        partial = np.nan
        if name != "options_and_length" and not flat[name]:
            length = deviations["options_and_length"][0]
            partial = float(np.mean([_partial(rows.y, row, length) for row in deviations[name]]))
        row = {
            **keys,
            "layer": side.layer,
            "control": name,
            **counts,
            "n_features": side.n_features,
            "score": values[name],
            "ci_low": low,
            "ci_high": high,
            "r2": float(np.mean([rows.r2(predictions) for predictions in side.predictions])),
            "partial": partial,
            **dict.fromkeys(("difference", "difference_ci_low", "difference_ci_high", "p"), np.nan),
            "as_good": False,
        }
        notes = [side.note, rows.folds.note if name == "probe" else None]
        if flat[name]:
            notes.append("every prediction is the training mean")
            row["as_good"] = False
        elif np.isnan(low):
            notes.append("no interval: too many resamples have no score")
        if name != "probe":
            row |= _difference(values, draws, name, flat)
        table.append({**row, "note": _join(*notes)})
    kinds = {"layer": "Int64", "n_groups": "Int64", "as_good": bool}
    return pd.DataFrame(table, columns=list(COLUMNS)).astype(kinds)


def _one_of(deviations: Array, rows: ProbedRows, weights: Array, which: Array) -> Array:
    """Scores [b] in resamples, of one draw of the predictions [m, n] in each."""
    drawn = np.stack([rows.draws(row, weights) for row in deviations])
    return drawn[which % len(deviations), np.arange(len(weights))]


def _difference(values: dict[str, float], draws: dict[str, Array], name: str, flat: dict[str, bool]) -> dict[str, Any]:
    """The probe's score less a control's, over resamples in which both have one."""
    if flat["probe"] or flat[name]:
        return {"as_good": flat["probe"]}
    differences = draws["probe"] - draws[name]
    low, high = scores.percentile_interval(differences)
    known = differences[~np.isnan(differences)]
    p = float((1 + np.sum(known <= 0)) / (1 + len(known))) if len(known) else np.nan
    return {
        "difference": values["probe"] - values[name],
        "difference_ci_low": low,
        "difference_ci_high": high,
        "p": p,
        "as_good": not low > 0,
    }


def _partial(y: Array, x: Array, control: Array) -> float:
    """Pearson correlation of y and x with one control held constant; the plain one where the control is constant."""
    r_xy, r_xz, r_yz = scores.pearson(x, y), scores.pearson(x, control), scores.pearson(y, control)
    if np.isnan(r_xz):
        return r_xy
    left = (1 - r_xz**2) * (1 - r_yz**2)
    return float((r_xy - r_xz * r_yz) / np.sqrt(left)) if left > 1e-10 else float("nan")


def _refuse_other(run: Run, untrained: Run) -> None:
    """Refuse a run that differs in more than its weights, and one that does not differ in them."""
    for field in SAME:
        mine, theirs = run.info.get(field), untrained.info.get(field)
        if mine != theirs:
            raise ValueError(
                f"The untrained parameter of probe_controls must be a run of the same items, prompt and width. Its "
                f"{field} is {_short(theirs)}, and that of the run {_short(mine)}; extract "
                "checkpoint.untrained() on the same items with the same prompt."
            )
    for field in ("weights", "checkpoint"):
        if field in run.info and run.info[field] == untrained.info.get(field):
            raise ValueError(
                f"The untrained parameter of probe_controls must be a run of other weights than the run's. Its {field} "
                f"is the same, {_short(run.info[field])}; extract checkpoint.untrained() instead."
            )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _join(*notes: str | None) -> str | None:
    return "; ".join(note for note in notes if note) or None

"""Does a probe beat what needs no trained activations? The probe's nested predictions against those of baselines.

1. The probe is swept over the layers, layer and penalty chosen inside each training fold (`sweep`).
2. Each control predicts the same rows in the same folds, its penalty chosen on the same inner rows.
3. Both are scored by their deviations from the training means, in units of their spread over the training rows
   (`sweep_record`): Pearson r, or AUROC for a 0/1 target.
4. Their difference has an interval by a paired jackknife that sees testing and training (`control_comparison`). Where
   it reaches 0, the control is as good as far as these items can tell, and the probe's score is no evidence of more
   than the control has.

The controls are those of `control_features`, the output measures (`output_columns`) and, where a run of one is given,
the same model before training: Zhang and Bowman 2018, arXiv 1809.10040; Hewitt and Liang 2019, arXiv 1909.03368, for
why a score alone says little of what a representation holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from . import scores
from .control_comparison import Side, changes, difference, score_interval
from .control_features import TFIDF_PENALTIES, LayerOfFold, RandomDirections, TextFeatures, options_and_length
from .device import resolve_device
from .jackknife import jackknife_units
from .layers import item_activations, progress_bar, sweep_run
from .linear import RIDGE_PENALTIES, check_penalties
from .nested_ridge import OutOfFold, nested_ridge
from .output_columns import MeasureFeatures, output_columns
from .probed_rows import ProbedRows, nested_layer

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
        progress: show a progress bar on stderr.
        rng: source of folds and directions.

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
          mean over the draws, and the intervals span items and draws;

        `n`, `n_missing`, `n_groups`; `n_features` (over the folds, their mean); `score_name` (`pearson` or `auroc`),
        `score` with its 95 % interval `ci_low`, `ci_high`; `r2` against the training means; `partial`, the Pearson
        correlation of target and prediction with the prediction of `options_and_length` held constant (missing for
        that one itself); `difference`, probe minus control, with its paired 95 % interval `difference_ci_low`,
        `difference_ci_high` and the one-sided `p` of a difference of at most 0; `as_good`, True where that interval
        does not lie above 0; `note`. A prediction that is the training mean in every row has no correlation (an AUROC
        of 0.5): no difference can be taken from it, and it is not as good; if it is the probe's, every control is. The
        comparisons are missing in the row of the probe.

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
    at, units = resolve_device(device, caller=caller), jackknife_units(rows.folds)
    fits: dict[str, Any] = {"y": rows.y, "folds": rows.folds, "units": units}

    def swept(source: Run, label: str) -> tuple[list[Array], int | None, str | None]:
        """For each fold the activations of the layer that it chose, that layer, and which folds chose which."""
        with progress_bar(label, progress) as report:
            (result,) = sweep_run(
                source, [rows.target], site=site, position=position, layers=layers, groups=None, folds=rows.folds,
                penalties=grid, n_permutations=0, n_bootstrap=1, device=at, progress=report, rng=rng,
            )  # fmt: skip
        chosen = result.nested_layers.tolist()
        read = {layer: item_activations(source, layer, site, position)[rows.present] for layer in dict.fromkeys(chosen)}
        return [read[layer] for layer in chosen], *nested_layer(result.nested_layers)

    of_fold, layer, chosen = swept(run, f"probing {rows.target.name}")
    # With the layer of each fold given, this is the nested probe of the sweep.
    found = nested_ridge(LayerOfFold(of_fold), penalties=grid, device=at, **fits)
    sides = {"probe": _side([found], layer, chosen)}
    sides |= _without_activations(run, rows, grid, fits)
    if untrained is not None:
        of_twin, twin_layer, twin_chosen = swept(untrained, "probing the untrained model")
        found = nested_ridge(LayerOfFold(of_twin), penalties=grid, device=at, **fits)
        named = str(untrained.info.get("checkpoint", untrained.info["model"]))
        sides["untrained"] = _side([found], twin_layer, _join(named, twin_chosen))
    width = of_fold[0].shape[1]
    drawn = [
        nested_ridge(RandomDirections(of_fold, rng.standard_normal((width, n_directions))), penalties=grid, **fits)
        for _ in range(n_random)
    ]
    spread = np.std([rows.score(found.deviations) for found in drawn], ddof=1)
    note = f"mean of {n_random} draws of {n_directions} directions, sd {spread:.3f}"
    sides["random_projection"] = _side(drawn, layer, _join(note, chosen))
    return _table(rows, sides, units, rows.keys(run, site, position, "ridge"))


def _side(fits: Sequence[OutOfFold], layer: int | None, note: str | None) -> Side:
    return Side(
        np.stack([found.predictions for found in fits]),
        np.stack([found.deviations for found in fits]),
        [found.left_out for found in fits if found.left_out is not None],
        int(np.rint(np.mean([found.n_features for found in fits]))),
        layer,
        note,
    )


def _without_activations(run: Run, rows: ProbedRows, grid: list[float], fits: dict[str, Any]) -> dict[str, Side]:
    """The controls that read no activations: lengths, words and the output."""
    lengths = options_and_length(run)[rows.present]
    fixed = [name for name in lengths if not name.startswith("log_") and lengths[name].nunique() == 1]
    note = f"{' and '.join(fixed)} {'does' if len(fixed) == 1 else 'do'} not vary" if fixed else None
    sides = {"options_and_length": _side([nested_ridge(lengths.to_numpy(), penalties=grid, **fits)], None, note)}

    texts = TextFeatures(run.items["question"].astype(str).to_numpy()[rows.present])
    sides["tfidf"] = _side([nested_ridge(texts, penalties=TFIDF_PENALTIES, scale=False, **fits)], None, None)

    columns = output_columns(run)[rows.present]
    measures = MeasureFeatures(columns)
    gaps = [f"{name} in {int(columns[name].isna().sum())}" for name in measures.gaps]
    listed = ", ".join(gaps[:4]) + (f" and {len(gaps) - 4} more" if len(gaps) > 4 else "")
    note = f"marked where missing, and filled with the training mean: {listed} items" if gaps else None
    sides["output_measures"] = _side([nested_ridge(measures, penalties=grid, **fits)], None, note)
    return sides


def _table(rows: ProbedRows, sides: dict[str, Side], units: Array, keys: dict[str, Any]) -> pd.DataFrame:
    counts = {
        "n": len(rows.y),
        "n_missing": int((~rows.present).sum()),
        "n_groups": rows.folds.n_groups,
        "score_name": rows.score_name,
    }
    flat = {name: side.flat(rows) for name, side in sides.items()}
    own = {name: changes(side, rows, units) for name, side in sides.items()}
    table = []
    for name, side in sides.items():
        bounds = (np.nan, np.nan) if flat[name] else score_interval(side, own[name], rows, units)
        partial = np.nan
        if name != "options_and_length" and not flat[name]:
            length = sides["options_and_length"].deviations[0]
            partial = float(np.mean([_partial(rows.y, deviation, length) for deviation in side.deviations]))
        apart: dict[str, Any] = dict.fromkeys(("difference", "difference_ci_low", "difference_ci_high", "p"), np.nan)
        apart["as_good"] = name != "probe" and flat["probe"]
        if name != "probe" and not (flat["probe"] or flat[name]):
            apart = difference(own["probe"], own[name])
        notes = [side.note, rows.folds.note if name == "probe" else None]
        if flat[name]:
            notes.append("every prediction is the training mean")
        elif np.isnan(bounds[0]):
            notes.append("no interval: the score is undefined without some of the rows")
        table.append(
            {
                **keys,
                **counts,
                "layer": side.layer,
                "control": name,
                "n_features": side.n_features,
                "score": own[name].value,
                "ci_low": bounds[0],
                "ci_high": bounds[1],
                "r2": float(np.mean([rows.r2(predictions) for predictions in side.predictions])),
                "partial": partial,
                **apart,
                "note": _join(*notes),
            }
        )
    kinds = {"layer": "Int64", "n_groups": "Int64", "as_good": bool}
    return pd.DataFrame(table, columns=list(COLUMNS)).astype(kinds)


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

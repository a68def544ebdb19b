"""Base against instruct in the representation: debiased CKA and the cosine of the probes' directions, by layer.

1. The items of both runs are matched by id.
2. CKA (`similarity`): do the two models place the same items alike? Null: the items of one run permuted.
3. Cosines (`model_directions`): is a target's direction the same in both?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .device import fewer_threads, resolve_device
from .directions import LEAST_ROWS, NULLS, DirectionCosines, TargetPair, largest_p, pair_targets
from .folds import TargetError, group_codes, name_rows
from .layers import item_activations, progress_bar, run_groups, run_target
from .linear import RIDGE_PENALTIES, check_penalties
from .matched_items import MatchedItems
from .measure_table import unknown_name
from .model_directions import METRICS, model_cosines
from .ridge_path import Standardization
from .scores import p_value
from .similarity import KernelAlignment

if TYPE_CHECKING:
    from ..extract.store import Run

Array = np.ndarray


def geometry(
    base: Run,
    instruct: Run,
    *,
    pair: str | None = None,
    targets: Sequence[str] = ("human_entropy_normalized",),
    scoring: str | None = None,
    layers: Sequence[int] | None = None,
    site: str = "resid_post",
    position: str = "last",
    groups: str | Array | None = "subject",
    penalties: float | Sequence[float] | None = None,
    n_halvings: int = 5,
    n_permutations: int = 200,
    permute: str | None = None,
    device: str = "auto",
    progress: bool = True,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Compare the layers of a base and an instruct model on the items that both were asked.

    Args:
        base, instruct: open runs of two models of one depth.
        pair: what the pair is called; default after the base model.
        targets: whose directions are compared, as in `probe_layers`, by name; may be empty. `correct` is that of
            each model.
        scoring: answer scoring behind `correct`; default the first of each run.
        layers: default those that both runs have.
        site, position: as in `probe_layers`.
        groups: column of the base run's items, or a group for each of its items [N]; None for none. Groups are left
            out whole by the jackknife, never divided between halves, and permuted within.
        penalties, n_halvings, permute: as in `directions.direction_cosines`. The null of CKA is permuted `within`
            groups where there are groups, and freely with permute="free".
        n_permutations: size of each null.
        device: where torch fits: `cpu`, `cuda`, ...; `auto` takes a GPU where there is one.
        progress: show a progress bar on stderr.
        rng: source of halvings and permutations, target by target, and then of the permutations of CKA.

    Returns:
        One row per layer and target (without targets one per layer): `pair`, `base`, `instruct` (models), `dataset`,
        `prompt` ("a -> b" where they differ), `site`, `position`, `layer`, `n` items, `n_base_only` and
        `n_instruct_only` left out, `n_groups`;

        - `cka` (debiased, in [-1, 1]) of the raw activations with its 95 % jackknife interval `cka_ci_low`,
          `cka_ci_high`; `cka_null_mean`, `cka_null_sd` and the one-sided `cka_p` with the items of one model
          permuted; `cka_standardized` with `cka_standardized_ci_low` and `_ci_high`, each feature in units of its
          standard deviation, so that a few large features do not decide;
        - `target`, `scoring`, `n_target` items with it in both runs;
        - `cosine` in the pooled covariance; `cosine_null` (whose target is permuted in the null that p comes from:
          `instruct`, `base` or `both`), `cosine_null_mean`, `cosine_null_sd`, `cosine_p` (two-sided, the largest of
          the three) and `cosine_p_max` (against the maximum over layers); `base_reliability`,
          `instruct_reliability`, and `cosine_disattenuated`, the cosine over the root of their product (NaN unless
          both are above their null);
        - `cosine_plain`, `cosine_plain_p`, `cosine_plain_p_max`: in raw units;

        then `permutation`, `n_permutations`, `n_halvings`, `note`. Directions in activations of different widths have
        no cosine: NaN, with a note.

    Raises:
        ValueError: the same weights twice, models of different depth, runs without items or layers in common, an id
            that stands for different questions, an unknown name, activations that are not finite.
        TargetError: a target that cannot be learnt in halves, or that differs between the runs for the same item.
    """
    chosen = _checked(base, instruct, layers, site, position, n_permutations)
    matched = MatchedItems.of(base, instruct, caller="geometry")
    codes = _codes(base, groups, matched)
    grid = check_penalties(RIDGE_PENALTIES if penalties is None else penalties, "penalties", "geometry")
    halved = [
        _HalvedTarget.of(base, instruct, name, scoring, matched, codes, n_halvings, n_permutations, permute, rng)
        for name in targets
    ]
    within = codes is not None and permute != "free"
    orders = [_order(codes if within else None, len(matched.ids), rng) for _ in range(n_permutations)]
    where = resolve_device(device, caller="geometry")
    similar: list[dict[str, float]] = []
    cosines: list[list[dict[str, DirectionCosines] | None]] = [[] for _ in halved]
    note = None
    with progress_bar("comparing two models", progress) as report, fewer_threads(len(matched.ids)):
        for done, layer in enumerate(chosen):
            sides = [
                _activations(run, layer, site, position, rows)
                for run, rows in ((base, matched.first), (instruct, matched.second))
            ]
            similar.append(_similarity(sides, codes, orders))
            widths = [side.shape[1] for side in sides]
            if widths[0] != widths[1]:
                note = f"no cosine: {widths[0]} features in the base model, {widths[1]} in the instruct model"
            for own, target in zip(cosines, halved, strict=True):
                first, second = (side[target.rows] for side in sides)
                own.append(None if note else model_cosines(first, second, target.halves, grid, device=where))
            if report is not None:
                report(done + 1, len(chosen))
    keys = {
        "pair": base.info["model"] if pair is None else pair,
        "base": base.info["model"],
        "instruct": instruct.info["model"],
        **{key: _both(base.info[key], instruct.info[key]) for key in ("dataset", "prompt")},
        "site": site,
        "position": position,
    }
    counts = {
        "n": len(matched.ids),
        "n_base_only": len(matched.first_only),
        "n_instruct_only": len(matched.second_only),
        "n_groups": None if codes is None else int(codes.max()) + 1,
    }
    last = {"n_permutations": n_permutations, "n_halvings": n_halvings, "note": note}
    per_target = [
        (target.facts, _cosine_columns(own), target.halves.permutation)
        for target, own in zip(halved, cosines, strict=True)
    ] or [(_NO_TARGET, [{}] * len(chosen), "within" if within else "free")]
    rows = [
        {**keys, "layer": layer, **counts, **similar[at], **facts, **columns[at], "permutation": scheme, **last}
        for at, layer in enumerate(chosen)
        for facts, columns, scheme in per_target
    ]
    return pd.DataFrame(rows).astype({"n_groups": "Int64"})


_COSINES = (
    *("cosine", "cosine_null", "cosine_null_mean", "cosine_null_sd", "cosine_p", "cosine_p_max"),
    *("base_reliability", "instruct_reliability", "cosine_disattenuated"),
    *("cosine_plain", "cosine_plain_p", "cosine_plain_p_max"),
)
_NO_TARGET = {"target": None, "scoring": None, "n_target": 0}
_MODEL_NULLS = {"second": "instruct", "first": "base", "both": "both"}


@dataclass(frozen=True, eq=False)
class _HalvedTarget:
    """A target of both runs: the rows of the matched items that have it, its halves, and its columns."""

    rows: Array
    halves: TargetPair
    facts: dict[str, Any]

    @classmethod
    def of(
        cls,
        base: Run,
        instruct: Run,
        name: str,
        scoring: str | None,
        matched: MatchedItems,
        codes: Array | None,
        n_halvings: int,
        n_permutations: int,
        permute: str | None,
        rng: np.random.Generator,
    ) -> _HalvedTarget:
        own = scoring if name == "correct" else None
        sides = run_target(base, name, own), run_target(instruct, name, own)
        first, second = sides[0].values[matched.first], sides[1].values[matched.second]
        if name != "correct":
            matched.refuse_contradictions(first, second, name, caller="geometry")
        rows = np.flatnonzero(np.isfinite(first) & np.isfinite(second))
        if len(rows) < LEAST_ROWS:
            raise TargetError(
                f"geometry needs the target {name!r} for at least {LEAST_ROWS} items of both runs. Got {len(rows)}."
            )
        try:
            halves = pair_targets(
                first[rows], second[rows], None if codes is None else codes[rows],
                n_halvings=n_halvings, n_permutations=n_permutations, permute=permute, rng=rng,
            )  # fmt: skip
        except TargetError as error:
            error.add_note(f"while halving the items by the target {name!r}")
            raise
        return cls(
            rows,
            halves,
            {"target": name, "scoring": _both(sides[0].scoring, sides[1].scoring), "n_target": len(rows)},
        )


def _checked(
    base: Run, instruct: Run, layers: Sequence[int] | None, site: str, position: str, n_permutations: int
) -> list[int]:
    """The layers to compare; refuses runs that cannot be compared."""
    caller = "geometry"
    weights = [run.info.get("weights") for run in (base, instruct)]
    if weights[0] is not None and weights[0] == weights[1]:
        raise ValueError(
            f"The base and instruct parameters of geometry must be runs of two models. Got {base.info['model']!r} and "
            f"{instruct.info['model']!r}, which have the same weights; compare their activations with similarity.cka."
        )
    depths = [run.info.get("n_layers") for run in (base, instruct)]
    if None not in depths and depths[0] != depths[1]:
        raise ValueError(
            "The base and instruct parameters of geometry must be runs of models of one depth, to be compared layer by "
            f"layer. Got {depths[0]} and {depths[1]} layers instead."
        )
    if n_permutations < 1:
        raise ValueError(f"The n_permutations parameter of geometry must be at least 1. Got {n_permutations} instead.")
    both = [layer for layer in base.layers if layer in instruct.layers]
    chosen = both if layers is None else list(layers)
    for name, run in (("base", base), ("instruct", instruct)):
        if site not in run.sites:
            raise ValueError(unknown_name("site", caller, f"a site of the {name} run", site, run.sites))
        if position not in run.positions:
            raise ValueError(unknown_name("position", caller, f"a position of the {name} run", position, run.positions))
        for layer in chosen:
            if layer not in run.layers:
                known = [str(number) for number in run.layers]
                raise ValueError(unknown_name("layers", caller, f"layers of the {name} run", str(layer), known))
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(
            "The layers parameter of geometry must name layers, each once, that both runs have. "
            f"Got {chosen if layers is not None else f'{base.layers} and {instruct.layers}'} instead."
        )
    return chosen


def _codes(base: Run, groups: str | Array | None, matched: MatchedItems) -> Array | None:
    """Group of each matched item as 0, 1, ..., or None."""
    given = run_groups(base, groups)
    return None if given is None else group_codes(given[matched.first], len(matched.ids))


def _order(codes: Array | None, n: int, rng: np.random.Generator) -> Array:
    """A permutation of the items, inside their groups if there are any."""
    if codes is None:
        return rng.permutation(n)
    order = np.arange(n)
    for code in range(int(codes.max()) + 1):
        rows = np.flatnonzero(codes == code)
        order[rows] = rng.permutation(rows)
    return order


def _activations(run: Run, layer: int, site: str, position: str, rows: Array) -> Array:
    """Activations of the matched items, float64 [n, d]."""
    values = item_activations(run, layer, site, position)[rows].astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if wrong.size:
        names = run.items["id"].to_numpy()[rows].tolist()
        raise ValueError(
            f"Activations of layer {layer} of {run.info['model']!r} must be finite. Got NaN or inf in "
            f"{name_rows(wrong, names)}; extract those items again, in float32 if the model overflows."
        )
    return values


def _similarity(sides: Sequence[Array], codes: Array | None, orders: Sequence[Array]) -> dict[str, float]:
    """The columns of CKA of one layer."""
    raw = KernelAlignment.of(*sides)
    low, high = raw.interval(codes)
    null = np.array([raw.permuted(order) for order in orders])
    equal = KernelAlignment.of(*(Standardization.of(side).apply(side) for side in sides))
    equal_low, equal_high = equal.interval(codes)
    return {
        "cka": raw.value,
        "cka_ci_low": low,
        "cka_ci_high": high,
        "cka_null_mean": float(null.mean()),
        "cka_null_sd": float(null.std(ddof=1)) if len(null) > 1 else float("nan"),
        "cka_p": float("nan") if np.isnan(raw.value) else p_value(raw.value, null),
        "cka_standardized": equal.value,
        "cka_standardized_ci_low": equal_low,
        "cka_standardized_ci_high": equal_high,
    }


def _cosine_columns(layers: Sequence[dict[str, DirectionCosines] | None]) -> list[dict[str, Any]]:
    """The columns of the cosines, a dictionary per layer; None, where there is no cosine, becomes NaN."""
    known = [one for one in layers if one is not None]
    if not known:
        return [dict.fromkeys(_COSINES, np.nan) | {"cosine_null": None} for _ in layers]
    tests = {
        metric: largest_p(
            np.array([one[metric].cosine for one in known]), np.stack([one[metric].null for one in known])
        )
        for metric in METRICS
    }
    p, p_max, which = tests["covariance"]
    plain_p, plain_p_max, _ = tests["plain"]
    found = []
    for at, one in enumerate(known):
        cosines = one["covariance"]
        null = cosines.null[which[at]]
        missing = np.isnan(cosines.cosine)
        found.append(
            {
                "cosine": cosines.cosine,
                "cosine_null": None if missing else _MODEL_NULLS[NULLS[which[at]]],
                "cosine_null_mean": null.mean(),
                "cosine_null_sd": null.std(ddof=1) if len(null) > 1 else np.nan,
                "cosine_p": p[at],
                "cosine_p_max": p_max[at],
                "base_reliability": cosines.reliability[0],
                "instruct_reliability": cosines.reliability[1],
                "cosine_disattenuated": cosines.disattenuated,
                "cosine_plain": one["plain"].cosine,
                "cosine_plain_p": plain_p[at],
                "cosine_plain_p_max": plain_p_max[at],
            }
        )
    return found


def _both(first: str | None, second: str | None) -> str | None:
    return first if first == second else f"{first} -> {second}"

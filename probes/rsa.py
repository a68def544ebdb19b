"""Representational similarity analysis: are questions that people answer alike also alike to the model?

A check without a target and without a fit (Kriegeskorte, Mur and Bandettini 2008, doi:10.3389/neuro.06.004.2008):

1. An item's response profile is the shares of its K options in descending order. By letter, two questions would be
   alike for having their popular options at the same position.
2. Within each K (options offered) every pair of items has a distance between activations and one between profiles.
   Across K there are no pairs: profiles of different lengths cannot be compared, and activations know K.
3. Spearman correlation of the two distances over the pairs of one K; over several K the mean weighted by pairs.
4. Null (Mantel 1967, Cancer Research 27): whose profile is whose is permuted within K, and within the group where
   there are groups, so that what makes groups alike stays in the null. `p_max` compares with the maximum over layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .dissimilarity import (
    ACTIVATION_METRICS,
    PROFILE_METRICS,
    ProfileBlock,
    activation_dissimilarity,
    pooled_correlation,
    standardised_ranks,
)
from .folds import TargetError, group_codes, name_rows
from .layers import item_activations, progress_bar, run_groups
from .measure_table import unknown_name
from .ridge_path import Standardization
from .scores import p_value

if TYPE_CHECKING:
    from ..extract.store import Run

Array = np.ndarray

LEAST_ITEMS = 4


def rsa(
    run: Run,
    *,
    layers: Sequence[int] | None = None,
    site: str = "resid_post",
    position: str = "last",
    metric: str = "correlation",
    human: str = "hellinger",
    groups: str | Array | None = "subject",
    pairs: str = "across",
    permute: str | None = None,
    n_permutations: int = 1000,
    progress: bool = True,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Correlate distances between a run's activations with distances between people's sorted response profiles.

    Args:
        run: an open run whose items have responses; items without are left out.
        layers: layers of the run; default all.
        site, position: as in `probe_layers`.
        metric: distance between activations, each feature standardised over the items: `correlation` (1 - Pearson
            r over the features), `cosine` (1 - cosine) or `euclidean`.
        human: distance between profiles: `hellinger`, `jensen_shannon` or `total_variation`, as in
            `dissimilarity.profile_dissimilarity`.
        groups: items column, or one group per item [N]; None for none; as in `probe_layers`.
        pairs: `across` leaves out pairs of items of one group, which are alike in the activations, and perhaps in
            their profiles, for being of one subject; `all` keeps them. Without groups these are the same.
        permute: `within` groups (default with groups) or `free` (default without).
        n_permutations: size of the null.
        progress: show a progress bar on stderr.
        rng: source of the permutations.

    Returns:
        One row per layer: `model`, `dataset`, `prompt`, `site`, `position`, `layer`, `metric`, `human`, `pairs`;
        `n` items compared, `n_missing` without responses, `n_skipped` of a K that has fewer than 4 items, fewer
        than two pairs or one profile throughout; `n_groups`, `n_pairs`, `ks` (text "K: items, ..."); `rsa`, a mean
        Spearman correlation in [-1, 1], positive where items with like profiles have like activations; `null_mean`
        and `null_sd` of it under permuted profiles; `p`, one-sided, of this layer alone, and `p_max`, against the
        maximum over layers; `best`; `permutation`, `n_permutations`, `note`. A layer whose activations are at equal
        distances has `rsa` NaN, and a note.

    Raises:
        TargetError: no responses, no K that can be compared, or nothing that a permutation could change.
        ValueError: an unknown layer, site, position, metric or other name; activations that are not finite.
    """
    chosen = _checked(run, layers, site, position, n_permutations, metric=metric, human=human, pairs=pairs)
    codes, within = _grouping(run, groups, permute)
    profiles = sorted_profiles(run.items)
    known = [row for row, profile in enumerate(profiles) if profile is not None]
    if not known:
        raise TargetError("The items of the run given to rsa must have responses. Got none for any item.")
    blocks = _blocks(profiles, codes, metric=human, across=pairs == "across", within=within)
    used = np.sort(np.concatenate([block.rows for block in blocks.values()]))
    ranks = [np.empty((len(chosen), len(block.pairs[0])), dtype=np.float32) for block in blocks.values()]
    with progress_bar("comparing layers", progress) as report:
        for place, layer in enumerate(chosen):
            rows = _standardised(item_activations(run, layer, site, position), used, run, layer)
            for own, block in zip(ranks, blocks.values(), strict=True):
                distances = activation_dissimilarity(rows[block.rows], metric)
                own[place] = standardised_ranks(distances[block.pairs])
            if report is not None:
                report(place + 1, len(chosen))
    observed = pooled_correlation(ranks, [block.ranks() for block in blocks.values()])
    drawn = [block.permuted_ranks(n_permutations, rng) for block in blocks.values()]
    null = np.stack([pooled_correlation(ranks, together) for together in zip(*drawn, strict=True)])
    keys: dict[str, Any] = {key: run.info[key] for key in ("model", "dataset", "prompt")}
    keys |= {"site": site, "position": position}
    facts = {
        "metric": metric,
        "human": human,
        "pairs": "all" if codes is None else pairs,
        "n": len(used),
        "n_missing": len(profiles) - len(known),
        "n_skipped": len(known) - len(used),
        "n_groups": None if codes is None else len(np.unique(codes[used])),
        "n_pairs": sum(len(block.pairs[0]) for block in blocks.values()),
        "ks": ", ".join(f"{k}: {len(block.rows)}" for k, block in blocks.items()),
    }
    table = pd.DataFrame([{**keys, "layer": layer, **facts} for layer in chosen])
    table = table.assign(**_tested(observed, null), permutation="within" if within else "free")
    flat = "the layer's activations are at equal distances"
    note = [flat if missing else None for missing in table["rsa"].isna()]
    return table.assign(n_permutations=n_permutations, note=note).astype({"n_groups": "Int64"})


def sorted_profiles(items: pd.DataFrame) -> list[Array | None]:
    """Shares of each item's options in descending order, [K]; None where there are no responses.

    Args:
        items: with `responses`, counts or proportions per option, or None.
    """
    profiles: list[Array | None] = []
    for given in items["responses"]:
        if np.ndim(given) == 0:
            profiles.append(None)
            continue
        responses = np.sort(np.asarray(given, dtype=np.float64))[::-1]
        profiles.append(responses / responses.sum())
    return profiles


def _checked(
    run: Run, layers: Sequence[int] | None, site: str, position: str, n_permutations: int, **names: str
) -> list[int]:
    """Layers to compare; refuses unknown names."""
    known = {"metric": ACTIVATION_METRICS, "human": PROFILE_METRICS, "pairs": ("across", "all")}
    for parameter, name in names.items():
        if name not in known[parameter]:
            raise ValueError(unknown_name(parameter, "rsa", "one of these", name, known[parameter]))
    if site not in run.sites:
        raise ValueError(unknown_name("site", "rsa", "a site of the run", site, run.sites))
    if position not in run.positions:
        raise ValueError(unknown_name("position", "rsa", "a position of the run", position, run.positions))
    chosen = list(run.layers if layers is None else layers)
    for layer in chosen:
        if layer not in run.layers:
            raise ValueError(unknown_name("layers", "rsa", "layers of the run", str(layer), map(str, run.layers)))
    if not chosen:
        raise ValueError("The layers parameter of rsa must name at least one layer. Got none.")
    if n_permutations < 1:
        raise ValueError(f"The n_permutations parameter of rsa must be at least 1. Got {n_permutations} instead.")
    return chosen


def _grouping(run: Run, groups: str | Array | None, permute: str | None) -> tuple[Array | None, bool]:
    """Group code of each item, or None, and whether profiles are permuted inside groups only."""
    given = run_groups(run, groups)
    codes = None if given is None else group_codes(given, len(run.items))
    if permute not in (None, "within", "free"):
        raise ValueError(unknown_name("permute", "rsa", "a scheme", permute, ("within", "free")))
    if permute == "within" and codes is None:
        raise TargetError("permute='within' needs groups, and there are none (or one); pass groups or permute='free'.")
    return codes, codes is not None and permute != "free"


def _blocks(
    profiles: list[Array | None], codes: Array | None, *, metric: str, across: bool, within: bool
) -> dict[int, ProfileBlock]:
    """The comparison within each K that allows one, by K."""
    members: dict[int, list[int]] = {}
    for row, profile in enumerate(profiles):
        if profile is not None:
            members.setdefault(len(profile), []).append(row)
    blocks = {}
    for k in sorted(members):
        rows = np.array(members[k])
        own = None if codes is None else codes[rows]
        stacked = np.array([profiles[row] for row in members[k]], dtype=np.float64)
        block = ProfileBlock.of(rows, stacked, metric=metric, codes=own, across=across, within=within)
        if len(rows) >= LEAST_ITEMS and not block.flat:
            blocks[k] = block
    if not blocks:
        sizes = ", ".join(f"{len(rows)} of K = {k}" for k, rows in sorted(members.items()))
        raise TargetError(
            f"rsa compares items with the same number K of options, and needs {LEAST_ITEMS} of one K whose profiles "
            f"differ{', of several groups' if codes is not None and across else ''}. Got {sizes}."
        )
    if not any(block.exchangeable for block in blocks.values()):
        raise TargetError(
            "permute='within' exchanges items of one group and one K, and no two are; use permute='free'."
        )
    return blocks


def _standardised(activations: Array, used: Array, run: Run, layer: int) -> Array:
    """Features with mean 0 and standard deviation 1 over the items that are compared, float64 [N, d]."""
    rows = np.asarray(activations, dtype=np.float64)
    wrong = used[~np.isfinite(rows[used]).all(axis=1)]
    if wrong.size:
        raise ValueError(
            f"Activations of layer {layer} must be finite. Got NaN or inf in "
            f"{name_rows(wrong, run.items['id'].tolist())}; extract those items again, in float32 if the model "
            "overflows."
        )
    return Standardization.of(rows[used]).apply(rows)


def _tested(observed: Array, null: Array) -> dict[str, Any]:
    """Columns of values [L] and their null [B, L]; layers without a value are left out of the maximum."""
    known = np.flatnonzero(~np.isnan(observed))
    highest = null[:, known].max(axis=1) if known.size else np.empty(0)
    several = len(null) > 1
    return {
        "rsa": observed,
        "null_mean": null.mean(axis=0),
        "null_sd": null.std(axis=0, ddof=1) if several else np.full(len(observed), np.nan),
        "p": [p_value(observed[at], null[:, at]) if at in known else np.nan for at in range(len(observed))],
        "p_max": [p_value(observed[at], highest) if at in known else np.nan for at in range(len(observed))],
        "best": np.arange(len(observed)) == (known[np.argmax(observed[known])] if known.size else -1),
    }

"""How often the cosine between two targets' directions is called significant, in data whose truth is known.

Prints one JSON object: for every truth the share of runs with p <= 0.05 of

- `in_sample`: directions of all rows, against the null with the second target permuted, as is usually done;
- `in_sample_both`: the same against the null with both targets permuted alike;
- `second`, `first`, `both`: directions of different halves against one of the three nulls;
- `p`: the p-value of `DirectionCosines`, the largest of these three;

with the mean and standard deviation of the split-half cosine, and the median of the disattenuated one with the share
of runs that have one.
Activations have 40 features with variances 1, 1/2, ..., 1/40 along random axes; the noise of the two targets is
correlated.

    python benchmarks/two_target_rates.py --runs 1000 --rows 100
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import pandas as pd
import torch

from doubtlens.probes.directions import NULLS, largest_p, pair_cosines, pair_targets, ridge_directions

WIDTH, GROUPS = 40, 10
# Which axis of the activations each target follows (None: neither), and whether groups shift targets and activations.
TRUTHS: dict[str, tuple[int | None, int | None, bool]] = {
    "neither is known": (None, None, False),
    "neither is known, groups differ": (None, None, True),
    "the first is known, strongest axis": (0, None, False),
    "the first is known, sixth axis": (5, None, False),
    "the second is known, strongest axis": (None, 0, False),
    "both are known, orthogonal": (0, 1, False),
    "both are known, orthogonal, weaker axes": (3, 6, False),
    "both are known, same axis": (0, 0, False),
    "both are known, same weaker axis": (3, 3, False),
}


def draw(truth: str, rows: int, correlation: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Features, a numeric target, a 0/1 target, and groups or None."""
    first_axis, second_axis, grouped = TRUTHS[truth]
    axes = rng.standard_normal((rows, WIDTH))
    noise = rng.standard_normal((rows, 2)) @ np.linalg.cholesky([[1.0, correlation], [correlation, 1.0]]).T
    codes = np.arange(rows) % GROUPS
    if grouped:
        axes = axes + rng.standard_normal((GROUPS, WIDTH))[codes]
        noise = noise + rng.standard_normal((GROUPS, 2))[codes]
    for column, axis in enumerate((first_axis, second_axis)):
        if axis is not None:
            noise[:, column] += axes[:, axis]
    rotation = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0]
    drawn = {
        "features": axes / np.sqrt(np.arange(1, WIDTH + 1)) @ rotation,
        "first": noise[:, 0],
        "second": (noise[:, 1] > np.median(noise[:, 1])).astype(float),
    }
    return drawn | ({"groups": codes} if grouped else {})


def compare(truth: str, rows: int, correlation: float, permutations: int, rng: np.random.Generator) -> dict[str, float]:
    """P-values and cosines of one draw."""
    made = draw(truth, rows, correlation, rng)
    pair = pair_targets(
        made["first"],
        made["second"],
        made.get("groups"),
        n_halvings=4,
        n_permutations=permutations,
        permute=None,
        rng=rng,
    )
    found = pair_cosines(made["features"], pair, metrics=("covariance",))["covariance"]
    directions = ridge_directions(made["features"], np.column_stack([pair.first[:, 0], pair.second]), codes=pair.codes)
    readings = np.corrcoef(made["features"] @ directions, rowvar=False)[0, 1:]

    def single(value: float, null: np.ndarray) -> float:
        return float(largest_p(np.array([value]), null[None, None])[0][0])

    p = {name: single(found.cosine, found.null[place]) for place, name in enumerate(NULLS)}
    p["in_sample"] = single(readings[0], readings[1:])
    p["in_sample_both"] = single(found.in_sample, found.in_sample_null)
    return p | {"p": found.p, "cosine": found.cosine, "disattenuated": found.disattenuated}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--permutations", type=int, default=99)
    parser.add_argument("--correlation", type=float, default=0.6, help="of the noise of the two targets")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, dict[str, float]] = {}
    for number, truth in enumerate(TRUTHS):
        seeds = np.random.SeedSequence([number, arguments.rows]).spawn(arguments.runs)
        runs = [
            compare(truth, arguments.rows, arguments.correlation, arguments.permutations, np.random.default_rng(seed))
            for seed in seeds
        ]
        table = pd.DataFrame(runs)
        rates = (table.drop(columns=["cosine", "disattenuated"]) <= 0.05).mean().round(3).to_dict()
        results[truth] = rates | {
            "cosine_mean": round(table["cosine"].mean(), 3),
            "cosine_sd": round(table["cosine"].std(), 3),
            "disattenuated_median": round(table["disattenuated"].median(), 3),
            "disattenuated_share": round(table["disattenuated"].notna().mean(), 3),
        }
    print(json.dumps(vars(arguments) | {"rates": results}, indent=1))


if __name__ == "__main__":
    main()

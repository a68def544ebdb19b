"""How often transfer, RSA, CKA and the cosine between models say what is not there, and how often intervals hold.

Prints one JSON object: rates of p < 0.05 in simulated runs that know nothing of the target beyond the subjects of the
items, and the coverage of 95% intervals. Items fall into subjects that are alike in their activations and in people's
answers. "linked": both runs hold the same items; "unlinked": other items of other subjects.

    python benchmarks/across_run_rates.py --repeats 200
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import pandas as pd

from doubtlens.probes import RidgeProbe, geometry, rsa, transfer_matrix
from doubtlens.probes.layers import run_target
from doubtlens.probes.similarity import KernelAlignment, cka

WIDTH, LAYERS, SUBJECTS, OPTIONS = 16, 3, 12, 3
TARGET = "human_entropy_normalized"
QUIET: dict[str, Any] = {"progress": False}


class SimulatedRun:
    """A run in memory of items in subjects, whose activations know the subjects, and the target if `strength` > 0."""

    sites = ("resid_post",)
    positions = ("last",)
    scorings: tuple[str, ...] = ()

    def __init__(
        self, name: str, items: np.random.Generator, own: np.random.Generator, n: int, strength: float
    ) -> None:
        subject = np.arange(n) % SUBJECTS
        level = items.dirichlet(np.full(OPTIONS, 3.0), SUBJECTS)[subject]
        shares = 0.5 * level + 0.5 * items.dirichlet(np.full(OPTIONS, 1.0), n)
        tag = int(items.integers(2**31))
        self.layers = list(range(LAYERS))
        self.items = pd.DataFrame(
            {
                "id": [f"q{row}" for row in range(n)],
                "question": [f"{tag} {row}?" for row in range(n)],
                "options": [list("abc")] * n,
                "responses": shares.tolist(),
                "subject": [f"s{code}" for code in subject],
                "n_options": OPTIONS,
            }
        )
        self.info = {"model": name, "dataset": "made", "prompt": "plain", "weights": name, "n_layers": LAYERS}
        shared = items.standard_normal((n, WIDTH)) + items.standard_normal((SUBJECTS, WIDTH))[subject]
        self.activations = shared + 0.5 * own.standard_normal((LAYERS, n, WIDTH))
        self.activations[..., 0] += strength * run_target(self, TARGET).values  # type: ignore[arg-type]

    def residual(self, layer: int, site: str = "resid_post", position: str = "last") -> np.ndarray:
        return self.activations[layer]


def pair(seed: int, *, linked: bool, n: int = 72, strength: float = 0.0) -> list[Any]:
    """Two runs, on the same items or on others."""
    streams = (np.random.default_rng([seed, 0 if linked else run]) for run in (0, 1))
    return [
        SimulatedRun(f"model-{run}", items, np.random.default_rng([seed, 9, run]), n, strength)
        for run, items in enumerate(streams)
    ]


def transfer_p(seed: int, linked: bool) -> list[float]:
    table = transfer_matrix(
        pair(seed, linked=linked), TARGET, layer=1, n_splits=6, n_permutations=199,
        rng=np.random.default_rng(seed), **QUIET,
    )  # fmt: skip
    return [table["p"][1], table["p"][0]]


def transfer_held(seed: int) -> bool:
    """Whether the interval holds the probe's correlation on many further items and subjects."""
    runs = pair(seed, linked=False, strength=1.5)
    row = transfer_matrix(
        runs, TARGET, layer=1, n_splits=6, n_permutations=2, rng=np.random.default_rng(seed), **QUIET
    ).iloc[1]
    probe = RidgeProbe().fit(runs[0].residual(1), run_target(runs[0], TARGET).values, groups=runs[0].items["subject"])
    found = []
    for more in range(25):
        rng = np.random.default_rng([seed, 7, more])
        other: Any = SimulatedRun("more", rng, np.random.default_rng([seed, 8, more]), 72, 1.5)
        found.append((run_target(other, TARGET).values, probe.predict(other.residual(1))))
    truth = np.corrcoef(*(np.concatenate(part) for part in zip(*found, strict=True)))[0, 1]
    return bool(row["ci_low"] <= truth <= row["ci_high"])


def rsa_p(seed: int) -> float:
    (run, _) = pair(seed, linked=True)
    return rsa(run, n_permutations=199, rng=np.random.default_rng(seed), **QUIET)["p_max"].min()


def cosine_p(seed: int) -> float:
    table = geometry(
        *pair(seed, linked=True), n_halvings=2, n_permutations=99, rng=np.random.default_rng(seed), **QUIET
    )
    return table["cosine_p_max"].min()


def cka_held(seed: int, n: int, groups: int | None, truth: float) -> bool:
    rng = np.random.default_rng(seed)
    low, high = KernelAlignment.of(*correlated(rng, n, groups)).interval(
        None if groups is None else np.arange(n) % groups
    )
    return bool(low <= truth <= high)


def correlated(rng: np.random.Generator, n: int, groups: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Activations of two models of the same items, which share 7 features, with groups if any."""
    mixing = 0.3 * np.random.default_rng(0).standard_normal((7, 5))
    x, noise = rng.standard_normal((n, 7)), rng.standard_normal((n, 5))
    if groups is not None:
        code = np.arange(n) % groups
        x, noise = x + rng.standard_normal((groups, 7))[code], noise + rng.standard_normal((groups, 5))[code]
    return x, x @ mixing + noise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.repeats)
    linked, unlinked = (np.array([transfer_p(seed, kind) for seed in seeds]) for kind in (True, False))
    # Rows of other groups are independent: with as many groups as rows the limit is the same.
    truth = cka(*correlated(np.random.default_rng(1), 12_000, None))
    found = {
        "repeats": options.repeats,
        "false positives at 0.05": {
            "transfer, linked": float(np.mean(linked[:, 0] <= 0.05)),
            "transfer, diagonal": float(np.mean(linked[:, 1] <= 0.05)),
            "transfer, unlinked": float(np.mean(unlinked[:, 0] <= 0.05)),
            "rsa, best layer": float(np.mean([rsa_p(seed) <= 0.05 for seed in seeds])),
            "cosine between models, best layer": float(np.mean([cosine_p(seed) <= 0.05 for seed in seeds])),
        },
        "coverage of 95% intervals": {
            "transfer, unlinked, 12 subjects": float(np.mean([transfer_held(seed) for seed in seeds])),
            "cka, 60 items": float(np.mean([cka_held(seed, 60, None, truth) for seed in seeds])),
            "cka, 400 items": float(np.mean([cka_held(seed, 400, None, truth) for seed in seeds])),
            "cka, 12 groups of 30": float(np.mean([cka_held(seed, 360, 12, truth) for seed in seeds])),
            "cka, 40 groups of 10": float(np.mean([cka_held(seed, 400, 40, truth) for seed in seeds])),
        },
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

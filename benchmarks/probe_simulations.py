"""Do probes find what is there, and nothing else? Sweeps of simulated activations whose signal is known.

Prints one JSON object per scenario. Algorithm

1. A scenario draws one study after another from a population (`simulated.probes`), and sweeps it as users do, with all
   choices inside the training folds.
2. "signal": what the probes of each study are truly worth on new rows of new subjects is worked out from the
   population's moments (`Worth`). `coverage` is the share of studies whose 95% interval holds it, `below` and `above`
   are the shares whose interval lies wholly on one side, `fixed` is the coverage of percentiles over resamples of rows
   or groups beside fixed predictions, `expected` that of our interval for the mean worth of such studies; for the
   planted layer, the weakest layer, the layer that comes out best, and the nested probe. `layer` says how often the
   best layer is the planted one, and how often `layer_low` to `layer_high` holds it.
3. "null": without a signal, the share of studies with p at most 0.05 in the test of the best layer (the least `p_max`),
   of the nested score, and of a layer that was named beforehand; and, as a warning, in the least `p` over layers. The
   permutations run through the whole nested pipeline. Scenarios named "wrong" permute where rows are not exchangeable.
4. "size": targets that depend on the length and the number of options of an item, on a signal of their own, or both:
   how often the probe finds something, and how often `probe_controls` calls `options_and_length` as good.

Every rate has its Monte Carlo standard error. From 1,000 runs on, `outside` lists what leaves 93-97% (coverage of the
planted layer, the best layer and the nested probe) or 3-7% (tests that are no warnings).

    python benchmarks/probe_simulations.py --runs 1000
    python benchmarks/probe_simulations.py --runs 2000 --case null --scenario "rows, binary"
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from simulated.probes import OPTIONS, Floats, Population, Study, Worth
from threadpoolctl import threadpool_limits

from doubtlens.extract.statistics import logit_statistics
from doubtlens.probes import probe_controls, scores
from doubtlens.probes.sweep import LayerSweep, sweep

LEVEL = 0.05
VOCABULARY = 32


@dataclass(frozen=True)
class Scenario:
    """What is drawn and how it is probed.

    Attributes:
        population: where studies come from.
        n: items of a study.
        subjects: how many subjects the items are of; None for items on their own.
        even: whether subjects are of even size.
        cut: the target is 1 where the latent one is above it; None for the latent one itself.
        kind: of probe.
        permute: as in `sweep`.
        grouped: whether the sweep is told the subjects.
        constant: the target is the same for all items of a subject.
        wrong: permutations exchange what is not exchangeable.
        folds: how many outer folds.
    """

    population: Population
    n: int
    subjects: int | None = None
    even: bool = True
    cut: float | None = None
    kind: str = "ridge"
    permute: str | None = None
    grouped: bool = True
    constant: bool = False
    wrong: bool = False
    folds: int = 10

    def draw(self, rng: np.random.Generator) -> tuple[Study, Floats]:
        """Draw a study and its target."""
        study = self.population.draw(rng, self.n, self.subjects, self.even)
        target = study.latent
        if self.constant:
            target = target[np.unique(study.subject, return_index=True)[1]][study.subject]
        return study, target if self.cut is None else (target > self.cut).astype(float)

    def sweep(self, study: Study, target: Floats, rng: np.random.Generator, **settings: Any) -> LayerSweep:
        """Sweep a study."""
        settings |= {"groups": study.subject if self.grouped else None, "n_splits": self.folds}
        return sweep(study.activations, target, kind=self.kind, permute=self.permute, rng=rng, **settings)

    def told(self) -> dict[str, Any]:
        """What to say of it in the results."""
        return asdict(self)


def _signals() -> dict[str, Scenario]:
    rows, binary = Population(strength=0.5), Population(strength=0.6)
    clustered, sorted_ = Population(strength=0.5, subjects=0.2), Population(strength=0.6, subjects=0.2)
    return {
        "rows": Scenario(rows, 200),
        "rows, weak": Scenario(Population(strength=0.3), 200),
        "rows, none": Scenario(Population(strength=0.0), 200),
        "rows, more features than rows": Scenario(Population(n_layers=4, n_features=200, best=2, strength=0.6), 150),
        "rows, size confounded": Scenario(Population(strength=0.5, confound=0.5, sized=0.5), 300),
        "40 subjects": Scenario(clustered, 200, 40),
        "20 subjects": Scenario(clustered, 200, 20),
        "11 uneven subjects": Scenario(clustered, 220, 11, even=False),
        "rows, binary": Scenario(binary, 200, cut=0.3),
        "rows, binary, weak": Scenario(Population(strength=0.35), 200, cut=0.3),
        "rows, binary, mass-mean": Scenario(binary, 200, cut=0.3, kind="mass_mean"),
        "rows, binary, logistic": Scenario(binary, 200, cut=0.3, kind="logistic"),
        "40 subjects, binary": Scenario(sorted_, 200, 40, cut=0.3),
        "11 uneven subjects, binary": Scenario(sorted_, 220, 11, even=False, cut=0.3),
    }


def _nulls() -> dict[str, Scenario]:
    plain = Population(n_layers=4, n_features=12, strength=0.0)
    clustered = Population(n_layers=4, n_features=12, strength=0.0, subjects=0.3)
    uneven: dict[str, Any] = {"subjects": 11, "even": False}
    return {
        "rows": Scenario(plain, 120),
        "rows, binary": Scenario(plain, 120, cut=0.3),
        "rows, binary, mass-mean": Scenario(plain, 120, cut=0.3, kind="mass_mean"),
        "40 subjects that do not matter": Scenario(plain, 120, 40),
        "40 clustered subjects": Scenario(clustered, 120, 40),
        "40 clustered subjects, binary": Scenario(clustered, 120, 40, cut=0.3),
        "40 clustered subjects, binary, mass-mean": Scenario(clustered, 120, 40, cut=0.3, kind="mass_mean"),
        "11 clustered subjects": Scenario(clustered, 120, **uneven),
        "11 clustered subjects, binary": Scenario(clustered, 120, **uneven, cut=0.3),
        "11 clustered subjects, binary, mass-mean": Scenario(clustered, 120, **uneven, cut=0.3, kind="mass_mean"),
        "40 subjects, target constant in them": Scenario(clustered, 120, 40, permute="groups", constant=True),
        "wrong: 40 clustered subjects, rows exchanged freely": Scenario(clustered, 120, 40, permute="free", wrong=True),
        "wrong: 11 clustered subjects, rows exchanged freely": Scenario(
            clustered, 120, **uneven, permute="free", wrong=True
        ),
        "wrong: 11 clustered subjects, not told to the sweep": Scenario(
            clustered, 120, **uneven, grouped=False, wrong=True
        ),
    }


def _sizes() -> dict[str, Scenario]:
    return {
        "size alone": Scenario(Population(n_layers=3, best=1, strength=0.0, confound=0.7, sized=0.6), 240),
        "size alone, 11 uneven subjects": Scenario(
            Population(n_layers=3, best=1, strength=0.0, confound=0.7, sized=0.6, subjects=0.2), 240, 11, even=False
        ),
        "a signal alone": Scenario(Population(n_layers=3, best=1, strength=0.6, sized=0.6), 240),
        "both": Scenario(Population(n_layers=3, best=1, strength=0.6, confound=0.4, sized=0.6), 240),
    }


@dataclass
class Rates:
    """Shares of studies, with their standard errors."""

    runs: int
    found: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, hits: Any) -> None:
        """Add the share of studies in which something is so."""
        share = float(np.mean(hits))
        self.found[name] = round(share, 4)
        self.found[f"{name}_se"] = round(float(np.sqrt(share * (1 - share) / self.runs)), 4)


def signal(scenario: Scenario, runs: int, seed: Sequence[int], n_bootstrap: int) -> dict[str, Any]:
    """Coverage of the intervals, and recovery of the best layer."""
    planted, weakest = scenario.population.best, int(np.argmin(scenario.population.strengths))
    places = ("planted", "weakest", "best", "nested")
    found: dict[str, list[tuple[float, ...]]] = {place: [] for place in places}
    layers = []
    for run in range(runs):
        rng = np.random.default_rng([*seed, run])
        study, target = scenario.draw(rng)
        swept = scenario.sweep(study, target, rng, n_permutations=0, n_bootstrap=n_bootstrap)
        worth = Worth.of(scenario.population, study, swept, scenario.kind, scenario.cut)
        table, weights = swept.table, scores.bootstrap_weights(scenario.n, swept.folds.group_codes, n_bootstrap, rng)
        best = int(np.argmax(table["best"]))
        name = "pearson" if scenario.cut is None else "auroc"
        percentile = scores.pearson_interval if scenario.cut is None else scores.auroc_interval
        for place, layer in zip(places[:3], (planted, weakest, best), strict=True):
            row = table.loc[layer]
            fixed = percentile(target, swept.deviations[layer], weights)
            found[place].append((worth.score[layer], row[name], row["ci_low"], row["ci_high"], *fixed))
        row, deviations = table.loc[0], swept.nested_deviations
        value = row["nested_pearson"] if scenario.cut is None else scores.auroc(target[:, None], deviations[:, None])[0]
        fixed = percentile(target, deviations, weights)
        found["nested"].append((worth.nested, value, row["nested_ci_low"], row["nested_ci_high"], *fixed))
        layers.append((best, int(np.argmax(worth.ranking)), row["layer_low"], row["layer_high"]))
    result: dict[str, Any] = {}
    for place in places:
        truth, estimate, low, high, fixed_low, fixed_high = np.array(found[place], dtype=float).T
        rates = Rates(runs)
        rates.add("coverage", (low <= truth) & (truth <= high))
        rates.add("below", high < truth)
        rates.add("above", low > truth)
        rates.add("fixed", (fixed_low <= truth) & (truth <= fixed_high))
        rates.add("expected", (low <= truth.mean()) & (truth.mean() <= high))
        figures = {"truth": truth.mean(), "bias": (estimate - truth).mean(), "width": (high - low).mean()}
        figures["bias_se"] = (estimate - truth).std(ddof=1) / np.sqrt(runs)
        figures["undefined"] = np.isnan(low).mean()
        result[place] = rates.found | {key: round(float(value), 4) for key, value in figures.items()}
    best, truly, first, last = np.array(layers, dtype=int).T
    rates = Rates(runs)
    rates.add("recovered", best == planted)
    rates.add("planted_is_truly_best", truly == planted)
    rates.add("holds_planted", (first <= planted) & (planted <= last))
    rates.add("holds_truly_best", (first <= truly) & (truly <= last))
    result["layer"] = rates.found | {"layers": round(float((last - first + 1).mean()), 2)}
    return result


def null(scenario: Scenario, runs: int, seed: Sequence[int], n_permutations: int) -> dict[str, Any]:
    """False positives of the tests."""
    found = []
    for run in range(runs):
        rng = np.random.default_rng([*seed, run])
        table = scenario.sweep(*scenario.draw(rng), rng, n_permutations=n_permutations, n_bootstrap=1).table
        found.append((table["p_max"].min(), table["nested_p"].iloc[0], table["p"].iloc[0], table["p"].min()))
    rates = Rates(runs)
    names = ("best_layer", "nested", "one_layer", "warning_least_p_over_layers")
    for name, p in zip(names, np.array(found).T, strict=True):
        # p is a whole number of permutations and one more: 0.05 itself is reached, up to rounding.
        rates.add(name, p <= LEVEL + 1e-9)
    return rates.found


class SimulatedRun:
    """A study as a run, for `probe_controls`: items of the study's size, and an output that knows nothing."""

    sites = ("resid_post",)
    positions = ("last",)
    scorings = ("label_single",)

    def __init__(self, study: Study, rng: np.random.Generator) -> None:
        n = len(study.latent)
        words = rng.choice([f"w{number}" for number in range(200)], (n, study.words.max()))
        self.items = pd.DataFrame(
            {
                "id": [f"q{row}" for row in range(n)],
                "question": [" ".join(own[:count]) for own, count in zip(words, study.words, strict=True)],
                "subject": study.subject,
                "n_options": study.options,
            }
        )
        self.rows = pd.DataFrame({"item": np.arange(n), "n_tokens": 20 + 2 * study.words + 5 * study.options})
        self.info = {"model": "simulated", "dataset": "simulated", "prompt": "bare", "setting": "choice"}
        self.info |= {"permutations": "none", "vocab_size": VOCABULARY, "logits": "full"}
        self.layers = list(range(len(study.activations)))
        self._activations, self._logits = study.activations, 2 * rng.standard_normal((n, VOCABULARY))

    def residual(self, layer: int, site: str = "resid_post", position: str = "last") -> Floats:
        """Activations of a layer."""
        return self._activations[layer]

    def choice_scores(self, scoring: str) -> Floats:
        """Scores of the options, NaN beyond an item's number of them."""
        known = np.arange(OPTIONS.max()) < self.items["n_options"].to_numpy()[:, None]
        logged = self._logits - np.log(np.exp(self._logits).sum(axis=1, keepdims=True))
        return np.where(known, logged[:, : OPTIONS.max()], np.nan)

    def statistics(self) -> pd.DataFrame:
        """Statistics of the logits."""
        return pd.DataFrame(logit_statistics(self._logits))


def size(scenario: Scenario, runs: int, seed: Sequence[int], n_permutations: int) -> dict[str, Any]:
    """What the controls say of targets that depend on an item's size."""
    found = []
    for run in range(runs):
        rng = np.random.default_rng([*seed, run])
        study, target = scenario.draw(rng)
        tested = scenario.sweep(study, target, rng, n_permutations=n_permutations, n_bootstrap=1).table
        table = probe_controls(
            SimulatedRun(study, rng), target, n_random=2, progress=False, device="cpu", rng=rng
        ).set_index("control")  # fmt: skip
        own = table.loc["options_and_length"]
        found.append(
            (
                tested["p_max"].min(),
                own["as_good"],
                table.loc["tfidf", "as_good"],
                table.loc["probe", "score"],
                own["score"],
                table.loc["probe", "partial"],
            )
        )
    p, as_good, words, probe, control, partial = np.array(found, dtype=float).T
    rates = Rates(runs)
    rates.add("probe_finds_something", p <= LEVEL + 1e-9)
    rates.add("options_and_length_as_good", as_good)
    rates.add("tfidf_as_good", words)
    means = {"probe": probe, "options_and_length": control, "partial": partial}
    return rates.found | {f"{name}_score": round(float(value.mean()), 3) for name, value in means.items()}


CASES = {"signal": (_signals, signal), "null": (_nulls, null), "size": (_sizes, size)}


def outside(case: str, scenario: Scenario, found: dict[str, Any]) -> list[str]:
    """Name the rates that leave what is demanded."""
    if case == "signal":
        rates = {place: found[place]["coverage"] for place in ("planted", "best", "nested")}
        return [f"{place}: {rate}" for place, rate in rates.items() if not 0.93 <= rate <= 0.97]
    if case == "null" and not scenario.wrong:
        rates = {test: found[test] for test in ("best_layer", "nested", "one_layer")}
        return [f"{test}: {rate}" for test, rate in rates.items() if not 0.03 <= rate <= 0.07]
    return []


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate the scenarios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4, help="studies per scenario")
    parser.add_argument("--case", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--scenario", nargs="+", help="names of scenarios; default all of the cases")
    parser.add_argument("--permutations", type=int, default=99)
    parser.add_argument("--draws", type=int, default=500, help="resamples behind layer_low, layer_high and `fixed`")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    for case in given.case:
        make, simulate = CASES[case]
        for name, scenario in make().items():
            if given.scenario is not None and name not in given.scenario:
                continue
            start = time.process_time()
            drawn = given.draws if case == "signal" else given.permutations
            with threadpool_limits(1):
                found = simulate(scenario, given.runs, (given.seed, zlib.crc32(name.encode())), drawn)
            record = {"case": case, "scenario": name, "runs": given.runs, "seed": given.seed}
            record |= {"draws" if case == "signal" else "permutations": drawn, **scenario.told(), **found}
            record["outside"] = outside(case, scenario, found) if given.runs >= 1000 else None
            record["cpu_seconds"] = round(time.process_time() - start, 1)
            print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()

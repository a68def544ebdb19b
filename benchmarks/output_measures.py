"""Time of the output measures against a full sort of every row, at the vocabulary size of Llama 3.

Prints one JSON object. Ratios are time of the full sort / our time (above 1: we are faster), medians over
interleaved runs; both sides read the same float32 logits and their results are compared before timing.

    python benchmarks/output_measures.py --rows 1000 --vocabulary 128256 --repeats 5
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np

from doubtlens.extract import logit_statistics
from doubtlens.probes import output_measures

TOP_K = (5, 10, 25, 50, 100)
TOP_P = (0.95, 0.9, 0.75, 0.5)


def make_logits(kind: str, rows: int, vocabulary: int, seed: int = 0) -> np.ndarray:
    """Draw float32 logits [rows, vocabulary]: as after a question ("peaked") or with no answer in sight ("flat")."""
    rng = np.random.default_rng(seed)
    logits = np.empty((rows, vocabulary), dtype=np.float32)
    for row in logits:
        rng.standard_normal(out=row, dtype=np.float32)
        if kind == "peaked":
            row *= 2
            candidates = rng.choice(vocabulary, 40, replace=False)
            row[candidates] += 8 + rng.exponential(3, 40).astype(np.float32)
    return logits


def entropy(p: np.ndarray) -> float:
    """Entropy in nats of sorted probabilities after renormalising."""
    p = p[p > 0]
    p = p / p.sum()
    return float(-(p * np.log(p)).sum())


def full_sort(logits: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the same statistics row by row, as one would write them down: softmax, sort, cumulate."""
    table: dict[str, list[float]] = {}
    for row in logits:
        z = row.astype(np.float64)
        peak = z.max()
        weights = np.exp(z - peak)
        p = np.sort(weights / weights.sum())[::-1]
        surprisal = -np.log(p)
        mean = (p * surprisal).sum()
        found = {"log_sum_exp": peak + np.log(weights.sum()), "top_1_probability": p[0], "total_entropy": mean}
        found["varentropy"] = (p * (surprisal - mean) ** 2).sum()
        found |= {f"top_k_entropy_{k}": entropy(p[:k]) for k in TOP_K}
        cumulated = p.cumsum()
        for mass in TOP_P:
            sizes = {
                "inclusive": 1 + int((cumulated[:-1] < mass - 1e-9).sum()),
                "exclusive": int((cumulated <= mass).sum()),
            }
            for nucleus, size in sizes.items():
                found[f"top_p_size_{mass:g}_{nucleus}"] = size
                found[f"top_p_entropy_{mass:g}_{nucleus}"] = entropy(p[:size]) if size else np.nan
        for name, value in found.items():
            table.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in table.items()}


def seconds(function: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compare(kind: str, rows: int, vocabulary: int, repeats: int) -> dict[str, object]:
    """Time both sides in turn on one kind of logits."""
    logits = make_logits(kind, rows, vocabulary)
    choices = logits[:, :4].astype(np.float64)
    sample = slice(0, min(rows, 20))
    expected, found = full_sort(logits[sample]), logit_statistics(logits[sample])
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-9, atol=1e-12, err_msg=name)
    sides: dict[str, Callable[[], object]] = {
        "full_sort": lambda: full_sort(logits),
        "logit_statistics": lambda: logit_statistics(logits),
        "output_measures": lambda: output_measures(logits=logits, choice_logits=choices),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            times[name].append(seconds(side))
    medians = {name: statistics.median(values) for name, values in times.items()}
    sizes = found["top_p_size_0.95_inclusive"]
    return {
        "median_nucleus_0.95": float(np.median(sizes)),
        "milliseconds_per_row": {name: round(1e3 * value / rows, 3) for name, value in medians.items()},
        "ratio_logit_statistics": round(medians["full_sort"] / medians["logit_statistics"], 2),
        "ratio_output_measures": round(medians["full_sort"] / medians["output_measures"], 2),
    }


def main() -> None:
    """Run the comparison on peaked and on flat logits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--vocabulary", type=int, default=128_256)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    result: dict[str, object] = {"rows": arguments.rows, "vocabulary": arguments.vocabulary}
    for kind in ("peaked", "flat"):
        result[kind] = compare(kind, arguments.rows, arguments.vocabulary, arguments.repeats)
    peak_kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result["peak_memory_gigabytes"] = round(peak_kilobytes / 2**20, 2)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

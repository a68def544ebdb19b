"""Tables that the tests of the figures draw, small and large."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from doubtlens.probes.measure_table import MEASURES

SEVENTEEN = [
    "top_1_probability", "total_entropy_normalized", "varentropy",
    *(f"top_k_entropy_{k}_normalized" for k in (5, 10, 25, 50)), *(f"top_p_size_{p}" for p in (0.95, 0.9, 0.75, 0.5)),
    *(f"top_p_entropy_{p}_normalized" for p in (0.95, 0.9, 0.75)),
    "choice_entropy_normalized", "choice_probability", "choice_mass",
]  # fmt: skip
TWO = ("total_entropy_normalized", "choice_probability")
THIRTY = [f"organisation/model-{number}-8B-Instruct" for number in range(30)]


def figures_of(models=("base", "tuned"), measures=TWO, *, seed: int = 0) -> pd.DataFrame:
    """One row per model and measure with every column that a figure of models and measures draws."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame([{"model": model, "measure": measure} for model in models for measure in measures])
    values = rng.uniform(-0.4, 0.4, len(table))
    turned = values * [MEASURES[name].direction if name in MEASURES else 1 for name in table["measure"]]
    errors = 0.6 + 0.2 * turned
    return table.assign(
        correlation=values, ci_low=values - 0.1, ci_high=values + 0.1, method="spearman", ece_rank=abs(values) / 3,
        alignment=turned, alignment_ci_low=turned - 0.1, alignment_ci_high=turned + 0.1,
        auroc=errors, auroc_ci_low=errors - 0.05, auroc_ci_high=errors + 0.05,
    )  # fmt: skip


def controls() -> pd.DataFrame:
    numbers = {"raw": 0.7, "normalized": -0.1, "partial": 0.05}
    columns = {f"{name}{end}": value + shift for name, value in numbers.items() for end, shift in
               (("", 0), ("_ci_low", -0.1), ("_ci_high", 0.1))}  # fmt: skip
    return pd.DataFrame([{"measure": "choice_entropy", **columns}, {"measure": "total_entropy", **columns}])


def comparison(models=("base", "tuned"), measures=TWO, *, seed: int = 0) -> pd.DataFrame:
    """Measures beside a probe: the second of each model is read against its direction."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame([{"model": model, "measure": measure} for model in models for measure in measures])
    measure, probe = rng.uniform(0, 0.4, (2, len(table)))
    values = {"r_measure": measure, "r_probe": probe, "difference": probe - measure}
    ends = {f"{name}_ci_{end}": value + shift for name, value in values.items() for end, shift in
            (("low", -0.1), ("high", 0.1))}  # fmt: skip
    kept = {"target": "human_entropy_normalized", "method": "pearson", "reversed": np.arange(len(table)) % 2 == 1}
    return table.assign(**values, **ends, **kept)


def probe_controls(models=("base", "tuned"), *, seed: int = 0) -> pd.DataFrame:
    names = ["probe", "options_and_length", "tfidf", "output_measures"]
    table = pd.DataFrame([{"model": model, "control": name} for model in models for name in names])
    score, first = np.random.default_rng(seed).uniform(0.1, 0.4, len(table)), table["control"] == "probe"
    values = {"score": score, "": score, "difference": np.where(first, np.nan, 0.5 - score)}
    ends = {f"{name}_ci_{end}".removeprefix("_"): value + shift for name, value in values.items() if name != "score"
            for end, shift in (("low", -0.2), ("high", 0.2))}  # fmt: skip
    kept = {"target": "human_entropy_normalized", "score_name": "pearson", "score": score}
    table = table.assign(**kept, difference=values["difference"], **ends)
    return table.assign(as_good=~first & (table["difference_ci_low"] <= 0))


def learning(models=("base", "tuned"), *, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for model in models:
        for target, name in (("human_entropy_normalized", "pearson"), ("correct", "auroc")):
            score = np.linspace(0.1, 0.4, 4) + rng.normal(0, 0.03, 4) + (name == "auroc") * 0.4
            part = pd.DataFrame({"model": model, "target": target, "n_train": [20, 40, 80, 160], "score": score})
            parts.append(part.assign(score_name=name, ci_low=score - 0.1, ci_high=score + 0.1))
    return pd.concat(parts, ignore_index=True)


def bins() -> pd.DataFrame:
    lower = np.linspace(0, 0.9, 10)
    n = np.array([0, 0, 12, 30, 20, 9, 4, 1, 0, 2])
    accuracy = np.where(n > 0, lower * 0.8, np.nan)
    confidence = np.where(n > 0, lower + 0.04, np.nan)
    return pd.DataFrame({"lower": lower, "upper": lower + 0.1, "n": n, "confidence": confidence, "accuracy": accuracy})


def positions() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "position": [0, 1, 2, 3],
            "label": list("ABCD"),
            "chosen": [0.1, 0.0, 0.9, 0.0],
            "answers": [0.3, 0.2, 0.2, 0.3],
            "humans": [0.25, 0.25, 0.2, 0.3],
            "expected": [0.25] * 4,
        }
    )


def subjects() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subject": ["music", "music", "history", "history"],
            "model": ["base", "tuned", "base", "tuned"],
            "n": [10, 10, 30, 30],
            "spearman": [-0.2, np.nan, 0.5, -0.001],
            "auroc": [0.6, np.nan, 0.3, 0.5],
            "ece_rank": [0.1, np.nan, 0.0, 0.25],
        }
    )


def null(models=("base", "tuned"), measures=TWO, *, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for model in models:
        for measure in measures:
            draws, statistic = rng.normal(0.04, 0.02, 1000), rng.normal(0.08, 0.05)
            counts, edges = np.histogram(draws, 20)
            mean = draws.mean()
            p = (1 + (abs(draws - mean) >= abs(statistic - mean)).sum()) / 1001
            facts = {"model": model, "measure": measure, "statistic": statistic, "null_mean": mean, "p": p}
            rows += [
                {**facts, "low": low, "high": high, "n": n}
                for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)
            ]
    return pd.DataFrame(rows)


def curves(models=("base", "tuned"), measures=TWO, *, n: int = 60, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    kept, parts = np.arange(1, n + 1), []
    for model in models:
        wrong = (rng.uniform(size=n) < rng.uniform(0.2, 0.6)).astype(float)
        for measure in measures:
            ordered = wrong[np.argsort(wrong * rng.uniform(0, 1.5) + rng.normal(size=n))]
            columns = {"coverage": kept / n, "risk": np.cumsum(ordered) / kept, "error_rate": wrong.mean()}
            oracle = np.cumsum(np.sort(wrong)) / kept
            parts.append(pd.DataFrame({"model": model, "measure": measure, **columns, "oracle_risk": oracle}))
    return pd.concat(parts, ignore_index=True)


def effects(pairs: int = 5, measures=TWO, figures=("human_spearman",), *, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for figure in figures:
        for number in range(pairs):
            for measure in [None] if figure == "accuracy" else measures:
                base, change = 0.6 + rng.normal(0, 0.05), rng.normal(-0.05, 0.05)
                names = {"pair": f"model-{number}", "base": f"model-{number}", "instruct": f"model-{number}-it"}
                values = {"base_value": base, "instruct_value": base + change, "difference": change}
                interval = {"ci_low": change - 0.05, "ci_high": change + 0.05}
                rows.append({**names, "figure": figure, "measure": measure, **values, **interval})
    return pd.DataFrame(rows)


def responses(doses=(-4.0, -2.0, 2.0, 4.0), *, n_random: int = 20, seed: int = 0) -> pd.DataFrame:
    """Rows of `dose_response` for one probe."""
    rng = np.random.default_rng(seed)
    rows = []
    for figure, size in {"choice_entropy": 0.01, "total_entropy": 0.02, "accuracy": 0.005, "changed": 0.03}.items():
        rows.append({"mode": "none", "direction": "none", "dose": 0.0, "figure": figure, "value": 0.4, "change": 0.0})
        for draw, slope in zip([None, *range(n_random)], [size, *rng.normal(0, size / 3, n_random)], strict=True):
            for mode, dose in [*(("add", dose) for dose in doses), ("remove", np.nan)]:
                change = slope * (dose if mode == "add" else 0.5)
                change = abs(change) if figure == "changed" else change
                rows.append({
                    "mode": mode, "direction": "probe" if draw is None else "random", "draw": draw, "dose": dose,
                    "figure": figure, "value": 0.4 + change, "change": change, "ci_low": change - size / 4,
                    "ci_high": change + size / 3,
                })  # fmt: skip
    return pd.DataFrame(rows).astype({"draw": "Int64"})


def over_pairs(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (figure, measure), part in table.groupby(["figure", "measure"], sort=False, dropna=False):
        change = part["difference"].to_numpy()
        ranks = pd.Series(abs(change)).rank().to_numpy()
        rows.append(
            {
                "figure": figure,
                "measure": measure if isinstance(measure, str) else None,
                "n_pairs": len(change),
                "rank_biserial": (ranks * np.sign(change)).sum() / ranks.sum(),
                "p": wilcoxon(change).pvalue if len(change) > 1 else np.nan,
            }
        )
    return pd.DataFrame(rows)


def two_targets() -> pd.DataFrame:
    """Six layers in which the directions of human entropy and correctness are opposed half-way up."""
    curve = np.array([0.1, 0.2, 0.6, 0.7, 0.3, 0.2])
    columns = {
        "layer": np.arange(6), "first": "human_entropy_normalized", "second": "correct", "target_correlation": -0.3,
        "first_score_name": "pearson", "second_score_name": "auroc",
        "cosine": -curve, "cosine_null_mean": 0.02, "cosine_null_sd": 0.1, "cosine_disattenuated": -1.2 * curve,
        "cosine_p_max": np.where(curve > 0.5, 0.01, 0.4), "first_score": curve / 2, "second_score": 0.5 + curve / 4,
    }  # fmt: skip
    intervals = {
        "first_on_second": 0.5 + curve / 5, "second_on_first": curve / 3, "first_unique_own": 0.2 - curve / 5,
        "first_shared": curve / 8, "second_unique_own": 0.1 - curve / 10, "second_shared": curve / 9,
    }  # fmt: skip
    for name, values in intervals.items():
        columns |= {name: values, f"{name}_ci_low": values - 0.05, f"{name}_ci_high": values + 0.05}
    return pd.DataFrame(columns)


def lens(layers: int = 6, measures=("total_entropy_normalized", "choice_margin")) -> pd.DataFrame:
    """A logit lens whose measures follow people in the last layer only, under two scorings."""
    parts = []
    for measure in measures:
        for scoring in ("label_single", "label_variants"):
            told = np.where(np.arange(layers) == layers - 1, 0.4, 0.05) * MEASURES[measure].direction
            columns = {"layer": np.arange(layers), "measure": measure, "scoring": scoring, "mean": 0.5}
            for name, centre in (("human_spearman", 0.0), ("correct_auroc", 0.5)):
                values = centre + (told if centre == 0 else abs(told) / 2)
                columns |= {name: values, f"{name}_ci_low": values - 0.1, f"{name}_ci_high": values + 0.1}
            p = np.where(abs(told) > 0.3, 0.01, 0.8)
            parts.append(pd.DataFrame(columns | {"p_max": p, "correct_p_max": p}))
    return pd.concat(parts, ignore_index=True)


def transfer(runs=("quiz plain", "quiz chat", "survey plain"), *, score_name="pearson") -> pd.DataFrame:
    rows = []
    for number, (train, test) in enumerate((train, test) for train in runs for test in runs):
        score = [0.4, 0.2, -0.1, 0.25, 0.5, 0.0, 0.05, -0.2, 0.15][number % 9] + (0.5 if score_name == "auroc" else 0)
        interval = {"ci_low": score - 0.12, "ci_high": score + 0.12}
        names = {"train": train, "test": test, "target": "human_entropy_normalized", "score_name": score_name}
        rows.append({**names, "score": score, **interval})
    return pd.DataFrame(rows)


def geometry(targets=("human_entropy_normalized", "correct")) -> pd.DataFrame:
    rows = []
    for layer in range(6):
        cka = {"cka": 0.95 - 0.05 * layer, "cka_ci_low": 0.9 - 0.05 * layer, "cka_ci_high": 0.97 - 0.05 * layer}
        cka |= {"cka_null_mean": 0.02, "cka_null_sd": 0.01, "cka_standardized": 0.8 - 0.05 * layer}
        for number, target in enumerate(targets):
            cosine = {"cosine": 0.1 * layer - 0.3 * number, "cosine_null_mean": 0.0, "cosine_null_sd": 0.1}
            cosine |= {"cosine_p_max": 0.01 if layer > 3 else 0.4, "base_reliability": 0.5}
            rows.append({"pair": "a", "layer": layer, **cka, "target": target, **cosine, "instruct_reliability": 0.32})
    return pd.DataFrame(rows)


def similarity() -> pd.DataFrame:
    value = np.array([0.01, 0.02, 0.05, 0.06, 0.04])
    null = {"null_mean": 0.01, "null_sd": 0.005, "p_max": [0.6, 0.3, 0.01, 0.001, 0.05]}
    return pd.DataFrame({"model": "base", "layer": np.arange(5) * 2, "rsa": value, **null})


@pytest.fixture
def tables() -> SimpleNamespace:
    return SimpleNamespace(
        figures_of=figures_of, controls=controls, bins=bins, positions=positions, subjects=subjects, null=null,
        comparison=comparison, probe_controls=probe_controls, learning=learning, curves=curves,
        effects=effects, over_pairs=over_pairs, two_targets=two_targets,
        lens=lens, transfer=transfer, geometry=geometry, similarity=similarity,
        responses=responses, thirty=THIRTY, seventeen=SEVENTEEN,
    )  # fmt: skip

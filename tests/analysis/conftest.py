"""Signals and layer tables made by hand: a study without anything to warn of, to be spoilt on purpose."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest


def _signals(
    *,
    n: int = 160,
    model: str = "model-a",
    dataset: str = "quiz",
    prompt: str = "two_shot",
    scorings: tuple[str, ...] = ("label_single",),
    nuclei: tuple[str, ...] = ("inclusive",),
    options: tuple[int, ...] = (4,),
    accuracy: float = 0.6,
    seed: int = 0,
) -> pd.DataFrame:
    """A table in which uncertainty follows human entropy and errors, K and positions being balanced."""
    rng = np.random.default_rng(seed)
    k = np.resize(np.array(options), n)
    answer = np.arange(n) // len(options) % k
    human = rng.uniform(0.2, 0.9, n)
    doubt = np.clip(human + rng.normal(0, 0.15, n), 0.02, 0.98)
    right = np.zeros(n, dtype=bool)
    right[np.argsort(doubt + rng.normal(0, 0.1, n))[: round(accuracy * n)]] = True
    choice = np.where(right, answer, (answer + 1 + np.arange(n) % (k - 1)) % k)
    probability = np.clip(1 - 0.7 * doubt, 0.25, 1)
    base = pd.DataFrame(
        {
            "model": model,
            "dataset": dataset,
            "item": [f"{dataset}-{number:03d}" for number in range(n)],
            "prompt": prompt,
            "setting": "choice",
            "top_1_probability": np.clip(1 - doubt + rng.normal(0, 0.05, n), 0.01, 0.99),
            "total_entropy": doubt * 8,
            "total_entropy_normalized": doubt * 8 / np.log(50_000),
            "top_p_size_0.5": 1.0 + np.floor(6 * doubt),
            "top_p_entropy_0.5": doubt * np.log(7),
            "top_p_entropy_0.5_normalized": doubt,
            "choice_entropy": doubt * np.log(k),
            "choice_entropy_normalized": doubt,
            "choice_probability": (0.95 - 0.2 * doubt) * probability,
            "choice_mass": 0.95 - 0.2 * doubt,
            "choice_margin": 1 - doubt,
            "choice": choice,
            "choice_ties": 1,
            "choice_log_probabilities": [
                [-0.5 if position == top else -2.0 - position / 10 for position in range(many)]
                for top, many in zip(choice, k, strict=True)
            ],
            "correct": right.astype(float),
            "answer": pd.array(answer, dtype="Int64"),
            "subject": np.resize(["history", "music", "sports"], n),
            "n_options": k,
            "human_entropy": human * np.log(k),
            "human_entropy_normalized": human,
            "human_entropy_se": 0.01,
            "human_top": [[int(position)] for position in answer],
        }
    )
    parts = [base.assign(scoring=scoring, nucleus=nucleus) for scoring in scorings for nucleus in nuclei]
    return pd.concat(parts, ignore_index=True)


def _layers(
    *,
    model: str = "model-a",
    dataset: str = "quiz",
    prompt: str = "two_shot",
    target: str = "human_entropy_normalized",
    p_max: float = 0.01,
    nested: float = 0.39,
) -> pd.DataFrame:
    """Six layers of which the fourth is best, with a score of 0.4 (human entropy) or 0.7 (correctness)."""
    curve = np.array([0.1, 0.2, 0.3, 0.4, 0.35, 0.3])
    binary = target == "correct"
    score = curve + 0.3 if binary else curve
    missing = np.full(6, np.nan)
    return pd.DataFrame(
        {
            "model": model,
            "dataset": dataset,
            "prompt": prompt,
            "site": "resid_post",
            "layer": np.arange(6),
            "target": target,
            "scoring": "label_single" if binary else None,
            "probe": "ridge",
            "n": 160,
            "n_missing": 0,
            "n_groups": 3,
            "folds": 3,
            "score_name": "auroc" if binary else "r2",
            "score": score if binary else curve**2,
            "r2": missing if binary else curve**2,
            "pearson": missing if binary else curve,
            "auroc": score if binary else missing,
            "ci_low": score - 0.1,
            "ci_high": score + 0.1,
            "null_mean": 0.5 if binary else -0.01,
            "null_sd": 0.03,
            "p": 0.01,
            "p_max": p_max,
            "best": curve == 0.4,
            "nested_score": nested + 0.3 if binary else nested**2,
            "nested_p": 0.01,
            "nested_pearson": np.nan if binary else nested,
            "nested_ci_low": (nested + 0.3 if binary else nested) - 0.1,
            "nested_ci_high": (nested + 0.3 if binary else nested) + 0.1,
            "n_permutations": 199,
        }
    )


@pytest.fixture
def make_signals() -> Callable[..., pd.DataFrame]:
    return _signals


@pytest.fixture
def make_layers() -> Callable[..., pd.DataFrame]:
    return _layers

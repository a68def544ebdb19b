"""A run in memory whose items differ in length, number of options and subject, for probes and their controls."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from doubtlens.extract.statistics import logit_statistics

WORDS = [
    f"{first}{second}" for first in ("ba", "ke", "li", "mo", "su") for second in ("n", "rt", "lo", "ma", "st", "v")
]
VOCABULARY = 64


class AskedRun:
    """Items of 2 to 5 options with questions of 3 to 30 words, three layers of d features; layer 1 may know something.

    Attributes:
        doubt: [N], independent of all that the items and the output show.
        lengths: [N], tokens of the prompt.
    """

    sites = ["resid_post"]  # noqa: RUF012
    positions = ["last"]  # noqa: RUF012
    scorings = ("label_single", "text_mean")
    layers = [0, 1, 2]  # noqa: RUF012

    def __init__(self, n: int = 120, d: int = 16, seed: int = 0, name: str = "tiny", subjects: int = 0) -> None:
        rng = np.random.default_rng(seed)
        counts, words = rng.integers(2, 6, n), rng.integers(3, 31, n)
        questions = [" ".join(rng.choice(WORDS, count)) + "?" for count in words]
        self.items = pd.DataFrame(
            {
                "id": [f"q{row}" for row in range(n)],
                "question": questions,
                "options": [list("abcde")[:k] for k in counts],
                "answer": pd.array(rng.integers(0, counts), dtype="Int64"),
                "responses": pd.Series([rng.integers(1, 30, k).astype(float).tolist() for k in counts], dtype=object),
                "respondents": pd.array([50] * n, dtype="Int64"),
                "subject": [f"s{row % subjects}" for row in range(n)] if subjects else None,
                "prompt": questions,
                "n_options": counts,
            }
        )
        self.lengths = 1.5 * words + 4 * counts
        self.rows = pd.DataFrame({"item": np.arange(n), "rotation": 0, "n_tokens": self.lengths})
        self.info = {
            "model": name, "dataset": "made", "prompt": "two_shot", "setting": "choice", "permutations": "none",
            "vocab_size": VOCABULARY, "logits": "full", "checkpoint": f"org/{name}", "weights": f"weights of {name}",
            "items": "i", "prompts": "p", "tokens": "t", "d_model": d, "n_layers": 3,
        }  # fmt: skip
        self.doubt = rng.standard_normal(n)
        self._logits = rng.standard_normal((n, VOCABULARY)) * 3
        self.activations = np.random.default_rng(len(name)).standard_normal((3, n, d)).astype(np.float32)

    def knows(self, values: np.ndarray, strength: float = 3.0, layer: int = 1) -> "AskedRun":
        """Let four features of a layer hold standardised values [N]."""
        self.activations[layer, :, :4] += (strength * (values - values.mean()) / values.std())[:, None]
        return self

    def residual(self, layer: int, site: str = "resid_post", position: str = "last") -> np.ndarray:
        return self.activations[self.layers.index(layer)]

    def choice_scores(self, scoring: str) -> np.ndarray:
        start = 10 * self.scorings.index(scoring)
        scores = self._logits - np.log(np.exp(self._logits).sum(1, keepdims=True))
        scores = scores[:, start : start + 5].copy()
        scores[np.arange(5) >= self.items["n_options"].to_numpy()[:, None]] = np.nan
        return scores

    def statistics(self) -> pd.DataFrame:
        return pd.DataFrame(logit_statistics(self._logits))


@pytest.fixture
def asked_run() -> Callable[..., Any]:
    return AskedRun

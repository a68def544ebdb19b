"""What a probe has to beat: features of an item that need no trained model, or none of its inside.

- `options_and_length`: number of options, prompt length in tokens, question length in characters and words, each as it
  is and as its natural logarithm. Activations hold all of them, and questions with more or longer options are asked of
  people, too: a probe that is no better may have read nothing else.
- TF-IDF of the question's words: what the text alone says about the answers it will get.
- Random directions of the activations: how much of the score any few numbers of a layer give.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .ridge_path import Standardization

if TYPE_CHECKING:
    from ..extract.store import Run

Array = np.ndarray

# Rows of TF-IDF have length 1, whatever their number of features.
TFIDF_PENALTIES = tuple(10.0**power for power in range(-3, 5))


def options_and_length(run: Run) -> pd.DataFrame:
    """Number of options and lengths of every item, and their logarithms (of 1 + n for the question's): [N, 8]."""
    questions = run.items["question"].astype(str)
    tokens = run.rows.groupby("item")["n_tokens"].mean().sort_index()
    counts = pd.DataFrame(
        {
            "n_options": run.items["n_options"].to_numpy(dtype=np.float64),
            "prompt_tokens": tokens.to_numpy(dtype=np.float64),
            "question_characters": questions.str.len().to_numpy(dtype=np.float64),
            "question_words": questions.str.split().str.len().to_numpy(dtype=np.float64),
        }
    )
    for name in list(counts):
        of_question = name.startswith("question_")
        counts[f"log_{name}"] = np.log1p(counts[name]) if of_question else np.log(counts[name])
    return counts


class TextFeatures:
    """TF-IDF of texts, the vocabulary and the document frequencies learnt from the training rows of each fold.

    scikit-learn's `TfidfVectorizer` as it comes: lowercase words of two letters or more, smoothed document
    frequencies, rows of length 1.

    Args:
        texts: [n].
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = np.asarray(texts, dtype=object)

    def __call__(self, fold: int, train: Array, test: Array) -> tuple[Array, Array]:
        """Features of the training and of the test rows; one that is 0 throughout where no text holds a word."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer()
        try:
            of_train = vectorizer.fit_transform(self._texts[train])
        except ValueError as error:
            if "empty vocabulary" not in str(error):
                raise
            return np.zeros((len(train), 1)), np.zeros((len(test), 1))
        return of_train.toarray(), vectorizer.transform(self._texts[test]).toarray()


class LayerOfFold:
    """Activations of the layer that each fold chose.

    Args:
        rows: [F], for each fold the activations [n, d] of its layer.
    """

    def __init__(self, rows: Sequence[Array]) -> None:
        self._rows = rows

    def __call__(self, fold: int, train: Array, test: Array) -> tuple[Array, Array]:
        """Features of the training and of the test rows, [n, d] and [m, d]."""
        rows = self._rows[fold]
        return rows[train].astype(np.float64), rows[test].astype(np.float64)


class RandomDirections:
    """Activations of each fold's layer, standardised on its training rows, along random directions.

    Args:
        rows: [F], for each fold the activations [n, d] of its layer.
        directions: [d, k], standard normal; the same in every fold.
    """

    def __init__(self, rows: Sequence[Array], directions: Array) -> None:
        self._rows, self._directions = rows, directions

    def __call__(self, fold: int, train: Array, test: Array) -> tuple[Array, Array]:
        """Projections of the training and of the test rows, [n, k] and [m, k]."""
        rows = np.asarray(self._rows[fold], dtype=np.float64)
        scaler = Standardization.of(rows[train])
        return scaler.apply(rows[train]) @ self._directions, scaler.apply(rows[test]) @ self._directions

"""Output-level uncertainty measures of the final logits: one row per item.

Two families. The vocabulary measures (`total_entropy`, `top_k_entropy_*`, `top_p_*`, ...) come from
`extract.statistics`, for runs that keep all logits and for runs that keep their statistics alike. The choice
measures come from the K option scores of one answer scoring. Names, definitions, directions and ranges stand
in `probes.measure_table`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from scipy.special import entr, logsumexp

from ..extract.statistics import NUCLEI, logit_statistics
from .measure_table import MEASURES, TOP_K, unknown_name

SCORINGS = ("label_single", "label_variants", "text_sum", "text_mean")
CONVENTIONS = ("published",)
RUN_KEYS = ("model", "dataset", "prompt", "setting")
# Logits rounded to float32 may bring a total probability this far above 1; it is then 1, and beyond refused.
_MASS_TOLERANCE = 1e-5


class RunLike(Protocol):
    """What `output_measures` reads of a run."""

    items: pd.DataFrame
    info: Mapping[str, Any]
    scorings: Sequence[str]

    def statistics(self) -> pd.DataFrame:
        """Vocabulary-wide statistics, one row per item."""
        ...

    def choice_scores(self, scoring: str) -> np.ndarray:
        """Natural-log option scores [N, Kmax], NaN beyond an item's K."""
        ...


def output_measures(
    run: RunLike | None = None,
    *,
    scoring: str | None = None,
    nucleus: str = "inclusive",
    convention: str | None = None,
    measures: Sequence[str] | None = None,
    logits: Any = None,
    choice_logits: Any = None,
    n_options: Any = None,
) -> pd.DataFrame:
    """Compute the output-level uncertainty measures of a run, or of plain arrays of logits.

    Args:
        run: an open run (`doubtlens.open_run`); leave it out to pass arrays.
        scoring: answer scoring behind the `choice_*` measures: `label_single`, `label_variants`, `text_sum`
            or `text_mean`. Default: `label_single` where the run has it, else `text_sum`; `label_single` for
            arrays.
        nucleus: convention of the `top_p_*` measures, `inclusive` or `exclusive` (see `extract.statistics`).
        convention: `"published"` with `nucleus="exclusive"` gives an empty nucleus the normalised entropy 1,
            as the code of https://arxiv.org/abs/2508.08204 does; nothing else changes. None: it is missing.
        measures: names of the measures wanted. Default: all that the input allows.
        logits: [N, V] final logits at the last prompt token: tensor, ndarray or HDF5 dataset; -inf
            means p = 0.
        choice_logits: [N, Kmax] raw logits of the K option labels, in option order, NaN beyond an item's K
            (with `n_options` whatever stands beyond K is ignored). Under `text_sum` and `text_mean`
            log-likelihoods of the options' texts.
        n_options: [N] number of options K of each item. Default: the entries before the first NaN.

    Returns:
        One row per item, RangeIndex. Columns: for a run `model`, `dataset`, `item` (id), `prompt`, `setting`;
        `scoring`, `nucleus`; the measures in the order of `MEASURES` (nats, probabilities, tokens; normalised
        twins are shares in [0, 1]); with option scores also `choice` (int64, position of the best option, the
        lowest of tied ones) and `choice_ties` (int64, how many options share the best score).

        An exclusive nucleus that is empty has size 0 and a missing (NaN) entropy. A measure that the input
        cannot give is left out: vocabulary measures without `logits`, `top_k_entropy_{k}` for k > V, and
        `choice_probability` and `choice_mass` for `text_mean` (not a probability), for runs with cyclic
        permutations (their scores are renormalised) and for label logits without `logits`. Under `text_sum`
        `choice_mass` may exceed 1 where one option's text begins with another's. For cyclic permutations
        vocabulary statistics are means over the rotations, and a normalised nucleus entropy is mean entropy /
        ln(mean size).

    Raises:
        ValueError: an unknown scoring, nucleus, convention or measure (with the nearest known name); a
            measure that the input cannot give (with the reason); arrays of the wrong shape; a row with fewer
            than 2 options, a NaN or +inf among its K scores, or no finite score; label logits that are not
            part of `logits`.
    """
    _require_known("nucleus", "a nucleus convention", nucleus, NUCLEI)
    if convention is not None:
        _require_known("convention", "a convention, or be None,", convention, CONVENTIONS)
        if nucleus != "exclusive":
            raise ValueError(
                f"The convention parameter of output_measures must be None unless nucleus='exclusive': "
                f"only there can a nucleus be empty. Got {convention!r} with nucleus={nucleus!r} instead."
            )
    if isinstance(measures, str):
        raise ValueError(
            f"The measures parameter of output_measures must be a list of names. "
            f"Got {measures!r} instead; pass [{measures!r}]."
        )
    for name in measures if measures is not None else ():
        if name not in MEASURES:
            raise ValueError(
                unknown_name("measures", "output_measures", "measures, as measure_table() lists them", name, MEASURES)
            )

    if run is not None:
        if not (logits is None and choice_logits is None and n_options is None):
            raise ValueError(
                "The run parameter of output_measures must be None where logits, choice_logits or n_options "
                "are given. Got both instead; pass the run or the arrays."
            )
        return _of_run(run, scoring, nucleus, convention, measures)
    if logits is None and choice_logits is None:
        raise ValueError(
            "The run parameter of output_measures must be a run, or logits or choice_logits must be given. "
            "Got none of them instead."
        )
    return _of_arrays(scoring, nucleus, convention, measures, logits, choice_logits, n_options)


def _of_run(
    run: RunLike, scoring: str | None, nucleus: str, convention: str | None, measures: Sequence[str] | None
) -> pd.DataFrame:
    if scoring is None:
        scoring = "label_single" if "label_single" in run.scorings else "text_sum"
    _require_known("scoring", "an answer scoring of the run", scoring, run.scorings)
    cyclic = run.info.get("permutations", "none") == "cyclic"
    if cyclic and convention is not None:
        raise ValueError(
            f"The convention parameter of output_measures must be None for a run with permutations='cyclic', "
            f"whose statistics are means over rotations. Got {convention!r} instead."
        )
    width = int(run.info["vocab_size"])
    reason = None
    if scoring == "text_mean":
        reason = "a text_mean score is no probability; use scoring='text_sum'"
    elif cyclic:
        reason = "with permutations='cyclic' the scores are means of renormalised log-probabilities"
    absent = _too_small(width) | ({} if reason is None else _unnormalised(reason))
    names = _selected(measures, absent)
    try:
        scores, counts = _checked_scores(run.choice_scores(scoring), run.items["n_options"], len(run.items))
        choices = _choice_measures(scores, counts, scoring)
    except ValueError as error:
        error.add_note(f"while reading the {scoring} scores of the run, row = position in run.items")
        raise
    statistics = {str(name): column.to_numpy() for name, column in run.statistics().items()}
    values = _vocabulary_measures(names, statistics, width, nucleus, convention)
    keys: dict[str, Any] = {key: run.info[key] for key in RUN_KEYS}
    keys = {"model": keys["model"], "dataset": keys["dataset"], "item": run.items["id"].to_numpy()} | keys
    return _table(keys | {"scoring": scoring, "nucleus": nucleus}, names, values | choices, len(run.items))


def _of_arrays(
    scoring: str | None,
    nucleus: str,
    convention: str | None,
    measures: Sequence[str] | None,
    logits: Any,
    choice_logits: Any,
    n_options: Any,
) -> pd.DataFrame:
    if scoring is not None:
        _require_known("scoring", "an answer scoring", scoring, SCORINGS)
    if choice_logits is None and not (scoring is None and n_options is None):
        raise ValueError(
            "The choice_logits parameter of output_measures must be given where scoring or n_options is. "
            "Got None instead."
        )
    absent: dict[str, str] = {}
    if logits is None:
        absent |= {name: "it needs logits" for name, m in MEASURES.items() if m.family == "vocabulary"}
    else:
        if len(getattr(logits, "shape", ())) != 2:
            raise ValueError(
                f"The logits parameter of output_measures must have the shape [rows, vocabulary]. "
                f"Got {type(logits).__name__} of shape {tuple(getattr(logits, 'shape', ()))} instead."
            )
        absent |= _too_small(logits.shape[1])
    if choice_logits is None:
        absent |= {name: "it needs choice_logits" for name, m in MEASURES.items() if m.family == "choice"}
    else:
        scoring = scoring or "label_single"
        if scoring == "text_mean":
            absent |= _unnormalised("a text_mean score is no probability; use scoring='text_sum'")
        elif scoring.startswith("label") and logits is None:
            absent |= _unnormalised("without logits the labels' share of the whole vocabulary is unknown")
    names = _selected(measures, absent)

    values: dict[str, np.ndarray] = {}
    n = 0
    log_sum_exp = None
    if logits is not None:
        n = logits.shape[0]
        statistics = logit_statistics(logits)
        log_sum_exp = statistics["log_sum_exp"]
        values = _vocabulary_measures(names, statistics, logits.shape[1], nucleus, convention)
    if choice_logits is not None:
        scores, counts = _checked_scores(choice_logits, n_options, None if logits is None else n)
        n = len(scores)
        if str(scoring).startswith("label"):
            # Without logits any normaliser will do: what depends on it is not returned.
            scores -= logsumexp(scores, axis=1, keepdims=True) if log_sum_exp is None else log_sum_exp[:, None]
        values |= _choice_measures(scores, counts, str(scoring))
    return _table({"scoring": scoring, "nucleus": nucleus}, names, values, n)


def _require_known(parameter: str, kind: str, name: object, known: Iterable[str]) -> None:
    known = list(known)
    if name not in known:
        raise ValueError(unknown_name(parameter, "output_measures", kind, name, known))


def _too_small(width: int) -> dict[str, str]:
    """Reasons against the top-k entropies that a vocabulary of `width` tokens cannot give."""
    return {
        f"top_k_entropy_{k}{suffix}": f"the vocabulary has only {width} tokens"
        for k in TOP_K
        if k > width
        for suffix in ("", "_normalized")
    }


def _unnormalised(reason: str) -> dict[str, str]:
    return dict.fromkeys(("choice_probability", "choice_mass"), reason)


def _selected(measures: Sequence[str] | None, absent: Mapping[str, str]) -> list[str]:
    """Names to return, in the order of `MEASURES`; a wanted one that is absent is refused with its reason."""
    for name in measures if measures is not None else ():
        if name in absent:
            raise ValueError(
                f"The measures parameter of output_measures must name measures that the input can give. "
                f"Got {name!r} instead: {absent[name]}."
            )
    return [name for name in MEASURES if name not in absent and (measures is None or name in measures)]


def _table(keys: Mapping[str, Any], names: Sequence[str], values: Mapping[str, Any], n: int) -> pd.DataFrame:
    columns = {name: values[name] for name in [*names, "choice", "choice_ties"] if name in values}
    return pd.DataFrame(dict(keys) | columns, index=pd.RangeIndex(n))


def _vocabulary_measures(
    names: Sequence[str],
    statistics: Mapping[str, np.ndarray],
    width: int,
    nucleus: str,
    convention: str | None,
) -> dict[str, np.ndarray]:
    values = {}
    for name in names:
        measure = MEASURES[name]
        if measure.family != "vocabulary":
            continue
        raw = measure.raw or name
        column = f"{raw}_{nucleus}" if raw.startswith("top_p_") else raw
        value = np.asarray(statistics[column], dtype=np.float64)
        if measure.raw is not None:
            if raw.startswith("top_p_"):
                size = np.asarray(statistics[column.replace("entropy", "size")], dtype=np.float64)
                value = _share(value, size)
                if convention == "published":
                    value = np.where(size == 0, 1.0, value)
            else:
                outcomes = width if raw == "total_entropy" else int(raw.rpartition("_")[2])
                value = _share(value, np.full(len(value), float(outcomes)))
        values[name] = value
    return values


def _share(entropy: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """Entropy over ln outcomes; over one outcome both are 0 and so is the share."""
    several = outcomes > 1
    return np.where(several, entropy / np.log(np.where(several, outcomes, np.e)), entropy)


def _checked_scores(scores: Any, n_options: Any, rows: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64 [N, Kmax] with -inf beyond each row's K, and K as int64 [N]."""
    scores = np.array(_on_host(scores), dtype=np.float64)
    if scores.ndim != 2:
        raise ValueError(
            f"The choice_logits parameter of output_measures must have the shape [rows, options]. "
            f"Got shape {scores.shape} instead."
        )
    if rows is not None and len(scores) != rows:
        raise ValueError(
            f"The choice_logits parameter of output_measures must have one row per item, {rows}. "
            f"Got {len(scores)} rows instead."
        )
    positions = np.arange(scores.shape[1])
    if n_options is None:
        missing = np.isnan(scores)
        counts = np.where(missing.any(axis=1), missing.argmax(axis=1), scores.shape[1]).astype(np.int64)
        beyond = positions >= counts[:, None]
        _refuse_row((beyond & ~missing).any(axis=1), "hold NaN only beyond the last option", "a NaN before a score")
    else:
        counts = np.asarray(_on_host(n_options))
        if counts.shape != (len(scores),) or not np.issubdtype(counts.dtype, np.integer):
            raise ValueError(
                f"The n_options parameter of output_measures must hold one integer per row, {len(scores)}. "
                f"Got shape {counts.shape} of dtype {counts.dtype} instead."
            )
        counts = counts.astype(np.int64)
        _refuse_row(counts > scores.shape[1], f"hold K scores in {scores.shape[1]} columns", "a larger n_options")
        beyond = positions >= counts[:, None]
    _refuse_row(counts < 2, "hold at least 2 options", "fewer")
    scores[beyond] = -np.inf
    _refuse_row(np.isnan(scores).any(axis=1), "hold a number for each of its K options", "NaN")
    _refuse_row(np.isposinf(scores).any(axis=1), "hold no +inf", "+inf")
    _refuse_row(np.isneginf(scores).all(axis=1), "hold a finite score", "only -inf")
    return scores, counts


def _on_host(values: Any) -> Any:
    # bfloat16 has no numpy dtype, float64 holds every floating dtype of torch.
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.double() if values.is_floating_point() else values).numpy()
    return values


def _refuse_row(bad: np.ndarray, requirement: str, got: str) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        raise ValueError(
            f"The choice_logits parameter of output_measures must {requirement} in every row. "
            f"Got {got} in row {rows[0]} instead."
        )


def _choice_measures(scores: np.ndarray, counts: np.ndarray, scoring: str) -> dict[str, np.ndarray]:
    """Every choice measure of checked log-probabilities, also those that `_selected` then leaves out."""
    log_mass = np.asarray(logsumexp(scores, axis=1)) if len(scores) else np.empty(0)
    best = scores.max(axis=1, initial=-np.inf)
    log_probability, log_total = np.minimum(best, 0), log_mass
    if scoring.startswith("label"):
        need = "be logits of different tokens of logits, with a total probability of at most 1,"
        _refuse_row(log_mass > _MASS_TOLERANCE, need, "more")
        log_total = np.minimum(log_mass, 0)
    else:
        _refuse_row(best > _MASS_TOLERANCE, "be log-likelihoods of at most 0", "more")
    p = np.exp(scores - log_mass[:, None])
    two_largest = np.sort(p, axis=1)[:, -2:]
    entropy = np.minimum(entr(p).sum(axis=1), np.log(counts))
    return {
        "choice_entropy": entropy,
        "choice_entropy_normalized": _share(entropy, counts.astype(np.float64)),
        "choice_probability": np.exp(log_probability),
        "choice_mass": np.exp(log_total),
        "choice_margin": two_largest[:, 1] - two_largest[:, 0],
        "choice": scores.argmax(axis=1).astype(np.int64),
        "choice_ties": (scores == best[:, None]).sum(axis=1),
    }

"""The output-level measures: names, definitions, directions and ranges, in one table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import pandas as pd

from ..extract.names import did_you_mean

TOP_K = (5, 10, 25, 50, 100)
TOP_P = (0.95, 0.9, 0.75, 0.5)


@dataclass(frozen=True)
class Measure:
    """One output-level measure of the final logits at the last prompt token.

    Attributes:
        name: column name in every table.
        direction: +1 if a high value means uncertain, -1 if it means certain.
        minimum: smallest possible value.
        maximum: largest possible value: a number, or a formula of V (vocabulary), K (options) or size
            (nucleus).
        unit: "nats", "nats^2", "probability", "tokens" or "share" (of the largest possible entropy).
        family: "vocabulary" (of the whole softmax) or "choice" (of the K option scores).
        raw: for a normalised twin the name of the measure it divides, otherwise None.
        definition: formula in words; p = softmax of the logits, ln the natural logarithm.
    """

    name: str
    direction: int
    minimum: float
    maximum: float | str
    unit: str
    family: str
    raw: str | None
    definition: str


def _entropy(name: str, family: str, count: str, definition: str) -> list[Measure]:
    """An entropy and its normalised twin, which divides by ln of the number of things it is over."""
    twin = f"{name} / ln {count}" + (" (0 where the nucleus is one token)" if count == "size" else "")
    return [
        Measure(name, +1, 0.0, f"ln {count}", "nats", family, None, definition),
        Measure(f"{name}_normalized", +1, 0.0, 1.0, "share", family, name, twin),
    ]


def _measures() -> Iterable[Measure]:
    yield Measure("top_1_probability", -1, 0.0, 1.0, "probability", "vocabulary", None, "max p")
    yield from _entropy("total_entropy", "vocabulary", "V", "-sum p ln p over the whole vocabulary")
    # 0 for a one-hot as for a uniform p: high means that likely and unlikely tokens share the mass.
    definition = "variance of -ln p under p"
    yield Measure("varentropy", +1, 0.0, float("inf"), "nats^2", "vocabulary", None, definition)
    for k in TOP_K:
        definition = f"entropy of the {k} largest p divided by their sum"
        yield from _entropy(f"top_k_entropy_{k}", "vocabulary", str(k), definition)
    for p in TOP_P:
        definition = f"number of tokens in the nucleus of mass {p:g}"
        yield Measure(f"top_p_size_{p:g}", +1, 0.0, "V", "tokens", "vocabulary", None, definition)
        definition = f"entropy of the renormalised nucleus of mass {p:g}; missing where it is empty"
        yield from _entropy(f"top_p_entropy_{p:g}", "vocabulary", "size", definition)
    definition = "entropy of the K option scores, renormalised to sum to 1"
    yield from _entropy("choice_entropy", "choice", "K", definition)
    definition = "probability of the most likely option, before renormalising over the options"
    yield Measure("choice_probability", -1, 0.0, 1.0, "probability", "choice", None, definition)
    definition = "total probability of the K options, before renormalising"
    yield Measure("choice_mass", -1, 0.0, 1.0, "probability", "choice", None, definition)
    definition = "difference of the two largest option probabilities, renormalised over the options"
    yield Measure("choice_margin", -1, 0.0, 1.0, "probability", "choice", None, definition)


MEASURES: dict[str, Measure] = {measure.name: measure for measure in _measures()}


def measure_table() -> pd.DataFrame:
    """List every output-level measure: one row each, one column per attribute of `Measure`."""
    return pd.DataFrame([asdict(measure) for measure in MEASURES.values()])


def direction(name: str) -> int:
    """Tell how a measure is read: +1 where a high value means uncertain, -1 where it means certain.

    Raises:
        ValueError: an unknown name, answered with the nearest known one.
    """
    if name not in MEASURES:
        raise ValueError(unknown_name("name", "direction", "a measure, as measure_table() lists them", name, MEASURES))
    return MEASURES[name].direction


def unknown_name(parameter: str, caller: str, kind: str, name: object, known: Iterable[str]) -> str:
    """Word the error for a name that is not among `known`: the nearest of them, and all of a short list."""
    known = list(known)
    hint = did_you_mean(name, known, cutoff=0.0)
    listed = f" ({', '.join(known)})" if len(known) <= 12 else ""
    return f"The {parameter} parameter of {caller} must name {kind}{listed}. Got {name!r} instead.{hint}"

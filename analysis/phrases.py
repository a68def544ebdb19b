"""Phrases about rows of a table of findings: who, which measure, from where to where, said once where alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from .views import ANY
from .wording import UNDEFINED, listing, number

Place = tuple[str | None, str | None]


def asked(table: pd.DataFrame, place: Place) -> pd.DataFrame:
    """Select the rows of one (dataset, prompt) from a table that may lack either column."""
    for key, value in zip(("dataset", "prompt"), place, strict=True):
        if value is not None and key in table:
            table = table[table[key] == value]
    return table


def places(table: pd.DataFrame) -> list[Place]:
    """List the (dataset, prompt) pairs of a table in order of appearance, None for a column it lacks."""
    columns = [list(table[key]) if key in table else [None] * len(table) for key in ("dataset", "prompt")]
    return list(dict.fromkeys(zip(*columns, strict=True)))


def by_place(table: pd.DataFrame) -> Iterator[tuple[Place, pd.DataFrame]]:
    """Yield each place of a table with its rows."""
    for place in places(table):
        yield place, asked(table, place)


def by(table: pd.DataFrame, key: str) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Yield each value of a column with its rows, in order of appearance; what has none, or no column, under None."""
    if key not in table:
        yield None, table
        return
    absent = table[key].isna()
    for value in dict.fromkeys(table[key].astype(object).where(~absent, None)):
        yield value, table[absent if value is None else table[key] == value]


def who(row: pd.Series) -> str:
    """Name the model of a row."""
    return str(row["model"]) if "model" in row.index else "the model"


def conventions(row: pd.Series, prefix: str = "") -> list[str]:
    """List the scoring and the nucleus of a row that it depends on."""
    named = [row[prefix + key] for key in ("scoring", "nucleus") if prefix + key in row.index]
    return [str(name) for name in named if isinstance(name, str) and name != ANY]


def measure(row: pd.Series, prefix: str = "") -> str:
    """Name the measure of a row with its conventions."""
    extra = ", ".join(conventions(row, prefix))
    return f"{row['measure']} ({extra})" if extra else str(row["measure"])


def spread(
    rows: pd.DataFrame,
    value: str,
    written: Callable[[float], str] = number,
    *,
    name: Callable[[pd.Series], str] = who,
) -> str:
    """Say from where to where a figure goes over models, or whatever else rows are named by, with its median."""
    defined = rows[rows[value].notna()].reset_index(drop=True)
    if defined.empty:
        return f"{UNDEFINED} in any of them"
    low, high = defined.loc[defined[value].idxmin()], defined.loc[defined[value].idxmax()]
    middle = written(float(np.median(defined[value])))
    return f"from {written(low[value])} ({name(low)}) to {written(high[value])} ({name(high)}), median {middle}"


def span(values: Iterable[float], written: Callable[[float], str] = number) -> str:
    """Write the smallest and the largest of some numbers, once where they read alike; NaN do not count."""
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return UNDEFINED
    return " to ".join(dict.fromkeys((written(min(known)), written(max(known)))))


def counts(numbers: Iterable[float], singular: str) -> str:
    """Write from how few to how many things there are: 1 measure, 26 to 28 measures."""
    text = span(numbers, "{:,.0f}".format)
    return f"{text} {singular if text == '1' else singular + 's'}"


def told(rows: pd.DataFrame, tell: Callable[[pd.Series], str], *, most: int = 5) -> str:
    """Join what is told of each row after its model and conventions; what reads alike is told once.

    Args:
        rows: rows of a table of findings.
        tell: the rest of the phrase, with the blank or comma it begins with.
        most: how many phrases are written out; the others are counted.
    """
    found: dict[tuple[str, str], dict[str, None]] = {}
    for _, row in rows.iterrows():
        found.setdefault((who(row), tell(row)), {}).update(dict.fromkeys(conventions(row)))
    phrases = [f"{model}{f' ({listing(names)})' if names else ''}{text}" for (model, text), names in found.items()]
    return "; ".join(phrases[:most]) + (f"; and {len(phrases) - most} more" if len(phrases) > most else "")


def sentences(clauses: Iterable[tuple[str | None, str]], names: Iterable[str] = ()) -> str:
    """Turn clauses, each with the scoring it holds for, into sentences; what reads alike is said once.

    A sentence begins with a capital letter unless it begins with one of `names`, which are left as they are.
    """
    kept = tuple(f"{name} " for name in names)
    scorings: dict[str, dict[str, None]] = {}
    for scoring, text in clauses:
        known = isinstance(scoring, str) and scoring != ANY
        scorings.setdefault(text, {}).update({str(scoring): None} if known else {})
    lines = []
    for text, names in scorings.items():
        alike = " alike" if len(names) > 1 else ""
        lines.append(f"scored by {listing(names)}{alike}, {text}" if names else text)
    return " ".join(f"{line if line.startswith(kept) else line[0].upper() + line[1:]}." for line in lines)

"""The items table: one question per row, its options, the right answer and what people chose.

Columns of a validated table, in this order:

===============  ==========================================================================================
``id``           str, unique
``question``     str
``options``      list of 2 to 26 distinct str
``answer``       Int64: index of the right option from 0, or missing
``responses``    list of float, counts or proportions of people per option, or None
``respondents``  Int64: how many people answered, or missing
``subject``      str or None
``excluded``     str or None: the reason why the item is left out of the choice settings
``accepted``     list of str or None: answers accepted in free recall
===============  ==========================================================================================

and then whatever else the source has. Two of the extra columns have a meaning: ``recall_correct`` (share of
people in [0, 1] who recalled the answer without options) and ``response_time_ms`` (milliseconds, positive).
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from .answers import resolve_answers
from .cells import (
    check_accepted,
    check_measured,
    check_options,
    check_respondents,
    check_responses,
    check_text,
    is_missing,
    is_number,
    plain,
)

ITEM_COLUMNS = (
    "id",
    "question",
    "options",
    "answer",
    "responses",
    "respondents",
    "subject",
    "excluded",
    "accepted",
)
MEASURED_COLUMNS = ("recall_correct", "response_time_ms")
_SHOWN_PROBLEMS = 5


def validate_items(frame: pd.DataFrame, *, origin: str = "the items table") -> pd.DataFrame:
    """Check a table of items and bring it into the documented columns.

    Parameters
    ----------
    frame : DataFrame
        At least ``question`` and ``options``; missing optional columns are added empty, and ids
        ``item-0001``, ... are made when the whole ``id`` column is absent. ``answer`` may be an index, a
        letter or an option's text (see :func:`~doubtlens.extract.answers.resolve_answers`).
    origin : str
        What the messages call the table, for instance its file name.

    Returns
    -------
    DataFrame
        A new table with a RangeIndex, the documented columns first and the extra columns after them,
        ``attrs`` kept. Validating it again gives the same table.

    Raises
    ------
    ValueError
        Naming the item, what is wrong and the mend; up to five problems are listed at once.
    """
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(
            f"The frame parameter of validate_items must be a pandas.DataFrame. Got {type(frame).__name__} instead."
        )
    records, places = frame_records(frame, origin=origin)
    items = build_items(records, places, origin=origin, columns=[str(name) for name in frame.columns])
    items.attrs.update(frame.attrs)
    return items


def build_items(
    records: Sequence[Mapping[str, Any]],
    places: Sequence[str],
    *,
    origin: str,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Build the validated table from one mapping per item.

    Parameters
    ----------
    records : sequence of mapping
        The cells of each item; a key that some records lack is empty there.
    places : sequence of str
        Where each record stands in its source, for the messages ("line 7").
    origin : str
        The source, for the messages.
    columns : sequence of str, optional
        All column names in order; by default those of the records.

    Returns
    -------
    DataFrame
        As :func:`validate_items`.
    """
    if not records:
        raise ValueError(f"{origin} must hold at least one item. Got none; add one item per line or row.")
    if columns is None:
        columns = list(dict.fromkeys(key for record in records for key in record))
    for name in ("question", "options"):
        if name not in columns:
            raise ValueError(f"{origin} must have a column {name!r}. Got the columns {list(columns)} instead.")

    problems = _Problems(origin, places)
    ids = _ids(records, columns, problems)
    table: dict[str, list[Any]] = {"id": ids}
    questions, options = [], []
    for row, record in enumerate(records):
        with problems.at(row):
            questions.append(check_text("question", record.get("question")))
        with problems.at(row):
            options.append(check_options(record.get("options"), excluded=not is_missing(record.get("excluded"))))
    problems.raise_if_any()
    table["question"], table["options"] = questions, options
    table["answer"] = resolve_answers(
        [None if is_missing(record.get("answer")) else plain(record.get("answer")) for record in records],
        options,
        problems,
    )
    for name in ITEM_COLUMNS[4:]:
        table[name] = []
    for row, (record, choices) in enumerate(zip(records, options, strict=True)):
        checks: dict[str, Callable[[Any], Any]] = {
            "responses": partial(check_responses, n_options=len(choices)),
            "respondents": check_respondents,
            "subject": partial(check_text, "subject"),
            "excluded": partial(check_text, "excluded"),
            "accepted": check_accepted,
        }
        for name, check in checks.items():
            value = record.get(name)
            with problems.at(row):
                table[name].append(None if is_missing(value) else check(value))
    extras = {name: [plain(record.get(name)) for record in records] for name in columns if name not in ITEM_COLUMNS}
    for name in MEASURED_COLUMNS:
        for row, value in enumerate(extras.get(name, [])):
            with problems.at(row):
                if not is_missing(value):
                    check_measured(name, value)
    problems.raise_if_any()
    return _frame(table, extras)


def frame_records(frame: pd.DataFrame, *, origin: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Split a DataFrame into one mapping per row and the place of each row ("row 1", ...)."""
    if not frame.columns.is_unique:
        repeated = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"{origin} must not name a column twice. Got {repeated!r} twice; rename one of them.")
    records = [{str(key): value for key, value in record.items()} for record in frame.to_dict("records")]
    return records, [f"row {row}" for row in range(1, len(records) + 1)]


def items_hash(frame: pd.DataFrame) -> str:
    """Identify a table of items by its content.

    Parameters
    ----------
    frame : DataFrame
        A validated table, or one read back from a file.

    Returns
    -------
    str
        SHA-256 (64 hexadecimal digits) of the documented columns and of ``recall_correct`` and
        ``response_time_ms``, written as canonical JSON. The order of the rows counts; the index, the order of
        the columns, their dtypes, other extra columns and the difference between an absent and an empty
        column do not.
    """
    absent = [name for name in ("id", "question", "options") if name not in frame.columns]
    if absent:
        raise ValueError(
            f"The frame parameter of items_hash must have the columns {absent}; call validate_items first."
        )
    names = [*ITEM_COLUMNS, *MEASURED_COLUMNS]
    columns = [frame[name].tolist() if name in frame.columns else [None] * len(frame) for name in names]
    digest = hashlib.sha256()
    for cells in zip(*columns, strict=True):
        line = json.dumps([_canonical(cell) for cell in cells], separators=(",", ":"), allow_nan=False)
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


class _Problems:
    """Collects what is wrong with the items, so that one message names several."""

    def __init__(self, origin: str, places: Sequence[str]) -> None:
        self.origin = origin
        self.places = places
        self.ids: list[str] | None = None
        self.found: list[str] = []
        self._row = 0

    def at(self, row: int) -> "_Problems":
        self._row = row
        return self

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, ValueError):
            return False
        item = f" (item {self.ids[self._row]!r})" if self.ids else ""
        self.found.append(f"{self.origin}, {self.places[self._row]}{item}: {error}")
        return True

    def raise_if_any(self) -> None:
        if self.found:
            more = len(self.found) - _SHOWN_PROBLEMS
            tail = [f"... and {more} more like these."] if more > 0 else []
            raise ValueError("\n".join([*self.found[:_SHOWN_PROBLEMS], *tail]))


def _ids(records: Sequence[Mapping[str, Any]], columns: Sequence[str], problems: _Problems) -> list[str]:
    if "id" not in columns:
        width = max(4, len(str(len(records))))
        problems.ids = [f"item-{row:0{width}d}" for row in range(1, len(records) + 1)]
        return problems.ids
    ids: list[str] = []
    first: dict[str, int] = {}
    for row, record in enumerate(records):
        value = plain(record.get("id"))
        with problems.at(row):
            if isinstance(value, int) and not isinstance(value, bool):
                value = str(value)
            if not isinstance(value, str) or not value.strip():
                raise ValueError(
                    f"The id must be a non-empty string or an integer. Got {value!r} instead. Give every item an id, "
                    "or leave the id column out altogether to have ids made."
                )
            if value in first:
                raise ValueError(
                    f"The id must be unique. Got {value!r} again, first seen at {problems.places[first[value]]}. "
                    "Rename one of the two."
                )
            first[value] = row
            ids.append(value)
    problems.raise_if_any()
    problems.ids = ids
    return ids


def _canonical(value: Any) -> Any:
    value = plain(value)
    if isinstance(value, list):
        return [_canonical(element) for element in value]
    if is_missing(value):
        return None
    return float(value) if is_number(value) else value


def _frame(table: Mapping[str, list[Any]], extras: Mapping[str, list[Any]]) -> pd.DataFrame:
    columns: dict[str, pd.Series] = {}
    for name, values in table.items():
        dtype = "Int64" if name in ("answer", "respondents") else object
        columns[name] = pd.Series(values, dtype=dtype)
    for name, values in extras.items():
        columns[name] = _extra(name, [None if is_missing(value) else value for value in values])
    return pd.DataFrame(columns)


def _extra(name: str, values: list[Any]) -> pd.Series:
    present = [value for value in values if value is not None]
    if name in MEASURED_COLUMNS:
        return pd.Series(values, dtype="float64")
    if present and all(isinstance(value, bool) for value in present):
        return pd.Series(values, dtype="boolean")
    if present and all(isinstance(value, int) and not isinstance(value, bool) for value in present):
        small = all(-(2**63) <= value < 2**63 for value in present)
        return pd.Series(values, dtype="Int64" if small else "object")
    if present and all(is_number(value) for value in present):
        return pd.Series(values, dtype="float64")
    return pd.Series(values, dtype=object)

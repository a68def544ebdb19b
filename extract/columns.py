"""From a source's columns to the documented ones: the mapping, spread options, cells that are still text."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .cells import is_missing
from .items import ITEM_COLUMNS, MEASURED_COLUMNS
from .names import did_you_mean, nearest_name
from .readers import Source

Columns = Mapping[str, str | Sequence[str]]

_DOCUMENTED = (*ITEM_COLUMNS, *MEASURED_COLUMNS)
_LISTS = ("options", "responses", "accepted")
# What other datasets call these columns: offered in the message, never taken unasked.
_OTHER_NAMES = {
    "question": ("prompt", "query", "text", "input", "stem"),
    "options": ("choices", "answers", "endings", "candidates"),
}


def map_columns(source: Source, columns: Columns | None = None) -> Source:
    """Bring a source into the documented columns, without looking at their content yet.

    1. The mapping is applied: ``{"question": "prompt"}`` takes ``question`` from the source's ``prompt``. A
       dot reaches into a nested column (``"choices.text"``), and a list of columns is collected into one list
       (``{"options": ["first", "second"]}``). A mapped column replaces a source column of the documented
       name.
    2. Without a column ``options`` the columns ``A``, ``B``, ... or ``option_1``, ``option_2``, ... are
       collected; empty cells at the end make an item with fewer options.
    3. The cells of a CSV file are read: lists as JSON, numbers as numbers, an empty cell as missing.

    Raises
    ------
    ValueError
        A mapping that names an unknown column on either side, or a source column that looks like a misspelt
        documented one while that one is absent.
    """
    mapping = dict(columns or {})
    _check_mapping(source, mapping)
    taken = {
        name.split(".")[0] if name not in source.columns else name
        for value in mapping.values()
        for name in _names(value)
    }
    kept = [name for name in source.columns if name not in taken and name not in mapping]
    spread = [] if "options" in [*mapping, *kept] else _spread_options(kept)
    kept = [name for name in kept if name not in spread]
    known = [*kept, *mapping, *(["options"] if spread else [])]
    _refuse_absent(source, known)
    _refuse_misspelt(source, kept, known)

    records = []
    for record, place in zip(source.records, source.places, strict=True):
        new = {name: record[name] for name in kept if name in record}
        if spread:
            new["options"] = _collect(record, spread, f"{source.origin}, {place}")
        for name, wanted in mapping.items():
            if isinstance(wanted, str):
                new[name] = _reach(record, wanted)
            else:
                new[name] = _collect(record, wanted, f"{source.origin}, {place}")
        records.append(_read_cells(new, f"{source.origin}, {place}") if source.text_cells else new)
    order = [name for name in _DOCUMENTED if name in known] + [name for name in kept if name not in _DOCUMENTED]
    return replace(source, columns=order, records=records, text_cells=False)


def _check_mapping(source: Source, mapping: Columns) -> None:
    nested = {
        f"{name}.{key}"
        for record in (source.records if mapping else [])
        for name, cell in record.items()
        if isinstance(cell, dict)
        for key in cell
    }
    reachable = nested | set(source.columns)
    for name, wanted in mapping.items():
        if name not in _DOCUMENTED:
            raise ValueError(
                f"The columns parameter of load_items must map documented columns {list(_DOCUMENTED)} to those of the "
                f"source. Got {name!r} instead.{did_you_mean(name, _DOCUMENTED)}"
            )
        if not isinstance(wanted, str) and name not in _LISTS:
            raise ValueError(
                f"The columns parameter of load_items must name one source column for {name!r}. Got {wanted!r} "
                f"instead; only {', '.join(_LISTS)} can be collected from several."
            )
        for column in _names(wanted):
            if column not in reachable:
                raise ValueError(
                    f"The columns parameter of load_items must name columns that {source.origin} has. Got {column!r} "
                    f"for {name!r} instead; it has {sorted(reachable)}.{did_you_mean(column, reachable)}"
                )


def _refuse_misspelt(source: Source, kept: Sequence[str], known: Sequence[str]) -> None:
    for column in kept:
        near = None if column in _DOCUMENTED else nearest_name(column, _DOCUMENTED, cutoff=0.8)
        if near and near not in known:
            raise ValueError(
                f"{source.origin} has the unknown column {column!r} and no column {near!r}. Did you mean {near!r}? "
                f"Rename it, or pass columns={{{near!r}: {column!r}}}."
            )


def _refuse_absent(source: Source, known: Sequence[str]) -> None:
    for name in ("question", "options"):
        if source.records and name not in known:
            other = next((word for word in _OTHER_NAMES[name] if word in source.columns), None)
            other = other or nearest_name(name, source.columns)
            spread = ", nor columns A, B, ... or option_1, option_2, ..." if name == "options" else ""
            raise ValueError(
                f"{source.origin} must have a column {name!r}. Got the columns {source.columns} instead{spread}. "
                f"Rename one of them, or pass columns={{{name!r}: {other or '...'!r}}}."
            )


def _spread_options(columns: Sequence[str]) -> list[str]:
    letters = [letter for letter in map(chr, range(ord("A"), ord("Z") + 1)) if letter in columns]
    numbered = sorted(
        (name for name in columns if re.fullmatch(r"option_?\d+", name)),
        key=lambda name: int(re.sub(r"\D", "", name)),
    )
    found = letters if len(letters) > 1 else numbered
    return found if len(found) > 1 else []


def _collect(record: Mapping[str, Any], columns: Sequence[str], place: str) -> list[Any] | None:
    cells = [_reach(record, column) for column in columns]
    filled = [not (is_missing(cell) or cell == "") for cell in cells]
    length = max((position + 1 for position, full in enumerate(filled) if full), default=0)
    if not all(filled[:length]):
        gap = columns[filled.index(False)]
        raise ValueError(
            f"{place}: The columns {list(columns)} must be filled without gaps. Got an empty {gap!r} before "
            f"{columns[length - 1]!r}; move the cells together."
        )
    return cells[:length] or None


def _read_cells(record: dict[str, Any], place: str) -> dict[str, Any]:
    for name, cell in record.items():
        if name in ("id", "question") or not isinstance(cell, str):
            continue
        if not cell.strip():
            record[name] = None
        elif name in _LISTS:
            record[name] = _json_list(name, cell, place)
        elif name in ("respondents", *MEASURED_COLUMNS):
            record[name] = _number(name, cell, place)
    if isinstance(record.get("responses"), list):
        record["responses"] = [
            _number("responses", cell, place) if isinstance(cell, str) else cell for cell in record["responses"]
        ]
    return record


def _json_list(name: str, cell: str, place: str) -> list[Any]:
    try:
        value = json.loads(cell)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, list):
        raise ValueError(
            f"{place}: The {name} must be a JSON list in a CSV file. Got {cell!r} instead. Write for instance "
            '["yes", "no"], each quote doubled inside the quoted cell.'
        )
    return value


def _number(name: str, cell: str, place: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        raise ValueError(f"{place}: The {name} must be a number. Got {cell!r} instead.") from None
    return value


def _reach(record: Mapping[str, Any], column: str) -> Any:
    if column in record or "." not in column:
        return record.get(column)
    outer, _, inner = column.partition(".")
    nested = record.get(outer)
    return nested.get(inner) if isinstance(nested, dict) else None


def _names(wanted: str | Sequence[str]) -> Sequence[str]:
    return [wanted] if isinstance(wanted, str) else wanted

"""The tables of a report: rows of cells, without the keys that have one value throughout."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from .findings import Findings
from .report_cells import Cell, Column, text
from .report_columns import FIGURES_SHOWN, SHOWN, conventions
from .tables import GROUP_KEYS


@dataclass(frozen=True)
class ReportTable:
    """A table of a report: `fixed` are the keys that have one value in all rows and so no column."""

    name: str
    title: str
    note: str
    headers: list[tuple[str, bool]]
    rows: list[list[Cell]]
    fixed: dict[str, str]


def report_tables(findings: Findings) -> Iterator[ReportTable]:
    """Yield the tables of a report, those without rows left out."""
    tables = findings.tables()
    stated = tables["calibration"]
    tables["calibration_errors"] = stated[stated["confidence"].notna()] if "confidence" in stated else stated
    if len(tables["interventions"]):  # each random direction would be a row
        tables["interventions"] = tables["interventions"][tables["interventions"]["direction"] == "probe"]
    for name in ("tuning", "tuning_over_pairs"):
        if len(tables[name]):
            tables[name] = tables[name][tables[name]["figure"].isin(FIGURES_SHOWN)]
    for name, (title, note, columns) in SHOWN.items():
        table = tables[name]
        if not table.empty:
            yield _table(name, title, note, columns, table)


def _table(name: str, title: str, note: str, columns: list[Column], table: pd.DataFrame) -> ReportTable:
    keys = [key for key in GROUP_KEYS if key in table]
    fixed = {}
    if len(table) > 1:
        fixed = {key: str(table[key].iloc[0]) for key in keys if table[key].nunique(dropna=False) == 1}
    # No measure depends on both: one column names what it does depend on.
    together = [key for key in ("scoring", "nucleus") if key in keys and key not in fixed]
    shown = [text(key) for key in keys if key not in fixed and key not in together]
    if len(together) == 2:
        shown.append(Column("scoring or nucleus", conventions, numeric=False))
    else:
        shown += [text(key) for key in together]
    shown += columns
    records = table.astype(object).to_dict("records")
    shown = [column for column in shown if _there(column, records[0])]
    rows = [[column.write(record) for column in shown] for record in records]
    # A column without a single value (AUROC, where no target is binary) says nothing.
    kept = [index for index in range(len(shown)) if any(row[index].text not in ("", "–") for row in rows)]
    return ReportTable(
        name,
        title,
        note,
        [(shown[index].header, shown[index].numeric) for index in kept],
        [[row[index] for index in kept] for row in rows],
        {key: text for key, text in fixed.items() if text not in ("None", "nan")},
    )


def _there(column: Column, record: Mapping[str, Any]) -> bool:
    try:
        column.write(record)
    except KeyError:
        return False
    return True


def is_number(cell: Cell) -> bool:
    """Tell whether a cell is sorted by a number."""
    return cell.sort is not None and math.isfinite(cell.sort)

"""The tables of a report: which columns they show, and how each number is written and sorted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from .findings import Findings
from .overview import LETTERS
from .views import ANY
from .wording import interval, number

KEYS = ("model", "dataset", "prompt", "setting", "scoring", "nucleus")


@dataclass(frozen=True)
class Cell:
    """A cell: its text, and the number it is sorted by where it is one."""

    text: str
    sort: float | None = None


@dataclass(frozen=True)
class ReportTable:
    """A table of a report: `fixed` are the keys that have one value in all rows and so no column."""

    name: str
    title: str
    note: str
    headers: list[tuple[str, bool]]
    rows: list[list[Cell]]
    fixed: dict[str, str]


@dataclass(frozen=True)
class Column:
    """How one or more columns of a table of findings become one column of the page."""

    header: str
    write: Callable[[Mapping[str, Any]], Cell]
    numeric: bool = True


def text(name: str, header: str | None = None) -> Column:
    """Show a column of text; a missing one is empty."""
    return Column(header or name, lambda row: Cell("" if _absent(row[name]) else str(row[name])), numeric=False)


def value(name: str, header: str, digits: int = 2) -> Column:
    """Show a column of numbers."""
    return Column(header, lambda row: _number(row[name], digits))


def share(name: str, header: str) -> Column:
    """Show a column of shares in [0, 1] as percentages."""
    return Column(header, lambda row: _number(100 * row[name] if not _absent(row[name]) else row[name], 1))


def probability(name: str, header: str) -> Column:
    """Show a column of p-values; sorting uses the exact ones."""

    def write(row: Mapping[str, Any]) -> Cell:
        p = row[name]
        if _absent(p):
            return Cell("–")
        return Cell("< 0.001" if p < 0.001 else f"{p:.3f}", float(p))

    return Column(header, write)


def estimate(name: str, header: str, low: str, high: str, *, digits: int = 2, scale: float = 1) -> Column:
    """Show an estimate with its interval, sorted by the estimate."""

    def write(row: Mapping[str, Any]) -> Cell:
        if _absent(row[name]):
            return Cell("–")
        bounds = (
            ""
            if _absent(row[low]) or _absent(row[high])
            else f" {interval(scale * row[low], scale * row[high], digits)}"
        )
        return Cell(number(scale * row[name], digits) + bounds, float(row[name]))

    return Column(header, write)


def _absent(item: Any) -> bool:
    return item is None or bool(pd.isna(item))


def _number(item: Any, digits: int) -> Cell:
    return Cell("–") if _absent(item) else Cell(number(float(item), digits), float(item))


def _convention(row: Mapping[str, Any]) -> Cell:
    named = [str(row[key]) for key in ("scoring", "nucleus") if not _absent(row[key]) and row[key] != ANY]
    return Cell(", ".join(named) or ANY)


def _position(row: Mapping[str, Any]) -> Cell:
    return Cell(f"{LETTERS[int(row['top_position'])]} ({number(100 * row['top_share'], 1)})", float(row["top_share"]))


def _correlation(name: str, header: str) -> list[Column]:
    return [
        estimate(name, f"{header} [95%]", "ci_low", "ci_high"),
        probability("p", "p"),
        probability("p_holm", "p (Holm)"),
    ]


SHOWN: dict[str, tuple[str, str, list[Column]]] = {
    "overview": (
        "Answers",
        "Accuracy with Wilson's interval, in percent; p: one-sided exact test against choosing at random. Position: "
        "the one chosen most often, by its place in the list (A is the first), with its share.",
        [
            value("n", "n", 0),
            estimate("accuracy", "accuracy % [95%]", "ci_low", "ci_high", digits=1, scale=100),
            share("chance", "chance %"),
            probability("p", "p"),
            share("best_constant", "best constant %"),
            Column("position (%)", _position),
            share("top_expected", "at random %"),
            value("n_ties", "ties", 0),
        ],
    ),
    "agreement": (
        "Agreement with people",
        "Share of items, in percent, where the model's option is one of the people's most frequent; Kendall distance "
        "of the rankings, and that of a random ranking.",
        [
            value("n", "n", 0),
            estimate("top_answer_agreement", "agreement % [95%]", "ci_low", "ci_high", digits=1, scale=100),
            share("chance", "chance %"),
            probability("p_poisson_binomial", "p (exact)"),
            probability("p_z", "p (z)"),
            estimate("kendall_distance", "Kendall distance [95%]", "kendall_ci_low", "kendall_ci_high"),
            value("kendall_random", "random"),
        ],
    ),
    "alignment": (
        "Alignment with human entropy",
        "Spearman correlation of each measure with normalised human entropy; partial: with the number of options held "
        "constant. Missing: items without a value of the measure.",
        [
            text("measure"),
            value("n", "n", 0),
            value("n_missing", "missing", 0),
            *_correlation("correlation", "correlation"),
            estimate("partial", "partial [95%]", "partial_ci_low", "partial_ci_high"),
        ],
    ),
    "controls": (
        "The number of options",
        "Correlation with human entropy: both in nats, both normalised, and in nats with the number of options "
        "held constant.",
        [
            text("measure"),
            value("n", "n", 0),
            estimate("raw", "in nats [95%]", "raw_ci_low", "raw_ci_high"),
            estimate("normalized", "normalised [95%]", "normalized_ci_low", "normalized_ci_high"),
            estimate("partial", "partial [95%]", "partial_ci_low", "partial_ci_high"),
            text("flag"),
        ],
    ),
    "calibration": (
        "Uncertainty and correctness",
        "Spearman correlation of each measure with correctness; AUROC of wrong answers being the more uncertain ones; "
        "expected calibration error by bins of equal width (of a probability) and by rank; Brier score.",
        [
            text("measure"),
            value("n", "n", 0),
            *_correlation("spearman", "Spearman"),
            estimate("auroc", "AUROC [95%]", "auroc_ci_low", "auroc_ci_high"),
            value("ece_width", "ECE (width)", 3),
            value("ece_rank", "ECE (rank)", 3),
            value("brier", "Brier", 3),
        ],
    ),
    "calibration_by_subject": (
        "Uncertainty and correctness by subject",
        "Spearman correlation within each subject; – where it is not defined.",
        [
            text("subject"),
            text("measure"),
            value("n", "n", 0),
            share("accuracy", "accuracy %"),
            value("spearman", "Spearman"),
        ],
    ),
    "curve": (
        "Probes beside the best output measure",
        "Pearson r (human entropy) or AUROC (correctness), out of fold. p (max): the best layer against the null of "
        "the maximum over layers. Nested: layer and penalty chosen inside the training folds.",
        [
            text("target"),
            text("score_name", "score"),
            value("best_layer", "best layer", 0),
            estimate("best_score", "best layer's score [95%]", "best_ci_low", "best_ci_high"),
            probability("p_max", "p (max)"),
            estimate("nested_score", "nested [95%]", "nested_ci_low", "nested_ci_high"),
            probability("nested_p", "p (nested)"),
            text("measure", "best output measure"),
            estimate("measure_score", "its score [95%]", "measure_ci_low", "measure_ci_high"),
        ],
    ),
    "layers": (
        "Probes by layer",
        "Out-of-fold scores of every layer; the null is that of shuffled targets.",
        [
            text("target"),
            value("layer", "layer", 0),
            value("n", "n", 0),
            value("r2", "R²", 3),
            estimate("pearson", "Pearson r [95%]", "ci_low", "ci_high"),
            estimate("auroc", "AUROC [95%]", "ci_low", "ci_high"),
            value("null_mean", "null mean", 3),
            value("null_sd", "null sd", 3),
            probability("p", "p"),
            probability("p_max", "p (max)"),
        ],
    ),
    "datasets": (
        "Datasets",
        "Correlation of the number of options with human entropy, the noise of human entropy (median standard error, "
        "nats), and the correlation that a perfect measure could reach.",
        [
            value("n", "items", 0),
            value("n_human", "with human answers", 0),
            value("fewest_options", "fewest options", 0),
            value("most_options", "most options", 0),
            value("options_human_entropy", "options × entropy (nats)"),
            value("options_human_entropy_normalized", "options × entropy (normalised)"),
            value("human_entropy_se", "standard error"),
            value("reliability_ceiling", "ceiling"),
        ],
    ),
}


def report_tables(findings: Findings) -> Iterator[ReportTable]:
    """Yield the tables of a report, those without rows left out."""
    tables = findings.tables()
    for name, (title, note, columns) in SHOWN.items():
        table = tables[name]
        if not table.empty:
            yield _table(name, title, note, columns, table)


def _table(name: str, title: str, note: str, columns: list[Column], table: pd.DataFrame) -> ReportTable:
    keys = [key for key in KEYS if key in table]
    fixed = {}
    if len(table) > 1:
        fixed = {key: str(table[key].iloc[0]) for key in keys if table[key].nunique(dropna=False) == 1}
    # No measure depends on both: one column names what it does depend on.
    together = [key for key in ("scoring", "nucleus") if key in keys and key not in fixed]
    shown = [text(key) for key in keys if key not in fixed and key not in together]
    if len(together) == 2:
        shown.append(Column("scoring or nucleus", _convention, numeric=False))
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

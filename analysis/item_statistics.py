"""The figures of a run by name: what each needs, which way is good, and its value as a `Statistic` of the items.

A figure belongs to one of three families. "run": one number per run, such as its accuracy. "measure": one number per
measure of uncertainty. "confidence": one number per measure that states a probability of being right.

    >>> cells = [Cell("accuracy", None), Cell("auroc", "choice_entropy")]
    >>> build(Items(frame, Reading()), cells).observed()                              # doctest: +SKIP

Figures that rest on the same ranks are made together (`Orders`, `Correlations`, `Selective`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..probes.measure_table import MEASURES, unknown_name
from .answers import PROBE_DIRECTIONS
from .arrays import Floats
from .calibration_error_draws import MassError, RankError, SweepError, WidthError
from .correlation import correlation, is_constant, partial_correlation
from .correlation_draws import Correlations
from .discrimination import Orders
from .human_calibration import Means
from .item_columns import Items, Reading
from .jsd_shift_draws import JsdShift
from .probe_statistics import probe_auroc, probe_correlation
from .proper_scores import NLL, Brier, contradicted
from .resamples import Statistic, observed
from .selective import Selective
from .smooth_calibration import SmoothError


class Figure(NamedTuple):
    """One figure.

    Attributes:
        family: "run", "measure" or "confidence".
        needs: what it is made of beside the measure: columns by their role in `Reading`, or "agreement" for what
            `agreement_by_item` reads.
        better: +1 if high is good, -1 if low is, 0 if neither.
        turned: whether `better` holds for a measure of uncertainty, and the opposite for one of certainty.
        default: whether it is made unless figures are named; the others take long, say the same as another, or are
            not to be compared where groups differ in size (`jsd_shift`).
        definition: in words.
    """

    family: str
    needs: tuple[str, ...]
    better: int
    turned: bool
    default: bool
    definition: str


_PROBED_HUMAN = ("probe_human", "probed_human")
FIGURES: dict[str, Figure] = {
    "accuracy": Figure("run", ("correct",), +1, False, True, "share of right answers"),
    "top_answer_agreement": Figure("run", ("agreement",), +1, False, True, "the model's option is people's first"),
    "kendall_distance": Figure("run", ("agreement",), -1, False, True, "option pairs that people rank oppositely"),
    "dist_ce": Figure("run", ("agreement",), -1, False, True, "total variation from people's shares"),
    "rank_cs": Figure("run", ("agreement",), +1, False, True, "options ranked as people rank them"),
    "ent_ce": Figure("run", ("agreement",), 0, False, True, "entropy over the options less people's, nats"),
    "probe_pearson": Figure("run", _PROBED_HUMAN, +1, False, True, "Pearson of the probe with people's entropy"),
    "probe_spearman": Figure("run", _PROBED_HUMAN, +1, False, True, "Spearman of the probe with people's entropy"),
    "probe_auroc": Figure("run", ("probe_correct", "correct"), +1, False, True, "P(the probe tells right from wrong)"),
    "mean": Figure("measure", (), 0, False, True, "mean of the measure"),
    "human_spearman": Figure("measure", ("human",), +1, True, True, "Spearman with people's entropy"),
    "human_partial": Figure("measure", ("human", "control"), +1, True, True, "the same, the control held constant"),
    "human_pearson": Figure("measure", ("human",), +1, True, True, "Pearson with people's entropy"),
    "human_kendall": Figure("measure", ("human",), +1, True, False, "Kendall's tau-b with people's entropy"),
    "correct_spearman": Figure("measure", ("correct",), -1, True, True, "Spearman with being right"),
    "auroc": Figure("measure", ("correct",), +1, False, True, "P(a wrong answer is the more uncertain)"),
    "auprc": Figure("measure", ("correct",), +1, False, True, "average precision of finding wrong answers"),
    "aurc": Figure("measure", ("correct",), -1, False, True, "area under the risk-coverage curve"),
    "auarc": Figure("measure", ("correct",), +1, False, False, "1 - aurc: area under the accuracy-rejection curve"),
    "prr": Figure("measure", ("correct",), +1, False, True, "prediction-rejection ratio"),
    "ece_rank": Figure("measure", ("correct",), -1, False, True, "calibration error by ranks"),
    "jsd_shift": Figure("measure", ("choice", "answer"), +1, False, False, "Jensen-Shannon shift, not centred"),
    "ece_width": Figure("confidence", ("correct",), -1, False, True, "calibration error, equal-width bins"),
    "ece_mass": Figure("confidence", ("correct",), -1, False, True, "calibration error, equal-mass bins"),
    "ece_sweep": Figure("confidence", ("correct",), -1, False, False, "calibration error, monotone sweep"),
    "mce": Figure("confidence", ("correct",), -1, False, True, "largest calibration error of an equal-width bin"),
    "smece": Figure("confidence", ("correct",), -1, False, False, "smooth calibration error"),
    "brier": Figure("confidence", ("correct",), -1, False, True, "Brier score"),
    "nll": Figure("confidence", ("correct",), -1, False, True, "negative log-likelihood, nats"),
}


class Cell(NamedTuple):
    """A figure, of a measure unless it is one of the run."""

    figure: str
    measure: str | None


def figure_names(figures: Iterable[str] | None, *, caller: str) -> list[str]:
    """List the figures asked for, in their order in `FIGURES`; None asks for those made by default.

    Raises:
        ValueError: a bare string, no name or an unknown one.
    """
    if figures is None:
        return [name for name, figure in FIGURES.items() if figure.default]
    asked = [figures] if isinstance(figures, str) else list(figures)
    if isinstance(figures, str) or not asked:
        raise ValueError(f"The figures parameter of {caller} must be a list of names. Got {figures!r} instead.")
    for name in asked:
        if name not in FIGURES:
            raise ValueError(unknown_name("figures", caller, "figures of FIGURES", name, FIGURES))
    return [name for name in FIGURES if name in asked]


def known_measures(table: pd.DataFrame) -> list[str]:
    """List the columns of a table that the measure table names, and the predictions of probes."""
    return [name for name in (*MEASURES, *PROBE_DIRECTIONS) if name in table]


def figures_for(table: pd.DataFrame, measures: Collection[str]) -> list[str]:
    """List the figures made by default that the columns of a table and these measures allow."""
    reading = Reading()
    states = any(reading.states_confidence(measure) for measure in measures)
    allowed = {"run": True, "measure": bool(measures), "confidence": states}
    return [
        name
        for name in figure_names(None, caller="figures_for")
        if allowed[FIGURES[name].family] and lacking_column(name, reading, table) is None
    ]


def lacking_column(figure: str, reading: Reading, table: pd.DataFrame) -> str | None:
    """Name a column that a figure needs, beside its measure, and the table lacks; None if it has them all."""
    roles = FIGURES[figure].needs
    alternatives: list[tuple[str | None, ...]] = [(reading.column(role),) for role in roles if role != "agreement"]
    if figure == "top_answer_agreement":
        alternatives += [("n_options",), ("responses", "human_top"), ("choice_log_probabilities", "choice")]
    elif "agreement" in roles:
        alternatives += [("n_options",), ("responses",), ("choice_log_probabilities",)]
    for columns in alternatives:
        if not any(column in table for column in columns):
            return columns[0] or "control"
    return None


def better_side(cell: Cell, reading: Reading) -> int:
    """Tell whether high (+1) or low (-1) is good, 0 if neither, or if nobody knows how the measure is read."""
    figure = FIGURES[cell.figure]
    if not figure.turned or cell.measure is None:
        return figure.better
    return figure.better * reading.direction(cell.measure) if reading.knows(cell.measure) else 0


def needed(items: Items, cell: Cell) -> dict[str, Floats]:
    """Columns [n], by name, of which an item must have every one to count for a cell."""
    roles = FIGURES[cell.figure].needs
    found = {cell.measure: items.column(cell.measure)} if cell.measure is not None else {}
    for name in map(items.reading.column, (role for role in roles if role != "agreement")):
        if name is not None:
            found[name] = items.column(name)
    if "agreement" in roles:
        modal = cell.figure == "top_answer_agreement" and "human_top" in items.frame
        found["human_top" if modal else "responses"] = _item_values(items, cell)
    if FIGURES[cell.figure].family == "confidence" and "choice_mass" in items.frame:
        found |= {"choice_mass": items.column("choice_mass")} if cell.measure == "choice_probability" else {}
    return found


class Built:
    """Statistics of the same items, and which cells their rows are.

    Attributes:
        items: what they were made of.
        statistics: what to put through resamples.
        reasons: of the cells that are undefined.
        notes: what else to know of a cell.
    """

    def __init__(self, items: Items) -> None:
        self.items = items
        self.statistics: list[Statistic] = []
        self.reasons: dict[Cell, str] = {}
        self.notes: dict[Cell, str] = {}
        self._rows: list[list[list[Cell]]] = []

    def add(self, statistic: Statistic, rows: Sequence[Iterable[Cell]], asked: Collection[Cell]) -> None:
        """Take in a statistic, its rows being these cells, as far as they were asked for and are defined."""
        kept = [[cell for cell in row if cell in asked and cell not in self.reasons] for row in rows]
        if any(kept):
            self.statistics.append(statistic)
            self._rows.append(kept)

    def by_cell(self, results: Sequence[Floats]) -> dict[Cell, Floats]:
        """Sort results, an array [rows, ...] per statistic, by cell; undefined cells have none."""
        return {
            cell: values[row]
            for values, rows in zip(results, self._rows, strict=True)
            for row, cells in enumerate(rows)
            for cell in cells
        }

    def observed(self) -> dict[Cell, float]:
        """The figures of the items as they are; undefined cells are not among them."""
        found = self.by_cell([observed(statistic, len(self.items)) for statistic in self.statistics])
        return {cell: float(value) for cell, value in found.items()}


def build(items: Items, cells: Sequence[Cell]) -> Built:
    """Make the statistics of cells; the items have everything that these need."""
    built = Built(items)
    if not len(items):
        built.reasons = {cell: f"no item has {' and '.join(needed(items, cell))}" for cell in cells}
        return built
    for figures, maker in _MAKERS:
        asked = [cell for cell in cells if cell.figure in figures]
        if asked:
            maker(built, asked)
    return built


def _item_values(items: Items, cell: Cell) -> Floats:
    """Values [n] that a figure is the mean of."""
    if cell.measure is not None:
        return items.column(cell.measure)
    if cell.figure == "accuracy":
        return items.column(items.reading.correct)
    return items.agreement("agreed" if cell.figure == "top_answer_agreement" else cell.figure)


def _means(built: Built, asked: list[Cell]) -> None:
    values = {" of ".join(filter(None, cell)): _item_values(built.items, cell) for cell in asked}
    built.add(Means(values), [[cell] for cell in asked], asked)


def _human(built: Built, asked: list[Cell], *, plain: str, method: str, given: str | None = None) -> None:
    """Correlations with people's entropy: `plain` and, with the control held constant, `given`."""
    items, reading = built.items, built.items.reading
    human, measures = items.column(reading.human), _measures(asked)
    controls = [items.column(reading.control)] if reading.control and given in {cell.figure for cell in asked} else []
    held = [values for values in controls if not is_constant(values)]
    for cell in asked:
        pair, names = (items.column(str(cell.measure)), human), (str(cell.measure), reading.human)
        if cell.figure == plain:
            reason = correlation(*pair, method=method, names=names).reason
        else:
            reason = partial_correlation(*pair, np.column_stack(controls), method=method, names=names).reason
            if not held:
                built.notes[cell] = f"{reading.control} does not vary: {given} is {plain}"
        if reason is not None:
            built.reasons[cell] = reason
    if held:
        rows = [[Cell(figure, name)] for figure in (plain, str(given)) for name in measures]
    else:
        rows = [[Cell(plain, name), Cell(str(given), name)] for name in measures]
    built.add(Correlations(_stacked(items, measures), human, held, method=method), rows, asked)


def _orders(built: Built, asked: list[Cell]) -> None:
    items, measures = built.items, _measures(asked)
    marks = items.column(items.reading.correct)
    for cell in asked:
        reason = _one_class(marks)
        if reason is None and cell.figure == "correct_spearman":
            names = str(cell.measure), "correctness"
            reason = correlation(items.column(names[0]), marks, method="spearman", names=names).reason
        if reason is not None:
            built.reasons[cell] = reason
    signs = [items.reading.direction(name) for name in measures]
    rows = [[Cell(figure, name)] for figure in ("correct_spearman", "auroc") for name in measures]
    built.add(Orders(_stacked(items, measures), marks, directions=signs), rows, asked)


def _selective(built: Built, asked: list[Cell]) -> None:
    items = built.items
    marks = items.column(items.reading.correct)
    for name in _measures(asked):
        undefined = {"prr": _one_class(marks), "auprc": "every answer is right" if marks.all() else None}
        built.reasons |= {Cell(figure, name): reason for figure, reason in undefined.items() if reason}
        statistic = Selective(items.column(name), marks, direction=items.reading.direction(name))
        built.add(statistic, [[Cell(figure, name)] for figure in Selective.names], asked)


def _rank_errors(built: Built, asked: list[Cell]) -> None:
    items, reading = built.items, built.items.reading
    for cell in _varying(built, asked):
        measure = str(cell.measure)
        marks, sign = items.column(reading.correct), reading.direction(measure)
        built.add(RankError(items.column(measure), marks, direction=sign, bins=reading.bins), [[cell]], asked)


def _shifts(built: Built, asked: list[Cell]) -> None:
    items, reading = built.items, built.items.reading
    for cell in _varying(built, asked):
        built.notes[cell] = "resampling biases jsd_shift: its interval may be off by as much as its se"
        uncertainty = reading.direction(str(cell.measure)) * items.column(str(cell.measure))
        # Both models of a pair toss the same coins for items at the mean.
        coins = np.random.default_rng(reading.seed)
        shift = JsdShift(uncertainty, items.column(reading.choice), items.column(reading.answer), rng=coins)
        built.add(shift, [[cell]], asked)


def _confidences(built: Built, asked: list[Cell]) -> None:
    items, bins = built.items, built.items.reading.bins
    marks = items.column(items.reading.correct)
    for name in _measures(asked):
        mine = [cell for cell in asked if cell.measure == name]
        stated = items.confidence(name)
        if stated.reason is not None:
            built.reasons |= dict.fromkeys(mine, stated.reason)
            continue
        if stated.label != name:
            built.notes |= dict.fromkeys(mine, f"confidence: {stated.label}")
        impossible = contradicted(stated.values, marks)
        if impossible.size:
            built.reasons[Cell("nll", name)] = f"infinite: {impossible.size} answers had no chance of being as they are"
        makers: tuple[tuple[tuple[str, ...], Callable[..., Statistic]], ...] = (
            (("ece_width", "mce"), partial(WidthError, bins=bins)),
            (("ece_mass", "mce_mass"), partial(MassError, bins=bins)),
            (("ece_sweep",), SweepError),
            (("smece",), SmoothError),
            (("brier",), Brier),
            (("nll",), NLL),
        )
        for figures, maker in makers:
            if any(cell.figure in figures and cell not in built.reasons for cell in mine):
                built.add(maker(stated.values, marks), [[Cell(figure, name)] for figure in figures], mine)


def _measures(cells: Iterable[Cell]) -> list[str]:
    return list(dict.fromkeys(str(cell.measure) for cell in cells))


def _stacked(items: Items, measures: Sequence[str]) -> Floats:
    return np.column_stack([items.column(name) for name in measures])


def _one_class(marks: Floats) -> str | None:
    return f"every answer is {'right' if marks[0] else 'wrong'}" if np.ptp(marks) == 0 else None


def _varying(built: Built, asked: list[Cell]) -> list[Cell]:
    """Leave out, with the reason, the cells whose measure is constant."""
    constant = [cell for cell in asked if np.ptp(built.items.column(str(cell.measure))) == 0]
    built.reasons |= {cell: f"{cell.measure} is constant" for cell in constant}
    return [cell for cell in asked if cell not in constant]


_MAKERS: tuple[tuple[Collection[str], Callable[[Built, list[Cell]], None]], ...] = (
    (
        {name for name, figure in FIGURES.items() if figure.family == "run" and not name.startswith("probe_")}
        | {"mean"},
        _means,
    ),
    ({"probe_pearson"}, partial(probe_correlation, method="pearson")),
    ({"probe_spearman"}, partial(probe_correlation, method="spearman")),
    ({"probe_auroc"}, probe_auroc),
    (
        {"human_spearman", "human_partial"},
        partial(_human, plain="human_spearman", method="spearman", given="human_partial"),
    ),
    ({"human_pearson"}, partial(_human, plain="human_pearson", method="pearson")),
    ({"human_kendall"}, partial(_human, plain="human_kendall", method="kendall")),
    ({"correct_spearman", "auroc"}, _orders),
    (Selective.names, _selective),
    ({"ece_rank"}, _rank_errors),
    ({"jsd_shift"}, _shifts),
    ({name for name, figure in FIGURES.items() if figure.family == "confidence"}, _confidences),
)

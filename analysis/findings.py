"""The findings of a study: tidy tables, one paragraph per finding, and the warnings a reader must have.

    >>> findings = find(signals, layers, seed=0)                                     # doctest: +SKIP
    >>> print(findings.paragraphs[0].text)                                          # doctest: +SKIP
    >>> findings.save("runs/quickstart/findings")                                   # doctest: +SKIP

1. Tables: accuracy and chosen positions, agreement, alignment (each measure once, see `views`), the controls for the
   number of options, calibration, and the probes beside the best output measure.
2. p-values of alignment and calibration are corrected by Holm's method over all measures of one model, dataset and
   prompt (Holm 1979, https://www.jstor.org/stable/4615733).
3. Sentences and warnings are made from those tables alone.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..extract.atomic import write_bytes
from ..probes.measure_table import MEASURES
from . import overview
from .agreement import agreement
from .alignment import alignment, alignment_controls
from .calibration import calibration, calibration_by_subject
from .cautions import Caution, cautions
from .curve import compare_layers
from .reliability import reliability_bins
from .sentences import Paragraph, paragraphs
from .tables import group_keys, require_columns
from .views import RUN_KEYS, absent_measures, default_measures, views, without

HEADLINE = ("choice_entropy_normalized", "choice_probability", "total_entropy_normalized")
NEEDED = ("item", "choice", "n_options", "human_entropy", "human_entropy_normalized")


@dataclass(frozen=True)
class Findings:
    """Everything a report says, as tables (see docs/report.md for their columns) and as text.

    Attributes:
        overview: per run and scoring: n, accuracy, chance, the position chosen most often.
        positions: per run, scoring and position: how often it was chosen and how often it is right.
        datasets: per dataset: options, noise of the human entropy.
        empty_nuclei: where nuclei are empty.
        absent: measures that a run lacks under a scoring or nucleus.
        agreement: per run and scoring.
        alignment: per run and measure, Spearman with normalised human entropy, with `p_holm`.
        alignment_pearson: the same as Pearson r, the scale of the probes.
        controls: raw, normalised and partial correlations side by side.
        calibration: per run and measure, with `p_holm`.
        calibration_by_subject: Spearman with correctness per subject, for a few measures.
        reliability: bins of the reliability diagrams.
        layers: the probes, as given.
        curve: best layer, nested score and best output measure per run and target.
        paragraphs: the findings in words.
        warnings: what stands in the way of reading them plainly, gravest first.
        settings: seed, n_bootstrap, and what else the numbers depend on.
    """

    overview: pd.DataFrame
    positions: pd.DataFrame
    datasets: pd.DataFrame
    empty_nuclei: pd.DataFrame
    absent: pd.DataFrame
    agreement: pd.DataFrame
    alignment: pd.DataFrame
    alignment_pearson: pd.DataFrame
    controls: pd.DataFrame
    calibration: pd.DataFrame
    calibration_by_subject: pd.DataFrame
    reliability: pd.DataFrame
    layers: pd.DataFrame
    curve: pd.DataFrame
    paragraphs: tuple[Paragraph, ...] = ()
    warnings: tuple[Caution, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return every table by name, in the order of a report."""
        return {part.name: getattr(self, part.name) for part in fields(self) if part.name not in _WORDS}

    def save(self, folder: str | Path) -> list[Path]:
        """Write one Parquet and one CSV file per table, and the text as findings.json.

        Args:
            folder: made where missing. Each file is written whole or not at all, findings.json last.

        Returns:
            The paths.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for name, table in self.tables().items():
            parquet = io.BytesIO()
            table.to_parquet(parquet, index=False)
            for suffix, content in ((".parquet", parquet.getvalue()), (".csv", table.to_csv(index=False).encode())):
                written.append(folder / f"{name}{suffix}")
                write_bytes(written[-1], content)
        words = {
            "paragraphs": [asdict(paragraph) for paragraph in self.paragraphs],
            "warnings": [asdict(warning) for warning in self.warnings],
            "settings": dict(self.settings),
        }
        written.append(folder / "findings.json")
        write_bytes(written[-1], (json.dumps(words, indent=2, ensure_ascii=False) + "\n").encode())
        return written


_WORDS = ("paragraphs", "warnings", "settings")


def load_findings(folder: str | Path) -> Findings:
    """Read back what `Findings.save` wrote.

    Raises:
        FileNotFoundError: the folder holds no findings.json, or lacks a table.
    """
    folder = Path(folder)
    path = folder / "findings.json"
    if not path.is_file():
        raise FileNotFoundError(
            "The folder parameter of load_findings must hold the findings that Findings.save wrote. "
            f"Got {os.fspath(folder)!r}, which has no findings.json, instead."
        )
    words = json.loads(path.read_text(encoding="utf-8"))
    names = [part.name for part in fields(Findings) if part.name not in _WORDS]
    return Findings(
        **{name: _texts(pd.read_parquet(folder / f"{name}.parquet")) for name in names},
        paragraphs=tuple(Paragraph(**paragraph) for paragraph in words["paragraphs"]),
        warnings=tuple(Caution(**warning) for warning in words["warnings"]),
        settings=words["settings"],
    )


def find(
    signals: pd.DataFrame,
    layers: pd.DataFrame | None = None,
    *,
    seed: int,
    n_bootstrap: int = 2000,
    measures: Sequence[str] | None = None,
    runs: Iterable[Mapping[str, Any]] = (),
) -> Findings:
    """Draw every finding of a study from its signals.

    Args:
        signals: one row per item, scoring and nucleus of every run; columns item, choice, n_options, human_entropy,
            human_entropy_normalized, the measures, and where known correct, answer, subject, human_top, responses,
            choice_log_probabilities, choice_ties, human_entropy_se. Signals of several runs are concatenated.
        layers: `probe_layers` of the same runs, concatenated, or None.
        seed: of all bootstrap draws; the same seed and tables give the same findings.
        n_bootstrap: bootstrap draws behind each interval (nearest-percentile, 95%, over items).
        measures: which measures to look at; by default all that the table has, a normalised twin in place of its raw
            measure. Every one of them counts in the correction for multiple tests.
        runs: what is known of each run, see docs/report.md: model, dataset, prompt, and where it applies dtype,
            permutations, option_order, excluded, self_test. They serve the warnings.

    Returns:
        `Findings`.

    Raises:
        ValueError: a missing column, an item twice in a group, an unknown measure (with the nearest known name).
        TypeError: signals is not a DataFrame.
    """
    require_columns(signals, NEEDED, parameter="signals", caller="find")
    if measures is None:
        measures = default_measures(signals)
    require_columns(signals, measures, parameter="measures", caller="find")
    known = [dict(run) for run in runs]
    generators = iter(np.random.default_rng(seed).spawn(5))
    tables = {
        "overview": overview.answers(signals),
        "positions": overview.positions(signals, reordered=_reordered(known)),
        "datasets": overview.dataset_facts(signals),
        "empty_nuclei": overview.empty_nuclei(signals),
        "absent": absent_measures(signals, measures),
    }
    human = signals[signals["human_entropy_normalized"].notna()]
    answered = signals[signals["correct"].notna()] if "correct" in signals else signals.iloc[:0]
    tables["agreement"] = agreement(without(human, "nucleus"), missing="drop") if len(human) else pd.DataFrame()
    for name, method in (("alignment", "spearman"), ("alignment_pearson", "pearson")):
        rng = next(generators)
        parts = [
            alignment(part, measures=names, method=method, rng=rng, n_bootstrap=n_bootstrap, missing="drop")
            for part, names in views(human, measures)
            if len(part)
        ]
        tables[name] = _holm(_stack(parts, signals))
    rng = next(generators)
    raw = [name for name in MEASURES if f"{name}_normalized" in human and name in human]
    parts = [
        alignment_controls(part, names, rng=rng, n_bootstrap=n_bootstrap, missing="drop")
        for part, names in views(human, [name for name in raw if f"{name}_normalized" in measures])
        if len(part)
    ]
    tables["controls"] = _stack(parts, signals)
    rng = next(generators)
    parts = [
        calibration(part, measures=names, rng=rng, n_bootstrap=n_bootstrap, missing="drop")
        for part, names in views(answered, measures)
        if len(part)
    ]
    tables["calibration"] = _holm(_stack(parts, signals))
    few = [name for name in HEADLINE if name in measures]
    subjects = answered[answered["subject"].notna()] if "subject" in answered else answered.iloc[:0]
    parts = [calibration_by_subject(part, measures=names) for part, names in views(subjects, few) if len(part)]
    tables["calibration_by_subject"] = _stack(parts, signals)
    tables["reliability"] = reliability_bins(answered)
    tables["layers"] = pd.DataFrame() if layers is None else layers.reset_index(drop=True)
    tables["curve"] = (
        pd.DataFrame()
        if layers is None or layers.empty
        else compare_layers(layers, tables["alignment_pearson"], tables["calibration"])
    )
    tables = {name: _texts(table) for name, table in tables.items()}
    settings = {"seed": seed, "n_bootstrap": n_bootstrap, "measures": list(measures), "level": 0.95}
    return Findings(
        **tables,
        paragraphs=tuple(paragraphs(tables, settings)),
        warnings=tuple(cautions(tables, known)),
        settings=settings,
    )


def _texts(table: pd.DataFrame) -> pd.DataFrame:
    """Hold text as objects with None where there is none, whatever pandas has made of it."""
    texts = [name for name in table if not pd.api.types.is_numeric_dtype(table[name])]
    return table.assign(**{name: table[name].astype(object).where(table[name].notna(), None) for name in texts})


def _reordered(runs: list[dict[str, Any]]) -> list[tuple]:
    return [
        (run.get("model"), run.get("dataset"), run.get("prompt"))
        for run in runs
        if run.get("permutations", "none") != "none" or run.get("option_order", "given") != "given"
    ]


def _stack(parts: list[pd.DataFrame], signals: pd.DataFrame) -> pd.DataFrame:
    """Put tables together: runs in the order of the signals, measures in the order of the measure table."""
    if not parts:
        return pd.DataFrame()
    table = pd.concat(parts, ignore_index=True)
    keys = [key for key in group_keys(table) if key in RUN_KEYS]
    runs = list(signals[keys].drop_duplicates().itertuples(index=False, name=None)) if keys else []
    known = list(MEASURES)
    order = pd.DataFrame(
        {
            "run": [runs.index(run) for run in table[keys].itertuples(index=False, name=None)] if keys else 0,
            "measure": [known.index(name) if name in known else len(known) for name in table["measure"]],
        },
        index=table.index,
    )
    return table.loc[order.sort_values(["run", "measure"], kind="stable").index].reset_index(drop=True)


def _holm(table: pd.DataFrame) -> pd.DataFrame:
    """Add `p_holm`: p corrected over all measures, scorings and nuclei of one model, dataset and prompt."""
    if table.empty:
        return table
    table = table.assign(p_holm=np.nan)
    known = table["p"].notna()
    keys = [key for key in group_keys(table) if key in RUN_KEYS]
    family = table.groupby(keys, sort=False, dropna=False).ngroup() if keys else pd.Series(0, index=table.index)
    for number in family.unique():
        rows = table.index[known & (family == number)]
        table.loc[rows, "p_holm"] = _step_down(table.loc[rows, "p"].to_numpy(dtype=float))
    return table


def _step_down(p: np.ndarray) -> np.ndarray:
    """Correct p-values [m] by Holm's method; statsmodels' multipletests collects garbage at each call, 0.15 s."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(stepped)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected

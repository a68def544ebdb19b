"""The findings of a study: tidy tables, one paragraph per finding, and the warnings a reader must have.

    >>> findings = find(signals, layers, seed=0)                                     # doctest: +SKIP
    >>> print(findings.paragraphs[0].text)                                          # doctest: +SKIP
    >>> findings.save("runs/quickstart/findings")                                   # doctest: +SKIP

1. Tables (`study_tables`), each measure once (`views`): accuracy and chosen positions, agreement, alignment with its
   controls and ceiling, uncertainty and agreement, calibration, shifts, both at once, base against instruct, power,
   and the probes beside the best output measure.
2. The residual stream beside that (`representation_tables`): controls of the probes, the output measures beside them,
   two targets, other runs, interventions.
3. p-values are corrected by Holm and by Benjamini and Hochberg over all measures of one model, dataset and prompt,
   those of alignment also against the largest correlation under permutation; differences over all figures of a pair.
4. Sentences and warnings are made from those tables alone.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd

from ..extract.atomic import write_bytes
from .cautions import Caution, cautions
from .latex import to_latex
from .pairs import Declared, pairs_of
from .representation_tables import representation_tables
from .sentences import Paragraph, paragraphs
from .study_tables import Plan, as_text, study_tables
from .tables import require_columns
from .views import default_measures

PRINTED = (
    "overview", "ceiling", "agreement", "human_calibration", "alignment", "controls", "uncertainty_agreement",
    "calibration", "jsd_shift", "simultaneity", "tuning_over_pairs", "power", "curve", "probe_controls", "incremental",
    "transfer",
)  # fmt: skip
"""The tables that are written as LaTeX."""
LONG = 40
"""Rows from which on a LaTeX table may break over pages."""
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
        ceiling: per dataset: the best correlation that a perfect measure could reach.
        agreement, human_calibration: per run and scoring.
        alignment: per run and measure, Spearman with normalised human entropy, with `p_holm`, `p_bh`, `p_max`.
        alignment_pearson, alignment_kendall: the same as Pearson r, the scale of the probes, and as Kendall's tau-b.
        controls: raw, normalised and partial correlations side by side.
        uncertainty_agreement: per run and measure, with agreeing with people's first choice.
        calibration: per run and measure, with `p_holm` and `p_bh`.
        calibration_by_subject: figures within each subject, for a few measures.
        reliability, risk_coverage: bins and curves behind the diagrams.
        jsd_shift, jsd_null: Jensen-Shannon shift per run and measure, and histograms of its null.
        simultaneity: per run and measure, whether it is aligned and calibrated at once.
        tuning, tuning_over_pairs: instruct against base, per pair and figure, and over the pairs.
        power: per dataset and prompt, the smallest effects that could have been found.
        layers: the probes, as given.
        curve: best layer, nested score and best output measure per run and target.
        probe_controls: the probe beside the baselines that it must beat.
        learning: its score with fewer items to learn from.
        similarity: the geometry of each layer beside that of people's answers.
        behaviour, incremental: each output measure beside the probe, and the R2 that the ones add to the other.
        lens: output measures as each layer's residual stream has them, beside people and correctness.
        two_targets: human entropy and correctness at once, by layer.
        interventions: what moving the residual stream along the probes does to the output.
        transfer, geometry: probes of one run on another; base and instruct models, layer by layer.
        paragraphs: the findings in words.
        warnings: what stands in the way of reading them plainly, gravest first.
        settings: seed, n_bootstrap, and what else the numbers depend on.
    """

    overview: pd.DataFrame
    positions: pd.DataFrame
    datasets: pd.DataFrame
    empty_nuclei: pd.DataFrame
    absent: pd.DataFrame
    ceiling: pd.DataFrame
    agreement: pd.DataFrame
    human_calibration: pd.DataFrame
    alignment: pd.DataFrame
    alignment_pearson: pd.DataFrame
    alignment_kendall: pd.DataFrame
    controls: pd.DataFrame
    uncertainty_agreement: pd.DataFrame
    calibration: pd.DataFrame
    calibration_by_subject: pd.DataFrame
    reliability: pd.DataFrame
    risk_coverage: pd.DataFrame
    jsd_shift: pd.DataFrame
    jsd_null: pd.DataFrame
    simultaneity: pd.DataFrame
    tuning: pd.DataFrame
    tuning_over_pairs: pd.DataFrame
    power: pd.DataFrame
    layers: pd.DataFrame
    curve: pd.DataFrame
    probe_controls: pd.DataFrame
    learning: pd.DataFrame
    similarity: pd.DataFrame
    behaviour: pd.DataFrame
    incremental: pd.DataFrame
    lens: pd.DataFrame
    two_targets: pd.DataFrame
    interventions: pd.DataFrame
    transfer: pd.DataFrame
    geometry: pd.DataFrame
    paragraphs: tuple[Paragraph, ...] = ()
    warnings: tuple[Caution, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return every table by name, in the order of a report."""
        return {part.name: getattr(self, part.name) for part in fields(self) if part.name not in _WORDS}

    def save(self, folder: str | Path) -> list[Path]:
        """Write one Parquet and one CSV file per table, the tables that go into papers as LaTeX too, and findings.json.

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
            if name in PRINTED and len(table):
                printed = to_latex(table, label=f"tab:{name}", longtable=len(table) > LONG)
                written.append(folder / f"{name}.tex")
                write_bytes(written[-1], printed.encode())
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
        **{name: as_text(pd.read_parquet(folder / f"{name}.parquet")) for name in names},
        paragraphs=tuple(Paragraph(**paragraph) for paragraph in words["paragraphs"]),
        warnings=tuple(Caution(**warning) for warning in words["warnings"]),
        settings=words["settings"],
    )


def find(
    signals: pd.DataFrame,
    layers: pd.DataFrame | None = None,
    *,
    representation: Mapping[str, pd.DataFrame] | None = None,
    seed: int,
    n_bootstrap: int = 2000,
    n_permutations: int = 2000,
    interval: str = "percentile",
    cluster: str | None = None,
    measures: Sequence[str] | None = None,
    pairs: Declared = (),
    runs: Iterable[Mapping[str, Any]] = (),
) -> Findings:
    """Draw every finding of a study from its signals.

    Args:
        signals: one row per item, scoring and nucleus of every run; columns item, choice, n_options, human_entropy,
            human_entropy_normalized, the measures, and where known correct, answer, subject, human_top, responses,
            respondents, choice_log_probabilities, choice_ties, human_entropy_se. Signals of several runs are
            concatenated.
        layers: `probe_layers` of the same runs, concatenated, or None.
        representation: tables of the same runs, concatenated, by name: controls (`probe_controls`), learning
            (`learning_curve`), rsa, two_targets, lens (`logit_lens`), interventions, transfer (`transfer_matrix`),
            geometry; those that are not there are left out.
        seed: of all bootstrap draws; the same seed and tables give the same findings.
        n_bootstrap: bootstrap draws behind each interval (95%).
        n_permutations: permutations behind each null of the measures.
        interval: "percentile" or "bca".
        cluster: "subject" to draw whole subjects wherever every item of a dataset has one; None draws items.
        measures: which measures to look at; by default all that the table has, a normalised twin in place of its raw
            measure. Every one of them counts in the correction for multiple tests.
        pairs: base and instruct models to set against each other, as `pairs_of` takes them.
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
    if len(pairs):
        require_columns(signals, ["model"], parameter="signals", caller="find")
    known = [dict(run) for run in runs]
    plan = Plan(
        measures=list(measures),
        seed=seed,
        n_bootstrap=n_bootstrap,
        n_permutations=n_permutations,
        interval=interval,
        cluster=cluster,
        pairs=pairs_of(signals["model"], pairs, caller="find") if len(pairs) else (),
        reordered=_reordered(known),
    )
    tables = study_tables(signals, layers, plan)
    tables |= representation_tables(signals, representation or {}, plan)
    settings = {
        "seed": seed,
        "n_bootstrap": n_bootstrap,
        "n_permutations": n_permutations,
        "interval": interval,
        "cluster": cluster,
        "measures": list(measures),
        "pairs": [list(pair) for pair in plan.pairs],
        "level": 0.95,
    }
    return Findings(
        **tables,
        paragraphs=tuple(paragraphs(tables, settings)),
        warnings=tuple(cautions(tables, known)),
        settings=settings,
    )


def _reordered(runs: list[dict[str, Any]]) -> list[tuple]:
    return [
        (run.get("model"), run.get("dataset"), run.get("prompt"))
        for run in runs
        if run.get("permutations", "none") != "none" or run.get("option_order", "given") != "given"
    ]

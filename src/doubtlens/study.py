"""Run a study: from its settings to run files, signals, findings and a report.

>>> from doubtlens import run_study
>>> result = run_study("quickstart")        # doctest: +SKIP
>>> result.signals, result.report           # doctest: +SKIP
"""

import json
import platform
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .pipeline import STAGES, Pipeline, Step
from .records import write_json
from .representation_stage import represent
from .settings import Study
from .settings_file import load_study
from .stages import analyze, extract_runs, probe_runs, report

if TYPE_CHECKING:
    import pandas as pd

    from .analysis import Findings

__all__ = ["STAGES", "StudyResult", "load_study", "run_study"]

_LIBRARIES = (
    "doubtlens",
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "torch",
    "transformers",
    "transformer-lens",
)


@dataclass(frozen=True)
class StudyResult:
    """Where a study's results are; tables are read when asked for.

    Attributes:
        study: the settings.
        output: the study's folder.
        runs: run files, checkpoints outermost, in the order of the study file.
        stems: ``<output>/<run name>`` of every run whose signals there are.
        report: the HTML page, or None if the report stage was left out.
        steps: what was done or reused, in order.
    """

    study: Study
    output: Path
    runs: list[Path]
    stems: list[Path]
    report: Path | None
    steps: list[Step]

    @cached_property
    def signals(self) -> "pd.DataFrame":
        """The signals of all runs in one table, one row per item, scoring and nucleus."""
        import pandas as pd

        from .probes import load_signals

        return pd.concat([load_signals(stem).table for stem in self.stems], ignore_index=True)

    @cached_property
    def findings(self) -> "Findings":
        """The findings, as the analyze stage left them."""
        from .analysis import load_findings

        return load_findings(self.output / "findings")

    @property
    def timings(self) -> "pd.DataFrame":
        """One row per step: stage, key, seconds, forward_seconds (NaN but for extract), reused.

        The seconds of a reused step are those that it took when it was done.
        """
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "stage": step.stage,
                    "key": step.key,
                    "seconds": step.record.seconds,
                    "forward_seconds": forward_seconds(step),
                    "reused": step.reused,
                }
                for step in self.steps
            ]
        )


def forward_seconds(step: Step) -> float:
    """Return the seconds that an extract step spent in forward passes, NaN for any other step."""
    return float(step.record.details.get("timings", {}).get("forward_s", "nan"))


def run_study(
    study: Study | str | Path | Mapping[str, Any],
    *,
    stages: Collection[str] = STAGES,
    redo: Collection[str] = (),
    progress: bool = True,
) -> StudyResult:
    """Run a study, or what is left of it to do.

    A stage whose settings and sources have not changed is reused, and an interrupted run goes on where it
    was, so a second call takes seconds. A run file made with other settings is refused, not overwritten.

    Args:
        study: a `Study`, the path of its YAML file, a packaged name, or a mapping of the same shape.
        stages: of "extract", "probe", "represent", "analyze" and "report", those that may do work. What the earlier
            ones leave behind must be there; later ones are left alone.
        redo: stages that are done anew though nothing has changed; "extract" replaces run files made
            with other settings.
        progress: whether to show on standard error what happens.

    Raises:
        SettingsError: the study cannot be used; the message names file, line, key and mend.
        FileNotFoundError: a stage that is left out has left nothing to go on with.
        FileExistsError: the output folder is something else.
        ValueError: bad items, an unknown name, or a run file made with other settings, naming the field.
    """
    study = load_study(study)
    pipeline = Pipeline(study, stages=stages, redo=redo, progress=progress)
    _claim_output(study, pipeline.output)
    last = max((STAGES.index(stage) for stage in stages), default=-1)
    runs: list[Path] = []
    stems: list[Path] = []
    page = None
    try:
        if last >= STAGES.index("extract"):
            asked = extract_runs(pipeline)
            runs = [run.path for run in asked]
        if last >= STAGES.index("probe"):
            probed = probe_runs(pipeline, runs)
            stems = [path.with_suffix("") for path in runs]
        if last >= STAGES.index("represent"):
            represented = represent(pipeline, asked, probed)
        if last >= STAGES.index("analyze"):
            findings = analyze(pipeline, runs, probed, represented)
        if last >= STAGES.index("report"):
            page = report(pipeline, runs, findings)
    finally:
        _write_summary(pipeline)
    return StudyResult(study, pipeline.output, runs, stems, page, pipeline.steps)


def _claim_output(study: Study, output: Path) -> None:
    """Refuse an output folder that holds anything but this study's results; mark a new one as the study's."""
    summary = output / "study.json"
    if output.exists() and not output.is_dir():
        raise FileExistsError(
            f"The output {output} of study {study.name!r} exists and is not a folder. Name another `output`."
        )
    if not summary.is_file():
        if output.is_dir() and any(output.iterdir()):
            raise FileExistsError(
                f"The output {output} of study {study.name!r} exists, is not empty and holds no study.json, "
                f"so it is something else. Name another `output`, or empty that folder."
            )
        write_json(summary, {"name": study.name})
        return
    try:
        owner = json.loads(summary.read_text(encoding="utf-8"))["name"]
    except (ValueError, KeyError, TypeError) as error:
        raise FileExistsError(
            f"{summary} is not what doubtlens writes there. Name another `output`, or remove that file."
        ) from error
    if owner != study.name:
        raise FileExistsError(
            f"The output {output} holds the study {owner!r}, not {study.name!r}. Name another `output`."
        )


def _write_summary(pipeline: Pipeline) -> None:
    """Write ``study.json``: all settings, what was done, how long it took, and with which versions."""
    write_json(
        pipeline.output / "study.json",
        {
            "name": pipeline.study.name,
            "settings": pipeline.study.model_dump(mode="json"),
            "steps": [
                {
                    "stage": step.stage,
                    "key": step.key,
                    "fingerprint": step.record.fingerprint,
                    "outputs": sorted(step.record.outputs),
                    "seconds": step.record.seconds,
                    "reused": step.reused,
                    **step.record.details,
                }
                for step in pipeline.steps
            ],
            "versions": {"python": platform.python_version()} | {name: _installed(name) for name in _LIBRARIES},
        },
    )


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

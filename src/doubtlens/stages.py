"""The stages of a study, each from its settings to files and a record.

1. `extract_runs`: every checkpoint, loaded once, answers every question: one run file each.
2. `probe_runs`: measures, targets and probes of each run file: one signals table each.
3. `represent`, in `representation_stage`: controls, both targets, other runs, interventions.
4. `analyze`: all signals together: the findings.
5. `report`: findings to one page.

Torch is imported only where a checkpoint has to be loaded.
"""

import gc
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.markup import escape

from .extract.names import unknown_name
from .pipeline import Made, Pipeline
from .questions import load_questions, run_name
from .records import Record, child_generator
from .representation_stage import Asked, left_out, representation_tables
from .settings import CheckpointSettings, QuestionSettings, Study

if TYPE_CHECKING:
    import pandas as pd

    from .extract.checkpoints import Checkpoint

__all__ = ["Loaded", "analyze", "extract_runs", "probe_runs", "report", "run_id"]


class Loaded:
    """A checkpoint that is loaded when first asked for, and freed at the end of the ``with`` block."""

    def __init__(self, settings: CheckpointSettings) -> None:
        self.settings = settings
        self._checkpoint: Checkpoint | None = None

    def __enter__(self) -> Self:
        return self

    def get(self) -> "Checkpoint":
        """Load the checkpoint, or return it where it is loaded."""
        from .extract import load_checkpoint

        if self._checkpoint is None:
            self._checkpoint = load_checkpoint(
                self.settings.id,
                device=self.settings.device,
                dtype=self.settings.dtype,
                revision=self.settings.revision,
                name=self.settings.display_name,
                trust_remote_code=self.settings.trust_remote_code,
            )
        return self._checkpoint

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._checkpoint is None:
            return
        self._checkpoint = None
        gc.collect()
        torch = sys.modules["torch"]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def extract_runs(pipeline: Pipeline) -> list[Asked]:
    """Write or find the run file of every checkpoint and question, in the order of the study file.

    Two questions that come to the same run file (chat "auto" and "never" of a model without a chat template)
    give one run.
    """
    from .extract import items_hash

    study = pipeline.study
    questions = load_questions(study)
    runs: dict[Path, Asked] = {}
    for checkpoint in study.checkpoints:
        with Loaded(checkpoint) as loaded:
            for key, (question, items) in questions.items():
                inputs = {
                    # Where a model runs and how its batches are cut moves only the last bits of its answers:
                    # a finished run is not refused for it.
                    "checkpoint": checkpoint.model_dump(mode="json", exclude={"device"}),
                    "weights": _local_weights(checkpoint.id),
                    "items": items_hash(items),
                    "dataset": items.attrs["name"],
                    "question": question.model_dump(mode="json", exclude={"items", "limit"}),
                    "capture": study.capture.model_dump(mode="json", exclude={"batch_tokens"}),
                }

                def work(
                    loaded: Loaded = loaded,
                    question: QuestionSettings = question,
                    items: "pd.DataFrame" = items,
                ) -> Made:
                    return _capture(pipeline, loaded, question, items)

                record = pipeline.step(
                    "extract",
                    f"{checkpoint.display_name}.{key}",
                    inputs,
                    work,
                    still_valid=lambda record: _is_the_recorded_run(pipeline.output, record),
                    spinner=False,
                )
                path = pipeline.output / record.details["run"]
                runs[path] = Asked(path, loaded, question, items)
    return list(runs.values())


def _capture(pipeline: Pipeline, loaded: Loaded, question: QuestionSettings, items: "pd.DataFrame") -> Made:
    from .extract import extract
    from .extract.chat import has_chat_template
    from .extract.positions import positions_of_prompt

    study = pipeline.study
    checkpoint = loaded.get()
    chat = question.chat == "always" or (question.chat == "auto" and has_chat_template(checkpoint.tokenizer))
    name = run_name(items.attrs["name"], question.prompt, question.permutations, "chat" if chat else "")
    path = pipeline.output / f"{loaded.settings.display_name}.{name}.h5"
    run = extract(
        checkpoint,
        items,
        path,
        prompt=question.prompt,
        chat=question.chat,
        sites=study.capture.sites,
        layers=study.capture.layers,
        positions=positions_of_prompt(question.prompt, study.capture.positions),
        logits=study.capture.logits,
        option_order=question.option_order,
        permutations=question.permutations,
        batch_tokens=study.capture.batch_tokens,
        overwrite="extract" in pipeline.redo,
        progress=pipeline.progress,
    )
    return Made([path], {"run": path.name, "id": run_id(path), "timings": run.info["timings"]})


def _is_the_recorded_run(output: Path, record: Record) -> bool:
    try:
        return run_id(output / record.details["run"]) == record.details["id"]
    except (ValueError, OSError):  # something else stands there now: let extract() say what
        return False


def _local_weights(source: str) -> dict[str, list[int]]:
    """Size and date of a local checkpoint's files; {} for a hub id, whose commit stands in the run."""
    path = Path(source)
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    return {
        file.name: [file.stat().st_size, file.stat().st_mtime_ns]
        for file in files
        if file.suffix in (".safetensors", ".gguf", ".json")
    }


def probe_runs(pipeline: Pipeline, runs: list[Path]) -> dict[str, Record]:
    """Compute or find the signals of every run file; the records by run name (the file's stem)."""
    study = pipeline.study
    records = {}
    for path in runs:

        def work(path: Path = path) -> Made:
            return _probe(pipeline, path)

        inputs = {
            "run": run_id(path),
            "probes": study.probes.model_dump(mode="json"),
            "seed": study.seed,
            "doubtlens": pipeline.version,
        }
        records[path.stem] = pipeline.step("probe", path.stem, inputs, work, spinner=False)
    return records


def run_id(path: Path) -> str:
    """Identify a complete run file by its manifest, which holds the digest of everything else in it."""
    import h5py

    from .extract import open_run

    with h5py.File(open_run(path).path, "r") as file:
        return hashlib.sha256(file["manifest"][()]).hexdigest()


def _probe(pipeline: Pipeline, path: Path) -> Made:
    from .extract import open_run
    from .probes.signals import signals

    settings = pipeline.study.probes
    stem = path.with_suffix("")
    run = open_run(path)
    site = settings.site or ("resid_post" if "resid_post" in run.sites else run.sites[0])
    result = signals(
        run,
        targets=settings.targets if settings.enabled else (),
        site=site,
        position=settings.position,
        n_splits=settings.n_splits,
        n_permutations=settings.n_permutations,
        n_bootstrap=settings.n_bootstrap,
        progress=pipeline.progress,
        rng=child_generator(pipeline.study.seed, "probe", path.stem),
    )
    for target, reason in result.skipped.items():
        pipeline.say(f"[dim]        not probed: {escape(target)}: {escape(reason)}[/dim]")
    return Made(result.save(stem), {"skipped": dict(result.skipped)})


def analyze(
    pipeline: Pipeline, runs: Sequence[Path], probed: Mapping[str, Record], represented: Mapping[str, Record]
) -> Record:
    """Draw or find the findings of all runs together."""
    settings = pipeline.study.analysis
    inputs = {
        "signals": {name: record.fingerprint for name, record in probed.items()},
        "representation": {name: record.fingerprint for name, record in represented.items()},
        "analysis": settings.model_dump(mode="json"),
        "pairs": [pair.model_dump(mode="json") for pair in pipeline.study.pairs],
        "seed": pipeline.study.seed,
        "doubtlens": pipeline.version,
    }
    return pipeline.step("analyze", "", inputs, lambda: _analyze(pipeline, runs, represented))


def _analyze(pipeline: Pipeline, runs: Sequence[Path], represented: Mapping[str, Record]) -> Made:
    import pandas as pd

    from .analysis import find
    from .probes import load_signals

    settings = pipeline.study.analysis
    loaded = [load_signals(path.with_suffix("")) for path in runs]
    layers = [part.layers for part in loaded if len(part.layers)]
    findings = find(
        _chosen(pd.concat([part.table for part in loaded], ignore_index=True), pipeline.study),
        pd.concat(layers, ignore_index=True) if layers else None,
        representation=representation_tables(pipeline.output, represented),
        seed=pipeline.study.seed,
        n_bootstrap=settings.n_bootstrap,
        n_permutations=settings.n_permutations,
        interval=settings.interval,
        cluster=settings.cluster,
        measures=settings.measures,
        pairs=[
            {"name": pair.display_name, "base": pair.base, "instruct": pair.instruct} for pair in pipeline.study.pairs
        ],
        runs=[_known(path) | {"left_out": left_out(represented, path.stem)} for path in runs],
    )
    return Made(findings.save(pipeline.output / "findings"))


def _chosen(table: "pd.DataFrame", study: Study) -> "pd.DataFrame":
    """Keep the nuclei and scorings that the study compares.

    Raises:
        ValueError: a scoring that no run of the study has.
    """
    settings = study.analysis
    keep = table["nucleus"].isin(settings.nuclei)
    if settings.scorings is not None:
        known = table["scoring"].unique()
        for scoring in settings.scorings:
            if scoring not in known:
                raise ValueError(
                    f"The study's analysis.scorings: no run has it: {unknown_name('scoring', scoring, known)}"
                )
        keep &= table["scoring"].isin(settings.scorings)
    return table[keep].reset_index(drop=True)


def report(pipeline: Pipeline, runs: Sequence[Path], analyzed: Record) -> Path:
    """Write or find the page of the findings; return its path."""
    page = pipeline.output / "report.html"
    inputs = {
        "findings": analyzed.fingerprint,
        "study": pipeline.study.model_dump(mode="json", exclude={"output"}),
        "doubtlens": pipeline.version,
    }
    pipeline.step("report", "", inputs, lambda: _report(pipeline, runs, page))
    return page


def _report(pipeline: Pipeline, runs: Sequence[Path], page: Path) -> Made:
    from .analysis import load_findings, write_report

    return Made(
        write_report(
            load_findings(pipeline.output / "findings"),
            page,
            study=pipeline.study.model_dump(mode="json"),
            runs=[_known(path) for path in runs],
            figures=pipeline.output / "figures",
        )
    )


def _known(path: Path) -> dict[str, Any]:
    """Tell what the analysis stage may know of a run: its info, and what was asked."""
    from .extract import open_run

    run = open_run(path)
    return run.info | {"digest": run_id(path), "n": len(run.items), "example": run.items["prompt"].iloc[0]}

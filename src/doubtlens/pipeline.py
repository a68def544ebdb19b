"""Do a piece of a study, or reuse it: the one place where stages are timed, recorded and skipped."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from .extract.names import did_you_mean
from .records import Record, StageRecords
from .settings import Study

__all__ = ["STAGES", "Made", "Pipeline", "Step"]

STAGES = ("extract", "probe", "represent", "analyze", "report")


@dataclass(frozen=True)
class Made:
    """What a stage has written, and what later stages want to know of it."""

    outputs: Iterable[Path]
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One stage of one run, or of the study (then ``key`` is empty), as it stands now."""

    stage: str
    key: str
    record: Record
    reused: bool


class Pipeline:
    """The steps of one study in its output folder.

    Args:
        study: the settings.
        stages: the stages that may do work; what the others should have left behind must be there.
        redo: the stages whose results are made anew even though nothing changed.
        progress: whether to say on standard error what happens.
    """

    def __init__(
        self,
        study: Study,
        *,
        stages: Collection[str] = STAGES,
        redo: Collection[str] = (),
        progress: bool = True,
    ) -> None:
        for stage in (*stages, *redo):
            if stage not in STAGES:
                raise ValueError(
                    f"The stages parameter of run_study must be some of {', '.join(STAGES)}. "
                    f"Got {stage!r} instead.{did_you_mean(stage, STAGES)}"
                )
        self.study = study
        self.output = Path(study.output)
        self.stages = frozenset(stages)
        self.redo = frozenset(redo)
        self.progress = progress
        self.records = StageRecords(self.output)
        self.steps: list[Step] = []
        self.version = version("doubtlens")
        self._console = Console(stderr=True, highlight=False)

    def step(
        self,
        stage: str,
        key: str,
        inputs: Mapping[str, Any],
        work: Callable[[], Made],
        *,
        still_valid: Callable[[Record], bool] = lambda record: True,
        spinner: bool = True,
    ) -> Record:
        """Return the record of a stage, doing its work unless it was done from the same inputs.

        Raises:
            FileNotFoundError: the work would have to be done, and the stage is not among those that may.
        """
        record = self.records.find(stage, key, inputs)
        if record is not None and stage not in self.redo and still_valid(record):
            self.say(f"[dim]{stage:<10}{escape(key or self.study.name)}: unchanged[/dim]")
            self.steps.append(Step(stage, key, record, reused=True))
            return record
        changes = "; ".join(self.records.changes(stage, key, inputs))
        if stage not in self.stages:
            what = f"the {stage} stage of {key or 'the study'}"
            state = f"was done with other settings ({changes})" if changes else "has not been done"
            raise FileNotFoundError(f"In {self.output}, {what} {state}: run the stage {stage!r} of this study first.")
        since = f" [dim](since {escape(changes)})[/dim]" if changes else ""
        self.say(f"{stage:<10}{escape(key or self.study.name)}{since}")
        before = self.records.read(stage, key)
        start = time.perf_counter()
        with self._spinner(f"{stage} {key}") if spinner else nullcontext():
            made = work()
        record = self.records.write(
            stage,
            key,
            inputs,
            outputs=made.outputs,
            seconds=time.perf_counter() - start,
            details=made.details,
        )
        if before is not None and stage != "extract":  # a figure of a run that is no longer in the study
            for name in before.outputs.keys() - record.outputs.keys():
                (self.output / name).unlink(missing_ok=True)
        self.steps.append(Step(stage, key, record, reused=False))
        return record

    def say(self, text: str) -> None:
        """Tell the person at the terminal, in rich markup, if progress is wanted."""
        if self.progress:
            self._console.print(text, soft_wrap=True)

    def _spinner(self, text: str) -> AbstractContextManager[Any]:
        return self._console.status(text) if self.progress else nullcontext()

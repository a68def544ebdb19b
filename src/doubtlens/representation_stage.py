"""The stage that asks more of the probes than their score, run by run and then across runs.

1. An untrained model of the same architecture answers the same prompts, as a control.
2. `probe_controls`, `learning_curve`, `two_targets` and `rsa` of each run.
3. `logit_lens`: the output measures of each layer.
4. Probes are fitted to all items at their best layer, saved, and used to move the residual stream (`intervene`).
5. `transfer_matrix` over the runs of one architecture, `geometry` of each pair of checkpoints.

What a run's data cannot support is left out and named in the record of the step.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from .pipeline import Made, Pipeline
from .records import Record, child_generator
from .settings import QuestionSettings

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from .extract.store import Run
    from .probes import SavedProbe
    from .stages import Loaded

__all__ = ["TABLES", "Asked", "left_out", "represent", "representation_tables"]

TABLES = ("controls", "learning", "two_targets", "lens", "rsa", "interventions", "transfer", "geometry")
# The nucleus and top-k measures of every layer would take most of the time and tell the same.
LENS_MEASURES = (
    "choice_entropy", "choice_entropy_normalized", "choice_probability", "choice_mass", "total_entropy",
    "total_entropy_normalized", "top_1_probability",
)  # fmt: skip
# Drawn from the stream of the probe stage, whose first draw decides the folds.
ON_THE_SAME_FOLDS = ("controls", "learning", "two_targets")
HUMAN, CORRECT = "human_entropy_normalized", "correct"


@dataclass(frozen=True, eq=False)
class Asked:
    """A run file of the study, and what it was made from."""

    path: Path
    checkpoint: "Loaded"
    question: QuestionSettings
    items: "pd.DataFrame"

    @property
    def name(self) -> str:
        """Name of the run: the stem of its files."""
        return self.path.stem


def represent(pipeline: Pipeline, asked: Sequence[Asked], probed: Mapping[str, Record]) -> dict[str, Record]:
    """Do or find every part that the study wants; the records by step."""
    study = pipeline.study
    settings = study.representation
    records: dict[str, Record] = {}
    if not (settings.enabled and study.probes.enabled):
        return records
    for checkpoint in dict.fromkeys(run.checkpoint for run in asked):
        with checkpoint:
            for run in asked:
                if run.checkpoint is checkpoint:
                    records |= _of_run(pipeline, run, probed[run.name])
    records |= _across_runs(pipeline, asked)
    return records


def representation_tables(output: Path, records: Mapping[str, Record]) -> dict[str, "pd.DataFrame"]:
    """Read the tables of all runs back, each kind put together; a kind that nothing was made of is left out."""
    import pandas as pd

    found: dict[str, list[pd.DataFrame]] = {}
    for record in records.values():
        for file in record.outputs:
            kind = file.removesuffix(".parquet").rpartition(".")[2]
            if file.endswith(".parquet") and kind in TABLES:
                found.setdefault(kind, []).append(pd.read_parquet(output / file))
    return {kind: pd.concat(found[kind], ignore_index=True) for kind in TABLES if kind in found}


def left_out(records: Mapping[str, Record], run: str) -> dict[str, str]:
    """Say what could not be made of a run, and why."""
    found: dict[str, str] = {}
    for key, record in records.items():
        if key.startswith(f"{run}."):
            found |= record.details.get("skipped", {})
    return found


def _of_run(pipeline: Pipeline, asked: Asked, probed: Record) -> dict[str, Record]:
    settings, common = pipeline.study.representation, _inputs(pipeline, asked)
    records = {}

    def step(part: str, inputs: Mapping[str, Any], work: Callable[[], Made]) -> Record:
        key = f"{asked.name}.{part}"
        records[key] = pipeline.step("represent", key, {**common, **inputs}, work, spinner=False)
        return records[key]

    untrained = None
    if settings.controls and settings.untrained:
        made = step("untrained", {"positions": pipeline.study.capture.positions}, lambda: _untrained(pipeline, asked))
        untrained = pipeline.output / made.details["run"]
    if settings.controls or settings.learning_curve or settings.two_targets or settings.similarity:
        wanted = settings.model_dump(include={"controls", "untrained", "learning_curve", "two_targets", "similarity"})
        step("probes", wanted, lambda: _probe_tables(pipeline, asked, untrained))
    if settings.logit_lens and "resid_post" in pipeline.study.capture.sites:
        step("lens", {}, lambda: _lens(pipeline, asked))
    movable = _site(pipeline, pipeline.study.capture.sites).startswith("resid_")
    if settings.interventions.enabled and movable and pipeline.study.probes.position == "last":
        wanted = {"interventions": settings.interventions.model_dump(mode="json"), "layers": probed.fingerprint}
        step("interventions", wanted, lambda: _interventions(pipeline, asked))
    return records


def _inputs(pipeline: Pipeline, asked: Asked) -> dict[str, Any]:
    from .stages import run_id

    return {
        "run": run_id(asked.path),
        "probes": pipeline.study.probes.model_dump(mode="json"),
        "seed": pipeline.study.seed,
        "doubtlens": pipeline.version,
    }


def _untrained(pipeline: Pipeline, asked: Asked) -> Made:
    """Run the untrained twin over the same prompts; only its residual stream is wanted."""
    from .extract import extract, open_run

    info = open_run(asked.path).info
    path = asked.path.with_suffix(".untrained.h5")
    twin = asked.checkpoint.get().untrained(pipeline.study.seed)
    extract(
        twin, asked.items, path, prompt=info["prompt"], chat="always" if info["chat"] else "never",
        option_order=info["option_order"], permutations=info["permutations"], sites=[_site(pipeline, info["sites"])],
        layers=info["layers"], positions=info.get("positions", ["last"]), logits="summary",
        batch_tokens=pipeline.study.capture.batch_tokens, self_test="alone", overwrite=True,
        progress=pipeline.progress,
    )  # fmt: skip
    return Made([path], {"run": path.name})


def _probe_tables(pipeline: Pipeline, asked: Asked, untrained: Path | None) -> Made:
    """Controls, learning curves, both targets at once and the geometry beside people's answers."""
    from .extract import open_run
    from .probes import learning_curve, probe_controls, rsa, two_targets

    settings, probes = pipeline.study.representation, pipeline.study.probes
    run = open_run(asked.path)
    where = _where(pipeline, run)
    common = {**where, "n_splits": probes.n_splits, "missing": "drop", "progress": pipeline.progress}
    twin = None if untrained is None else open_run(untrained)
    parts = _Parts(pipeline, asked)
    for target, scoring in _targets(pipeline, run):
        chosen, label = {"scoring": scoring, **common}, " ".join(filter(None, (target, scoring)))
        if settings.controls:
            parts.add("controls", label, probe_controls, run, target, untrained=twin, **chosen)
        if settings.learning_curve:
            chosen["n_bootstrap"] = probes.n_bootstrap
            parts.add("learning", label, learning_curve, run, target, **chosen)
    drawn = {"n_permutations": probes.n_permutations, "n_bootstrap": probes.n_bootstrap}
    if settings.two_targets and {HUMAN, CORRECT} <= set(probes.targets):
        parts.add("two_targets", "", two_targets, run, HUMAN, CORRECT, n_halvings=5, **common, **drawn)
    if settings.similarity:
        parts.add("rsa", "", rsa, run, **where, n_permutations=1000, progress=pipeline.progress)
    return parts.made()


def _lens(pipeline: Pipeline, asked: Asked) -> Made:
    from .extract import open_run
    from .probes import logit_lens

    parts = _Parts(pipeline, asked)
    run = open_run(asked.path)
    measures = [
        name for name in LENS_MEASURES if any(s.startswith("label") for s in run.scorings) or "choice" not in name
    ]
    parts.add("lens", "", lambda rng: logit_lens(
        asked.checkpoint.get(), run, measures=measures, progress=pipeline.progress
    ))  # fmt: skip
    return parts.made()


def _interventions(pipeline: Pipeline, asked: Asked) -> Made:
    """Fit a probe of each target at its best layer, save it, and move the residual stream along it."""
    from .extract import open_run
    from .probes import intervene

    settings = pipeline.study.representation.interventions
    run = open_run(asked.path)
    parts = _Parts(pipeline, asked)
    probes = [
        probe
        for target, scoring in _targets(pipeline, run)
        for probe in _saved_probes(pipeline, asked, run, target, scoring, parts)
    ]

    def move(rng: "np.random.Generator") -> "pd.DataFrame":
        return intervene(
            asked.checkpoint.get(), run, probes, doses=settings.doses, n_random=settings.n_random,
            items=min(settings.items, len(run.items)), progress=pipeline.progress, rng=rng,
        ).table  # fmt: skip

    if probes:
        parts.add("interventions", "", move)
    return parts.made()


def _saved_probes(
    pipeline: Pipeline, asked: Asked, run: "Run", target: str, scoring: str | None, parts: "_Parts"
) -> Iterator["SavedProbe"]:
    import pandas as pd

    from .probes import fit_probe

    table = pd.read_parquet(asked.path.with_suffix(".layers.parquet"))
    own = table[
        (table["target"] == target) & (table["scoring"].isna() if scoring is None else table["scoring"] == scoring)
    ]
    wanted = pipeline.study.representation.interventions.layers
    layers = own.loc[own["best"].astype(bool), "layer"].tolist() if wanted == "best" else wanted
    for layer in layers if len(own) else ():
        probe = fit_probe(
            run, target, layer=int(layer), site=_site(pipeline, run.sites), position=pipeline.study.probes.position,
            scoring=scoring, n_splits=pipeline.study.probes.n_splits, missing="drop",
            n_bootstrap=pipeline.study.probes.n_bootstrap, rng=_generator(pipeline, asked, f"probe {target} {layer}"),
        )  # fmt: skip
        path = asked.path.with_suffix(f".{target}.layer{layer}.safetensors")
        probe.save(path)
        parts.outputs.append(path)
        yield probe


def _across_runs(pipeline: Pipeline, asked: Sequence[Asked]) -> dict[str, Record]:
    """Probes of one run on another, and base beside instruct."""
    from .stages import run_id

    settings, study = pipeline.study.representation, pipeline.study
    records: dict[str, Record] = {}
    if not settings.transfer:
        return records
    inputs = {
        "runs": {run.name: run_id(run.path) for run in asked},
        "pairs": [pair.model_dump(mode="json") for pair in study.pairs],
        "probes": study.probes.model_dump(mode="json"),
        "seed": study.seed,
        "doubtlens": pipeline.version,
    }
    key = "across"
    records[key] = pipeline.step("represent", key, inputs, lambda: _transfer(pipeline, asked), spinner=False)
    return records


def _transfer(pipeline: Pipeline, asked: Sequence[Asked]) -> Made:
    from .extract import open_run
    from .probes import geometry, transfer_matrix

    study = pipeline.study
    runs = [open_run(run.path) for run in asked]
    parts = _Parts(pipeline, None)
    for together in _of_one_architecture(runs):
        where = _where(pipeline, together[0])
        for target in study.probes.targets:
            able = [run for run in together if _known(run, target)]
            if len(able) > 1:
                parts.add(
                    "transfer", target, transfer_matrix, able, target, **where, n_splits=study.probes.n_splits,
                    progress=pipeline.progress,
                )  # fmt: skip
    for pair in study.pairs:
        for base, instruct in _same_questions(runs, pair.base, pair.instruct):
            label = f"{pair.display_name} {base.info['dataset']} {base.info['prompt']}"
            parts.add(
                "geometry", label, geometry, base, instruct, pair=pair.display_name,
                targets=[name for name in study.probes.targets if _known(base, name)], **_where(pipeline, base),
                n_permutations=study.probes.n_permutations, progress=pipeline.progress,
            )  # fmt: skip
    return parts.made()


class _Parts:
    """The tables that one step makes, each drawn from a stream of its own.

    What is refused (too few items, a single class, an architecture without a readout) is left out and named in the
    record and in the report: hours of other parts are not thrown away for it.
    """

    def __init__(self, pipeline: Pipeline, asked: Asked | None) -> None:
        self.pipeline, self.asked = pipeline, asked
        self.tables: dict[str, list[pd.DataFrame]] = {}
        self.skipped: dict[str, str] = {}
        self.outputs: list[Path] = []

    def add(self, kind: str, label: str, make: Callable[..., "pd.DataFrame"], *args: Any, **settings: Any) -> None:
        name = f"{kind} {label}".strip()
        rng = _generator(self.pipeline, self.asked, name)
        if self.asked is not None and kind in ON_THE_SAME_FOLDS:
            rng = child_generator(self.pipeline.study.seed, "probe", self.asked.name)
        try:
            table = make(*args, **settings, rng=rng)
        except ValueError as reason:
            self.skipped[name] = str(reason)
            self.pipeline.say(f"[dim]        left out: {escape(name)}: {escape(str(reason))}[/dim]")
        else:
            self.tables.setdefault(kind, []).append(table)

    def made(self) -> Made:
        """Write every kind of table and tell what was left out."""
        import io

        import pandas as pd

        from .extract.atomic import write_bytes

        for kind, tables in self.tables.items():
            buffer: Any = io.BytesIO()
            pd.concat(tables, ignore_index=True).to_parquet(buffer, index=False)
            path = self.pipeline.output / f"across.{kind}.parquet"
            if self.asked is not None:
                path = self.asked.path.with_suffix(f".{kind}.parquet")
            write_bytes(path, buffer.getvalue())
            self.outputs.append(path)
        return Made(self.outputs, {"skipped": self.skipped})


def _generator(pipeline: Pipeline, asked: Asked | None, name: str) -> "np.random.Generator":
    return child_generator(pipeline.study.seed, "represent", f"{asked.name if asked else ''} {name}")


def _site(pipeline: Pipeline, sites: Sequence[str]) -> str:
    return pipeline.study.probes.site or ("resid_post" if "resid_post" in sites else sites[0])


def _where(pipeline: Pipeline, run: "Run") -> dict[str, str]:
    return {"site": _site(pipeline, run.sites), "position": pipeline.study.probes.position}


def _targets(pipeline: Pipeline, run: "Run") -> Iterator[tuple[str, str | None]]:
    """Yield every target that the run knows, `correct` under the first scoring."""
    for target in pipeline.study.probes.targets:
        if _known(run, target):
            yield target, run.scorings[0] if target == CORRECT else None


def _known(run: "Run", target: str) -> bool:
    import numpy as np

    from .probes.layers import run_target

    return bool(np.isfinite(run_target(run, target).values).any())


def _of_one_architecture(runs: Sequence["Run"]) -> Iterator[list["Run"]]:
    """Yield the runs whose layers can be set against each other: of one depth and width."""
    shapes: dict[tuple[int, int], list[Run]] = {}
    for run in runs:
        shapes.setdefault((run.info["n_layers"], run.info["d_model"]), []).append(run)
    yield from (together for together in shapes.values() if len(together) > 1)


def _same_questions(runs: Sequence["Run"], base: str, instruct: str) -> Iterator[tuple["Run", "Run"]]:
    """Yield the runs of two checkpoints on the same items, asked by the same prompt."""
    for one in runs:
        for other in runs:
            alike = all(one.info[key] == other.info[key] for key in ("dataset", "items", "prompt", "permutations"))
            if alike and one.info["model"] == base and other.info["model"] == instruct:
                yield one, other

"""What a study file may say: one pydantic model per section, one description per key.

``settings_file.py`` reads these from YAML and words the errors; ``study.py`` runs them.
"""

import re
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

__all__ = [
    "AnalysisSettings",
    "CaptureSettings",
    "CheckpointSettings",
    "InterventionSettings",
    "ItemsSettings",
    "PairSettings",
    "ProbeSettings",
    "QuestionSettings",
    "RepresentationSettings",
    "Study",
]

_WEIGHT_FILES = (".gguf", ".safetensors")


def _shorthand(key: str) -> BeforeValidator:
    """Let a plain text stand for a mapping with that one key: ``knowledge`` for ``{source: knowledge}``."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


def _file_name_part(value: str) -> str:
    if not re.fullmatch(r"[\w][\w.+-]*", value):
        raise ValueError("must be letters, digits, '_', '-', '+' and '.', for it names files")
    return value


def _option_order(value: Any) -> Any:
    if value == "given" or (type(value) is int and value >= 0):
        return value
    raise ValueError("must be 'given' or a seed (a whole number of at least 0)")


def _layers(value: Any) -> Any:
    if value == "all":
        return value
    if isinstance(value, list) and value and all(type(layer) is int and layer >= 0 for layer in value):
        if len(set(value)) != len(value):
            raise ValueError("must name each layer once")
        return value
    raise ValueError("must be 'all' or a list of layer numbers, counted from 0")


def _intervened(value: Any) -> Any:
    if value == "best":
        return value
    if isinstance(value, list) and value:
        return _layers(value)
    raise ValueError("must be 'best' or a list of layer numbers, counted from 0")


def _batch_tokens(value: Any) -> Any:
    if value == "auto" or (type(value) is int and value >= 1):
        return value
    raise ValueError("must be 'auto' or a whole number of at least 1")


def _columns(value: dict[str, Any] | None) -> dict[str, Any] | None:
    for name, column in (value or {}).items():
        names = column if isinstance(column, list) else [column]
        if not names or not all(isinstance(name, str) for name in names):
            raise ValueError(f"must map {name!r} to a column name or a list of column names")
    return value


def _measures(value: list[str] | None) -> list[str] | None:
    from .extract.names import unknown_name
    from .probes.measure_table import MEASURES

    for name in value or ():
        if name not in MEASURES:
            raise ValueError(f"must name output measures: {unknown_name('measure', name, MEASURES)}")
    return value


Site = Literal["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"]
Position = Literal["last", "question_last", "question_mean", "labels"]
Scoring = Literal["label_single", "label_variants", "text_sum", "text_mean"]
Target = Literal[
    "human_entropy_normalized", "human_entropy", "human_correct", "recall_correct", "response_time_ms", "correct"
]
FileNamePart = Annotated[str, AfterValidator(_file_name_part)]


class Section(BaseModel):
    """A section of a study file: unknown keys and silent conversions are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class CheckpointSettings(Section):
    """One model of the study."""

    id: str = Field(min_length=1, description="Hub id, folder or .gguf file of a causal language model.")
    name: FileNamePart | None = Field(
        None, description="Name in tables, figures and file names; by default the last part of the id."
    )
    revision: str | None = Field(
        None, description="Hub branch, tag or commit; by default the newest, whose commit the run records."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Number format of the weights and of the forward pass."
    )
    device: str = Field("auto", description="Where the model runs: auto, cpu, cuda, cuda:1, mps, ...")
    trust_remote_code: bool = Field(False, description="Whether Python code of the hub repository may run.")

    @property
    def display_name(self) -> str:
        """The name that files, tables and figures carry."""
        if self.name is not None:
            return self.name
        path = PurePath(self.id.rstrip("/"))
        return path.stem if path.suffix in _WEIGHT_FILES else path.name


class ItemsSettings(Section):
    """Where the questions come from."""

    source: str = Field(
        min_length=1,
        description="A packaged table, a published dataset (`doubtlens items` lists both), a JSONL, CSV or Parquet "
        "file, or hub:org/name?split=test.",
    )
    path: str | None = Field(
        None, description="File or folder of a published dataset; by default below DOUBTLENS_DATA, else from the hub."
    )
    split: str | None = Field(None, description="Part of a published dataset, such as dev of mmlu.")
    group: str | None = Field(
        None, description="Whose answers count: a country of global_opinions, a demographic group of opinionqa."
    )
    weighted: bool = Field(False, description="Whether people of opinionqa count by their survey weight.")
    columns: Annotated[dict[str, Any] | None, AfterValidator(_columns)] = Field(
        None, description="Item column to source column, for example {question: prompt}; see docs/items.md."
    )
    name: FileNamePart | None = Field(
        None, description="Name of the table in results and file names; by default the source's own."
    )


class QuestionSettings(Section):
    """One table of items asked in one way: one run file for every checkpoint."""

    items: Annotated[ItemsSettings, _shorthand("source")] = Field(
        description="The items: a name, path or hub address, or a mapping of source, path, split, group, columns, ..."
    )
    prompt: str = Field(min_length=1, description="The prompt: moore2025, two_shot or open_two_shot.")
    chat: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Whether to use the tokenizer's chat template; auto: if it has one.",
    )
    option_order: Annotated[Any, BeforeValidator(_option_order)] = Field(
        "given", description="Order in which options are listed: as given, or shuffled by a seed."
    )
    permutations: Literal["none", "cyclic"] = Field(
        "none",
        description="cyclic asks all rotations of the options: no letter is favoured.",
    )
    limit: int | None = Field(None, ge=2, description="Ask only the first so many items, for a quick look.")


class CaptureSettings(Section):
    """What a run file keeps of the forward passes."""

    sites: list[Site] = Field(
        ["resid_post"],
        min_length=1,
        description="What is kept of each layer: the residual stream before, in and after it, and what attention and "
        "MLP add to it.",
    )
    positions: list[Position] = Field(
        ["last"],
        description="Tokens at which it is kept: last (always), question_last, question_mean, and labels where the "
        "prompt lists options.",
    )
    layers: Annotated[Any, BeforeValidator(_layers)] = Field(
        "all", description="Layers that are kept: all, or a list of numbers counted from 0."
    )
    logits: Literal["full", "summary"] = Field(
        "full",
        description="full keeps every logit; summary what the measures need, in far less space.",
    )
    batch_tokens: Annotated[Any, BeforeValidator(_batch_tokens)] = Field(
        "auto", description="Most tokens in one forward pass, padding included; auto: chosen for the device."
    )


class PairSettings(Section):
    """A base checkpoint and its fine-tuned twin, whose difference is looked at."""

    base: str = Field(min_length=1, description="Name of the base checkpoint in this study.")
    instruct: str = Field(min_length=1, description="Name of the fine-tuned checkpoint in this study.")
    name: str | None = Field(None, min_length=1, description="Name of the pair; by default that of the base.")

    @property
    def display_name(self) -> str:
        """The name that tables and figures carry."""
        return self.base if self.name is None else self.name


class ProbeSettings(Section):
    """Linear probes of the residual stream. The measures of the logits are computed in any case."""

    enabled: bool = Field(True, description="Whether probes are fitted at all.")
    site: Site | None = Field(
        None, description="Site that probes read; by default resid_post, or else the first that is kept."
    )
    position: Position = Field("last", description="Token that probes read: one of capture.positions.")
    targets: list[Target] = Field(
        ["human_entropy_normalized", "correct"],
        min_length=1,
        description="Columns that probes predict; one that a table lacks is skipped there and reported.",
    )
    n_splits: int = Field(10, ge=2, description="Folds of the cross-validation, grouped by subject if there is one.")
    n_permutations: int = Field(
        200,
        ge=1,
        description="Shuffled-label repetitions of each null; p is at least 1 / (1 + this).",
    )
    n_bootstrap: int = Field(2000, ge=1, description="Bootstrap samples behind each layer's interval.")


class InterventionSettings(Section):
    """Moving the residual stream along the probes' directions, to see whether the model uses them."""

    enabled: bool = Field(True, description="Whether the model is run again with its residual stream moved.")
    items: int = Field(64, ge=2, description="How many items, drawn at random, are run again.")
    doses: list[float] = Field(
        [-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0],
        min_length=2,
        description="How far the residual stream is moved, in standard deviations of the probe's projection.",
    )
    layers: Annotated[Any, BeforeValidator(_intervened)] = Field(
        "best", description="Layers that are moved: best (where the probe reads most), or a list of numbers from 0."
    )
    n_random: int = Field(
        20, ge=1, description="Random directions of equal norm beside each probe; p is at least 1 / (1 + this)."
    )


class RepresentationSettings(Section):
    """What is asked of the probes beyond their score: controls, both targets, other runs, and the model itself."""

    enabled: bool = Field(True, description="Whether any of this is done; it needs probes.")
    controls: bool = Field(True, description="Baselines that a probe must beat, on the same folds.")
    untrained: bool = Field(
        True, description="Whether an untrained model of the same architecture is run as one of the controls."
    )
    learning_curve: bool = Field(True, description="The score of probes that are fitted to fewer items.")
    two_targets: bool = Field(True, description="Whether human entropy and correctness are one direction or two.")
    similarity: bool = Field(True, description="The geometry of each layer beside that of people's answers.")
    logit_lens: bool = Field(True, description="The output measures as each layer's residual stream has them.")
    transfer: bool = Field(True, description="Probes of one run on another: prompt, dataset, base and instruct.")
    interventions: InterventionSettings = Field(
        InterventionSettings(), description="Whether the model uses what the probes read."
    )


class AnalysisSettings(Section):
    """Which findings are drawn from the signals."""

    n_bootstrap: int = Field(2000, ge=1, description="Bootstrap samples behind each interval.")
    interval: Literal["percentile", "bca"] = Field(
        "percentile", description="Kind of bootstrap interval: percentile, or bca (bias-corrected and accelerated)."
    )
    cluster: Literal["subject"] | None = Field(
        None,
        description="subject draws whole subjects instead of items where items have one; with few of them the "
        "intervals are too narrow.",
    )
    n_permutations: int = Field(2000, ge=1, description="Permutations behind each null of the output measures.")
    measures: Annotated[list[str] | None, AfterValidator(_measures)] = Field(
        None, min_length=1, description="Measures that are compared; by default all that the table has."
    )
    nuclei: list[Literal["inclusive", "exclusive"]] = Field(
        ["inclusive"],
        min_length=1,
        description="Conventions for the edge of a nucleus (top_p measures).",
    )
    scorings: list[Scoring] | None = Field(
        None,
        min_length=1,
        description="Answer scorings that are compared: label_single, label_variants, text_sum, text_mean; "
        "by default all that a prompt allows.",
    )


class Study(Section):
    """A study: every checkpoint is asked every question, and everything that follows from it."""

    name: str = Field(min_length=1, description="Name of the study, as the report's title has it.")
    output: str = Field(
        min_length=1, description="Folder for all results, relative to the folder the command is called from."
    )
    seed: int = Field(0, ge=0, description="The one seed; every stage of every run derives its own from it.")
    checkpoints: list[Annotated[CheckpointSettings, _shorthand("id")]] = Field(
        min_length=1, description="The models: ids, or mappings of id, name, revision, dtype, device, ..."
    )
    questions: list[QuestionSettings] = Field(min_length=1, description="What every model is asked.")
    pairs: list[PairSettings] = Field(
        [], description="Base and instruct checkpoints to set against each other: mappings of base and instruct."
    )
    capture: CaptureSettings = Field(CaptureSettings(), description="What the run files keep.")
    probes: ProbeSettings = Field(ProbeSettings(), description="How probes are fitted.")
    representation: RepresentationSettings = Field(
        RepresentationSettings(), description="What is asked of the probes beyond their score."
    )
    analysis: AnalysisSettings = Field(AnalysisSettings(), description="Which findings are drawn.")

    @model_validator(mode="after")
    def _names_are_distinct(self) -> "Study":
        names = [checkpoint.display_name for checkpoint in self.checkpoints]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"two checkpoints would both be called {name!r}; give one of them "
                    f"another `name` (a mapping of id and name), since files and tables are keyed by it"
                )
        return self

    @model_validator(mode="after")
    def _pairs_are_of_this_study(self) -> "Study":
        from .extract.names import did_you_mean

        names = [checkpoint.display_name for checkpoint in self.checkpoints]
        called = [pair.display_name for pair in self.pairs]
        for pair in self.pairs:
            for role, model in (("base", pair.base), ("instruct", pair.instruct)):
                if model not in names:
                    raise ValueError(
                        f"`pairs` must name checkpoints of this study ({', '.join(names)}). Got the {role} {model!r} "
                        f"instead.{did_you_mean(model, names)}"
                    )
            if pair.base == pair.instruct:
                raise ValueError(f"a pair must be two checkpoints. Got {pair.base!r} as base and as instruct")
            if called.count(pair.display_name) > 1:
                raise ValueError(
                    f"two pairs would both be called {pair.display_name!r}; give one of them another `name`"
                )
        return self

    @model_validator(mode="after")
    def _probed_site_is_kept(self) -> "Study":
        if self.probes.site is not None and self.probes.site not in self.capture.sites:
            raise ValueError(
                f"`probes.site` must be one of the sites that are kept, `capture.sites`: "
                f"{', '.join(self.capture.sites)}. Got {self.probes.site!r} instead"
            )
        if self.probes.position not in ("last", *self.capture.positions):
            raise ValueError(
                f"`probes.position` must be one of the positions that are kept, `capture.positions`: "
                f"{', '.join(self.capture.positions)}. Got {self.probes.position!r} instead"
            )
        return self

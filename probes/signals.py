"""The signals table: measures, human targets and out-of-fold probe predictions, one row per item.

Keys are model, dataset, item, prompt, setting, scoring and nucleus. Saved as Parquet beside the run.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..extract.atomic import write_bytes
from .folds import TargetError, outer_folds, permutation_drawer
from .layers import (
    HUMAN_TARGETS,
    RunTarget,
    choices,
    correctness,
    layer_table,
    progress_bar,
    run_groups,
    run_target,
    sweep_run,
)
from .measure_table import unknown_name
from .output_columns import OneStatistics, output_columns
from .stacking import Stacked, stack
from .sweep import LayerSweep
from .targets import human_targets

if TYPE_CHECKING:
    from ..extract.store import Run

LIST_COLUMNS = ("responses", "human_top", "choice_log_probabilities")
HUMAN_COLUMNS = (
    "n_options",
    "human_entropy",
    "human_entropy_normalized",
    "human_entropy_se",
    "human_top",
    "human_correct",
    "recall_correct",
    "response_time_ms",
)
# What the table holds of each target that was probed, before its name.
PREDICTED = (
    *(kind + end for kind in ("probe", "measures", "probe_and_measures") for end in ("", "_raw")),
    "baseline",
    "fold",
)
SIGNALS_SUFFIX, LAYERS_SUFFIX = ".signals.parquet", ".layers.parquet"


@dataclass(frozen=True, eq=False)
class Signals:
    """What the probes stage makes of a run.

    Attributes:
        table: one row per item, scoring and nucleus: keys, measures, `choice`, `choice_ties`, `correct` (NaN
            where no answer is known), `answer`, `choice_log_probabilities` (list of K natural-log scores in
            option order, not renormalised), `responses`, `respondents`, `subject`, the human targets, and
            for each target out-of-fold predictions, NaN where it is missing or could not be probed:
            `probe_{target}` from the nested probe, `measures_{target}` from every output measure of the run,
            `probe_and_measures_{target}` from both (`stacking`), for `correct` probabilities, comparable between
            folds; the same as they were made, `probe_raw_{target}` and so on, with `baseline_{target}`, the target's
            mean over the training rows, and `fold_{target}`, the number of the outer fold.
        layers: the tables of `probe_layers` for every target (and scoring) that could be probed.
        skipped: target (with its scoring) -> why it could not be probed.
    """

    table: pd.DataFrame
    layers: pd.DataFrame
    skipped: Mapping[str, str] = field(default_factory=dict)

    def save(self, stem: str | Path) -> tuple[Path, Path]:
        """Write `<stem>.signals.parquet` and `<stem>.layers.parquet`, each whole or not at all.

        The signals file is written last and an older one is removed first: where it exists, both belong
        together.

        Raises:
            FileNotFoundError: the folder does not exist.
            OSError: the disk is full or refuses.
        """
        signals_path, layers_path = _paths(stem)
        if not signals_path.parent.is_dir():
            raise FileNotFoundError(
                f"The stem parameter of Signals.save must lie in a folder that exists. Got {stem}; create "
                f"{signals_path.parent} first."
            )
        layers = self.layers.copy()
        layers.attrs = {"skipped": dict(self.skipped)}
        layers_bytes, signals_bytes = _parquet(layers), _parquet(self.table)
        signals_path.unlink(missing_ok=True)
        write_bytes(layers_path, layers_bytes)
        write_bytes(signals_path, signals_bytes)
        return signals_path, layers_path


def load_signals(stem: str | Path) -> Signals:
    """Read what `Signals.save(stem)` wrote.

    Raises:
        FileNotFoundError: one of the two files is missing; the message names it.
        ValueError: a file is not Parquet, or not a signals table.
    """
    frames = []
    for path, key in zip(_paths(stem), ("scoring", "layer"), strict=True):
        if not path.exists():
            raise FileNotFoundError(f"There is no file {path}. Signals.save({str(stem)!r}) writes it.")
        try:
            frame = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be read as Parquet ({error}); save the signals again.") from error
        if key not in frame and len(frame.columns):
            raise ValueError(f"{path} has no column {key!r}, so it is not what Signals.save writes.")
        frames.append(frame)
    table, layers = frames
    for column in set(LIST_COLUMNS) & set(table):
        table[column] = pd.Series([None if cell is None else cell.tolist() for cell in table[column]], dtype=object)
    return Signals(table, layers, layers.attrs.pop("skipped", {}))


def signals(
    run: Run,
    *,
    scorings: Sequence[str] | None = None,
    nuclei: Sequence[str] = ("inclusive", "exclusive"),
    targets: Sequence[str] = ("human_entropy_normalized", "correct"),
    layers: Sequence[int] | None = None,
    site: str = "resid_post",
    position: str = "last",
    groups: str | np.ndarray | None = "subject",
    n_splits: int = 10,
    n_permutations: int = 200,
    permute: str | None = None,
    n_bootstrap: int = 2000,
    progress: bool = True,
    rng: np.random.Generator,
) -> Signals:
    """Compute the signals table of a run: measures, human targets, ridge probes of every target.

    A target that the data cannot support (no responses, no answers, all answers right) is left out, its
    column NaN, and named with the reason in `skipped`.

    Args:
        run: an open run.
        scorings: answer scorings of the run; default all.
        nuclei: nucleus conventions.
        targets: what to probe for: `correct` (per scoring) and names of `human_targets`; may be empty.
        layers, site, position, groups, n_splits, n_permutations, permute, n_bootstrap: as in `probe_layers`.
        progress: show a progress bar on stderr.
        rng: source of folds, permutations and resamples.

    Raises:
        ValueError: an unknown scoring, nucleus, target, layer, site or position (with the nearest known name).
    """
    scorings = tuple(run.scorings) if scorings is None else tuple(scorings)
    for scoring in scorings:
        if scoring not in run.scorings:
            raise ValueError(unknown_name("scorings", "signals", "scorings of the run", scoring, run.scorings))
    if not scorings or not nuclei:
        raise ValueError(
            f"The scorings and nuclei parameters of signals must not be empty. Got {scorings} and {tuple(nuclei)}."
        )
    for name in targets:
        if name not in (*HUMAN_TARGETS, "correct"):
            known = [*HUMAN_TARGETS, "correct"]
            raise ValueError(unknown_name("targets", "signals", "a target", name, known))
    cached = OneStatistics(run)
    table = _measure_rows(run, cached, scorings, nuclei)
    wanted = [
        run_target(run, name, scoring) for name in targets for scoring in (scorings if name == "correct" else (None,))
    ]
    groups = run_groups(run, groups)
    able, skipped = _able(wanted, groups, n_splits, permute)
    results: list[tuple[RunTarget, LayerSweep]] = []
    with progress_bar("probing layers", progress and bool(able)) as report:
        for together in _same_items(able):
            # Two scorings often choose the same options: what is the same is swept once.
            distinct = {target.values.tobytes(): target for target in together}
            swept = sweep_run(
                run, list(distinct.values()), site=site, position=position, layers=layers, groups=groups,
                n_splits=n_splits, n_permutations=n_permutations, permute=permute, n_bootstrap=n_bootstrap,
                progress=report, rng=rng,
            )  # fmt: skip
            found = dict(zip(distinct, swept, strict=True))
            results += [(target, found[target.values.tobytes()]) for target in together]
    for name in targets:
        for kind in PREDICTED:
            table[f"{kind}_{name}"] = pd.array([pd.NA] * len(table), dtype="Int64") if kind == "fold" else np.nan
    columns = output_columns(cached) if results else pd.DataFrame()
    stacked: dict[int, Stacked] = {}
    for target, result in results:
        present = np.isfinite(target.values)
        if id(result) not in stacked:
            stacked[id(result)] = stack(result, columns[present])
        for kind, values in _predicted(stacked[id(result)]).items():
            whole = pd.Series(np.nan, index=range(len(run.items)), dtype="Int64" if kind == "fold" else "float64")
            whole[present] = values
            rows = slice(None) if target.scoring is None else table["scoring"] == target.scoring
            repeats = len(table.loc[rows]) // len(run.items)
            table.loc[rows, f"{kind}_{target.name}"] = pd.concat([whole] * repeats).to_numpy()
    tables = [layer_table(run, target, result, site, position) for target, result in results]
    layer_rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    # Text columns get the dtype that they will have when read back.
    return Signals(table.infer_objects(), layer_rows.infer_objects(), skipped)


def _predicted(stacked: Stacked) -> dict[str, np.ndarray]:
    """The columns of one target, for the rows that have it."""
    sides = {"probe": stacked.probe, "measures": stacked.measures, "probe_and_measures": stacked.both}
    columns: dict[str, np.ndarray] = {}
    for kind, predicted in sides.items():
        columns |= {kind: predicted.comparable, f"{kind}_raw": predicted.raw}
    return columns | {"baseline": stacked.baseline, "fold": stacked.fold}


def _measure_rows(run: Run, cached: OneStatistics, scorings: Sequence[str], nuclei: Sequence[str]) -> pd.DataFrame:
    """Measures and targets, blocks of N rows by scoring and then nucleus."""
    from .measures import output_measures  # loads torch, which reading saved signals does not need

    human = human_targets(run.items)[list(HUMAN_COLUMNS)]
    items = run.items.reindex(columns=["subject", "respondents"]).reset_index(drop=True)
    items["respondents"] = items["respondents"].astype("Int64")
    responses = [None if np.ndim(given) == 0 else list(given) for given in run.items["responses"]]
    answer = run.items["answer"].reset_index(drop=True)
    blocks = []
    for scoring in scorings:
        scores = run.choice_scores(scoring)
        lists = [row[:k].tolist() for row, k in zip(scores, run.items["n_options"], strict=True)]
        own = pd.DataFrame(
            {
                "correct": correctness(answer, choices(scores)),
                "answer": answer,
                "choice_log_probabilities": pd.Series(lists, dtype=object),
                "responses": pd.Series(responses, dtype=object),
            }
        )
        for nucleus in nuclei:
            measures = output_measures(cached, scoring=scoring, nucleus=nucleus)
            blocks.append(pd.concat([measures, own, items, human], axis=1))
    return pd.concat(blocks, ignore_index=True)


def _able(
    wanted: Sequence[RunTarget], groups: np.ndarray | None, n_splits: int, permute: str | None
) -> tuple[list[RunTarget], dict[str, str]]:
    """Part targets that can be cross-validated from those that cannot, with the reason."""
    able, skipped = [], {}
    for target in wanted:
        present = np.isfinite(target.values)
        try:
            if not present.any():
                raise TargetError("it is missing for every item")
            values = target.values[present]
            present_groups = None if groups is None else groups[present]
            folds = outer_folds(values, present_groups, n_splits=n_splits, rng=np.random.default_rng(0))
            permutation_drawer(values, folds, permute)
        except TargetError as error:
            name = target.name if target.scoring is None else f"{target.name} ({target.scoring})"
            skipped[name] = str(error)
        else:
            able.append(target)
    return able, skipped


def _same_items(targets: Sequence[RunTarget]) -> list[list[RunTarget]]:
    """Put together the targets that are known for the same items: they share the factorisations."""
    together: dict[bytes, list[RunTarget]] = {}
    for target in targets:
        together.setdefault(np.isfinite(target.values).tobytes(), []).append(target)
    return list(together.values())


def _paths(stem: str | Path) -> tuple[Path, Path]:
    return Path(f"{stem}{SIGNALS_SUFFIX}"), Path(f"{stem}{LAYERS_SUFFIX}")


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer: Any = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()

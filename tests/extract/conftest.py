"""A small run file without a model: what `extract` would write, laid out by hand after docs/format.md."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from doubtlens.extract.hdf5 import RowArray, write_text
from doubtlens.extract.segments import PartialRun

N_OPTIONS = (2, 4, 3, 2, 3)
LAYERS, WIDTH, VOCABULARY = (1, 4, 6), 7, 19


@dataclass
class MadeRun:
    """A run file and what stands in it, one row per prompt."""

    path: Path
    item: np.ndarray
    residual: np.ndarray  # float32, exactly what the stored type holds
    columns: dict[str, np.ndarray]  # as handed to the writer
    info: dict[str, Any]
    records: list[dict[str, Any]]
    texts: list[str]
    token_ids: list[list[int]]


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    return (np.ascontiguousarray(values, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16)


def make_run(
    path: Path,
    *,
    storage: str = "float32",
    cyclic: bool = False,
    logits: str = "full",
    segment_rows: int = 3,
    positions: tuple[str, ...] | None = None,
) -> MadeRun:
    """Without `positions` the file is as it was written before there were any but the last token."""
    rng = np.random.default_rng(0)
    rotations = [list(range(count)) if cyclic else [0] for count in N_OPTIONS]
    item = np.repeat(np.arange(len(N_OPTIONS)), [len(places) for places in rotations])
    rotation = np.concatenate(rotations)
    n_rows = len(item)
    wide = rng.standard_normal((n_rows, len(LAYERS), WIDTH)).astype(np.float32)
    residual = to_bfloat16(wide) if storage == "bfloat16" else wide.astype(storage)
    scores = np.full((n_rows, max(N_OPTIONS)), np.nan)
    for row, count in enumerate(np.asarray(N_OPTIONS)[item]):
        scores[row, :count] = np.log(rng.dirichlet(np.ones(count + 1))[:count])
    columns = {"residual/resid_post": residual, "scores/label_single": scores, "scores/label_variants": scores - 0.5}
    for position in positions or ():
        if position != "last":
            columns[f"residual_at/{position}/resid_post"] = residual_at(position, item, storage)
    if logits == "full":
        columns["logits/final"] = rng.standard_normal((n_rows, VOCABULARY)).astype(np.float32)
    else:
        columns["logits/statistics/total_entropy"] = rng.uniform(size=n_rows)
        columns["logits/largest_values"] = -np.sort(-rng.standard_normal((n_rows, 5)).astype(np.float32))
        columns["logits/largest_ids"] = rng.integers(0, VOCABULARY, (n_rows, 5)).astype(np.int32)
    arrays = [
        RowArray(
            name,
            "bfloat16" if values.dtype == np.uint16 else str(values.dtype),
            values.shape[1:],
            layered=name.startswith("residual"),
        )
        for name, values in columns.items()
    ]
    info = {
        "model": "tiny",
        "dataset": "animals",
        "prompt": "two_shot",
        "setting": "choice",
        "dtype": storage,
        "permutations": "cyclic" if cyclic else "none",
        "logits": logits,
        "sites": ["resid_post"],
        "layers": list(LAYERS),
        "scorings": ["label_single", "label_variants"],
        "vocab_size": VOCABULARY,
        "d_model": WIDTH,
        "n_layers": 8,
        "seed": 0,
    }
    if positions is not None:
        info["positions"] = list(positions)
    records = [
        {
            "id": f"q{number}",
            "question": f"Wie groß ist Nr. {number}?",
            "options": [f"option {place}" for place in range(count)],
            "answer": None if number == 2 else 1,
            "responses": [1.0] * count,
            "respondents": 40 + number,
        }
        for number, count in enumerate(N_OPTIONS)
    ]
    texts = [f"{records[number]['question']} ↻{turn}\nAnswer:" for number, turn in zip(item, rotation, strict=True)]
    token_ids = [[3, 1, *range(4, 4 + 1 + row % 3)] for row in range(n_rows)]

    def write_static(file: h5py.File) -> None:
        write_text(file, "items/records", [json.dumps(record, ensure_ascii=False) for record in records])
        file["prompts/item"] = item.astype(np.int32)
        file["prompts/rotation"] = rotation.astype(np.int16)
        file["prompts/order"] = np.zeros((n_rows, max(N_OPTIONS)), dtype=np.int8)
        file["prompts/token_ids"] = np.concatenate(token_ids).astype(np.int32)
        file["prompts/token_offsets"] = np.cumsum([0, *map(len, token_ids)]).astype(np.int64)
        write_text(file, "prompts/text", texts)
        write_text(file, "info", json.dumps(info))

    order = rng.permutation(n_rows)
    segments = [sorted(order[start : start + segment_rows].tolist()) for start in range(0, n_rows, segment_rows)]
    partial = PartialRun(path, {"model": "tiny"}, arrays, segments)
    for number, rows in enumerate(segments):
        partial.add(number, {name: values[rows] for name, values in columns.items()})
    partial.assemble(write_static)
    wide_again = (residual.astype(np.uint32) << 16).view(np.float32) if storage == "bfloat16" else residual
    exact = wide_again.astype(np.float32)
    return MadeRun(path, item, exact, columns, info, records, texts, token_ids)


def residual_at(position: str, item: np.ndarray, storage: str) -> np.ndarray:
    """Activations at a position as they are stored: float32 for means, NaN for the labels that an item lacks."""
    rng = np.random.default_rng(len(position))
    axes = (max(N_OPTIONS),) if position == "labels" else ()
    wide = rng.standard_normal((len(item), len(LAYERS), *axes, WIDTH)).astype(np.float32)
    if position == "labels":
        for row, count in enumerate(np.asarray(N_OPTIONS)[item]):
            wide[row, :, count:] = np.nan
    if position == "question_mean":
        return wide
    return to_bfloat16(wide) if storage == "bfloat16" else wide.astype(storage)


@pytest.fixture(scope="session")
def made_run() -> Callable[..., MadeRun]:
    return make_run

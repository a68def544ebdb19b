"""`extract`: ask a checkpoint every item and keep the residual stream, the final logits and the answer scores.

1. Prompts are rendered and tokenised in full; the tokens of every answer are found; all of it is checked first.
2. One batch plan is made from the token lengths (`batching`), whole batches are grouped into segments.
3. Segments that an earlier call finished are taken over, if everything that decides the numbers is the same.
4. The rest is forwarded (`forward`); after the first batch the self-test compares rows with the same prompts alone
   and with TransformerLens (`selftest`).
5. Segments are written beside the forward passes (`segment_writer`) and assembled at the end (`segments`).
"""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch

from .batching import group_segments, plan_batches
from .capture_loop import LARGEST, CaptureLoop
from .cells import cell_value
from .checkpoints import Checkpoint, load_checkpoint
from .datasets import load_items
from .forward import Forwarder
from .hdf5 import RowArray, write_text
from .identity import digest_of, library_versions, require_same
from .items import items_hash, validate_items
from .names import unknown_name
from .positions import find_positions
from .progress import row_progress
from .prompts import RenderedPrompts, render_prompts
from .scoring import ScoringPlan, plan_scoring
from .segments import PartialRun, partial_folder, progress_of, remove_partial
from .sites import SiteReader
from .statistics import logit_statistics
from .store import Run, open_run

LOGITS = ("full", "summary")
SEGMENT_ROWS, SEGMENT_BYTES = 128, 2**26
BATCH_TOKENS = {"cpu": 1024, "cuda": 16384}


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `extract`; the message says how much is kept and how to go on."""


def extract(
    checkpoint: Checkpoint | Any,
    items: pd.DataFrame | str | Path,
    path: str | Path,
    *,
    prompt: str = "two_shot",
    chat: str = "auto",
    option_order: str | int = "given",
    permutations: str = "none",
    sites: Sequence[str] = ("resid_post",),
    layers: str | Sequence[int] = "all",
    positions: Sequence[str] = ("last",),
    logits: str = "full",
    batch_tokens: str | int = "auto",
    seed: int = 0,
    self_test: bool | str = True,
    share_prefix: bool = True,
    overwrite: bool = False,
    progress: bool = True,
) -> Run:
    """Put every item to a checkpoint and write one run file.

    Args:
        checkpoint: of `load_checkpoint`, or a TransformerLens ``TransformerBridge``.
        items: a table of `load_items`, or what `load_items` takes. Items with `excluded` are left out and recorded.
        path: the run file to make. If it is there and complete with the same settings, it is returned as it is; an
            interrupted run is resumed at its last whole segment.
        prompt: ``moore2025``, ``two_shot`` or ``open_two_shot``.
        chat: ``"auto"`` (the chat template where there is one), ``"always"`` or ``"never"``.
        option_order: ``"given"``, or a seed that shuffles each item's options the same way for every model.
        permutations: ``"cyclic"`` asks every rotation of the options, to cancel a preference for a letter.
        sites: of ``resid_pre``, ``resid_mid``, ``resid_post``, ``attn_out``, ``mlp_out``.
        layers: ``"all"`` or block numbers.
        positions: of ``last`` (the last prompt token, always kept), ``question_last`` (the last token of the item's
            own question), ``question_mean`` (the mean over its tokens) and ``labels`` (the token of every option's
            label, where the prompt lists options).
        logits: ``"full"`` keeps all V values per prompt; ``"summary"`` the statistics and the 1,024 largest.
        batch_tokens: most tokens in a forward pass, padding included; ``"auto"`` is 1,024 on a CPU, 16,384 on a GPU.
        seed: recorded with the run; capture itself draws nothing.
        self_test: True, False, or ``"alone"`` (without TransformerLens, which takes seconds to import).
        share_prefix: False computes every prompt in full.
        overwrite: replace a run file or an unfinished run with other settings.
        progress: show a progress bar on the terminal or in the notebook.

    Returns:
        The complete run, opened for reading.

    Raises:
        ValueError: bad settings; a site that the architecture lacks; a prompt longer than the context; labels without
            tokens of their own; NaN or infinite values; a run at `path` made with other settings (the field is named).
        FileExistsError: `path` is something else than a run file.
        SelfTestError: the captured numbers are not those of the model.
        Interrupted: Ctrl-C; what is finished is kept.
        OSError: the disk is full; what is finished is kept.
    """
    started = time.perf_counter()
    path = Path(path)
    table = _items(items)
    seed, option_order = _plain_integer(seed), _plain_integer(option_order)
    if logits not in LOGITS:
        raise ValueError(f"extract: {unknown_name('logits', logits, LOGITS)}")
    if hasattr(checkpoint, "original_model"):
        checkpoint = load_checkpoint(checkpoint)
    if not isinstance(checkpoint, Checkpoint):
        raise ValueError(
            "The checkpoint parameter of extract must come from load_checkpoint, or be a TransformerBridge. "
            f"Got {checkpoint!r:.80} instead."
        )
    reader = SiteReader(checkpoint, sites, _layers(checkpoint, layers), positions)
    prompts = render_prompts(
        table,
        prompt,
        tokenizer=checkpoint.tokenizer,
        chat=chat,
        option_order=option_order,
        permutations=permutations,
    )
    plan = plan_scoring(checkpoint.tokenizer, prompts)
    names = [str(table["id"].iloc[row.item]) for row in prompts.rows]
    _require_vocabulary(checkpoint, plan, names)
    _require_context(checkpoint, plan, names)
    where = find_positions(checkpoint.tokenizer, prompts, plan.token_ids, reader.positions, names)
    forwarder = Forwarder(checkpoint, plan.token_ids, reader, positions=where, share_prefix=share_prefix)
    bound = _batch_tokens(batch_tokens, checkpoint.device.type)
    batches = plan_batches(forwarder.lengths, bound, equal_lengths=plan.continuations is not None)
    arrays = _arrays(checkpoint, plan, reader, logits)
    identity = {
        "checkpoint": checkpoint.id,
        "model": checkpoint.name,
        "revision": checkpoint.revision,
        "source": checkpoint.source,
        "weights": checkpoint.fingerprint,
        "config": checkpoint.config_hash,
        "attention": getattr(checkpoint.model.config, "_attn_implementation", None),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "dtype": checkpoint.dtype_name,
        "device": checkpoint.device.type,
        "tokenizer": checkpoint.tokenizer_hash,
        "dataset": str(table.attrs.get("name", "items")),
        "items": items_hash(table),
        "prompt": prompt,
        "chat": prompts.chat,
        "option_order": option_order,
        "permutations": permutations,
        "prompts": prompts.hash,
        "tokens": digest_of([plan.token_ids, plan.single, sorted(plan.variants.items()), plan.continuations]),
        "sites": reader.sites,
        "layers": reader.layers,
        "positions": reader.positions,
        "logits": logits,
        "batch_tokens": bound,
        "prefix_tokens": forwarder.prefix_tokens,
        "batch_plan": digest_of([[batch.rows, batch.width] for batch in batches]),
        "seed": seed,
        "versions": library_versions(),
    }
    identity = json.loads(json.dumps(identity))
    finished = _existing(path, identity, overwrite=overwrite)
    if finished is not None:
        return finished
    _make_folder(path)
    groups = group_segments(
        batches, sum(array.row_bytes for array in arrays), max_rows=SEGMENT_ROWS, max_bytes=SEGMENT_BYTES
    )
    rows = [sorted(row for number in group for row in batches[number].rows) for group in groups]
    loop = CaptureLoop(checkpoint, plan, forwarder, logits, names, self_test)
    partial = PartialRun(path, identity, arrays, rows)
    try:
        resumed = len(groups) - len(partial.missing)
        prepared = time.perf_counter()
        with row_progress(len(plan.token_ids), enabled=progress, label=path.stem) as advance:
            advance(sum(len(rows[number]) for number in partial.files))
            todo = [(number, [batches[index] for index in groups[number]]) for number in partial.missing]
            loop.run(partial, todo, advance)
        captured = time.perf_counter()
        info = identity | {
            "scorings": list(plan.scorings),
            "setting": prompts.setting,
            "vocab_size": checkpoint.vocab_size,
            "d_model": checkpoint.d_model,
            "n_layers": checkpoint.n_layers,
            "path": forwarder.path,
            "self_test": loop.outcome,
            "memory_splits": forwarder.splits,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "excluded": _excluded(table),
            "resumed_segments": resumed,
            "timings": {
                "prepare_s": round(prepared - started, 3),
                "capture_s": round(captured - prepared, 3),
                "forward_s": round(loop.forward_seconds(), 3),
                "self_test_s": round(loop.self_test_seconds, 3),
                "write_s": round(loop.write_seconds, 3),
            },
        }
        partial.assemble(lambda file: _write_static(file, table, prompts, plan, info))
    except KeyboardInterrupt:
        done, total = progress_of(path) or (0, len(groups))
        raise Interrupted(
            f"Interrupted: {done} of {total} segments of {path} are kept. Run the same extraction again to resume."
        ) from None
    finally:
        partial.close()
    return open_run(path)


def _items(items: pd.DataFrame | str | Path) -> pd.DataFrame:
    if isinstance(items, pd.DataFrame):
        table = validate_items(items)
        table.attrs["name"] = items.attrs.get("name", "items")
        return table
    return load_items(items)


def _layers(checkpoint: Checkpoint, layers: str | Sequence[int]) -> list[int]:
    if isinstance(layers, str):
        if layers != "all":
            raise ValueError(f'The layers parameter of extract must be "all" or block numbers. Got {layers!r} instead.')
        return list(range(checkpoint.n_layers))
    numbers = [_plain_integer(layer) for layer in layers] if isinstance(layers, Iterable) else None
    if numbers is None or not all(isinstance(number, int) for number in numbers):
        raise ValueError(f'The layers parameter of extract must be "all" or block numbers. Got {layers!r} instead.')
    if not numbers:
        raise ValueError("The layers parameter of extract must name at least one block. Got none instead.")
    return sorted(set(numbers))


def _plain_integer(value: Any) -> Any:
    """A whole number of numpy as an int, which JSON knows; anything else as it is."""
    return int(value) if isinstance(value, np.integer) else value


def _batch_tokens(batch_tokens: str | int, device: str) -> int:
    if batch_tokens == "auto":
        return BATCH_TOKENS.get(device, BATCH_TOKENS["cuda"])
    batch_tokens = _plain_integer(batch_tokens)
    if not isinstance(batch_tokens, int) or isinstance(batch_tokens, bool) or batch_tokens < 1:
        raise ValueError(
            f'The batch_tokens parameter of extract must be "auto" or at least 1. Got {batch_tokens!r} instead.'
        )
    return batch_tokens


def _make_folder(path: Path) -> None:
    try:
        partial_folder(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        error.add_note(f"while making room for {path}: give a path in a folder that can be written")
        raise


def _require_vocabulary(checkpoint: Checkpoint, plan: ScoringPlan, names: Sequence[str]) -> None:
    """Refuse tokens beyond the embedding or the unembedding: on a GPU they would take the whole process down."""
    size = min(int(checkpoint.model.get_input_embeddings().weight.shape[0]), checkpoint.vocab_size)
    for row, ids in enumerate(plan.token_ids):
        answers: Iterable[Sequence[int]]
        if plan.continuations is None:
            answers = [plan.single[row], *plan.variants[len(plan.orders[row])]]
        else:
            answers = plan.continuations[row]
        largest = max(chain(ids, *answers))
        if largest >= size:
            raise ValueError(
                f"item {names[row]}: its tokens go up to {largest}, and {checkpoint.name} knows {size}. The tokenizer "
                "is not this model's: load both from one checkpoint, or resize the model's embeddings."
            )


def _require_context(checkpoint: Checkpoint, plan: ScoringPlan, names: Sequence[str]) -> None:
    limit = checkpoint.context_length
    if limit is None:
        return
    for row, ids in enumerate(plan.token_ids):
        longest = len(ids) + (0 if plan.continuations is None else max(map(len, plan.continuations[row])) - 1)
        if longest > limit:
            raise ValueError(
                f"item {names[row]}: its prompt has {longest} tokens with the longest answer, and "
                f"{checkpoint.name} takes {limit}. Shorten the question or its options, use a prompt without worked "
                "examples, or set the item's excluded field."
            )


def _arrays(checkpoint: Checkpoint, plan: ScoringPlan, reader: SiteReader, logits: str) -> list[RowArray]:
    depth, width, vocabulary = len(reader.layers), checkpoint.d_model, checkpoint.vocab_size
    arrays = []
    for path, (_, position) in reader.paths.items():
        shape = (depth, plan.n_options_max, width) if position == "labels" else (depth, width)
        storage = "float32" if position == "question_mean" else checkpoint.dtype_name
        arrays.append(RowArray(path, storage, shape, layered=True))
    arrays += [RowArray(f"scores/{scoring}", "float64", (plan.n_options_max,)) for scoring in plan.scorings]
    if logits == "full":
        return [*arrays, RowArray("logits/final", "float32", (vocabulary,))]
    kept = min(LARGEST, vocabulary)
    names = logit_statistics(np.zeros((1, vocabulary), dtype=np.float32))
    return [
        *arrays,
        *(RowArray(f"logits/statistics/{name}", "float64", ()) for name in names),
        RowArray("logits/largest_values", "float32", (kept,)),
        RowArray("logits/largest_ids", "int32", (kept,)),
    ]


def _existing(path: Path, identity: dict[str, Any], *, overwrite: bool) -> Run | None:
    """The complete run at `path` if it is the one asked for; None if there is nothing in the way."""
    if overwrite:
        if path.exists():
            open_run(path)  # anything but a run file is not ours to delete
            path.unlink()
        remove_partial(path)
        return None
    if not path.exists():
        if partial_folder(path).exists() and not partial_folder(path).is_dir():
            raise FileExistsError(f"{partial_folder(path)} is in the way: it must be a folder, or absent")
        return None
    try:
        run = open_run(path)
    except ValueError as error:
        raise FileExistsError(f"{error}. Give another path, or move that file away.") from error
    require_same(
        {field: run.info[field] for field in identity if field in run.info},
        identity,
        where=f"The run in {path}",
        versions=False,
        mend="Give another path, or overwrite=True to replace it.",
    )
    # A kill between the renaming of the run file and the removal of its segments leaves them behind.
    with contextlib.suppress(RuntimeError, FileExistsError):
        remove_partial(path)
    return run


def _excluded(table: pd.DataFrame) -> list[dict[str, str]]:
    left_out = table[table["excluded"].notna()]
    return [
        {"item": str(item), "reason": str(why)} for item, why in zip(left_out["id"], left_out["excluded"], strict=True)
    ]


def _write_static(
    file: h5py.File, table: pd.DataFrame, prompts: RenderedPrompts, plan: ScoringPlan, info: dict[str, Any]
) -> None:
    """Items, prompts and info: everything that is not a row array."""
    asked = table[table["excluded"].isna()]
    number = {int(position): place for place, position in enumerate(np.flatnonzero(table["excluded"].isna()))}
    records = [{name: cell_value(cell) for name, cell in record.items()} for record in asked.to_dict("records")]
    # ASCII, because extra columns may hold what UTF-8 cannot.
    write_text(file, "items/records", [json.dumps(record, default=str) for record in records])
    file["prompts/item"] = np.array([number[row.item] for row in prompts.rows], dtype=np.int32)
    file["prompts/rotation"] = np.array([row.rotation for row in prompts.rows], dtype=np.int16)
    order = np.full((len(prompts.rows), plan.n_options_max), -1, dtype=np.int8)
    for place, row in enumerate(prompts.rows):
        order[place, : len(row.order)] = row.order
    file["prompts/order"] = order
    file["prompts/token_ids"] = np.concatenate([np.asarray(ids, dtype=np.int32) for ids in plan.token_ids])
    file["prompts/token_offsets"] = np.cumsum([0, *map(len, plan.token_ids)]).astype(np.int64)
    write_text(file, "prompts/text", [row.text for row in prompts.rows])
    write_text(file, "info", json.dumps(info, sort_keys=True))

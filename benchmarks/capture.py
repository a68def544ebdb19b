"""Capture, writing included, against bare forward passes of the same model on the same prompts.

Peers, measured in the same process, interleaved with ours, medians of `--repeats` runs:

- ``batched``: left-padded batches of whole prompts, sorted by length, ``logits_to_keep=1``, nothing captured and
  nothing written. This is the least that a capture of whole prompts could cost. The batch bound is the same as ours.
- ``one_at_a_time``: one prompt per forward pass with ``output_hidden_states=True``, nothing written: what a loop in a
  notebook does. Timed on the first rows only and scaled, which the output says.

Prints one JSON object. Ratios are peer seconds / our seconds, so more than 1 means that we are faster.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from doubtlens.extract import extract, load_checkpoint, load_items, render_prompts
from doubtlens.extract.batching import plan_batches
from doubtlens.extract.capture import BATCH_TOKENS
from doubtlens.extract.checkpoints import PACKAGED_MODEL


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


@torch.inference_mode()
def batched(checkpoint: Any, ids: list[list[int]], batch_tokens: int) -> float:
    started = time.perf_counter()
    for batch in plan_batches([len(row) for row in ids], batch_tokens):
        rows = [ids[row] for row in batch.rows]
        padded = torch.tensor([[0] * (batch.width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (batch.width - len(row)) + [1] * len(row) for row in rows])
        checkpoint.model(
            input_ids=padded.to(checkpoint.device),
            attention_mask=mask.to(checkpoint.device),
            use_cache=False,
            logits_to_keep=1,
        )
    synchronise(checkpoint.device)
    return time.perf_counter() - started


@torch.inference_mode()
def one_at_a_time(checkpoint: Any, ids: list[list[int]]) -> float:
    started = time.perf_counter()
    for row in ids:
        output = checkpoint.model(
            input_ids=torch.tensor([row], device=checkpoint.device), use_cache=False, output_hidden_states=True
        )
        torch.stack([state[0, -1] for state in output.hidden_states]).cpu()
        output.logits[0, -1].float().cpu()
    return time.perf_counter() - started


def ours(checkpoint: Any, items: Any, prompt: str, folder: Path, batch_tokens: int) -> float:
    path = folder / f"{prompt}.h5"
    settings = {"prompt": prompt, "chat": "never", "batch_tokens": batch_tokens}
    started = time.perf_counter()
    extract(checkpoint, items, path, self_test=False, progress=False, **settings)
    seconds = time.perf_counter() - started
    path.unlink()
    return seconds


def measure(
    checkpoint: Any, items: Any, prompt: str, repeats: int, alone_rows: int, batch_tokens: int
) -> dict[str, Any]:
    prompts = render_prompts(items, prompt)
    ids = [list(row) for row in checkpoint.tokenizer([row.text for row in prompts.rows])["input_ids"]]
    times: dict[str, list[float]] = {"ours": [], "batched": [], "one_at_a_time": []}
    # The rows timed one at a time stand for all: they are spread over the sorted lengths.
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    sample = [ids[order[place * len(ids) // alone_rows]] for place in range(alone_rows)]
    scale = sum(map(len, ids)) / sum(map(len, sample))
    with tempfile.TemporaryDirectory() as folder:
        batched(checkpoint, ids[:16], batch_tokens)
        for _ in range(repeats):
            times["ours"].append(ours(checkpoint, items, prompt, Path(folder), batch_tokens))
            times["batched"].append(batched(checkpoint, ids, batch_tokens))
            times["one_at_a_time"].append(one_at_a_time(checkpoint, sample) * scale)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "prompts": len(ids),
        "mean_tokens": round(sum(map(len, ids)) / len(ids), 1),
        "seconds": {name: round(value, 3) for name, value in medians.items()},
        "one_at_a_time_rows": alone_rows,
        "batched_over_ours": round(medians["batched"] / medians["ours"], 2),
        "one_at_a_time_over_ours": round(medians["one_at_a_time"] / medians["ours"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=PACKAGED_MODEL)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--items", type=int, default=128, help="items per data set")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--alone-rows", type=int, default=24)
    parser.add_argument("--batch-tokens", type=int, default=None)
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(arguments.checkpoint, device=arguments.device)
    bound = arguments.batch_tokens or BATCH_TOKENS[checkpoint.device.type]
    result: dict[str, Any] = {
        "model": checkpoint.name,
        "dtype": checkpoint.dtype_name,
        "device": torch.cuda.get_device_name() if checkpoint.device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "batch_tokens": bound,
        "repeats": arguments.repeats,
    }
    for dataset, prompt in (("knowledge", "two_shot"), ("opinions", "moore2025")):
        items = load_items(dataset).iloc[: arguments.items].reset_index(drop=True)
        items.attrs["name"] = dataset
        result[prompt] = measure(checkpoint, items, prompt, arguments.repeats, arguments.alone_rows, bound)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

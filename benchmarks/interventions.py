"""Logits after many edits of a prompt's residual stream, against TransformerLens's hooks on whole prompts.

Ours: the cached prompt, all edits of the last token as one batch, from the edited block on. The peer:
``bridge.run_with_hooks`` over the same weights, whole prompts, batches of `--peer-batch` edits; timed on the first
`--peer-edits` edits of every prompt and scaled to all, which the output says. The two are compared first.

Prints one JSON object. The ratio is peer seconds / our seconds, so more than 1 means that we are faster.
"""

import argparse
import json
import time
from typing import Any

import numpy as np
import torch

from doubtlens.extract import load_checkpoint, load_items, render_prompts
from doubtlens.extract.checkpoints import PACKAGED_MODEL
from doubtlens.extract.edited_forward import EditedForward, bridge_logits
from doubtlens.extract.residual_edits import ResidualEdits


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def ours(checkpoint: Any, ids: list[list[int]], edits: ResidualEdits) -> float:
    forward = EditedForward(checkpoint, ids)
    started = time.perf_counter()
    for row in range(len(ids)):
        for _ in forward.logits(row, [edits]):
            synchronise(checkpoint.device)
    return time.perf_counter() - started


def peer(checkpoint: Any, ids: list[list[int]], edits: ResidualEdits, batch: int) -> float:
    bridge = checkpoint.bridge()
    started = time.perf_counter()
    for row in ids:
        for start in range(0, len(edits), batch):
            bridge_logits(bridge, row, edits.part(slice(start, start + batch)))
            synchronise(checkpoint.device)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=PACKAGED_MODEL)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--items", type=int, default=4)
    parser.add_argument("--edits", type=int, default=127, help="one unedited, and 21 directions at six doses")
    parser.add_argument("--peer-edits", type=int, default=16)
    parser.add_argument("--peer-batch", type=int, default=8)
    parser.add_argument("--layers", type=int, nargs="+", default=None, help="default: a quarter, half, and the last")
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(arguments.checkpoint, device=arguments.device)
    depth = checkpoint.n_layers
    prompts = render_prompts(load_items("knowledge").iloc[: arguments.items].reset_index(drop=True), "two_shot")
    ids = [list(row) for row in checkpoint.tokenizer([row.text for row in prompts.rows])["input_ids"]]
    vectors = np.random.default_rng(0).standard_normal((arguments.edits, checkpoint.d_model))
    result: dict[str, Any] = {
        "model": checkpoint.name,
        "dtype": checkpoint.dtype_name,
        "device": torch.cuda.get_device_name() if checkpoint.device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "prompts": len(ids),
        "mean_tokens": round(sum(map(len, ids)) / len(ids), 1),
        "edits": arguments.edits,
        "peer_edits": arguments.peer_edits,
    }
    for layer in arguments.layers or [depth // 4, depth // 2, depth - 1]:
        edits = ResidualEdits.shifts(layer, vectors)
        few = edits.part(slice(0, arguments.peer_edits))
        (found,) = EditedForward(checkpoint, ids[:1]).logits(0, [few])
        wanted = bridge_logits(checkpoint.bridge(), ids[0], few)
        seconds = ours(checkpoint, ids, edits)
        others = peer(checkpoint, ids, few, arguments.peer_batch) * arguments.edits / arguments.peer_edits
        result[f"layer_{layer}"] = {
            "largest_difference": float((found - wanted).abs().max()),
            "ours_ms_per_edit": round(1e3 * seconds / len(ids) / arguments.edits, 2),
            "peer_over_ours": round(others / seconds, 1),
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

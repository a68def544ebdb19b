"""The self-test of a run: are the captured numbers those of the same prompts run alone, and of TransformerLens?

Errors are relative: the largest over the sampled rows of ||captured - reference|| / ||reference||, in float64, with
logits centred first (softmax does not see a constant). Only rounding may differ, so float32 has a narrow tolerance
and 16-bit dtypes the wide one of their own noise.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from .bridge import silenced
from .checkpoints import Checkpoint
from .forward import BatchResult
from .sites import SiteReader

TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
SAMPLE_ROWS = 3


class SelfTestError(RuntimeError):
    """The captured numbers are not those of the model; nothing after the first batch was run."""


def self_test(
    checkpoint: Checkpoint,
    token_ids: Sequence[Sequence[int]],
    reader: SiteReader,
    rows: Sequence[int],
    result: BatchResult,
    *,
    bridge: bool,
    continuations: Sequence[Sequence[Sequence[int]]] | None = None,
) -> dict[str, Any]:
    """Compare sampled rows of the first batch with three references.

    1. ``alone``: the same prompt in full, by itself, without a cache (and each option's text after it).
    2. ``bridge``: TransformerLens's hooks of the same names, over the same weights, where it knows the architecture.
    3. ``float32_noise`` (16-bit models only): the same weights computing in float32. This is the noise of the dtype,
       reported and not judged.

    Args:
        rows: prompt rows of the batch; the first, the middle and the last are sampled.
        result: what capture left for the batch.
        continuations: of the rows of the batch, for open prompts.

    Returns:
        JSON-serialisable: tolerance, and per reference the largest relative error of logits and of each site.

    Raises:
        SelfTestError: an error of 1 or 2 is above the tolerance; the figure is named.
    """
    tolerance = TOLERANCE[checkpoint.dtype_name]
    places = sorted({0, len(rows) // 2, len(rows) - 1})[:SAMPLE_ROWS]
    outcome: dict[str, Any] = {"tolerance": tolerance, "rows": [int(rows[place]) for place in places]}
    alone = [run_alone(checkpoint, token_ids[rows[place]], reader) for place in places]
    outcome["alone"] = _errors(result, places, alone)
    if continuations is not None and result.continuations is not None:
        outcome["alone"]["continuations"] = max(
            _continuation_error(checkpoint, token_ids[rows[place]], continuations[place], result.continuations[place])
            for place in places
        )
    if bridge:
        try:
            through = checkpoint.bridge()
        except ValueError as reason:
            outcome["bridge"] = f"not compared: {reason}"
        else:
            outcome["bridge"] = _errors(
                result, places, [run_bridge(through, token_ids[rows[place]], reader) for place in places]
            )
    else:
        outcome["bridge"] = "not compared: not asked for"
    for reference in ("alone", "bridge"):
        if isinstance(outcome[reference], dict):
            for what, error in outcome[reference].items():
                if not error <= tolerance:
                    raise SelfTestError(
                        f"The self-test of {checkpoint.name} failed: captured {what} differ from the reference "
                        f"'{reference}' by {error:.2e} (relative), above the tolerance {tolerance:.0e} of "
                        f"{checkpoint.dtype_name}. The run was stopped after its first batch. "
                        "share_prefix=False takes the plain path; please report the architecture."
                    )
    if checkpoint.dtype_name != "float32":
        outcome["float32_noise"] = _float32_noise(
            checkpoint, [token_ids[rows[place]] for place in places], reader, alone
        )
    return outcome


@torch.inference_mode()
def run_alone(
    checkpoint: Checkpoint, token_ids: Sequence[int], reader: SiteReader
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """One prompt by itself: (logits ``[V]``, site -> ``[L, d]``), no cache, no padding, the model's whole head."""
    ids = torch.as_tensor([token_ids], device=checkpoint.device)
    with reader.reading(torch.tensor([len(token_ids) - 1], device=checkpoint.device)) as kept:
        logits = checkpoint.model(input_ids=ids, use_cache=False, return_dict=True).logits[0, -1]
    return logits, {site: torch.cat([part.to(ids.device) for part in kept[site]]) for site in kept}


@torch.inference_mode()
def run_bridge(
    bridge: Any, token_ids: Sequence[int], reader: SiteReader
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """One prompt through TransformerLens: (logits ``[V]``, site -> ``[L, d]``)."""
    ids = torch.as_tensor([token_ids], device=bridge.original_model.get_input_embeddings().weight.device)
    names = [f"blocks.{layer}.hook_{site}" for site in reader.sites for layer in reader.layers]
    with silenced():
        logits, cache = bridge.run_with_cache(ids, attention_mask=torch.ones_like(ids), names_filter=names)
    residual = {
        site: torch.stack([cache[f"blocks.{layer}.hook_{site}"][0, -1] for layer in reader.layers])
        for site in reader.sites
    }
    return logits[0, -1], residual


@torch.inference_mode()
def _continuation_error(
    checkpoint: Checkpoint,
    prompt: Sequence[int],
    options: Sequence[Sequence[int]],
    captured: Sequence[torch.Tensor],
) -> float:
    worst = 0.0
    for tokens, logprobs in zip(options, captured, strict=True):
        ids = torch.as_tensor([[*prompt, *tokens]], device=checkpoint.device)
        logits = checkpoint.model(input_ids=ids, use_cache=False, return_dict=True).logits[0, len(prompt) - 1 : -1]
        targets = torch.as_tensor(tokens, device=logits.device).unsqueeze(-1)
        reference = logits.double().log_softmax(-1).gather(-1, targets).squeeze(-1)
        worst = max(worst, _relative(logprobs, reference))
    return worst


def _errors(
    result: BatchResult,
    places: Sequence[int],
    references: Sequence[tuple[torch.Tensor, dict[str, torch.Tensor]]],
) -> dict[str, float]:
    worst: dict[str, float] = {"logits": 0.0}
    for place, (logits, residual) in zip(places, references, strict=True):
        worst["logits"] = max(worst["logits"], _relative(_centred(result.logits[place]), _centred(logits)))
        for site, reference in residual.items():
            for layer, row in enumerate(reference):
                error = _relative(result.residual[site][place, layer], row)
                worst[site] = max(worst.get(site, 0.0), error)
    return worst


def _centred(logits: torch.Tensor) -> torch.Tensor:
    values = logits.double()
    return values - values.mean()


def _relative(captured: torch.Tensor, reference: torch.Tensor) -> float:
    difference, size = captured.double().cpu() - reference.double().cpu(), reference.double().cpu().norm()
    return float(difference.norm() / size.clamp_min(torch.finfo(torch.float64).tiny))


def _float32_noise(
    checkpoint: Checkpoint, prompts: Sequence[Sequence[int]], reader: SiteReader, alone: Sequence[Any]
) -> dict[str, float] | str:
    """Relative error of the 16-bit forward against the same weights in float32, or why it was not measured."""
    needed = 4 * sum(parameter.numel() for parameter in checkpoint.model.parameters())
    free = _free_memory(checkpoint.device)
    if needed > 0.8 * free or len({parameter.device for parameter in checkpoint.model.parameters()}) > 1:
        return f"not measured: a float32 copy needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"
    wide = Checkpoint(copy.deepcopy(checkpoint.model).float(), checkpoint.tokenizer, checkpoint.id, checkpoint.name)
    twin = SiteReader(wide, reader.sites, reader.layers)
    worst = {"logits": 0.0, "largest_logit_difference": 0.0}
    for prompt, (logits, residual) in zip(prompts, alone, strict=True):
        reference, states = run_alone(wide, prompt, twin)
        worst["logits"] = max(worst["logits"], _relative(_centred(logits), _centred(reference)))
        gap = (_centred(logits) - _centred(reference)).abs().max()
        worst["largest_logit_difference"] = max(worst["largest_logit_difference"], float(gap))
        for site, rows in states.items():
            for row, other in zip(residual[site], rows, strict=True):
                worst[site] = max(worst.get(site, 0.0), _relative(row, other))
    return worst


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)

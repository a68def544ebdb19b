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
from .positions import PromptPositions
from .sites import SUBLAYERS, SiteReader

TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
# What a sublayer adds is smaller than the stream that its noise comes from.
SUBLAYER_FACTOR = 2
SAMPLE_ROWS = 3


class SelfTestError(RuntimeError):
    """The captured numbers are not those of the model; nothing after the first batch was run."""


def self_test(
    checkpoint: Checkpoint,
    token_ids: Sequence[Sequence[int]],
    reader: SiteReader,
    positions: Sequence[PromptPositions],
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
        positions: the tokens that are kept of every prompt.
        rows: prompt rows of the batch; the first, the middle and the last are sampled.
        result: what capture left for the batch.
        continuations: of the rows of the batch, for open prompts.

    Returns:
        JSON-serialisable: tolerance (twice that for what a sublayer adds), and per reference the largest relative
        error of logits and of each site (at other positions than the last under ``<site> at <position>``).

    Raises:
        SelfTestError: an error of 1 or 2 is above the tolerance; the figure is named.
    """
    tolerance = TOLERANCE[checkpoint.dtype_name]
    places = sorted({0, len(rows) // 2, len(rows) - 1})[:SAMPLE_ROWS]
    outcome: dict[str, Any] = {"tolerance": tolerance, "rows": [int(rows[place]) for place in places]}
    sampled = [(token_ids[rows[place]], positions[rows[place]]) for place in places]
    alone = [run_alone(checkpoint, ids, reader, at) for ids, at in sampled]
    outcome["alone"] = _errors(reader, result, places, sampled, alone)
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
            references = [run_bridge(through, ids, reader, at) for ids, at in sampled]
            outcome["bridge"] = _errors(reader, result, places, sampled, references)
    else:
        outcome["bridge"] = "not compared: not asked for"
    for reference in ("alone", "bridge"):
        if isinstance(outcome[reference], dict):
            for what, error in outcome[reference].items():
                allowed = tolerance * (SUBLAYER_FACTOR if what.startswith(SUBLAYERS) else 1)
                if not error <= allowed:
                    raise SelfTestError(
                        f"The self-test of {checkpoint.name} failed: captured {what} differ from the reference "
                        f"'{reference}' by {error:.2e} (relative), above the tolerance {allowed:.0e} of "
                        f"{checkpoint.dtype_name}. The run was stopped after its first batch. "
                        "share_prefix=False takes the plain path; please report the architecture."
                    )
    if checkpoint.dtype_name != "float32":
        outcome["float32_noise"] = _float32_noise(checkpoint, sampled, reader, alone)
    return outcome


@torch.inference_mode()
def run_alone(
    checkpoint: Checkpoint, token_ids: Sequence[int], reader: SiteReader, at: PromptPositions | None = None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """One prompt by itself: (logits ``[V]``, path -> ``[L, d]``), no cache, no padding, the model's whole head.

    `at` are the tokens to keep, by default the last one; at ``labels`` they give ``[L, K, d]``.
    """
    ids = torch.as_tensor([token_ids], device=checkpoint.device)
    with reader.reading([at or PromptPositions(len(token_ids) - 1)], 0, checkpoint.device) as kept:
        logits = checkpoint.model(input_ids=ids, use_cache=False, return_dict=True).logits[0, -1]
    return logits, {path: torch.cat([part.to(ids.device) for part in kept[path]]) for path in kept}


@torch.inference_mode()
def run_bridge(
    bridge: Any, token_ids: Sequence[int], reader: SiteReader, at: PromptPositions | None = None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """One prompt through TransformerLens, as `run_alone` gives it."""
    at = at or PromptPositions(len(token_ids) - 1)
    ids = torch.as_tensor([token_ids], device=bridge.original_model.get_input_embeddings().weight.device)
    names = [f"blocks.{layer}.hook_{site}" for site in reader.sites for layer in reader.layers]
    with silenced():
        logits, cache = bridge.run_with_cache(ids, attention_mask=torch.ones_like(ids), names_filter=names)
    residual = {
        path: torch.stack(
            [_of_position(cache[f"blocks.{layer}.hook_{site}"][0], position, at) for layer in reader.layers]
        )
        for path, (site, position) in reader.paths.items()
    }
    return logits[0, -1], residual


def _of_position(hidden: torch.Tensor, position: str, at: PromptPositions) -> torch.Tensor:
    """What a position means, on the activations ``[tokens, d]`` of a whole prompt."""
    if position == "last":
        return hidden[at.last]
    if position == "labels":
        missing = torch.full_like(hidden[0], torch.nan)
        return torch.stack([hidden[token] if token >= 0 else missing for token in at.labels])
    start, stop = at.question or (0, 0)
    return hidden[stop - 1] if position == "question_last" else hidden[start:stop].double().mean(0)


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
    reader: SiteReader,
    result: BatchResult,
    places: Sequence[int],
    sampled: Sequence[tuple[Sequence[int], PromptPositions]],
    references: Sequence[tuple[torch.Tensor, dict[str, torch.Tensor]]],
) -> dict[str, float]:
    worst: dict[str, float] = {"logits": 0.0}
    for place, (_, at), (logits, residual) in zip(places, sampled, references, strict=True):
        worst["logits"] = max(worst["logits"], _relative(_centred(result.logits[place]), _centred(logits)))
        captured = {path: values[place] for path, values in result.residual.items()}
        _residual_errors(reader, captured, residual, at, worst)
    return worst


def _residual_errors(
    reader: SiteReader,
    captured: dict[str, torch.Tensor],
    reference: dict[str, torch.Tensor],
    at: PromptPositions,
    worst: dict[str, float],
) -> None:
    """Raise the figures in `worst` to the errors of one prompt."""
    listed = [option for option, token in enumerate(at.labels) if token >= 0]
    for path, (site, position) in reader.paths.items():
        name = site if position == "last" else f"{site} at {position}"
        for row, other in zip(captured[path], reference[path], strict=True):
            error = _relative(row[listed], other[listed]) if position == "labels" else _relative(row, other)
            worst[name] = max(worst.get(name, 0.0), error)


def _centred(logits: torch.Tensor) -> torch.Tensor:
    values = logits.double()
    return values - values.mean()


def _relative(captured: torch.Tensor, reference: torch.Tensor) -> float:
    difference, size = captured.double().cpu() - reference.double().cpu(), reference.double().cpu().norm()
    return float(difference.norm() / size.clamp_min(torch.finfo(torch.float64).tiny))


def _float32_noise(
    checkpoint: Checkpoint,
    sampled: Sequence[tuple[Sequence[int], PromptPositions]],
    reader: SiteReader,
    alone: Sequence[Any],
) -> dict[str, float] | str:
    """Relative error of the 16-bit forward against the same weights in float32, or why it was not measured."""
    needed = 4 * sum(parameter.numel() for parameter in checkpoint.model.parameters())
    free = _free_memory(checkpoint.device)
    if needed > 0.8 * free or len({parameter.device for parameter in checkpoint.model.parameters()}) > 1:
        return f"not measured: a float32 copy needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"
    if not all(parameter.is_floating_point() for parameter in checkpoint.model.parameters()):
        return "not measured: the weights are quantised"
    # transformers refuses model.float() for a dequantised GGUF as well, whose weights are plain numbers.
    twin_model = torch.nn.Module.float(copy.deepcopy(checkpoint.model))
    wide = Checkpoint(twin_model, checkpoint.tokenizer, checkpoint.id, checkpoint.name)
    twin = SiteReader(wide, reader.sites, reader.layers, reader.positions)
    worst = {"logits": 0.0, "largest_logit_difference": 0.0}
    for (ids, at), (logits, residual) in zip(sampled, alone, strict=True):
        reference, states = run_alone(wide, ids, twin, at)
        worst["logits"] = max(worst["logits"], _relative(_centred(logits), _centred(reference)))
        gap = (_centred(logits) - _centred(reference)).abs().max()
        worst["largest_logit_difference"] = max(worst["largest_logit_difference"], float(gap))
        _residual_errors(reader, residual, states, at, worst)
    return worst


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)

"""Forward passes over a batch plan: the shared prefix once, then only what differs.

1. The common token prefix is run once; its key/value cache is kept (batch of one).
2. Each batch gets an expanded view of that cache and forwards the remaining tokens, padded on the RIGHT: positions
   then continue the prefix without a gap, and causal attention never looks at padding. (Left padding would put a gap
   between prefix and rest, which is wrong past a sliding window.)
3. Open prompts go on from the cache of their batch: each option's text is forwarded after its question, which is thus
   computed once for all its options.

Only caches made of plain key/value layers can be handed out like this. Recurrent and other states are updated in
place, so those models take the plain path: whole prompts, no cache.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from .batching import MIN_SHARED_TOKENS, Batch, common_prefix_length
from .checkpoints import Checkpoint
from .positions import PromptPositions, residual_path
from .sites import SiteReader, head_at

REPEATABLE_LAYERS = (DynamicLayer, DynamicSlidingWindowLayer)


@dataclass
class BatchResult:
    """What one batch leaves, on the model's device.

    Attributes:
        logits: float32 ``[B, V]`` at the last prompt token.
        residual: path in the run file -> ``[B, L, d]``, or ``[B, L, K, d]`` at ``labels``, in the model's dtype
            (``question_mean``: float32).
        continuations: per row, per option, the log-probabilities of its tokens, float64 ``[n_tokens]``; None for
            prompts that list their options.
    """

    logits: torch.Tensor
    residual: dict[str, torch.Tensor]
    continuations: list[list[torch.Tensor]] | None = None


class Forwarder:
    """Runs batches of one model over one set of prompts.

    Args:
        checkpoint: the model.
        token_ids: every prompt, in full.
        reader: what to keep of the residual stream.
        positions: the tokens at which it is kept in each prompt; None if it is the last one alone.
        share_prefix: False takes the plain path whatever the model (for comparison).

    Attributes:
        prefix_tokens: how many tokens are computed once for all rows (0 on the plain path).
        path: ``"shared prefix"``, or ``"plain: <reason>"``.
        splits: how often a batch was halved because memory ran out.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        token_ids: Sequence[Sequence[int]],
        reader: SiteReader,
        *,
        positions: Sequence[PromptPositions] | None = None,
        share_prefix: bool = True,
    ) -> None:
        self.checkpoint, self.token_ids, self.reader = checkpoint, token_ids, reader
        self.positions = [PromptPositions(len(ids) - 1) for ids in token_ids] if positions is None else positions
        self.model, self.device = checkpoint.model, checkpoint.device
        self.splits = 0
        self.prefix_tokens, self.path = 0, "shared prefix"
        self._prefix: DynamicCache | None = None
        obstacle = cache_obstacle(self.model)
        shared = common_prefix_length(token_ids)
        # Questions may begin alike: what is to be kept is forwarded for every row.
        wanted = min(row.first() for row in self.positions)
        self.can_continue = obstacle is None
        if not share_prefix:
            self.path = "plain: asked for"
        elif obstacle is not None:
            self.path = f"plain: {obstacle}"
        elif shared < MIN_SHARED_TOKENS:
            self.path = f"plain: the prompts share {shared} leading tokens"
        elif wanted < MIN_SHARED_TOKENS:
            self.path = f"plain: token {wanted} is to be kept"
        else:
            self.prefix_tokens = min(shared, wanted)
        pad = checkpoint.tokenizer.pad_token_id
        # Padding is never attended to, so any token will do; but one that was added to the tokenizer alone has no row
        # in the embedding.
        rows = self.model.get_input_embeddings().weight.shape[0]
        self._pad = int(pad) if pad is not None and 0 <= pad < rows else 0

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row that remain to be forwarded."""
        return [len(ids) - self.prefix_tokens for ids in self.token_ids]

    @torch.inference_mode()
    def run(self, batch: Batch, continuations: Sequence[Sequence[Sequence[int]]] | None = None) -> BatchResult:
        """Forward one batch; out of memory halves it (at the same width) and goes on.

        Args:
            batch: rows and their common width.
            continuations: per row of the batch, per option, the token ids of the option's text. The rows must then
                be of equal length.
        """
        try:
            return self._run(batch, continuations)
        except torch.OutOfMemoryError:
            if len(batch.rows) == 1:
                raise
        torch.cuda.empty_cache()
        self.splits += 1
        half = len(batch.rows) // 2
        parts = [
            self.run(Batch(batch.rows[cut], batch.width), None if continuations is None else continuations[cut])
            for cut in (slice(None, half), slice(half, None))
        ]
        return BatchResult(
            torch.cat([part.logits for part in parts]),
            {path: torch.cat([part.residual[path] for part in parts]) for path in self.reader.paths},
            None if continuations is None else [row for part in parts for row in part.continuations or []],
        )

    def _run(self, batch: Batch, continuations: Sequence[Sequence[Sequence[int]]] | None) -> BatchResult:
        rest = [self.token_ids[row][self.prefix_tokens :] for row in batch.rows]
        ids = torch.full((len(rest), batch.width), self._pad, dtype=torch.int64)
        for row, tokens in enumerate(rest):
            ids[row, : len(tokens)] = torch.as_tensor(tokens)
        last = torch.tensor([len(tokens) - 1 for tokens in rest], device=self.device)
        cache = self._cache(len(rest), needed=continuations is not None)
        places = [self.positions[row] for row in batch.rows]
        with self.reader.reading(places, self.prefix_tokens, self.device) as kept, head_at(self.model, last):
            output = self.model(
                input_ids=ids.to(self.device),
                past_key_values=cache,
                use_cache=cache is not None,
                return_dict=True,
            )
        if output.logits.shape[1] != 1:
            raise ValueError(
                f"{type(self.model).__name__} does not compute its logits through get_output_embeddings(), so they "
                "cannot be read at one position; this architecture cannot be captured"
            )
        logits = output.logits[:, 0].float().to(self.device)
        for site in self.reader.sites:
            parts = kept[residual_path(site, "last")]
            if parts[0].dtype != self.checkpoint.dtype:
                raise ValueError(
                    f"{self.checkpoint.name} computes in {self.checkpoint.dtype_name} and carries its residual stream "
                    f"({site}) in {str(parts[0].dtype).removeprefix('torch.')}, which would not fit the run file. Load "
                    'it with dtype="float32".'
                )
        residual = {path: torch.stack([part.to(self.device) for part in kept[path]], dim=1) for path in kept}
        if continuations is None:
            return BatchResult(logits, residual)
        if int(last.min()) + 1 != batch.width:
            raise ValueError("rows of one batch must be of equal length where their cache is continued")
        return BatchResult(logits, residual, self._continue(batch, cache, logits, continuations))

    def _cache(self, rows: int, *, needed: bool) -> DynamicCache | None:
        """A cache that starts with the shared prefix, for `rows` rows; None on the plain path unless `needed`."""
        if self.prefix_tokens == 0:
            return DynamicCache(config=self.model.config) if needed and self.can_continue else None
        if self._prefix is None:
            prefix = DynamicCache(config=self.model.config)
            ids = torch.as_tensor([self.token_ids[0][: self.prefix_tokens]], device=self.device)
            zero = torch.zeros(1, dtype=torch.int64, device=self.device)
            with head_at(self.model, zero):
                self.model(input_ids=ids, past_key_values=prefix, use_cache=True, return_dict=True)
            self._prefix = prefix  # only now: a forward that ran out of memory leaves half a cache
        return select_rows(self._prefix, [0] * rows)

    def _continue(
        self, batch: Batch, cache: Any, logits: torch.Tensor, continuations: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[torch.Tensor]]:
        """Log-probabilities of each option's tokens after its prompt, each prompt computed once."""
        first = logits.double().log_softmax(-1)
        scores = [[first[row, tokens[0]].reshape(1) for tokens in options] for row, options in enumerate(continuations)]
        # An option of one token is finished: its only token was predicted at the end of the prompt.
        longer = [
            (row, option, tokens)
            for row, options in enumerate(continuations)
            for option, tokens in enumerate(options)
            if len(tokens) > 1
        ]
        longer.sort(key=lambda part: -len(part[2]))
        per_pass = max(1, len(batch.rows))
        for start in range(0, len(longer), per_pass):
            part = longer[start : start + per_pass]
            width = len(part[0][2]) - 1
            ids = torch.full((len(part), width), self._pad, dtype=torch.int64)
            for place, (_, _, tokens) in enumerate(part):
                ids[place, : len(tokens) - 1] = torch.as_tensor(tokens[:-1])
            rows = [row for row, _, _ in part]
            predicted = self._predict(cache, batch, rows, ids)
            for place, (row, option, tokens) in enumerate(part):
                targets = torch.as_tensor(tokens[1:], device=predicted.device)
                # One option at a time: float64 over the whole vocabulary for a full batch would fill a GPU.
                steps = predicted[place, : len(targets)].double().log_softmax(-1)
                tail = steps.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
                scores[row][option] = torch.cat([scores[row][option], tail])
        return scores

    def _predict(self, cache: Any, batch: Batch, rows: list[int], ids: torch.Tensor) -> torch.Tensor:
        """Logits ``[len(rows), width, V]`` of option tokens after the prompts in `rows` of the batch."""
        if cache is not None:
            output = self.model(
                input_ids=ids.to(self.device),
                past_key_values=select_rows(cache, rows),
                use_cache=True,
                return_dict=True,
            )
            return output.logits
        prompts = torch.as_tensor(np.stack([self.token_ids[batch.rows[row]] for row in rows]))
        whole = torch.cat([prompts, ids], dim=1).to(self.device)
        return self.model(input_ids=whole, use_cache=False, return_dict=True).logits[:, prompts.shape[1] :]


def cache_obstacle(model: Any) -> str | None:
    """Why the cache of this model cannot be handed to several batches; None where it can.

    Whitelisted are caches whose every layer is a plain or sliding-window key/value layer of transformers.
    """
    kind = type(model).__name__
    if getattr(model, "_is_stateful", False):
        return f"{kind} keeps a recurrent state"
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # an adapter's forward names nothing
    if "past_key_values" not in inspect.signature(inner.forward).parameters:
        return f"{kind} takes no cache"
    layers = DynamicCache(config=model.config).layers
    odd = sorted({type(layer).__name__ for layer in layers if type(layer) not in REPEATABLE_LAYERS})
    return f"{kind} has cache layers {', '.join(odd)}" if odd else None


def select_rows(cache: DynamicCache, rows: list[int]) -> DynamicCache:
    """A cache whose row i is row ``rows[i]`` of `cache`, which stays as it is.

    The layers of transformers replace their tensors when they grow, they do not write into them, so a repeated first
    row needs no copy here.
    """
    selected = copy.copy(cache)
    selected.layers = []
    for layer in cache.layers:
        twin = copy.copy(layer)
        if layer.is_initialized and layer.keys.numel():
            if layer.keys.shape[0] == 1 and not any(rows):
                twin.keys = layer.keys.expand(len(rows), -1, -1, -1)
                twin.values = layer.values.expand(len(rows), -1, -1, -1)
            else:
                index = torch.as_tensor(rows, device=layer.keys.device)
                twin.keys, twin.values = layer.keys[index], layer.values[index]
        selected.layers.append(twin)
    return selected

"""Forward passes with an edited residual stream, up to the final logits.

1. The prompt up to its last token is run once and its key/value cache kept (tokens that all prompts share are run once
   for all of them); then the last token is run alone, to keep the residual stream in front of the edited block.
2. All edits of a site are rows of one batch of that last token, which reads the same cache. Blocks in front of the
   edited one are passed over: nothing in them would change.
3. Edits of every position (``where="all"``), and models whose cache cannot be repeated, run the whole prompt for every
   edit, from the edited block on.

This runs on the Hugging Face modules, as capture does. `bridge_logits` makes the same edits with TransformerLens's
hooks on whole prompts, and `check_edits` compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import DynamicCache

from .batching import common_prefix_length
from .bridge import silenced, site_modules
from .checkpoints import Checkpoint
from .forward import cache_obstacle, select_rows
from .names import unknown_name
from .residual_edits import ResidualEdits
from .selftest import TOLERANCE, SelfTestError
from .sites import SiteReader, find_blocks, head_at

PLACES = ("last", "all")
# Bounds on one forward pass: tokens that are computed, and tokens whose keys and values are held.
COMPUTED_TOKENS = {"cpu": 1024, "cuda": 16384}
HELD_TOKENS = {"cpu": 2**14, "cuda": 2**16}
CHECKED_EDITS = 4


class EditedForward:
    """Final logits of prompts whose residual stream was edited.

    Args:
        checkpoint: the model.
        token_ids: every prompt, in full.
        where: ``last`` edits at the last prompt token, whose residual stream probes read; ``all`` at every position.
        reuse: False runs every edited prompt in full through every block (for comparison).

    Attributes:
        path: how the forward passes are made: ``cached prompt``, or ``whole prompts: <reason>``.

    Raises:
        ValueError: an unknown `where`, or a model whose blocks are not found.
    """

    def __init__(
        self, checkpoint: Checkpoint, token_ids: Sequence[Sequence[int]], *, where: str = "last", reuse: bool = True
    ) -> None:
        if where not in PLACES:
            raise ValueError(f"EditedForward: {unknown_name('where', where, PLACES)}")
        self.checkpoint, self.where, self.reuse = checkpoint, where, reuse
        self.token_ids = [[int(token) for token in ids] for ids in token_ids]
        self.model, self.device = checkpoint.model, checkpoint.device
        self.blocks = find_blocks(self.model, checkpoint.n_layers)
        obstacle = cache_obstacle(self.model)
        reason = "every position is edited" if where == "all" else obstacle
        reason = reason if reuse else "asked for"
        self.path = "cached prompt" if reason is None else f"whole prompts: {reason}"
        self._cached = reason is None
        self._shared = common_prefix_length(self.token_ids)
        self._prefix: DynamicCache | None = None
        kind = "cpu" if self.device.type == "cpu" else "cuda"
        self._computed, self._held = COMPUTED_TOKENS[kind], HELD_TOKENS[kind]

    @torch.inference_mode()
    def logits(self, row: int, edits: Sequence[ResidualEdits]) -> Iterator[torch.Tensor]:
        """Logits of one prompt after its last token, float32 ``[D, V]``, for each group of edits in turn.

        Groups may differ in layer and site; each starts from the unedited prompt.

        Raises:
            ValueError: an unknown layer, a site that the architecture lacks, or edits of another width.
        """
        for group in edits:
            self._require(group)
        ids = torch.as_tensor([self.token_ids[row]], device=self.device)
        cache = self._prompt_cache(ids) if self._cached else None
        ids = ids[:, -1:] if self._cached else ids
        kept = self._entries(ids, cache, edits) if self.reuse else {}
        for group in edits:
            entry = kept.get(_entry(group))
            parts, start = [], 0
            while start < len(group):
                count = self._at_once(len(self.token_ids[row]), ids.shape[1])
                part = group.part(slice(start, start + count))
                try:
                    parts.append(self._edited(ids, cache, part, entry))
                except torch.OutOfMemoryError:
                    if count == 1:
                        raise
                    torch.cuda.empty_cache()
                    self._computed, self._held = (max(1, bound // 2) for bound in (self._computed, self._held))
                    continue
                start += count
            yield torch.cat(parts)

    def _require(self, group: ResidualEdits) -> None:
        SiteReader(self.checkpoint, [group.site], [group.layer])
        if group.shift.shape[1] != self.checkpoint.d_model:
            raise ValueError(
                f"The edits parameter of EditedForward must have the width of {self.checkpoint.name}, "
                f"{self.checkpoint.d_model}. Got {group.shift.shape[1]} instead."
            )

    def _at_once(self, n_tokens: int, n_computed: int) -> int:
        return max(1, min(self._computed // n_computed, self._held // n_tokens))

    def _prompt_cache(self, ids: torch.Tensor) -> DynamicCache:
        """Keys and values of everything but the last token."""
        if self._prefix is None:
            prefix = DynamicCache(config=self.model.config)
            if self._shared:
                self._run(ids[:, : self._shared], prefix, 1)
            self._prefix = prefix  # only now: a forward that ran out of memory leaves half a cache
        cache = select_rows(self._prefix, [0])
        if ids.shape[1] - 1 > self._shared:
            self._run(ids[:, self._shared : -1], cache, 1)
        return cache

    def _entries(
        self, ids: torch.Tensor, cache: DynamicCache | None, edits: Sequence[ResidualEdits]
    ) -> dict[tuple[str, int], torch.Tensor]:
        """The unedited stream ``[1, tokens, d]`` where each group of edits starts; none where blocks give more."""
        kept: dict[tuple[str, int], torch.Tensor] = {}
        outputs: list[Any] = []
        with ExitStack() as stack:
            for side, layer in {_entry(group) for group in edits}:

                def keep(hidden: torch.Tensor, key: tuple[str, int] = (side, layer)) -> None:
                    kept[key] = hidden

                stack.enter_context(_at(self.blocks[layer], side, keep))
            handle = self.blocks[0].register_forward_hook(lambda module, args, output: outputs.append(output))
            stack.callback(handle.remove)
            self._run(ids, _copies(cache, 1), 1)
        return kept if isinstance(outputs[0], torch.Tensor) else {}

    def _edited(
        self, ids: torch.Tensor, cache: DynamicCache | None, edits: ResidualEdits, entry: torch.Tensor | None
    ) -> torch.Tensor:
        block, where = self.blocks[edits.layer], self.where

        def edit(hidden: torch.Tensor) -> torch.Tensor:
            return edits.apply(hidden if entry is None else entry, where)

        def enter(hidden: torch.Tensor) -> torch.Tensor | None:
            return None if entry is None else entry.expand(len(edits), -1, -1)

        def edit_in_place(hidden: torch.Tensor) -> None:
            # The block adds this very tensor again after its MLP: a new one would be edited for the MLP alone.
            hidden.copy_(edits.apply(hidden, where))

        with ExitStack() as stack:
            if entry is not None:
                # Blocks in front have nothing to do; nor has the edited one, where its output is what is edited.
                stack.enter_context(_passed_over(self.blocks[: edits.layer + (edits.site == "resid_post")]))
            if edits.site == "resid_mid":
                path = site_modules(self.checkpoint)["resid_mid"]
                stack.enter_context(_at(block, "input", enter))
                stack.enter_context(_at(block.get_submodule(str(path)), "input", edit_in_place))
            else:
                stack.enter_context(_at(block, _entry(edits)[0], edit))
            return self._run(ids, _copies(cache, len(edits)), len(edits))

    def _run(self, ids: torch.Tensor, cache: DynamicCache | None, rows: int) -> torch.Tensor:
        """Logits ``[rows, V]`` at the last of the tokens ``[1, n]``, which every row has; `cache` grows by them."""
        known = 0 if cache is None else cache.get_seq_length()
        last = torch.full((rows,), ids.shape[1] - 1, device=self.device)
        with head_at(self.model, last):
            output = self.model(
                input_ids=ids.expand(rows, -1),
                attention_mask=torch.ones(rows, known + ids.shape[1], dtype=torch.int64, device=self.device),
                past_key_values=cache,
                use_cache=cache is not None,
                return_dict=True,
            )
        return output.logits[:, 0].float().to(self.device)


@torch.inference_mode()
def bridge_logits(bridge: Any, token_ids: Sequence[int], edits: ResidualEdits, *, where: str = "last") -> torch.Tensor:
    """Make the edits with TransformerLens's hooks on the whole prompt, all in one batch: logits float32 ``[D, V]``.

    Args:
        bridge: of `Checkpoint.bridge`.
        token_ids: of one prompt.
        edits: at ``blocks.{layer}.hook_{site}``.
        where: ``last`` or ``all``.
    """

    def hook(hidden: torch.Tensor, hook: Any) -> torch.Tensor:
        # In place, because hook_resid_mid is the input of a norm: what a hook returns reaches the MLP alone.
        return hidden.copy_(edits.apply(hidden, where))

    device = bridge.original_model.get_input_embeddings().weight.device
    ids = torch.as_tensor([list(token_ids)], dtype=torch.int64, device=device).repeat(len(edits), 1)
    with silenced():
        logits = bridge.run_with_hooks(
            ids,
            attention_mask=torch.ones_like(ids),
            fwd_hooks=[(f"blocks.{edits.layer}.hook_{edits.site}", hook)],
        )
    return logits[:, -1].float()


def check_edits(forward: EditedForward, row: int, edits: Sequence[ResidualEdits], *, bridge: bool = True) -> str:
    """Compare a few edits of every group with a reference: TransformerLens, or else every block of the whole prompt.

    Errors are relative, ||difference|| / ||reference|| of the centred logits, in float64.

    Args:
        forward: what is checked.
        row: the prompt to do it on.
        edits: groups; of each up to four are taken, spread over the group.
        bridge: False leaves TransformerLens out, which takes seconds to import.

    Returns:
        What was compared, with the largest error.

    Raises:
        SelfTestError: an error is above the tolerance of the model's dtype; layer and site are named.
    """
    checkpoint, reference, through = forward.checkpoint, "whole prompts", None
    if bridge:
        try:
            through, reference = checkpoint.bridge(), "TransformerLens"
        except ValueError as reason:
            reference = f"whole prompts ({reason})"
    plain = EditedForward(checkpoint, [forward.token_ids[row]], where=forward.where, reuse=False)
    tolerance, worst = TOLERANCE[checkpoint.dtype_name], 0.0
    for group in edits:
        sample = group.part(sorted({round(place) for place in np.linspace(0, len(group) - 1, CHECKED_EDITS)}))
        (found,) = forward.logits(row, [sample])
        if through is None:
            (wanted,) = plain.logits(0, [sample])
        else:
            wanted = bridge_logits(through, forward.token_ids[row], sample, where=forward.where)
        error = float(_relative_errors(found, wanted).max())
        if not error <= tolerance:
            raise SelfTestError(
                f"The self-test of {checkpoint.name} failed: logits after an edit of {group.site} at layer "
                f"{group.layer} differ from the reference, {reference}, by {error:.2e} (relative), above the "
                f"tolerance {tolerance:.0e} of {checkpoint.dtype_name}. Nothing more was run. reuse=False runs every "
                "edited prompt in full; please report the architecture."
            )
        worst = max(worst, error)
    return f"{reference}: largest relative error {worst:.1e}"


def _relative_errors(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    a, b = (logits.double().cpu() - logits.double().cpu().mean(-1, keepdim=True) for logits in (found, wanted))
    return (a - b).norm(dim=-1) / b.norm(dim=-1).clamp_min(torch.finfo(torch.float64).tiny)


def _entry(edits: ResidualEdits) -> tuple[str, int]:
    """Where the edits start: side and number of their block."""
    return ("output" if edits.site == "resid_post" else "input", edits.layer)


def _copies(cache: DynamicCache | None, rows: int) -> DynamicCache | None:
    return None if cache is None else select_rows(cache, [0] * rows)


@contextmanager
def _at(module: nn.Module, side: str, action: Callable[[torch.Tensor], torch.Tensor | None]) -> Iterator[None]:
    """While open, `action` sees the stream that enters or leaves a module; what it returns takes its place."""

    def act(hidden: Any) -> torch.Tensor | None:
        if not isinstance(hidden, torch.Tensor) or hidden.ndim != 3:
            came = tuple(hidden.shape) if isinstance(hidden, torch.Tensor) else type(hidden).__name__
            raise ValueError(
                f"{type(module).__name__} must pass on one residual stream of shape [rows, tokens, width]. Got {came} "
                "instead; this architecture cannot be edited."
            )
        return action(hidden)

    def on_input(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        found = act(args[0] if args else kwargs["hidden_states"])
        if found is None:
            return None
        return ((found, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": found})

    def on_output(module: nn.Module, args: Any, output: Any) -> Any:
        if not isinstance(output, (tuple, list)):
            return act(output)
        found = act(output[0])
        return None if found is None else (found, *output[1:])

    if side == "input":
        handle = module.register_forward_pre_hook(on_input, with_kwargs=True)
    else:
        handle = module.register_forward_hook(on_output)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _passed_over(blocks: Iterable[nn.Module]) -> Iterator[None]:
    """While open, the blocks hand on what they get and compute nothing; their hooks still act."""

    def hand_on(*args: Any, **kwargs: Any) -> Any:
        return args[0] if args else kwargs["hidden_states"]

    # Past the __setattr__ of modules: TransformerLens's blocks hand an attribute on to what they wrap.
    blocks = list(blocks)
    before = [vars(block).get("forward") for block in blocks]
    try:
        for block in blocks:
            vars(block)["forward"] = hand_on
        yield
    finally:
        for block, own in zip(blocks, before, strict=True):
            if own is None:
                del vars(block)["forward"]
            else:
                vars(block)["forward"] = own

"""What a model would say from a residual stream: its own final norm and head on any rows (the logit lens).

nostalgebraist 2020, "interpreting GPT: the logit lens". Nothing is computed anew here, so soft caps, scales, biases
and adapters are the model's own:

1. The model runs on one token of no meaning.
2. A hook puts the rows in the place of what its last block returned, as a batch of one token each.
3. What the model computes after its last block is then the logits of the rows.

This is right where those steps see the last block's output and nothing else. It is tried once, on a few tokens: the
residual stream of the last block must give back the logits that the model gave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .selftest import TOLERANCE
from .sites import find_blocks

if TYPE_CHECKING:
    from .checkpoints import Checkpoint

# Logits in one forward pass: 32 MiB of float32.
LOGITS_AT_ONCE = 2**23
TRIAL_TOKENS = 5


class ReadoutError(ValueError):
    """The model's logits do not follow from the output of its last block alone."""


class Readout:
    """The final norm and head of a checkpoint, applied to rows of residual stream.

    Args:
        checkpoint: of `load_checkpoint`.

    Attributes:
        rows_at_once: how many rows one forward pass takes; more are cut up.
        error: relative error of the trial, ||logits - the model's|| / ||the model's||.

    Raises:
        ReadoutError: the logits do not follow from the output of the last block alone, or the architecture does not
            hand over one residual stream of shape [rows, tokens, d].
        ValueError: the blocks of the model were not found.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.rows_at_once = max(1, LOGITS_AT_ONCE // checkpoint.vocab_size)
        self._last = find_blocks(checkpoint.model, checkpoint.n_layers)[-1]
        self._architecture = type(checkpoint.model).__name__
        self.error = self._trial()

    @torch.inference_mode()
    def __call__(self, rows: Any) -> torch.Tensor:
        """Read out rows.

        Args:
            rows: [n, d] residual stream as it leaves a block (`resid_post`), before the final norm: an array or a
                tensor. Cast to the model's dtype, which loses nothing of what was captured from that model.

        Returns:
            float32 [n, V] final logits, on the device of the head. A row gives the same logits alone as among
            others, up to rounding.

        Raises:
            ValueError: another width than d, or values that are not finite.
        """
        rows = torch.as_tensor(np.asarray(rows) if not isinstance(rows, torch.Tensor) else rows)
        d = self.checkpoint.d_model
        if rows.ndim != 2 or rows.shape[1] != d:
            raise ValueError(
                f"The rows parameter of Readout must have the shape [n, {d}], the width of {self.checkpoint.name}. "
                f"Got {tuple(rows.shape)} instead."
            )
        bad = torch.nonzero(~torch.isfinite(rows).all(dim=1))
        if len(bad):
            raise ValueError(
                f"The rows parameter of Readout must be finite. Got NaN or inf in row {int(bad[0])} instead; leave it "
                "out."
            )
        if not len(rows):
            return torch.empty((0, self.checkpoint.vocab_size))
        return torch.cat([self._read(part) for part in rows.split(self.rows_at_once)])

    def _read(self, rows: torch.Tensor) -> torch.Tensor:
        replaced = []

        def put(module: Any, args: Any, output: Any) -> Any:
            hidden = self._stream(output)
            replaced.append(True)
            stream = rows.to(device=hidden.device, dtype=hidden.dtype).unsqueeze(1)
            return (stream, *output[1:]) if isinstance(output, (tuple, list)) else stream

        token = torch.zeros((1, 1), dtype=torch.int64, device=self.checkpoint.device)
        handle = self._last.register_forward_hook(put)
        try:
            logits = self.checkpoint.model(input_ids=token, use_cache=False, return_dict=True).logits
        finally:
            handle.remove()
        if len(replaced) != 1 or logits.shape != (len(rows), 1, self.checkpoint.vocab_size):
            raise ReadoutError(
                f"{self._architecture} must run its last block once and return logits for its output alone, of shape "
                f"{(len(rows), 1, self.checkpoint.vocab_size)}. Got {len(replaced)} runs and {tuple(logits.shape)} "
                "instead; this architecture has no logit lens here."
            )
        return logits[:, 0].float()

    def _stream(self, output: Any) -> torch.Tensor:
        """The residual stream [rows, tokens, d] among what a block returned."""
        hidden = output[0] if isinstance(output, (tuple, list)) else output
        d = self.checkpoint.d_model
        if not isinstance(hidden, torch.Tensor) or hidden.ndim != 3 or hidden.shape[-1] != d:
            came = tuple(hidden.shape) if isinstance(hidden, torch.Tensor) else type(hidden).__name__
            raise ReadoutError(
                f"{self._architecture}: the last block must return one residual stream of shape [rows, tokens, {d}]. "
                f"Got {came} instead; this architecture has no logit lens here."
            )
        return hidden

    @torch.inference_mode()
    def _trial(self) -> float:
        """Relative error of the readout of a few tokens, against the logits that the model gives for them."""
        checkpoint = self.checkpoint
        size = checkpoint.model.get_input_embeddings().weight.shape[0]
        # They end with another token than the one that `_read` runs, whose embedding must not enter.
        ids = (torch.arange(1, TRIAL_TOKENS + 1) * 31 % (size - 1) + 1)[None].to(checkpoint.device)
        kept: list[torch.Tensor] = []
        handle = self._last.register_forward_hook(lambda module, args, output: kept.append(self._stream(output)[:, -1]))
        try:
            own = checkpoint.model(input_ids=ids, use_cache=False, return_dict=True).logits[:, -1].double()
        finally:
            handle.remove()
        read = self(kept[0]).double().to(own.device)
        own, read = own - own.mean(dim=1, keepdim=True), read - read.mean(dim=1, keepdim=True)
        error = float((read - own).norm() / own.norm())
        tolerance = TOLERANCE[checkpoint.dtype_name]
        if not error <= tolerance:
            raise ReadoutError(
                f"{self._architecture}: the output of the last block must give the model's own logits, to a relative "
                f"error of {tolerance:g}. Got {error:.3g} instead: what follows that block depends on more than its "
                "output, so this architecture has no logit lens here."
            )
        return error

"""A twin of a checkpoint whose weights were never trained: the same module tree, drawn anew.

What a probe finds in such a model comes from the tokens and the architecture, not from what training put there.
"""

from __future__ import annotations

import copy
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch

from .bridge import silenced

if TYPE_CHECKING:
    from .checkpoints import Checkpoint


def untrained_model(checkpoint: Checkpoint, seed: int) -> Any:
    """The checkpoint's architecture with its configuration's own random initialisation; see `Checkpoint.untrained`."""
    if not isinstance(seed, Integral) or isinstance(seed, bool) or seed < 0:
        raise ValueError(
            f"The seed parameter of Checkpoint.untrained must be a whole number of at least 0. Got {seed!r} instead."
        )
    devices = {parameter.device for parameter in checkpoint.model.parameters()}
    if len(devices) > 1:
        raise ValueError(
            f"Checkpoint.untrained needs a model on one device. {checkpoint.name} is spread over {len(devices)}; load "
            'it with device="cpu", or on one GPU that has room for it.'
        )
    model = checkpoint.model
    if hasattr(model, "get_base_model"):  # an adapter: what it was put on
        model = model.get_base_model()
    config = copy.deepcopy(model.config)
    # A dequantised GGUF still names its quantiser, and what is drawn anew must not be quantised.
    config.__dict__.pop("quantization_config", None)
    # Drawn on the CPU, so that the same seed gives the same weights whatever the device.
    with silenced(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(seed))
        twin = type(model)._from_config(
            config, dtype=checkpoint.dtype, attn_implementation=model.config._attn_implementation
        )
    return twin.to(devices.pop())

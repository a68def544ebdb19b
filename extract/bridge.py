"""A TransformerBridge that shares a checkpoint's weights and leaves its model alone.

Booting a bridge rewires the model that it is given and turns it to eager attention. So the bridge gets a skeleton:

1. the module tree is built on the meta device from a deep copy of the configuration;
2. ``load_state_dict(assign=True)`` hands it the checkpoint's own tensors;
3. buffers that are not saved with the weights (rotary frequencies, embedding scales) are copied over;
4. TransformerLens rewires the skeleton.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from .checkpoints import Checkpoint


def architecture_of(model: Any) -> str:
    """Name of the model class, under which TransformerLens registers its adapters."""
    return type(model).__name__


def site_modules(checkpoint: Checkpoint) -> dict[str, str | None]:
    """Where TransformerLens's adapter for this architecture finds the parts of a block.

    Returns:
        ``blocks``: path of the list of blocks; ``resid_mid``: path inside a block of the module whose INPUT is the
        residual between attention and MLP, or None where there is none (parallel blocks).

    Raises:
        ValueError: TransformerLens has no adapter for the architecture.
    """
    blocks = _adapter_blocks(checkpoint)
    target = blocks.hook_aliases.get("hook_resid_mid")
    path = None
    if target is not None:
        part = blocks.submodules.get(target.removesuffix(".hook_in"))
        path = None if part is None else part.name
    return {"blocks": blocks.name, "resid_mid": path}


@dataclass(frozen=True)
class SublayerOutput:
    """Where a sublayer's contribution to the residual stream is read.

    Attributes:
        path: path inside a block of the module whose OUTPUT it is.
        scale: what the block multiplies that output with before it adds it (Granite's residual multiplier).
    """

    path: str
    scale: float = 1.0


def sublayer_outputs(checkpoint: Checkpoint) -> dict[str, SublayerOutput | None]:
    """Where TransformerLens's ``hook_attn_out`` and ``hook_mlp_out`` stand in this architecture.

    Returns:
        ``attn_out`` and ``mlp_out``: the module, or None where the architecture has no such hook.

    Raises:
        ValueError: TransformerLens has no adapter for the architecture.
    """
    blocks = _adapter_blocks(checkpoint)
    # Blocks that scale what they add have no alias: no module's output is that sum.
    scale = getattr(blocks, "residual_contribution_scale", None)
    scaled = {"attn_out": "scaled_attn_submodule", "mlp_out": "scaled_mlp_submodule"}
    found: dict[str, SublayerOutput | None] = {}
    for site, attribute in scaled.items():
        target = blocks.hook_aliases.get(f"hook_{site}")
        factor = 1.0
        if target is None and scale is not None and getattr(blocks, attribute) is not None:
            target, factor = f"{getattr(blocks, attribute)}.hook_out", scale
        for choice in [target] if isinstance(target, str) else target or []:
            path = _module_path(blocks, choice)
            if path is not None:
                break
        else:
            path = None
        found[site] = None if path is None else SublayerOutput(path, factor)
    return found


def _module_path(blocks: Any, target: str) -> str | None:
    """Path inside a block of the module that ``<part>[.<part>].hook_out`` names; None if the block lacks it."""
    *parts, hook = target.split(".")
    names, node = [], blocks
    for part in parts:
        node = node.submodules.get(part)
        if node is None:
            return None
        names.append(node.name)
    # A part without a name of its own only groups others, which stand in the block itself.
    path = ".".join(name for name in names if name)
    return path if hook == "hook_out" and path else None


def _adapter_blocks(checkpoint: Checkpoint) -> Any:
    """What TransformerLens's adapter for this architecture says of a block."""
    with silenced():
        from transformer_lens.factories.architecture_adapter_factory import ArchitectureAdapterFactory
        from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_config_from_hf

        model = checkpoint.model
        architecture = architecture_of(model)
        try:
            config = build_bridge_config_from_hf(
                copy.deepcopy(model.config), architecture, checkpoint.name, checkpoint.dtype
            )
            adapter = ArchitectureAdapterFactory.select_architecture_adapter(config)
        except ValueError as error:
            raise ValueError(f"TransformerLens has no adapter for {architecture}: {error}") from error
    return adapter.component_mapping["blocks"]


def build_bridge(checkpoint: Checkpoint) -> TransformerBridge:
    """The bridge of `Checkpoint.bridge`; see there."""
    with silenced():
        from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

        model = checkpoint.model
        config = copy.deepcopy(model.config)
        # A dequantised GGUF still names its quantiser, and a skeleton must not be quantised again.
        config.__dict__.pop("quantization_config", None)
        skeleton = skeleton_of(model, config)
        tokenizer = copy.deepcopy(checkpoint.tokenizer)
        # TransformerLens fetches the tokenizer anew, with a BOS token switched on, unless it finds these two: it
        # would crash on one that was never on a hub, and tokenise differently from what is captured.
        name = getattr(tokenizer, "name_or_path", None) or checkpoint.name
        tokenizer.init_kwargs = {**tokenizer.init_kwargs, "name_or_path": name, "add_bos_token": True}
        architecture = architecture_of(model)
        try:
            return build_bridge_from_module(
                skeleton,
                architecture,
                hf_config=config,
                tokenizer=tokenizer,
                dtype=checkpoint.dtype,
                device=checkpoint.device,
                model_name=checkpoint.name,
            )
        except ValueError as error:
            raise ValueError(f"TransformerLens cannot wrap {architecture}: {error}") from error


def skeleton_of(model: Any, config: Any) -> Any:
    """A second module tree of the same class, with eager attention, over the very same tensors."""
    with torch.device("meta"):
        skeleton = type(model)._from_config(config, attn_implementation="eager", dtype=next(model.parameters()).dtype)
    skeleton.load_state_dict(model.state_dict(), assign=True, strict=False)
    skeleton.tie_weights()
    originals = dict(model.named_buffers())
    for name, buffer in list(skeleton.named_buffers()):
        if buffer.device.type == "meta":
            parent, _, leaf = name.rpartition(".")
            skeleton.get_submodule(parent).register_buffer(leaf, originals[name].clone(), persistent=False)
    for name, module in model.named_modules():
        _copy_plain_tensors(module, skeleton.get_submodule(name))
    lost = [name for name, tensor in skeleton.named_parameters() if tensor.device.type == "meta"]
    if lost:
        raise ValueError(f"these weights were not handed over to the bridge: {lost[:5]}")
    return skeleton.eval().requires_grad_(False)


def _copy_plain_tensors(source: Any, target: Any) -> None:
    """Tensors kept as plain attributes (rotary ``original_inv_freq``) are neither parameters nor buffers."""
    for key, value in vars(source).items():
        if isinstance(value, torch.Tensor):
            setattr(target, key, value)


@contextmanager
def silenced() -> Iterator[None]:
    """TransformerLens logs and warns while it imports and boots; nothing of that concerns the user here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

"""Reading the residual stream of a Hugging Face model at the last token of every row.

Sites carry TransformerLens's names: in block ``l``, ``resid_pre`` is what enters the block, ``resid_mid`` what leaves
the attention sublayer, ``resid_post`` what leaves the block. ``resid_post`` of the last block is taken before the
final norm (``output_hidden_states`` gives that one after it).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .names import unknown_name

if TYPE_CHECKING:
    from .checkpoints import Checkpoint

SITES = ("resid_pre", "resid_mid", "resid_post")


def find_blocks(model: Any, n_layers: int) -> nn.ModuleList:
    """The list of blocks: the one outermost ModuleList of `n_layers` members in the decoder of the text.

    A vision tower may be as deep as the text model, and a block may hold as many experts as there are blocks.

    Raises:
        ValueError: there is none, or more than one.
    """
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    found: dict[str, nn.ModuleList] = {}
    for name, module in decoder.named_modules():  # a list comes before what it holds
        fits = isinstance(module, nn.ModuleList) and len(module) == n_layers and len(list(module[0].children())) > 1
        if fits and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = module
    if len(found) != 1:
        raise ValueError(
            f"{type(model).__name__}: the blocks were not found: {len(found)} lists of {n_layers} modules, not one"
        )
    return next(iter(found.values()))


class SiteReader:
    """Hooks that keep, per row, the residual stream at one position.

    Args:
        checkpoint: the model to read.
        sites: of `SITES`.
        layers: which blocks, counted from 0.

    Raises:
        ValueError: an unknown site or layer, a site named twice, or ``resid_mid`` in an architecture that has none.
    """

    def __init__(self, checkpoint: Checkpoint, sites: Sequence[str], layers: Sequence[int]) -> None:
        if isinstance(sites, str) or not sites or len(set(sites)) < len(sites):
            raise ValueError(
                f"The sites parameter must be a list of different names of {', '.join(SITES)}. Got {sites!r} instead."
            )
        for site in sites:
            if site not in SITES:
                raise ValueError(unknown_name("site", site, SITES))
        for layer in layers:
            if layer not in range(checkpoint.n_layers):
                raise ValueError(
                    f"unknown layer {layer!r}: {checkpoint.name} has the layers 0 to {checkpoint.n_layers - 1}"
                )
        self.sites, self.layers = list(sites), list(layers)
        self.architecture = type(checkpoint.model).__name__
        blocks = find_blocks(checkpoint.model, checkpoint.n_layers)
        middle = self._middle(checkpoint) if "resid_mid" in sites else ""
        self._taps: list[tuple[str, int, nn.Module]] = [
            (site, layer, blocks[layer].get_submodule(middle) if site == "resid_mid" else blocks[layer])
            for site in self.sites
            for layer in self.layers
        ]

    @staticmethod
    def _middle(checkpoint: Checkpoint) -> str:
        from .bridge import site_modules

        path = site_modules(checkpoint)["resid_mid"]
        if not getattr(checkpoint.config, "do_layer_norm_before", True):
            raise ValueError(
                f"{checkpoint.name} has no resid_mid: its blocks normalise after each sublayer, and the module that "
                "reads it elsewhere stands behind the MLP here. Leave that site out."
            )
        if path is None:
            raise ValueError(
                f"{type(checkpoint.model).__name__} has no resid_mid: attention and MLP read the same residual. "
                "Leave that site out."
            )
        return path

    @contextmanager
    def reading(self, positions: torch.Tensor) -> Iterator[dict[str, list[torch.Tensor]]]:
        """While open, a forward pass leaves its rows in the yielded dict.

        Args:
            positions: int64 ``[B]``, the position to keep in each row, counted in what is forwarded.

        Yields:
            site -> list over layers of ``[B, d]``, in the model's dtype and on its device, copies that do not keep
            the whole activation alive.
        """
        kept: dict[str, list[torch.Tensor]] = {site: [torch.empty(0)] * len(self.layers) for site in self.sites}
        handles = []
        for site, layer, module in self._taps:
            slot = self.layers.index(layer)

            def keep(hidden: Any, site: str = site, slot: int = slot) -> None:
                if not isinstance(hidden, torch.Tensor) or hidden.ndim != 3:
                    came = tuple(hidden.shape) if isinstance(hidden, torch.Tensor) else type(hidden).__name__
                    raise ValueError(
                        f"{self.architecture}: {site} must be one residual stream of shape [rows, tokens, width]. "
                        f"Got {came} instead; this architecture cannot be captured."
                    )
                rows = torch.arange(hidden.shape[0], device=hidden.device)
                kept[site][slot] = hidden[rows, positions.to(hidden.device)]

            if site == "resid_post":
                handles.append(module.register_forward_hook(_output_hook(keep)))
            else:
                handles.append(module.register_forward_pre_hook(_input_hook(keep), with_kwargs=True))
        try:
            yield kept
        finally:
            for handle in handles:
                handle.remove()


def _output_hook(keep: Any) -> Any:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        keep(output[0] if isinstance(output, (tuple, list)) else output)

    return hook


def _input_hook(keep: Any) -> Any:
    def hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        keep(args[0] if args else kwargs["hidden_states"])

    return hook


@contextmanager
def head_at(model: Any, positions: torch.Tensor) -> Iterator[None]:
    """While open, the model's own head sees one position per row, so its logits are ``[B, 1, V]``.

    Everything that follows the unembedding (soft caps, scales) stays the model's own.
    """

    def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden = args[0]
        rows = torch.arange(hidden.shape[0], device=hidden.device)
        return (hidden[rows, positions.to(hidden.device)].unsqueeze(1), *args[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()

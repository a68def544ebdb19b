"""Reading the residual stream of a Hugging Face model at chosen tokens of every row.

Sites carry TransformerLens's names: in block ``l``, ``resid_pre`` is what enters the block, ``resid_mid`` what leaves
the attention sublayer, ``resid_post`` what leaves the block; ``attn_out`` and ``mlp_out`` are what the two sublayers
add to the stream. ``resid_post`` of the last block is taken before the final norm (``output_hidden_states`` gives that
one after it).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .names import unknown_name
from .positions import PromptPositions, known_positions, residual_path

if TYPE_CHECKING:
    from .checkpoints import Checkpoint

SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
SUBLAYERS = ("attn_out", "mlp_out")


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
    """Hooks that keep, per row, the residual stream at chosen tokens.

    Args:
        checkpoint: the model to read.
        sites: of `SITES`.
        layers: which blocks, counted from 0.
        positions: of `positions.POSITIONS`; ``last`` is kept in any case.

    Attributes:
        paths: what is kept, by its path in the run file (`positions.residual_path`).

    Raises:
        ValueError: an unknown site, layer or position, one named twice, or a site that the architecture lacks.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        sites: Sequence[str],
        layers: Sequence[int],
        positions: Sequence[str] = ("last",),
    ) -> None:
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
        self.sites, self.layers, self.positions = list(sites), list(layers), known_positions(positions)
        self.paths = {
            residual_path(site, position): (site, position) for site in self.sites for position in self.positions
        }
        self.architecture = type(checkpoint.model).__name__
        blocks = find_blocks(checkpoint.model, checkpoint.n_layers)
        inside = self._inside(checkpoint)
        self._taps: list[tuple[str, int, nn.Module, float]] = []
        for site in self.sites:
            path, scale = inside.get(site, ("", 1.0))
            for layer in self.layers:
                try:
                    module = blocks[layer].get_submodule(path)
                except AttributeError:
                    raise ValueError(
                        f"{self.architecture} has no {site} in block {layer}: there is no {path}. Leave that site or "
                        "that layer out."
                    ) from None
                self._taps.append((site, layer, module, scale))

    def _inside(self, checkpoint: Checkpoint) -> dict[str, tuple[str, float]]:
        """Sites that are read from a module inside a block: its path, and what its values are multiplied with."""
        from .bridge import sublayer_outputs

        inside = {"resid_mid": (self._middle(checkpoint), 1.0)} if "resid_mid" in self.sites else {}
        wanted = [site for site in self.sites if site in SUBLAYERS]
        found = sublayer_outputs(checkpoint) if wanted else {}
        for site in wanted:
            output = found[site]
            if output is None:
                raise ValueError(
                    f"{self.architecture} has no {site}: TransformerLens names no module for it there. Leave that "
                    "site out."
                )
            inside[site] = (output.path, output.scale)
        return inside

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
    def reading(
        self, rows: Sequence[PromptPositions], skipped: int = 0, device: torch.device | str = "cpu"
    ) -> Iterator[dict[str, list[torch.Tensor]]]:
        """While open, a forward pass leaves its rows in the yielded dict.

        Args:
            rows: the tokens to keep in each row of the batch.
            skipped: how many leading tokens of every row are not forwarded.
            device: where the model's activations are; on another one the indices are copied in every block.

        Yields:
            path of `paths` -> list over layers of ``[B, d]``, or ``[B, K, d]`` at ``labels`` (NaN beyond a row's
            options), in the model's dtype (``question_mean``: float32) and on its device, copies that do not keep the
            whole activation alive.
        """
        kept: dict[str, list[torch.Tensor]] = {path: [torch.empty(0)] * len(self.layers) for path in self.paths}
        places = {position: _places(position, rows, skipped, device) for position in self.positions}
        handles = []
        for site, layer, module, scale in self._taps:
            slot = self.layers.index(layer)

            def keep(hidden: Any, site: str = site, slot: int = slot, scale: float = scale) -> None:
                if not isinstance(hidden, torch.Tensor) or hidden.ndim != 3:
                    came = tuple(hidden.shape) if isinstance(hidden, torch.Tensor) else type(hidden).__name__
                    mend = "leave that site out" if site in SUBLAYERS else "this architecture cannot be captured"
                    raise ValueError(
                        f"{self.architecture}: {site} must be one residual stream of shape [rows, tokens, width]. "
                        f"Got {came} instead; {mend}."
                    )
                for position, (index, there) in places.items():
                    kept[residual_path(site, position)][slot] = _at(hidden, position, index, there, scale)

            if site == "resid_post" or site in SUBLAYERS:
                handles.append(module.register_forward_hook(_output_hook(keep)))
            else:
                handles.append(module.register_forward_pre_hook(_input_hook(keep), with_kwargs=True))
        try:
            yield kept
        finally:
            for handle in handles:
                handle.remove()


def _places(
    position: str, rows: Sequence[PromptPositions], skipped: int, device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of each row in what is forwarded, int64 ``[B, n]``, and which of them there are, bool ``[B, n]``."""
    if position == "last":
        tokens = [[row.last] for row in rows]
    elif position == "labels":
        tokens = [list(row.labels) for row in rows]
    else:
        spans = [row.question or (0, 0) for row in rows]
        tokens = [[stop - 1] if position == "question_last" else list(range(start, stop)) for start, stop in spans]
    width = max(map(len, tokens))
    table = torch.tensor([places + [-1] * (width - len(places)) for places in tokens], dtype=torch.int64)
    there = table >= 0
    return (table - skipped).where(there, 0).to(device), there.to(device)


def _at(hidden: torch.Tensor, position: str, index: torch.Tensor, there: torch.Tensor, scale: float) -> torch.Tensor:
    """What is kept of activations ``[B, tokens, d]`` at one position: ``[B, d]``, or ``[B, K, d]`` at ``labels``."""
    index, there = index.to(hidden.device), there.to(hidden.device).unsqueeze(-1)
    rows = torch.arange(hidden.shape[0], device=hidden.device).unsqueeze(-1)
    picked = hidden[rows, index]
    if scale != 1.0:
        picked = picked * scale
    if position == "labels":
        return picked.masked_fill(~there, torch.nan)
    if position == "question_mean":
        # A sum of many 16-bit numbers would lose most of their digits.
        return picked.float().masked_fill(~there, 0).sum(1) / there.sum(1)
    return picked[:, 0]


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

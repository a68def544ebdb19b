"""Edits of the residual stream: what is added to it, or taken out of it, at one site.

Every edit is one rank-one affine map of a residual vector x, computed in float64 and cast back to the stream's dtype:

    x -> x + shift - (x · read - level) write

A shift alone adds a vector. With read = w and write = w / |w|², x · w becomes the level: 0 projects the direction out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .names import unknown_name

EDITED_SITES = ("resid_pre", "resid_mid", "resid_post")

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class ResidualEdits:
    """D edits at one site: x -> x + shift - (x · read - level) write.

    Attributes:
        layer: block, counted from 0.
        site: ``resid_pre``, ``resid_mid`` or ``resid_post``.
        shift, read, write: float64 ``[D, d]``.
        level: float64 ``[D]``.
    """

    layer: int
    site: str
    shift: Array
    read: Array
    level: Array
    write: Array

    def __post_init__(self) -> None:
        if self.site not in EDITED_SITES:
            raise ValueError(f"ResidualEdits: {unknown_name('site', self.site, EDITED_SITES)}")
        width = np.shape(self.shift)
        for name in ("shift", "read", "write", "level"):
            values = np.array(getattr(self, name), dtype=np.float64)
            wanted = width[:1] if name == "level" else width
            if len(width) != 2 or not width[0] or values.shape != wanted or not np.isfinite(values).all():
                raise ValueError(
                    f"The {name} parameter of ResidualEdits must be finite numbers, "
                    f"{'[D]' if name == 'level' else '[D, d]'} for at least one edit. Got shape {values.shape} "
                    f"beside a shift of shape {width} instead."
                )
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.level)

    @classmethod
    def shifts(cls, layer: int, vectors: Any, *, site: str = "resid_post") -> ResidualEdits:
        """Add each of the vectors ``[D, d]``; a zero vector leaves the stream as it is."""
        shift = np.asarray(vectors, dtype=np.float64)
        return cls(layer, site, shift, np.zeros_like(shift), np.zeros(len(shift)), np.zeros_like(shift))

    @classmethod
    def removals(
        cls, layer: int, directions: Any, *, level: Any = 0.0, along: Any = None, site: str = "resid_post"
    ) -> ResidualEdits:
        """Set x · direction to a level, by a step along the direction itself or along another vector.

        Args:
            layer: block, counted from 0.
            directions: ``[D, d]``, of any length but 0.
            level: number or ``[D]``: what x · direction becomes. 0 projects the direction out.
            along: ``[D, d]``, the step's own direction; its length counts. Default: direction / |direction|²,
                with which x · direction is exactly the level afterwards.
            site: as above.
        """
        read = np.asarray(directions, dtype=np.float64)
        square = (read**2).sum(axis=-1, keepdims=True)
        if not (square > 0).all():
            raise ValueError(
                "The directions parameter of ResidualEdits.removals must hold vectors of a length above 0, [D, d]. "
                "Got a vector of zeros instead; nothing can be removed along it."
            )
        write = read / square if along is None else np.asarray(along, dtype=np.float64)
        return cls(layer, site, np.zeros_like(read), read, np.broadcast_to(level, (len(read),)), write)

    @classmethod
    def joined(cls, parts: Sequence[ResidualEdits]) -> ResidualEdits:
        """Several edits of one site, one after the other."""
        places = {(part.layer, part.site) for part in parts}
        if len(places) != 1:
            raise ValueError(f"ResidualEdits.joined takes edits of one site. Got {sorted(places)} instead.")
        stacked = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("shift", "read", "level", "write")
        }
        return cls(parts[0].layer, parts[0].site, **stacked)

    def part(self, rows: Any) -> ResidualEdits:
        """The edits in some rows: a slice, or a list of numbers."""
        chosen = {name: getattr(self, name)[rows] for name in ("shift", "read", "level", "write")}
        return ResidualEdits(self.layer, self.site, **chosen)

    def apply(self, hidden: torch.Tensor, where: str = "all") -> torch.Tensor:
        """Edit a residual stream: ``[1 or D, tokens, d]`` -> ``[D, tokens, d]``, in its own dtype.

        Args:
            hidden: row i is edited by edit i; a single row by each of them.
            where: ``last`` edits the last token alone, ``all`` every one.
        """
        shift, read, write = (
            torch.as_tensor(values, device=hidden.device)[:, None] for values in (self.shift, self.read, self.write)
        )
        level = torch.as_tensor(self.level, device=hidden.device)[:, None, None]
        chosen = (hidden if where == "all" else hidden[:, -1:]).double()
        edited = (chosen + shift - ((chosen * read).sum(-1, keepdim=True) - level) * write).to(hidden.dtype)
        if edited.shape[1] == hidden.shape[1]:
            return edited
        return torch.cat([hidden[:, :-1].expand(len(self), -1, -1), edited], dim=1)

"""From a probe to steps of the residual stream: how far along which vector, and random steps of the same length.

For a probe with weights w, a *step* is a vector s with s · w = 1, so that x + k sd s has x · w raised by k standard
deviations, and x - (x · w - m) s has x · w = m. Two vectors do that:

- ``direction``: s = w / |w|², the shortest one, straight along the weights;
- ``covariance``: s = Σ w / (w · Σ w), with the covariance Σ of the run's activations. It is how activations differ
  where the probe reads more (the pattern of Haufe et al. 2014, https://doi.org/10.1016/j.neuroimage.2013.10.067), and
  of all steps the one that goes least far in units of the activations' own spread (the Mahalanobis length).

Random steps have the length |s|. Their direction is that of N(0, Σ), hence one in which activations do differ, or
isotropic: in a stream most of whose variance lies in few dimensions, an isotropic vector hardly touches those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..extract.residual_edits import EDITED_SITES, ResidualEdits
from .measure_table import unknown_name

if TYPE_CHECKING:
    from ..extract.store import Run

Array = np.ndarray

ALONG = ("direction", "covariance")
RANDOM = ("covariance", "isotropic")
LEVELS = ("mean", "zero")
CONDITION = ("mode", "direction", "draw", "dose")
_CALLER = "intervene"


@dataclass(frozen=True, eq=False)
class Steering:
    """A probe's step and its random counterparts, at one layer and site.

    Attributes:
        keys: site, position, layer, target, target_scoring and probe, as they stand in the table.
        weights: [d], of the probe.
        step: [d], with step · weights = 1.
        sd: standard deviation of x · weights.
        level: what x · weights is set to where it is removed; None where nothing is.
        random: [R, d], of the length of `step`.
    """

    keys: Mapping[str, Any]
    weights: Array
    step: Array
    sd: float
    level: float | None
    random: Array

    def edits(self, doses: Sequence[float]) -> tuple[ResidualEdits, dict[str, list[Any]]]:
        """All edits, and what each of them is: `mode`, `direction`, `draw` (None for the probe) and `dose`.

        `doses` are those other than 0; where there are none, nothing is added.
        """
        steps, draws = np.vstack([self.step, self.random]), [None, *range(len(self.random))]
        layer, site = self.keys["layer"], self.keys["site"]
        parts = []
        rows: list[tuple[str, str, int | None, float]] = []
        for step, draw in zip(steps, draws, strict=True):
            direction = "probe" if draw is None else "random"
            if len(doses):
                parts.append(ResidualEdits.shifts(layer, np.outer(doses, self.sd * step), site=site))
                rows += [("add", direction, draw, float(dose)) for dose in doses]
            if self.level is not None:
                parts.append(
                    ResidualEdits.removals(layer, self.weights[None], level=self.level, along=step[None], site=site)
                )
                rows.append(("remove", direction, draw, np.nan))
        return ResidualEdits.joined(parts), {name: [row[place] for row in rows] for place, name in enumerate(CONDITION)}


@dataclass(frozen=True, eq=False)
class _Probe:
    """What is read of a probe: one of `fit_probe`, anything with these attributes, or bare weights."""

    weights: Array
    sd: float | None
    layer: int | None
    site: str
    position: str
    target: str | None
    target_scoring: str | None
    kind: str


def steerings(
    run: Run,
    probes: Any,
    *,
    layers: Sequence[int] | None,
    site: str,
    along: str,
    random: str | Array,
    n_random: int,
    remove_to: str | None,
    where: str,
    width: int,
    n_layers: int,
    rng: np.random.Generator,
) -> list[Steering]:
    """One steering per probe and layer; arguments as in `intervene`, `remove_to` None where nothing is removed."""
    found = [_read(name, probe, site, layers, width, where) for name, probe in _named(probes)]
    made = []
    for probe in found:
        own = [layers[0]] if probe.layer is None and layers is not None else [probe.layer]
        for layer in own if layers is None else layers:
            if not isinstance(layer, (int, np.integer)) or layer not in range(n_layers):
                raise ValueError(
                    f"The layers parameter of {_CALLER} must name blocks of the model, 0 to {n_layers - 1}. "
                    f"Got {layer!r} instead."
                )
            # Bare weights belong to every layer that they are given for.
            home = int(layer if probe.layer is None else probe.layer)
            made.append(_steering(run, probe, int(layer), home, along, random, n_random, remove_to, rng))
    keys = [tuple(steering.keys.values()) for steering in made]
    if twice := [key for place, key in enumerate(keys) if key in keys[:place]]:
        raise ValueError(
            f"The probes parameter of {_CALLER} must differ in site, position, layer, target, scoring or kind. "
            f"Got {twice[0]} twice instead; name them, as in probes={{'first': ..., 'second': ...}}."
        )
    return made


def _steering(
    run: Run,
    probe: _Probe,
    layer: int,
    home: int,
    along: str,
    random: str | Array,
    n_random: int,
    remove_to: str | None,
    rng: np.random.Generator,
) -> Steering:
    w = probe.weights
    sd = probe.sd
    if sd is None:
        sd = float((_activations(run, home, probe.site, "sd") @ w).std())
    if not (np.isfinite(sd) and sd > 0):
        raise ValueError(
            f"The probes parameter of {_CALLER} must read something that differs between items: their standard "
            f"deviation x · direction must be above 0. Got {sd} at layer {home} instead."
        )
    step = w / (w @ w)
    if along == "covariance":
        x = _centred(run, home, probe.site, "along='covariance'")
        pattern = x.T @ (x @ w)
        step = pattern / (w @ pattern)
    level = 0.0 if remove_to == "zero" else None
    if remove_to == "mean":
        level = float((_activations(run, layer, probe.site, "remove_to='mean'") @ w).mean())
    if isinstance(random, str):
        if random == "covariance":
            x = _centred(run, layer, probe.site, "random='covariance'")
            draws = rng.standard_normal((n_random, len(x))) @ x
        else:
            draws = rng.standard_normal((n_random, len(w)))
    else:
        draws = np.asarray(random, dtype=np.float64)
    lengths = np.linalg.norm(draws, axis=1, keepdims=True)
    keys = {
        "site": probe.site,
        "position": probe.position,
        "layer": layer,
        "target": probe.target,
        "target_scoring": probe.target_scoring,
        "probe": probe.kind,
    }
    return Steering(keys, w, step, sd, level, draws / lengths * np.linalg.norm(step))


def _activations(run: Run, layer: int, site: str, need: str) -> Array:
    """Activations [N, d] at the last prompt token, float64."""
    if site not in run.sites or layer not in run.layers:
        raise ValueError(
            f"The run parameter of {_CALLER} must hold {site} at layer {layer}, for {need}. Got {run.sites} at layers "
            f"{run.layers} instead; extract that too, or choose otherwise."
        )
    return run.residual(layer, site).astype(np.float64)


def _centred(run: Run, layer: int, site: str, need: str) -> Array:
    x = _activations(run, layer, site, need)
    x = x - x.mean(axis=0)
    if not x.any():
        raise ValueError(
            f"The run parameter of {_CALLER} must hold activations that differ between items, for {need}. Got the same "
            f"for all {len(x)} items at {site} of layer {layer} instead; choose another layer."
        )
    return x


def _named(probes: Any) -> Iterator[tuple[str | None, Any]]:
    """Probes with the names that a mapping gives them, else None."""
    found: list[tuple[str | None, Any]]
    if isinstance(probes, Mapping):
        found = [(str(name), probe) for name, probe in probes.items()]
    elif hasattr(probes, "direction") or (isinstance(probes, np.ndarray) and probes.ndim == 1):
        found = [(None, probes)]
    else:
        found = [(None, probe) for probe in probes]
    if not found:
        raise ValueError(f"The probes parameter of {_CALLER} must hold at least one probe. Got none instead.")
    yield from found


def _read(name: str | None, probe: Any, site: str, layers: Sequence[int] | None, width: int, where: str) -> _Probe:
    if hasattr(probe, "direction"):
        weights, sd, layer = probe.direction, getattr(probe, "sd", None), int(probe.layer)
        site, position = getattr(probe, "site", "resid_post"), getattr(probe, "position", "last")
        target, scoring = getattr(probe, "target", None), getattr(probe, "scoring", None)
        kind = getattr(probe, "kind", "given")
    else:
        weights, sd, layer, position, target, scoring, kind = probe, None, None, "last", None, None, "given"
        if not layers:
            raise ValueError(
                f"The layers parameter of {_CALLER} must be given beside bare directions, which know no layer. "
                "Got None instead."
            )
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (width,):
        raise ValueError(
            f"The probes parameter of {_CALLER} must have the width of the model, directions of shape ({width},). "
            f"Got {weights.shape} instead; a probe fits models of its own width only."
        )
    if not np.isfinite(weights).all() or not weights.any():
        got = "only zeros" if np.isfinite(weights).all() else "NaN or infinities"
        raise ValueError(
            f"The probes parameter of {_CALLER} must hold finite directions that are not 0. Got {got} instead."
        )
    if site not in EDITED_SITES:
        raise ValueError(
            unknown_name(
                "site", _CALLER, "a place of the residual stream itself, which can be moved", site, EDITED_SITES
            )
        )
    if position != "last" and where == "last":
        raise ValueError(
            f"The probes parameter of {_CALLER} must read the last prompt token, where the stream is edited. Got a "
            f"probe of the position {position!r} instead; pass where='all' to edit every token."
        )
    return _Probe(weights, sd, layer, site, position, name if name is not None else target, scoring, kind)

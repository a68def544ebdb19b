"""A fitted probe with everything that says what it is, as one safetensors file (docs/saved_probes.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from scipy.special import expit

from ..extract.atomic import write_bytes
from .layers import item_activations

if TYPE_CHECKING:
    from ..extract.store import Run

Array = np.ndarray

FORMAT, FORMAT_VERSION, METADATA_KEY = "doubtlens-probe", 1, "doubtlens"
CHECKPOINT_FIELDS = ("model", "checkpoint", "revision", "weights", "config", "dtype", "d_model")
VECTORS = ("direction", "scaler_mean", "scaler_scale")
TENSORS = {**dict.fromkeys(VECTORS, "F64"), "folds": "I64"}


@dataclass(frozen=True, eq=False)
class SavedProbe:
    """A linear probe of one layer, fitted on all items of a run: score = x @ direction + intercept.

    Attributes:
        direction: [d] float64, weights on raw activations; a step along it raises the score.
        intercept: in units of the score.
        kind: `ridge`, `logistic`, `mass_mean` or `mass_mean_whitened`.
        target: column name of the target.
        scoring: answer scoring behind the target, None where none is.
        site, position, layer: where the activations were read, as in `Run.residual`.
        calibration: (slope, offset) of a 0/1 target: its probability is 1 / (1 + exp(-(slope * score + offset))).
            (1, 0) for `logistic`; otherwise a curve through the out-of-fold scores, of slope 0 where those do not
            rise with the target. None for any other target, of which the score itself is the prediction.
        scaler_mean: [d] mean of the training rows.
        scaler_scale: [d] standard deviation of the training rows (division by n).
        penalty: alpha of `ridge`, C of `logistic`, chosen by held-out error; None for the other kinds.
        sd: standard deviation of x @ direction over the training rows (division by n), in units of the score.
        n: how many items it was fitted on.
        items: their ids, in the order of the run.
        folds: [n] int64, the fold in which each was held out for `score`.
        score_name: `pearson`, or `auroc` of a 0/1 target.
        score: out of fold, as in `probe_layers`; NaN where it does not exist (predictions all alike).
        ci_low, ci_high: its 95 % bootstrap interval; NaN where there is none.
        checkpoint: `model`, `checkpoint`, `revision`, `weights` (fingerprint), `config`, `dtype`, `d_model` of
            the run, as in `Run.info`.
        dataset, prompt: of the run.
        items_hash: sha256 of the run's items table.
        version: of the doubtlens that fitted it.
    """

    direction: Array
    intercept: float
    kind: str
    target: str
    scoring: str | None
    site: str
    position: str
    layer: int
    calibration: tuple[float, float] | None
    scaler_mean: Array
    scaler_scale: Array
    penalty: float | None
    sd: float
    n: int
    items: tuple[str, ...]
    folds: Array
    score_name: str
    score: float
    ci_low: float
    ci_high: float
    checkpoint: Mapping[str, Any]
    dataset: str
    prompt: str
    items_hash: str
    version: str

    def __post_init__(self) -> None:
        width = np.shape(self.direction)
        for name in VECTORS:
            vector = np.array(getattr(self, name), dtype=np.float64)
            if vector.ndim != 1 or not len(vector) or vector.shape != width or not np.isfinite(vector).all():
                raise ValueError(
                    f"The {name} parameter of SavedProbe must be finite numbers of one width d, [d]. "
                    f"Got shape {vector.shape}, and a direction of shape {width}, instead."
                )
            _freeze(self, name, vector)
        folds = np.array(self.folds, dtype=np.int64)
        if folds.shape != (self.n,) or len(self.items) != self.n:
            raise ValueError(
                f"The folds and items parameters of SavedProbe must have one entry for each of n = {self.n} items. "
                f"Got {folds.shape} and {len(self.items)} instead."
            )
        _freeze(self, "folds", folds)
        numbers = {"intercept": self.intercept, "sd": self.sd}
        numbers |= dict(zip(("slope", "offset"), self.calibration or (), strict=False))
        for name, number in numbers.items():
            if not np.isfinite(number):
                raise ValueError(f"The {name} parameter of SavedProbe must be finite. Got {number} instead.")

    def __repr__(self) -> str:
        return (
            f"SavedProbe({self.kind} for {self.target} at {self.site} of layer {self.layer}, {self.position}, "
            f"{self.checkpoint['model']} on {self.dataset}, {self.prompt}: {self.score_name} {self.score:.3f} "
            f"[{self.ci_low:.3f}, {self.ci_high:.3f}], {self.n} items)"
        )

    @property
    def direction_unit(self) -> Array:
        """`direction` [d] at length 1."""
        return self.direction / np.linalg.norm(self.direction)

    def project(self, activations: Any) -> Array:
        """Return x @ direction, without the intercept: float64 of shape [...] for activations [..., d].

        In units of the score: of the target for `ridge` and `mass_mean`, log-odds for `logistic`. `sd` is the
        standard deviation of this number over the training rows.

        Raises:
            ValueError: another width than d, or values that are not finite.
        """
        x = np.asarray(activations, dtype=np.float64)
        d = len(self.direction)
        if x.ndim == 0 or x.shape[-1] != d:
            raise ValueError(
                f"The activations parameter of SavedProbe.project must have the width of the probe, [..., {d}]. "
                f"Got shape {x.shape} instead."
            )
        if not np.isfinite(x).all():
            raise ValueError(
                "The activations parameter of SavedProbe.project must be finite. Got NaN or inf instead; leave those "
                "rows out."
            )
        return x @ self.direction

    def predict_activations(self, activations: Any) -> Array:
        """Predict from activations [..., d] read at the probe's site, position and layer; see `predict`."""
        score = self.project(activations) + self.intercept
        if self.calibration is None:
            return score
        slope, offset = self.calibration
        return expit(slope * score + offset)

    def predict(self, run: Run, *, check_checkpoint: bool = True) -> Array:
        """Predict the target of every item of a run.

        Items that the probe was fitted on are predicted in sample, which flatters it; `trained_on` tells them.

        Args:
            run: an open run that holds the probe's site, position and layer.
            check_checkpoint: refuse a run of another checkpoint. False for transfer, for instance from a base to
                its instruct model: only the width is then compared.

        Returns:
            [N] float64, in item order: the target's own units, or the probability of 1 for a 0/1 target.

        Raises:
            ValueError: the run lacks the site, position or layer, has another width or another checkpoint; the
                field is named with both values.
        """
        held: dict[str, list[Any]] = {"site": run.sites, "position": run.positions, "layer": run.layers}
        for name, known in held.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"The run parameter of SavedProbe.predict must hold the probe's {name}, {getattr(self, name)!r}. "
                    f"Got {known} in {_label(run)} instead; extract that {name} too."
                )
        if run.info["d_model"] != len(self.direction):
            raise ValueError(
                f"The run parameter of SavedProbe.predict must have the probe's d_model, {len(self.direction)}. "
                f"Got {run.info['d_model']} in {_label(run)} instead; a probe fits models of its own width only."
            )
        for name in ("weights", "config") if check_checkpoint else ():
            if run.info[name] != self.checkpoint[name]:
                raise ValueError(
                    f"The run parameter of SavedProbe.predict must be of the probe's checkpoint: {name} = "
                    f"{self.checkpoint[name]!r} ({self.checkpoint['model']}). Got {run.info[name]!r} "
                    f"({run.info['model']}) instead; pass check_checkpoint=False to carry the probe over."
                )
        return self.predict_activations(item_activations(run, self.layer, self.site, self.position))

    def trained_on(self, run: Run) -> Array:
        """Tell which items of a run share their id with an item that the probe was fitted on, bool [N]."""
        return run.items["id"].isin(self.items).to_numpy()

    def save(self, path: str | Path) -> Path:
        """Write the probe as one safetensors file, whole or not at all; an older file gives way.

        Raises:
            FileNotFoundError: the folder does not exist.
            OSError: the disk is full or refuses.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise FileNotFoundError(
                f"The path parameter of SavedProbe.save must lie in a folder that exists. Got {path}; create "
                f"{path.parent} first."
            )
        tensors = {name: getattr(self, name) for name in TENSORS}
        described = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in tensors}
        described["checkpoint"] = dict(self.checkpoint)
        for name in ("score", "ci_low", "ci_high"):  # JSON knows no NaN
            described[name] = None if np.isnan(described[name]) else float(described[name])
        described |= {"format": FORMAT, "format_version": FORMAT_VERSION}
        # One entry only: safetensors writes several in any order, and the same probe shall be the same bytes.
        metadata = {METADATA_KEY: json.dumps(described, sort_keys=True, allow_nan=False)}
        write_bytes(path, save(tensors, metadata=metadata))
        return path


def load_probe(path: str | Path) -> SavedProbe:
    """Read a probe that `SavedProbe.save` wrote, bit by bit as it was.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, foreign, of a newer format than this version reads, or lacks a field
            or tensor (which is named).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no probe file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            described = _described(path, file.metadata() or {})
            present = set(file.keys())
            for name, dtype in TENSORS.items():
                found = file.get_slice(name).get_dtype() if name in present else None
                if found != dtype:
                    raise ValueError(f"{path} must hold the tensor {name!r} as {dtype}. Got {found} instead.")
            tensors = {name: file.get_tensor(name) for name in TENSORS}
    except SafetensorError as error:
        raise ValueError(
            f"{path} cannot be read as safetensors ({error}): it is another kind of file, or truncated. Save the probe "
            "again."
        ) from error
    try:
        given = {field.name: described[field.name] for field in fields(SavedProbe) if field.name not in tensors}
        given["checkpoint"] = {name: given["checkpoint"][name] for name in CHECKPOINT_FIELDS}
        for name in ("score", "ci_low", "ci_high"):
            given[name] = float("nan") if given[name] is None else float(given[name])
        given["items"] = tuple(given["items"])
        given["calibration"] = None if given["calibration"] is None else tuple(given["calibration"])
        return SavedProbe(**tensors, **given)
    except KeyError as error:
        raise ValueError(f"{path} lacks the field {error.args[0]!r} in its metadata: it is damaged.") from error
    except TypeError as error:
        raise ValueError(f"{path} is damaged: a field of its metadata is of the wrong type ({error}).") from error
    except ValueError as error:
        error.add_note(f"while reading {path}")
        raise


def _described(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The JSON object of the metadata, if it is one that this version reads."""
    try:
        described = json.loads(metadata.get(METADATA_KEY, "null"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: its metadata {METADATA_KEY!r} is no JSON ({error}).") from error
    kind = described.get("format") if isinstance(described, dict) else None
    if kind != FORMAT:
        raise ValueError(
            f"{path} is a safetensors file, but not a saved probe of doubtlens: the 'format' in its metadata is "
            f"{kind!r}, not {FORMAT!r}"
        )
    version = described.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, and this doubtlens reads up to {FORMAT_VERSION}: update doubtlens"
        )
    return described


def _label(run: Run) -> str:
    return f"the run of {run.info['model']} on {run.info['dataset']}, {run.info['prompt']}"


def _freeze(probe: SavedProbe, name: str, values: Array) -> None:
    """Keep a private copy that cannot be written to: probe and file would disagree."""
    values.flags.writeable = False
    object.__setattr__(probe, name, values)

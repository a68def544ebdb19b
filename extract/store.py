"""Reading a run file (docs/format.md). Nothing here needs torch, except the measures of full logits.

>>> run = open_run("run.h5")                                                    # doctest: +SKIP
>>> run.residual(12).shape, run.choice_scores("label_single").shape             # doctest: +SKIP
((419, 576), (419, 4))
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from .hdf5 import datasets, describe, describe_group, read_float32
from .names import unknown_name
from .segments import FORMAT, FORMAT_VERSION, progress_of

ROWS_PER_READ = 64
SIGNATURE = b"\x89HDF\r\n\x1a\n"


def open_run(path: str | Path) -> Run:
    """Open a complete run file for reading.

    Args:
        path: the HDF5 file that `extract` wrote.

    Raises:
        FileNotFoundError: there is no such file; if a run is in progress there, the message says how far it is.
        ValueError: the file is truncated, foreign, incomplete, or of a newer format than this version reads.
    """
    return Run(Path(path))


@contextmanager
def _reading(path: Path) -> Iterator[h5py.File]:
    """The open file; what HDF5 says of a damaged one (OSError, KeyError, RuntimeError) becomes one clear ValueError."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (FileNotFoundError, PermissionError):
        raise
    except (OSError, KeyError, RuntimeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}). It is truncated or damaged: copy it again, or remove it and run the "
            "extraction again."
        ) from error


class Run:
    """A complete run file. Every access opens the file and closes it again, so a `Run` holds nothing open.

    Rows are in item order. With ``permutations="cyclic"`` an item has one prompt row per rotation: `items`,
    `residual`, `choice_scores` and `statistics` are per item (means over its rotations), `rows`, `logits` and
    `residual(..., per_row=True)` per prompt row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._check()

    def __repr__(self) -> str:
        info = self.info
        return (
            f"Run({str(self.path)!r}: {info['model']} on {info['dataset']}, {info['prompt']}, "
            f"{len(self.items)} items, {', '.join(self.sites)} of {len(self.layers)} layers)"
        )

    def _check(self) -> None:
        path = self.path
        if not path.exists():
            progress = progress_of(path)
            if progress:
                raise FileNotFoundError(
                    f"{path} is still being written, or was interrupted: {progress[0]} of {progress[1]} segments are "
                    "there. Run the same extraction again to finish it."
                )
            raise FileNotFoundError(f"There is no run file {path}")
        if path.is_dir():
            raise ValueError(f"{path} is a folder, not a run file")
        with open(path, "rb") as handle:  # says by itself when it may not be read
            if handle.read(len(SIGNATURE)) != SIGNATURE:
                raise ValueError(f"{path} is not an HDF5 file, so not a run file of doubtlens")
        with _reading(path) as file:
            kind, version = file.attrs.get("format"), file.attrs.get("format_version")
            if not isinstance(kind, str) or kind != FORMAT:
                raise ValueError(
                    f"{path} is an HDF5 file, but not a run file of doubtlens: its attribute 'format' is {kind!r}, "
                    f"not {FORMAT!r}"
                )
            if not isinstance(version, np.integer) or version > FORMAT_VERSION:
                raise ValueError(
                    f"{path} has format version {version}, and this doubtlens reads up to {FORMAT_VERSION}: "
                    "update doubtlens"
                )
            if not bool(file.attrs.get("complete", False)):
                raise ValueError(f"{path} was never finished: it is not marked complete. Run the extraction again.")

    @cached_property
    def info(self) -> dict[str, Any]:
        """What the run is: checkpoint, dataset, prompt, settings, versions, timings, self-test (docs/format.md)."""
        return self._json("info")

    @cached_property
    def items(self) -> pd.DataFrame:
        """The items that were asked, one row each: the item columns plus ``prompt`` (the full text) and ``n_options``.

        With rotations ``prompt`` is the unrotated one.
        """
        with _reading(self.path) as file:
            records = [json.loads(text) for text in file["items/records"].asstr()[()]]
        frame = pd.DataFrame.from_records(records)
        for column in ("answer", "respondents"):
            if column in frame:
                frame[column] = frame[column].astype("Int64")
        frame["n_options"] = np.array([len(options) for options in frame["options"]], dtype=np.int64)
        rows = self.rows
        frame["prompt"] = rows.loc[rows["rotation"] == 0].sort_values("item")["prompt"].to_numpy()
        frame.attrs["name"] = self.info["dataset"]
        return frame

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One row per prompt: ``item`` (row of `items`), ``rotation``, ``n_tokens`` and ``prompt``."""
        with _reading(self.path) as file:
            prompts = file["prompts"]
            return pd.DataFrame(
                {
                    "item": prompts["item"][()],
                    "rotation": prompts["rotation"][()],
                    "n_tokens": np.diff(prompts["token_offsets"][()]),
                    "prompt": prompts["text"].asstr()[()],
                }
            )

    def token_ids(self, row: int) -> np.ndarray:
        """int32 token ids of one prompt row, as the model saw them."""
        with _reading(self.path) as file:
            start, stop = file["prompts/token_offsets"][row : row + 2]
            return file["prompts/token_ids"][start:stop]

    @property
    def sites(self) -> list[str]:
        """Sites of the residual stream that were kept, for instance ``["resid_post"]``."""
        return list(self.info["sites"])

    @property
    def positions(self) -> list[str]:
        """Positions at which the residual stream was kept: ``last``, and what else was asked for."""
        return list(self.info.get("positions", ["last"]))

    @property
    def layers(self) -> list[int]:
        """Layers that were kept, counted from 0."""
        return list(self.info["layers"])

    @property
    def scorings(self) -> tuple[str, ...]:
        """Answer scorings that the prompt allows, the default first."""
        return tuple(self.info["scorings"])

    def residual(
        self, layer: int, site: str = "resid_post", position: str = "last", *, per_row: bool = False
    ) -> np.ndarray:
        """Activations at one position of the prompt, float32 ``[N, d]`` (mean over an item's rotations).

        Args:
            layer: as in TransformerLens's ``blocks.{layer}.hook_{site}``; ``resid_post`` of the last layer is the
                residual BEFORE the final norm.
            site: ``resid_pre``, ``resid_mid``, ``resid_post``, ``attn_out`` or ``mlp_out``, if it was kept.
            position: ``last`` (the last prompt token), ``question_last`` (the last token of the item's own question),
                ``question_mean`` (mean over the question's tokens) or ``labels``, if it was kept. ``labels`` gives
                ``[N, Kmax, d]``: the vector at each option's label, options in the order of the items table however
                they were shown, NaN beyond an item's K.
            per_row: one row per prompt instead, rotations apart.

        Raises:
            ValueError: the run does not hold that layer, site or position.
        """
        if site not in self.sites:
            raise ValueError(f"{self.path}: {unknown_name('site', site, self.sites)}")
        if position not in self.positions:
            raise ValueError(f"{self.path}: {unknown_name('position', position, self.positions)}")
        if layer not in self.layers:
            raise ValueError(f"{self.path}: {unknown_name('layer', layer, self.layers)}")
        with _reading(self.path) as file:
            dataset = file[f"residual/{site}" if position == "last" else f"residual_at/{position}/{site}"]
            values = read_float32(dataset, 0, dataset.shape[0], self.layers.index(layer))
        return values if per_row else self._per_item(values)

    def choice_scores(self, scoring: str | None = None, *, per_row: bool = False) -> np.ndarray:
        """Natural-log probability of each option, float64 ``[N, Kmax]``, NaN beyond an item's K.

        Columns are the options in the order of the items table, however they were shown. ``label_*``: under the
        softmax over the whole vocabulary; ``text_sum``: of the option's text; ``text_mean``: per token of it. With
        rotations: mean over them of the log-probabilities renormalised over the K options.

        Raises:
            ValueError: the prompt of this run does not allow that scoring.
        """
        scoring = self.scorings[0] if scoring is None else scoring
        if scoring not in self.scorings:
            raise ValueError(f"{self.path}: {unknown_name('scoring', scoring, self.scorings)}")
        with _reading(self.path) as file:
            scores = file[f"scores/{scoring}"][()]
        if per_row or self.info["permutations"] == "none":
            return scores
        with np.errstate(invalid="ignore"):
            top = np.nanmax(scores, axis=1, keepdims=True)
            normaliser = top + np.log(np.nansum(np.exp(scores - top), axis=1, keepdims=True))
        return self._per_item(scores - normaliser)

    def logits(self) -> Logits:
        """The final logits, float32, one row per prompt, read when sliced: ``run.logits()[:]`` is ``[rows, V]``.

        Raises:
            ValueError: the run keeps statistics only (``logits="summary"``).
        """
        if self.info["logits"] != "full":
            raise ValueError(
                f'{self.path} was extracted with logits="summary" and holds no full logits: use statistics() or '
                'largest_logits(), or extract again with logits="full"'
            )
        with _reading(self.path) as file:
            return Logits(self.path, file["logits/final"].shape)

    def largest_logits(self) -> tuple[np.ndarray, np.ndarray]:
        """(values float32, token ids int32), each ``[rows, 1024]``, descending; only with ``logits="summary"``."""
        if self.info["logits"] != "summary":
            raise ValueError(f'{self.path} holds the full logits (logits="full"): take them from logits()')
        with _reading(self.path) as file:
            return file["logits/largest_values"][()], file["logits/largest_ids"][()]

    def statistics(self) -> pd.DataFrame:
        """Vocabulary-wide statistics of the final logits, one row per item (mean over its rotations).

        The columns are those of `doubtlens.extract.statistics.logit_statistics`; full and summary runs give the
        same numbers, because the same function made them.
        """
        if self.info["logits"] == "summary":
            with _reading(self.path) as file:
                columns = {name: node[()] for name, node in file["logits/statistics"].items()}
        else:
            from .statistics import logit_statistics

            blocks = [logit_statistics(block) for block in self.logits().blocks()]
            columns = {name: np.concatenate([block[name] for block in blocks]) for name in sorted(blocks[0])}
        return pd.DataFrame({name: self._per_item(values) for name, values in columns.items()})

    def verify(self) -> None:
        """Compare every dataset and attribute with the digests in the manifest; reads the whole file.

        Raises:
            ValueError: something differs; the message names it.
        """
        manifest = self._json("manifest")
        with _reading(self.path) as file:
            found = {path: node for path, node in datasets(file) if path != "manifest"}
            if set(found) != set(manifest["datasets"]):
                odd = sorted(map(str, set(found) ^ set(manifest["datasets"])))
                raise ValueError(f"{self.path}: the datasets {odd} are not what the manifest lists")
            for path, wanted in manifest["datasets"].items():
                self._compare(path, wanted, describe, found[path])
            for name, wanted in manifest["groups"].items():
                self._compare(name, wanted, describe_group, file[name])

    def _compare(self, name: str, wanted: Mapping[str, Any], described: Callable[[Any], Any], node: Any) -> None:
        try:
            found = described(node)
        except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:  # all that h5py says of damage
            raise ValueError(f"{self.path}: {name} is damaged ({error})") from error
        odd = [key for key in wanted if found[key] != wanted[key]]
        if odd:
            raise ValueError(f"{self.path}: {name} is not what was written: its {' and '.join(odd)} differ")

    def _json(self, path: str) -> dict[str, Any]:
        with _reading(self.path) as file:
            text = file[path].asstr()[()]
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.path}: {path} is damaged, it is no JSON ({error})") from error

    def _per_item(self, values: np.ndarray) -> np.ndarray:
        """Mean over the rotations of each item; rows of an item stand together, in item order."""
        counts = np.bincount(self.rows["item"])
        if len(counts) == len(values):
            return values
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        sums = np.add.reduceat(values.astype(np.float64), starts, axis=0)
        return (sums / counts.reshape(-1, *(1,) * (values.ndim - 1))).astype(values.dtype)


class Logits:
    """The final logits of a run, read from disk when sliced or iterated."""

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        self.path, self.shape = path, shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """float32 rows, by index, slice or list, as h5py reads them."""
        with _reading(self.path) as file:
            return file["logits/final"][rows]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Rows, float32 ``[V]``, read in blocks."""
        for block in self.blocks():
            yield from block

    def blocks(self, rows: int = ROWS_PER_READ) -> Iterator[np.ndarray]:
        """Blocks of consecutive rows, float32 ``[<= rows, V]``."""
        for start in range(0, len(self), rows):
            yield self[start : start + rows]

"""The few HDF5 primitives that the run file is made of: dtypes, row arrays, digests.

bfloat16 is stored as the two-byte floating-point type that HDF5 can describe itself (sign 1, exponent 8,
mantissa 7, bias 127). Every HDF5 reader converts it to float32, slowly; here the raw 16 bits are read and
shifted, which gives the same float32 bits some forty times faster.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

STORAGE_DTYPES = {"float32": np.float32, "float16": np.float16, "float64": np.float64, "int32": np.int32}
CHUNK_BYTES = 2**20
READ_BYTES = 2**23


def bfloat16_type() -> h5py.h5t.TypeID:
    """The HDF5 file type of bfloat16: IEEE_F32LE cut to its upper two bytes."""
    file_type = h5py.h5t.IEEE_F32LE.copy()
    file_type.set_fields(15, 7, 8, 0, 7)
    file_type.set_size(2)
    file_type.set_ebias(127)
    return file_type


def is_bfloat16(dataset: h5py.Dataset) -> bool:
    """Whether the dataset is stored as bfloat16 (two bytes, eight of its bits the exponent)."""
    kind = dataset.id.get_type()
    return bool(isinstance(kind, h5py.h5t.TypeFloatID) and kind.get_size() == 2 and kind.get_fields()[2] == 8)


def float32_from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """float32 array of the same shape from raw bfloat16 bits (uint16), exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


@dataclass(frozen=True)
class RowArray:
    """One dataset with a row per prompt.

    Attributes:
        path: where it stands in the file, for instance ``residual/resid_post``.
        storage: ``bfloat16`` (values passed as their raw uint16 bits) or a key of `STORAGE_DTYPES`.
        shape: the shape of one row.
        layered: the first axis of a row counts layers, so that a chunk holds one layer of many rows.
    """

    path: str
    storage: str
    shape: tuple[int, ...]
    layered: bool = False

    @property
    def memory_dtype(self) -> Any:
        """The numpy dtype in which rows are handed over (uint16 for bfloat16)."""
        return np.dtype(np.uint16 if self.storage == "bfloat16" else STORAGE_DTYPES[self.storage])

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.memory_dtype.itemsize

    def chunks(self, n_rows: int) -> tuple[int, ...]:
        """Chunk shape: 256 rows of one layer (with options 1 MiB of them), else as many whole rows as fit in 1 MiB."""
        if self.layered:
            rows = 256 if len(self.shape) == 2 else max(1, CHUNK_BYTES * self.shape[0] // max(self.row_bytes, 1))
            return (min(256, rows, n_rows), 1, *self.shape[1:])
        rows = max(1, min(n_rows, CHUNK_BYTES // max(self.row_bytes, 1)))
        return (rows, *self.shape)

    def create(self, file: h5py.File, n_rows: int, *, chunked: bool) -> h5py.Dataset:
        """Create the dataset: chunked with Fletcher32 checksums, or contiguous inside a segment."""
        parent, _, name = self.path.rpartition("/")
        group = file.require_group(parent) if parent else file
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_obj_track_times(False)
        if chunked:
            properties.set_chunk(self.chunks(n_rows))
            properties.set_fletcher32()
        kind = bfloat16_type() if self.storage == "bfloat16" else h5py.h5t.py_create(self.memory_dtype)
        space = h5py.h5s.create_simple((n_rows, *self.shape))
        return h5py.Dataset(h5py.h5d.create(group.id, name.encode(), kind, space, properties))


def write_rows(dataset: h5py.Dataset, start: int, values: np.ndarray) -> None:
    """Write consecutive rows from `start` on; bfloat16 as raw uint16 bits."""
    if not is_bfloat16(dataset):
        dataset[start : start + len(values)] = values
        return
    bits = np.ascontiguousarray(values, dtype=np.uint16)
    space = dataset.id.get_space()
    space.select_hyperslab((start, *(0,) * (bits.ndim - 1)), bits.shape)
    dataset.id.write(h5py.h5s.create_simple(bits.shape), space, bits, mtype=dataset.id.get_type())


def read_raw(dataset: h5py.Dataset, start: int, stop: int, layer: int | None = None) -> np.ndarray:
    """Rows ``start:stop`` as stored (bfloat16 as uint16 bits); with `layer`, that index of the first row axis."""
    if not is_bfloat16(dataset):
        return dataset[start:stop] if layer is None else dataset[start:stop, layer]
    offset = [start, *(0,) * (dataset.ndim - 1)]
    count = [stop - start, *dataset.shape[1:]]
    if layer is not None:
        offset[1], count[1] = layer, 1
    bits = np.empty(count, dtype=np.uint16)
    space = dataset.id.get_space()
    space.select_hyperslab(tuple(offset), tuple(count))
    dataset.id.read(h5py.h5s.create_simple(tuple(count)), space, bits, mtype=dataset.id.get_type())
    return bits if layer is None else bits[:, 0]


def read_float32(dataset: h5py.Dataset, start: int, stop: int, layer: int | None = None) -> np.ndarray:
    """Rows ``start:stop`` as float32, whatever they are stored as; with `layer`, that index of the first row axis."""
    raw = read_raw(dataset, start, stop, layer)
    return float32_from_bfloat16(raw) if is_bfloat16(dataset) else raw.astype(np.float32, copy=False)


def write_text(file: h5py.File, path: str, values: str | list[str]) -> h5py.Dataset:
    """Store one string or a list of strings as variable-length UTF-8."""
    data = values if isinstance(values, str) else np.asarray(values, dtype=object)
    return file.create_dataset(path, data=data, dtype=h5py.string_dtype("utf-8"))


def datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every dataset of the file with its path, in alphabetical order of paths."""
    found: list[tuple[str, h5py.Dataset]] = []
    file.visititems(lambda path, node: found.append((path, node)) if isinstance(node, h5py.Dataset) else None)
    return iter(sorted(found, key=lambda pair: str(pair[0])))  # a damaged name comes as bytes


def storage_name(dataset: h5py.Dataset) -> str:
    """What the manifest calls the dataset's dtype: ``bfloat16``, ``utf-8`` or the numpy name."""
    if is_bfloat16(dataset):
        return "bfloat16"
    return "utf-8" if h5py.check_string_dtype(dataset.dtype) else str(dataset.dtype)


def dataset_digest(dataset: h5py.Dataset) -> str:
    """sha256 over a line with dtype and shape (``float32 419 576``) and then the values in row order.

    Strings count as UTF-8, each closed by a zero byte.
    """
    header = " ".join([storage_name(dataset), *map(str, dataset.shape)])
    digest = hashlib.sha256(f"{header}\n".encode())
    if h5py.check_string_dtype(dataset.dtype):
        for text in np.atleast_1d(dataset.asstr()[()]):
            digest.update(text.encode() + b"\0")
    elif dataset.shape == ():
        digest.update(np.asarray(dataset[()]).tobytes())
    else:
        row_bytes = max(1, dataset.id.get_type().get_size() * int(np.prod(dataset.shape[1:], dtype=np.int64)))
        # A whole number of chunks at a time, so that no chunk is read twice.
        step = max(1, READ_BYTES // row_bytes)
        if dataset.chunks:
            step = max(1, step // dataset.chunks[0]) * dataset.chunks[0]
        for start in range(0, dataset.shape[0], step):
            block = read_raw(dataset, start, min(start + step, dataset.shape[0]))
            digest.update(np.ascontiguousarray(block).tobytes())
    return digest.hexdigest()


def attributes_digest(node: h5py.HLObject) -> str:
    """sha256 over the attributes of one object as canonical JSON, ``complete`` left out (it is written last)."""
    values = {key: _plain(value) for key, value in node.attrs.items() if key != "complete"}
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=repr).encode()).hexdigest()


def describe(dataset: h5py.Dataset) -> dict[str, Any]:
    """What the manifest says of a dataset: ``dtype``, ``shape``, ``sha256`` and the digest of its ``attributes``."""
    return {
        "dtype": storage_name(dataset),
        "shape": list(dataset.shape),
        "sha256": dataset_digest(dataset),
        "attributes": attributes_digest(dataset),
    }


def describe_group(group: h5py.Group) -> dict[str, Any]:
    """What the manifest says of a group."""
    return {"attributes": attributes_digest(group)}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value

"""The HDF5 primitives: every 16-bit pattern, rows and layers, digests recomputed by hand."""

import hashlib
import json
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest

from doubtlens.extract import hdf5
from doubtlens.extract.hdf5 import (
    RowArray,
    attributes_digest,
    dataset_digest,
    datasets,
    describe,
    float32_from_bfloat16,
    is_bfloat16,
    read_float32,
    read_raw,
    storage_name,
    write_rows,
    write_text,
)

EVERY_PATTERN = np.arange(2**16, dtype=np.uint16)


@pytest.fixture
def file(tmp_path: Path):
    with h5py.File(tmp_path / "file.h5", "w") as opened:
        yield opened


def filled(file: h5py.File, array: RowArray, values: np.ndarray, *, chunked: bool = True) -> h5py.Dataset:
    dataset = array.create(file, len(values), chunked=chunked)
    write_rows(dataset, 0, values)
    return dataset


def test_bfloat16_is_the_upper_half_of_a_float32_for_every_pattern():
    wide = float32_from_bfloat16(EVERY_PATTERN)
    expected = np.array(
        [struct.unpack("<f", b"\0\0" + struct.pack("<H", bits))[0] for bits in range(2**16)], np.float32
    )
    np.testing.assert_array_equal(wide, expected)
    assert wide[0x3F80] == 1.0
    assert wide[0xC2F7] == -123.5


def test_every_bfloat16_pattern_survives_and_plain_h5py_reads_the_same_float32(tmp_path):
    rows = EVERY_PATTERN.reshape(256, 256)
    path = tmp_path / "bf16.h5"
    with h5py.File(path, "w") as file:
        filled(file, RowArray("x", "bfloat16", (256,)), rows)
    with h5py.File(path, "r") as file:
        dataset = file["x"]
        assert is_bfloat16(dataset)
        assert dataset.id.get_type().get_size() == 2
        np.testing.assert_array_equal(read_raw(dataset, 0, 256), rows)
        plain = dataset[()]
        assert plain.dtype == np.float32
        np.testing.assert_array_equal(plain, read_float32(dataset, 0, 256))
        np.testing.assert_array_equal(plain, float32_from_bfloat16(rows))


def test_every_float16_pattern_survives(file):
    rows = EVERY_PATTERN.reshape(256, 256).view(np.float16)
    dataset = filled(file, RowArray("x", "float16", (256,)), rows)
    assert not is_bfloat16(dataset)
    np.testing.assert_array_equal(read_raw(dataset, 0, 256).view(np.uint16), rows.view(np.uint16))
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(read_float32(dataset, 0, 256), rows.astype(np.float32))


@pytest.mark.parametrize("storage", ["bfloat16", "float16", "float32", "float64", "int32"])
@pytest.mark.parametrize("chunked", [True, False])
def test_rows_written_in_parts_are_read_back_in_other_parts_and_by_layer(file, storage, chunked):
    array = RowArray("deep/er/x", storage, (3, 5), layered=True)
    values = np.random.default_rng(0).integers(0, 2**15, (11, 3, 5)).astype(array.memory_dtype)
    dataset = array.create(file, 11, chunked=chunked)
    for start, stop in [(7, 11), (0, 2), (2, 7)]:
        write_rows(dataset, start, values[start:stop])
    for start, stop in [(0, 11), (3, 4), (5, 11)]:
        raw = read_raw(dataset, start, stop)
        assert raw.dtype == array.memory_dtype
        np.testing.assert_array_equal(raw, values[start:stop])
        for layer in range(3):
            np.testing.assert_array_equal(read_raw(dataset, start, stop, layer), values[start:stop, layer])
    expected = float32_from_bfloat16(values) if storage == "bfloat16" else values.astype(np.float32)
    np.testing.assert_array_equal(read_float32(dataset, 2, 9, 1), expected[2:9, 1])
    assert read_float32(dataset, 2, 9).dtype == np.float32
    assert storage_name(dataset) == storage


def test_chunks_hold_one_layer_of_many_rows_or_about_a_mebibyte_of_whole_rows(file):
    layered = RowArray("a", "bfloat16", (9, 4096), layered=True)
    assert layered.chunks(1000) == (256, 1, 4096)
    assert layered.chunks(10) == (10, 1, 4096)
    assert layered.row_bytes == 9 * 4096 * 2
    labelled = RowArray("residual_at/labels/resid_post", "bfloat16", (32, 4, 4096), layered=True)
    assert labelled.chunks(1000) == (32, 1, 4, 4096)
    assert RowArray("f", "float32", (2, 26, 16384), layered=True).chunks(1000) == (1, 1, 26, 16384)
    assert RowArray("g", "float16", (2, 2, 8), layered=True).chunks(1000) == (256, 1, 2, 8)
    assert RowArray("b", "float32", (49152,)).chunks(421) == (5, 49152)
    assert RowArray("c", "float32", (512 * 1024,)).chunks(421) == (1, 512 * 1024)
    assert RowArray("d", "float64", ()).chunks(421) == (421,)
    dataset = layered.create(file, 1000, chunked=True)
    assert dataset.chunks == (256, 1, 4096)
    assert dataset.fletcher32
    assert RowArray("e", "float32", (4,)).create(file, 3, chunked=False).chunks is None


def test_the_digest_of_numbers_is_sha256_of_a_header_line_and_little_endian_rows(file, monkeypatch):
    values = np.arange(35, dtype=np.float32).reshape(7, 5)
    expected = hashlib.sha256(b"float32 7 5\n" + struct.pack("<35f", *range(35))).hexdigest()
    dataset = filled(file, RowArray("x", "float32", (5,)), values)
    assert dataset_digest(dataset) == expected
    for limit in (1, 20, 60, 139):  # blocks of 1, 1, 3 and 6 rows
        monkeypatch.setattr(hdf5, "READ_BYTES", limit)
        assert dataset_digest(dataset) == expected
    contiguous = filled(file, RowArray("y", "float32", (5,)), values, chunked=False)
    assert dataset_digest(contiguous) == expected


def test_the_digest_reads_whole_chunks(file, monkeypatch):
    dataset = filled(file, RowArray("x", "int32", (2, 3), layered=True), np.arange(3000, dtype="i4").reshape(500, 2, 3))
    monkeypatch.setattr(hdf5, "READ_BYTES", 300 * 24)
    starts = []
    read = hdf5.read_raw
    monkeypatch.setattr(hdf5, "read_raw", lambda node, start, stop: (starts.append(start), read(node, start, stop))[1])
    digest = dataset_digest(dataset)
    assert starts == [0, 256]
    assert digest == hashlib.sha256(b"int32 500 2 3\n" + struct.pack("<3000i", *range(3000))).hexdigest()


def test_the_digest_of_bfloat16_is_over_the_stored_bits(file):
    dataset = filled(file, RowArray("x", "bfloat16", (2,)), np.array([[1, 2], [0x3F80, 0xFFFF]], np.uint16))
    assert dataset_digest(dataset) == hashlib.sha256(b"bfloat16 2 2\n\1\0\2\0\x80\x3f\xff\xff").hexdigest()


def test_the_digest_of_strings_closes_each_with_a_zero_byte(file):
    many = write_text(file, "many", ["è", "", "ab"])
    assert dataset_digest(many) == hashlib.sha256("utf-8 3\nè\0\0ab\0".encode()).hexdigest()
    one = write_text(file, "one", "è")
    assert dataset_digest(one) == hashlib.sha256("utf-8\nè\0".encode()).hexdigest()
    split = write_text(file, "split", ["è", "a", "b"])
    assert dataset_digest(split) != dataset_digest(many)


def test_the_digest_tells_shapes_and_types_apart(file):
    zeros = {
        (kind, shape): dataset_digest(file.create_dataset(f"{kind}{shape}", data=np.zeros(shape, kind)))
        for kind in ("float32", "int32")
        for shape in [(), (1,), (6,), (2, 3), (3, 2)]
    }
    assert len(set(zeros.values())) == len(zeros)


def test_the_digest_of_attributes_is_canonical_json_without_complete(file):
    file.attrs["version"], file.attrs["format"], file.attrs["list"] = 1, "è", np.array([1, 2])
    expected = hashlib.sha256(json.dumps({"format": "è", "list": [1, 2], "version": 1}).encode()).hexdigest()
    assert attributes_digest(file) == expected
    file.attrs["complete"] = True
    assert attributes_digest(file) == expected
    file.attrs["more"] = np.void(b"odd")
    assert attributes_digest(file) != expected


def test_describe_gives_the_manifest_entry_and_datasets_come_sorted(file):
    write_text(file, "z", "last")
    filled(file, RowArray("a/b", "float16", (2,)), np.zeros((3, 2), np.float16))
    assert [path for path, _ in datasets(file)] == ["a/b", "z"]
    entry = describe(file["a/b"])
    assert entry == {
        "dtype": "float16",
        "shape": [3, 2],
        "sha256": hashlib.sha256(b"float16 3 2\n" + bytes(12)).hexdigest(),
        "attributes": hashlib.sha256(b"{}").hexdigest(),
    }

"""A file that keeps a refused write to itself: the content of one in memory, the failure told on request."""

import errno
import io
import os
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubtlens.extract.write_guard import WriteGuard

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 60), st.binary(max_size=40)),
        st.tuples(st.just("read"), st.integers(0, 60), st.integers(0, 60)),
        st.tuples(st.just("truncate"), st.integers(0, 90), st.none()),
    ),
    max_size=12,
)


def refuse_beyond(limit: int):
    """os.pwrite on a disk of `limit` bytes: writes what fits and says so, then raises."""
    write = os.pwrite

    def pwrite(handle: int, data: memoryview, offset: int) -> int:
        if offset >= limit and len(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data[: limit - offset], offset)

    return pwrite


@settings(max_examples=200, deadline=None)
@given(steps=STEPS, limit=st.integers(0, 120))
def test_reads_are_those_of_a_file_in_memory_and_check_tells_what_was_refused(steps, limit):
    memory, refused = io.BytesIO(), False
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
        WriteGuard(Path(folder) / "file") as guard,
    ):
        patch.setattr(os, "pwrite", refuse_beyond(limit))
        for kind, place, content in steps:
            if kind == "write":
                guard.seek(place)
                memory.seek(place)
                assert guard.write(content) == memory.write(content)
                assert guard.tell() == memory.tell()
                refused = refused or (place + len(content) > limit and len(content) > 0)
            elif kind == "read":
                guard.seek(place)
                memory.seek(place)
                assert guard.read(content) == memory.read(content).ljust(content, b"\0")
            else:
                # An HDF5 file is only ever cut at its end.
                size = max(place, memory.seek(0, io.SEEK_END))
                guard.truncate(size)
                memory.write(bytes(size - memory.tell()))
            assert guard.seek(0, os.SEEK_END) == memory.seek(0, io.SEEK_END)
            if refused:
                with pytest.raises(OSError, match="No space left"):
                    guard.check()
            else:
                guard.check()
        if refused:
            with pytest.raises(OSError, match="No space left"):
                guard.sync()
        else:
            guard.sync()
            assert (Path(folder) / "file").read_bytes() == memory.getvalue()


def test_hdf5_closes_in_good_order_on_a_disk_that_is_full_and_reads_back_what_it_wrote(tmp_path, monkeypatch):
    values = np.random.default_rng(0).standard_normal((600, 50))
    for limit in (0, 700, 3000, 100_000, 239_999):
        monkeypatch.setattr(os, "pwrite", refuse_beyond(limit))
        with WriteGuard(tmp_path / "file.h5") as guard:
            with h5py.File(guard, "w") as file:
                file.create_dataset("x", data=values, chunks=(50, 50), fletcher32=True)
                file.flush()
                np.testing.assert_array_equal(file["x"][()], values)
            with pytest.raises(OSError, match="No space left"):
                guard.check()
        monkeypatch.undo()


def test_with_room_enough_the_file_is_an_ordinary_hdf5_file(tmp_path):
    with WriteGuard(tmp_path / "file.h5") as guard:
        with h5py.File(guard, "w") as file:
            file["x"] = np.arange(10)
        guard.sync()
    with h5py.File(tmp_path / "file.h5", "r") as file:
        np.testing.assert_array_equal(file["x"][()], np.arange(10))


def test_a_refused_truncation_is_told_too(tmp_path, monkeypatch):
    def refuse(*arguments: int) -> None:
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(os, "ftruncate", refuse)
    with WriteGuard(tmp_path / "file") as guard:
        guard.truncate(10)
        with pytest.raises(OSError, match="too large"):
            guard.check()

"""The writing thread: right rows in right places, errors told, memory bounded, never stuck."""

import os
import re
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from doubtlens.extract.hdf5 import RowArray, float32_from_bfloat16
from doubtlens.extract.segment_writer import (
    QUEUED_BATCHES,
    HostCopy,
    NonFiniteError,
    SegmentWriter,
    first_non_finite,
)
from doubtlens.extract.segments import PartialRun, partial_folder

pytestmark = pytest.mark.timeout(60)

RESIDUAL, SCORES = "residual/resid_post", "scores/label_single"
SEGMENTS = [[1, 4, 5], [0, 2, 3, 6]]
NAMES = [f"q{row}" for row in range(7)]
VALUES = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(0))
SCORED = np.arange(14.0).reshape(7, 2)


def begin(path: Path, storage: str = "float32") -> PartialRun:
    arrays = [RowArray(RESIDUAL, storage, (2, 3), layered=True), RowArray(SCORES, "float64", (2,))]
    return PartialRun(path, {"model": "tiny"}, arrays, SEGMENTS)


def put(writer: SegmentWriter, segment: int, rows: list[int], values: torch.Tensor = VALUES) -> None:
    writer.put(segment, rows, HostCopy({RESIDUAL: values[rows]}), {SCORES: SCORED[rows]})


@pytest.fixture
def partial(tmp_path: Path):
    run = begin(tmp_path / "run.h5")
    yield run
    run.close()


@pytest.fixture
def writer(partial: PartialRun) -> SegmentWriter:
    return SegmentWriter(partial, NAMES, [RESIDUAL])


def write(
    partial: PartialRun, batches: list[tuple[int, list[int]]], values: torch.Tensor = VALUES, finite=(RESIDUAL,)
) -> SegmentWriter:
    with SegmentWriter(partial, NAMES, finite) as writer:
        for segment, rows in batches:
            put(writer, segment, rows, values)
    return writer


def segments_on_disk(tmp_path: Path) -> list[str]:
    return sorted(name[:13] for name in os.listdir(partial_folder(tmp_path / "run.h5")) if name.startswith("segment"))


# What arrives


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_batches_of_several_segments_land_in_their_rows_whatever_their_order(tmp_path, dtype):
    partial = begin(tmp_path / "run.h5", str(dtype).removeprefix("torch."))
    values = VALUES.to(dtype)
    writer = write(partial, [(1, [6, 0]), (0, [5]), (1, [3, 2]), (0, [4, 1])], values)
    assert writer.busy_seconds > 0
    partial.assemble(lambda file: None)
    with h5py.File(tmp_path / "run.h5", "r") as file:
        np.testing.assert_array_equal(file[RESIDUAL][()].astype(np.float32), values.float().numpy())
        np.testing.assert_array_equal(file[SCORES][()], SCORED)


def test_a_segment_is_stored_with_its_last_batch_and_an_unfinished_one_is_not(tmp_path, partial):
    write(partial, [(1, [0, 2]), (0, [1, 4, 5])])
    assert segments_on_disk(tmp_path) == ["segment-00000"]
    assert partial.missing == [1]


def test_a_host_copy_gives_bfloat16_as_its_bits():
    tensor = torch.randn(4, 5, dtype=torch.bfloat16)
    arrays = HostCopy({"x": tensor, "y": tensor.float()}).arrays()
    assert arrays["x"].dtype == np.uint16
    np.testing.assert_array_equal(float32_from_bfloat16(arrays["x"]), tensor.float().numpy())
    np.testing.assert_array_equal(arrays["y"], tensor.float().numpy())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_batches_from_a_gpu_land_in_their_rows(tmp_path, dtype):
    partial = begin(tmp_path / "run.h5", str(dtype).removeprefix("torch."))
    values = VALUES.to(dtype).cuda()
    write(partial, [(1, [6, 0]), (0, [5]), (1, [3, 2]), (0, [4, 1])], values)
    partial.assemble(lambda file: None)
    with h5py.File(tmp_path / "run.h5", "r") as file:
        np.testing.assert_array_equal(file[RESIDUAL][()].astype(np.float32), values.float().cpu().numpy())


# NaN and infinity


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_first_row_that_is_not_finite_is_found_in_every_type(dtype, bad):
    values = torch.full((5, 2, 3), torch.finfo(dtype).max, dtype=dtype)
    values[0, 0, 0], values[0, 0, 1] = torch.finfo(dtype).min, torch.finfo(dtype).tiny
    array = HostCopy({"x": values}).arrays()["x"]
    assert first_non_finite(array) is None
    values[3, 1, 2] = bad
    values[4, 0, 0] = bad
    assert first_non_finite(HostCopy({"x": values}).arrays()["x"]) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_row_that_is_not_finite_stops_the_run_by_its_item_and_keeps_finished_segments(tmp_path, dtype):
    partial = begin(tmp_path / "run.h5", str(dtype).removeprefix("torch."))
    values = VALUES.to(dtype, copy=True)
    values[2, 1, 0] = float("inf")
    message = f'item q2: {RESIDUAL} holds NaN or infinity. A float16 model may overflow: load it with dtype="bfloat16"'
    with pytest.raises(NonFiniteError, match=re.escape(message)):
        write(partial, [(0, [1, 4, 5]), (1, [3, 2])], values)
    assert segments_on_disk(tmp_path) == ["segment-00000"]
    partial.close()
    assert begin(tmp_path / "run.h5", str(dtype).removeprefix("torch.")).missing == [1]


def test_nan_on_the_host_is_refused_too_and_let_through_where_it_has_a_meaning(tmp_path, partial, monkeypatch):
    scored = SCORED.copy()
    scored[[1, 0], 1] = np.nan  # beyond an item's options
    monkeypatch.setattr(sys.modules[__name__], "SCORED", scored)
    write(partial, [(0, [1, 4, 5])])
    assert segments_on_disk(tmp_path) == ["segment-00000"]
    with pytest.raises(NonFiniteError, match="item q0: scores/label_single"):
        write(partial, [(1, [2, 0])], finite=[RESIDUAL, SCORES])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_nan_may_stand_for_what_a_row_does_not_have_and_nowhere_else(tmp_path, dtype):
    path = "residual_at/labels/resid_post"
    missing = np.arange(3) >= np.array([3, 2, 1, 3, 2, 1, 2])[:, None]
    values = torch.randn(7, 2, 3, 4, generator=torch.Generator().manual_seed(1)).to(dtype)
    values[torch.as_tensor(missing)[:, None].expand(-1, 2, -1)] = torch.nan
    array = RowArray(path, str(dtype).removeprefix("torch."), (2, 3, 4), layered=True)
    broken = values.clone()
    broken[4, 1, 1, 3] = torch.inf
    for name, kept in (("fine", values), ("broken", broken)):
        partial = PartialRun(tmp_path / name, {"model": "tiny"}, [array], [list(range(7))])
        with SegmentWriter(partial, NAMES, [path], {path: missing[:, None, :, None]}) as writer:
            writer.put(0, [6, 2, 0], HostCopy({path: kept[[6, 2, 0]]}), {})
            if name == "fine":
                writer.put(0, [1, 3, 4, 5], HostCopy({path: kept[[1, 3, 4, 5]]}), {})
        assert bool(partial.missing) == (name == "broken")
        partial.close()
    with (
        pytest.raises(NonFiniteError, match=f"item q4: {path} holds NaN"),
        SegmentWriter(partial, NAMES, [path], {path: missing[:, None, :, None]}) as writer,
    ):
        writer.put(0, [1, 3, 4, 5], HostCopy({path: broken[[1, 3, 4, 5]]}), {})


# Errors and waiting


@pytest.fixture
def full_disk(partial, monkeypatch):
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(partial, "add", fail)


def test_an_error_of_the_thread_comes_out_at_the_next_put(writer, full_disk):
    reached = []

    def go_on_after_an_error() -> None:
        with writer:
            put(writer, 0, [1, 4, 5])
            while writer._error is None:
                time.sleep(0.001)
            reached.append("before")
            put(writer, 1, [0])
            reached.append("after")

    with pytest.raises(OSError, match="No space left"):
        go_on_after_an_error()
    assert reached == ["before"]


def test_an_error_of_the_last_batch_comes_out_at_the_end(partial, full_disk):
    with pytest.raises(OSError, match="No space left"):
        write(partial, [(0, [1, 4, 5])])


def test_the_main_threads_own_error_wins_and_what_is_queued_is_still_stored(tmp_path, writer):
    def interrupted() -> None:
        with writer:
            put(writer, 0, [1, 4, 5])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert segments_on_disk(tmp_path) == ["segment-00000"]
    assert not writer._thread.is_alive()


@pytest.mark.timeout(20)
def test_many_batches_after_an_error_never_leave_the_main_thread_waiting(partial):
    before = threading.active_count()
    for _ in range(50):
        with pytest.raises(NonFiniteError, match="item q1"):
            write(partial, [(0, [1])] * (10 * QUEUED_BATCHES), torch.full((7, 2, 3), torch.nan))
    assert threading.active_count() == before


@pytest.mark.timeout(20)
def test_a_main_thread_that_waits_at_a_full_queue_is_let_go_by_an_error(partial, writer, monkeypatch):
    gate, queued = threading.Event(), []

    def wait_and_fail(*arguments: object) -> None:
        assert gate.wait(15)
        raise OSError(28, "No space left on device")

    def produce() -> None:
        for _ in range(QUEUED_BATCHES + 2):
            put(writer, 0, [1])
            queued.append(1)

    monkeypatch.setattr(writer, "_store", wait_and_fail)
    writer._thread.start()
    producer = threading.Thread(target=produce, daemon=True)
    producer.start()
    while len(queued) < QUEUED_BATCHES + 1:
        time.sleep(0.005)
    time.sleep(0.1)
    gate.set()
    producer.join(5)
    assert len(queued) == QUEUED_BATCHES + 2
    with pytest.raises(OSError, match="No space left"):
        writer.__exit__(None)


@pytest.mark.timeout(20)
def test_the_queue_is_bounded(tmp_path, partial, writer, monkeypatch):
    gate, store = threading.Event(), writer._store

    def wait_and_store(*arguments: object) -> None:
        assert gate.wait(15)
        store(*arguments)

    monkeypatch.setattr(writer, "_store", wait_and_store)
    queued = []

    def produce() -> None:
        for row in SEGMENTS[0] + SEGMENTS[1]:
            put(writer, int(row in SEGMENTS[1]), [row])
            queued.append(row)

    with writer:
        producer = threading.Thread(target=produce)
        producer.start()
        deadline = time.monotonic() + 5
        while len(queued) < QUEUED_BATCHES + 1 and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.2)
        assert len(queued) == QUEUED_BATCHES + 1  # one in the thread's hands, the rest of them waiting
        gate.set()
        producer.join()
    assert segments_on_disk(tmp_path) == ["segment-00000", "segment-00001"]

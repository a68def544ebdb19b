"""Moving batch results off the device and into segments, beside the forward passes.

The main thread hands over what a batch left on the device. On a GPU the copy goes to pinned memory on a stream of its
own. One background thread waits for the copy, checks that everything is finite, fills the rows of the segment, and
stores the segment when its last batch has come. The queue is bounded, so memory does not grow with the run.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .segments import PartialRun

QUEUED_BATCHES = 3


class NonFiniteError(ValueError):
    """The model produced NaN or infinity."""

    def __init__(self, item: str, path: str) -> None:
        super().__init__(
            f"item {item}: {path} holds NaN or infinity. A float16 model may overflow: load it with "
            'dtype="bfloat16" or "float32"; otherwise its weights are damaged. Finished segments are kept.'
        )


class HostCopy:
    """Tensors on their way from the device to host memory; `arrays` waits for them.

    bfloat16 becomes its raw bits (uint16), which is how the run file keeps it.
    """

    _streams: dict[torch.device, Any] = {}  # noqa: RUF012 - one copy stream per device, for the whole process

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._done = None
        device = next(iter(tensors.values())).device
        if device.type != "cuda":
            self._host = {name: tensor.cpu() for name, tensor in tensors.items()}
            return
        stream = self._streams.setdefault(device, torch.cuda.Stream(device))
        stream.wait_stream(torch.cuda.current_stream(device))
        self._host = {}
        with torch.cuda.stream(stream):
            for name, tensor in tensors.items():
                target = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
                self._host[name] = target.copy_(tensor, non_blocking=True)
                tensor.record_stream(stream)
            self._done = torch.cuda.Event()
            self._done.record(stream)

    def arrays(self) -> dict[str, np.ndarray]:
        """The numpy arrays, once the copy is complete."""
        if self._done is not None:
            self._done.synchronize()
        return {name: _numpy(tensor) for name, tensor in self._host.items()}


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def first_non_finite(values: np.ndarray, missing: np.ndarray | None = None) -> int | None:
    """The first row that holds NaN or infinity (uint16: as bfloat16 bits) where nothing is missing; None if none."""
    fine = (values & 0x7F80) != 0x7F80 if values.dtype == np.uint16 else np.isfinite(values)
    if missing is not None:
        fine |= missing
    bad = np.flatnonzero(~fine.reshape(len(values), -1).all(axis=1))
    return int(bad[0]) if len(bad) else None


class SegmentWriter:
    """The background thread. Use as a context manager; leaving it waits for what is queued.

    Args:
        partial: where finished segments go.
        names: per prompt row, what error messages call it (the item's id).
        must_be_finite: arrays in which NaN or infinity stops the run.
        missing: of those, arrays in which NaN may stand for what a row does not have, and where: bool, one row per
            prompt, to be broadcast against the array.
    """

    def __init__(
        self,
        partial: PartialRun,
        names: Sequence[str],
        must_be_finite: Sequence[str],
        missing: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self._partial, self._names, self._finite = partial, names, set(must_be_finite)
        self._missing = missing or {}
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=QUEUED_BATCHES)
        self._error: BaseException | None = None
        self._columns: dict[int, dict[str, np.ndarray]] = {}
        self._filled: dict[int, int] = {}
        self._thread = threading.Thread(target=self._work, name="doubtlens-writer", daemon=True)
        self.busy_seconds = 0.0

    def __enter__(self) -> SegmentWriter:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self._queue.put(None)
        self._thread.join()
        if kind is None:
            self._raise()

    def put(self, segment: int, rows: Sequence[int], copy: HostCopy, ready: Mapping[str, np.ndarray]) -> None:
        """Queue one batch: its segment, its prompt rows, the arrays on their way and those already here."""
        self._raise()
        self._queue.put((segment, list(rows), copy, dict(ready)))

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            if self._error is not None:
                continue  # keep emptying the queue, so that the main thread is not left waiting
            started = time.perf_counter()
            try:
                self._store(*task)
            except BaseException as error:
                self._error = error
            self.busy_seconds += time.perf_counter() - started

    def _store(self, segment: int, rows: list[int], copy: HostCopy, ready: dict[str, np.ndarray]) -> None:
        arrays = copy.arrays() | ready
        for path in sorted(self._finite & set(arrays)):
            missing = self._missing.get(path)
            bad = first_non_finite(arrays[path], None if missing is None else missing[rows])
            if bad is not None:
                raise NonFiniteError(self._names[rows[bad]], path)
        if segment not in self._columns:
            count = len(self._partial.segments[segment])
            self._columns[segment] = {
                array.path: np.empty((count, *array.shape), dtype=array.memory_dtype) for array in self._partial.arrays
            }
            self._filled[segment] = 0
        place = {row: index for index, row in enumerate(self._partial.segments[segment])}
        target = [place[row] for row in rows]
        for path, column in self._columns[segment].items():
            column[target] = arrays[path]
        self._filled[segment] += len(rows)
        if self._filled[segment] == len(place):
            self._partial.add(segment, self._columns.pop(segment))

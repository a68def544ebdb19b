"""A run in progress: a folder of whole segments, so that a crash costs at most the segment under way.

1. The folder ``<run>.partial`` holds ``run.json`` (the identity of the run and its plan) and one file per
   finished segment, ``segment-00003-<first 16 hex digits of its sha256>.h5``. Without ``run.json`` nothing in it
   counts.
2. A segment is built in memory, written beside its place, synced and renamed: a file that has its final name is
   whole, and its name proves its content.
3. When every segment is there, the run file is assembled row by row in item order, marked ``complete``, synced,
   renamed into place, and the folder is removed.

An HDF5 file that is appended to in place does not survive a kill or a full disk, even when it is closed after every
batch; that is why none is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from filelock import FileLock, Timeout

from .atomic import require_space, sync_folder, write_bytes
from .hdf5 import RowArray, datasets, describe, describe_group, read_raw, write_rows, write_text
from .identity import digest_of, require_same
from .write_guard import WriteGuard

FORMAT = "doubtlens-run"
FORMAT_VERSION = 1
SEGMENT_NAME = re.compile(r"segment-(\d{5,})-([0-9a-f]{16})\.h5")
DESCRIPTION, LOCK, ASSEMBLING = "run.json", "lock", "assembling.h5"
BLOCK_BYTES = 2**23


def partial_folder(path: Path) -> Path:
    """Where the run that will become `path` is kept while it is in progress."""
    return path.with_name(path.name + ".partial")


def progress_of(path: Path) -> tuple[int, int] | None:
    """(finished, all) segments of the run in progress that will become `path`; None where there is none."""
    folder = partial_folder(path)
    try:
        total = json.loads((folder / DESCRIPTION).read_text())["segments"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return len({match[1] for name in os.listdir(folder) if (match := SEGMENT_NAME.fullmatch(name))}), total


class PartialRun:
    """The folder of a run in progress, locked against a second writer.

    Args:
        path: the run file that this will become.
        identity: JSON-serialisable fields that must agree between the calls that share it.
        arrays: the datasets with one row per prompt.
        segments: row numbers of each segment; together a permutation of all rows.

    Raises:
        ValueError: the folder holds a run with another identity (the field is named).
        RuntimeError: another process writes to the same run.
        FileExistsError: the folder holds something that is not of a run in progress.
        OSError: the disk has no room for the run.
    """

    def __init__(
        self,
        path: Path,
        identity: Mapping[str, Any],
        arrays: Sequence[RowArray],
        segments: Sequence[Sequence[int]],
    ) -> None:
        self.path, self.arrays, self.segments = path, list(arrays), [list(rows) for rows in segments]
        self.identity = dict(identity)
        self.folder = partial_folder(path)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(path)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        _require_ours(self.folder)
        shapes = [[array.path, array.storage, array.shape] for array in self.arrays]
        wanted = json.loads(json.dumps(self.identity | {"plan": digest_of([self.segments, shapes])}))
        description = self.folder / DESCRIPTION
        if description.exists():
            try:
                stored = json.loads(description.read_text())["identity"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{description} is damaged ({error}). Remove {self.folder} to start anew.") from error
            require_same(
                stored,
                wanted,
                where=f"The unfinished run in {self.folder}",
                versions=True,
                mend="Give the old setting to resume, or remove that folder to start anew.",
            )
        else:
            _empty(self.folder)
        self.files: dict[int, Path] = {}
        for file in sorted(self.folder.iterdir()):
            match = SEGMENT_NAME.fullmatch(file.name)
            if match and hashlib.sha256(file.read_bytes()).hexdigest()[:16] == match[2]:
                self.files[int(match[1])] = file
            elif file.name not in (DESCRIPTION, LOCK):
                file.unlink()  # left by a crash: half-written, or damaged since
        row_bytes = sum(array.row_bytes for array in self.arrays)
        waiting = sum(len(self.segments[number]) for number in self.missing)
        self._final_bytes = int(row_bytes * sum(map(len, self.segments)) * 1.02) + 2**22
        # Refused now, and not after hours of forward passes.
        require_space(self.path.parent, waiting * row_bytes + self._final_bytes, f"the run {self.path.name}")
        if not description.exists():
            content = {"identity": wanted, "segments": len(self.segments)}
            write_bytes(description, json.dumps(content, indent=1).encode())

    @property
    def missing(self) -> list[int]:
        """Numbers of the segments still to be made, in order."""
        return [number for number in range(len(self.segments)) if number not in self.files]

    def add(self, number: int, columns: Mapping[str, np.ndarray]) -> None:
        """Store one finished segment; `columns` maps each array's path to ``[rows of the segment, ...]``."""
        rows = self.segments[number]
        with h5py.File("segment", "w", driver="core", backing_store=False) as file:
            for array in self.arrays:
                values = columns[array.path]
                if values.shape != (len(rows), *array.shape) or values.dtype != array.memory_dtype:
                    raise ValueError(
                        f"{array.path}: a segment of {len(rows)} rows must be {array.memory_dtype} of shape "
                        f"{(len(rows), *array.shape)}. Got {values.dtype} of shape {values.shape} instead."
                    )
                write_rows(array.create(file, len(rows), chunked=False), 0, values)
            file.flush()
            image = file.id.get_file_image()
        target = self.folder / f"segment-{number:05d}-{hashlib.sha256(image).hexdigest()[:16]}.h5"
        write_bytes(target, image)
        self.files[number] = target

    def assemble(self, write_static: Callable[[h5py.File], None]) -> None:
        """Make the run file from the finished segments and remove the folder.

        Args:
            write_static: writes everything that is not a row array (items, prompts, info).
        """
        if self.missing:
            raise RuntimeError(f"{len(self.missing)} of {len(self.segments)} segments are missing: {self.folder}")
        n_rows = sum(map(len, self.segments))
        require_space(self.path.parent, self._final_bytes, f"assembling {self.path.name}")
        where = np.empty((n_rows, 2), dtype=np.int64)
        for number, rows in enumerate(self.segments):
            where[rows, 0], where[rows, 1] = number, np.arange(len(rows))
        temporary = self.folder / ASSEMBLING
        try:
            with WriteGuard(temporary) as guard:
                with h5py.File(guard, "w") as file:
                    for array in self.arrays:
                        self._gather(array, array.create(file, n_rows, chunked=True), where, guard)
                    write_static(file)
                    guard.check()
                    seal(file)
                guard.sync()
        except OSError as error:
            temporary.unlink(missing_ok=True)
            error.add_note(
                f"while assembling {self.path} from its finished segments, which are kept in {self.folder}; "
                "make room on that disk and run again"
            )
            raise
        os.replace(temporary, self.path)
        sync_folder(self.path.parent)
        _empty(self.folder)
        shutil.rmtree(self.folder)  # before the lock is given back, or a next writer might lose its new folder
        self.close()

    def _gather(self, array: RowArray, target: h5py.Dataset, where: np.ndarray, guard: WriteGuard) -> None:
        """Copy the rows of all segments into their final order, one block of whole chunks at a time."""
        assert target.chunks is not None
        step = max(1, BLOCK_BYTES // max(1, array.row_bytes) // target.chunks[0]) * target.chunks[0]
        for start in range(0, len(where), step):
            block = where[start : start + step]
            values = np.empty((len(block), *array.shape), dtype=array.memory_dtype)
            for number in np.unique(block[:, 0]):
                here = np.flatnonzero(block[:, 0] == number)
                with h5py.File(self.files[int(number)], "r") as segment:
                    source = segment[array.path]
                    for row in here:
                        local = int(block[row, 1])
                        values[row] = read_raw(source, local, local + 1)[0]
            write_rows(target, start, values)
            guard.check()

    def close(self) -> None:
        """Give the lock back; the folder stays."""
        self._lock.release()


def seal(file: h5py.File) -> None:
    """Stamp format and versions, write the manifest of digests, and last of all ``complete``."""
    groups: list[h5py.Group] = [file]
    file.visititems(lambda _, node: groups.append(node) if isinstance(node, h5py.Group) else None)
    for group in groups:
        group.attrs["version"] = FORMAT_VERSION
    file.attrs["format"], file.attrs["format_version"] = FORMAT, FORMAT_VERSION
    manifest = {
        "datasets": {path: describe(dataset) for path, dataset in datasets(file)},
        "groups": {group.name: describe_group(group) for group in groups},
    }
    write_text(file, "manifest", json.dumps(manifest, sort_keys=True))
    file.flush()
    file.attrs["complete"] = True


def remove_partial(path: Path) -> None:
    """Delete the folder of an unfinished run, if there is one.

    Raises:
        RuntimeError: another process writes to that run.
        FileExistsError: the folder holds something that is not of a run in progress.
    """
    folder = partial_folder(path)
    if not folder.exists():
        return
    lock = _locked(path)
    try:
        _require_ours(folder)
        _empty(folder)
        shutil.rmtree(folder)
    finally:
        lock.release()


def _locked(path: Path) -> FileLock:
    """Hold the lock of the run in progress that will become `path`."""
    lock = FileLock(partial_folder(path) / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RuntimeError(
            f"{path} is being written by another process (it holds {lock.lock_file}); wait for it or stop it"
        ) from error
    return lock


def _require_ours(folder: Path) -> None:
    """Refuse a folder that holds anything but the files of a run in progress: they would be removed."""
    for file in sorted(folder.iterdir()):
        name = file.name.removesuffix(".writing")
        if not file.is_file() or (name not in (DESCRIPTION, LOCK, ASSEMBLING) and not SEGMENT_NAME.fullmatch(name)):
            raise FileExistsError(
                f"{folder} is where a run in progress is kept, and {file.name} there is no part of one. Move that "
                "away, or give another path."
            )


def _empty(folder: Path) -> None:
    """Remove everything but the lock."""
    for file in folder.iterdir():
        if file.name != LOCK:
            file.unlink()

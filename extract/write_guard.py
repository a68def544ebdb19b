"""A file for HDF5 to write to while the disk may fill up.

HDF5 crashes the process (a segmentation fault at the next close or at exit) once one of its writes fails, whatever its
driver. So it never meets a failed write: it writes through h5py's ``fileobj`` driver into a `WriteGuard`, which

1. writes every byte that it is given, and keeps in memory what the disk refuses;
2. answers reads from both, so that HDF5 finds what it wrote and closes its file in good order;
3. raises the failure when `check` or `sync` is called, outside HDF5.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class WriteGuard:
    """A new file, open for reading and writing, whose failed writes are raised by `check` instead of `write`.

    Call `check` after every block: what is refused in between is held in memory.

    Args:
        path: the file to make; one that is there is emptied.
    """

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        self._position = self._size = 0
        self._refused: list[tuple[int, bytes]] = []
        self._error: OSError | None = None

    def __enter__(self) -> WriteGuard:
        return self

    def __exit__(self, *details: object) -> None:
        os.close(self._handle)

    def check(self) -> None:
        """Raise the first failure to write, if there was one.

        Raises:
            OSError: as the operating system gave it, for instance ENOSPC, EDQUOT or EFBIG.
        """
        if self._error is not None:
            raise self._error

    def sync(self) -> None:
        """`check`, then make the file durable: some file systems report a full disk only here."""
        self.check()
        os.fsync(self._handle)

    def write(self, data: Any) -> int:
        """Write all of `data` at the current position; from the first failure on, into memory."""
        view = memoryview(data).cast("B")
        done = 0
        if self._error is None:
            try:
                while done < len(view):  # at the edge of a full disk the system writes a part and calls it a success
                    done += os.pwrite(self._handle, view[done:], self._position + done)
            except OSError as error:
                self._error = error
        if done < len(view):
            self._refused.append((self._position + done, bytes(view[done:])))
        self._position += len(view)
        if len(view):
            self._size = max(self._size, self._position)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from the current position, with zeros where nothing was written."""
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and (got := os.preadv(self._handle, [view[done:]], self._position + done)):
            done += got
        view[done:] = bytes(len(view) - done)
        for start, piece in self._refused:
            first, last = max(start, self._position), min(start + len(piece), self._position + len(view))
            if first < last:
                view[first - self._position : last - self._position] = piece[first - start : last - start]
        self._position += len(view)
        return len(view)

    def read(self, size: int) -> bytes:
        """`size` bytes from the current position, zeros where nothing was written."""
        content = bytearray(size)
        self.readinto(content)
        return bytes(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to `offset` from the start, from here, or from the end of what was written."""
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        """The current position."""
        return self._position

    def truncate(self, size: int) -> int:
        """Cut or extend the file to `size` bytes."""
        if self._error is None:
            try:
                os.ftruncate(self._handle, size)
            except OSError as error:
                self._error = error
        self._size = size
        return size

    def flush(self) -> None:
        """Nothing to do: nothing is buffered here."""

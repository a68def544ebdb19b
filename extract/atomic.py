"""Files that are whole or absent: written beside their place, synced, then renamed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make renames inside the folder durable (a no-op where folders cannot be opened)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file durably; on any failure the half-written copy is removed and the old file stays.

    Raises:
        OSError: the disk is full or refuses; a note names the file and the bytes it needed.
    """
    temporary = path.with_name(path.name + ".writing")
    try:
        with open(temporary, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.add_note(f"while writing {path} ({len(content):,} bytes); make room on that disk and run again")
        raise
    sync_folder(path.parent)


def require_space(folder: Path, needed: int, purpose: str) -> None:
    """Refuse before starting when the disk of `folder` has fewer than `needed` bytes left.

    HDF5 itself must not meet a full disk: it crashes the process instead of raising.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            28,
            f"{purpose} needs {needed / 2**20:,.1f} MiB in {folder}, and {free / 2**20:,.1f} MiB are free; "
            "make room there and run again: what is finished is kept",
        )

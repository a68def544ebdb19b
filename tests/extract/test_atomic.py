"""Files that are whole or absent, whatever step fails."""

import errno
import os
import re
from collections import namedtuple

import pytest

from doubtlens.extract import atomic
from doubtlens.extract.atomic import require_space, sync_folder, write_bytes


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "file.h5"
    write_bytes(path, b"one")
    write_bytes(path, b"other")
    assert path.read_bytes() == b"other"
    assert os.listdir(tmp_path) == ["file.h5"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_when_a_step_fails_the_old_file_stays_and_nothing_is_left_behind(tmp_path, monkeypatch, step):
    path = tmp_path / "file.h5"
    write_bytes(path, b"old")

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, step, fail)
    with pytest.raises(OSError, match="No space left") as caught:
        write_bytes(path, bytes(1234))
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.__notes__ == [f"while writing {path} (1,234 bytes); make room on that disk and run again"]
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.h5"]


def test_the_content_is_synced_before_the_rename_and_the_folder_after_it(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(atomic.os, "fsync", lambda handle: (steps.append("sync"), fsync(handle))[1])
    monkeypatch.setattr(atomic.os, "replace", lambda *paths: (steps.append("rename"), replace(*paths))[1])
    write_bytes(tmp_path / "file", b"x")
    assert steps == ["sync", "rename", "sync"]


def test_a_folder_that_may_not_be_opened_is_passed_over(tmp_path, monkeypatch):
    asked = []

    def refuse(*arguments: object) -> int:
        asked.append(arguments[0])
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(atomic.os, "open", refuse)
    sync_folder(tmp_path)
    assert asked == [tmp_path]


def test_too_little_space_is_refused_with_the_numbers_and_the_mend(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda folder: usage(0, 0, 3 * 2**20))
    require_space(tmp_path, 3 * 2**20, "the run")
    message = f"the run needs 4.5 MiB in {tmp_path}, and 3.0 MiB are free; make room there and run again"
    with pytest.raises(OSError, match=re.escape(message)) as caught:
        require_space(tmp_path, 9 * 2**19, "the run")
    assert caught.value.errno == errno.ENOSPC

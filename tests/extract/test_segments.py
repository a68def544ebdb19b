"""A run in progress: order of rows, resuming, refusing, and whose files are whose."""

import errno
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import h5py
import numpy as np
import pytest

from doubtlens.extract.hdf5 import RowArray
from doubtlens.extract.segments import PartialRun, partial_folder, progress_of, remove_partial
from doubtlens.extract.store import open_run

ARRAYS = [RowArray("residual/resid_post", "float32", (2, 3), layered=True), RowArray("scores/x", "float64", (4,))]
SEGMENTS = [[3, 6], [0, 5, 1], [2, 4]]
IDENTITY = {"model": "tiny", "seed": 0, "layers": [0, 1], "versions": {"torch": "2.13.0"}}
ROWS = {
    "residual/resid_post": np.arange(42, dtype=np.float32).reshape(7, 2, 3),
    "scores/x": np.arange(28.0).reshape(7, 4),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.h5"


def begin(path: Path, *, segments=SEGMENTS, arrays=ARRAYS, **changes: object) -> PartialRun:
    return PartialRun(path, IDENTITY | changes, arrays, segments)


def add(partial: PartialRun, *numbers: int) -> None:
    for number in numbers:
        partial.add(number, {name: values[SEGMENTS[number]] for name, values in ROWS.items()})


def finish(partial: PartialRun) -> None:
    partial.assemble(lambda file: file.create_dataset("prompts/item", data=np.arange(7, dtype=np.int32)))


def require_finished(path: Path) -> None:
    with h5py.File(path, "r") as file:
        for name, values in ROWS.items():
            np.testing.assert_array_equal(file[name][()], values)
    open_run(path).verify()
    assert os.listdir(path.parent) == [path.name]


# The way of a run


def test_rows_come_out_in_order_whatever_order_the_segments_have(path):
    partial = begin(path)
    assert partial.missing == [0, 1, 2]
    add(partial, 2, 0)
    assert partial.missing == [1]
    assert progress_of(path) == (2, 3)
    assert not path.exists()
    add(partial, 1)
    finish(partial)
    require_finished(path)
    assert progress_of(path) is None


def test_rows_are_gathered_in_blocks_of_whole_chunks(path, monkeypatch):
    monkeypatch.setattr("doubtlens.extract.segments.BLOCK_BYTES", 1)
    monkeypatch.setattr("doubtlens.extract.hdf5.CHUNK_BYTES", 64)
    partial = begin(path)
    add(partial, 0, 1, 2)
    finish(partial)
    require_finished(path)
    with h5py.File(path, "r") as file:
        assert file["scores/x"].chunks == (2, 4)


def test_a_run_goes_on_where_it_was_left(path):
    partial = begin(path)
    add(partial, 1)
    partial.close()
    resumed = begin(path)
    assert resumed.missing == [0, 2]
    add(resumed, 0, 2)
    finish(resumed)
    require_finished(path)


def test_a_segments_name_is_the_digest_of_its_content(path):
    partial = begin(path)
    add(partial, 1)
    (file,) = partial_folder(path).glob("segment-*")
    assert file.name == f"segment-00001-{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}.h5"
    with h5py.File(file, "r") as segment:
        np.testing.assert_array_equal(segment["scores/x"][()], ROWS["scores/x"][SEGMENTS[1]])
    partial.close()


def test_nothing_is_assembled_while_a_segment_is_missing(path):
    partial = begin(path)
    add(partial, 0, 1)
    with pytest.raises(RuntimeError, match=r"1 of 3 segments are missing: .*run\.h5\.partial"):
        finish(partial)
    partial.close()
    assert not path.exists()


@pytest.mark.parametrize(
    ("values", "got"),
    [
        (np.zeros((2, 4), np.float32), "float32 of shape (2, 4)"),
        (np.zeros((3, 4)), "float64 of shape (3, 4)"),
        (np.zeros((2, 5)), "float64 of shape (2, 5)"),
    ],
)
def test_columns_of_the_wrong_shape_or_type_are_refused(path, values, got):
    partial = begin(path)
    message = f"scores/x: a segment of 2 rows must be float64 of shape (2, 4). Got {got} instead."
    with pytest.raises(ValueError, match=re.escape(message)):
        partial.add(0, {"residual/resid_post": ROWS["residual/resid_post"][:2], "scores/x": values})
    assert partial.missing == [0, 1, 2]
    partial.close()


# Resuming compares


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed = 0, and seed = 1 is asked for now"),
        ({"layers": [0]}, "layers = [0, 1], and layers = [0] is asked for now"),
        ({"versions": {"torch": "2.14.0"}}, 'versions = {"torch": "2.13.0"}, and versions = {"torch": "2.14.0"}'),
        ({"prompt": "two_shot"}, 'prompt = null, and prompt = "two_shot" is asked for now'),
        ({"segments": [[0, 1, 2, 3, 4, 5, 6]]}, 'plan = "'),
        ({"arrays": ARRAYS[:1]}, 'plan = "'),
    ],
)
def test_another_identity_is_refused_by_the_name_of_the_field(path, change, message):
    partial = begin(path)
    add(partial, 0)
    partial.close()
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        begin(path, **change)
    assert "Give the old setting to resume, or remove that folder to start anew." in str(caught.value)
    assert begin(path).missing == [1, 2]


def test_identities_are_compared_as_json_so_tuples_are_lists(path):
    begin(path, layers=(0, 1)).close()
    again = begin(path, layers=[0, 1])
    again.close()
    assert again.missing == [0, 1, 2]


@pytest.mark.parametrize("content", [b"", b'{"segments": 3}', b"[]", b"\xff"])
def test_a_damaged_description_is_refused_with_the_mend(path, content):
    begin(path).close()
    (partial_folder(path) / "run.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.json is damaged .* Remove .*run\.h5\.partial to start anew"):
        begin(path)
    assert progress_of(path) in (None, (0, 3))


def test_segments_without_a_description_do_not_count(path):
    partial = begin(path)
    add(partial, 0, 1)
    partial.close()
    (partial_folder(path) / "run.json").unlink()
    other = begin(path, seed=1)
    assert other.missing == [0, 1, 2]
    assert sorted(os.listdir(partial_folder(path))) == ["lock", "run.json"]
    other.close()


# What a crash leaves


def test_a_damaged_segment_and_half_written_files_are_removed_and_redone(path):
    partial = begin(path)
    add(partial, 0, 1, 2)
    partial.close()
    files = sorted(partial_folder(path).glob("segment-*"))
    content = bytearray(files[1].read_bytes())
    content[len(content) // 2] ^= 1
    files[1].write_bytes(content)
    files[2].write_bytes(files[2].read_bytes()[:-1])
    half_written = ["segment-00001-0123456789abcdef.h5.writing", "run.json.writing", "assembling.h5"]
    for name in half_written:
        (partial_folder(path) / name).write_bytes(b"half")
    resumed = begin(path)
    assert resumed.missing == [1, 2]
    assert sorted(os.listdir(partial_folder(path))) == ["lock", "run.json", files[0].name]
    add(resumed, 1, 2)
    finish(resumed)
    require_finished(path)


def test_remove_partial_takes_the_folder_away_and_needs_none(path):
    remove_partial(path)
    partial = begin(path)
    add(partial, 0)
    partial.close()
    remove_partial(path)
    assert os.listdir(path.parent) == []


# Two writers, and strangers


def test_a_second_writer_is_refused_until_the_first_is_done(path):
    first = begin(path)
    add(first, 0)
    message = r"run\.h5 is being written by another process .* wait for it or stop it"
    with pytest.raises(RuntimeError, match=message):
        begin(path)
    with pytest.raises(RuntimeError, match=message):
        remove_partial(path)
    script = (
        "import sys; from pathlib import Path; from doubtlens.extract.segments import PartialRun\n"
        "try: PartialRun(Path(sys.argv[1]), {}, [], [[0]])\n"
        "except RuntimeError as error: print(error)"
    )
    other = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert re.search(message, other.stdout)
    first.close()
    assert begin(path).missing == [1, 2]


def test_a_refused_identity_gives_the_lock_back(path):
    begin(path).close()
    with pytest.raises(ValueError, match="seed"):
        begin(path, seed=1)
    begin(path).close()


@pytest.mark.parametrize("name", ["notes.txt", "segment-1.h5", "folder", "model.safetensors.writing"])
def test_a_folder_with_other_peoples_files_is_left_alone(path, name):
    begin(path).close()
    stranger = partial_folder(path) / name
    if name == "folder":
        stranger.mkdir()
    else:
        stranger.write_bytes(b"precious")
    for touch in (begin, remove_partial):
        with pytest.raises(FileExistsError, match=f"and {name} there is no part of one. Move that away"):
            touch(path)
    assert stranger.exists()
    assert (partial_folder(path) / "run.json").exists()


# A full disk


def limit_disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("doubtlens.extract.atomic.shutil.disk_usage", lambda folder: usage(0, 0, free))


def test_a_run_that_will_not_fit_is_refused_before_it_begins(path, monkeypatch):
    limit_disk(monkeypatch, 2**22)
    with pytest.raises(OSError, match=r"the run run\.h5 needs 4\.0 MiB .* what is finished is kept") as caught:
        begin(path)
    assert caught.value.errno == errno.ENOSPC
    big = RowArray("residual/resid_post", "float32", (2, 2**18), layered=True)
    limit_disk(monkeypatch, 30 * 2**20)  # 7 rows of 2 MiB in segments, and once more in the run file
    with pytest.raises(OSError, match=r"the run run\.h5 needs 32\.3 MiB in .*, and 30\.0 MiB are free"):
        begin(path, arrays=[big])
    assert os.listdir(partial_folder(path)) == ["lock"]


def test_a_disk_that_filled_up_before_assembly_keeps_the_segments(path, monkeypatch):
    partial = begin(path)
    add(partial, 0, 1, 2)
    limit_disk(monkeypatch, 1000)
    with pytest.raises(OSError, match=r"assembling run\.h5 needs"):
        finish(partial)
    partial.close()
    assert not path.exists()
    monkeypatch.undo()
    resumed = begin(path)
    assert resumed.missing == []
    finish(resumed)
    require_finished(path)


def test_a_disk_that_fills_up_during_assembly_raises_and_keeps_the_segments(path, monkeypatch):
    write = os.pwrite

    def pwrite(handle: int, data: memoryview, offset: int) -> int:
        if offset >= 9000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data[: 9000 - offset], offset)

    partial = begin(path)
    add(partial, 0, 1, 2)
    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(OSError, match="No space left on device") as caught:
        finish(partial)
    (note,) = caught.value.__notes__
    assert note.startswith(f"while assembling {path} from its finished segments, which are kept in")
    monkeypatch.undo()
    partial.close()
    assert not path.exists()
    assert "assembling.h5" not in os.listdir(partial_folder(path))
    finish(begin(path))
    require_finished(path)


def test_the_run_file_is_synced_before_it_gets_its_name_and_a_failing_sync_is_told(path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace

    def failing_fsync(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    partial = begin(path)
    add(partial, 0, 1, 2)
    monkeypatch.setattr(os, "fsync", failing_fsync)
    with pytest.raises(OSError, match="No space left on device"):
        finish(partial)
    assert not path.exists()
    monkeypatch.setattr(os, "fsync", lambda handle: (steps.append("sync"), fsync(handle))[1])
    monkeypatch.setattr(os, "replace", lambda *paths: (steps.append("rename"), replace(*paths))[1])
    finish(partial)
    assert steps == ["sync", "rename", "sync"]
    require_finished(path)


def test_an_error_while_the_rest_is_written_leaves_no_run_file(path):
    def fail(file: h5py.File) -> None:
        raise ValueError("bad items")

    partial = begin(path)
    add(partial, 0, 1, 2)
    with pytest.raises(ValueError, match="bad items"):
        partial.assemble(fail)
    partial.close()
    assert not path.exists()
    finish(begin(path))
    require_finished(path)


def test_progress_is_none_where_there_is_no_run(path):
    assert progress_of(path) is None
    partial_folder(path).write_text("a file")
    assert progress_of(path) is None
    partial_folder(path).unlink()
    partial_folder(path).mkdir()
    assert progress_of(path) is None
    (partial_folder(path) / "run.json").write_text(json.dumps({"segments": 5}))
    assert progress_of(path) == (0, 5)

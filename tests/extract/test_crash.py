"""Kill a writer anywhere, fill its disk anywhere: it resumes to the very file of an undisturbed run.

One child interpreter runs each campaign. It imports once and forks a writer per experiment, so that dying is cheap.
"""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

WRITER = """
import errno, json, os, random, resource, shutil, signal, sys, time, traceback
from pathlib import Path
import h5py
import numpy as np
from doubtlens.extract.hdf5 import RowArray, datasets, dataset_digest, write_text
from doubtlens.extract.segments import PartialRun, partial_folder, remove_partial
from doubtlens.extract.store import open_run

os.fsync = lambda handle: None  # a kill loses nothing that was handed to the system
HOME = Path(sys.argv[1])
PATH = HOME / "runs" / "run.h5"
ROWS, WIDTH, PER_SEGMENT = 30, 40, 9
ORDER = np.random.default_rng(0).permutation(ROWS)
SEGMENTS = [sorted(ORDER[start : start + PER_SEGMENT].tolist()) for start in range(0, ROWS, PER_SEGMENT)]
ARRAYS = [
    RowArray("residual/resid_post", "bfloat16", (3, WIDTH), layered=True),
    RowArray("residual_at/labels/resid_post", "bfloat16", (3, 2, WIDTH), layered=True),
    RowArray("logits/final", "float32", (500,)),
    RowArray("scores/label_single", "float64", (4,)),
]

def rows_of(array, rows):
    rng = np.random.default_rng([len(array.path), *rows])
    return rng.integers(0, 30000, (len(rows), *array.shape)).astype(array.memory_dtype)

def static(file):
    write_text(file, "prompts/text", [f"question {row} " * 20 for row in range(ROWS)])

def work():
    # What extract does: a complete run is taken as it is, an unfinished one is resumed.
    PATH.parent.mkdir(exist_ok=True)
    if PATH.exists():
        open_run(PATH)
        return remove_partial(PATH)
    partial = PartialRun(PATH, {"model": "tiny"}, ARRAYS, SEGMENTS)
    try:
        for number in partial.missing:
            partial.add(number, {array.path: rows_of(array, SEGMENTS[number]) for array in ARRAYS})
        partial.assemble(static)
    finally:
        partial.close()

def digests():
    with h5py.File(PATH, "r") as file:
        return {path: dataset_digest(node) for path, node in datasets(file)}

def fork(body):
    pid = os.fork()
    if pid:
        return pid
    try:
        body()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

def outcome(pid):
    status = os.waitpid(pid, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

def fresh():
    shutil.rmtree(PATH.parent, ignore_errors=True)

def require_whole_or_absent():
    if PATH.exists():
        open_run(PATH).verify()
        assert digests() == EXPECTED

def require_resumed():
    work()
    assert os.listdir(PATH.parent) == ["run.h5"], os.listdir(PATH.parent)
    open_run(PATH).verify()
    assert digests() == EXPECTED

def count_steps(handler):
    # Every step that touches the disk by name; a kill at a step comes before it happens.
    steps = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.listdir", "shutil.rmtree"}
    state = {"step": 0}
    def hook(event, arguments):
        if event in steps and str(HOME) in str(arguments[0]):
            state["step"] += 1
            handler(state["step"])
    sys.addaudithook(hook)
    write = os.pwrite  # what the run file is written by; it raises no audit event
    def pwrite(*arguments):
        hook("open", [HOME])
        return write(*arguments)
    os.pwrite = pwrite

fresh()
assert outcome(fork(work)) == 0
EXPECTED = digests()
"""


def campaign(script: str, home: Path) -> dict[str, object]:
    """Run a script after `WRITER` in an interpreter of its own; its last line of output is JSON."""
    done = subprocess.run(
        [sys.executable, "-c", WRITER + textwrap.dedent(script), str(home)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_kill_before_any_step_on_disk_is_made_good(tmp_path):
    result = campaign(
        """
        read, write = os.pipe()
        fresh()
        def counted():
            count_steps(lambda step: os.write(write, b"."))
            work()
        assert outcome(fork(counted)) == 0
        total = len(os.read(read, 100000))

        def killed_at(number):
            count_steps(lambda step: os.kill(os.getpid(), signal.SIGKILL) if step == number else None)
            work()
        left = set()
        for number in range(1, total + 1):
            fresh()
            assert outcome(fork(lambda: killed_at(number))) == -signal.SIGKILL, number
            names = [file.name for file in PATH.parent.rglob("*")] if PATH.parent.exists() else []
            left |= {name if name.startswith(("run", "lock", "ass")) else name[-8:] for name in names}
            require_whole_or_absent()
            require_resumed()
        print(json.dumps({"total": total, "left": sorted(left)}))
        """,
        tmp_path,
    )
    assert result["total"] > 40
    # The kills came at every stage: descriptions, segments and run files half-written, whole, and being cleared away.
    assert {"run.json", "run.json.writing", ".writing", "assembling.h5", "run.h5", "run.h5.partial"} <= set(
        result["left"]
    )


def test_kills_at_any_time_in_a_row_are_made_good(tmp_path):
    result = campaign(
        """
        rng = random.Random(0)
        fresh()
        start = time.perf_counter()
        assert outcome(fork(work)) == 0
        duration = time.perf_counter() - start
        kills = resumed = finished = 0
        fresh()
        while kills < 40:
            pid = fork(work)
            time.sleep(rng.uniform(0, 0.8) * duration)
            os.kill(pid, signal.SIGKILL)
            kills += outcome(pid) == -signal.SIGKILL
            require_whole_or_absent()
            resumed += any(partial_folder(PATH).glob("segment-*"))
            if PATH.exists():
                require_resumed()
                finished += 1
                fresh()
        require_resumed()
        print(json.dumps({"kills": kills, "resumed": resumed, "finished": finished}))
        """,
        tmp_path,
    )
    assert result["kills"] == 40
    assert result["resumed"] > 5


def test_a_disk_that_is_full_anywhere_raises_cleanly_and_the_run_goes_on_with_room(tmp_path):
    result = campaign(
        """
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        final = PATH.stat().st_size
        fresh()
        partial = PartialRun(PATH, {"model": "tiny"}, ARRAYS, SEGMENTS)
        partial.add(0, {array.path: rows_of(array, SEGMENTS[0]) for array in ARRAYS})
        segment = next(partial_folder(PATH).glob("segment-*")).stat().st_size
        partial.close()
        begun = HOME / "begun"
        shutil.copytree(PATH.parent, begun)

        def limited(limit):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            try:
                work()
            except OSError as error:
                assert error.errno == errno.EFBIG, error
                (note,) = error.__notes__
                assert note.endswith("make room on that disk and run again"), note
                os._exit(7 if "assembling" in note else 6)

        limits = [0, 1, segment - 1, segment]
        limits += np.linspace(segment + 1, final - 1, 16).astype(int).tolist() + [final - 100, final - 1, final]
        outcomes = {}
        for limit in limits:
            fresh()
            shutil.copytree(begun, PATH.parent)
            outcomes[limit] = outcome(fork(lambda: limited(limit)))
            names = {file.name for file in PATH.parent.rglob("*")}
            assert "assembling.h5" not in names and not any(name.endswith(".writing") for name in names), names
            assert PATH.exists() == (outcomes[limit] == 0)
            require_whole_or_absent()
            done = sum(name.startswith("segment-") for name in names)
            assert done == {6: 1, 7: len(SEGMENTS), 0: 0}[outcomes[limit]], (limit, done)
            require_resumed()
        print(json.dumps({"outcomes": outcomes, "segment": segment, "final": final}))
        """,
        tmp_path,
    )
    segment, final = result["segment"], result["final"]
    assert final > 3 * segment
    for limit, outcome in result["outcomes"].items():
        assert outcome == (6 if int(limit) < segment else 7 if int(limit) < final else 0), limit

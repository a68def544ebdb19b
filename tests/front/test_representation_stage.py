"""The stage that asks more of the probes: what it leaves behind, what it reuses, what it leaves out and says so."""

import json

import numpy as np
import pandas as pd
import pytest

from doubtlens import open_run
from doubtlens.probes import load_probe
from doubtlens.settings_file import SettingsError, load_study
from doubtlens.study import run_study

RUN, TUNED = "tiny.made.two_shot", "tiny-it.made.two_shot"


def record(result, key):
    return json.loads((result.output / "stages" / f"represent.{key}.json").read_text(encoding="utf-8"))


def test_every_part_of_every_run_is_there(represented):
    _, result = represented
    steps = result.timings.query("stage == 'represent'")["key"].tolist()
    parts = ("untrained", "probes", "lens", "interventions")
    assert steps == [*(f"{run}.{part}" for run in (RUN, TUNED) for part in parts), "across"]
    for name in ("controls", "learning", "two_targets", "rsa", "lens", "interventions"):
        table = pd.read_parquet(result.output / f"{RUN}.{name}.parquet")
        assert set(table["model"]) == {"tiny"}
        assert len(table)
    for name in ("transfer", "geometry"):
        assert len(pd.read_parquet(result.output / f"across.{name}.parquet"))
    assert not any(record(result, step).get("details", {}).get("skipped") for step in steps)


def test_the_controls_have_the_folds_of_the_probes(represented):
    _, result = represented
    controls = pd.read_parquet(result.output / f"{RUN}.controls.parquet")
    layers = pd.read_parquet(result.output / f"{RUN}.layers.parquet")
    assert set(controls["target"]) == {"human_entropy_normalized", "correct"}
    assert {"untrained", "tfidf", "probe"} <= set(controls["control"])
    probe = controls.query("control == 'probe' and target == 'human_entropy_normalized'")["score"].item()
    nested = layers.query("target == 'human_entropy_normalized'")["nested_pearson"].iloc[0]
    assert probe == pytest.approx(nested, abs=1e-9)


def test_the_untrained_run_asks_the_same(represented):
    _, result = represented
    trained, untrained = open_run(result.output / f"{RUN}.h5"), open_run(result.output / f"{RUN}.untrained.h5")
    for field in ("items", "prompts", "tokens", "layers"):
        assert untrained.info[field] == trained.info[field]
    assert untrained.info["weights"] != trained.info["weights"]
    assert untrained.info["logits"] == "summary"
    assert f"{RUN}.untrained.h5" not in {path.name for path in result.runs}


def test_the_probes_that_were_moved_along_are_saved(represented):
    _, result = represented
    moved = pd.read_parquet(result.output / f"{RUN}.interventions.parquet")
    probe = load_probe(result.output / f"{RUN}.human_entropy_normalized.layer1.safetensors")
    assert (probe.layer, probe.site, probe.dataset) == (1, "resid_post", "made")
    assert set(moved["target"]) == {"human_entropy_normalized", "correct"}
    assert set(moved["layer"]) == {1}
    assert sorted(moved["dose"].dropna().unique()) == [-1.0, 0.0, 1.0]
    assert moved["item"].nunique() == 3


def test_the_page_has_the_sections(represented):
    _, result = represented
    page = result.report.read_text(encoding="utf-8")
    for section in ("Layers", "Behaviour against representation", "Two targets", "Interventions", "Other runs"):
        assert page.count(f'<h4 class="part">{section}</h4>') == 1
    assert "<h3>Across runs</h3>" in page
    for table in ("probe_controls", "learning", "behaviour", "incremental", "lens", "similarity", "two_targets"):
        assert f'id="table-{table}"' in page
    for table in ("interventions", "transfer", "geometry"):
        assert f'id="table-{table}"' in page
    drawn = {path.stem for path in (result.output / "figures").glob("*.svg")}
    assert {"transfer.human_entropy_normalized", "two_targets.tiny.made.two_shot"} <= drawn


def test_the_tables_of_the_findings_are_those_of_the_stage(represented):
    _, result = represented
    findings = result.findings
    controls = pd.concat([pd.read_parquet(result.output / f"{run}.controls.parquet") for run in (RUN, TUNED)])
    assert np.allclose(findings.probe_controls["score"], controls["score"], equal_nan=True)
    assert set(findings.interventions["direction"]) == {"none", "probe", "random"}
    assert set(findings.lens["layer"]) == {0, 1}
    assert set(findings.behaviour["target"]) == {"human_entropy_normalized", "correct"}
    assert len(findings.incremental) == 2 * (1 + 2)  # per model: human entropy, and correctness by scoring


def test_a_second_call_reuses_it_and_a_setting_redoes_its_part_alone(represented):
    settings, _ = represented
    again = run_study(settings, progress=False)
    assert again.timings["reused"].all()
    moved = json.loads(json.dumps(settings))
    moved["representation"]["interventions"]["items"] = 4
    steps = run_study(moved, stages=["represent"], progress=False).timings
    assert steps[~steps["reused"]]["key"].tolist() == [f"{RUN}.interventions", f"{TUNED}.interventions"]
    run_study(settings, progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probes": {"position": "labels"}}, r"`probes.position` must be one of the positions that are kept"),
        ({"representation": {"interventions": {"layers": "all"}}}, "must be 'best' or a list of layer numbers"),
        ({"representation": {"interventions": {"layers": [1, 1]}}}, "must name each layer once"),
        ({"representation": {"interventions": {"n_random": 0}}}, r"n_random` must be at least 1\. Got 0 instead"),
        ({"representation": {"controlls": True}}, "controls"),
    ],
)
def test_settings_that_cannot_be_are_refused(finished, changes, message):
    mapping, _ = finished
    with pytest.raises(SettingsError, match=message):
        load_study({**mapping, **changes})


def test_without_probes_there_is_nothing_to_ask(settings):
    settings["probes"] = {"enabled": False}
    settings["representation"] = {}
    steps = run_study(settings, stages=["probe", "represent"], progress=False).timings
    assert "represent" not in set(steps["stage"])


def test_what_the_data_cannot_support_is_left_out_by_name(settings, items_file, tmp_path):
    lines = [json.loads(line) for line in items_file.read_text(encoding="utf-8").splitlines()]
    bare = tmp_path / "bare.jsonl"
    bare.write_text("".join(json.dumps({**line, "answer": None, "respondents": None}) + "\n" for line in lines))
    settings |= {"output": str(tmp_path / "bare"), "questions": [{**settings["questions"][0], "items": str(bare)}]}
    settings["representation"] = {"untrained": False, "logit_lens": False, "interventions": {"enabled": False}}
    settings["questions"][0]["limit"] = 12  # so few that no number of options can be compared
    result = run_study(settings, progress=False)
    skipped = record(result, "tiny.bare-12.two_shot.probes")["details"]["skipped"]
    assert list(skipped) == ["two_targets", "rsa"]
    assert "correct" in skipped["two_targets"]
    controls = pd.read_parquet(result.output / "tiny.bare-12.two_shot.controls.parquet")
    assert set(controls["target"]) == {"human_entropy_normalized"}
    told = [warning.text for warning in result.findings.warnings if warning.code == "left_out"]
    assert len(told) == 2
    assert all(reason in text for reason, text in zip(skipped.values(), told, strict=True))

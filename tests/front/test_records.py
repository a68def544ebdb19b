"""Records of stages: seeds that do not move, reuse, and what has changed."""

import json

import pytest

from doubtlens.records import StageRecords, child_generator, write_json

INPUTS = {"run": "abc", "probes": {"n_splits": 3, "targets": ["correct"]}, "seed": 0}


@pytest.fixture
def records(tmp_path):
    (tmp_path / "table.parquet").write_bytes(b"12345")
    return StageRecords(tmp_path)


def written(records, inputs=INPUTS):
    return records.write(
        "probe", "m.d.p", inputs, outputs=[records.output / "table.parquet"], seconds=1.23456, details={"note": "x"}
    )


def draws(*name):
    return child_generator(*name).integers(0, 2**32, size=4).tolist()


def test_seeds_do_not_move_between_versions():
    # A study repeated with a later doubtlens draws the same numbers.
    assert draws(0, "probe", "m.d.p") == [1665929898, 4028240154, 3987036182, 788860103]


def test_every_stage_and_run_draws_for_itself():
    seen = [draws(0, "probe", "a"), draws(0, "probe", "b"), draws(0, "analyze", "a"), draws(1, "probe", "a")]
    assert len({tuple(values) for values in seen}) == 4
    assert draws(0, "probe", "a") == seen[0]
    # Stage and key are told apart from another split of the same letters.
    assert draws(0, "prob", "ea") != seen[0]


def test_a_record_is_found_by_its_inputs(records):
    record = written(records)
    assert record.seconds == 1.235
    assert record.outputs == {"table.parquet": 5}
    assert records.find("probe", "m.d.p", INPUTS) == record
    assert records.find("probe", "m.d.p", dict(reversed(INPUTS.items()))) == record
    assert records.find("probe", "m.d.p", INPUTS | {"seed": 1}) is None
    assert records.find("probe", "other", INPUTS) is None
    assert records.find("analyze", "m.d.p", INPUTS) is None


def test_a_record_counts_only_while_its_files_stand(records):
    written(records)
    path = records.output / "table.parquet"
    path.write_bytes(b"123456")
    assert records.find("probe", "m.d.p", INPUTS) is None
    path.unlink()
    assert records.find("probe", "m.d.p", INPUTS) is None


def test_a_damaged_record_is_as_good_as_none(records):
    written(records)
    path = records.path("probe", "m.d.p")
    for content in ("{", "[]", json.dumps({"stage": "probe"})):
        path.write_text(content, encoding="utf-8")
        assert records.read("probe", "m.d.p") is None
        assert records.changes("probe", "m.d.p", INPUTS) == []


def test_changes_are_named(records):
    written(records)
    changed = INPUTS | {"seed": 4, "probes": {"n_splits": 5, "targets": ["correct"], "site": None}}
    assert records.changes("probe", "m.d.p", changed) == ["probes.n_splits: 3 -> 5", "seed: 0 -> 4"]
    assert records.changes("probe", "m.d.p", INPUTS) == []


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "study.json"
    write_json(path, {"name": "é"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "é"}
    with pytest.raises(TypeError):
        write_json(path, {"name": object()})
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "é"}
    assert [entry.name for entry in path.parent.iterdir()] == ["study.json"]

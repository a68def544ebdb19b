"""Reading a run: bit-exact round trips, means over rotations, every kind of damage, and the examples of the format."""

import json
import os
import re
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp

from doubtlens.extract import extract, items_hash, validate_items
from doubtlens.extract.hdf5 import datasets, float32_from_bfloat16, is_bfloat16, write_text
from doubtlens.extract.segments import PartialRun, seal
from doubtlens.extract.statistics import logit_statistics
from doubtlens.extract.store import Run, open_run

STORAGES = ("float32", "float16", "bfloat16")
FORMAT_PAGE = Path(__file__).parents[2] / "docs" / "format.md"


@pytest.fixture(scope="module")
def made(made_run, tmp_path_factory):
    """A run file per storage, rotations and logits."""
    folder = tmp_path_factory.mktemp("runs")
    cases = [(storage, cyclic, "full") for storage in STORAGES for cyclic in (False, True)]
    cases += [("bfloat16", cyclic, "summary") for cyclic in (False, True)]
    return {
        case: made_run(folder / f"{'-'.join(map(str, case))}.h5", storage=case[0], cyclic=case[1], logits=case[2])
        for case in cases
    }


# What is written is read


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("cyclic", [False, True])
def test_every_layer_is_read_bit_for_bit(made, storage, cyclic):
    expected = made[storage, cyclic, "full"]
    run = open_run(expected.path)
    assert run.layers == [1, 4, 6]
    assert run.sites == ["resid_post"]
    for place, layer in enumerate(run.layers):
        values = run.residual(layer, per_row=True)
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, expected.residual[:, place])


@pytest.mark.parametrize("storage", STORAGES)
def test_plain_h5py_reads_the_same_residual_in_half_the_space(made, storage):
    expected = made[storage, False, "full"]
    with h5py.File(expected.path, "r") as file:
        dataset = file["residual/resid_post"]
        assert dataset.id.get_type().get_size() == (4 if storage == "float32" else 2)
        assert is_bfloat16(dataset) == (storage == "bfloat16")
        np.testing.assert_array_equal(dataset[()].astype(np.float32), expected.residual)
        assert dataset.chunks == (5, 1, 7)
        assert dataset.fletcher32


def test_logits_scores_items_and_prompts_are_those_that_were_written(made):
    expected = made["float32", False, "full"]
    run = open_run(expected.path)
    logits = run.logits()
    assert logits.shape == (5, 19)
    assert len(logits) == 5
    np.testing.assert_array_equal(logits[:], expected.columns["logits/final"])
    np.testing.assert_array_equal(logits[1:3], expected.columns["logits/final"][1:3])
    np.testing.assert_array_equal(np.stack(list(logits)), expected.columns["logits/final"])
    np.testing.assert_array_equal(np.concatenate(list(logits.blocks(2))), logits[:])
    for scoring in run.scorings:
        np.testing.assert_array_equal(run.choice_scores(scoring), expected.columns[f"scores/{scoring}"])
    np.testing.assert_array_equal(run.choice_scores(), run.choice_scores("label_single"))
    assert run.info == expected.info
    assert run.items["question"].tolist() == [record["question"] for record in expected.records]
    assert run.items["options"].tolist() == [record["options"] for record in expected.records]
    assert run.items["answer"].isna().tolist() == [False, False, True, False, False]
    assert str(run.items["answer"].dtype) == "Int64"
    assert run.items["respondents"].tolist() == [40, 41, 42, 43, 44]
    assert run.items["n_options"].tolist() == [2, 4, 3, 2, 3]
    assert run.items["prompt"].tolist() == expected.texts
    assert run.items.attrs["name"] == "animals"
    assert run.rows["n_tokens"].tolist() == [len(ids) for ids in expected.token_ids]
    assert [run.token_ids(row).tolist() for row in range(5)] == expected.token_ids
    assert "tiny on animals, two_shot, 5 items" in repr(run)


def test_statistics_of_full_logits_are_those_of_the_array_and_summary_reads_them_back(made):
    expected = made["float32", False, "full"]
    statistics = open_run(expected.path).statistics()
    whole = logit_statistics(expected.columns["logits/final"])
    assert set(statistics) == set(whole)
    for name, values in whole.items():
        np.testing.assert_array_equal(statistics[name], values)
    summary = made["bfloat16", False, "summary"]
    run = open_run(summary.path)
    np.testing.assert_array_equal(run.statistics()["total_entropy"], summary.columns["logits/statistics/total_entropy"])
    values, ids = run.largest_logits()
    np.testing.assert_array_equal(values, summary.columns["logits/largest_values"])
    np.testing.assert_array_equal(ids, summary.columns["logits/largest_ids"])


# Positions

POSITIONS = ("last", "question_last", "question_mean", "labels")


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("cyclic", [False, True])
def test_every_position_is_read_bit_for_bit_and_averaged_over_rotations(tmp_path, made_run, storage, cyclic):
    expected = made_run(tmp_path / "run.h5", storage=storage, cyclic=cyclic, positions=POSITIONS)
    run = open_run(expected.path)
    assert run.positions == list(POSITIONS)
    run.verify()
    require_documented(expected.path)
    for position in POSITIONS:
        path = "residual/resid_post" if position == "last" else f"residual_at/{position}/resid_post"
        stored = expected.columns[path]
        wide = float32_from_bfloat16(stored) if stored.dtype == np.uint16 else stored.astype(np.float32)
        rows, means = run.residual(4, position=position, per_row=True), run.residual(4, position=position)
        assert rows.dtype == means.dtype == np.float32
        np.testing.assert_array_equal(rows, wide[:, 1])
        assert means.shape == (5, 4, 7) if position == "labels" else (5, 7)
        for item, count in enumerate((2, 4, 3, 2, 3)):
            exact = wide[expected.item == item, 1].astype(np.float64).mean(axis=0)
            np.testing.assert_array_equal(means[item], exact.astype(np.float32))
            if position == "labels":
                assert np.isfinite(means[item, :count]).all()
                assert np.isnan(means[item, count:]).all()


def test_a_file_from_before_there_were_positions_holds_the_last_token(made):
    expected = made["float32", True, "full"]
    assert "positions" not in expected.info
    run = open_run(expected.path)
    assert run.positions == ["last"]
    np.testing.assert_array_equal(run.residual(4, position="last"), run.residual(4))
    with pytest.raises(ValueError, match=r"unknown position 'labels'.* Known: last"):
        run.residual(4, position="labels")


def test_an_unknown_position_is_answered_with_those_that_are_there(tmp_path, made_run):
    run = open_run(made_run(tmp_path / "run.h5", positions=("last", "question_mean")).path)
    with pytest.raises(
        ValueError, match=r"unknown position 'question_men'\. Did you mean 'question_mean'\? Known: last, "
    ):
        run.residual(4, position="question_men")


# Rotations


def test_an_items_residual_and_statistics_are_means_over_its_rotations(made):
    for case in made:
        if case[1]:
            expected = made[case]
            residual = open_run(expected.path).residual(4)
            assert residual.dtype == np.float32
            for item in range(5):
                mine = expected.item == item
                assert mine.sum() == (2, 4, 3, 2, 3)[item]
                exact = expected.residual[mine, 1].astype(np.float64).mean(axis=0)
                np.testing.assert_array_equal(residual[item], exact.astype(np.float32))
    expected = made["bfloat16", True, "summary"]
    run = open_run(expected.path)
    entropy = expected.columns["logits/statistics/total_entropy"]
    means = [entropy[expected.item == item].mean() for item in range(5)]
    np.testing.assert_allclose(run.statistics()["total_entropy"], means, rtol=1e-15)
    assert run.rows["rotation"].tolist() == [0, 1, 0, 1, 2, 3, 0, 1, 2, 0, 1, 0, 1, 2]
    assert run.items["prompt"].tolist() == [expected.texts[row] for row in (0, 2, 6, 9, 11)]
    assert len(run.residual(4, per_row=True)) == 14


@pytest.mark.parametrize("scoring", ["label_single", "label_variants"])
def test_an_items_scores_are_means_of_renormalised_log_probabilities(made, scoring):
    expected = made["float32", True, "full"]
    run = open_run(expected.path)
    rows = expected.columns[f"scores/{scoring}"]
    np.testing.assert_array_equal(run.choice_scores(scoring, per_row=True), rows)
    scores = run.choice_scores(scoring)
    for item, count in enumerate((2, 4, 3, 2, 3)):
        mine = rows[expected.item == item][:, :count]
        np.testing.assert_allclose(scores[item, :count], (mine - logsumexp(mine, axis=1)[:, None]).mean(axis=0), 1e-14)
        assert np.isnan(scores[item, count:]).all()


def test_rotations_of_a_case_solved_by_hand(tmp_path, made_run, monkeypatch):
    path = made_run(tmp_path / "run.h5", cyclic=True).path
    with h5py.File(path, "r+") as file:
        scores, residual = file["scores/label_single"], file["residual/resid_post"]
        scores[0:2] = np.log([[0.3, 0.1, np.nan, np.nan], [0.2, 0.2, np.nan, np.nan]])
        residual[0:2, 0] = [[1.0] * 7, [4.0] * 7]
    run = open_run(path)
    # Renormalised: (3/4, 1/4) and (1/2, 1/2).
    expected = [np.log(3 / 8) / 2, np.log(1 / 8) / 2]
    np.testing.assert_allclose(run.choice_scores()[0], [*expected, np.nan, np.nan], rtol=1e-15)
    np.testing.assert_array_equal(run.residual(1)[0], [2.5] * 7)


# What a run does not hold


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda run: run.residual(5), "unknown layer 5"),
        (lambda run: run.residual(4, "resid_pst"), "unknown site 'resid_pst'. Did you mean 'resid_post'"),
        (lambda run: run.choice_scores("label_singel"), "Did you mean 'label_single'"),
        (lambda run: run.largest_logits(), 'holds the full logits (logits="full"): take them from logits()'),
    ],
)
def test_what_a_run_does_not_hold_is_refused_by_name(made, ask, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ask(open_run(made["float32", False, "full"].path))


def test_full_logits_of_a_summary_run_are_refused_with_the_mend(made):
    with pytest.raises(ValueError, match=r"holds no full logits: use statistics\(\) or largest_logits\(\)"):
        open_run(made["bfloat16", False, "summary"].path).logits()


# Damage


def flip(path: Path, dataset: str, copy: Path) -> None:
    """Change one stored byte of a dataset, around HDF5 and its checksums where the value can be found in the file."""
    content = bytearray(path.read_bytes())
    with h5py.File(path, "r") as file:
        node = file[dataset]
        if h5py.check_string_dtype(node.dtype):
            text = np.atleast_1d(node.asstr()[()])[0].encode()
            where = content.find(text) + len(text) // 2
        elif node.chunks:
            where = node.id.get_chunk_info(0).byte_offset + 1
        else:
            where = node.id.get_offset() + 1
    content[where] ^= 1
    copy.write_bytes(content)


@pytest.mark.parametrize("case", [("bfloat16", True, "full"), ("bfloat16", False, "summary")])
def test_verify_finds_a_flipped_byte_in_every_dataset_by_name(made, tmp_path, case):
    path, copy = made[case].path, tmp_path / "copy.h5"
    open_run(path).verify()
    with h5py.File(path, "r") as file:
        names = [name for name, _ in datasets(file) if name != "manifest"]
    assert len(names) == {"full": 12, "summary": 14}[case[2]]
    for name in names:
        flip(path, name, copy)
        with pytest.raises(ValueError, match=rf"copy\.h5: {name} is (damaged|not what was written)"):
            open_run(copy).verify()


@pytest.mark.parametrize("name", ["prompts/item", "scores/label_single", "residual/resid_post", "prompts/text"])
def test_verify_finds_a_value_that_was_changed_with_right_checksums(made_run, tmp_path, name):
    path = made_run(tmp_path / "run.h5", storage="bfloat16").path
    with h5py.File(path, "r+") as file:
        file[name][0] = "other" if name == "prompts/text" else file[name][0] + 1
    with pytest.raises(ValueError, match=f"{name} is not what was written: its sha256 differ"):
        open_run(path).verify()


@pytest.mark.parametrize("node", ["/", "/prompts", "/residual", "prompts/item", "scores/label_single"])
def test_verify_finds_an_attribute_that_was_added_or_changed(made_run, tmp_path, node):
    path = made_run(tmp_path / "run.h5").path
    with h5py.File(path, "r+") as file:
        file[node].attrs["note"] = "by hand"
    with pytest.raises(ValueError, match=f"{node} is not what was written: its attributes differ"):
        open_run(path).verify()
    if node.startswith("/"):
        with h5py.File(path, "r+") as file:
            del file[node].attrs["note"]
            open_run(path).verify()
            file[node].attrs["version"] = 0
        with pytest.raises(ValueError, match=f"{node} is not what was written: its attributes differ"):
            open_run(path).verify()


def test_verify_finds_datasets_that_are_missing_added_or_of_another_type(made_run, tmp_path):
    path = made_run(tmp_path / "run.h5").path
    with h5py.File(path, "r+") as file:
        file["extra"] = 1
        del file["prompts/order"]
    with pytest.raises(ValueError, match=re.escape("the datasets ['extra', 'prompts/order'] are not what")):
        open_run(path).verify()
    with h5py.File(path, "r+") as file:
        del file["extra"]
        file["prompts/order"] = np.zeros(3, dtype=np.int16)
    with pytest.raises(ValueError, match="prompts/order is not what was written: its dtype and sha256 and shape"):
        open_run(path).verify()


@pytest.mark.parametrize("name", ["manifest", "info"])
def test_json_that_is_damaged_is_named(made_run, tmp_path, name):
    path = made_run(tmp_path / "run.h5").path
    with h5py.File(path, "r+") as file:
        file[name][()] = '{"datasets": '
    run = open_run(path)
    with pytest.raises(ValueError, match=f"{name} is damaged, it is no JSON"):
        run.verify() if name == "manifest" else run.info


def test_a_flipped_byte_is_never_read_as_data(made, tmp_path):
    path, copy = made["bfloat16", True, "full"].path, tmp_path / "copy.h5"
    for name, read in [
        ("residual/resid_post", lambda run: run.residual(1)),
        ("scores/label_single", lambda run: run.choice_scores()),
        ("logits/final", lambda run: run.logits()[:]),
    ]:
        flip(path, name, copy)
        with pytest.raises(ValueError, match=r"copy\.h5 cannot be read .* truncated or damaged: copy it again"):
            read(open_run(copy))


# What is no run file


def test_a_missing_file_a_folder_and_a_text_file_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no run file .*none\.h5"):
        open_run(tmp_path / "none.h5")
    with pytest.raises(ValueError, match="is a folder, not a run file"):
        open_run(tmp_path)
    for content in (b"", b"HDF", b"id,question\n1,What?\n"):
        (tmp_path / "text.h5").write_bytes(content)
        with pytest.raises(ValueError, match="is not an HDF5 file, so not a run file of doubtlens"):
            open_run(tmp_path / "text.h5")


@pytest.mark.parametrize("kind", [None, "anndata", 3, ["doubtlens-run", "x"]])
def test_a_foreign_hdf5_file_is_refused(tmp_path, kind):
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 1
        if kind is not None:
            file.attrs["format"] = kind
    with pytest.raises(ValueError, match=r"is an HDF5 file, but not a run file of doubtlens: its attribute 'format'"):
        open_run(tmp_path / "foreign.h5")


@pytest.mark.parametrize("version", [2, 99, "1", None])
def test_a_newer_format_is_refused_with_both_versions(made_run, tmp_path, version):
    path = made_run(tmp_path / "run.h5").path
    with h5py.File(path, "r+") as file:
        del file.attrs["format_version"]
        if version is not None:
            file.attrs["format_version"] = version
    with pytest.raises(ValueError, match=rf"has format version {version}, and this doubtlens reads up to 1: update"):
        open_run(path)


@pytest.mark.parametrize("complete", [None, False])
def test_a_file_that_is_not_marked_complete_is_refused(made_run, tmp_path, complete):
    path = made_run(tmp_path / "run.h5").path
    with h5py.File(path, "r+") as file:
        del file.attrs["complete"]
        if complete is not None:
            file.attrs["complete"] = complete
    with pytest.raises(ValueError, match="was never finished: it is not marked complete"):
        open_run(path)


def test_complete_is_written_after_everything_else(tmp_path, monkeypatch):
    states = []
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["prompts/item"] = [1]
        monkeypatch.setattr(
            "doubtlens.extract.segments.write_text",
            lambda *arguments: (states.append("complete" in file.attrs), write_text(*arguments))[1],
        )
        seal(file)
        assert states == [False]
        assert file.attrs["complete"]
        assert file["prompts"].attrs["version"] == file.attrs["version"] == file.attrs["format_version"] == 1
        assert "manifest" not in json.loads(file["manifest"].asstr()[()])["datasets"]


def test_a_run_still_being_written_says_how_far_it_is(tmp_path):
    path = tmp_path / "run.h5"
    partial = PartialRun(path, {"model": "tiny"}, [], [[0, 1], [2], [3]])
    try:
        for done in range(3):
            with pytest.raises(FileNotFoundError, match=f"still being written, or was interrupted: {done} of 3"):
                open_run(path)
            partial.add(done, {})
    finally:
        partial.close()


def test_a_truncated_file_is_refused_wherever_it_is_cut(made, tmp_path):
    content = made["bfloat16", True, "full"].path.read_bytes()
    cut = tmp_path / "cut.h5"
    cuts = {*range(0, 100, 7), *np.linspace(100, len(content) - 1, 120, dtype=int).tolist(), len(content) - 1}
    for size in sorted(cuts):
        cut.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"cut\.h5 (cannot be read as|cannot be read|is not an HDF5 file)"):
            open_run(cut)
    cut.write_bytes(content)
    open_run(cut).verify()


def test_a_file_that_may_not_be_read_says_so(made, tmp_path, monkeypatch):
    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(PermissionError, match="Permission denied"):
        open_run(made["float32", False, "full"].path)


def test_a_run_keeps_nothing_open(made_run, tmp_path):
    made = made_run(tmp_path / "run.h5")
    run = open_run(made.path)
    values, logits = run.residual(1), run.logits()
    with h5py.File(made.path, "r+") as file:  # HDF5 would refuse, were it still open for reading
        file.attrs["note"] = 1
    os.rename(made.path, tmp_path / "moved.h5")
    np.testing.assert_array_equal(Run(tmp_path / "moved.h5").residual(1), values)
    with pytest.raises(FileNotFoundError):
        logits[:]


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
@pytest.mark.parametrize("column", ["question", "options"])
def test_text_that_no_run_file_can_hold_is_refused_before_anything_is_asked(column, text):
    record = {"question": "Which?", "options": ["yes", "no"], column: text if column == "question" else ["yes", text]}
    message = rf"row 1 .*The {column} must be text without zero bytes and lone surrogates. Got {re.escape(repr(text))}"
    with pytest.raises(ValueError, match=message):
        validate_items(pd.DataFrame([record], dtype=object))


# The page that specifies it


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("logits", ["full", "summary"])
def test_the_examples_of_the_format_page_run_with_h5py_and_numpy_alone(
    made_run, tmp_path, monkeypatch, storage, logits
):
    made = made_run(tmp_path / "run.h5", storage=storage, cyclic=True, logits=logits)
    monkeypatch.chdir(tmp_path)
    reading, verifying = re.findall(r"```python\n(.*?)```", FORMAT_PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert "doubtlens" not in (reading + verifying).replace("doubtlens-run", "")
    names: dict[str, object] = {}
    exec(reading, names)
    np.testing.assert_array_equal(names["residual"], made.residual[:, 2])
    np.testing.assert_array_equal(names["scores"], made.columns["scores/label_single"])
    assert names["items"] == made.records
    np.testing.assert_array_equal(names["item_of_row"], made.item)
    exec(verifying, {})
    with h5py.File("run.h5", "r+") as file:
        file["prompts/order"][0, 0] += 1
    with pytest.raises(AssertionError, match="prompts/order"):
        exec(verifying, {})


@pytest.mark.parametrize(
    ("prompt", "logits", "positions"),
    [("two_shot", "full", ["last"]), ("two_shot", "summary", POSITIONS), ("open_two_shot", "summary", POSITIONS[:3])],
)
def test_what_extract_writes_is_what_the_format_page_says(tiny, tmp_path, monkeypatch, prompt, logits, positions):
    items = pd.DataFrame(
        {
            "question": ["What is red?", "Was heißt »là«?", "Left out?"],
            "options": [["blood", "snow", "grass"], ["there", "here"], ["a", "b"]],
            "responses": [[1 / 3, 2 / 3, 0.1 + 0.2], None, [1, 2]],
            "response_time_ms": [1234.5678901234567, None, 3.0],
            "excluded": [None, None, "for 日本"],
            "note": ["a\0b", "è", "c"],
            "year": [1999, 2000, 2001],
        }
    )
    monkeypatch.chdir(tmp_path)
    model = tiny("llama", "bfloat16")
    settings = {"prompt": prompt, "logits": logits, "positions": positions, "sites": ["resid_post", "mlp_out"]}
    run = extract(model, items, "run.h5", **settings, self_test=False, progress=False)
    run.verify()
    assert run.positions == list(positions)
    asked = validate_items(items).iloc[:2]
    assert items_hash(run.items) == items_hash(asked)
    assert run.items["note"].tolist() == ["a\0b", "è"]
    assert run.items["year"].tolist() == [1999, 2000]
    page = FORMAT_PAGE.read_text(encoding="utf-8")
    for example in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(example, {})
    fields = re.search(r"^## `info`$(.*?)^## ", page, re.DOTALL | re.MULTILINE)[1]
    documented = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", fields, re.MULTILINE)))
    assert sorted(documented) == sorted(run.info)
    require_documented(run.path)


def require_documented(path: Path) -> None:
    """Every dataset of the file stands in the page's table once, with its dtype."""
    table = dict(re.findall(r"^\| `([\w/{}]+)` \| ([^|]+) \|", FORMAT_PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    patterns = {re.compile(re.sub(r"\\{\w+\\}", r"[\\w.]+", re.escape(path))): kind for path, kind in table.items()}
    with h5py.File(path, "r") as file:
        manifest = json.loads(file["manifest"].asstr()[()])["datasets"]
    for name, entry in manifest.items():
        kinds = [kind for pattern, kind in patterns.items() if pattern.fullmatch(name)]
        assert len(kinds) == 1, name
        assert entry["dtype"].replace("utf-8", "UTF-8") in kinds[0], name


def test_every_dataset_of_a_made_run_stands_on_the_format_page(made):
    for expected in made.values():
        require_documented(expected.path)

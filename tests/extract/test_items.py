import math

import numpy as np
import pandas as pd
import pytest

from doubtlens.extract.datasets import load_items
from doubtlens.extract.items import ITEM_COLUMNS, items_hash, validate_items


def table(**columns):
    base = {
        "id": ["q1", "q2"],
        "question": ["Which is it?", "And now?"],
        "options": [["yes", "no"], ["red", "green", "blue"]],
    }
    frame = pd.DataFrame({**base, **columns})
    return frame.loc[:, [name for name in frame.columns if not (name in columns and columns[name] is None)]]


def test_documented_columns_come_first_and_absent_ones_are_empty():
    items = validate_items(table(year=[2001, 2002]))
    assert tuple(items.columns) == (*ITEM_COLUMNS, "year")
    assert items["answer"].dtype == "Int64"
    assert items["respondents"].dtype == "Int64"
    for name in ITEM_COLUMNS[3:]:
        assert items[name].isna().all()
    assert items["subject"].tolist() == [None, None]
    assert isinstance(items.index, pd.RangeIndex)


def test_a_full_item_keeps_its_values():
    items = validate_items(
        table(
            answer=[0, None],
            responses=[[3, 1], None],
            respondents=[4, None],
            subject=["a", None],
            excluded=[None, "why not"],
            accepted=[["yes", "yep"], None],
            recall_correct=[0.5, None],
            response_time_ms=[1200, None],
        )
    )
    first = items.loc[0]
    assert (first["answer"], first["responses"], first["respondents"]) == (0, [3.0, 1.0], 4)
    assert (first["subject"], first["excluded"], first["accepted"]) == ("a", None, ["yes", "yep"])
    assert items["recall_correct"].dtype == items["response_time_ms"].dtype == np.float64
    second = items.loc[1]
    assert second["answer"] is pd.NA
    assert second["responses"] is None
    assert second["excluded"] == "why not"


def test_validating_twice_changes_nothing():
    for name in ("knowledge", "opinions"):
        once = load_items(name)
        twice = validate_items(once)
        pd.testing.assert_frame_equal(once, twice)
        assert twice.attrs == once.attrs


def test_arrays_and_missing_values_of_every_kind_are_read():
    items = validate_items(
        table(
            options=[np.array(["yes", "no"], dtype=object), ("red", "green", "blue")],
            answer=pd.array([1, pd.NA], dtype="Int64"),
            responses=[np.array([1, 2]), math.nan],
            subject=pd.Series(["a", None], dtype="str"),
        )
    )
    assert items.loc[0, "options"] == ["yes", "no"]
    assert items.loc[1, "options"] == ["red", "green", "blue"]
    assert items["responses"].tolist() == [[1.0, 2.0], None]
    assert items["subject"].tolist() == ["a", None]


def test_index_and_input_are_left_alone():
    frame = table().set_index(pd.Index([7, 9]))
    before = frame.copy()
    assert validate_items(frame).index.tolist() == [0, 1]
    pd.testing.assert_frame_equal(frame, before)


def test_ids_are_made_only_when_the_column_is_absent():
    assert validate_items(table(id=None))["id"].tolist() == ["item-0001", "item-0002"]
    with pytest.raises(ValueError, match="leave the id column out altogether"):
        validate_items(table(id=["q1", None]))
    many = pd.DataFrame({"question": ["?"] * 10_000, "options": [["a", "b"]] * 10_000})
    assert validate_items(many)["id"].iloc[[0, -1]].tolist() == ["item-00001", "item-10000"]


def test_integer_ids_become_strings():
    assert validate_items(table(id=[10, 11]))["id"].tolist() == ["10", "11"]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([1, 2], [1, 2]),
        ([1.0, None], [1, None]),
        (["1", "2"], [1, 2]),
        (["B", "C"], [1, 2]),
        (["B.", "A)"], [1, 0]),
        (["no", "blue"], [1, 2]),
        (["A", "blue"], [0, 2]),  # no single way of writing fits both: each for itself
        ([1, "blue"], [1, 2]),
        ([None, None], [None, None]),
    ],
)
def test_an_answer_is_an_index_a_letter_or_a_text(answers, expected):
    found = validate_items(table(answer=pd.Series(answers, dtype=object)))["answer"]
    assert [None if value is pd.NA else value for value in found] == expected


def test_the_way_of_writing_that_fits_the_whole_table_decides():
    options = [["B", "A", "C"], ["x", "y", "z"]]
    letters = validate_items(table(options=options, answer=["A", "C"]))
    assert letters["answer"].tolist() == [0, 2]
    texts = validate_items(table(options=options, answer=["A", "z"]))
    assert texts["answer"].tolist() == [1, 2]
    numbers = validate_items(table(options=[["1", "2", "3"], ["5", "6", "7"]], answer=["1", "7"]))
    assert numbers["answer"].tolist() == [0, 2]


def test_an_answer_that_reads_in_two_ways_is_refused():
    with pytest.raises(ValueError, match=r"'q1'\): The answer must name one option\. Got '1' .* \['1', '2'\]\. Write"):
        validate_items(table(options=[["1", "2", "0"], ["1", "2", "0"]], answer=["1", "2"]))
    # Neither letters nor texts fit all three, so "A" could be the first option or the second.
    mixed = pd.DataFrame(
        {"question": ["?"] * 3, "options": [["B", "A"], ["x", "y"], ["u", "v"]], "answer": ["A", "B", "v"]}
    )
    with pytest.raises(ValueError, match=r"'item-0001'\): The answer must name one option\. Got 'A' .* \['B', 'A'\]"):
        validate_items(mixed)


BAD = {
    "question empty": ({"question": ["", "b"]}, r"row 1 \(item 'q1'\): The question must be a non-empty string"),
    "question blank": ({"question": ["a", " \n"]}, r"row 2 \(item 'q2'\): The question must be a non-empty string"),
    "question number": ({"question": pd.Series([5, "b"], dtype=object)}, r"The question .* Got 5 \(int\) instead"),
    "question missing": ({"question": ["a", None]}, r"\(item 'q2'\): The question .* Got nan instead|Got None instead"),
    "options text": ({"options": [["a", "b"], "a, b"]}, r"The options must be a list of strings\. Got 'a, b' instead"),
    "options missing": ({"options": [["a", "b"], None]}, r"The options must be a list of strings\. Got None instead"),
    "one option": ({"options": [["a"], ["a", "b"]]}, r"'q1'\): The options must be 2 to 26 strings\. Got 1 instead"),
    "27 options": (
        {"options": [["a", "b"], [str(number) for number in range(27)]]},
        r"'q2'\): The options must be 2 to 26 strings\. Got 27 instead",
    ),
    "option empty": (
        {"options": [["a", ""], ["a", "b"]]},
        r"non-empty .* Got '' as option 1 \(counted from 0\)",
    ),
    "option number": ({"options": [["a", 3], ["a", "b"]]}, r"non-empty strings\. Got 3 as option 1"),
    "option null": ({"options": [[None, "a"], ["a", "b"]]}, r"non-empty strings\. Got None as option 0"),
    "options repeated": (
        {"options": [["a", "b", "a "], ["a", "b"]]},
        r"'q1'\): The options must differ .* Got 'a' 2 times instead\. .*excluded column",
    ),
    "id repeated": ({"id": ["x", "x"]}, r"row 2: The id must be unique\. Got 'x' again, first seen at row 1"),
    "id empty": ({"id": ["x", ""]}, r"row 2: The id must be a non-empty string or an integer\. Got ''"),
    "id float": ({"id": [1.5, 2.5]}, r"row 1: The id must be .* Got 1\.5"),
    "answer too large": ({"answer": [2, 0]}, r"'q1'\): The answer must be an index from 0 to 1 .* Got 2 instead"),
    "answer negative": ({"answer": [0, -1]}, r"'q2'\): The answer must be an index from 0 to 2 .* Got -1 .*null"),
    "answer fraction": ({"answer": [0.5, 1]}, r"The answer must be an index .* Got 0\.5"),
    "answer bool": ({"answer": [True, False]}, r"The answer must be an index .* Got True"),
    "answer letter": ({"answer": ["C", "A"]}, r"'q1'\): The answer .* a letter from A to B, .* Got 'C'"),
    "answer text": ({"answer": ["yess", "red"]}, r"Got 'yess' instead\. Did you mean 'yes'\?"),
    "answer index text": ({"answer": ["2", "2"]}, r"'q1'\): The answer must be an index from 0 to 1, .* Got '2'"),
    "responses short": (
        {"responses": [[1, 2], [1, 2]]},
        r"'q2'\): The responses must be as many as the options \(3\)\. Got 2",
    ),
    "responses negative": ({"responses": [[1, -2], None]}, r"at least 0\. Got -2 for option 1 \(counted from 0\)"),
    "responses NaN": ({"responses": [[math.nan, 2], None]}, r"finite numbers of at least 0\. Got nan for option 0"),
    "responses infinite": ({"responses": [[1, math.inf], None]}, r"Got inf for option 1"),
    "responses text": ({"responses": [["1", 2], None]}, r"Got '1' for option 0"),
    "responses bool": ({"responses": [[True, 2], None]}, r"Got True for option 0"),
    "responses zero": ({"responses": [[0, 0.0], None]}, r"'q1'\): The responses must not all be zero"),
    "responses number": ({"responses": [3.5, None]}, r"The responses must be a list of 2 numbers or null\. Got 3\.5"),
    "respondents zero": ({"respondents": [0, 5]}, r"'q1'\): The respondents must be a whole number .* Got 0"),
    "respondents fraction": ({"respondents": [1.5, 5]}, r"The respondents .* Got 1\.5"),
    "respondents text": ({"respondents": ["many", None]}, r"The respondents .* Got 'many'"),
    "respondents infinite": ({"respondents": [math.inf, 2]}, r"The respondents .* Got inf"),
    "subject number": ({"subject": pd.Series([3, "a"], dtype=object)}, r"The subject must be .* Got 3 \(int\)"),
    "excluded empty": ({"excluded": ["", "a"]}, r"The excluded must be a non-empty string\. Got '' instead"),
    "excluded bool": ({"excluded": [True, None]}, r"The excluded must be .* Got True \(bool\)"),
    "accepted text": ({"accepted": ["yes", None]}, r"The accepted answers must be a list .* Got 'yes'"),
    "accepted empty": (
        {"accepted": [[], None]},
        r"The accepted answers must be a list of .* Got \[\]",
    ),
    "recall": ({"recall_correct": [1.2, None]}, r"The recall_correct must be a share in \[0, 1\]\. Got 1\.2"),
    "time": ({"response_time_ms": [0, 5]}, r"The response_time_ms must be a positive number of milliseconds\. Got 0"),
    "time text": ({"response_time_ms": ["slow", None]}, r"The response_time_ms must be .* Got 'slow'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_items_are_refused_with_place_and_mend(case):
    columns, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        validate_items(table(**columns), origin="my.csv")
    assert str(caught.value).startswith("my.csv, row ")


def test_repeated_options_are_kept_where_excluded_says_why():
    items = validate_items(table(options=[["a", "a"], ["a", "b"]], excluded=["the source repeats one", None]))
    assert items.loc[0, "options"] == ["a", "a"]


def test_several_problems_are_listed_at_once():
    frame = pd.DataFrame({"question": ["?"] * 8, "options": [["only"]] * 7 + [["a", "b"]]})
    with pytest.raises(ValueError, match="more like these") as caught:
        validate_items(frame)
    lines = str(caught.value).splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("the items table, row 1 (item 'item-0001'): The options")
    assert lines[-1] == "... and 2 more like these."


def test_tables_without_the_columns_or_rows_are_refused():
    with pytest.raises(ValueError, match=r"must have a column 'question'\. Got the columns \['options'\]"):
        validate_items(pd.DataFrame({"options": [["a", "b"]]}))
    with pytest.raises(ValueError, match="must have a column 'options'"):
        validate_items(pd.DataFrame({"question": ["?"]}))
    with pytest.raises(ValueError, match="must hold at least one item"):
        validate_items(table().head(0))
    with pytest.raises(ValueError, match="must not name a column twice"):
        validate_items(pd.concat([table(), table()[["id"]]], axis=1))
    with pytest.raises(TypeError, match=r"must be a pandas\.DataFrame\. Got list"):
        validate_items([{"question": "?"}])


def test_extra_columns_get_the_type_that_fits():
    items = validate_items(
        table(
            year=[2000, None],
            share=[0.5, 1],
            sure=[True, None],
            note=["a", None],
            card=[{"C1": 1}, None],
            big=[2**70, 1],
        )
    )
    dtypes = items.dtypes.astype(str).to_dict()
    assert (dtypes["year"], dtypes["share"], dtypes["sure"]) == ("float64", "float64", "boolean")
    assert items["note"].tolist() == ["a", None]
    assert items["card"].tolist() == [{"C1": 1}, None]
    assert items["big"].tolist() == [2**70, 1]


def test_hash_is_that_of_the_canonical_lines():
    import hashlib

    frame = table(answer=[1, None], responses=[[3, 1], None])
    lines = (
        '["q1","Which is it?",["yes","no"],1.0,[3.0,1.0],null,null,null,null,null,null]\n'
        '["q2","And now?",["red","green","blue"],null,null,null,null,null,null,null,null]\n'
    )
    assert items_hash(validate_items(frame)) == hashlib.sha256(lines.encode()).hexdigest()


def test_hash_depends_on_content_and_row_order_alone(tmp_path):
    items = load_items("knowledge")
    known = items_hash(items)
    assert items_hash(items[items.columns[::-1]]) == known
    assert items_hash(items.set_index(items.index + 5)) == known
    assert items_hash(items.drop(columns=["note", "source"])) == known
    assert items_hash(items.astype({"answer": "float64", "respondents": "float64", "subject": "str"})) == known
    items.drop(columns="note").to_parquet(tmp_path / "items.parquet")
    assert items_hash(pd.read_parquet(tmp_path / "items.parquet")) == known

    assert items_hash(items.iloc[::-1]) != known
    assert items_hash(items.iloc[:-1]) != known
    for name, value in {
        "id": "other",
        "question": "Other?",
        "answer": 0,
        "respondents": 50,
        "subject": "other",
        "excluded": "other",
        "recall_correct": 0.5,
        "response_time_ms": 1.0,
    }.items():
        changed = items.copy()
        changed.loc[0, name] = value
        assert items_hash(changed) != known, name
    for name, value in {"options": list("abcd"), "responses": [1.0, 1.0, 1.0, 1.0], "accepted": ["other"]}.items():
        changed = items.copy()
        changed.at[0, name] = value
        assert items_hash(changed) != known, name


def test_hash_of_a_foreign_table_is_refused():
    with pytest.raises(ValueError, match=r"must have the columns \['id', 'options'\]; call validate_items first"):
        items_hash(pd.DataFrame({"question": ["?"]}))

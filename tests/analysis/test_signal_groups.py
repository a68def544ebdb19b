"""What the labelled statistics ask of a table: keys, columns, numbers; and the wording of each refusal."""

import numpy as np
import pandas as pd
import pytest

from doubtlens.analysis.tables import (
    column_names,
    groups,
    join_reasons,
    numbers,
    present_rows,
    require_columns,
    shared_items,
)


def make_table():
    return pd.DataFrame(
        {
            "model": ["b", "b", "a", "a"],
            "scoring": ["label_single"] * 4,
            "item": [1, 0, 0, 1],
            "choice_entropy": [0.1, 0.2, 0.3, 0.4],
        },
        index=[10, 11, 12, 13],
    )


def test_groups_keep_their_order_and_sort_their_items():
    found = list(groups(make_table(), caller="f"))
    assert [keys for keys, _ in found] == [
        {"model": "b", "scoring": "label_single"},
        {"model": "a", "scoring": "label_single"},
    ]
    assert [list(frame["choice_entropy"]) for _, frame in found] == [[0.2, 0.1], [0.3, 0.4]]
    assert list(found[0][1].index) == [11, 10]


def test_a_missing_key_value_is_a_group_of_its_own():
    table = make_table().assign(nucleus=["inclusive", None, None, np.nan])
    assert [len(frame) for _, frame in groups(table, caller="f")] == [1, 1, 2]


def test_without_keys_or_rows():
    table = make_table().drop(columns=["model", "scoring"]).head(2)
    ((keys, frame),) = groups(table, caller="f")
    assert keys == {}
    assert len(frame) == 2
    assert list(groups(make_table().head(0), caller="f")) == []


def test_items_may_mix_numbers_and_names_and_the_index_may_repeat():
    table = make_table().assign(item=["b", 2, "c", "a"]).set_index(pd.Index([0, 0, 0, 0]))
    assert [list(frame["item"]) for _, frame in groups(table, caller="f")] == [[2, "b"], ["a", "c"]]


def test_a_repeated_item_is_refused_by_its_keys():
    table = make_table().assign(item=[1, 1, 0, 1])
    message = (
        r"must hold each item once per model x scoring. Got a second row at row 11 "
        r"\(item 1, model 'b', scoring 'label_single'\) instead"
    )
    with pytest.raises(ValueError, match=message):
        list(groups(table, caller="alignment"))


def test_an_item_column_is_needed():
    with pytest.raises(ValueError, match=r"The table parameter of f must name columns of the table. Got 'item'"):
        list(groups(make_table().drop(columns="item"), caller="f"))
    with pytest.raises(
        ValueError, match=r"The item column given to f must name an item in every row. Got none in row 12"
    ):
        list(groups(make_table().assign(item=[1, 0, None, 1]), caller="f"))


def test_a_missing_column_is_answered_with_the_nearest_name():
    with pytest.raises(
        ValueError, match=r"Got 'choice_entrop', which the table lacks, instead. Did you mean 'choice_entropy'"
    ):
        require_columns(make_table(), ["choice_entrop"], parameter="measures", caller="f")
    with pytest.raises(ValueError, match=r"Got 'zzz', which the table lacks, instead. The table has \['model'"):
        require_columns(make_table(), ["zzz"], parameter="measures", caller="f")
    with pytest.raises(TypeError, match=r"The table parameter of f must be a pandas.DataFrame. Got dict instead"):
        require_columns({}, ["zzz"], parameter="measures", caller="f")


def test_names_are_a_list_of_different_columns():
    assert column_names(("a", "b"), parameter="measures", caller="f") == ["a", "b"]
    with pytest.raises(ValueError, match=r"Got the string 'total_entropy' instead; write \['total_entropy'\]"):
        column_names("total_entropy", parameter="measures", caller="f")
    with pytest.raises(ValueError, match=r"must name at least one column. Got none instead"):
        column_names([], parameter="measures", caller="f")
    with pytest.raises(ValueError, match=r"must name each column once. Got 'a' twice instead"):
        column_names(["a", "b", "a"], parameter="measures", caller="f")


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1, None, 3], dtype="Int64"),
        pd.Series([1, None, 3], dtype="object"),
        pd.Series([1.0, np.nan, 3.0], dtype="float32"),
        pd.Series([True, None, True], dtype="boolean") * 2 - pd.Series([1, 0, -1]),
    ],
)
def test_numbers_of_every_dtype_become_float64(column):
    values = numbers(pd.DataFrame({"item": [0, 1, 2], "x": column}), "x", caller="f")
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, [1, np.nan, 3])


def test_text_and_infinities_are_refused():
    table = make_table()
    with pytest.raises(ValueError, match=r"The model column given to f must be numeric. Got str instead"):
        numbers(table, "model", caller="f")
    table.loc[12, "choice_entropy"] = -np.inf
    message = r"The choice_entropy column given to f must be finite. Got -inf at row 12 \(item 0, model 'a'"
    with pytest.raises(ValueError, match=message):
        numbers(table, "choice_entropy", caller="f")


def test_missing_values_are_refused_or_dropped():
    table = make_table()
    values = {"choice_entropy": np.array([1, np.nan, 3, 4]), "human": np.array([1, 2, 3, np.nan])}
    message = (
        r"The choice_entropy column given to f must have no missing value. Got 1 of 4, the first at row 11 \(item 0"
    )
    with pytest.raises(ValueError, match=message):
        present_rows(table, values, missing="raise", caller="f")
    kept = present_rows(table, values, missing="drop", caller="f")
    assert list(kept) == [True, False, True, False]
    with pytest.raises(
        ValueError, match=r"The missing parameter of f must be one of 'raise', 'drop'. Got 'omit' instead"
    ):
        present_rows(table, values, missing="omit", caller="f")


def test_measures_of_the_same_items_come_together():
    table = make_table().assign(x=[1, np.nan, 3, 4], y=[1, 2, 3, 4], z=[5, np.nan, 7, 8])
    found = list(shared_items(table, ["x", "y", "z"], {}, missing="drop", caller="f"))
    assert [list(columns) for columns, _ in found] == [["x", "z"], ["y"]]
    assert list(found[0][0]["z"]) == [5, 7, 8]
    assert list(found[0][1]) == [True, False, True, True]


def test_reasons_are_joined_once():
    assert join_reasons(None, "a", "b", "a") == "a; b"
    assert join_reasons(None, None) is None

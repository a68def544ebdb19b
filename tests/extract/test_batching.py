"""The batch plan: a partition within its bound, whatever the lengths."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubtlens.extract.batching import Batch, common_prefix_length, group_segments, plan_batches

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


def test_a_plan_made_by_hand():
    plan = plan_batches([3, 5, 3, 1, 5, 2], 10)
    assert plan == [Batch((1, 4), 5), Batch((0, 2, 5), 3), Batch((3,), 1)]
    equal = plan_batches([3, 5, 3, 1, 5, 2], 10, equal_lengths=True)
    assert equal == [Batch((1, 4), 5), Batch((0, 2), 3), Batch((5,), 2), Batch((3,), 1)]


@given(lengths=LENGTHS, bound=st.integers(1, 120), equal_lengths=st.booleans())
def test_a_plan_is_a_partition_within_its_bound(lengths, bound, equal_lengths):
    plan = plan_batches(lengths, bound, equal_lengths=equal_lengths)
    assert sorted(row for batch in plan for row in batch.rows) == list(range(len(lengths)))
    for batch in plan:
        inside = [lengths[row] for row in batch.rows]
        assert batch.width == max(inside)
        assert len(inside) * batch.width <= bound or len(inside) == 1
        if equal_lengths:
            assert len(set(inside)) == 1
    order = [(-lengths[row], row) for batch in plan for row in batch.rows]
    assert order == sorted(order)  # longest first, equal lengths in row order


@given(lengths=LENGTHS, bound=st.integers(1, 120), equal_lengths=st.booleans())
def test_no_batch_could_have_taken_the_first_row_of_the_next(lengths, bound, equal_lengths):
    plan = plan_batches(lengths, bound, equal_lengths=equal_lengths)
    for batch, following in pairwise(plan):
        too_many = (len(batch.rows) + 1) * batch.width > bound
        assert too_many or (equal_lengths and lengths[following.rows[0]] != batch.width)


@given(lengths=LENGTHS, bound=st.integers(1, 120))
def test_a_plan_does_not_depend_on_chance(lengths, bound):
    assert plan_batches(lengths, bound) == plan_batches(list(lengths), bound)
    assert plan_batches(np.array(lengths), bound) == plan_batches(lengths, bound)


@settings(max_examples=200)
@given(
    rows=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=6),
    shared=st.lists(st.integers(0, 2), max_size=6),
)
def test_the_common_prefix_is_that_of_a_loop(rows, shared):
    rows = [shared + row for row in rows]
    expected = 0
    while all(len(row) > expected + 1 and row[expected] == rows[0][expected] for row in rows):
        expected += 1
    assert common_prefix_length(rows) == expected


@pytest.mark.parametrize(
    ("rows", "expected"),
    [([[1, 2, 3], [1, 2, 4, 5]], 2), ([[1, 2], [1, 2]], 1), ([[7]], 0), ([[1, 2, 3]], 2), ([[1, 2], [1, 2, 3]], 1)],
)
def test_every_row_keeps_a_token_of_its_own(rows, expected):
    assert common_prefix_length(rows) == expected


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=30),
    row_bytes=st.integers(1, 50),
    max_rows=st.integers(1, 60),
    max_bytes=st.integers(1, 2000),
)
def test_segments_are_consecutive_whole_batches_within_both_bounds(sizes, row_bytes, max_rows, max_bytes):
    batches = [Batch(tuple(range(size)), 1) for size in sizes]
    segments = group_segments(batches, row_bytes, max_rows=max_rows, max_bytes=max_bytes)
    assert [number for segment in segments for number in segment] == list(range(len(sizes)))
    for place, segment in enumerate(segments):
        rows = sum(sizes[number] for number in segment)
        assert len(segment) == 1 or (rows <= max_rows and rows * row_bytes <= max_bytes)
        if place + 1 < len(segments):
            more = rows + sizes[segments[place + 1][0]]
            assert more > max_rows or more * row_bytes > max_bytes

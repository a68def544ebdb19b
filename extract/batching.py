"""Token ids of the prompts, the prefix that all of them share, and the one batch plan of a run.

The shared prefix is a prefix of TOKENS: a string prefix would lie, because its last characters merge with what
follows. Padding width changes the last bits of a forward pass, so the plan is made once, from the lengths alone, is
part of the run's identity, and a resumed run uses the very same batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Below this many shared tokens, giving the cache to every batch costs more than the tokens it saves.
MIN_SHARED_TOKENS = 8


@dataclass(frozen=True)
class Batch:
    """Rows that are forwarded together, padded on the right to `width` tokens after the shared prefix."""

    rows: tuple[int, ...]
    width: int


def common_prefix_length(token_ids: Sequence[Sequence[int]]) -> int:
    """Number of leading tokens that all rows share, leaving at least one token to every row.

    >>> common_prefix_length([[1, 2, 3], [1, 2, 4, 5]])
    2
    >>> common_prefix_length([[1, 2], [1, 2]])
    1
    """
    shortest = min(map(len, token_ids))
    first = np.asarray(token_ids[0][:shortest])
    same = np.ones(shortest, dtype=bool)
    for row in token_ids[1:]:
        same &= np.asarray(row[:shortest]) == first
    shared = int(np.argmin(same)) if not same.all() else shortest
    return min(shared, shortest - 1)


def plan_batches(lengths: Sequence[int], batch_tokens: int, *, equal_lengths: bool = False) -> list[Batch]:
    """Sort rows by length and cut them into batches of at most `batch_tokens` tokens, padding included.

    Args:
        lengths: tokens of each row that are to be forwarded (after the shared prefix), all >= 1.
        batch_tokens: bound on rows x width of a batch; a single longer row still makes a batch.
        equal_lengths: never pad: a batch holds rows of one length only (needed where the cache of the batch is
            continued, because padding would stand between a prompt and what follows it).

    Returns:
        Batches, longest rows first, so that the largest memory need shows at once; equal lengths in row order.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    batches: list[Batch] = []
    current: list[int] = []
    for row in order:
        width = lengths[current[0]] if current else 0
        full = (len(current) + 1) * width > batch_tokens
        if current and (full or (equal_lengths and lengths[row] != width)):
            batches.append(Batch(tuple(current), width))
            current = []
        current.append(row)
    if current:
        batches.append(Batch(tuple(current), lengths[current[0]]))
    return batches


def group_segments(batches: Sequence[Batch], row_bytes: int, *, max_rows: int, max_bytes: int) -> list[list[int]]:
    """Consecutive batches per segment, closing a segment at `max_rows` rows or `max_bytes` bytes.

    Returns:
        lists of batch numbers; whole batches only.
    """
    segments: list[list[int]] = [[]]
    rows = 0
    for number, batch in enumerate(batches):
        if segments[-1] and (rows + len(batch.rows) > max_rows or (rows + len(batch.rows)) * row_bytes > max_bytes):
            segments.append([])
            rows = 0
        segments[-1].append(number)
        rows += len(batch.rows)
    return segments

"""Reading the right answer of each item, written as an index, a letter or an option's text."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from .names import did_you_mean


class Problems(Protocol):
    """Collects a message per faulty row: ``with problems.at(row):`` catches a ValueError raised inside."""

    def at(self, row: int) -> AbstractContextManager[None]:
        """Name the row that the next block reads."""


def resolve_answers(answers: Sequence[Any], options: Sequence[Sequence[str]], problems: Problems) -> list[int | None]:
    """Turn answers into option indices counted from 0.

    A number is an index. A string may be an index ("2"), a letter ("C") or an option's text; a table keeps to
    one way of writing, so the way that fits ALL string answers of the table decides. Where several ways fit
    all rows they have to agree on every row; where none fits all, every row has to be readable in one way
    only.

    Parameters
    ----------
    answers : sequence of int, str or None
        One per item; None means that no option is right.
    options : sequence of sequence of str
        The options of each item.
    problems : Problems
        Collects a message for each answer that is out of range, not found or ambiguous.

    Returns
    -------
    list of int or None
        Shorter than ``answers`` only if problems were found.
    """
    ways: list[Callable[[str, Sequence[str]], int | None]] = [_as_index, _as_letter, _as_text]
    written = [(row, answer) for row, answer in enumerate(answers) if isinstance(answer, str)]
    fitting = [way for way in ways if all(way(answer, options[row]) is not None for row, answer in written)] or ways
    resolved: list[int | None] = []
    for row, (answer, choices) in enumerate(zip(answers, options, strict=True)):
        with problems.at(row):
            resolved.append(None if answer is None else _resolve(answer, choices, fitting))
    return resolved


def _resolve(answer: Any, options: Sequence[str], ways: Sequence[Callable[[str, Sequence[str]], int | None]]) -> int:
    last = chr(ord("A") + len(options) - 1)
    if isinstance(answer, str):
        found = sorted({index for way in ways if (index := way(answer, options)) is not None})
        if len(found) > 1:
            raise ValueError(
                f"The answer must name one option. Got {answer!r} instead, which reads as any of the options "
                f"{[options[index] for index in found]}. Write the index (0 to {len(options) - 1}) as a number."
            )
        if not found:
            hint = did_you_mean(answer, options)
            raise ValueError(
                f"The answer must be an index from 0 to {len(options) - 1}, a letter from A to {last}, an option's "
                f"text or null. Got {answer!r} instead.{hint}"
            )
        return found[0]
    if isinstance(answer, float) and answer.is_integer():
        answer = int(answer)
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(options):
        raise ValueError(
            f"The answer must be an index from 0 to {len(options) - 1} (counted from 0). Got {answer!r} instead. Write "
            "null where no option is right or the right one is unknown."
        )
    return answer


def _as_index(answer: str, options: Sequence[str]) -> int | None:
    text = answer.strip()
    return int(text) if text.isascii() and text.isdigit() and int(text) < len(options) else None


def _as_letter(answer: str, options: Sequence[str]) -> int | None:
    text = answer.strip().rstrip(".)")
    index = ord(text) - ord("A") if len(text) == 1 else -1
    return index if 0 <= index < len(options) else None


def _as_text(answer: str, options: Sequence[str]) -> int | None:
    texts = [option.strip() for option in options]
    return texts.index(answer.strip()) if texts.count(answer.strip()) == 1 else None

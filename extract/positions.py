"""At which tokens of a prompt the residual stream is kept.

``last`` is the last token of the prompt. ``question_last`` and ``question_mean`` read the tokens of the item's own
question, ``labels`` the token of every option's label. They are found by character: the prompt knows where question
and labels stand in its text, the tokenizer which characters a token stands for. A token that holds a character of the
question and others besides (``?\\n``, a leading space) belongs to the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .names import unknown_name
from .prompts import PROMPTS, RenderedPrompts

POSITIONS = ("last", "question_last", "question_mean", "labels")
TEXTS_AT_ONCE = 256

Offsets = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class PromptPositions:
    """Tokens of one prompt, counted from its first.

    Attributes:
        last: the last token.
        question: the first token of the question and one past its last.
        labels: the token of each option's label in the ORIGINAL order of the options, one entry for each of the
            options of the item that has most, -1 beyond the item's own.
    """

    last: int
    question: tuple[int, int] | None = None
    labels: tuple[int, ...] = ()

    def first(self) -> int:
        """The earliest token that is wanted."""
        tokens = [self.last, *(token for token in self.labels if token >= 0)]
        return min(tokens if self.question is None else [*tokens, self.question[0]])


def residual_path(site: str, position: str) -> str:
    """Where the run file keeps a site at a position."""
    return f"residual/{site}" if position == "last" else f"residual_at/{position}/{site}"


def known_positions(positions: Sequence[str], caller: str = "extract") -> list[str]:
    """The positions to keep, ``last`` first, the others in the order of `POSITIONS`.

    Raises:
        ValueError: an unknown position, or one named twice.
    """
    if isinstance(positions, str) or len(set(positions)) < len(positions):
        raise ValueError(
            f"The positions parameter of {caller} must be a list of different names of {', '.join(POSITIONS)}. "
            f"Got {positions!r} instead."
        )
    for position in positions:
        if position not in POSITIONS:
            raise ValueError(unknown_name("position", position, POSITIONS))
    return [position for position in POSITIONS if position == "last" or position in positions]


def positions_of_prompt(prompt: str, positions: Sequence[str]) -> list[str]:
    """Those of the positions that a prompt has: all, or all but ``labels`` where it lists no options."""
    form = PROMPTS.get(prompt)
    return [position for position in positions if position != "labels" or form is None or form.lists_options]


def find_positions(
    tokenizer: Any,
    prompts: RenderedPrompts,
    token_ids: Sequence[Sequence[int]],
    positions: Sequence[str],
    names: Sequence[str],
) -> list[PromptPositions]:
    """The wanted tokens of every prompt row.

    Args:
        tokenizer: the one that made `token_ids`.
        prompts: the rendered prompts.
        token_ids: the tokens of each row, in full.
        positions: of `known_positions`.
        names: the item's id of each row, for error messages.

    Raises:
        ValueError: ``labels`` of a prompt that lists no options; a chat template that rewrites the question; a
            tokenizer that does not tell which characters its tokens stand for.
    """
    if "labels" in positions and not prompts.lists_options:
        listing = ", ".join(name for name, form in PROMPTS.items() if form.lists_options)
        raise ValueError(
            f"The positions parameter of extract must not name labels for the prompt {prompts.prompt!r}, which lists "
            f"no options. Leave it out, or use one of {listing}."
        )
    ends = [len(ids) - 1 for ids in token_ids]
    if list(positions) == ["last"]:
        return [PromptPositions(end) for end in ends]
    wants_question = "question_last" in positions or "question_mean" in positions
    width = max(len(row.order) for row in prompts.rows)
    found = []
    for row, offsets in enumerate(_offsets(tokenizer, prompts, token_ids)):
        prompt = prompts.rows[row]
        question, labels = None, [-1] * width
        if prompt.question is None:
            raise ValueError(
                f"item {names[row]}: its question was not found in the prompt: the chat template rewrites what it is "
                'given. Keep the position last alone, or use chat="never".'
            )
        if wants_question:
            question = _tokens(offsets, *prompt.question)
            if question is None:
                raise _no_tokens(tokenizer, names[row], "its question")
        if "labels" in positions:
            for option, start in zip(prompt.order, prompt.label_starts, strict=True):
                span = _tokens(offsets, start, start + 1)
                if span is None:
                    raise _no_tokens(tokenizer, names[row], "the labels of its options")
                labels[option] = span[0]
        found.append(PromptPositions(ends[row], question, tuple(labels) if "labels" in positions else ()))
    return found


def _no_tokens(tokenizer: Any, item: str, what: str) -> ValueError:
    name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
    return ValueError(
        f"item {item}: the tokens of {what} were not found: the tokenizer {name!r} does not tell which characters its "
        "tokens stand for. Keep the position last alone."
    )


def _tokens(offsets: Offsets, start: int, stop: int) -> tuple[int, int] | None:
    """The first token that holds a character of ``start:stop``, and one past the last; None if none does."""
    holding = [token for token, (begin, end) in enumerate(offsets) if begin < stop and end > start]
    return (holding[0], holding[-1] + 1) if holding else None


def _offsets(tokenizer: Any, prompts: RenderedPrompts, token_ids: Sequence[Sequence[int]]) -> list[Offsets]:
    """Per row, per token, the characters of the text that it stands for."""
    texts = [row.text for row in prompts.rows]
    if not getattr(tokenizer, "is_fast", False):
        return [decoded_offsets(tokenizer, ids, text) for ids, text in zip(token_ids, texts, strict=True)]
    found: list[Offsets] = []
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        encoded = tokenizer(
            texts[start : start + TEXTS_AT_ONCE], add_special_tokens=prompts.add_bos, return_offsets_mapping=True
        )
        found += encoded["offset_mapping"]
    return found


def decoded_offsets(tokenizer: Any, ids: Sequence[int], text: str) -> Offsets:
    """The characters each token stands for, from what ever longer beginnings of `ids` decode to.

    For tokenizers that keep no offsets. A token that ends inside a character counts as holding it.

    Returns:
        One (start, stop) per token; empty where the tokens do not decode to the text.
    """
    ids = list(ids)
    whole = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    before = whole.find(text)  # a beginning-of-text token stands in front of it
    if before < 0:
        return []
    offsets, start = [], 0
    for count in range(1, len(ids) + 1):
        part = tokenizer.decode(ids[:count], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        shared = zip(part, whole, strict=False)
        stop = next((place for place, (one, other) in enumerate(shared) if one != other), len(part))
        offsets.append((start - before, stop - before + (len(part) > stop)))
        start = stop
    return offsets

"""Prompts: how an item becomes the text that is asked.

A prompt consists of blocks, one per worked example and one for the item. In plain form the blocks are joined
by an empty line, each example followed by its answer; in chat form they are user turns after a system
message, each example answered by the assistant, and the template's generation prompt opens the answer that is
scored.

``moore2025``
    Figure 1 of Moore et al. 2025, arXiv 2508.08204: an instruction, the question and the labelled options.
``two_shot``
    Two worked examples, then the question and the labelled options (the multiple choice of arXiv 2605.30675).
``open_two_shot``
    Two worked examples, then the question alone; the options' own texts are scored as continuations.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from .cells import MAX_OPTIONS
from .chat import answer_gap, has_chat_template, render_chat
from .examples import TWO_SHOT_EXAMPLES, Example
from .items import validate_items
from .names import did_you_mean

LABELS = tuple(chr(ord("A") + position) for position in range(MAX_OPTIONS))
CHAT_MODES = ("never", "auto", "always")
PERMUTATIONS = ("none", "cyclic")
_PLACEHOLDER = "doubtlens-question"


@dataclass(frozen=True)
class Block:
    """The text of one question with its options.

    ``question`` is the first character of the question and one past its last, white space around it aside;
    ``labels`` is the character of each label that is listed.
    """

    text: str
    question: tuple[int, int]
    labels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """A way of asking.

    ``ask(question, options)`` writes the block of one question in plain form, ``ask_in_chat`` the user turn;
    ``scorings`` are the answer scorings (see :mod:`doubtlens.extract.labels`) that its rows allow.
    """

    name: str
    lists_options: bool
    examples: tuple[Example, ...]
    system: str
    ask: Callable[[str, Sequence[str]], Block]
    ask_in_chat: Callable[[str, Sequence[str]], Block]

    @property
    def scorings(self) -> tuple[str, ...]:
        """The answer scorings that the prompt allows, the default one first."""
        return ("label_single", "label_variants") if self.lists_options else ("text_sum", "text_mean")


@dataclass(frozen=True)
class PromptRow:
    """One text to run through a model.

    Attributes
    ----------
    item : int
        Row position in the items table.
    rotation : int
        How far the options are rotated, from 0 (0 unless ``permutations="cyclic"``).
    text : str
        The full text; tokenise it with ``add_special_tokens=RenderedPrompts.add_bos``.
    order : tuple of int
        ``order[j]`` is the original index of the option at position ``j``.
    labels : tuple of str
        "A", "B", ... by position; empty where the options are not listed.
    continuations : tuple of str
        What follows the text for each option, in the ORIGINAL order of the options; empty where they are
        listed.
    label_prefix : str
        What stands between the text and a label, " " or "" (already part of the continuations).
    question : tuple of int, or None
        The first character of the item's own question in the text and one past its last, white space around it
        aside; None where a chat template rewrites what it is given.
    label_starts : tuple of int
        The character of each label in the text, by position; empty where the options are not listed.
    """

    item: int
    rotation: int
    text: str
    order: tuple[int, ...]
    labels: tuple[str, ...]
    continuations: tuple[str, ...]
    label_prefix: str
    question: tuple[int, int] | None = None
    label_starts: tuple[int, ...] = ()


@dataclass(frozen=True)
class RenderedPrompts:
    """All rows of one dataset under one prompt.

    ``chat`` says whether the chat template was used, ``add_bos`` whether the tokenizer should add its special
    tokens (not where the template has already written the BOS token), and ``hash`` is the SHA-256 of
    everything that is asked and scored.
    """

    rows: list[PromptRow]
    prompt: str
    chat: bool
    setting: str
    lists_options: bool
    scorings: tuple[str, ...]
    add_bos: bool
    hash: str


def render_prompts(
    items: pd.DataFrame,
    prompt: str,
    *,
    tokenizer: Any = None,
    chat: str = "never",
    option_order: str | int = "given",
    permutations: str = "none",
) -> RenderedPrompts:
    """Write the text of every item that is not excluded.

    Parameters
    ----------
    items : DataFrame
        As :func:`~doubtlens.extract.datasets.load_items` gives it.
    prompt : str
        A name of :data:`PROMPTS`.
    tokenizer : PreTrainedTokenizerBase, optional
        Needed unless ``chat="never"``.
    chat : {"never", "auto", "always"}
        Whether to use the tokenizer's chat template; "auto" uses it where there is one.
    option_order : "given" or int
        The order of the options, or the seed of a shuffle that depends on the seed and the item's id alone:
        it is the same for every model, prompt and subset of the items.
    permutations : {"none", "cyclic"}
        "cyclic" gives K rows per item, one per rotation of its K options; only for prompts that list the
        options.

    Returns
    -------
    RenderedPrompts
        Rows in the order of the items, the rotations of an item one after the other.

    Raises
    ------
    ValueError
        An unknown prompt or setting, a missing chat template, a template that refuses the conversation, or no
        item to ask.
    """
    _check_choice("chat", chat, CHAT_MODES)
    _check_choice("permutations", permutations, PERMUTATIONS)
    _check_choice("prompt", prompt, PROMPTS)
    form = PROMPTS[prompt]
    if permutations == "cyclic" and not form.lists_options:
        listing = [name for name, other in PROMPTS.items() if other.lists_options]
        raise ValueError(
            f'The permutations parameter of render_prompts must be "none" for {prompt!r}, which lists no '
            "options. "
            f'Got "cyclic" instead; the prompts {listing} can be rotated.'
        )
    if option_order != "given" and (isinstance(option_order, bool | str) or option_order < 0):
        raise ValueError(
            'The option_order parameter of render_prompts must be "given" or a seed of at least 0. '
            f"Got {option_order!r} instead."
        )
    use_chat = _resolve_chat(chat, tokenizer)
    items = validate_items(items)
    asked = [row for row, reason in enumerate(items["excluded"]) if reason is None]
    if not asked:
        raise ValueError(
            "The items parameter of render_prompts must hold an item that is not excluded. Got none; clear the "
            "excluded column of the items to ask."
        )

    write = _ChatWriter(form, tokenizer) if use_chat else _PlainWriter(form)
    ids, questions, options = (items[name].tolist() for name in ("id", "question", "options"))
    rows = []
    for row in asked:
        base = _option_order(ids[row], len(options[row]), option_order)
        for rotation in range(len(base) if permutations == "cyclic" else 1):
            order = base[rotation:] + base[:rotation]
            listed = [options[row][index] for index in order]
            text, prefix, parts = write(questions[row], listed)
            rows.append(
                PromptRow(
                    item=row,
                    rotation=rotation,
                    text=text,
                    order=order,
                    labels=LABELS[: len(order)] if form.lists_options else (),
                    continuations=() if form.lists_options else tuple(prefix + option for option in options[row]),
                    label_prefix=prefix,
                    question=None if parts is None else parts.question,
                    label_starts=() if parts is None else parts.labels,
                )
            )
    bos = getattr(tokenizer, "bos_token", None) if use_chat else None
    add_bos = not (bos and rows[0].text.startswith(bos))
    return RenderedPrompts(
        rows=rows,
        prompt=prompt,
        chat=use_chat,
        setting="choice",
        lists_options=form.lists_options,
        scorings=form.scorings,
        add_bos=add_bos,
        hash=_hash(rows, add_bos),
    )


class _PlainWriter:
    """Joins the blocks by empty lines; the answer follows "Answer:" after a space."""

    def __init__(self, form: Prompt) -> None:
        self.form = form
        self.before = "".join(
            f"{form.ask(example.question, example.options).text} {_shown_answer(form, example)}\n\n"
            for example in form.examples
        )

    def __call__(self, question: str, options: Sequence[str]) -> tuple[str, str, Block]:
        block = self.form.ask(question, options)
        text = self.before + block.text
        return text, " ", _placed(block, text, len(self.before))


class _ChatWriter:
    """Writes the blocks as turns; the answer follows the template's generation prompt."""

    def __init__(self, form: Prompt, tokenizer: Any) -> None:
        self.form = form
        self.tokenizer = tokenizer
        self.before = [{"role": "system", "content": form.system}]
        for example in form.examples:
            self.before.append({"role": "user", "content": form.ask_in_chat(example.question, example.options).text})
            self.before.append({"role": "assistant", "content": _shown_answer(form, example)})
        gap = answer_gap(tokenizer)
        # A single space belongs to the answer's first token; anything else closes the prompt.
        self.prefix = " " if gap.endswith(" ") else ""
        self.closing = gap.removesuffix(" ")
        # What surrounds the last turn, whatever it says: a search for the question could find it elsewhere.
        around = self._render(_PLACEHOLDER).split(_PLACEHOLDER)
        self.around = (around[0], around[1]) if len(around) == 2 else None

    def __call__(self, question: str, options: Sequence[str]) -> tuple[str, str, Block | None]:
        block = self.form.ask_in_chat(question, options)
        text = self._render(block.text)
        return text, self.prefix, self._find(block, text)

    def _render(self, content: str) -> str:
        return render_chat(self.tokenizer, [*self.before, {"role": "user", "content": content}]) + self.closing

    def _find(self, block: Block, text: str) -> Block | None:
        """The block's parts in the whole text; None unless it stands there as it is, trimmed at most."""
        if self.around is None:
            return None
        before, after = self.around
        shown = text[len(before) : len(text) - len(after)]
        trimmed = block.text.find(shown)
        same = trimmed >= 0 and shown.strip() == block.text.strip()
        if not (same and text.startswith(before) and text.endswith(after)):
            return None
        return _placed(block, text, len(before) - trimmed)


def _placed(block: Block, text: str, shift: int) -> Block:
    """A block's parts in a text where they stand `shift` characters further on."""
    start, stop = block.question
    return Block(text, (start + shift, stop + shift), tuple(label + shift for label in block.labels))


def _ask_moore2025(question: str, options: Sequence[str]) -> Block:
    instruction = (
        "Following is a question and a selection of answer choices. Provide the label for the answer with which you "
        "most agree.\n\n"
    )
    return _block(f"{instruction}Question: ", question, options, "    ", "\nAnswer:")


def _ask_listed(question: str, options: Sequence[str]) -> Block:
    return _block("Question: ", question, options, "", "Answer:")


def _ask_open(question: str, _options: Sequence[str]) -> Block:
    return _block("Question: ", question, (), "", "Answer:")


def _ask_alone(question: str, _options: Sequence[str]) -> Block:
    return Block(question, _inside(question, 0))


def _block(before: str, question: str, options: Sequence[str], indent: str, after: str) -> Block:
    """``before`` and the question on a line, one line per option, and ``after``."""
    text, labels = f"{before}{question}\n", []
    for label, option in zip(LABELS, options, strict=False):
        labels.append(len(text) + len(indent))
        text += f"{indent}{label}. {option}\n"
    return Block(text + after, _inside(question, len(before)), tuple(labels))


def _inside(question: str, before: int) -> tuple[int, int]:
    """Where a question that stands `before` characters into a text begins and ends, white space aside."""
    start = before + len(question) - len(question.lstrip())
    return start, start + len(question.strip())


_LETTER_ONLY = "Answer with the letter of one option and nothing else."
_FEW_WORDS = "Answer in as few words as possible."

PROMPTS = {
    form.name: form
    for form in (
        Prompt("moore2025", True, (), _LETTER_ONLY, _ask_moore2025, _ask_moore2025),
        Prompt("two_shot", True, TWO_SHOT_EXAMPLES, _LETTER_ONLY, _ask_listed, _ask_listed),
        Prompt("open_two_shot", False, TWO_SHOT_EXAMPLES, _FEW_WORDS, _ask_open, _ask_alone),
    )
}


def _shown_answer(form: Prompt, example: Example) -> str:
    return LABELS[example.answer] if form.lists_options else example.options[example.answer]


def _option_order(item_id: str, n_options: int, option_order: str | int) -> tuple[int, ...]:
    if option_order == "given":
        return tuple(range(n_options))

    # Sorting by a hash depends on no library's random stream, so the order holds across versions.
    def rank(index: int) -> bytes:
        return hashlib.sha256(f"{option_order}\0{item_id}\0{index}".encode()).digest()

    return tuple(sorted(range(n_options), key=rank))


def _resolve_chat(chat: str, tokenizer: Any) -> bool:
    if chat == "never":
        return False
    if tokenizer is None:
        raise ValueError(
            f'The tokenizer parameter of render_prompts must be given for chat="{chat}". Got None instead; '
            'pass the tokenizer, or chat="never".'
        )
    if chat == "always" and not has_chat_template(tokenizer):
        name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
        raise ValueError(
            'The tokenizer parameter of render_prompts must have a chat template for chat="always". '
            f'Got {name!r}, which has none; use chat="auto" or "never".'
        )
    return has_chat_template(tokenizer)


def _check_choice(param: str, value: Any, known: Any) -> None:
    if value not in known:
        raise ValueError(
            f"The {param} parameter of render_prompts must be one of {list(known)}. Got {value!r} instead."
            + did_you_mean(value, known)
        )


def _hash(rows: Sequence[PromptRow], add_bos: bool) -> str:
    digest = hashlib.sha256(json.dumps({"add_bos": add_bos}).encode())
    for row in rows:
        line = [row.rotation, row.text, row.order, row.labels, row.continuations, row.label_prefix]
        digest.update(json.dumps(line, separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()

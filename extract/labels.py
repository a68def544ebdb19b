"""The tokens in which an answer is scored.

Labels and texts are always tokenised together with the prompt that they follow, and compared with the tokens
of the prompt alone: a tokenizer may treat a space, or the start of a text, in its own way (SentencePiece puts
a space before a word at the start of a text), so that the tokens of "A" by itself need not be those of "A"
after "Answer:". If the end of the prompt melts into what follows, the prompt's tokens are no longer a prefix
and the row is refused.
"""

from collections.abc import Sequence
from typing import Any


class SeamError(ValueError):
    """The last tokens of a prompt change when an answer follows, so the answer has no tokens of its own."""


class LabelTokenError(ValueError):
    """An answer label has no token of its own under a tokenizer."""


def single_label_tokens(
    tokenizer: Any, text: str, labels: Sequence[str], prefix: str, add_special_tokens: bool
) -> list[int]:
    """Find the one token that follows a prompt for each label (scoring ``label_single``, arXiv 2508.08204).

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        The model's tokenizer.
    text : str
        The prompt, as tokenised for the model.
    labels : sequence of str
        "A", "B", ...
    prefix : str
        What stands between prompt and label: " " after "Answer:", usually "" after a chat template's
        generation prompt.
    add_special_tokens : bool
        As used for the prompt.

    Returns
    -------
    list of int
        One token id per label, all different.

    Raises
    ------
    LabelTokenError
        If a label is more than one token, unknown to the tokenizer, or shares its token with another label.
    SeamError
        If the label changes the tokens of the prompt.
    """
    endings = [prefix + label for label in labels]
    tokens: list[int] = []
    for label, ids in zip(labels, _tokens_after(tokenizer, text, endings, add_special_tokens), strict=True):
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            raise LabelTokenError(
                f"The labels of label_single must be one known token each after the prompt. Got {label!r}, which "
                f"{_name(tokenizer)} writes as {tokenizer.convert_ids_to_tokens(ids)}. Use the scoring label_variants, "
                "or text_sum with a prompt that lists no options."
            )
        if ids[0] in tokens:
            raise LabelTokenError(
                f"The labels of label_single must have different tokens. Got the token {ids[0]} for both "
                f"{labels[tokens.index(ids[0])]!r} and {label!r} from {_name(tokenizer)}. Use text_sum with a prompt "
                "that lists no options."
            )
        tokens.append(ids[0])
    return tokens


def variant_label_tokens(tokenizer: Any, labels: Sequence[str]) -> list[tuple[int, ...]]:
    """Find all single-token spellings of each label (scoring ``label_variants``, arXiv 2605.30675).

    The spellings are the label and its lower case, and the label as "A.", "A)", "A:" and "(A)", each with and
    without a space before it. They are looked up in the vocabulary, so that it does not matter how the
    tokenizer would write them at the start of a text; the byte tokens of SentencePiece ("<0x41>") do not count.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        The model's tokenizer; byte-level ("ĠA") and SentencePiece ("▁A") vocabularies are known.
    labels : sequence of str
        "A", "B", ...

    Returns
    -------
    list of tuple of int
        Ascending token ids per label, each once. A token that two labels claim is left out of both.

    Raises
    ------
    LabelTokenError
        If a label has no single-token spelling left.
    """
    vocabulary = tokenizer.get_vocab()
    claimed = [_spelling_tokens(tokenizer, vocabulary, label) for label in labels]
    found = []
    for position, label in enumerate(labels):
        others = set().union(*claimed[:position], *claimed[position + 1 :])
        own = tuple(sorted(claimed[position] - others))
        if not own:
            raise LabelTokenError(
                f"The labels of label_variants must have a single-token spelling of their own. Got {label!r}, which "
                f"has none in the vocabulary of {_name(tokenizer)}. Use text_sum with a prompt that lists no options."
            )
        found.append(own)
    return found


def continuation_tokens(tokenizer: Any, text: str, continuation: str, add_special_tokens: bool) -> list[int]:
    """Find the tokens of an option's text after a prompt (scorings ``text_sum`` and ``text_mean``).

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        The model's tokenizer.
    text, continuation : str
        The prompt and what follows it, for instance " Paris".
    add_special_tokens : bool
        As used for the prompt.

    Returns
    -------
    list of int
        The tokens of ``text + continuation`` after those of ``text``, which are a prefix of them; at least
        one.

    Raises
    ------
    SeamError
        If the continuation changes the tokens of the prompt: a score of what comes after the common tokens
        would be one of other text than the continuation's.
    """
    return _tokens_after(tokenizer, text, [continuation], add_special_tokens)[0]


def continuations_tokens(
    tokenizer: Any, text: str, continuations: Sequence[str], add_special_tokens: bool
) -> list[list[int]]:
    """Find the tokens of several continuations of one prompt, as :func:`continuation_tokens` for each."""
    return _tokens_after(tokenizer, text, continuations, add_special_tokens)


def _tokens_after(tokenizer: Any, text: str, endings: Sequence[str], add_special_tokens: bool) -> list[list[int]]:
    texts = [text, *(text + ending for ending in endings)]
    prompt, *full = tokenizer(texts, add_special_tokens=add_special_tokens)["input_ids"]
    after = []
    for ending, ids in zip(endings, full, strict=True):
        if ids[: len(prompt)] != prompt or len(ids) == len(prompt):
            shared = next(
                (position for position, (a, b) in enumerate(zip(prompt, ids, strict=False)) if a != b),
                min(len(prompt), len(ids)),
            )
            raise SeamError(
                f"The tokens of a prompt must stay the same when {ending!r} follows. Got "
                f"{tokenizer.convert_ids_to_tokens(ids[shared:])} instead of "
                f"{tokenizer.convert_ids_to_tokens(prompt[shared:])} and more from {_name(tokenizer)}. Change the end "
                "of the prompt or the start of the answer; a tokenizer that closes every text with an end token needs "
                "add_eos_token=False."
            )
        after.append(list(ids[len(prompt) :]))
    return after


def _spelling_tokens(tokenizer: Any, vocabulary: dict[str, int], label: str) -> set[int]:
    spellings = [label, label.lower(), f"{label}.", f"{label})", f"{label}:", f"({label})"]
    tokens = set()
    for spelling in spellings:
        # A space is "Ġ" in byte-level and "▁" in SentencePiece vocabularies; the rest is written as it is.
        for written in (spelling, f" {spelling}", f"Ġ{spelling}", f"▁{spelling}"):
            token = vocabulary.get(written)
            if token is not None and tokenizer.decode([token]).strip() == spelling:
                tokens.add(token)
    return tokens


def _name(tokenizer: Any) -> str:
    return repr(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)

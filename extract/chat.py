"""Writing a conversation with a tokenizer's chat template, the same way on every day.

1. The template is rendered with a fixed date: :data:`FIXED_DATE` stands in for ``strftime_now`` and
   ``date_string``, or else prompts and their hashes would change daily. transformers offers no argument for
   ``strftime_now``, so a Jinja macro of that name is put in front of the template, where it shadows the
   global function.
2. Templates that refuse a system message, or leave its text out, get that text at the start of the first user
   turn.
3. Reasoning is switched off where a template knows the switch, since the answer is read right after the
   prompt.
4. What the template itself writes between its generation prompt and an assistant's answer (nothing, or the
   space of Llama-2 and Mistral) is found by rendering an answer, and becomes the prefix of every label and
   continuation.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2

# The day that Llama 3.1's template falls back to; an hour at which no directive of strftime is ambiguous.
FIXED_DATE = datetime(2024, 7, 26, 12, 34, 56)

Messages = Sequence[Mapping[str, str]]

# Written out, because strftime's names depend on the locale.
_DIRECTIVES = {
    "%d": "26", "%-d": "26", "%e": "26", "%b": "Jul", "%h": "Jul", "%B": "July", "%m": "07", "%-m": "7", "%Y":
    "2024", "%y": "24", "%C": "20", "%G": "2024", "%a": "Fri", "%A": "Friday", "%u": "5", "%w": "5", "%j":
    "208", "%-j": "208", "%U": "29", "%V": "30", "%W": "30", "%H": "12", "%-H": "12", "%I": "12", "%-I": "12",
    "%M": "34", "%-M": "34", "%S": "56", "%-S": "56", "%f": "000000", "%p": "PM", "%z": "", "%Z": "", "%F":
    "2024-07-26", "%D": "07/26/24", "%T": "12:34:56", "%R": "12:34", "%x": "07/26/24", "%X": "12:34:56", "%c":
    "Fri Jul 26 12:34:56 2024", "%s": "1721997296",
}  # fmt: skip
_FIXED_CLOCK = (
    "{%- macro strftime_now(format='') -%}{{- format"
    + "".join(f"|replace('{directive}', '{text}')" for directive, text in _DIRECTIVES.items())
    + "|replace('%%', '%') -}}{%- endmacro -%}"
)
_PROBE = "doubtlens-answer"


def has_chat_template(tokenizer: Any) -> bool:
    """Say whether a tokenizer carries a chat template."""
    return getattr(tokenizer, "chat_template", None) is not None


def render_chat(tokenizer: Any, messages: Messages, *, add_generation_prompt: bool = True) -> str:
    """Render messages with the tokenizer's template, on the fixed date and without reasoning.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        With a chat template.
    messages : sequence of mapping
        Each with ``role`` and ``content``; a leading system message is moved into the first user turn where
        the template refuses or drops it.
    add_generation_prompt : bool
        Whether to end with the opening of the assistant's turn.

    Returns
    -------
    str
        The conversation as text, special tokens included.

    Raises
    ------
    ValueError
        If the template refuses the conversation even without a system message.
    """
    if messages[0]["role"] != "system":
        return _apply(tokenizer, messages, add_generation_prompt)
    system = messages[0]["content"]
    try:
        text = _apply(tokenizer, messages, add_generation_prompt)
        if system in text:
            return text
    except ValueError as refusal:
        if not isinstance(refusal.__cause__, jinja2.TemplateError):
            raise
    first, *rest = messages[1:]
    merged = {"role": first["role"], "content": f"{system}\n\n{first['content']}"}
    return _apply(tokenizer, [merged, *rest], add_generation_prompt)


def answer_gap(tokenizer: Any, messages: Messages) -> str:
    """Find the white space that the template writes between its generation prompt and an assistant's answer.

    Returns
    -------
    str
        For instance ``""`` (most templates) or ``" "`` (Llama-2). ``""`` too where the rendered answer does
        not start with the generation prompt, or where something other than white space stands between.
    """
    opened = render_chat(tokenizer, messages)
    answered = render_chat(
        tokenizer, [*messages, {"role": "assistant", "content": _PROBE}], add_generation_prompt=False
    )
    if not answered.startswith(opened) or _PROBE not in answered[len(opened) :]:
        return ""
    gap = answered[len(opened) :].partition(_PROBE)[0]
    return "" if gap.strip() else gap


def _apply(tokenizer: Any, messages: Messages, add_generation_prompt: bool) -> str:
    template = tokenizer.get_chat_template()
    try:
        text = tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            chat_template=_FIXED_CLOCK + template,
            add_generation_prompt=add_generation_prompt,
            tokenize=False,
            date_string=FIXED_DATE.strftime("%d ") + "Jul 2024",
            enable_thinking=False,
            thinking=False,
        )
    except jinja2.TemplateError as error:
        name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
        raise ValueError(
            f"The chat template of {name!r} must accept a conversation of the roles "
            f"{[message['role'] for message in messages]}. Got {type(error).__name__}: {error}. "
            'Use chat="never", or give the tokenizer another template.'
        ) from error
    return str(text)

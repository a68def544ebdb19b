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
from typing import Any

import jinja2

# A Friday; the day that Llama 3.1's template falls back to where it finds no clock.
FIXED_DATE = "26 Jul 2024"

Messages = Sequence[Mapping[str, str]]

# Written out, because strftime's names depend on the locale. Any other directive stays as it stands.
_DIRECTIVES = {
    "%d": "26",
    "%-d": "26",
    "%e": "26",
    "%b": "Jul",
    "%B": "July",
    "%m": "07",
    "%-m": "7",
    "%Y": "2024",
    "%y": "24",
    "%a": "Fri",
    "%A": "Friday",
    "%j": "208",
    "%F": "2024-07-26",
    "%H": "12",
    "%I": "12",
    "%M": "00",
    "%S": "00",
    "%T": "12:00:00",
    "%p": "PM",
    "%z": "",
    "%Z": "",
}
# Jinja drops the line break after a block, so the template still starts at the start of a line.
_FIXED_CLOCK = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f"|replace('{directive}', '{text}')" for directive, text in _DIRECTIVES.items())
    + " }}{% endmacro %}\n"
)
_PROBE = "doubtlens-answer"


def has_chat_template(tokenizer: Any) -> bool:
    """Say whether a tokenizer carries a chat template."""
    return bool(getattr(tokenizer, "chat_template", None))


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
    attempts = [list(messages)]
    system = ""
    if messages[0]["role"] == "system":
        system = messages[0]["content"]
        first, *rest = messages[1:]
        attempts.append([{"role": first["role"], "content": f"{system}\n\n{first['content']}"}, *rest])
    refusal: Exception | None = None
    for attempt in attempts:
        try:
            text = _apply(tokenizer, attempt, add_generation_prompt)
        except jinja2.TemplateError as error:
            refusal = error
            continue
        if system in text:
            return text
    name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
    raise ValueError(
        f"The chat template of {name!r} must accept turns of the roles {[turn['role'] for turn in attempts[-1]]} and "
        f"write out their text. Got {refusal or 'a text without the first turn'} instead. "
        'Use chat="never", or give the tokenizer another template.'
    ) from refusal


def answer_gap(tokenizer: Any) -> str:
    """Find the white space that the template writes between its generation prompt and an assistant's answer.

    Returns
    -------
    str
        For instance ``""`` (most templates) or ``" "`` (Llama-2, Mistral). ``""`` too where a rendered answer
        does not start with the generation prompt, or where something other than white space stands between.
    """
    turn = {"role": "user", "content": "Yes or no?"}
    opened = render_chat(tokenizer, [turn])
    answer = {"role": "assistant", "content": _PROBE}
    answered = render_chat(tokenizer, [turn, answer], add_generation_prompt=False)
    if not answered.startswith(opened) or _PROBE not in answered[len(opened) :]:
        return ""
    gap = answered[len(opened) :].partition(_PROBE)[0]
    return "" if gap.strip() else gap


def _apply(tokenizer: Any, messages: Messages, add_generation_prompt: bool) -> str:
    text = tokenizer.apply_chat_template(
        [dict(message) for message in messages],
        chat_template=_FIXED_CLOCK + tokenizer.get_chat_template(),
        add_generation_prompt=add_generation_prompt,
        tokenize=False,
        date_string=FIXED_DATE,
        enable_thinking=False,
        thinking=False,
    )
    return str(text)

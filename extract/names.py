"""Answers to a name that is not known: what is nearest, and what there is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest_name(name: object, known: Iterable[object], *, cutoff: float = 0.6) -> str | None:
    """The known name most similar to `name`, case ignored, or None if none reaches `cutoff`.

    The similarity is ``difflib.SequenceMatcher.ratio``, in [0, 1].
    """
    folded = {str(candidate).casefold().strip(): str(candidate) for candidate in known}
    close = difflib.get_close_matches(str(name).casefold().strip(), list(folded), n=1, cutoff=cutoff)
    return folded[close[0]] if close else None


def did_you_mean(name: object, known: Iterable[object], *, cutoff: float = 0.6) -> str:
    """The end of an error message: `` Did you mean 'two_shot'?``, or nothing where no known name is near.

    >>> did_you_mean("twoshot", ["moore2025", "two_shot"])
    " Did you mean 'two_shot'?"
    """
    near = nearest_name(name, known, cutoff=cutoff)
    return f" Did you mean {near!r}?" if near else ""


def unknown_name(kind: str, given: object, known: Iterable[object]) -> str:
    """The whole sentence for an unknown name.

    >>> unknown_name("prompt", "twoshot", ["moore2025", "two_shot"])
    "unknown prompt 'twoshot'. Did you mean 'two_shot'? Known: moore2025, two_shot"
    """
    names = [str(name) for name in known]
    return f"unknown {kind} {given!r}.{did_you_mean(given, names, cutoff=0.5)} Known: {', '.join(names) or 'none'}"

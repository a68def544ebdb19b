"""Error text for a name that is not known: say what was given, what is nearest and what there is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown_name(kind: str, given: object, known: Iterable[object]) -> str:
    """One sentence for an unknown name, with the nearest known one where there is one near.

    >>> unknown_name("prompt", "twoshot", ["moore2025", "two_shot"])
    "unknown prompt 'twoshot'; did you mean 'two_shot'? Known: moore2025, two_shot"
    """
    names = [str(name) for name in known]
    near = difflib.get_close_matches(str(given), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown {kind} {given!r}{hint} Known: {', '.join(names) or 'none'}"

"""The known name closest to one that was mistyped."""

import difflib
from collections.abc import Iterable


def nearest_name(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name most similar to ``name`` (case ignored), or None if none reaches ``cutoff``.

    The similarity is ``difflib.SequenceMatcher.ratio``, in [0, 1].
    """
    folded = {candidate.casefold().strip(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold().strip(), list(folded), n=1, cutoff=cutoff)
    return folded[close[0]] if close else None

"""Checks of one cell of an items table: each returns the cell in its documented form or raises a ValueError.

The messages say what the cell must be, what came and how to mend it; the caller adds where the cell stands.
"""

import math
import numbers
from typing import Any

import numpy as np
import pandas as pd

MAX_OPTIONS = 26


def is_missing(value: Any) -> bool:
    """Say whether a cell is empty: None, NaN, NaT or pandas.NA."""
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    return isinstance(value, float | np.floating) and math.isnan(value)


def check_text(name: str, value: Any) -> str:
    """Return a non-empty string."""
    if not isinstance(value, str) or not value.strip():
        kind = "" if isinstance(value, str) or is_missing(value) else f" ({type(value).__name__})"
        mend = "Write the text, or remove the item." if name == "question" else "Write a text, or null for none."
        raise ValueError(f"The {name} must be a non-empty string. Got {plain(value)!r}{kind} instead. {mend}")
    _require_storable(name, value)
    return str(value)


def _require_storable(name: str, text: str) -> None:
    """Refuse what neither a tokenizer nor a run file can hold."""
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(
            f"The {name} must be text without zero bytes and lone surrogates. Got {text!r} instead. Read its file in "
            "the right encoding, or remove them."
        )


def check_options(value: Any, *, excluded: bool) -> list[str]:
    """Return 2 to 26 non-empty strings, distinct (surrounding white space aside) unless ``excluded``."""
    value = plain(value)
    if not isinstance(value, list):
        raise ValueError(
            f"The options must be a list of strings. Got {value!r} instead. "
            'Write them as a list, for instance ["yes", "no"].'
        )
    if not 2 <= len(value) <= MAX_OPTIONS:
        raise ValueError(
            f"The options must be 2 to {MAX_OPTIONS} strings. Got {len(value)} instead. Options are labelled A to Z: "
            "add the missing ones, or split or remove the item."
        )
    for position, option in enumerate(value):
        if not isinstance(option, str) or not option.strip():
            raise ValueError(
                f"The options must be non-empty strings. Got {option!r} as option {position} (counted from 0) instead. "
                "Write its text in quotes."
            )
        _require_storable("options", option)
    texts = [option.strip() for option in value]
    repeated = sorted({text for text in texts if texts.count(text) > 1})
    if repeated and not excluded:
        raise ValueError(
            f"The options must differ from each other. Got {repeated[0]!r} {texts.count(repeated[0])} times instead. "
            "Correct one of them, or say in the excluded column why the item is left out."
        )
    return [str(option) for option in value]


def check_responses(value: Any, n_options: int) -> list[float]:
    """Return ``n_options`` finite numbers of at least 0, not all zero."""
    value = plain(value)
    if not isinstance(value, list):
        raise ValueError(f"The responses must be a list of {n_options} numbers or null. Got {value!r} instead.")
    if len(value) != n_options:
        raise ValueError(
            f"The responses must be as many as the options ({n_options}). Got {len(value)} instead. Give one number "
            "per option, 0 where nobody chose it."
        )
    for position, share in enumerate(value):
        if not is_number(share) or not math.isfinite(share) or share < 0:
            raise ValueError(
                f"The responses must be finite numbers of at least 0. Got {share!r} for option {position} (counted "
                "from 0) instead. Write counts or proportions, or null for the whole item if they are unknown."
            )
    if not any(value):
        raise ValueError(f"The responses must not all be zero. Got {value!r} instead. Write null if nobody was asked.")
    return [float(share) for share in value]


def check_respondents(value: Any) -> int:
    """Return a whole number of at least 1."""
    if not is_number(value) or not math.isfinite(value) or value != int(value) or value < 1:
        raise ValueError(
            f"The respondents must be a whole number of people, at least 1. Got {value!r} instead. Write null where it "
            "is unknown."
        )
    return int(value)


def check_accepted(value: Any) -> list[str]:
    """Return a non-empty list of non-empty strings."""
    value = plain(value)
    if not isinstance(value, list) or not value or not all(isinstance(text, str) and text.strip() for text in value):
        raise ValueError(
            f"The accepted answers must be a list of non-empty strings. Got {value!r} instead. Write null for none."
        )
    return [str(text) for text in value]


def check_measured(name: str, value: Any) -> None:
    """Check a share in [0, 1] (``recall_correct``) or positive milliseconds (``response_time_ms``)."""
    requirement = "a share in [0, 1]" if name == "recall_correct" else "a positive number of milliseconds"
    inside = is_number(value) and math.isfinite(value)
    if not inside or not (0 <= value <= 1 if name == "recall_correct" else value > 0):
        raise ValueError(f"The {name} must be {requirement}. Got {value!r} instead. Write null where it is unknown.")


def is_number(value: Any) -> bool:
    """Say whether a value is a real number and no bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)


def cell_value(value: Any) -> Any:
    """Turn a cell into what JSON can say, every number exactly: lists, Python scalars, None where it is empty."""
    value = plain(value)
    if isinstance(value, list):
        return [cell_value(element) for element in value]
    return None if is_missing(value) else value


def plain(value: Any) -> Any:
    """Turn arrays and numpy scalars, as Parquet gives them, into lists and Python numbers."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [plain(element) for element in value]
    return value

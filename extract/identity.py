"""What a run is: the fields that must agree before rows of two calls may stand in one file."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from typing import Any

# A finished run stays valid when a library is updated; rows from two versions are not mixed in one file.
VERSIONED = "versions"
# Fields that older runs do not have, and what held for them.
BEFORE: dict[str, Any] = {"positions": ["last"]}


def digest_of(value: Any) -> str:
    """sha256 of a JSON-serialisable value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def library_versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    names = ("doubtlens", "torch", "transformers", "tokenizers", "numpy", "h5py")
    return {name: importlib.metadata.version(name) for name in names} | {"python": platform.python_version()}


def require_same(
    stored: Mapping[str, Any], wanted: Mapping[str, Any], *, where: str, versions: bool, mend: str
) -> None:
    """Compare two identities field by field.

    Raises:
        ValueError: a field differs; it is named with both values and the mend.
    """
    for field in dict.fromkeys([*wanted, *stored]):  # settings come before the digests that follow from them
        if field == VERSIONED and not versions:
            continue
        before, now = (identity.get(field, BEFORE.get(field)) for identity in (stored, wanted))
        if before != now:
            raise ValueError(
                f"{where} was made with {field} = {_short(before)}, and {field} = {_short(now)} is asked for now. "
                f"{mend}"
            )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:197] + "..."

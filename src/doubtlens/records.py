"""What each stage of a study was made from, so that a second call redoes only what changed.

A record is a small JSON file in ``<output>/stages``, written after everything else that the stage wrote: it
exists only if the stage ended well. It holds the settings and the identity of what the stage read (*inputs*),
the size of each file that it wrote (*outputs*), and how long it took. A stage is reused if its record has the
same inputs and its files still stand at their recorded sizes. Inputs are kept in full beside their
fingerprint, so that a changed setting can be named.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .extract.atomic import write_bytes
from .extract.identity import digest_of

__all__ = ["Record", "StageRecords", "child_generator", "write_json"]


def child_generator(seed: int, stage: str, key: str = "") -> np.random.Generator:
    """Return the generator of one stage of one run.

    The child is named, not numbered: its ``SeedSequence`` spawn key is the SHA-256 of stage and key, so that
    another run or stage in the study leaves every other draw as it was.

    Parameters
    ----------
    seed
        The study's seed, at least 0.
    stage, key
        What draws, for example ``"probe"`` and the run's name.
    """
    digest = hashlib.sha256(f"{stage}\0{key}".encode()).digest()
    spawn_key = tuple(int.from_bytes(digest[start : start + 4], "little") for start in range(0, 32, 4))
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=spawn_key))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


@dataclass(frozen=True)
class Record:
    """One finished stage: ``outputs`` maps paths relative to the study's folder to sizes in bytes."""

    stage: str
    key: str
    fingerprint: str
    inputs: dict[str, Any]
    outputs: dict[str, int]
    seconds: float
    details: dict[str, Any]


class StageRecords:
    """The records of one study's output folder."""

    def __init__(self, output: Path) -> None:
        self.output = output

    def path(self, stage: str, key: str) -> Path:
        """Return where the record of a stage stands; ``key`` is empty for stages of the whole study."""
        return self.output / "stages" / f"{stage}.{key}.json" if key else self.output / "stages" / f"{stage}.json"

    def read(self, stage: str, key: str) -> Record | None:
        """Return the record of a stage, whatever it was made from, or None."""
        try:
            return Record(**json.loads(self.path(stage, key).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):  # not ours, or cut short by a full disk: then the stage is made anew
            return None

    def find(self, stage: str, key: str, inputs: Mapping[str, Any]) -> Record | None:
        """Return the record of a stage made from exactly these inputs whose files still stand, or None."""
        record = self.read(stage, key)
        if record is None or record.fingerprint != digest_of(inputs):
            return None
        for name, size in record.outputs.items():
            file = self.output / name
            if not file.is_file() or file.stat().st_size != size:
                return None
        return record

    def changes(self, stage: str, key: str, inputs: Mapping[str, Any]) -> list[str]:
        """Return one ``key: old -> new`` for every input that differs; [] without a record."""
        record = self.read(stage, key)
        if record is None:
            return []
        old, new = dict(_leaves(record.inputs)), dict(_leaves(json.loads(json.dumps(inputs))))
        return [
            f"{name}: {_short(old.get(name))} -> {_short(new.get(name))}"
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name)
        ]

    def write(
        self,
        stage: str,
        key: str,
        inputs: Mapping[str, Any],
        *,
        outputs: Iterable[Path],
        seconds: float,
        details: Mapping[str, Any],
    ) -> Record:
        """Write and return the record of a stage that has just ended; its files must exist."""
        sizes = {path.relative_to(self.output).as_posix(): path.stat().st_size for path in outputs}
        record = Record(stage, key, digest_of(inputs), dict(inputs), sizes, round(seconds, 3), dict(details))
        write_json(self.path(stage, key), asdict(record))
        return record


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _short(value: Any) -> str:
    text = "none" if value is None else json.dumps(value)
    return text if len(text) <= 24 else f"{text[:21]}..."

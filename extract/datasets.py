"""Where items come from: the embedded datasets, a file, the Hugging Face hub or a DataFrame."""

import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pandas as pd

from .columns import Columns, map_columns
from .items import build_items, frame_records
from .names import did_you_mean
from .readers import FILE_SUFFIXES, Source, read_file, read_hub, read_jsonl


@dataclass(frozen=True)
class Dataset:
    """What is known of an embedded dataset."""

    licence: str
    human_distributions: str
    source: str


DATASETS = {
    "knowledge": Dataset(
        "CC BY 4.0",
        "proportions of 49 older adults per option, share recalling the answer unaided, response times",
        "Coane & Umanath 2021, doi:10.3758/s13428-020-01493-2; questions in our own words",
    ),
    "opinions": Dataset(
        "MIT (item marginals of gssrdoc); cite NORC",
        "unweighted counts of 510 to 3,163 survey respondents per item; no right answers",
        "General Social Survey 1972-2024 by way of gssrdoc; questions in our own words",
    ),
}


def load_items(source: str | os.PathLike[str] | pd.DataFrame, *, columns: Columns | None = None) -> pd.DataFrame:
    """Load questions into the documented columns (see :mod:`doubtlens.extract.items`).

    Parameters
    ----------
    source : str, path or DataFrame
        The name of an embedded dataset (``"knowledge"``, ``"opinions"``); a ``.jsonl``, ``.csv`` or
        ``.parquet`` file; ``"hub:org/name?split=test"`` with ``&config=`` and ``&revision=`` if needed; or a
        DataFrame.
    columns : mapping, optional
        Documented column -> source column, for instance ``{"question": "prompt", "options": "choices"}``. A
        dot reaches into a nested column (``"choices.text"``); for ``options``, ``responses`` and ``accepted``
        a list of columns is collected into one. Without ``options`` the columns ``A``, ``B``, ... or
        ``option_1``, ``option_2``, ... are used.

    Returns
    -------
    DataFrame
        One row per item with a RangeIndex. ``attrs["name"]`` is the dataset's name, ``attrs["source"]`` where
        it came from. Items whose ``excluded`` is set are part of the table, but are not asked in choice
        settings.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        Unknown name, broken file or bad item; the message names file, line and item and how to mend it.
    """
    if isinstance(source, pd.DataFrame):
        return _from_frame(source, columns)
    if isinstance(source, str) and source in DATASETS:
        content = files("doubtlens.extract.data").joinpath(f"{source}.jsonl").read_bytes()
        raw = read_jsonl(source, source, content)
    elif isinstance(source, str) and source.startswith("hub:"):
        raw = read_hub(source)
    elif isinstance(source, os.PathLike) or (isinstance(source, str) and _looks_like_path(source)):
        raw = read_file(Path(source))
    else:
        hint = did_you_mean(source, DATASETS)
        raise ValueError(
            f"The source parameter of load_items must be one of {sorted(DATASETS)}, a path ending in "
            f"{', '.join(FILE_SUFFIXES)}, 'hub:org/name?split=...' or a DataFrame. Got {source!r} instead.{hint}"
        )
    raw = map_columns(raw, columns)
    items = build_items(raw.records, raw.places, origin=raw.origin, columns=raw.columns)
    items.attrs.update(name=raw.name, source=raw.origin)
    return items


def known_datasets() -> pd.DataFrame:
    """List the embedded datasets.

    Returns
    -------
    DataFrame
        Columns ``name``, ``n`` (items, the excluded ones included), ``licence``, ``human_distributions``,
        ``source``.
    """
    folder = files("doubtlens.extract.data")
    rows = []
    for name, dataset in DATASETS.items():
        lines = folder.joinpath(f"{name}.jsonl").read_bytes().splitlines()
        count = sum(bool(line.strip()) for line in lines)
        rows.append({"name": name, "n": count, **vars(dataset)})
    return pd.DataFrame(rows)


def _from_frame(frame: pd.DataFrame, columns: Columns | None) -> pd.DataFrame:
    name = frame.attrs.get("name", "items")
    origin = "the DataFrame"
    records, places = frame_records(frame, origin=origin)
    raw = map_columns(Source(name, origin, [str(key) for key in frame.columns], records, places), columns)
    items = build_items(raw.records, raw.places, origin=raw.origin, columns=raw.columns)
    items.attrs.update({**frame.attrs, "name": name})
    return items


def _looks_like_path(source: str) -> bool:
    return bool(Path(source).suffix) or "/" in source or os.sep in source

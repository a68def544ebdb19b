"""How the commands speak: expected errors as one panel, Ctrl-C as one line, results as short tables."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dis import opmap
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from .study import StudyResult, forward_seconds

__all__ = ["INTERRUPTED", "byte_size", "console", "duration", "plain_errors", "summary", "table"]

INTERRUPTED = 130

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


@contextmanager
def plain_errors(*, debug: bool = False, resumable: bool = False) -> Iterator[None]:
    """Turn what a person can mend into one panel and exit code 1; let everything else keep its traceback.

    Args:
        debug: keep every traceback.
        resumable: Ctrl-C says how to go on; the exit code is 130.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        if debug:
            raise
        state = str(error) or "Interrupted: what is finished is kept."
        again = f" Go on with: {shlex.join(['doubtlens', *sys.argv[1:]])}" if resumable else ""
        errors.print(f"{state}{again}", markup=False, soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        if debug or not is_expected(error):
            raise
        lines = [*(str(error) or type(error).__name__).splitlines(), *getattr(error, "__notes__", [])]
        errors.print(Panel(escape("\n\n".join(lines)), title="doubtlens", title_align="left", border_style="red"))
        raise typer.Exit(1) from None


def is_expected(error: BaseException) -> bool:
    """Tell an error that its text explains from a bug.

    Expected are whatever the operating system refuses, and what doubtlens itself refuses, by a ``raise`` in one of
    its own modules. What Python or a library raises in the midst of our code is a bug.
    """
    if isinstance(error, OSError):
        return True
    trace = error.__traceback__
    if trace is None or not isinstance(error, ValueError | RuntimeError | ImportError):
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    module = str(trace.tb_frame.f_globals.get("__name__", ""))
    by_a_raise = trace.tb_frame.f_code.co_code[trace.tb_lasti] == opmap["RAISE_VARARGS"]
    return by_a_raise and module.split(".")[0] == "doubtlens"


def table(columns: list[str], rows: list[list[Any]], *, title: str | None = None) -> Table:
    """Return a plain table; numbers are set to the right."""
    numeric = [
        all(isinstance(row[place], int | float) or not row[place] for row in rows) for place in range(len(columns))
    ]
    view = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column, right in zip(columns, numeric, strict=True):
        view.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in rows:
        view.add_row(*(escape(f"{cell:,}" if isinstance(cell, int) else str(cell)) for cell in row))
    return view


def summary(result: StudyResult) -> Table:
    """Return what a study did, step by step, with the time that each took."""
    rows = []
    for step in result.steps:
        forward = forward_seconds(step)
        rows.append(
            [
                step.stage,
                step.key or result.study.name,
                duration(step.record.seconds),
                duration(forward) if forward == forward else "",
                "unchanged" if step.reused else "done",
            ]
        )
    return table(["stage", "of", "time", "forward passes", ""], rows)


def duration(seconds: float) -> str:
    """Write seconds as a person would: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def byte_size(amount: float) -> str:
    """Write a number of bytes: 312 kB, 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"

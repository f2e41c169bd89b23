"""What the commands print with, and how they end: tables, errors as one message, exit codes."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from jaxviz.cli.progress import print_json_line, say, show
from jaxviz.errors import JaxvizError
from jaxviz.jobs.events import Ended, Logged
from jaxviz.render.options import for_command_line

RESEND_AFTER_S = 0.2  # enough for a busy machine to leave the callback: what arrives before that is lost too
LEFT_OUT_SHOWN = 5


def print_table(rows: list[dict[str, Any]]) -> None:
    """Rows of the same keys on stdout, the keys as headings."""
    cells = [list(rows[0])] + [
        [f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()] for row in rows
    ]
    for line in table_lines(cells):
        show(line)


def table_lines(cells: Sequence[Sequence[str]], *, right_from: int | None = None) -> list[str]:
    """Cells in aligned columns, two spaces apart; to the right from column `right_from` on."""
    columns = len(cells[0])
    widths = [max(len(line[i]) for line in cells) for i in range(columns)]
    first_right = columns if right_from is None else right_from
    return [
        "  ".join(
            cell.rjust(width) if place >= first_right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]


@contextmanager
def reported_errors(
    interrupted: str = "interrupted before anything was rendered", *, progress: str = "auto"
) -> Iterator[None]:
    """Errors raised on purpose become one message on stderr and the exit code they carry; so does Ctrl-C.

    With `progress` "jsonl" the message is a JSON object.
    """
    try:
        yield
    except JaxvizError as error:
        fail(f"error: {for_command_line(error)}", error.exit_code, progress=progress)
    except KeyboardInterrupt:
        fail(interrupted, 130, progress=progress)
    except BrokenPipeError:  # stdout was closed, as `| head` does
        raise typer.Exit(0) from None


def keep_interrupts() -> None:
    """Send a Ctrl-C again that Python drops, because it met a callback such as jax's of the garbage collector."""
    before = sys.unraisablehook

    def hook(dropped: sys.UnraisableHookArgs) -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            threading.Timer(RESEND_AFTER_S, os.kill, (os.getpid(), signal.SIGINT)).start()  # here it would be lost too
        else:
            before(dropped)

    sys.unraisablehook = hook


def show_log(*, verbose: bool, progress: str = "auto") -> None:
    """Warnings of jaxviz on stderr, one line each; with `verbose` also what it chose on the way."""
    handler = _JsonHandler() if progress == "jsonl" else logging.StreamHandler(sys.stderr)
    if progress == "jsonl":  # what libraries say too, as far as Python hears it
        logging.captureWarnings(True)
        for name in ("py.warnings", "jax", "absl", "PIL"):
            logging.getLogger(name).handlers = [handler]
            logging.getLogger(name).propagate = False
    handler.setFormatter(logging.Formatter("%(message)s" if progress == "jsonl" else "%(levelname)s: %(message)s"))
    log = logging.getLogger("jaxviz")
    log.handlers = [handler]
    log.setLevel(logging.INFO if verbose else logging.WARNING)
    log.propagate = False


class _JsonHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print_json_line(Logged(record.levelname.lower(), self.format(record)))


def show_left_out(reasons: Sequence[str]) -> None:
    """Say on stderr which files of a folder were left out, and why: the first ones."""
    for reason in reasons[:LEFT_OUT_SHOWN]:
        say(f"left out: {reason}")
    if len(reasons) > LEFT_OUT_SHOWN:
        say(f"left out: {len(reasons) - LEFT_OUT_SHOWN} more")


def fail(message: str, exit_code: int, *, progress: str = "auto") -> NoReturn:
    """End the command with one message on stderr."""
    if progress == "jsonl":
        print_json_line(Ended(exit_code, message))
    else:
        say(message)
    raise typer.Exit(exit_code)

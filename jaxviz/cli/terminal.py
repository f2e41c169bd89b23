"""What the commands print with, and how they end: tables, errors as one message, exit codes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from jaxviz.errors import JaxvizError


def print_table(rows: list[dict[str, Any]]) -> None:
    """Rows of the same keys on stdout, the keys as headings."""
    columns = list(rows[0])
    cells = [columns] + [
        [f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()] for row in rows
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@contextmanager
def reported_errors() -> Iterator[None]:
    """Errors raised on purpose become one message on stderr and the exit code they carry."""
    try:
        yield
    except JaxvizError as error:
        fail(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        fail("interrupted before anything was rendered", 130)
    except BrokenPipeError:  # stdout was closed, as `| head` does
        sys.stderr.close()
        raise typer.Exit(0) from None


def fail(message: str, exit_code: int) -> NoReturn:
    """End the command with one message on stderr."""
    typer.echo(printable(message), err=True)
    raise typer.Exit(exit_code)


def printable(text: str) -> str:
    """Text that any terminal takes: a file name need not be Unicode."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

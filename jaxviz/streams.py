"""The standard streams of a program: whoever prints need not think of what they lead to.

`open_streams`, at the start of a program, makes stdout and stderr take every text and survive a full disk, and lets
closed ones lead nowhere.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from jaxviz.errors import StorageError


def open_streams() -> None:
    """Replace this process's streams by such as are described here."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: a picture's file would get its number, and what libraries say would go into that
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    sys.stdout = _opened(sys.stdout, Stdout)
    sys.stderr = _opened(sys.stderr, Stderr)


class Stdout(io.TextIOWrapper):
    """A stream of results, which must not be lost in silence.

    Raises StorageError where it cannot be written to, BrokenPipeError where nobody wants more, as after `| head`.
    """

    def write(self, text: str) -> int:
        """Write it."""
        with self._refusing():
            return super().write(text)

    def flush(self) -> None:
        """Let others see what was written."""
        with self._refusing():
            super().flush()

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            _lead_nowhere(self)
            if isinstance(error, BrokenPipeError):
                raise
            raise StorageError(
                f"cannot write to stdout: {error.strerror or error}. Files that were written are whole; send stdout "
                "elsewhere and run the same command again"
            ) from error


class Stderr(io.TextIOWrapper):
    """A stream that goes silent once nobody takes what it says: the work matters more."""

    def write(self, text: str) -> int:
        """Write it, or lose it."""
        try:
            return super().write(text)
        except OSError:
            _lead_nowhere(self)
            return len(text)

    def flush(self) -> None:
        """Let others see what was written, or lose it."""
        try:
            super().flush()
        except OSError:
            _lead_nowhere(self)


def _lead_nowhere(stream: io.TextIOWrapper) -> None:
    """Take what is left in a stream, which Python would try to write once more at the end of the process."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _opened(stream: TextIO | None, kind: type[Stdout] | type[Stderr]) -> TextIO:
    if stream is None:  # closed
        return Path(os.devnull).open("w", encoding="utf-8", errors="replace")
    if not isinstance(stream, io.TextIOWrapper):
        return stream  # somebody's own
    return kind(
        stream.buffer,
        encoding=stream.encoding,
        errors="backslashreplace",  # a letter that the encoding lacks becomes \u65e5
        line_buffering=stream.line_buffering,
    )

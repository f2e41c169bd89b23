"""Progress on stderr: a bar with the time left on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_EVERY_S = 10.0  # of plain progress lines: a log should stay readable


@contextmanager
def render_progress(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Shows progress over `total` pictures; yields a function to call after each."""
    if total == 0:
        yield lambda: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(title, total=total)
            yield lambda: progress.advance(task)
    else:
        yield _Lines(title, total).advance


class _Lines:
    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.done = title, total, 0
        self.started = self.spoken = time.perf_counter()
        print(f"{title}: {total} filters, compiling", file=sys.stderr, flush=True)

    def advance(self) -> None:
        self.done += 1
        now = time.perf_counter()
        if self.done < self.total and now - self.spoken < LINE_EVERY_S:
            return
        self.spoken = now
        left_s = (now - self.started) / self.done * (self.total - self.done)
        print(f"{self.title}: {self.done}/{self.total}, {left_s:.0f} s left", file=sys.stderr, flush=True)


class DownloadProgress:
    """A download's progress: the object that pooch expects (`total`, `update`, `reset`, `close`)."""

    def __init__(self) -> None:
        self.total = 0
        self._done = 0
        self._spoken = 0.0

    def update(self, count: int) -> None:
        """`count` more bytes have arrived."""
        self._done += count
        every_s = 0.2 if sys.stderr.isatty() else LINE_EVERY_S
        if time.perf_counter() - self._spoken >= every_s:
            self._spoken = time.perf_counter()
            self._print("\r" if sys.stderr.isatty() else "\n")

    def reset(self) -> None:
        """Start again."""
        self._done = 0

    def close(self) -> None:
        """The last byte has arrived, or none will."""
        if self._done:
            self._print("\n")

    def _print(self, end: str) -> None:
        share = f" of {self.total / 1e6:.0f}" if self.total else ""
        print(f"downloading weights: {self._done / 1e6:.0f}{share} MB", end=end, file=sys.stderr, flush=True)

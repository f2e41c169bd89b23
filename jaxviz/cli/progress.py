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

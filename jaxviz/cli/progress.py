"""Progress on stderr: a bar with the time left on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CLEAR_LINE = "\r\x1b[K"
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


@contextmanager
def spoken_progress() -> Iterator[Callable[[str], None]]:
    """Shows what is going on now; yields a function to say it with.

    It writes when called and never in between: a bar that moves by itself would take time from what is measured.
    """
    on_terminal = sys.stderr.isatty()
    started = spoken = time.perf_counter()
    first = True

    def say(text: str) -> None:
        nonlocal spoken, first
        now = time.perf_counter()
        line = f"[{now - started:.0f} s] {text}"
        if on_terminal:
            print(f"{CLEAR_LINE}{line[: shutil.get_terminal_size().columns - 1]}", end="", file=sys.stderr, flush=True)
        elif first or now - spoken >= LINE_EVERY_S:
            print(line, file=sys.stderr, flush=True)
            spoken = now
        first = False

    try:
        yield say
    finally:
        if on_terminal:
            print(CLEAR_LINE, end="", file=sys.stderr, flush=True)


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

"""Progress on stderr: one display for a whole run, a line now and then in a log, or JSON lines for scripts.

The time left is estimated by arithmetic, not by pictures: the layers of a network differ by orders of magnitude.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from jaxviz.errors import ConfigError
from jaxviz.jobs.events import Event, LayerStarted, Note, SmallerBatch, Started, Written
from jaxviz.records import to_json

if TYPE_CHECKING:
    from rich.progress import Progress

CLEAR_LINE = "\r\x1b[K"
LINE_EVERY_S = 10.0  # of plain progress lines: a log should stay readable
COUNTED = ("layers_begun", "pictures", "flop", "pictures_there", "flop_there")  # anew where a layer starts again
MODES = ("auto", "lines", "jsonl", "none")


@contextmanager
def run_progress(mode: str) -> Iterator[Display]:
    """Shows the progress of a run; yields what is told of it.

    `mode` is the value of --progress: "auto" is a bar with the time left on a terminal, plain lines elsewhere.
    Raises ConfigError if it is unknown.
    """
    if mode not in MODES:
        raise ConfigError(f"--progress {mode!r} is unknown; allowed: {', '.join(MODES)}")
    if mode == "auto" and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (TextColumn("{task.fields[layer]}"), BarColumn(), TextColumn("{task.fields[figures]}"))
        with Progress(*columns, console=Console(stderr=True)) as bar:
            yield _Bar(bar)
    else:
        yield {"jsonl": JsonLines, "none": Display}.get(mode, _Lines)()


@dataclass
class Display:
    """Counts what a run tells and shows nothing but notes; the others show more. `report` is an `events.Report`."""

    started: float = field(default_factory=time.perf_counter)
    layers: int = 0
    layers_begun: int = 0
    pictures: int = 0
    pictures_there: int = 0  # written, or there before
    written: int = 0
    flop: int = 0
    flop_there: int = 0
    flop_written: int = 0
    layer: LayerStarted | None = None
    before: dict[str, Any] = field(default_factory=dict)  # the counts when the layer at work began

    def report(self, event: Event) -> None:
        """What happened."""
        if isinstance(event, Started):
            self.layers, self.pictures, self.flop = event.layers, event.pictures, event.flop
        elif isinstance(event, LayerStarted):
            self.before = {name: getattr(self, name) for name in COUNTED}
            self.layer = event
            self.layers_begun += 1
            more = event.pictures - event.expected  # a shard's share is known once the layer is planned
            there = event.pictures - event.missing
            self.pictures += more
            self.flop += more * event.flop_per_picture
            self.pictures_there += there
            self.flop_there += there * event.flop_per_picture
        elif isinstance(event, SmallerBatch):  # the layer starts again, so that its pictures count once
            vars(self).update(self.before)
        elif isinstance(event, Written) and self.layer is not None:
            self.written += 1
            self.pictures_there += 1
            self.flop_written += self.layer.flop_per_picture
            self.flop_there += self.layer.flop_per_picture
        self.show(event)

    def show(self, event: Event) -> None:
        """Show it."""
        if isinstance(event, Note):
            say(event.message)

    @property
    def left_s(self) -> float | None:
        """Seconds left; None before the first picture."""
        if not self.flop_written:
            return None
        return (time.perf_counter() - self.started) / self.flop_written * max(self.flop - self.flop_there, 0)

    @property
    def figures(self) -> str:
        """How far the run is, in words."""
        elapsed_s = time.perf_counter() - self.started
        left = "" if self.left_s is None else f", {duration(self.left_s)} left"
        return f"{self.pictures_there}/{self.pictures} pictures, {self.written / elapsed_s:.1f}/s{left}"

    @property
    def title(self) -> str:
        """The layer at work."""
        place = f" ({self.layers_begun}/{self.layers})" if self.layers > 1 else ""
        return f"{self.layer.model} {self.layer.layer}{place}" if self.layer is not None else ""


class JsonLines(Display):
    """One JSON object a line, for schedulers and scripts."""

    def show(self, event: Event) -> None:
        """Every event as it is; with "written" also how far the run is."""
        more: dict[str, Any] = {}
        if isinstance(event, Written):
            left_s = None if self.left_s is None else round(self.left_s, 1)
            more = {"pictures_there": self.pictures_there, "pictures": self.pictures, "left_s": left_s}
        print_json_line(event, elapsed_s=round(time.perf_counter() - self.started, 3), **more)


class _Bar(Display):
    def __init__(self, bar: Progress) -> None:
        super().__init__()
        self.bar, self.task = bar, bar.add_task("", total=None, layer="", figures="")

    def show(self, event: Event) -> None:
        if isinstance(event, Note):
            self.bar.console.print(event.message, markup=False, highlight=False)
        elif isinstance(event, LayerStarted | Written):
            self.bar.update(
                self.task, completed=self.flop_there, total=self.flop, layer=self.title, figures=self.figures
            )


class _Lines(Display):
    def __init__(self) -> None:
        super().__init__()
        self.spoken = self.started

    def show(self, event: Event) -> None:
        now = time.perf_counter()
        if isinstance(event, Note):
            say(event.message)
        elif isinstance(event, LayerStarted) and event.missing:
            say(f"{self.title}: {event.missing} pictures, compiling")
        elif isinstance(event, Written) and (now - self.spoken >= LINE_EVERY_S or self.pictures_there == self.pictures):
            say(f"{self.title}: {self.figures}")
            self.spoken = now


def print_json_line(event: Event, **more: Any) -> None:
    """An event as one JSON object on a line of stderr, with more values."""
    say(to_json({"event": event.name} | more | msgspec.to_builtins(event)))


def say(text: str) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr, flush=True)


def show(text: str) -> None:
    """A result on stdout: lines, or one JSON object."""
    print(text, flush=True)


@contextmanager
def spoken_progress() -> Iterator[Callable[[str], None]]:
    """Shows what is going on now; yields a function to say it with.

    It writes when called and never in between: a bar that moves by itself would take time from what is measured.
    """
    on_terminal = sys.stderr.isatty()
    started = spoken = time.perf_counter()
    first = True

    def speak(text: str) -> None:
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
        yield speak
    finally:
        if on_terminal:
            print(CLEAR_LINE, end="", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Such as `2.4 s`, `3 min 20 s` or `5 h 02 min`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 60} min {whole % 60:02} s" if whole >= 60 else f"{seconds:.1f} s"

"""A download's progress on stderr: a bar on a terminal, two plain lines elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn


class DownloadBar:
    """Shows one download; the protocol of `fetch.ProgressBar`. Nothing is drawn before the first byte."""

    def __init__(self, label: str) -> None:
        self.total = 0
        self._label = label
        self._console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        self._bar = Progress(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=self._console)
        self._task = self._bar.add_task(label, total=None)
        self._announced = False

    def update(self, size: int) -> None:
        """`size` more bytes are here."""
        if self._console.is_terminal:
            self._bar.start()
            self._bar.update(self._task, advance=size, total=self.total or None)
        elif not self._announced:
            self._announced = True
            self._console.print(f"{self._label}: {self.total / 1e6:.0f} MB ...", soft_wrap=True)

    def reset(self) -> None:
        """Back to none."""
        self._bar.reset(self._task)

    def close(self) -> None:
        """Leaves the finished bar on the screen."""
        if self._bar.live.is_started:
            self._bar.stop()

"""One cell in a process of its own: its results as they come, its group killed at the limit, its log's end kept.

The child writes one JSON line for each partial result, the whole of it so far, to its stdout; what libraries print goes
to its log. Its stdin is a pipe that ends with this process, and the child ends itself then.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.processes import Process

REFUSED, UNAVAILABLE = 3, 4  # exit codes of a cell: the whole visit makes no sense here; this one cannot run here

Status = Literal["complete", "partial", "failed", "unavailable", "refused"]


@dataclass(frozen=True)
class Outcome:
    """What became of a cell; `result` is its last whole line, None if there was none."""

    status: Status
    seconds: float
    result: dict[str, Any] | None
    reason: str | None = None
    log: tuple[str, ...] = ()


def run_cell(
    command: Sequence[str],
    *,
    limit_s: float,
    log: Path,
    environment: Mapping[str, str],
    on_result: Callable[[dict[str, Any]], None],
) -> Outcome:
    """Run a cell's command; `on_result` is told every result so far."""
    started = time.monotonic()
    ends = started + limit_s
    result: dict[str, Any] | None = None
    with Process(command, environment=environment, log=log) as process:
        for line in process.lines(ends):
            result = json.loads(line)
            on_result(result)
        code = process.exit_code(ends)
        tail = process.log_end()
    seconds = round(time.monotonic() - started, 2)
    if code == 0:
        return Outcome("complete", seconds, result)
    if code is None:
        return Outcome("partial" if result else "failed", seconds, result, f"killed after {limit_s:.0f} s", tail)
    if code in (REFUSED, UNAVAILABLE):
        status: Status = "refused" if code == REFUSED else "unavailable"
        return Outcome(status, seconds, result, tail[-1] if tail else "it does not say why")
    ended = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return Outcome("partial" if result else "failed", seconds, result, ended, tail)


def cell_command(name: str, settings: Path) -> list[str]:
    """The command of a cell of the program."""
    return [sys.executable, "-m", "benchmarks.visit.cell", name, str(settings)]

"""One cell in a process of its own: its results as they come, its group killed at the limit, its log's end kept.

The child writes one JSON line for each partial result, the whole of it so far, to its stdout; what libraries print goes
to its log. Its stdin is a pipe that ends with this process, and the child ends itself then.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.settings import ROOT

LOG_LINES = 20  # of a cell that failed
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
    command: list[str],
    *,
    limit_s: float,
    log: Path,
    environment: Mapping[str, str],
    on_result: Callable[[dict[str, Any]], None],
) -> Outcome:
    """Run a cell's command; `on_result` is told every result so far."""
    started = time.monotonic()
    result: dict[str, Any] | None = None
    with log.open("w") as errors:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            process_group=0,
        )
    try:
        for line in _lines(process, started + limit_s):
            result = json.loads(line)
            on_result(result)
        code = _exit_code(process, started + limit_s)
    finally:
        _end(process)
    seconds = round(time.monotonic() - started, 2)
    if code == 0:
        return Outcome("complete", seconds, result)
    tail = tuple(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
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


def _lines(process: subprocess.Popen[bytes], ends: float) -> Any:
    """Whole lines of the child's stdout, until it closes it or the time is up."""
    assert process.stdout is not None
    descriptor, rest = process.stdout.fileno(), b""
    while (left := ends - time.monotonic()) > 0:
        ready, _, _ = select.select([descriptor], [], [], left)
        if not ready:
            return
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


def _exit_code(process: subprocess.Popen[bytes], ends: float) -> int | None:
    """None: it did not end in time."""
    try:
        return process.wait(max(0.0, ends - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill whatever is left of the child's group, also what the child itself started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()

"""Processes that measure, seen from the one that waits: the only place that starts them.

A process answers in JSON lines on its stdout; what libraries print goes to its log, whose end is quoted if it fails. It
is the head of a group that is killed as a whole, and its stdin ends with the process that waits.
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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.clock import Clock
from benchmarks.settings import ROOT

LOG_LINES = 20
FOREVER = float("inf")
RSS_BYTES = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss


class WorkerError(Exception):
    """A process failed; the message is the end of its log."""


class Process:
    """A command in a process group of its own, which ends with the `with` statement."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("w") as errors:
            self.popen = subprocess.Popen(
                command,
                cwd=ROOT,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                process_group=0,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Kill what is left of its group, also what it started itself."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            assert pipe is not None
            pipe.close()

    def lines(self, ends: float = FOREVER) -> Iterator[bytes]:
        """Whole lines of its stdout, until it closes it or, by the monotonic clock, the time is up."""
        assert self.popen.stdout is not None
        descriptor, rest = self.popen.stdout.fileno(), b""
        while (left := ends - time.monotonic()) > 0:
            ready, _, _ = select.select([descriptor], [], [], None if left == FOREVER else left)
            chunk = os.read(descriptor, 1 << 16) if ready else b""
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines

    def exit_code(self, ends: float = FOREVER) -> int | None:
        """Wait for its end; None: the time was up before."""
        try:
            return self.popen.wait(None if ends == FOREVER else max(0.0, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None

    def log_end(self) -> tuple[str, ...]:
        """The last lines of its log."""
        return tuple(self._log.read_text(errors="replace").splitlines()[-LOG_LINES:])

    def failed(self, name: str) -> WorkerError:
        """That it ended, with the end of its log."""
        return WorkerError("\n".join([f"{name} ended with exit code {self.exit_code()}:", *self.log_end()]))


class Worker(Process):
    """`benchmarks/worker.py`: started once, asked one function at a time, stopped (SIGSTOP) in between.

    A stopped process cannot spin, whatever its thread pools do between calls, so only who is asked is awake.
    """

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        variables = worker_environment(folder / "cache") | dict(environment or {})
        super().__init__([sys.executable, "-m", "benchmarks.worker"], environment=variables, log=folder / "log")
        self._answers = self.lines()

    def ask(self, function: str, **arguments: Any) -> dict[str, Any]:
        """Wake the worker, let it call `benchmarks.`function, wait for the answer, let it sleep.

        Raises:
            WorkerError: it ended with a traceback.
        """
        assert self.popen.stdin is not None
        os.kill(self.popen.pid, signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):
            self.popen.stdin.write(json.dumps({"function": function, **arguments}).encode() + b"\n")
            self.popen.stdin.flush()
        line = next(self._answers, None)
        if line is None:
            raise self.failed(self.name)
        os.kill(self.popen.pid, signal.SIGSTOP)
        answer: dict[str, Any] = json.loads(line)
        return answer


def timed_command(words: Sequence[str], *, environment: Mapping[str, str], log: Path) -> dict[str, Any]:
    """Run a Python module to its end: times, peak memory, and `summary`, the JSON line that it printed.

    Raises:
        WorkerError: it failed.
    """
    began, clock = time.time(), Clock()
    with Process([sys.executable, "-m", *words], environment=environment, log=log) as process:
        text = b"".join(process.lines())
        # Who waits learns the peak memory. It is at least this process's own, which is small: no framework.
        _, status, used = os.wait4(process.popen.pid, 0)
        times = clock.read(own_cpu_s=used.ru_utime + used.ru_stime)
        process.popen.returncode = os.waitstatus_to_exitcode(status)
        if status != 0:
            raise process.failed(" ".join(words[:2]))
    peak_mb = round(used.ru_maxrss * RSS_BYTES / 2**20, 1)
    return {"began": began, **times, "peak_memory_mb": peak_mb, "summary": json.loads(text)}


def worker_environment(caches: Path) -> dict[str, str]:
    """This process's environment, with empty caches, so that compile times are those of a first run."""
    kept = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    return kept | {
        "PYTHONPATH": str(ROOT),
        "JAXVIZ_CACHE": str(caches),
        "KERAS_HOME": str(caches),
        "TF_CPP_MIN_LOG_LEVEL": "3",  # no lines about GPUs that are not there
    }

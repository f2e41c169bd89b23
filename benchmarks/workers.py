"""The parent's side of a worker: started once, asked one command at a time, stopped (SIGSTOP) in between.

A stopped process cannot spin, whatever its thread pools do between calls, so only the contestant that is asked is
awake.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.settings import ROOT

LOG_LINES = 15
CLOSE_TIMEOUT_S = 20


class WorkerError(Exception):
    """A worker ended; the message is the end of its log."""


class Worker:
    """A contestant in its own process."""

    def __init__(
        self,
        name: str,
        task: Path | None,
        *,
        folder: Path,
        extra_environment: dict[str, str],
        module: str = "benchmarks.worker",
        contestant: str | None = None,
    ) -> None:
        """`name` is the contestant's own, unless one runs twice in different ways."""
        self.name = name
        self.unavailable: str | None = None
        self._log_path = folder / f"{name}.log"
        with self._log_path.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, contestant or name, *([] if task is None else [str(task)])],
                cwd=ROOT,
                env=worker_environment(folder / name) | extra_environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
            )

    def wait_until_ready(self) -> None:
        """Until the model is built, or the worker says why it cannot take part; then it sleeps.

        Raises:
            WorkerError: it ended with a traceback.
        """
        self.unavailable = self._read().get("unavailable")
        if self.unavailable is None:
            self._signal(signal.SIGSTOP)

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Wake the worker, give it a command, wait for the answer, let it sleep.

        Raises:
            WorkerError: it ended with a traceback.
        """
        assert self._process.stdin is not None
        self._signal(signal.SIGCONT)
        self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
        answer = self._read()
        self._signal(signal.SIGSTOP)
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.poll() is None:
            self._signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(CLOSE_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            tail = "\n".join(self._log_path.read_text().splitlines()[-LOG_LINES:])
            raise WorkerError(f"{self.name} ended with exit code {code}:\n{tail}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)


def worker_environment(caches: Path) -> dict[str, str]:
    """This process's environment, with empty caches, so that compile times are those of a first run."""
    kept = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    return kept | {
        "PYTHONPATH": str(ROOT),
        "JAXVIZ_CACHE": str(caches),
        "KERAS_HOME": str(caches),
        "TF_CPP_MIN_LOG_LEVEL": "3",  # no lines about GPUs that are not there
    }

"""The child process of a visit: `python -m benchmarks.visit.cell NAME SETTINGS.json`.

Writes one JSON line for each result so far to stdout; whatever libraries print goes to stderr. Exit code 3: the visit
makes no sense here; 4: this cell cannot run here; the last line of stderr says why. Its stdin ends with the runner, and
then so does this process with all that it started.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
from pathlib import Path

import msgspec

from benchmarks.contestants import UnavailableError
from benchmarks.visit import program
from benchmarks.visit.cells import RefusedError
from benchmarks.visit.runner import REFUSED, UNAVAILABLE
from benchmarks.visit.settings import Settings


def main(name: str, settings_path: str) -> int:
    """Run one cell; the exit code."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    threading.Thread(target=_end_with_the_runner, daemon=True).start()
    path = Path(settings_path)
    settings = msgspec.json.decode(path.read_bytes(), type=Settings)
    cell = program.by_name(settings)[name]
    module, _, function = cell.home.partition(".")
    try:
        home = importlib.import_module(f"benchmarks.visit.cells.{module}")
        for result in getattr(home, function)(settings, path.parent, **cell.arguments):
            replies.write(json.dumps(result, allow_nan=False) + "\n")
    except (RefusedError, UnavailableError) as reason:
        print(reason, file=sys.stderr)
        return REFUSED if isinstance(reason, RefusedError) else UNAVAILABLE
    return 0


def _end_with_the_runner() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

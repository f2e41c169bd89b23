"""The record of a visit, `visit.json`: whole and valid after every write, wherever the visit is cut off.

Statuses of a cell: running (in a file that was cut off: it was then), complete, partial (cut off with a result),
failed, unavailable (cannot run here), refused, skipped.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.records import RIVALS, now, origin, plain
from benchmarks.visit.runner import Outcome
from benchmarks.visit.schedule import Skip, Turn
from benchmarks.visit.settings import Settings
from jaxviz.bench.records import to_json
from jaxviz.files import write_atomically

SCHEMA = 1
FILE = "visit.json"
SMI_FIELDS = "name,memory.total,driver_version,clocks.max.sm,power.limit"
SMI_TIMEOUT_S = 10
PACKAGES = ("triton", "optree")


class Record:
    """The record and its file."""

    def __init__(
        self, path: Path, settings: Settings, *, minutes: float, command: str, environment: Mapping[str, str]
    ) -> None:
        self.path = path
        self.values: dict[str, Any] = {
            "schema": SCHEMA,
            "rehearsal": settings.rehearsal,
            "finished": None,
            "minutes": minutes,
            "command": command,
            **plain(origin(environment, packages=(*RIVALS, *PACKAGES))),
            "settings": plain(settings),
            "cells": [],
        }
        self.values["hardware"]["gpus"] = gpus()
        self.write()

    def take_over(self, cells: Sequence[dict[str, Any]]) -> None:
        """Cells that an earlier visit has completed."""
        self.values["cells"] += cells
        self.write()

    def begin(self, turn: Turn, at_s: float) -> None:
        """A cell starts."""
        self.values["cells"].append(
            {
                "name": turn.cell.name,
                "section": turn.section,
                "status": "running",
                "at_s": round(at_s, 1),
                "seconds": None,
                "limit_s": round(turn.limit_s, 1),
                "environment": dict(turn.cell.environment),
                "reason": None,
                "log": [],
                "result": None,
            }
        )
        self.write()

    def so_far(self, result: dict[str, Any]) -> None:
        """What the running cell has found so far."""
        self.values["cells"][-1]["result"] = result | {"complete": False}
        self.write()

    def end(self, outcome: Outcome) -> None:
        """What became of it."""
        complete = outcome.status == "complete"
        self.values["cells"][-1] |= {
            "status": outcome.status,
            "seconds": outcome.seconds,
            "reason": outcome.reason,
            "log": list(outcome.log),
            "result": None if outcome.result is None else outcome.result | {"complete": complete},
        }
        self.write()

    def skip(self, skip: Skip) -> None:
        """A cell that was not run."""
        self.values["cells"].append(
            {"name": skip.cell.name, "section": skip.section, "status": "skipped", "reason": skip.reason}
        )
        self.write()

    def finish(self) -> None:
        """All cells have had their turn."""
        self.values["finished"] = now()
        self.write()

    def write(self, path: Path | None = None) -> None:
        """Replace the file, or another, by the record as it is now."""
        write_atomically(path or self.path, f"{to_json(self.values, indent=1)}\n".encode())


def gpus() -> list[str]:
    """What nvidia-smi says of each GPU; nothing where it is not there or does not answer."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", f"--query-gpu={SMI_FIELDS}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=SMI_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return answer.stdout.splitlines()

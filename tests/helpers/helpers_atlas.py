"""Atlases of the model `tiny` in processes of their own: started, listened to, killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import shared_cache
from helpers_cli import TINY, contents, environment

TESTS = Path(__file__).parent
# In the child: `tiny` is a registered model there too.
REGISTER = (
    f"import sys; sys.path.insert(0, {str(TESTS)!r})\n"
    "import pytest, helpers_cli\n"
    "helpers_cli.install_tiny_model(pytest.MonkeyPatch())\n"
    "from jaxviz.cli import main\nmain()"
)
ATLAS = ("atlas", TINY, "--size", "64", "--crop", "7", "--steps", "40", "--batch-size", "2", "--progress", "jsonl")
CHANGING = ("timings",)  # of layer.json: how long it took


class Running:
    """An atlas at work; its events as they come."""

    def __init__(self, *arguments: str | Path, cwd: Path, cache: Path | None = None) -> None:
        known = environment()
        if cache is not None:  # of its own: killed while it writes there, a process leaves half a program behind
            known = {name: value for name, value in known.items() if name not in shared_cache.NAMES}
            known["JAXVIZ_CACHE"] = str(cache)
        self.process = subprocess.Popen(
            [sys.executable, "-c", REGISTER, *map(str, arguments)],
            cwd=cwd,
            env=known,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.events: list[dict[str, Any]] = []

    def listen(self) -> Iterator[dict[str, Any]]:
        """Its events, until it ends."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.endswith("\n"):  # a killed process may stop in the middle of a line
                self.events.append(json.loads(line))
                yield self.events[-1]

    def finish(self) -> int:
        """Let it end; its exit code."""
        for _ in self.listen():
            pass
        return self.close()

    def kill(self) -> None:
        """SIGKILL; what it had said until then is still heard."""
        self.process.kill()
        for _ in self.listen():
            pass
        self.close()

    def close(self) -> int:
        code = self.process.wait(timeout=60)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code

    def named(self, event: str) -> list[tuple[str, int, int]]:
        """(layer, filter, replica) of each event of that name, which is about pictures."""
        return [(one["layer"], one["filter_index"], one["replica"]) for one in self.events if one["event"] == event]


def lasting(folder: Path) -> dict[str, Any]:
    """Every file of a finished folder: bytes, or of layer.json what does not change from run to run."""
    files: dict[str, Any] = contents(folder)
    for name, data in files.items():
        if name.endswith("layer.json"):
            record = json.loads(data)
            files[name] = {key: value for key, value in record.items() if key not in CHANGING}
    return files

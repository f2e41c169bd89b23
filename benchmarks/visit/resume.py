"""A second visit to the same machine: what the first has completed is taken over, and only the rest is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MUST_AGREE = ("schema", "rehearsal", "settings", "git", "hardware", "versions")
AGAIN = ("start",)  # its files are needed, and it looks whether the GPU is there


class ResumeError(Exception):
    """The earlier visit cannot be gone on with; the message says why."""


def completed(path: Path, record: dict[str, Any]) -> list[dict[str, Any]]:
    """The completed cells of an earlier visit, each with that visit's start as `visit`.

    Raises:
        ResumeError: there is no earlier visit, or it was of other code, other software or another machine.
    """
    if not path.is_file():
        raise ResumeError(f"{path} is not there: no earlier visit to go on with; leave --resume out")
    earlier = json.loads(path.read_text())
    for name in MUST_AGREE:
        if earlier.get(name) != record[name]:
            raise ResumeError(
                f"{path} is of another visit: {name} is {earlier.get(name)} there and {record[name]} here; "
                "leave --resume out"
            )
    return [
        {"visit": earlier["started"]} | cell
        for cell in earlier["cells"]
        if cell["status"] == "complete" and cell["name"] not in AGAIN
    ]

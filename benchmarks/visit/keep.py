"""A finished visit becomes a committed result, benchmarks/gpu/<time>-<commit>.json, never to be edited."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.records import write_new
from benchmarks.visit.record import FILE, SCHEMA

MAIN_JOB = "job_conv5"  # without a figure of it there is nothing to report


class KeepError(Exception):
    """The result is none to keep; the message says why."""


def keep(folder: Path, results: Path, commit: str | None = None) -> Path:
    """Copy the record of a visit; its new path.

    Args:
        folder: where the visit wrote.
        results: where it goes.
        commit: of the checkout that was measured, where the record has none.

    Raises:
        KeepError: no record, a rehearsal, nothing measured, or kept already.
    """
    path = folder / FILE
    if not path.is_file():
        raise KeepError(f"{path} is not there; give the folder that --out named")
    record = json.loads(path.read_text())
    check(record, str(path))
    if record["git"]["hash"] is None:
        record["git"]["hash"] = commit
    try:
        return write_new(results, record, started=record["started"], commit_hash=record["git"]["hash"])
    except FileExistsError as error:
        raise KeepError(f"{error.filename} is there already") from error


def check(record: dict[str, Any], source: str) -> None:
    """Raise KeepError unless the record is a visit to a GPU with the main job in it."""
    if record.get("schema") != SCHEMA:
        raise KeepError(f"{source} has schema {record.get('schema')}; this code knows {SCHEMA}")
    if record["rehearsal"]:
        raise KeepError(f"{source} is a rehearsal on a CPU; it says nothing about a GPU")
    jobs = [cell for cell in record["cells"] if cell["name"] == MAIN_JOB and cell.get("result")]
    if not any(row["status"] == "ok" for cell in jobs for row in cell["result"]["rows"]):
        raise KeepError(f"{source} has no figure of the main job ({MAIN_JOB})")

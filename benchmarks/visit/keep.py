"""A finished visit becomes a committed result, benchmarks/gpu/<time>-<commit>.json, never to be edited."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

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
    moment = datetime.fromisoformat(record["started"]).strftime("%Y-%m-%dT%H-%M-%SZ")
    if record["git"]["hash"] is None:
        record["git"]["hash"] = commit
    target = results / f"{moment}-{(record['git']['hash'] or 'nogit')[:7]}.json"
    results.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1)
    flat = re.sub(r"\[[^][{}]*\]", lambda found: " ".join(found[0].split()), text)  # numbers of a list on one line
    try:
        with target.open("x") as file:
            file.write(flat + "\n")
    except FileExistsError as error:
        raise KeepError(f"{target} is there already") from error
    return target


def check(record: dict[str, Any], source: str) -> None:
    """Raise KeepError unless the record is a visit to a GPU with the main job in it."""
    if record.get("schema") != SCHEMA:
        raise KeepError(f"{source} has schema {record.get('schema')}; this code knows {SCHEMA}")
    if record["rehearsal"]:
        raise KeepError(f"{source} is a rehearsal on a CPU; it says nothing about a GPU")
    jobs = [cell for cell in record["cells"] if cell["name"] == MAIN_JOB and cell.get("result")]
    if not any(row["status"] == "ok" for cell in jobs for row in cell["result"]["rows"]):
        raise KeepError(f"{source} has no figure of the main job ({MAIN_JOB})")

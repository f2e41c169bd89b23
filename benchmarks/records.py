"""The result file: one kind of record for every fact, the race among them, written once and never edited.

A result says when, with which code, on which machine and with which settings something was measured, and holds for each
fact its raw values, what is computed from them, and the verdicts. Machine and JSON are `jaxviz.bench`'s.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from benchmarks.settings import ROOT
from jaxviz.bench import machine
from jaxviz.bench.records import Host, to_json

SCHEMA = 1
RIVALS = ("tensorflow", "keras", "torch")  # packages whose versions count beside jaxviz's own


class Commit(Struct, frozen=True):
    """The code that was measured; None where there is no git folder."""

    hash: str | None
    dirty: bool | None  # whether files differ from it; the folders of results do not count


class Origin(Struct, frozen=True, kw_only=True):
    """Where figures come from."""

    started: str  # UTC, ISO 8601
    git: Commit
    hardware: Host
    versions: dict[str, str | None]
    environment: dict[str, str]
    load_average_at_start: float | None


class Verdict(Struct, frozen=True, kw_only=True):
    """A claim and the case that is nearest to breaking it, or breaks it most; `holds` is None where no case has it."""

    text: str
    figure: str
    comparison: str
    limit: float
    style: str
    measured: float | None = None
    case: str | None = None
    holds: bool | None = None


class Entry(Struct, frozen=True, kw_only=True):
    """One fact; `failed` says why there are no raw values."""

    failed: str | None
    raw: Any = None
    took_s: float | None = None
    figures: dict[str, dict[str, Any]] = {}
    others_share: float | None = None  # of the machine's time while it was measured; None: unknown
    claims: tuple[Verdict, ...] = ()
    holds: bool | None = None


class Result(Origin, frozen=True, kw_only=True):
    """One run."""

    schema: int = SCHEMA
    finished: str
    forced: bool  # although the machine was busy
    settings: dict[str, Any]
    material: dict[str, Any]  # hashes
    facts: dict[str, Entry]


def origin(environment: Mapping[str, str] = os.environ, *, packages: Sequence[str] = RIVALS) -> Origin:
    """This moment on this machine, with that environment of what is measured."""
    return Origin(
        started=now(),
        git=commit(),
        hardware=machine.host(),
        versions=machine.versions(packages),
        environment=machine.tuning(environment),
        load_average_at_start=machine.load_average(),
    )


def write_new(folder: Path, record: Any, *, started: str, commit_hash: str | None) -> Path:
    """A new file, named by time and commit. Raises FileExistsError: nothing is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    moment = datetime.fromisoformat(started).strftime("%Y-%m-%dT%H-%M-%SZ")
    path = folder / f"{moment}-{(commit_hash or 'nogit')[:7]}.json"
    with path.open("x") as file:
        file.write(to_json(record, indent=1) + "\n")
    return path


def when(result: Any) -> str:
    """Day and commit, in words."""
    changes = " with changes" if result.git.dirty else ""
    return f"{datetime.fromisoformat(result.started).date()}, commit {(result.git.hash or 'unknown')[:7]}{changes}"


def is_short(result: Result) -> bool:
    """Whether this was a short race."""
    return bool(result.settings.get("short", False))  # not recorded until 2026-11-28


def link(source: str) -> str:
    """To a file, by its name."""
    return f"[{source.rpartition('/')[2]}]({source})"


def plain(record: Any) -> dict[str, Any]:
    """A record as the JSON values that a file gives back: lists, no tuples."""
    values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(record))
    return values


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def commit() -> Commit:
    """Of the checkout."""
    results = (":!benchmarks/results", ":!benchmarks/facts")
    try:
        return Commit(_git("rev-parse", "HEAD"), bool(_git("status", "--porcelain", "--", ".", *results)))
    except (OSError, subprocess.CalledProcessError):
        return Commit(None, None)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()

"""A whole visit: every cell in its turn, each result in the record as it comes.

What one visit has compiled is kept in one folder under the system's for temporary files, so that a second visit to the
same machine spends its minutes on what the first did not reach.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from benchmarks.settings import ROOT
from benchmarks.visit import program, schedule
from benchmarks.visit.record import FILE, Record
from benchmarks.visit.resume import completed
from benchmarks.visit.runner import Outcome, cell_command, run_cell
from benchmarks.visit.settings import Settings
from jaxviz.bench.records import to_json

LOG = "visit.log"
LOG_BYTES = 64 * 1024  # of one cell, its end
RESERVE_S = 4.0  # between the last cell's end and the visit's
PROFILE = "profile.xplane.pb.gz"  # written by its cell
FLAGS = "XLA_FLAGS"
LARGEST_FILE = 12 * 2**20


def visit(
    settings: Settings,
    *,
    out: Path,
    minutes: float,
    spent_s: float = 0.0,
    patterns: Sequence[str] = ("*",),
    earlier: Path | None = None,
    command: str = "",
    command_of: Callable[[str, Path], list[str]] = cell_command,
) -> int:
    """Run the program into `out`; the exit code.

    Args:
        settings: how much of everything.
        out: a folder for visit.json, visit.log and the profile.
        minutes: for all of it, `spent_s` included.
        spent_s: what installing has taken already.
        patterns: globs of the cells to run.
        earlier: the record of a visit to go on with.
        command: what was typed, for the record.
        command_of: the command of a cell, given its name and the settings file.

    Raises:
        ResumeError: `earlier` is no visit to this machine with this code.
    """
    began = time.monotonic() - spent_s
    kept = kept_folder()
    work = kept / "work"
    work.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    (work / PROFILE).unlink(missing_ok=True)  # of a visit that was killed
    settings_file = work / "settings.json"
    settings_file.write_text(to_json(settings))
    environment = cell_environment(kept, rehearsal=settings.rehearsal)
    record = Record(out / FILE, settings, minutes=minutes, command=command, environment=environment)
    taken = [] if earlier is None else completed(earlier, record.values)
    record.take_over(taken)
    chosen = schedule.only(program.sections(settings, minutes), patterns, without=[cell["name"] for cell in taken])
    ends_s = 60 * minutes - RESERVE_S
    refused = False
    with (out / LOG).open("w") as log:
        for turn in schedule.turns(chosen, ends_s=ends_s, clock=lambda: time.monotonic() - began):
            if isinstance(turn, schedule.Skip):
                record.skip(turn)
                _say(log, f"{turn.cell.name}: skipped: {turn.reason}")
                continue
            at_s = time.monotonic() - began
            record.begin(turn, at_s)
            _say(log, f"{at_s:6.1f} s  {turn.cell.name}, at most {turn.limit_s:.0f} s")
            cell_log = work / f"{turn.cell.name}.log"
            outcome = run_cell(
                command_of(turn.cell.name, settings_file),
                limit_s=turn.limit_s,
                log=cell_log,
                environment=with_variables(environment, turn.cell.environment),
                on_result=record.so_far,
            )
            record.end(outcome)
            record.write(kept / FILE)
            keep_profile(work, out)
            log.write(cell_log.read_bytes()[-LOG_BYTES:].decode(errors="replace"))
            _say(log, _words(turn.cell.name, outcome))
            refused = outcome.status == "refused"
            if refused:
                break
        record.finish()
    return 1 if refused else 0


def kept_folder() -> Path:
    """What outlives a visit on the same machine: compiled programs, converted weights, the last starting images."""
    return Path(tempfile.gettempdir()) / f"jaxviz-visit-{os.getuid()}"


def cell_environment(kept: Path, *, rehearsal: bool) -> dict[str, str]:
    """This process's environment, with caches in `kept`."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    chosen = {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "JAX_COMPILATION_CACHE_DIR": str(kept / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAXVIZ_CACHE": str(kept / "cache"),
        "KERAS_HOME": str(kept / "keras"),
        "TORCHINDUCTOR_CACHE_DIR": str(kept / "inductor"),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    return dict(os.environ) | chosen | ({"JAX_PLATFORMS": "cpu"} if rehearsal else {})


def with_variables(environment: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """The environment with a cell's variables; its flags for XLA come after those that are set already."""
    flags = [variables[FLAGS] for variables in (environment, more) if variables.get(FLAGS)]
    return {**environment, **more} | ({FLAGS: " ".join(flags)} if flags else {})


def keep_profile(work: Path, out: Path) -> None:
    """Move the raw profile to the results, if there is one and it is small enough."""
    profile = work / PROFILE
    if profile.exists():
        if profile.stat().st_size < LARGEST_FILE:
            shutil.copyfile(profile, out / PROFILE)
        profile.unlink()


def _words(name: str, outcome: Outcome) -> str:
    return f"          {name}: {outcome.status} after {outcome.seconds:.1f} s" + (
        f": {outcome.reason}" if outcome.reason else ""
    )


def _say(log: TextIO, line: str) -> None:
    log.write(line + "\n")
    log.flush()
    print(line, file=sys.stderr, flush=True)

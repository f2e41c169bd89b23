"""Measures what the race does not: `python -m benchmarks.facts [NAME ...]`; README.md beside this file says what.

    main -> run: fact by fact, each in processes of its own (measure/) -> summary.summarise: figures and verdicts
         -> one JSON file per run, in benchmarks/facts/, or with other settings in out/facts/

A fact that fails is recorded with the reason, and the others go on. The folder benchmarks/facts/ holds results only;
it has no __init__.py, so the name `benchmarks.facts` is this file's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.measure import FACTS, USUAL, summary
from benchmarks.measure.bench import Bench
from benchmarks.measure.settings import QUICK, RESULTS, TRIALS, Settings
from benchmarks.race import BUSY_LOAD, EXIT_DOUBTFUL, EXIT_REFUSED, write
from benchmarks.workers import WorkerError, worker_environment

EXIT_BROKEN = EXIT_DOUBTFUL


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code: 0 done, 1 a claim does not hold or something cannot be trusted, 2 refused."""
    options = _options(arguments)
    names = tuple(name for name in FACTS if name in (options.names or USUAL))  # in their own order, once each
    settings = QUICK if options.quick else Settings()
    load = machine.load_average()
    if load > BUSY_LOAD and not options.force:
        _say(
            f"facts: the load average is {load:.2f}: somebody else is computing, and nothing measured now would be "
            f"true. Wait until it is below {BUSY_LOAD}, or give --force"
        )
        return EXIT_REFUSED
    result = run(names, settings, forced=load > BUSY_LOAD)
    path = write(result, options.out or (RESULTS if settings == Settings() else TRIALS))
    _say(f"wrote {path}")
    print(summary.as_text(result))
    doubts, broken = summary.problems(result), summary.broken(result)
    for doubt in doubts:
        _say(f"DOUBTFUL: {doubt}")
    for claim in broken:
        _say(f"DOES NOT HOLD: {claim}")
    return EXIT_BROKEN if doubts or broken else 0


def run(names: Sequence[str], settings: Settings, *, forced: bool = False) -> dict[str, Any]:
    """The result as it is written, figures included."""
    started, load, commit = datetime.now(UTC), machine.load_average(), machine.git_state()
    facts: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="facts-") as folder:
        bench = Bench(Path(folder), settings)
        for name in names:
            _say(f"{name}: {summary.work(name, settings.to_json())}")
            began = time.perf_counter()
            entry: dict[str, Any] = {"failed": None, "raw": None}
            try:
                entry["raw"] = FACTS[name].measure(bench)
            except WorkerError as error:
                _say(f"{name} failed: {error}")
                entry["failed"] = str(error)
            facts[name] = {**entry, "took_s": round(time.perf_counter() - began, 1)}
            _say(f"{name} took {facts[name]['took_s']:.0f} s")
    return summary.summarise(
        {
            "schema": summary.SCHEMA,
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "git": commit,
            "hardware": machine.hardware(),
            "versions": machine.versions(),
            "environment": machine.tuning(worker_environment(Path("(empty)"))),
            "load_average_at_start": load,
            "forced": forced,
            "settings": settings.to_json(),
            "material": bench.hashes,
            "facts": facts,
        }
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.facts", description="measures what the race does not")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {' '.join(FACTS)}; default: {' '.join(USUAL)}")
    parser.add_argument("--quick", action="store_true", help="a smoke run: 64 px, 2 steps, 4 filters; nothing is true")
    parser.add_argument("--force", action="store_true", help="measure although the machine is busy")
    parser.add_argument("--out", type=Path, help="folder; default benchmarks/facts, for --quick out/facts")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in FACTS:
            parser.error(f"NAME {name!r} is no fact; there are: {', '.join(FACTS)}")
    return options


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

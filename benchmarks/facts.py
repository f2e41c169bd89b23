"""READ FIRST: measures what is claimed: `python -m benchmarks.facts [NAME ...]`; README.md beside this file says what.

    main -> run: fact by fact, each in processes of its own (measure/) -> summary.summarise: figures and verdicts
         -> one JSON file per run, in benchmarks/facts/, or with other settings than the usual in out/facts/

A fact that fails is recorded with the reason, and the others go on. The folder benchmarks/facts/ holds results only;
it has no __init__.py, so the name `benchmarks.facts` is this file's.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec.structs import asdict

from benchmarks import records
from benchmarks.measure import FACTS, summary
from benchmarks.measure.bench import Bench
from benchmarks.processes import WorkerError, worker_environment
from benchmarks.records import Entry, Result
from benchmarks.settings import MODEL, QUICK, RESULTS, SHORT, TRIALS, Settings
from jaxviz.bench import machine
from jaxviz.bench.settings import checked_settings
from jaxviz.errors import JaxvizError
from jaxviz.models import architecture

BUSY_LOAD = 0.5  # a load average above this means that somebody else is computing
EXIT_REFUSED, EXIT_BROKEN = 2, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code: 0 done, 1 a claim does not hold or something cannot be trusted, 2 refused."""
    options = _options(arguments)
    names = tuple(name for name in FACTS if name in (options.names or FACTS))  # in their own order, once each
    load = machine.load_average() or 0.0
    try:
        settings = changed(QUICK if options.quick else SHORT if options.short else Settings(), options.set)
        check(settings)
        if load > BUSY_LOAD and not options.force:
            raise ValueError(
                f"the load average is {load:.2f}: somebody else is computing, and nothing measured now would be true. "
                f"Wait until it is below {BUSY_LOAD}, or give --force"
            )
    except (JaxvizError, ValueError, msgspec.ValidationError) as error:
        _say(f"facts: {error}")
        return EXIT_REFUSED
    result = run(names, settings, forced=load > BUSY_LOAD)
    path = write(result, options.out or (RESULTS if settings in (Settings(), SHORT) else TRIALS))
    _say(f"wrote {path}")
    print("\n\n".join(summary.section(name, result, path.name) for name in names))
    doubts, broken = summary.problems(result), summary.broken(result)
    for doubt in doubts:
        _say(f"DOUBTFUL: {doubt}")
    for claim in broken:
        _say(f"DOES NOT HOLD: {claim}")
    return EXIT_BROKEN if doubts or broken else 0


def run(names: Sequence[str], settings: Settings, *, forced: bool = False) -> Result:
    """The result as it is written, figures included."""
    origin = records.origin(worker_environment(Path("(empty)")))
    facts: dict[str, Entry] = {}
    with tempfile.TemporaryDirectory(prefix="facts-") as folder:
        bench = Bench(Path(folder), settings)
        for name in names:
            _say(f"{name}: {summary.work(name, records.plain(settings))}")
            began = time.perf_counter()
            failed, raw = None, None
            try:
                raw = FACTS[name].measure(bench)
            except WorkerError as error:
                _say(f"{name} failed: {error}")
                failed = str(error)
            facts[name] = Entry(failed=failed, raw=raw, took_s=round(time.perf_counter() - began, 1))
            _say(f"{name} took {facts[name].took_s:.0f} s")
    result = Result(
        **asdict(origin),
        finished=records.now(),
        forced=forced,
        settings=records.plain(settings),
        material=bench.hashes,
        facts=facts,
    )
    return summary.summarise(result)


def write(result: Result, folder: Path) -> Path:
    """A new file; an existing one is never replaced."""
    return records.write_new(folder, result, started=result.started, commit_hash=result.git.hash)


def changed(settings: Settings, assignments: Sequence[str]) -> Settings:
    """The settings with some fields set, each NAME=VALUE with a value in JSON.

    Raises:
        ValueError, msgspec.ValidationError: no JSON, no such field, or a value that is none of it.
    """
    values = dict(assignment.partition("=")[::2] for assignment in assignments)
    given = {name: json.loads(value) for name, value in values.items()}
    return msgspec.convert(records.plain(settings) | given, Settings)


def check(settings: Settings) -> None:
    """Refuse what would fail after minutes.

    Raises:
        JaxvizError, ValueError: an unknown layer, an impossible size, more filters than there are.
    """
    for layer in settings.race_layers:
        size = (settings.size, settings.size)
        checked_settings(model=MODEL, layers=[layer], size=size, steps=settings.steps, repeats=settings.rounds)
        channels = architecture(MODEL).layer(layer).channels
        if not 1 <= settings.filters <= channels:
            raise ValueError(
                f"filters {settings.filters} must be 1 or more, and not more than the {channels} of {layer}"
            )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.facts", description="measures what is claimed")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {' '.join(FACTS)}; default: all")
    less = parser.add_mutually_exclusive_group()
    less.add_argument("--quick", action="store_true", help="a smoke run: 64 px, 2 steps, 4 filters; nothing is true")
    less.add_argument("--short", action="store_true", help="`race` alone: a true one, in a quarter of an hour or less")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=JSON", help="a field of benchmarks/settings.py; repeatable"
    )
    parser.add_argument("--force", action="store_true", help="measure although the machine is busy")
    parser.add_argument("--out", type=Path, help="folder; default benchmarks/facts, with other settings out/facts")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in FACTS:
            parser.error(f"NAME {name!r} is no fact; there are: {', '.join(FACTS)}")
    if options.short and options.names != ["race"]:
        parser.error("--short is a short race: python -m benchmarks.facts race --short")
    return options


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

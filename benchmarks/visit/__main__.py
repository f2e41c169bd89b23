"""`python -m benchmarks.visit`: minutes on a GPU, everything in OUT/visit.json; `... keep OUT` keeps a finished one.

Exit code 1: this machine makes no sense for a visit, or the result cannot be kept. A cell that fails is in the record,
and the rest goes on.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from benchmarks.settings import ROOT
from benchmarks.visit import keep
from benchmarks.visit.program import MINUTES
from benchmarks.visit.record import FILE
from benchmarks.visit.resume import ResumeError
from benchmarks.visit.run import kept_folder, visit
from benchmarks.visit.settings import REHEARSAL, RESULTS, VISIT

REHEARSAL_MINUTES = 30.0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["keep"]:
        return _keep(words[1:])
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.visit", description="minutes on a GPU; `keep OUT` copies a result to benchmarks/gpu"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "visit", help="folder; default out/visit")
    parser.add_argument("--minutes", type=float, help=f"for all of it; default {MINUTES:g}")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, tiny; says nothing about a GPU")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="GLOB", help="cells to run; default: all")
    parser.add_argument(
        "--resume",
        type=Path,
        nargs="?",
        const=kept_folder() / FILE,
        metavar="VISIT.json",
        help="go on where a visit to this machine ended; default: the last one",
    )
    parser.add_argument("--since", type=float, metavar="SECONDS", help="when it began, seconds since 1970; default now")
    options = parser.parse_args(words)
    signal.signal(signal.SIGTERM, _stop)
    minutes = options.minutes or (REHEARSAL_MINUTES if options.rehearse else MINUTES)
    try:
        return visit(
            REHEARSAL if options.rehearse else VISIT,
            out=options.out,
            minutes=minutes,
            spent_s=0.0 if options.since is None else max(0.0, time.time() - options.since),
            patterns=options.only,
            earlier=options.resume,
            command=_command(options.rehearse, minutes, options.only, resumed=options.resume is not None),
        )
    except ResumeError as error:
        print(f"visit: {error}", file=sys.stderr)
        return 1


def _keep(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.visit keep", description="keeps a finished visit")
    parser.add_argument("folder", type=Path, help="where a visit wrote its visit.json")
    parser.add_argument("--commit", help="of the copy that was measured, where it held no git folder")
    options = parser.parse_args(words)
    try:
        print(f"wrote {keep.keep(options.folder, RESULTS, options.commit)}; next: python -m benchmarks.report")
    except keep.KeepError as error:
        print(f"visit: {error}", file=sys.stderr)
        return 1
    return 0


def _command(rehearse: bool, minutes: float, only: Sequence[str], *, resumed: bool) -> str:
    """The command without its places."""
    words = ["python -m benchmarks.visit", f"--minutes {minutes:g}", *(["--rehearse"] if rehearse else [])]
    words += ["--resume"] if resumed else []
    return " ".join(words + ([f"--only {' '.join(only)}"] if list(only) != ["*"] else []))


def _stop(number: int, _frame: FrameType | None) -> None:
    """End as on Ctrl-C: the cell's processes are killed on the way out."""
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())

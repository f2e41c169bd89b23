"""Turns results into text: a race into tables in README.md and docs and the chart, all others into README.md here.

    python -m benchmarks.report                 of each fact, and of a visit to a GPU, from its newest result;
                                                docs/speed.md from the newest race, whole or short, on every CPU
    python -m benchmarks.report --check         writes nothing; exit code 1 if a file is not what the newest gives

Each goes between two markers, which its file must hold once each. Of what has not been measured yet, nothing is written
but that. Equal results give equal text.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measure import FACTS, race_table, race_text, summary
from benchmarks.measure.chart import svg
from benchmarks.measure.race_text import ReportError
from benchmarks.records import Result
from benchmarks.settings import ROOT
from benchmarks.visit import settings as visit_settings
from benchmarks.visit import tables as visits

README = ROOT / "README.md"
NOTES = ROOT / "benchmarks" / "README.md"
SPEED = ROOT / "docs" / "speed.md"
CHART = ROOT / "benchmarks" / "race.svg"
COMMAND = "python -m benchmarks.report"
NOTHING_YET = "Nothing has been recorded yet: `python -m benchmarks.facts` measures."


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="tables and chart from the newest results")
    parser.add_argument("--check", action="store_true", help="only say whether all is up to date")
    options = parser.parse_args(arguments)
    try:
        wanted = texts(summary.recorded())
    except ReportError as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    stale = [file for file, text in wanted.items() if not file.exists() or file.read_text() != text]
    for file in stale:
        if options.check:
            print(f"{file.name} is not what the newest result gives; run: {COMMAND}", file=sys.stderr)
        else:
            file.write_text(wanted[file])
            print(f"wrote {file}")
    return 1 if options.check and stale else 0


def texts(found: Mapping[str, tuple[Result, Path]]) -> dict[Path, str]:
    """What every file must hold; nothing for the README while there is no race."""
    notes = NOTES.read_text()
    for place in ("facts", "pictures"):
        sections = [section(name, *found[name], NOTES) for name in found if FACTS[name].place == place]
        notes = with_block(notes, "\n\n".join(sections) or NOTHING_YET, place)
    visit = max(visit_settings.RESULTS.glob("*.json"), key=lambda path: path.name, default=None)
    text = visits.NOTHING_YET if visit is None else visits.block(json.loads(visit.read_text()), visit.name)
    wanted = {NOTES: with_block(notes, text, "gpu")}
    if "race" not in found:
        return wanted
    race, path = found["race"]
    results = [(summary.read(path), _from(SPEED, path)) for path in summary.every_file()]
    races = [(result, source) for result, source in results if "race" in result.facts]
    lines = [race_text.notes(race, _from(SPEED, path)), *race_table.races_on_every_cpu(races)]
    return wanted | {
        README: with_block(README.read_text(), section("race", race, path, README), "race"),
        SPEED: with_block(SPEED.read_text(), "\n".join(lines), "race"),
        CHART: svg(race),
    }


def section(name: str, result: Result, path: Path, readme: Path) -> str:
    """A fact's own text, or the usual one."""
    source = _from(readme, path)
    write = FACTS[name].text
    return summary.section(name, result, source) if write is None else write(result, source)


def _from(page: Path, file: Path) -> str:
    """The path of a file as a page links to it."""
    return Path(os.path.relpath(file, page.parent)).as_posix()


def with_block(readme: str, text: str, place: str) -> str:
    """The README with that text between the markers of a place.

    Raises:
        ReportError: the markers are not there once each, in order.
    """
    begin, end = f"<!-- {place}:begin -->", f"<!-- {place}:end -->"
    before, begun, rest = readme.partition(begin)
    _, ended, after = rest.partition(end)
    if not begun or not ended or begin in rest or end in before + after:
        raise ReportError(f"README.md must hold {begin} and after it {end}, once each, where the tables are to stand")
    return f"{before}{begin}\n{text}\n{end}{after}"


if __name__ == "__main__":
    sys.exit(main())

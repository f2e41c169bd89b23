"""From raw measurements to figures and verdicts, whether a file can be trusted, and the tables as text.

Everything but the raw values is computed here, and `problems` computes it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from benchmarks import old
from benchmarks.measure import FACTS
from benchmarks.measure.fact import LONG_ENOUGH_S, MOST_OTHERS_SHARE
from benchmarks.records import Entry, Result, Verdict, is_short, link, when
from benchmarks.settings import OLD_RESULTS, RESULTS
from jaxviz.bench.figures import rounded


def read(path: Path) -> Result:
    """A result from its file, its figures as they stand there; an old race or its like with those of today.

    Raises:
        msgspec.ValidationError: something is missing or of another type.
    """
    values = json.loads(path.read_text())
    result = msgspec.convert(old.upgraded(values), Result)
    return result if "facts" in values else summarise(result)


def recorded() -> dict[str, tuple[Result, Path]]:
    """Every fact that has been recorded, with its newest result and that result's file; short races do not count."""
    newest: dict[str, tuple[Result, Path]] = {}
    for path in every_file():
        result = read(path)
        if not is_short(result):
            newest |= dict.fromkeys(result.facts, (result, path))
    return {name: newest[name] for name in FACTS if name in newest}


def every_file() -> list[Path]:
    """All committed results, the newest last: names begin with the time."""
    paths = [path for folder in (RESULTS, *OLD_RESULTS) for path in folder.glob("*.json")]
    return sorted(paths, key=lambda path: path.name)


def summarise(result: Result) -> Result:
    """The result with figures and verdicts beside the raw values."""
    return replace(result, facts={name: _entry(name, entry, result) for name, entry in result.facts.items()})


def _entry(name: str, entry: Entry, result: Result) -> Entry:
    if entry.failed is None:
        share = others_share(list(_long_runs(entry.raw)), result.hardware.cores)
        entry = replace(entry, figures=FACTS[name].figures(entry.raw), others_share=share)
    claims = tuple(claim.verdict(entry.figures) for claim in FACTS[name].claims)
    return replace(entry, claims=claims, holds=together(claims))


def together(verdicts: tuple[Verdict, ...]) -> bool | None:
    """Whether all claims hold; None where there is none, or where one could not be checked and none is broken."""
    found = [verdict.holds for verdict in verdicts]
    if False in found:
        return False
    return True if found and None not in found else None


def problems(result: Result) -> list[str]:
    """Why the figures cannot be trusted; a claim that does not hold is no problem."""
    found = []
    if result.forced:
        found.append(f"the machine was busy at the start: load average {result.load_average_at_start:.2f}")
    if result != summarise(result):
        found.append("figures or verdicts are not those of the raw values")
    for name, entry in result.facts.items():
        if entry.failed is not None:
            found.append(f"{name} failed: {entry.failed}")
            continue
        if (entry.others_share or 0) > MOST_OTHERS_SHARE:
            found.append(f"{name} was measured while others used {entry.others_share:.0%} of the machine")
        found += [f"{name}: {doubt}" for doubt in FACTS[name].doubts(entry.raw)]
    return found


def broken(result: Result) -> list[str]:
    """Claims that do not hold."""
    return [
        f"{name}: {claim_text(verdict)}"
        for name, entry in result.facts.items()
        for verdict in entry.claims
        if verdict.holds is False
    ]


def work(name: str, settings: dict[str, Any]) -> str:
    """What was run, in words."""
    return FACTS[name].work.format(**settings)


def claim_text(verdict: Verdict) -> str:
    """A claim with its verdict and what was measured where it was nearest to failing."""
    said = {True: "holds", False: "does NOT hold", None: "not measured"}[verdict.holds]
    if verdict.measured is None:
        return f"{verdict.text}: {said}"
    return f"{verdict.text}: {said} ({verdict.style.format(verdict.measured)}: {verdict.case})"


def section(name: str, result: Result, source: str) -> str:
    """A fact as Markdown; `source` is the path of its file from where it stands."""
    fact, entry = FACTS[name], result.facts[name]
    lines = [f"### {fact.title}", "", _sentence(work(name, result.settings))]
    if entry.failed is not None:
        lines += ["", f"Failed: {entry.failed.splitlines()[0]}"]
    else:
        lines += ["", *fact.markdown_table(entry.figures), ""]
        lines += [f"- {_sentence(claim_text(verdict))}" for verdict in entry.claims]
    software = ", ".join(f"{name} {result.versions[name]}" for name in ("jax", "jaxlib"))
    machine = f"{result.hardware.cores} cores of {result.hardware.cpu}"
    return "\n".join([*lines, "", f"{when(result)}, {software}, {machine}; raw values: {link(source)}."])


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def others_share(runs: list[dict[str, Any]], cores: int) -> float | None:
    """The part of the machine's time that somebody else used during all of some runs; None if unknown."""
    known = [run for run in runs if run["others_cpu_s"] is not None]
    if not known:
        return None
    return rounded(sum(run["others_cpu_s"] for run in known) / sum(run["seconds"] * cores for run in known))


def _long_runs(raw: Any) -> Iterator[dict[str, Any]]:
    """Every timed run in it, however deep, that took long enough."""
    if isinstance(raw, dict):
        if "others_cpu_s" in raw and raw["seconds"] > LONG_ENOUGH_S:
            yield raw
        for value in raw.values():
            yield from _long_runs(value)
    elif isinstance(raw, list):
        for value in raw:
            yield from _long_runs(value)

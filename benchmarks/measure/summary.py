"""From raw measurements to figures and verdicts, whether a file can be trusted, and the tables as text.

Everything but the raw values is computed here, and `problems` computes it again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from benchmarks.measure import FACTS
from benchmarks.measure.fact import together
from benchmarks.measure.numbers import six_digits
from benchmarks.results import LONG_ENOUGH_S, MOST_OTHERS_SHARE

SCHEMA = 1
REQUIRED = (
    "schema",
    "started",
    "finished",
    "git",
    "hardware",
    "versions",
    "environment",
    "load_average_at_start",
    "forced",
    "settings",
    "material",
    "facts",
)


def summarise(raw: dict[str, Any]) -> dict[str, Any]:
    """The result with figures and verdicts beside the raw values."""
    result = copy.deepcopy(raw)
    for name, entry in result["facts"].items():
        if entry["failed"] is None:
            entry["figures"] = FACTS[name].figures(entry["raw"])
            entry["others_share"] = _others_share(entry["raw"], result["hardware"]["cores"])
        entry["claims"] = [claim.verdict(entry.get("figures", {})) for claim in FACTS[name].claims]
        entry["holds"] = together(entry["claims"])
    return result


def problems(result: dict[str, Any]) -> list[str]:
    """Why the file is incomplete, or its figures cannot be trusted; a claim that does not hold is no problem."""
    missing = [name for name in REQUIRED if name not in result]
    if missing:
        return [f"missing: {', '.join(missing)}"]
    found = []
    if result["forced"]:
        found.append(f"the machine was busy at the start: load average {result['load_average_at_start']:.2f}")
    if result != summarise(result):
        found.append("figures or verdicts are not those of the raw values")
    for name, entry in result["facts"].items():
        if entry["failed"] is not None:
            found.append(f"{name} failed: {entry['failed']}")
        elif (entry["others_share"] or 0) > MOST_OTHERS_SHARE:
            found.append(f"{name} was measured while others used {entry['others_share']:.0%} of the machine")
    return found


def broken(result: dict[str, Any]) -> list[str]:
    """Claims that do not hold."""
    return [
        f"{name}: {claim_text(verdict)}"
        for name, entry in result["facts"].items()
        for verdict in entry["claims"]
        if verdict["holds"] is False
    ]


def work(name: str, settings: dict[str, Any]) -> str:
    """What was run, in words."""
    return FACTS[name].work.format(**settings)


def claim_text(verdict: dict[str, Any]) -> str:
    """A claim with its verdict and what was measured where it was nearest to failing."""
    said = {True: "holds", False: "does NOT hold", None: "not measured"}[verdict["holds"]]
    if verdict["measured"] is None:
        return f"{verdict['text']}: {said}"
    return f"{verdict['text']}: {said} ({verdict['style'].format(verdict['measured'])}: {verdict['case']})"


def as_text(result: dict[str, Any]) -> str:
    """Tables for the terminal, and the verdicts last."""
    lines: list[str] = []
    verdicts: list[str] = []
    for name, entry in result["facts"].items():
        lines += ["", f"{name}: {FACTS[name].title}", f"  {work(name, result['settings'])}"]
        if entry["failed"] is not None:
            lines.append(f"  failed: {entry['failed']}")
        else:
            table = FACTS[name].table(entry["figures"])
            widths = [max(len(row[place]) for row in table) for place in range(len(table[0]))]
            for row in table:
                cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
                lines.append("  " + "  ".join([row[0].ljust(widths[0]), *cells]).rstrip())
        verdicts += [f"  {name:<9}{claim_text(verdict)}" for verdict in entry["claims"]]
    return "\n".join([*lines, "", "claims", *verdicts])


def _others_share(raw: Any, cores: int) -> float | None:
    """The part of the machine's time that somebody else used during all of a fact's longer runs; None if unknown."""
    runs = [run for run in _runs(raw) if run["others_cpu_s"] is not None and run["seconds"] > LONG_ENOUGH_S]
    if not runs:
        return None
    return six_digits(sum(run["others_cpu_s"] for run in runs) / sum(run["seconds"] * cores for run in runs))


def _runs(raw: Any) -> Iterator[dict[str, Any]]:
    """Every timed run in it, however deep."""
    if isinstance(raw, dict):
        if "others_cpu_s" in raw:
            yield raw
        for value in raw.values():
            yield from _runs(value)
    elif isinstance(raw, list):
        for value in raw:
            yield from _runs(value)

"""The facts as Markdown: what stands between the markers of benchmarks/README.md.

Each fact from its own newest result, so each names its machine. Equal results give equal text.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from benchmarks.measure import FACTS, summary

NOTHING_YET = "Nothing has been recorded yet: `python -m benchmarks.facts` measures."


def block(results: Mapping[str, tuple[dict[str, Any], str]]) -> str:
    """Tables and verdicts of every fact: name to (a result that has it, that result's file name)."""
    return "\n\n".join(_section(name, *found) for name, found in results.items()) or NOTHING_YET


def _section(name: str, result: dict[str, Any], source: str) -> str:
    entry = result["facts"][name]
    lines = [f"### {FACTS[name].title}", "", _sentence(summary.work(name, result["settings"]))]
    if entry["failed"] is not None:
        lines += ["", f"Failed: {entry['failed'].splitlines()[0]}"]
    else:
        lines += ["", *_table(FACTS[name].table(entry["figures"])), ""]
        lines += [f"- {_sentence(summary.claim_text(verdict))}" for verdict in entry["claims"]]
    return "\n".join([*lines, "", _where(result, source)])


def _where(result: dict[str, Any], source: str) -> str:
    """When, with what and on which machine."""
    hardware, versions = result["hardware"], result["versions"]
    day = datetime.fromisoformat(result["started"]).date()
    commit = f"commit {(result['git']['hash'] or 'unknown')[:7]}" + (" with changes" if result["git"]["dirty"] else "")
    return (
        f"{day}, {commit}, jax {versions['jax']}, jaxlib {versions['jaxlib']}, {hardware['cores']} cores of "
        f"{hardware['cpu']}; raw values: [{source}](facts/{source})."
    )


def _table(rows: list[list[str]]) -> list[str]:
    heading, *rest = rows
    rule = ["---", *("---:" for _ in heading[1:])]
    return [f"| {' | '.join(row)} |" for row in (heading, rule, *rest)]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."

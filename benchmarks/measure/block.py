"""The facts as Markdown: what stands between the markers of benchmarks/README.md. Equal results give equal text."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from benchmarks.measure import FACTS, summary

NOTHING_YET = "No whole run has been recorded yet: `python -m benchmarks.facts` makes one."


def block(result: dict[str, Any], source: str) -> str:
    """Tables and verdicts of one result; `source` is its file name."""
    hardware, versions = result["hardware"], result["versions"]
    day = datetime.fromisoformat(result["started"]).date()
    commit = f"commit {(result['git']['hash'] or 'unknown')[:7]}" + (" with changes" if result["git"]["dirty"] else "")
    lines = [
        f"{day}, {commit}, jax {versions['jax']}, jaxlib {versions['jaxlib']}, {hardware['cores']} cores of "
        f"{hardware['cpu']}; raw values: [{source}](facts/{source})."
    ]
    for name, entry in result["facts"].items():
        lines += ["", f"### {FACTS[name].title}", "", f"{_sentence(summary.work(name, result['settings']))}"]
        if entry["failed"] is not None:
            lines += ["", f"Failed: {entry['failed'].splitlines()[0]}"]
            continue
        lines += ["", *_table(FACTS[name].table(entry["figures"]))]
        lines += ["", *(f"- {_sentence(summary.claim_text(verdict))}" for verdict in entry["claims"])]
    return "\n".join(lines)


def _table(rows: list[list[str]]) -> list[str]:
    heading, *rest = rows
    rule = ["---", *("---:" for _ in heading[1:])]
    return [f"| {' | '.join(row)} |" for row in (heading, rule, *rest)]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."

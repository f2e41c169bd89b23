"""Turns results into text: a race into tables in README.md and docs and the chart, all others into README.md here.

    python -m benchmarks.report                 from the newest results in benchmarks/results, facts, pictures and gpu
    python -m benchmarks.report RESULT.json     from that race
    python -m benchmarks.report --check         writes nothing; exit code 1 if a file is not what the newest gives

Each goes between two markers, which its file must hold once each. Of what has not been measured yet, nothing is written
but that. Equal results give equal text.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import pictures
from benchmarks.chart import seconds_text, svg
from benchmarks.measure import FACTS
from benchmarks.measure import block as facts
from benchmarks.measure import settings as facts_settings
from benchmarks.settings import BASELINES, REFERENCE, RESULTS, ROOT
from benchmarks.visit import settings as visit_settings
from benchmarks.visit import tables as visits

BEGIN, END = "<!-- race:begin -->", "<!-- race:end -->"
README = ROOT / "README.md"
SPEED = ROOT / "docs" / "speed.md"
CHART = ROOT / "benchmarks" / "race.svg"
FACTS_BEGIN, FACTS_END = "<!-- facts:begin -->", "<!-- facts:end -->"
PICTURES_BEGIN, PICTURES_END = "<!-- pictures:begin -->", "<!-- pictures:end -->"
GPU_BEGIN, GPU_END = "<!-- gpu:begin -->", "<!-- gpu:end -->"
FACTS_README = ROOT / "benchmarks" / "README.md"
COMMAND = "python -m benchmarks.report"
OURS = ("jaxviz_float32", "jaxviz_bfloat16")

LABELS = {
    "keras": "Keras on TensorFlow, as its example is published",
    "tensorflow_batched": "TensorFlow, 16 images a call",
    "keras_jax": "Keras on JAX",
    "pytorch": "PyTorch, channels_last, 16 images a call",
    "plain_jax": "JAX, `jit(vmap(scan))` over `lax` convolutions",
    "jaxviz_float32": "**jaxviz**, float32",
    "jaxviz_bfloat16": "**jaxviz**, bfloat16",
}


class ReportError(Exception):
    """There is nothing to report, or nowhere to put it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(
        prog=COMMAND, description="tables and chart from the results of race, facts, pictures and visits"
    )
    parser.add_argument("result", nargs="?", type=Path, help="of the race; default: the newest in benchmarks/results")
    parser.add_argument("--check", action="store_true", help="only say whether all is up to date")
    options = parser.parse_args(arguments)
    try:
        wanted = _of_the_race(options.result or newest())
        wanted |= _of_the_rest(_newest_facts(), newest(pictures.RESULTS), newest(visit_settings.RESULTS))
    except ReportError as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    stale = [file for file, text in wanted.items() if not file.exists() or file.read_text() != text]
    for file in stale:
        if options.check:
            print(f"{file.relative_to(ROOT)} is not what the newest result gives; run: {COMMAND}", file=sys.stderr)
        else:
            file.write_text(wanted[file])
            print(f"wrote {file}")
    return 1 if options.check and stale else 0


def _of_the_race(path: Path | None) -> dict[Path, str]:
    """README, docs/speed.md and chart; nothing while there is no result."""
    if path is None:
        print(f"no result in {RESULTS.relative_to(ROOT)} yet; run: python -m benchmarks.race", file=sys.stderr)
        return {}
    result = json.loads(path.read_text())
    text = "\n".join([notes(result, path.name), *_elsewhere(result)])
    return {
        README: with_block(README.read_text(), block(result, path.name)),
        SPEED: with_block(SPEED.read_text(), text),
        CHART: svg(result),
    }


def _newest_facts() -> dict[str, tuple[dict[str, Any], str]]:
    """Every fact that has been recorded, with its newest result and that result's file name."""
    found = {name: facts_settings.newest(name) for name in FACTS}
    return {name: (json.loads(path.read_text()), path.name) for name, path in found.items() if path is not None}


def _of_the_rest(
    of_facts: dict[str, tuple[dict[str, Any], str]], of_pictures: Path | None, of_a_gpu: Path | None
) -> dict[Path, str]:
    """The README beside this file; it says so where there is no result."""
    readme = with_block(FACTS_README.read_text(), facts.block(of_facts), FACTS_BEGIN, FACTS_END)
    text = pictures.NOTHING_YET
    if of_pictures is not None:
        text = pictures.block(json.loads(of_pictures.read_text()), of_pictures.name)
    readme = with_block(readme, text, PICTURES_BEGIN, PICTURES_END)
    text = visits.NOTHING_YET
    if of_a_gpu is not None:
        text = visits.block(json.loads(of_a_gpu.read_text()), of_a_gpu.name)
    return {FACTS_README: with_block(readme, text, GPU_BEGIN, GPU_END)}


def newest(folder: Path = RESULTS) -> Path | None:
    """The newest result; names begin with the time."""
    return max(folder.glob("*.json"), key=lambda path: path.name, default=None)


def block(result: dict[str, Any], source: str) -> str:
    """The README's table, with the one sentence that says what it shows."""
    _check_baselines(result, source)
    settings, hardware = result["settings"], result["hardware"]
    return "\n".join(
        [
            *_table(result),
            "",
            f"Seconds, and how many times as fast as {_and(['Keras', 'TensorFlow batched'])}: medians of "
            f"{settings['repeats']} runs on {hardware['cores']} cores of {hardware['cpu']}"
            f"{', `~` scaled from fewer filters' if _scaled(result) else ''} "
            f"([how, and on other machines]({SPEED.relative_to(ROOT)})).",
        ]
    )


def notes(result: dict[str, Any], source: str) -> str:
    """The text of docs/speed.md about the race in the README: chart, conditions, what was left out of the seconds."""
    _check_baselines(result, source)
    settings, hardware = result["settings"], result["hardware"]
    day = datetime.fromisoformat(result["started"]).date()
    commit = f"commit {(result['git']['hash'] or 'unknown')[:7]}" + (" with changes" if result["git"]["dirty"] else "")
    chart = CHART.relative_to(ROOT)
    lines = [
        f'<img src="../{chart}" width="800" alt="Bar chart of the README\'s table: times as fast as Keras">',
        "",
        f"{_work(result)}: medians of {settings['repeats']} interleaved runs on {hardware['cores']} cores of "
        f"{hardware['cpu']}. {_scaled(result)}{_compilation(result)}{_scores(result)}",
        f"{day}, {commit}, {_versions(result)}; all figures: [{source}](../benchmarks/results/{source}).",
        *_absent(result),
    ]
    return "\n".join(lines)


def _check_baselines(result: dict[str, Any], source: str) -> None:
    """Raise ReportError where a layer lacks what speed is compared with."""
    for name, layer in result["layers"].items():
        lacking = [base for base in BASELINES if base not in layer["contestants"]]
        if lacking:
            raise ReportError(
                f"{source} has no {' and no '.join(lacking)} at {name}, so speed has nothing to be compared with"
            )


def _work(result: dict[str, Any]) -> str:
    settings = result["settings"]
    return f"{settings['filters']} filters x {settings['steps']} steps at {settings['size']} px"


def with_block(page: str, text: str, begin: str = BEGIN, end: str = END) -> str:
    """A page with that text between the markers.

    Raises:
        ReportError: the markers are not there once each, in order.
    """
    before, begun, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if not begun or not ended or begin in rest or end in before + after:
        raise ReportError(f"the page must hold {begin} and after it {end}, once each, where the figures are to stand")
    return f"{before}{begin}\n{text}\n{end}{after}"


def _table(result: dict[str, Any]) -> list[str]:
    layers = result["layers"]
    rows = [[_work(result), *(f"`{layer}`" for layer in layers)], ["---", *("---:" for _ in layers)]]
    for name in result["contestants"]:
        entries = [layer["contestants"].get(name) for layer in layers.values()]
        if any(entries):
            rows.append([LABELS[name], *(_cell(entry) if entry else "failed" for entry in entries)])
    return [f"| {' | '.join(row)} |" for row in rows]


def _cell(entry: dict[str, Any]) -> str:
    ratios = ", ".join(f"{entry['times_as_fast_as'][base]:.2f}x" for base in BASELINES)
    return f"{seconds_text(entry)} ({ratios})"


def _scaled(result: dict[str, Any]) -> str:
    """Who ran fewer filters, if anybody."""
    counts = {
        entry["filters_measured"]
        for layer in result["layers"].values()
        for entry in layer["contestants"].values()
        if entry["scaled"]
    }
    if not counts:
        return ""
    measured = _and([str(count) for count in sorted(counts)], "or")
    return (
        f"A tilde: {result['settings']['slow_after_s']:.0f} s would not have been enough, so measured on {measured} "
        "filters and scaled. "
    )


def _compilation(result: dict[str, Any]) -> str:
    """What is left out of the seconds, and what the other form of Keras's loop would cost."""

    def spread(values: list[float]) -> str:
        return f"{min(values):.1f}-{max(values):.1f} s"

    entries = [layer["contestants"] for layer in result["layers"].values()]
    compile_s = {
        name: spread([entry[name]["compile_s"] for entry in entries])
        for name in ("keras", "jaxviz_float32")
        if all(name in entry for entry in entries)
    }
    once = _and([f"{seconds} in {LABELS[name].split(',')[0]}" for name, seconds in compile_s.items()])
    retrace = spread([entry["keras"]["probe"]["python int"]["retrace_s_per_filter"] for entry in entries])
    counted = all("tf.constant" in entry["keras"]["form"] for entry in entries)
    return (
        f"Tracing and compiling, once a layer, comes on top: {once}. "
        f"With its filter index as a Python int, Keras traces anew for every filter, {retrace} each; "
        + ("the race was run with `tf.constant`, which does not. " if counted else "that is counted where it raced. ")
    )


def _scores(result: dict[str, Any]) -> str:
    """How equal the work was."""
    worst: dict[str, float] = {}
    drift: dict[str, float] = {}
    for layer in result["layers"].values():
        for name, entry in layer["contestants"].items():
            dtype, off = result["contestants"][name]["dtype"], entry["scores_against_keras"]
            worst[dtype] = max(worst.get(dtype, 0.0), off["first_worst"])
            drift[dtype] = max(drift.get(dtype, 0.0), abs(off["final_mean"]))
    same = _and([f"{worst[dtype]:.0e} ({dtype})" for dtype in worst])
    end = _and([f"{drift[dtype]:.1%} ({dtype})" for dtype in drift])
    return (
        "Same weights (random), same starting images, same loop: before the first step all scores are within "
        f"{same} of Keras's, and the means of the final scores within {end}."
    )


def _versions(result: dict[str, Any]) -> str:
    versions = result["versions"]
    names = {"tensorflow": "TensorFlow", "keras": "Keras", "torch": "PyTorch", "jax": "JAX"}
    return ", ".join(f"{shown} {versions[name]}" for name, shown in names.items() if versions[name])


def _absent(result: dict[str, Any]) -> list[str]:
    """Who could not take part, with the first line of the reason."""
    return [
        f"\nNot in this race: {LABELS[name]} ({about['reason'].splitlines()[0]})."
        for name, about in result["contestants"].items()
        if not about["available"]
    ]


def _elsewhere(result: dict[str, Any]) -> list[str]:
    """A line for each other CPU: what its newest race says of jaxviz."""
    newest_on: dict[str, tuple[dict[str, Any], str]] = {}
    for path in sorted(RESULTS.glob("*.json")):  # the newest last
        other = json.loads(path.read_text())
        newest_on[other["hardware"]["cpu"]] = other, path.name
    lines = []
    for cpu, (other, source) in newest_on.items():
        if cpu != result["hardware"]["cpu"]:
            speeds = _and([f"{name.split('_')[1]} {_speeds(other, name)}" for name in OURS])
            day, commit = datetime.fromisoformat(other["started"]).date(), (other["git"]["hash"] or "unknown")[:7]
            lines.append(
                f"\nOn {other['hardware']['cores']} cores of {cpu}, {day}, commit {commit}: **jaxviz** {speeds} as "
                f"fast as Keras in these layers; [{source}](../benchmarks/results/{source})."
            )
    return lines


def _speeds(result: dict[str, Any], name: str) -> str:
    entries = [layer["contestants"].get(name) for layer in result["layers"].values()]
    return ", ".join(f"{entry['times_as_fast_as'][REFERENCE]:.2f}x" if entry else "failed" for entry in entries)


def _and(words: list[str], last: str = "and") -> str:
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


if __name__ == "__main__":
    sys.exit(main())

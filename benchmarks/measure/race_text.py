"""The race as text: the table of README.md with what has to be said beside it. Equal results give equal text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from benchmarks.contestants import ENTRIES
from benchmarks.records import Result, link, when
from benchmarks.settings import BASELINES, REFERENCE

CHART = "benchmarks/race.svg"
OURS = ("jaxviz_float32", "jaxviz_bfloat16")
Layers = Mapping[str, Mapping[str, Mapping[str, Any]]]


class ReportError(Exception):
    """There is nothing to report, or nowhere to put it."""


def case(layer: str, contestant: str) -> str:
    """What the figures of a contestant at a layer are called."""
    return f"`{layer}`, {contestant}"


def at_layers(result: Result) -> Layers:
    """Raw values and figures together, by layer and contestant."""
    entry = result.facts["race"]
    return {
        layer: {name: values | entry.figures[case(layer, name)] for name, values in at_layer["contestants"].items()}
        for layer, at_layer in entry.raw["layers"].items()
    }


def block(result: Result, source: str) -> str:
    """The text between the markers; `source` is the path of the file from README.md.

    Raises:
        ReportError: somebody whom speed is compared with is missing.
    """
    layers, raw, settings, hardware = at_layers(result), result.facts["race"].raw, result.settings, result.hardware
    for layer, entries in layers.items():
        lacking = [base for base in BASELINES if base not in entries]
        if lacking:
            raise ReportError(
                f"{source} has no {' and no '.join(lacking)} at {layer}, so speed has nothing to be compared with"
            )
    lines = [
        f'<img src="{CHART}" width="800" alt="Bar chart of the table below: times as fast as Keras">',
        "",
        *_table(layers, raw["contestants"], work(result)),
        "",
        f"Seconds, and in brackets how many times as fast as {_and(['Keras', 'TensorFlow batched'])}: medians of "
        f"{settings['rounds']} interleaved runs on {hardware.cores} cores of {hardware.cpu}. "
        f"{_scaled(layers, settings['slow_after_s'])}{_compilation(layers)}{_scores(layers, raw['contestants'])}",
        f"{when(result)}, {_versions(result.versions)}; all figures: {link(source)}.",
        *_absent(raw["contestants"]),
    ]
    return "\n".join(lines)


def elsewhere(result: Result, others: Sequence[tuple[Result, str]]) -> list[str]:
    """A line for each other CPU: what its newest race, the last of the others, says of jaxviz."""
    newest_on = {other.hardware.cpu: (other, source) for other, source in others}
    lines = []
    for cpu, (other, source) in newest_on.items():
        if cpu != result.hardware.cpu:
            layers = at_layers(other)
            speeds = _and([f"{name.split('_')[1]} {_speeds(layers, name)}" for name in OURS])
            day, commit = datetime.fromisoformat(other.started).date(), (other.git.hash or "unknown")[:7]
            lines.append(
                f"\nOn {other.hardware.cores} cores of {cpu}, {day}, commit {commit}: **jaxviz** {speeds} as "
                f"fast as Keras in these layers; {link(source)}."
            )
    return lines


def work(result: Result) -> str:
    """What everybody did."""
    settings = result.settings
    return f"{settings['filters']} filters x {settings['steps']} steps at {settings['size']} px"


def seconds_text(entry: Mapping[str, Any]) -> str:
    """`7.8 s`, `195 s`; with a tilde where fewer filters were measured and scaled."""
    seconds = entry["median_s"]
    return f"{'~' if entry['scaled'] else ''}{seconds:.{0 if seconds >= 100 else 1}f} s"


def _table(layers: Layers, contestants: Mapping[str, Any], work: str) -> list[str]:
    rows = [[work, *(f"`{layer}`" for layer in layers)], ["---", *("---:" for _ in layers)]]
    for name in contestants:
        entries = [at_layer.get(name) for at_layer in layers.values()]
        if any(entries):
            rows.append([ENTRIES[name].label, *(_cell(entry) if entry else "failed" for entry in entries)])
    return [f"| {' | '.join(row)} |" for row in rows]


def _cell(entry: Mapping[str, Any]) -> str:
    ratios = ", ".join(f"{entry['times_as_fast_as'][base]:.2f}x" for base in BASELINES)
    return f"{seconds_text(entry)} ({ratios})"


def _scaled(layers: Layers, slow_after_s: float) -> str:
    """Who ran fewer filters, if anybody."""
    entries = [entry for at_layer in layers.values() for entry in at_layer.values()]
    counts = sorted({entry["filters_measured"] for entry in entries if entry["scaled"]})
    if not counts:
        return ""
    measured = _and(list(map(str, counts)), "or")
    return f"A tilde: {slow_after_s:.0f} s would not have been enough, so measured on {measured} filters and scaled. "


def _compilation(layers: Layers) -> str:
    """What is left out of the seconds, and what the other form of Keras's loop would cost."""

    def spread(values: list[float]) -> str:
        return f"{min(values):.1f}-{max(values):.1f} s"

    entries = list(layers.values())
    compile_s = {
        name: spread([entry[name]["compile_s"] for entry in entries])
        for name in ("keras", "jaxviz_float32")
        if all(name in entry for entry in entries)
    }
    once = _and([f"{seconds} in {ENTRIES[name].label.split(',')[0]}" for name, seconds in compile_s.items()])
    retrace = spread([entry["keras"]["probe"]["python int"]["retrace_s_per_filter"] for entry in entries])
    counted = all("tf.constant" in entry["keras"]["form"] for entry in entries)
    return (
        f"Tracing and compiling, once a layer, comes on top: {once}. "
        f"With its filter index as a Python int, Keras traces anew for every filter, {retrace} each; "
        + ("the race was run with `tf.constant`, which does not. " if counted else "that is counted where it raced. ")
    )


def _scores(layers: Layers, contestants: Mapping[str, Any]) -> str:
    """How equal the work was."""
    worst: dict[str, float] = {}
    drift: dict[str, float] = {}
    for at_layer in layers.values():
        for name, entry in at_layer.items():
            dtype, off = contestants[name]["dtype"], entry["scores_against_keras"]
            worst[dtype] = max(worst.get(dtype, 0.0), off["first_worst"])
            drift[dtype] = max(drift.get(dtype, 0.0), abs(off["final_mean"]))
    same = _and([f"{worst[dtype]:.0e} ({dtype})" for dtype in worst])
    end = _and([f"{drift[dtype]:.1%} ({dtype})" for dtype in drift])
    return (
        "Same weights (random), same starting images, same loop: before the first step all scores are within "
        f"{same} of Keras's, and the means of the final scores within {end}."
    )


def _versions(versions: Mapping[str, str | None]) -> str:
    names = {"tensorflow": "TensorFlow", "keras": "Keras", "torch": "PyTorch", "jax": "JAX"}
    return ", ".join(f"{shown} {versions[name]}" for name, shown in names.items() if versions[name])


def _absent(contestants: Mapping[str, Any]) -> list[str]:
    """Who could not take part, with the first line of the reason."""
    return [
        f"\nNot in this race: {ENTRIES[name].label} ({about['reason'].splitlines()[0]})."
        for name, about in contestants.items()
        if not about["available"]
    ]


def _speeds(layers: Layers, name: str) -> str:
    entries = [at_layer.get(name) for at_layer in layers.values()]
    return ", ".join(f"{entry['times_as_fast_as'][REFERENCE]:.2f}x" if entry else "failed" for entry in entries)


def _and(words: list[str], last: str = "and") -> str:
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), words[-1]]))

"""The race as text: README.md's table with its sentence, and for docs/speed.md what has to be said beside it.

Equal results give equal text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.contestants import ENTRIES
from benchmarks.measure.race_table import Layers, at_layers, framework, table, work
from benchmarks.records import Result, link, when
from benchmarks.settings import REFERENCE

CHART = "../benchmarks/race.svg"  # from docs/speed.md


class ReportError(Exception):
    """There is nothing to report, or nowhere to put it."""


def block(result: Result, source: str) -> str:
    """The README's table, with the one sentence that says what it shows; `source` names the file in errors.

    Raises:
        ReportError: Keras, whom everybody's speed is compared with, is missing.
    """
    layers, settings, hardware = at_layers(result), result.settings, result.hardware
    _check_reference(layers, source)
    lines = [
        *table(result),
        "",
        f"Seconds, and how many times as fast as Keras as published: medians of {settings['rounds']} runs on "
        f"{hardware.cores} cores of {hardware.cpu}"
        f"{', `~` scaled from fewer filters' if _scaled(layers, settings['slow_after_s']) else ''} "
        f"([how, and on other machines](docs/speed.md)).",
    ]
    return "\n".join(lines)


def notes(result: Result, source: str) -> str:
    """The chart, and what has to be said beside the README's table; `source` is the path of the file from docs.

    Raises:
        ReportError: as `block`.
    """
    layers, raw, settings, hardware = at_layers(result), result.facts["race"].raw, result.settings, result.hardware
    _check_reference(layers, source)
    lines = [
        f'<img src="{CHART}" width="800" alt="Bar chart of the README\'s table: times as fast as Keras">',
        "",
        f"{work(result)}: medians of {settings['rounds']} interleaved runs on {hardware.cores} cores of "
        f"{hardware.cpu}. "
        f"{_scaled(layers, settings['slow_after_s'])}{_compilation(layers)}{_scores(layers, raw['contestants'])}",
        f"{when(result)}, {_versions(result.versions)}; all figures: {link(source)}.",
        *_absent(raw["contestants"]),
    ]
    return "\n".join(lines)


def _check_reference(layers: Layers, source: str) -> None:
    """Raise ReportError where a layer lacks what speed is compared with."""
    for layer, entries in layers.items():
        if REFERENCE not in entries:
            raise ReportError(f"{source} has no {REFERENCE} at {layer}, so speed has nothing to be compared with")


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
        f"{same} of Keras's, and the means of the final scores within {end}.{_drift(layers)}"
    )


def _drift(layers: Layers) -> str:
    """What bfloat16 did to the final scores of each that has it in float32 too."""
    worst: dict[str, float] = {}
    for at_layer in layers.values():
        for name, entry in at_layer.items():
            if "drift" in entry:
                worst[name] = max(worst.get(name, 0.0), abs(entry["drift"]))
    if not worst:
        return ""
    each = _and([f"{off:.1%} in {framework(name)}" for name, off in worst.items()])
    return f" Against the same contestant's in float32, bfloat16 moved that mean by at most {each}."


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


def _and(words: list[str], last: str = "and") -> str:
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), words[-1]]))

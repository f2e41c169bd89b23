"""From raw seconds and scores to the figures of a result file, and whether a file can be trusted.

Every figure is computed here from what the workers measured; none is typed in. `problems` computes them again from a
file's raw values, so that a file that was edited, or a race in which somebody did other work, is noticed.

Seconds of a contestant that ran fewer filters are scaled to all of them; `filters_measured` says how many it ran.
FLOP are those of convolutions, forward and input gradient, 2 per multiply-add; batch norms and pools are not counted.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.settings import BASELINES, REFERENCE

SCHEMA = 1
FLOP_PER_MAC = 2
SCORES = ("first", "last", "final")  # before the first step, before the last one, of the final image
MOST_OTHERS_SHARE = 0.05  # of the machine's time during a measurement
LONG_ENOUGH_S = 1.0  # to say so: the system counts busy time in ticks of 10 ms
PASSES = 2  # forward, and the gradient at the image, which costs as much
# Largest relative difference from Keras's scores before the first step: by then only rounding separates libraries.
STEP_0_TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}

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
    "dot_gflops",
    "contestants",
    "layers",
)


def summarise(raw: dict[str, Any]) -> dict[str, Any]:
    """The result with all figures beside the raw values."""
    result = copy.deepcopy(raw)
    result["dot_gflops_median"] = {name: _rounded(statistics.median(x)) for name, x in raw["dot_gflops"].items()}
    for layer in result["layers"].values():
        entries = layer["contestants"]
        layer["gflop_per_image_step"] = _rounded(FLOP_PER_MAC * PASSES * layer["macs_per_image"] / 1e9)
        for name, entry in entries.items():
            entry.update(_speed(entry, result, layer, result["contestants"][name]["dtype"]))
        for entry in entries.values():
            entry["times_as_fast_as"] = {
                base: _rounded(entries[base]["median_s"] / entry["median_s"]) for base in BASELINES if base in entries
            }
            if REFERENCE in entries:
                entry["scores_against_keras"] = _compare(entry["scores"], entries[REFERENCE]["scores"])
    return result


def problems(result: dict[str, Any]) -> list[str]:
    """Why the file is incomplete, or its figures cannot be trusted; empty if it is fine."""
    missing = [name for name in REQUIRED if name not in result]
    if missing:
        return [f"missing: {', '.join(missing)}"]
    found = []
    if result["forced"]:
        found.append(f"the machine was busy at the start: load average {result['load_average_at_start']:.2f}")
    if result != summarise(result):
        found.append("the figures are not those of the raw values")
    settings = result["settings"]
    if list(result["layers"]) != settings["layers"]:
        found.append(f"layers are {list(result['layers'])}, not {settings['layers']}")
    for name in settings["contestants"]:
        about = result["contestants"][name]
        if not about["available"]:
            if (about["reason"] or "").startswith("failed"):
                found.append(f"{name} {about['reason']}")
            continue
        for layer, values in result["layers"].items():
            entry = values["contestants"].get(name)
            if entry is None or len(entry["runs"]) != settings["repeats"]:
                found.append(f"{layer}: {name} was not measured {settings['repeats']} times")
            else:
                found += [f"{layer}: {name} {doubt}" for doubt in _doubts(entry, about["dtype"])]
    return found


def as_text(result: dict[str, Any]) -> str:
    """A table for the terminal."""
    lines = []
    for layer, values in result["layers"].items():
        lines.append(f"\n{layer}  ({values['gflop_per_image_step']:.2f} GFLOP per image and step)")
        lines.append(
            f"  {'':<20}{'seconds':>9}{'IQR':>8}{'x keras':>9}{'x tf':>7}{'GFLOP/s':>9}{'of dot':>8}{'compile':>9}"
            f"{'MB':>7}  first, final scores off Keras's"
        )
        for name, entry in values["contestants"].items():
            fast, off = entry["times_as_fast_as"], entry.get("scores_against_keras")
            ratios = "".join(
                f"{fast[base]:>{width}.2f}" if base in fast else " " * width
                for base, width in zip(BASELINES, (9, 7), strict=True)
            )
            scaled = "~" if entry["scaled"] else " "
            lines.append(
                f"  {name:<19}{scaled}{entry['median_s']:>9.2f}{entry['iqr_s']:>8.2f}{ratios}{entry['gflops']:>9.0f}"
                f"{entry['fraction_of_dot_rate']:>8.0%}{entry['compile_s']:>9.1f}{entry['peak_memory_mb']:>7.0f}"
                + (f"  {off['first_worst']:.0e}, mean {off['final_mean']:+.2%}" if off else "")
            )
    if any(entry["scaled"] for values in result["layers"].values() for entry in values["contestants"].values()):
        lines += ["", "~ measured on fewer filters and scaled to all of them"]
    lines += [f"{n}: {about['reason']}" for n, about in result["contestants"].items() if not about["available"]]
    return "\n".join(lines)


def _doubts(entry: dict[str, Any], dtype: str) -> list[str]:
    found = []
    worst = entry["scores_against_keras"]["first_worst"] if "scores_against_keras" in entry else 0.0
    if worst > STEP_0_TOLERANCE[dtype]:
        found.append(f"does other work: its first scores are off Keras's by {worst:.1e}")
    share = entry["others_share"]
    if share is not None and share > MOST_OTHERS_SHARE and entry["median_s"] > LONG_ENOUGH_S:
        found.append(f"was measured while others used {share:.0%} of the machine")
    return found


def _speed(entry: dict[str, Any], result: dict[str, Any], layer: dict[str, Any], dtype: str) -> dict[str, Any]:
    settings, runs = result["settings"], entry["runs"]
    scale = settings["filters"] / entry["filters_measured"]
    seconds = [run["seconds"] * scale for run in runs]
    median = statistics.median(seconds)
    first, third = _quartiles(seconds)
    image_steps_per_s = settings["filters"] * settings["steps"] / median
    gflops = image_steps_per_s * layer["gflop_per_image_step"]
    rates = result["dot_gflops_median"]  # who is asked for bfloat16 may do better by multiplying in float32
    return {
        "scaled": scale != 1,
        "seconds": [_rounded(value) for value in seconds],
        "median_s": _rounded(median),
        "quartiles_s": [_rounded(first), _rounded(third)],
        "iqr_s": _rounded(third - first),
        "images_per_s": _rounded(settings["filters"] / median),
        "image_steps_per_s": _rounded(image_steps_per_s),
        "gflops": _rounded(gflops),
        "fraction_of_dot_rate": _rounded(gflops / max(rates[dtype], rates["float32"])),
        "cores_used": _rounded(statistics.median(run["own_cpu_s"] / run["seconds"] for run in runs)),
        "others_share": _others_share(runs, result["hardware"]["cores"]),
        "peak_memory_mb": max(run["peak_memory_mb"] for run in runs),
    }


def _others_share(runs: list[dict[str, Any]], cores: int) -> float | None:
    """The part of the machine's time that somebody else used, median over the runs; None if it cannot be known."""
    shares = [run["others_cpu_s"] / (run["seconds"] * cores) for run in runs if run["others_cpu_s"] is not None]
    return _rounded(statistics.median(shares)) if shares else None


def _compare(mine: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    """Relative differences over the filters that both ran: of each score, and of the means.

    The scale of a score is its reference's size, or the mean size where that is larger: before the first step
    scores are near zero, some by accident very near.
    """
    count = min(len(mine["final"]), len(reference["final"]))
    figures: dict[str, Any] = {"filters_compared": count}
    for kind in SCORES:
        ours, theirs = mine[kind][:count], reference[kind][:count]
        typical = statistics.fmean(map(abs, theirs))
        differences = [abs(a - b) / max(abs(b), typical, 1e-30) for a, b in zip(ours, theirs, strict=True)]
        figures[f"{kind}_worst"] = _rounded(max(differences))
        figures[f"{kind}_mean"] = _rounded(
            (statistics.fmean(ours) - statistics.fmean(theirs)) / max(abs(statistics.fmean(theirs)), typical, 1e-30)
        )
    return figures


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) == 1:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third


def _rounded(value: float) -> float:
    """Six significant digits: more are noise."""
    return float(f"{value:.6g}")

"""The race: jaxviz against Keras, TensorFlow, PyTorch and plain JAX at the same work; README.md has the rules.

Seconds of a contestant that ran fewer filters are scaled to all of them; `filters_measured` says how many it ran.
FLOP are those of convolutions, forward and input gradient, 2 per multiply-add; batch norms and pools are not counted.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import ENTRIES
from benchmarks.measure import race_text
from benchmarks.measure.contest import SCORES, Way, contest
from benchmarks.measure.fact import LONG_ENOUGH_S, MOST_OTHERS_SHARE, Claim, Column, Fact
from benchmarks.numbers import differences, mean_difference, median
from benchmarks.settings import BASELINES, MODEL, REFERENCE
from jaxviz.bench.figures import FLOP_PER_MAC, PASSES_PER_STEP, quartiles, rounded

if TYPE_CHECKING:
    from benchmarks.measure.bench import Bench


def measure(bench: Bench) -> dict[str, Any]:
    """Layer by layer: matrix products, then everybody in turns."""
    from jaxviz.machine import available_cores
    from jaxviz.models import architecture

    settings = bench.settings
    rates: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    layers: dict[str, dict[str, Any]] = {}
    ways = {name: Way(name, settings.race_batch) for name in settings.contestants}
    with bench.worker("dot") as dot, contest(bench, MODEL, ways) as running:
        for layer in settings.race_layers:
            for dtype, found in dot.ask("measure.renderer.rates").items():
                rates[dtype] += found
            macs = architecture(MODEL).layer(layer, (settings.size, settings.size)).macs
            layers[layer] = {"macs_per_image": macs, "contestants": running.at(layer)}
    contestants = {
        name: {
            "available": name not in running.absent,
            "reason": running.absent.get(name),
            **{about: getattr(ENTRIES[name], about) for about in ("label", "dtype", "environment")},
        }
        for name in settings.contestants
    }
    return {
        "filters": settings.filters,
        "steps": settings.steps,
        "rounds": settings.rounds,
        "cores": available_cores(),
        "dot_gflops": rates,
        "contestants": contestants,
        "layers": layers,
    }


def figures(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Speed, and scores against Keras's, of every contestant at every layer."""
    cases: dict[str, dict[str, Any]] = {}
    for layer, values in raw["layers"].items():
        entries = values["contestants"]
        speeds = {name: _speed(name, entry, raw, values["macs_per_image"]) for name, entry in entries.items()}
        for name, case in speeds.items():
            case["times_as_fast_as"] = {
                base: rounded(speeds[base]["median_s"] / case["median_s"]) for base in BASELINES if base in speeds
            }
            if REFERENCE in entries:
                case["scores_against_keras"] = off = _compare(entries[name]["scores"], entries[REFERENCE]["scores"])
                case[f"{raw['contestants'][name]['dtype']}_first_off"] = off["first_worst"]
            case["compile_s"] = entries[name]["compile_s"]
            cases[race_text.case(layer, name)] = case
    return cases


def doubts(raw: dict[str, Any]) -> list[str]:
    """Who failed, who lacks rounds, and beside whom others used the machine."""
    found = []
    of_cases = figures(raw)
    for name, about in raw["contestants"].items():
        if not about["available"]:
            if (about["reason"] or "").startswith("failed"):
                found.append(f"{name} {about['reason']}")
            continue
        for layer, values in raw["layers"].items():
            if len(values["contestants"].get(name, {"runs": ()})["runs"]) != raw["rounds"]:
                found.append(f"{layer}: {name} was not measured {raw['rounds']} times")
                continue
            case = of_cases[race_text.case(layer, name)]
            if (case["others_share"] or 0) > MOST_OTHERS_SHARE and case["median_s"] > LONG_ENOUGH_S:
                found.append(
                    f"{layer}: {name} was measured while others used {case['others_share']:.0%} of the machine"
                )
    return found


def _speed(name: str, entry: dict[str, Any], raw: dict[str, Any], macs_per_image: int) -> dict[str, Any]:
    runs = entry["runs"]
    scale = raw["filters"] / entry["filters_measured"]
    seconds = [run["seconds"] * scale for run in runs]
    middle = statistics.median(seconds)
    first, third = quartiles(seconds)
    image_steps_per_s = raw["filters"] * raw["steps"] / middle
    gflops = image_steps_per_s * rounded(FLOP_PER_MAC * PASSES_PER_STEP * macs_per_image / 1e9)
    # Who is asked for bfloat16 may do better by multiplying in float32.
    rate = max(median(raw["dot_gflops"][dtype]) for dtype in {raw["contestants"][name]["dtype"], "float32"})
    shares = [run["others_cpu_s"] / (run["seconds"] * raw["cores"]) for run in runs if run["others_cpu_s"] is not None]
    return {
        "scaled": scale != 1,
        "seconds": [rounded(value) for value in seconds],
        "median_s": rounded(middle),
        "quartiles_s": [rounded(first), rounded(third)],
        "iqr_s": rounded(third - first),
        "images_per_s": rounded(raw["filters"] / middle),
        "image_steps_per_s": rounded(image_steps_per_s),
        "gflops": rounded(gflops),
        "fraction_of_dot_rate": rounded(gflops / rate),
        "cores_used": median([run["own_cpu_s"] / run["seconds"] for run in runs]),
        "others_share": median(shares) if shares else None,
        "peak_memory_mb": max(run["peak_memory_mb"] for run in runs),
    }


def _compare(mine: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    """Relative differences over the filters that both ran: of each score, and of the means."""
    count = min(len(mine["final"]), len(reference["final"]))
    found: dict[str, Any] = {"filters_compared": count}
    for kind in SCORES:
        ours, theirs = mine[kind][:count], reference[kind][:count]
        found |= {f"{kind}_worst": max(differences(ours, theirs)), f"{kind}_mean": mean_difference(ours, theirs)}
    return found


def _off(scores: Mapping[str, float]) -> str:
    return f"{scores['first_worst']:.0e}, mean {scores['final_mean']:+.2%}"


def _times(ratios: Mapping[str, float]) -> str:
    return ", ".join(f"{ratio:.2f}x" for ratio in ratios.values())


FACT = Fact(
    title="The race",
    work="{filters} filters x {steps} steps, {size} px; medians of {rounds} interleaved rounds, whoever would need "
    "more than {slow_after_s:.0f} s on fewer filters and scaled",
    cases="layer, contestant",
    columns=(
        Column("s", "median_s", ".2f"),
        Column("IQR", "iqr_s", ".2f"),
        Column("times as fast as Keras, TensorFlow batched", "times_as_fast_as", _times),
        Column("GFLOP/s", "gflops", ".0f"),
        Column("of dot", "fraction_of_dot_rate", ".0%"),
        Column("compilation, s", "compile_s", ".1f"),
        Column("MB", "peak_memory_mb", ".0f"),
        Column("first, final scores off Keras's", "scores_against_keras", _off),
    ),
    # By the first step only rounding separates libraries.
    claims=(
        Claim("all do the same work: first scores within 1e-4 of Keras's", "float32_first_off", "<=", 1e-4, "{:.0e}"),
        Claim("the same in bfloat16, within 5e-2", "bfloat16_first_off", "<=", 5e-2, "{:.0e}"),
    ),
    measure=measure,
    figures=figures,
    doubts=doubts,
    text=race_text.block,
    place="race",
)

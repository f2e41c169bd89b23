"""The race: jaxviz against Keras, TensorFlow, PyTorch and plain JAX at the same work; README.md has the rules.

Seconds of a contestant that ran fewer filters are scaled to all of them; `filters_measured` says how many it ran.
FLOP are those of convolutions, forward and input gradient, 2 per multiply-add; batch norms and pools are not counted.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import ENTRIES
from benchmarks.cpu import instruction_sets, kind_of_cpu
from benchmarks.measure import race_table, race_text
from benchmarks.measure.contest import SCORES, Way, contest
from benchmarks.measure.fact import LONG_ENOUGH_S, MOST_OTHERS_SHARE, Claim, Column, Fact
from benchmarks.measure.goals import against_goal, against_peers
from benchmarks.numbers import differences, mean_difference, median
from benchmarks.settings import BASELINES, FLOAT32_FORMS, MODEL, OURS, REFERENCE, Settings
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
    ways = {name: Way(name, settings.race_batch, _told(name, settings)) for name in settings.contestants}
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
        "instructions": instruction_sets(),
        "dot_gflops": rates,
        "contestants": contestants,
        "layers": layers,
    }


def _told(name: str, settings: Settings) -> dict[str, Any]:
    """What a contestant alone is told."""
    if "torch" not in ENTRIES[name].needs:
        return {}
    return {"sizes": settings.torch_batches, "probe_compiled": settings.torch_compiled}


def figures(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Speed, and scores against Keras's and one's own in float32, of every contestant at every layer."""
    cases: dict[str, dict[str, Any]] = {}
    kind = kind_of_cpu(raw.get("instructions", ()))  # not recorded until 2026-11-28
    for layer, values in raw["layers"].items():
        entries = values["contestants"]
        speeds = {name: _speed(name, entry, raw, values["macs_per_image"]) for name, entry in entries.items()}
        seconds = {name: case["median_s"] for name, case in speeds.items()}
        for name, case in speeds.items():
            dtype = raw["contestants"][name]["dtype"]
            case["times_as_fast_as"] = {
                base: rounded(seconds[base] / seconds[name]) for base in BASELINES if base in seconds
            }
            case |= against_peers(name, dtype, seconds)
            case |= against_goal(name, dtype, layer, kind, case)
            case |= _score_figures(name, dtype, {each: entry["scores"] for each, entry in entries.items()})
            case["compile_s"] = entries[name]["compile_s"]
            cases[race_table.case(layer, name)] = case
    return cases


def _score_figures(name: str, dtype: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    """Off Keras's; of a contestant in bfloat16 also how far the mean final score drifted from its own in float32."""
    found: dict[str, Any] = {}
    if REFERENCE in scores:
        found["scores_against_keras"] = off = _compare(scores[name], scores[REFERENCE])
        found[f"{dtype}_first_off"] = off["first_worst"]
    if (own := FLOAT32_FORMS.get(name)) in scores:
        found["drift"] = drift = _compare(scores[name], scores[own])["final_mean"]
        if name in OURS:
            found["jaxviz_drift"] = abs(drift)
    return found


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
            case = of_cases[race_table.case(layer, name)]
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
        Column("as the best peer of its type", "times_as_fast_as_best_peer", ".2f"),
        Column("of its goal", "of_goal", ".2f"),
        Column("GFLOP/s", "gflops", ".0f"),
        Column("of dot", "fraction_of_dot_rate", ".0%"),
        Column("compilation, s", "compile_s", ".1f"),
        Column("MB", "peak_memory_mb", ".0f"),
        Column("first, final scores off Keras's", "scores_against_keras", _off),
        Column("final off its own in float32", "drift", "+.2%"),
    ),
    # By the first step only rounding separates libraries.
    claims=(
        Claim("all do the same work: first scores within 1e-4 of Keras's", "float32_first_off", "<=", 1e-4, "{:.0e}"),
        Claim("the same in bfloat16, within 5e-2", "bfloat16_first_off", "<=", 5e-2, "{:.0e}"),
        Claim("jaxviz in bfloat16 ends within 5 % of its own float32", "jaxviz_drift", "<=", 0.05, "{:.2%}"),
        Claim("jaxviz reaches its goals for this kind of CPU", "of_goal", ">=", 1.0, "{:.2f} of its own"),
    ),
    measure=measure,
    figures=figures,
    doubts=doubts,
    text=race_text.block,
    place="race",
)

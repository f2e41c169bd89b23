"""EfficientNet-Lite0 with its real weights: jaxviz against JAX as one would write it, depthwise convolutions grouped.

The race's own contestants on another network: the same rules, the same check that all do the same work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.measure.contest import Way, contest
from benchmarks.measure.fact import Claim, Column, Fact
from benchmarks.numbers import differences, median
from benchmarks.processes import WorkerError
from jaxviz.bench.figures import rounded

if TYPE_CHECKING:
    from benchmarks.measure.bench import Bench

PLAIN = "plain JAX"
STEP_0_TOLERANCE = 1e-4  # the race's, in float32


def measure(bench: Bench) -> dict[str, Any]:
    """The race's contest.

    Raises:
        WorkerError: somebody could not take part.
    """
    settings = bench.settings
    ways = {"jaxviz": Way("jaxviz_float32", settings.lite0_batches[0])}
    ways |= {f"{PLAIN}, {batch} images a call": Way("plain_jax", batch) for batch in settings.lite0_batches}
    with contest(bench, settings.lite0.model, ways) as running:
        entries = running.at(settings.lite0.layer)
    for name, reason in running.absent.items():
        raise WorkerError(f"{name} {reason}")
    return {
        "layer": settings.lite0.layer,
        "filters": settings.filters,
        "contestants": {name: {**entry, "plain": name.startswith(PLAIN)} for name, entry in entries.items()},
    }


def figures(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Seconds for all filters; jaxviz's speed against the better plain one; scores against the plain ones."""
    entries = raw["contestants"]
    seconds = {
        name: median([run["seconds"] for run in entry["runs"]]) * raw["filters"] / entry["filters_measured"]
        for name, entry in entries.items()
    }
    best = min((name for name, entry in entries.items() if entry["plain"]), key=lambda name: seconds[name])
    cases: dict[str, dict[str, Any]] = {}
    for name, entry in entries.items():
        case = {
            "seconds": rounded(seconds[name]),
            "filters_measured": entry["filters_measured"],
            "compile_s": rounded(entry["compile_s"]),
        }
        count = min(entry["filters_measured"], entries[best]["filters_measured"])
        ours, reference = (e["scores"]["first"][:count] for e in (entry, entries[best]))
        case["first_off"] = max(differences(ours, reference))
        if not entry["plain"]:
            case["times_as_fast"] = rounded(seconds[best] / seconds[name])
        cases[name] = case
    return cases


FACT = Fact(
    title="EfficientNet-Lite0 against plain JAX",
    work="{filters} filters of `{lite0[layer]}`, {steps} steps, {size} px, real weights; medians of {rounds} "
    "interleaved runs, whoever would need more than {slow_after_s:.0f} s on fewer filters and scaled",
    cases="contestant",
    columns=(
        Column("s", "seconds", ".1f"),
        Column("filters measured", "filters_measured", "d"),
        Column("times as fast as the better plain one", "times_as_fast", ".2f"),
        Column("compilation, s", "compile_s", ".1f"),
        Column("scores before the first step off", "first_off", ".0e"),
    ),
    claims=(
        Claim("jaxviz is at least 6 times as fast", "times_as_fast", ">=", 6.0, "{:.2f} times as fast"),
        Claim("all do the same work: first scores within 1e-4", "first_off", "<=", STEP_0_TOLERANCE, "{:.0e}"),
    ),
    measure=measure,
    figures=figures,
)

"""EfficientNet-Lite0 with its real weights: jaxviz against JAX as one would write it, depthwise convolutions grouped.

The race's own contestants on another network: the same rules, the same check that all do the same work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.measure.fact import Claim, Column, Fact
from benchmarks.measure.numbers import differences, median, six_digits
from benchmarks.settings import Settings as RaceSettings
from benchmarks.settings import Task
from benchmarks.workers import Worker

if TYPE_CHECKING:
    from benchmarks.measure.bench import Bench

PLAIN = "plain JAX"
JAXVIZ = {"jaxviz": "jaxviz_float32"}
STEP_0_TOLERANCE = 1e-4  # results.STEP_0_TOLERANCE["float32"]


def measure(bench: Bench) -> dict[str, Any]:
    """Everybody is built and warmed up once; then interleaved rounds, all but one asleep."""
    settings = bench.settings
    ways = {name: (contestant, settings.lite0_batches[0]) for name, contestant in JAXVIZ.items()}
    ways |= {f"{PLAIN}, {batch} images a call": ("plain_jax", batch) for batch in settings.lite0_batches}
    workers: dict[str, Worker] = {}
    try:
        for name, (contestant, batch) in ways.items():
            workers[name] = _worker(bench, contestant, batch)
            workers[name].wait_until_ready()
        return {
            "layer": settings.lite0.layer,
            "filters": settings.filters,
            "contestants": _rounds(settings.lite0.layer, workers, settings),
        }
    finally:
        for worker in workers.values():
            worker.close()


def _worker(bench: Bench, contestant: str, batch: int) -> Worker:
    settings, folder = bench.settings, bench.new_folder(f"lite0-{contestant}")
    material, task = bench.material(settings.lite0.model), folder / "task.json"
    Task(
        weights=str(material / "weights.safetensors"),
        starts=str(material / "starts.npy"),
        size=settings.size,
        steps=settings.steps,
        step_size=RaceSettings().step_size,
        batch=min(batch, settings.filters),
        model=settings.lite0.model,
    ).write(task)
    return Worker(contestant, task, folder=folder, extra_environment={})


def _rounds(layer: str, workers: dict[str, Worker], settings: Any) -> dict[str, dict[str, Any]]:
    limits = RaceSettings(filters=settings.filters, slow_after_s=settings.slow_after_s)
    found: dict[str, dict[str, Any]] = {}
    for name, worker in workers.items():
        prepared = worker.ask("prepare", layer=layer)
        count = limits.filters_measured(prepared["seconds_per_filter"], prepared["images_per_call"])
        found[name] = {**prepared, "plain": name.startswith(PLAIN), "filters_measured": count, "runs": []}
    for _ in range(settings.rounds):
        for name, worker in workers.items():
            answer = worker.ask("measure", filters=list(range(found[name]["filters_measured"])))
            scores = {kind: answer.pop(f"{kind}_scores") for kind in ("first", "last", "final")}
            found[name].setdefault("scores", scores)
            found[name]["runs"].append(answer)
    return found


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
            "seconds": six_digits(seconds[name]),
            "filters_measured": entry["filters_measured"],
            "compile_s": six_digits(entry["compile_s"]),
        }
        count = min(entry["filters_measured"], entries[best]["filters_measured"])
        ours, reference = (e["scores"]["first"][:count] for e in (entry, entries[best]))
        case["first_off"] = max(differences(ours, reference))
        if not entry["plain"]:
            case["times_as_fast"] = six_digits(seconds[best] / seconds[name])
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

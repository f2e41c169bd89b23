"""Whether `auto` chooses a good batch size N: its time per filter against those of a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.measure.fact import Claim, Column, Fact
from benchmarks.measure.numbers import median, six_digits

if TYPE_CHECKING:
    from benchmarks.measure.bench import Bench


def measure(bench: Bench) -> dict[str, Any]:
    """A process for every target; all N are compiled and warmed up in it, then interleaved rounds over all N."""
    settings = bench.settings
    found = []
    for target in settings.targets:
        with bench.renderer("batch") as renderer:
            chosen = renderer.render(target, 1, steps=target.few_steps, batch_size="auto")["batch_size"]
            sizes = sorted({*settings.sweep, chosen})
            for size in sizes:
                renderer.render(target, size, steps=target.few_steps, batch_size=size)
            runs: dict[str, list[dict[str, Any]]] = {str(size): [] for size in sizes}
            for _ in range(settings.rounds):
                for size in sizes:
                    filters = max(1, settings.filters // size) * size  # full calls only
                    answer = renderer.render(target, filters, steps=target.few_steps, batch_size=size)
                    kept = ("filters", "steps", "seconds", "compile_s", "own_cpu_s", "others_cpu_s")
                    runs[str(size)].append({name: answer[name] for name in kept})
        found.append({"layer": target.layer, "auto": chosen, "runs": runs})
    return {"targets": found}


def figures(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Medians per filter."""
    cases: dict[str, dict[str, Any]] = {}
    for target in raw["targets"]:
        per_filter = {
            size: median([run["seconds"] / run["filters"] for run in runs]) for size, runs in target["runs"].items()
        }
        best = min(per_filter, key=lambda size: per_filter[size])
        cases[f"`{target['layer']}`"] = {
            "steps": next(iter(target["runs"].values()))[0]["steps"],
            "s_per_filter": per_filter,
            "auto": target["auto"],
            "best": int(best),
            "over_best": six_digits(per_filter[str(target["auto"])] / per_filter[best]),
        }
    return cases


def _sweep(per_filter: dict[str, float]) -> str:
    return ", ".join(f"{size}: {1000 * seconds:.0f}" for size, seconds in per_filter.items())


FACT = Fact(
    title="The automatic batch size",
    work="{filters} filters, {size} px, float32, one device; medians of {rounds} interleaved rounds over all N in one "
    "process",
    cases="layer",
    columns=(
        Column("steps", "steps", "d"),
        Column("ms per filter, N: ms", "s_per_filter", _sweep),
        Column("auto", "auto", "d"),
        Column("best N", "best", "d"),
        Column("auto's time over the best", "over_best", ".3f"),
    ),
    claims=(Claim("auto is within 10 % of the best N", "over_best", "<=", 1.10, "{:.3f} times its time"),),
    measure=measure,
    figures=figures,
)

"""From typing `jaxviz render` to the first finished batch and to the end, without and with a compilation cache.

The first batch is finished when its first PNG is written; the file's own time says when that was, so that nothing has
to watch the folder. The system's file cache is warm in both cases: only jaxviz's own cache folder differs.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure.fact import Claim, Column, Fact
from benchmarks.numbers import median
from jaxviz.bench.figures import in_turns, rounded

if TYPE_CHECKING:
    from benchmarks.measure.bench import Bench

CACHES = EMPTY, WARM = "empty", "warm"


def measure(bench: Bench) -> dict[str, Any]:
    """Cold, warm, cold, warm ...: each cold run has a new cache folder, which the warm one after it takes over."""
    settings = bench.settings
    bench.material(settings.start.model)
    folders: list[Path] = []

    def run(cache: str) -> dict[str, Any]:
        if cache == EMPTY:
            folders.append(bench.new_folder("cache"))
        out = bench.new_folder("out")
        answer = bench.command_line(settings.start, settings.filters, steps=settings.steps, cache=folders[-1], out=out)
        summary, began = answer.pop("summary"), answer.pop("began")
        first_s = min(file.stat().st_mtime for file in out.rglob("[0-9]*.png")) - began
        return {**answer, "first_batch_s": first_s, "compile_s": summary["compile_s"]}

    runs = in_turns(settings.rounds, {cache: partial(run, cache) for cache in CACHES})
    return {"layer": settings.start.layer, "filters": settings.filters, "runs": runs}


def figures(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Medians, and what the cache saves."""
    cases: dict[str, dict[str, Any]] = {}
    for cache in CACHES:
        runs = raw["runs"][cache]
        cases[f"{cache} cache"] = {
            "first_batch_s": median([run["first_batch_s"] for run in runs]),
            "compile_s": median([run["compile_s"] for run in runs]),
            "end_s": median([run["seconds"] for run in runs]),
        }
    cold, warm = cases.values()
    warm["of_cold"] = rounded(warm["first_batch_s"] / cold["first_batch_s"])
    return cases


FACT = Fact(
    title="Start of the command",
    work="`jaxviz render` of {filters} filters of `{start[layer]}`, {steps} steps, {size} px; medians of {rounds} "
    "runs, seconds from the start of the process",
    cases="compilation cache",
    columns=(
        Column("first finished batch", "first_batch_s", ".2f"),
        Column("compilation in it", "compile_s", ".2f"),
        Column("end", "end_s", ".2f"),
    ),
    claims=(Claim("a warm cache brings the first batch sooner", "of_cold", "<", 1.0, "{:.2f} of the cold time"),),
    measure=measure,
    figures=figures,
)

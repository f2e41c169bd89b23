"""Whether `auto` chooses a good batch size N: its time per filter against those of a sweep, at image sizes and dtypes.

N are compared within each round, which sees one state of the machine, and the median over the rounds is taken of the
ratio: a machine whose speed drifts by more than the N differ says nothing through medians of seconds.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.measure.fact import Claim, Column, Fact
from benchmarks.numbers import median
from benchmarks.settings import crop_of
from jaxviz.bench.figures import in_turns

if TYPE_CHECKING:
    from benchmarks.measure.bench import Bench
    from benchmarks.settings import Target

KEPT = ("filters", "steps", "seconds", "compile_s", "own_cpu_s", "others_cpu_s")


def measure(bench: Bench) -> dict[str, Any]:
    """A process for every target and size: all N compiled and warmed up in it, then interleaved rounds over them."""
    settings = bench.settings
    return {
        "targets": [
            _measure(bench, target, size, dtype)
            for dtype in settings.batch_dtypes
            for size in settings.batch_image_sizes
            for target in settings.targets
        ]
    }


def _measure(bench: Bench, target: Target, size: int, dtype: str) -> dict[str, Any]:
    settings = bench.settings
    with bench.worker("batch") as worker:

        def rendered(filters: int, batch_size: int | str) -> dict[str, Any]:
            return bench.render(
                worker,
                target,
                filters,
                steps=target.few_steps,
                batch_size=batch_size,
                image_size=size,
                crop=crop_of(size),
                dtype=dtype,
            )

        def full_calls(batch_size: int) -> dict[str, Any]:
            answer = rendered(max(1, settings.batch_filters // batch_size) * batch_size, batch_size)
            return {name: answer[name] for name in KEPT}

        chosen = rendered(1, "auto")["batch_size"]
        sweep = sorted({*settings.sweep, chosen})
        for batch_size in sweep:
            rendered(batch_size, batch_size)
        runs = in_turns(
            settings.batch_rounds, {str(batch_size): partial(full_calls, batch_size) for batch_size in sweep}
        )
    return {"layer": target.layer, "image_size": size, "dtype": dtype, "auto": chosen, "runs": runs}


def figures(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Seconds per filter, medians; `over_best` is the largest median, over N, of auto's time over theirs."""
    cases: dict[str, dict[str, Any]] = {}
    for target in raw["targets"]:
        rounds = {size: [run["seconds"] / run["filters"] for run in runs] for size, runs in target["runs"].items()}
        ours = rounds[str(target["auto"])]
        over = {size: median([a / b for a, b in zip(ours, theirs, strict=True)]) for size, theirs in rounds.items()}
        best = max(over, key=lambda size: over[size])
        dtype = f", {target['dtype']}" if "dtype" in target else ""  # until 2026-11 all were float32
        cases[f"`{target['layer']}`, {target['image_size']} px{dtype}"] = {
            "steps": next(iter(target["runs"].values()))[0]["steps"],
            "s_per_filter": {size: median(seconds) for size, seconds in rounds.items()},
            "auto": target["auto"],
            "best": int(best),
            "over_best": over[best],
        }
    return cases


def _sweep(per_filter: dict[str, float]) -> str:
    return ", ".join(f"{size}: {1000 * seconds:.0f}" for size, seconds in per_filter.items())


FACT = Fact(
    title="The automatic batch size",
    work="{batch_filters} filters; medians of {batch_rounds} interleaved rounds over all N in one process, of times "
    "and of the ratio of two N in a round",
    cases="layer, image, dtype",
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

"""Peak memory of whole processes, and time, against the number of filters: through the API's stream and the command.

Few steps: the loop runs inside one compiled call that holds no history but scores, so that memory does not depend on
their number. One run with all steps checks that. Of several rounds the largest peak counts, and the median time.
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.measure.fact import Claim, Column, Fact
from benchmarks.numbers import relative
from jaxviz.bench.figures import in_turns, rounded

if TYPE_CHECKING:
    from benchmarks.measure.bench import Bench

MIB = 2**20
WAYS = ("iter_render", "jaxviz render")


def measure(bench: Bench) -> dict[str, Any]:
    """Everything in fresh processes with empty caches, so that all compile: the stream, the command, more steps."""
    settings = bench.settings
    usual = {
        (way, count): partial(_run, bench, way, count, settings.memory_steps)
        for way in WAYS
        for count in settings.memory_counts
    }
    runs = [run for found in in_turns(settings.memory_rounds, usual).values() for run in found]
    runs.append(_run(bench, WAYS[0], settings.memory_counts[0], settings.steps))
    return {"layer": settings.memory.layer, "usual_steps": settings.memory_steps, "runs": runs}


def _run(bench: Bench, way: str, filters: int, steps: int) -> dict[str, Any]:
    target = bench.settings.memory
    if way == WAYS[0]:
        with bench.worker("memory") as worker:
            answer = bench.render(worker, target, filters, steps=steps)
        kept = {name: value for name, value in answer.items() if not name.endswith("_scores")}
        return {"way": way, **kept}
    cache, out = bench.new_folder("cache"), bench.new_folder("out")
    answer = bench.command_line(target, filters, steps=steps, cache=cache, out=out)
    summary = answer.pop("summary")
    render = {name: summary[name] for name in ("render_s", "compile_s", "batch_size", "rendered")}
    return {"way": way, "filters": filters, "steps": steps, **answer, **render}


def figures(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Peaks against the runs with the fewest filters, times against a straight line through all, way by way."""
    alike: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for run in raw["runs"]:
        alike.setdefault((run["way"], run["filters"], run["steps"]), []).append(run)
    seconds = {key: statistics.median(map(_loop_s, runs)) for key, runs in alike.items()}
    usual = [key for key in alike if key[2] == raw["usual_steps"]]
    lines = {way: _line({key[1]: seconds[key] for key in usual if key[0] == way}) for way in WAYS}
    cases: dict[str, dict[str, Any]] = {}
    base: dict[str, float] = {}
    for (way, filters, steps), runs in alike.items():
        loop_s, peak_mb = seconds[way, filters, steps], max(run["peak_memory_mb"] for run in runs)
        case = {
            "filters": filters,
            "steps": steps,
            "peak_gb": rounded(peak_mb * MIB / 1e9),
            "peak_rise": relative(peak_mb, base.setdefault(way, peak_mb)),
            "loop_s": rounded(loop_s),
            "s_per_filter": rounded(loop_s / filters),
        }
        name = f"`{way}`, {filters} filters"
        if (way, filters, steps) in usual:
            slope, fixed_s = lines[way]
            case["time_off"] = abs(relative(fixed_s + slope * filters, loop_s))
        else:
            name += f", {steps} steps"
        cases[name] = case
    return cases


def _loop_s(run: dict[str, Any]) -> float:
    """Of rendering, without compilation; the command's own clock does not count its start."""
    seconds: float = run.get("render_s", run["seconds"]) - run["compile_s"]
    return seconds


def _line(seconds: dict[int, float]) -> tuple[float, float]:
    """Seconds per filter, and those that any number of filters costs, by least squares."""
    slope, intercept = statistics.linear_regression(list(seconds), list(seconds.values()))
    return slope, intercept


FACT = Fact(
    title="Memory and time against the number of filters",
    work="Filters of `{memory[layer]}`, steps: {memory_steps} where none are named, {size} px; of {memory_rounds} "
    "interleaved rounds the largest peak and the median seconds, without compilation",
    cases="process",
    columns=(
        Column("peak, GB", "peak_gb", ".2f"),
        Column("against the fewest filters", "peak_rise", "+.1%"),
        Column("s", "loop_s", ".1f"),
        Column("s per filter", "s_per_filter", ".3f"),
        Column("off a straight line", "time_off", ".1%"),
    ),
    claims=(
        Claim("peak memory is flat within 10 %, in filters and in steps", "peak_rise", "<=", 0.10, "{:+.1%}"),
        Claim("peak memory is under 2 GB", "peak_gb", "<", 2.0, "{:.2f} GB"),
        Claim("time is linear: within 10 % of a straight line", "time_off", "<=", 0.10, "{:.1%}"),
    ),
    measure=measure,
    figures=figures,
)

"""Peak memory of whole processes, and time, against the number of filters: through the API's stream and the command.

Few steps: the loop runs inside one compiled call that holds no history but scores, so that memory does not depend on
their number. One run with all steps checks that.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.measure.fact import Claim, Column, Fact
from benchmarks.measure.numbers import relative, six_digits

if TYPE_CHECKING:
    from benchmarks.measure.bench import Bench

MIB = 2**20
WAYS = ("iter_render", "jaxviz render")


def measure(bench: Bench) -> dict[str, Any]:
    """Everything in fresh processes with empty caches, so that all compile: the stream, the command, more steps."""
    settings = bench.settings
    runs = []
    for way in WAYS:
        for count in settings.memory_counts:
            runs.append(_run(bench, way, count, settings.memory_steps))
    runs.append(_run(bench, WAYS[0], settings.memory_counts[0], settings.steps))
    return {"layer": settings.memory.layer, "usual_steps": settings.memory_steps, "runs": runs}


def _run(bench: Bench, way: str, filters: int, steps: int) -> dict[str, Any]:
    target = bench.settings.memory
    if way == WAYS[0]:
        with bench.renderer("memory") as renderer:
            answer = renderer.render(target, filters, steps=steps)
        kept = {name: value for name, value in answer.items() if not name.endswith("_scores")}
        return {"way": way, **kept}
    cache, out = bench.new_folder("cache"), bench.new_folder("out")
    answer = bench.command_line(target, filters, steps=steps, cache=cache, out=out)
    summary = answer.pop("summary")
    render = {name: summary[name] for name in ("render_s", "compile_s", "batch_size", "rendered")}
    return {"way": way, "filters": filters, "steps": steps, **answer, **render}


def figures(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Peaks against the run with the fewest filters, times against a straight line through all, way by way."""
    cases: dict[str, dict[str, Any]] = {}
    base: dict[str, float] = {}
    lines = {way: _line([run for run in _usual(raw) if run["way"] == way]) for way in WAYS}
    for run in raw["runs"]:
        loop_s, peak = _loop_s(run), base.setdefault(run["way"], run["peak_memory_mb"])
        case = {
            "filters": run["filters"],
            "steps": run["steps"],
            "peak_gb": six_digits(run["peak_memory_mb"] * MIB / 1e9),
            "peak_rise": relative(run["peak_memory_mb"], peak),
            "loop_s": six_digits(loop_s),
            "s_per_filter": six_digits(loop_s / run["filters"]),
        }
        name = f"`{run['way']}`, {run['filters']} filters"
        if run in _usual(raw):
            slope, fixed_s = lines[run["way"]]
            case["time_off"] = abs(relative(fixed_s + slope * run["filters"], loop_s))
        else:
            name += f", {run['steps']} steps"
        cases[name] = case
    return cases


def _usual(raw: dict[str, Any]) -> list[dict[str, Any]]:
    return [run for run in raw["runs"] if run["steps"] == raw["usual_steps"]]


def _loop_s(run: dict[str, Any]) -> float:
    """Of rendering, without compilation; the command's own clock does not count its start."""
    seconds: float = run.get("render_s", run["seconds"]) - run["compile_s"]
    return seconds


def _line(runs: list[dict[str, Any]]) -> tuple[float, float]:
    """Seconds per filter, and those that any number of filters costs, by least squares."""
    slope, intercept = statistics.linear_regression([run["filters"] for run in runs], [_loop_s(run) for run in runs])
    return slope, intercept


FACT = Fact(
    title="Memory and time against the number of filters",
    work="Filters of `{memory[layer]}`, {memory_steps} steps where none are named, {size} px; seconds without "
    "compilation",
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

"""The child of most facts: jaxviz through its public API, answering commands as JSON lines.

`python -m benchmarks.measure.renderer NAME`; stdout is the protocol, and whatever a library prints goes to stderr. The
first line is `{"ready": true}`; then one answer a command:

    {"command": "render", "model", "weights", "layer", "filters", "config", "pictures"}

renders the first so many filters as a stream (`iter_render`) and drops the pictures, or saves them after the clock has
stopped.

    {"command": "write", "model", "weights", "layer", "filters", "config", "out"}

renders them into the folder `out` as `jaxviz atlas` does; null drops them.

A failure ends the process with a traceback on stderr, which the parent quotes.
"""

from __future__ import annotations

import gc
import json
import math
import os
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import jaxviz
from benchmarks import machine
from benchmarks.contestants.compile_clock import CompileClock
from jaxviz.atlas import run_tasks
from jaxviz.plan import plan_render
from jaxviz.render import iter_pictures
from jaxviz.task import LayerTask, RenderRequest


def main() -> None:
    """Serve until stdin ends."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def reply(values: dict[str, Any]) -> None:
        replies.write(json.dumps(values) + "\n")

    clock = CompileClock()
    reply({"ready": True})
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        command = asked.pop("command")
        if command not in COMMANDS:
            raise ValueError(f"unknown command {command}")
        reply(COMMANDS[command](clock, **asked))


def render(
    clock: CompileClock,
    *,
    model: str,
    weights: str,
    layer: str,
    filters: int,
    config: dict[str, Any],
    pictures: str | None,
) -> dict[str, Any]:
    """Times, scores before the first step and of the final images, and the process's peak memory since it began."""
    network, recipe = _model(model, weights), jaxviz.RenderConfig.from_preset(**({"preset": "keras"} | config))
    gc.collect()
    clock.reset()
    busy, own, started = machine.busy_cpu_s(), time.process_time(), time.perf_counter()
    first, final, kept, batch_size = [], [], [], 0
    for picture in jaxviz.iter_render(network, layer, range(filters), recipe):
        first.append(_number(picture.history[0]))
        final.append(_number(picture.score))
        batch_size = picture.recipe.batch_size
        if pictures is not None:
            kept.append(picture.picture)
    seconds, own_s, busy_after = time.perf_counter() - started, time.process_time() - own, machine.busy_cpu_s()
    if pictures is not None:
        np.save(pictures, np.stack(kept))
    return {
        "filters": filters,
        "steps": recipe.steps,
        "batch_size": batch_size,
        "seconds": seconds,
        "compile_s": clock.seconds(),
        "own_cpu_s": own_s,
        "others_cpu_s": None if busy is None or busy_after is None else busy_after - busy - own_s,
        "peak_memory_mb": machine.peak_memory_mb(),
        "first_scores": first,
        "final_scores": final,
    }


def write(
    clock: CompileClock,  # noqa: ARG001
    *,
    model: str,
    weights: str,
    layer: str,
    filters: int,
    config: dict[str, Any],
    out: str | None,
) -> dict[str, Any]:
    """Seconds from the layer's start, planned and with its folder open, to its end; both ways by the same functions."""
    recipe = jaxviz.RenderConfig.keras(**config)
    gc.collect()
    busy, own = machine.busy_cpu_s(), time.process_time()
    if out is None:
        plan = plan_render(_model(model, weights), layer, range(filters), recipe)
        started = time.perf_counter()
        for _ in iter_pictures(plan):
            pass
        ended = time.perf_counter()
    else:
        times: dict[str, float] = {}
        request = RenderRequest(model, recipe, out=Path(out), weights=Path(weights))
        task = LayerTask(request, layer, tuple(range(filters)))
        run_tasks([task], lambda event: times.update({event.name: time.perf_counter()}))
        started, ended = times["layer"], times["done"]
    own_s, busy_after = time.process_time() - own, machine.busy_cpu_s()
    return {
        "filters": filters,
        "steps": recipe.steps,
        "seconds": ended - started,
        "own_cpu_s": own_s,
        "others_cpu_s": None if busy is None or busy_after is None else busy_after - busy - own_s,
    }


COMMANDS = {"render": render, "write": write}


@lru_cache
def _model(name: str, weights: str) -> Any:
    return jaxviz.load_model(name, weights=weights)


def _number(score: Any) -> float:
    """float32 as the shortest text that gives it back."""
    if not math.isfinite(score):
        raise ValueError(f"a score that is not finite: {score}")
    return float(str(np.float32(score)))


if __name__ == "__main__":
    main()

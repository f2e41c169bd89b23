"""The child: one contestant, built once, that answers commands as JSON lines.

`python -m benchmarks.worker CONTESTANT TASK.json`; stdout is the protocol, and whatever a library prints goes to
stderr. The first line is `{"ready": ...}` or `{"unavailable": reason}`; then one answer a command:

    {"command": "prepare", "layer": L}      trace, compile, warm up, and guess the speed
    {"command": "measure", "filters": [..]} the ascent, timed from starting images to final images and the history
                                            on the host; the final scores are computed after the clock has stopped
    {"command": "rates"}                    (contestant `dot`) GFLOP/s of a matrix product

A failure ends the process with a traceback on stderr, which the parent quotes.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import contestants, machine
from benchmarks.settings import Task


def main() -> None:
    """Serve until stdin ends."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def reply(values: dict[str, Any]) -> None:
        replies.write(json.dumps(values) + "\n")

    name, task = sys.argv[1], Task.read(Path(sys.argv[2]))
    try:
        contestant = contestants.build(name, task)
    except contestants.UnavailableError as reason:
        reply({"unavailable": str(reason)})
        return
    starts = np.load(task.starts)
    reply({"ready": True})
    for line in sys.stdin:
        match json.loads(line):
            case {"command": "prepare", "layer": layer}:
                reply(_prepare(contestant, layer))
            case {"command": "measure", "filters": filters}:
                reply(_measure(contestant, np.array(filters, np.int32), starts[: len(filters)]))
            case {"command": "rates"}:
                reply(contestant.rates())
            case unknown:
                raise ValueError(f"unknown command {unknown}")


def _prepare(contestant: contestants.Contestant, layer: str) -> dict[str, Any]:
    machine.reset_peak_memory()
    prepared = contestant.prepare(layer)
    return {
        "compile_s": prepared.compile_s,
        "seconds_per_filter": prepared.seconds_per_filter,
        "images_per_call": contestant.images_per_call,
        "form": prepared.form,
        "probe": prepared.probe,
    }


def _measure(contestant: contestants.Contestant, filters: np.ndarray, starts: np.ndarray) -> dict[str, Any]:
    gc.collect()
    busy, own, started = machine.busy_cpu_s(), time.process_time(), time.perf_counter()
    climb = contestant.climb(filters, starts)
    seconds, own_s, busy_after = time.perf_counter() - started, time.process_time() - own, machine.busy_cpu_s()
    assert climb.history.shape[0] == len(filters), climb.history.shape
    return {
        "seconds": seconds,
        "own_cpu_s": own_s,
        "others_cpu_s": None if busy is None or busy_after is None else busy_after - busy - own_s,
        "peak_memory_mb": machine.peak_memory_mb(),
        "first_scores": _numbers(climb.history[:, 0]),
        "last_scores": _numbers(climb.history[:, -1]),
        "final_scores": _numbers(contestant.final_scores(climb)),
    }


def _numbers(scores: np.ndarray) -> list[float]:
    """float32 as the shortest text that gives it back. A NaN ends the worker, and with it the contestant's race."""
    if not np.isfinite(scores).all():
        raise ValueError(f"scores that are not finite: {scores}")
    return [float(str(np.float32(score))) for score in scores]


if __name__ == "__main__":
    main()

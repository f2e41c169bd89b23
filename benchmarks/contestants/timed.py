"""A contestant in its worker: built once, then prepared for a layer and measured there as often as one likes."""

from __future__ import annotations

import gc
import json
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from benchmarks import contestants
from benchmarks.clock import Clock, reset_peak_memory
from benchmarks.numbers import finite_floats
from benchmarks.settings import Task
from jaxviz.bench import machine

Asked = dict[str, Any]  # a `Task` as JSON, or what that contestant alone is told


def build(*, kind: str, task: Asked, arguments: Asked) -> dict[str, str | None]:
    """Load the framework and the weights; why it cannot take part."""
    try:
        _built(kind, msgspec.convert(task, Task), json.dumps(arguments))
    except contestants.UnavailableError as reason:
        return {"unavailable": str(reason)}
    return {"unavailable": None}


def prepare(*, kind: str, task: Asked, arguments: Asked, layer: str) -> dict[str, Any]:
    """Trace, compile, warm up, and guess the speed."""
    reset_peak_memory()
    contestant = _built(kind, msgspec.convert(task, Task), json.dumps(arguments))
    prepared = contestant.prepare(layer)
    return {"images_per_call": contestant.images_per_call, **msgspec.to_builtins(prepared)}


def measure(*, kind: str, task: Asked, arguments: Asked, filters: list[int]) -> dict[str, Any]:
    """The ascent at that layer, timed from starting images to final images and the history on the host.

    The final scores are computed after the clock has stopped.
    """
    contestant = _built(kind, msgspec.convert(task, Task), json.dumps(arguments))
    starts = np.load(task["starts"])[: len(filters)]
    gc.collect()
    clock = Clock()
    climb = contestant.climb(np.array(filters, np.int32), starts)
    times = clock.read()
    assert climb.history.shape[0] == len(filters), climb.history.shape
    return {
        **times,
        "peak_memory_mb": machine.peak_resident_mb(),
        "first_scores": finite_floats(climb.history[:, 0]),
        "last_scores": finite_floats(climb.history[:, -1]),
        "final_scores": finite_floats(contestant.final_scores(climb)),
    }


@lru_cache
def _built(kind: str, task: Task, arguments: str) -> contestants.Contestant:
    contestant: contestants.Contestant = contestants.build(kind, task, **json.loads(arguments))
    return contestant

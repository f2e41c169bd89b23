"""One contestant of the race on a GPU: warm runs of the whole ascent, from starting images to scores on the host."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import contestants
from benchmarks.numbers import floats
from benchmarks.settings import Task
from benchmarks.visit.cells.start import WEIGHTS, starts_file
from benchmarks.visit.settings import Settings

TORCH = "pytorch"


def contest(
    settings: Settings, folder: Path, *, contestant: str, layers: Sequence[str], size: int, arguments: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Layer by layer. Raises UnavailableError if a package is missing."""
    task = Task(
        weights=str(folder / WEIGHTS),
        starts=str(starts_file(folder, size)),
        size=size,
        steps=settings.steps,
        batch=settings.filters,
        model=settings.model,
    )
    given = dict(arguments)
    if contestant == TORCH:
        given |= {"device": settings.torch_device}
        if given.pop("compiled", False):
            given |= {"compiler": settings.torch_compiler}
    runner = contestants.build(contestant, task, **given)
    starts = np.load(task.starts)
    found: dict[str, Any] = {"contestant": contestant, "size": size, "steps": settings.steps, "layers": {}}
    for layer in layers:
        found["layers"][layer] = _measured(runner, layer, starts, settings)
        yield found


def _measured(runner: Any, layer: str, starts: np.ndarray, settings: Settings) -> dict[str, Any]:
    prepared = runner.prepare(layer)
    count = settings.slow_filters if runner.images_per_call == 1 else len(starts)
    filters = np.arange(count, dtype=np.int32)
    seconds = []
    climb = runner.climb(filters, starts[:count])  # warm, not counted
    for _ in range(settings.race_repeats):
        started = time.perf_counter()
        climb = runner.climb(filters, starts[:count])
        seconds.append(round(time.perf_counter() - started, 6))
    return {
        "filters": count,
        "images_per_call": runner.images_per_call,
        "form": prepared.form,
        "compile_s": round(prepared.compile_s, 3),
        "seconds": seconds,
        "image_steps_per_s": round(count * settings.steps / statistics.median(seconds), 3),
        "first_scores": floats(climb.history[:, 0]),
        "last_scores": floats(climb.history[:, -1]),
        "final_scores": floats(runner.final_scores(climb)),
    }

"""What the contestants share that call one compiled (or eager) step at a time from a Python loop."""

from __future__ import annotations

import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks.contestants import Climb
from benchmarks.settings import Task

PROBE_STEPS = 3


class StepTimes(NamedTuple):
    """Seconds of the first call beyond a later one, and of a later one."""

    first_extra_s: float
    step_s: float


class Stepping(ABC):
    """The loop; a subclass says how its framework takes images in, steps, and gives numbers out."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.images_per_call = task.batch

    @abstractmethod
    def begin(self, filters: np.ndarray, starts: np.ndarray) -> tuple[Any, Any]:
        """(what selects each image's filter, images) as the framework's own arrays."""

    @abstractmethod
    def step(self, selector: Any, images: Any) -> tuple[Any, Any]:
        """(scores before the step, images after it)."""

    @abstractmethod
    def fetch(self, array: Any) -> np.ndarray:
        """To the host, in the layout (n, ...), waiting for it."""

    def climb(self, filters: np.ndarray, starts: np.ndarray) -> Climb:
        """All filters, a batch at a time; scores stay with the framework until the batch is done."""
        histories, final = [], []
        for count, batch_filters, batch_starts in batches(filters, starts, self.images_per_call):
            selector, images = self.begin(batch_filters, batch_starts)
            scores = []
            for _ in range(self.task.steps):
                value, images = self.step(selector, images)
                scores.append(value)
            self.fetch(images)
            histories.append(np.stack([self.fetch(value) for value in scores], axis=1)[:count])
            final.append((count, selector, images))
        return Climb(np.concatenate(histories), final)

    def final_scores(self, climb: Climb) -> np.ndarray:
        """By one more step, whose image is dropped."""
        scores = [self.fetch(self.step(selector, images)[0])[:count] for count, selector, images in climb.final]
        joined: np.ndarray = np.concatenate(scores)
        return joined

    def probe(self, filters: np.ndarray, starts: np.ndarray) -> StepTimes:
        """Time the first step on one batch and a few more."""
        selector, images = self.begin(filters, starts)
        seconds = []
        for _ in range(1 + PROBE_STEPS):
            started = time.perf_counter()
            scores, images = self.step(selector, images)
            self.fetch(scores)
            seconds.append(time.perf_counter() - started)
        step_s = statistics.median(seconds[1:])
        return StepTimes(max(0.0, seconds[0] - step_s), step_s)

    def first_batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Filters and starting images for a warm-up."""
        starts = np.load(self.task.starts)[: self.images_per_call]
        return np.arange(len(starts), dtype=np.int32), starts


def batches(filters: np.ndarray, starts: np.ndarray, size: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(images that count, filters, starting images), each padded to `size` by repeating the last."""
    for first in range(0, len(filters), size):
        chosen, images = filters[first : first + size], starts[first : first + size]
        padding = size - len(chosen)
        yield (
            len(chosen),
            np.pad(chosen, (0, padding), mode="edge"),
            np.pad(images, ((0, padding), (0, 0), (0, 0), (0, 0)), mode="edge"),
        )


def one_hot(filters: np.ndarray, channels: int) -> np.ndarray:
    """float32 (n, channels)."""
    hot: np.ndarray = (np.arange(channels) == filters[:, None]).astype(np.float32)
    return hot

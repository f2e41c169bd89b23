"""Keras on TensorFlow as the published example writes it: one filter at a time, a `tf.function` per step.

https://keras.io/examples/vision/visualizing_what_convnets_learn/ with the mean over the whole activation map. The
example passes the filter index as a Python int, by which `tf.function` traces anew for every filter; passing
`tf.constant(index)` traces once. Both are probed, the one that is faster for all filters with its tracing races, and
the cost of a trace is reported apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.contestants import Prepared
from benchmarks.contestants.keras_network import keras_extractor, keras_network
from benchmarks.contestants.stepping import Stepping
from benchmarks.settings import Task

FORMS = ("tf.constant", "python int")


class KerasPublished(Stepping):
    """One image a call."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.images_per_call = 1
        self._network = keras_network(task)
        self._form = FORMS[0]
        self._extractor: Any = None
        self._step: Callable[..., Any] = _no_layer

    def prepare(self, layer: str) -> Prepared:
        """Probe both forms and choose."""
        self._extractor = keras_extractor(self._network, layer)
        filters, starts = self.first_batch()
        count = len(np.load(self.task.starts, mmap_mode="r"))
        probe, totals, traces = {}, {}, {}
        for form in reversed(FORMS):  # the likely winner last, so that its trace is kept
            self._form, self._step = form, _gradient_ascent_step(self._extractor)
            times = self.probe(filters, starts)
            trace_s = self._another_filter_s(starts) - times.step_s if form == "python int" else times.first_extra_s
            traces[form] = max(0.0, trace_s)
            totals[form] = self.task.steps * times.step_s + traces[form] * (1 if form == "python int" else 1 / count)
            probe[form] = {"step_s": times.step_s, "first_trace_s": times.first_extra_s}
        probe["python int"]["retrace_s_per_filter"] = traces["python int"]
        best = min(totals, key=lambda form: totals[form])
        if best != self._form:
            self._form, self._step = best, _gradient_ascent_step(self._extractor)
        return Prepared(traces[best], totals[best], f"filter index as {best}", probe)

    def begin(self, filters: np.ndarray, starts: np.ndarray) -> tuple[Any, Any]:
        """The form decides what `filter_index` is."""
        (filter_index,) = filters.tolist()
        return tf.constant(filter_index) if self._form == "tf.constant" else filter_index, tf.constant(starts)

    def step(self, selector: Any, images: Any) -> tuple[Any, Any]:
        """The example's step."""
        return self._step(images, selector, self.task.step_size)  # type: ignore[no-any-return]

    def climb(self, filters: np.ndarray, starts: np.ndarray) -> Any:
        """In the form with Python ints every run pays for its traces, as a user's does."""
        if self._form == "python int":
            self._step = _gradient_ascent_step(self._extractor)
        return super().climb(filters, starts)

    def fetch(self, array: Any) -> np.ndarray:
        """A score is a scalar here."""
        return np.atleast_1d(array.numpy())

    def _another_filter_s(self, starts: np.ndarray) -> float:
        selector, images = self.begin(np.array([1]), starts)
        started = time.perf_counter()
        self.fetch(self.step(selector, images)[0])
        return time.perf_counter() - started


def _gradient_ascent_step(extractor: Any) -> Callable[..., Any]:
    @tf.function  # type: ignore[untyped-decorator]
    def gradient_ascent_step(image: Any, filter_index: Any, learning_rate: float) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(image)
            loss = tf.reduce_mean(extractor(image)[:, :, :, filter_index])
        gradient = tf.math.l2_normalize(tape.gradient(loss, image))
        return loss, image + learning_rate * gradient

    return gradient_ascent_step  # type: ignore[no-any-return]


def _no_layer(*_arguments: Any) -> Any:
    raise AssertionError("prepare a layer first")

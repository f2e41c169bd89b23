"""TensorFlow twice: Keras as its published example writes it, and TensorFlow written well, a batch a call.

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
from benchmarks.contestants.stepping import Stepping, one_hot
from benchmarks.settings import NORM_EPSILON, Task

FORMS = ("tf.constant", "python int")


class KerasPublished(Stepping):
    """One image a call, a `tf.function` per step."""

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


class TensorFlowBatched(Stepping):
    """`task.batch` images a call, each one's gradient normalised by itself.

    The filter is selected by a one-hot product: an index would put a gather's gradient into every step.
    """

    def __init__(self, task: Task, *, policy: str = "float32") -> None:
        """`policy` is Keras's dtype policy; image, mean, norm and update are float32 under each."""
        super().__init__(task)
        self._network = keras_network(task, policy)
        self._channels = 0
        self._step: Callable[..., Any] | None = None

    def prepare(self, layer: str) -> Prepared:
        """Trace, and step a few times."""
        extractor = keras_extractor(self._network, layer)
        self._channels = extractor.output.shape[-1]
        self._step = _batched_step(extractor, self.task.step_size)
        times = self.probe(*self.first_batch())
        return Prepared(times.first_extra_s, times.step_s * self.task.steps / self.images_per_call)

    def begin(self, filters: np.ndarray, starts: np.ndarray) -> tuple[Any, Any]:
        """The selector is one-hot."""
        return tf.constant(one_hot(filters, self._channels)), tf.constant(starts)

    def step(self, selector: Any, images: Any) -> tuple[Any, Any]:
        """One call."""
        assert self._step is not None
        return self._step(selector, images)  # type: ignore[no-any-return]

    def fetch(self, array: Any) -> np.ndarray:
        """To NumPy."""
        found: np.ndarray = array.numpy()
        return found


def _batched_step(extractor: Any, step_size: float) -> Callable[..., Any]:
    @tf.function  # type: ignore[untyped-decorator]
    def step(selector: Any, images: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(images)
            activation = tf.cast(extractor(images, training=False), tf.float32)
            means = tf.reduce_mean(activation, axis=(1, 2))  # (batch, channels)
            scores = tf.reduce_sum(means * selector, axis=1)
        gradients = tape.gradient(scores, images)  # of the sum: images do not see each other
        squares = tf.reduce_sum(tf.square(gradients), axis=(1, 2, 3), keepdims=True)
        return scores, images + step_size * gradients * tf.math.rsqrt(tf.maximum(squares, NORM_EPSILON))

    return step  # type: ignore[no-any-return]

"""TensorFlow written well: a batch per `tf.function` call, each image's gradient normalised by itself.

The filter is selected by a one-hot product: an index would put a gather's gradient into every step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.contestants import Prepared
from benchmarks.contestants.keras_network import keras_extractor, keras_network
from benchmarks.contestants.stepping import Stepping, one_hot
from benchmarks.settings import NORM_EPSILON, Task


class TensorFlowBatched(Stepping):
    """`task.batch` images a call."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._network = keras_network(task)
        self._channels = 0
        self._step: Callable[..., Any] | None = None

    def prepare(self, layer: str) -> Prepared:
        """Trace, and step a few times."""
        extractor = keras_extractor(self._network, layer)
        self._channels = extractor.output.shape[-1]
        self._step = _step(extractor, self.task.step_size)
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


def _step(extractor: Any, step_size: float) -> Callable[..., Any]:
    @tf.function  # type: ignore[untyped-decorator]
    def step(selector: Any, images: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(images)
            means = tf.reduce_mean(extractor(images, training=False), axis=(1, 2))  # (batch, channels)
            scores = tf.reduce_sum(means * selector, axis=1)
        gradients = tape.gradient(scores, images)  # of the sum: images do not see each other
        squares = tf.reduce_sum(tf.square(gradients), axis=(1, 2, 3), keepdims=True)
        return scores, images + step_size * gradients * tf.math.rsqrt(tf.maximum(squares, NORM_EPSILON))

    return step  # type: ignore[no-any-return]

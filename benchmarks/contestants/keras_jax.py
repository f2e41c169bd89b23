"""Keras on the JAX backend: `stateless_call` inside a jitted step, called from a Python loop.

The network's variables are arguments, as Keras's own training loop has them. A batch and one image at a time are
probed, and the faster one races.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.clock import CompileClock
from benchmarks.contestants import Prepared
from benchmarks.contestants.keras_network import keras_extractor, keras_network
from benchmarks.contestants.stepping import Stepping, one_hot
from benchmarks.settings import NORM_EPSILON, Task


class KerasJax(Stepping):
    """`task.batch` images a call, or one; or of other `sizes` the fastest."""

    def __init__(self, task: Task, *, sizes: Sequence[int] | None = None) -> None:
        super().__init__(task)
        self._sizes = {1, task.batch} if sizes is None else set(sizes)
        self._network = keras_network(task)
        self._clock = CompileClock()
        self._channels = 0
        self._variables: tuple[Any, Any] = ((), ())
        self._step: Callable[..., Any] | None = None

    def prepare(self, layer: str) -> Prepared:
        """Compile every size, step each a few times, and choose."""
        extractor = keras_extractor(self._network, layer)
        self._channels = extractor.output.shape[-1]
        self._variables = (
            [variable.value for variable in extractor.trainable_variables],
            [variable.value for variable in extractor.non_trainable_variables],
        )
        self._step = _step(extractor, self.task.step_size)
        probe = {}
        for size in sorted(self._sizes):
            self.images_per_call = size
            self._clock.reset()
            times = self.probe(*self.first_batch())
            probe[size] = {"compile_s": self._clock.seconds(), "image_step_s": times.step_s / size}
        best = min(probe, key=lambda size: probe[size]["image_step_s"])
        self.images_per_call = best
        return Prepared(
            probe[best]["compile_s"],
            probe[best]["image_step_s"] * self.task.steps,
            f"{best} images a call" if best > 1 else "one image a call",
            {f"{size} a call": values for size, values in probe.items()},
        )

    def begin(self, filters: np.ndarray, starts: np.ndarray) -> tuple[Any, Any]:
        """The selector is one-hot."""
        return jnp.asarray(one_hot(filters, self._channels)), jnp.asarray(starts)

    def step(self, selector: Any, images: Any) -> tuple[Any, Any]:
        """One call."""
        assert self._step is not None
        return self._step(self._variables, selector, images)  # type: ignore[no-any-return]

    def fetch(self, array: Any) -> np.ndarray:
        """To NumPy."""
        return np.asarray(array)


def _step(extractor: Any, step_size: float) -> Callable[..., Any]:
    @jax.jit
    def step(variables: tuple[Any, Any], selector: jax.Array, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        def total(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            activation, _ = extractor.stateless_call(*variables, x, training=False)
            scores = jnp.sum(activation.mean(axis=(1, 2)) * selector, axis=1)
            return scores.sum(), scores

        gradients, scores = jax.grad(total, has_aux=True)(images)
        squares = jnp.sum(gradients * gradients, axis=(1, 2, 3), keepdims=True)
        return scores, images + step_size * gradients * jax.lax.rsqrt(jnp.maximum(squares, NORM_EPSILON))

    return step

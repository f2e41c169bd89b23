"""The JAX that one would write without knowing XLA's CPU backend.

`jit(vmap(scan(step)))` of the Flax module as it is, up to the layer: every convolution a `lax.conv_general_dilated`,
every gradient autodiff's. It shares no rule, no loop and no objective with jaxviz, so that it is a baseline and a
cross-check. The filter is selected by a one-hot product: an index would add a scatter.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jax import lax

from benchmarks.clock import CompileClock
from benchmarks.contestants import Climb, Prepared
from benchmarks.contestants.stepping import batches
from benchmarks.settings import NORM_EPSILON, Task
from jaxviz.models import architecture
from jaxviz.network.head import Route
from jaxviz.network.program import Prepared as Arrays


class PlainJax:
    """`task.batch` images a call, the whole loop in it."""

    def __init__(self, task: Task, *, dtype: str = "float32") -> None:
        """`dtype` is that of weights and activations; images, gradients and scores are float32."""
        self.task = task
        self.images_per_call = task.batch
        arrays: dict[str, dict[str, jax.Array]] = {}
        for name, array in safetensors.numpy.load_file(task.weights).items():
            layer, _, parameter = name.partition("/")
            arrays.setdefault(layer, {})[parameter] = jnp.asarray(array, dtype)
        known = architecture(task.model)
        self._model = replace(
            known.with_weights(arrays),
            forward=lambda weights, images: known.forward(weights, images.astype(dtype)),
            _graphs={},
            _routes={},
        )
        self._clock = CompileClock()
        self._climb: Callable[..., Any] | None = None
        self._score: Callable[..., Any] | None = None

    def prepare(self, layer: str) -> Prepared:
        """Compile, and run one batch to the end."""
        route = self._model.route(layer, (self.task.size, self.task.size))
        self._weights = jax.jit(self._model.prepare, static_argnums=0)(route, self._model.weights)
        score = partial(_score, route)
        self._climb = jax.jit(jax.vmap(partial(_climb, score, self.task), in_axes=(None, 0, 0)))
        self._score = jax.jit(jax.vmap(score, in_axes=(None, 0, 0)))
        starts = np.load(self.task.starts)[: self.images_per_call]
        self._clock.reset()
        started = time.perf_counter()
        self.climb(np.arange(len(starts), dtype=np.int32), starts)
        seconds = time.perf_counter() - started
        compile_s = self._clock.seconds()
        return Prepared(compile_s, (seconds - compile_s) / self.images_per_call)

    def climb(self, filters: np.ndarray, starts: np.ndarray) -> Climb:
        """A batch at a time."""
        assert self._climb is not None
        histories, final = [], []
        for count, batch_filters, batch_starts in batches(filters, starts, self.images_per_call):
            images, history = jax.device_get(self._climb(self._weights, batch_filters, batch_starts))
            histories.append(history[:count])
            final.append((count, batch_filters, images))
        return Climb(np.concatenate(histories), final)

    def final_scores(self, climb: Climb) -> np.ndarray:
        """By one forward pass."""
        assert self._score is not None
        return np.concatenate(
            [np.asarray(self._score(self._weights, filters, images))[:count] for count, filters, images in climb.final]
        )


def _climb(score: Callable[..., Any], task: Task, weights: Any, filter_index: Any, start: jax.Array) -> Any:
    def step(x: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        value, gradient = jax.value_and_grad(lambda image: score(weights, filter_index, image))(x)
        norm = lax.rsqrt(jnp.maximum(jnp.sum(gradient * gradient), NORM_EPSILON))
        return x + task.step_size * gradient * norm, value

    return lax.scan(step, start, length=task.steps)


def _score(route: Route, weights: Arrays, filter_index: Any, image: jax.Array) -> jax.Array:
    means = route.activation(weights, image).mean(axis=(0, 1))  # (channels,)
    return jnp.sum(means * jax.nn.one_hot(filter_index, means.shape[0]))

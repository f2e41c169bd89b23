"""The JAX that one would write without knowing XLA's CPU backend.

`jit(vmap(scan(step)))`, every convolution a `lax.conv_general_dilated`, every gradient autodiff's. Written from the
layer table alone and sharing no code with jaxviz's forward pass, its loop or its objective, so that it is a baseline
and a cross-check. The filter is selected by a one-hot product: an index would add a scatter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
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


class PlainJax:
    """`task.batch` images a call, the whole loop in it."""

    def __init__(self, task: Task, *, dtype: str = "float32") -> None:
        """`dtype` is that of weights and activations; images, gradients and scores are float32."""
        self.task = task
        self.images_per_call = task.batch
        self._graph = architecture(task.model).graph
        self._weights = {
            name: jnp.asarray(array, dtype) for name, array in safetensors.numpy.load_file(task.weights).items()
        }
        self._clock = CompileClock()
        self._climb: Callable[..., Any] | None = None
        self._score: Callable[..., Any] | None = None

    def prepare(self, layer: str) -> Prepared:
        """Compile, and run one batch to the end."""
        rows = tuple(self._graph.path_to(layer))
        score = partial(_score, rows)
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


def _score(rows: tuple[Any, ...], weights: Mapping[str, jax.Array], filter_index: Any, image: jax.Array) -> jax.Array:
    activations: dict[str, jax.Array] = {}
    dtype = next(iter(weights.values())).dtype
    for row in rows:
        inputs = [activations[name] for name in row.inputs]
        activations[row.name] = _layer(row, weights, inputs) if inputs else image[None].astype(dtype)
    means = activations[rows[-1].name].astype(jnp.float32).mean(axis=(0, 1, 2))  # (channels,)
    return jnp.sum(means * jax.nn.one_hot(filter_index, means.shape[0]))


def _layer(row: Any, weights: Mapping[str, jax.Array], inputs: list[jax.Array]) -> jax.Array:
    x = inputs[0]
    match row.kind:
        case "pad":
            side = (row.border_px, row.border_px)
            return jnp.pad(x, ((0, 0), side, side, (0, 0)))
        case "conv" | "depthwise_conv":
            kernel, groups = weights[f"{row.name}/kernel"], 1
            if row.kind == "depthwise_conv":
                kernel, groups = kernel[:, :, None, :], row.channels
            y = lax.conv_general_dilated(
                x,
                kernel,
                window_strides=(row.stride, row.stride),
                padding=row.padding,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=groups,
            )
            return y + weights[f"{row.name}/bias"] if row.bias else y
        case "batch_norm":
            gamma, beta, mean, variance = (
                weights[f"{row.name}/{name}"] for name in ("gamma", "beta", "moving_mean", "moving_variance")
            )
            return (x - mean) * lax.rsqrt(variance + row.epsilon) * gamma + beta
        case "relu":
            return jax.nn.relu(x)
        case "relu6":
            return jax.nn.relu6(x)
        case "max_pool":
            window, strides = (1, row.kernel, row.kernel, 1), (1, row.stride, row.stride, 1)
            pooled: jax.Array = lax.reduce_window(x, -jnp.inf, lax.max, window, strides, "VALID")
            return pooled
        case "add":
            return inputs[0] + inputs[1]
        case "identity":
            return x
        case _:
            raise ValueError(f"{row.name}: {row.kind} does not occur in a network without its head")

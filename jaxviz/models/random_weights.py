"""Seeded random weights that keep activations O(1), for checks and benchmarks without a download.

Trained networks hold their activations near one; naively drawn deep ones drift into overflow or denormals.
Here convolutions have He's variance (He et al. 2015, arXiv:1502.01852), all four arrays of every batch norm
differ from each other, and the last layer of each residual branch is scaled down, so that the sum over all
branches stays bounded.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxviz.network.jaxprs import Value
from jaxviz.network.model import Model

BATCH_NORM_RANGES = {  # uniform; distinct on purpose: exchanging any two arrays changes every activation
    "gamma": (0.5, 1.5),
    "beta": (-0.3, 0.3),
    "moving_mean": (-0.4, 0.2),
    "moving_variance": (0.6, 1.6),
}
BIAS_RANGE = (-0.1, 0.1)


def random_weights(model: Model, seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """All weights of one of jaxviz's own networks, float32 on the host; `model` may have shapes in their place."""
    shapes = {(layer, name): array.shape for layer, arrays in model.weights.items() for name, array in arrays.items()}
    total = sum(math.prod(shape) for shape in shapes.values())
    with jax.threefry_partitionable(True):  # as in the ascent
        normal_key, uniform_key = jax.random.split(jax.random.key(jnp.uint32(seed), impl="threefry2x32"))
        # One draw each, cut up below: one compilation.
        normal = np.asarray(jax.random.normal(normal_key, (total,), jnp.float32))
        uniform = np.asarray(jax.random.uniform(uniform_key, (total,), jnp.float32))

    branches = _branches(model)
    weights: dict[str, dict[str, np.ndarray]] = {}
    start = 0
    for (name, parameter), shape in shapes.items():
        piece = slice(start, start + math.prod(shape))
        start = piece.stop
        if parameter == "kernel":
            array = normal[piece] * math.sqrt(2 / _fan_in(shape))
        else:
            low, high = BIAS_RANGE if parameter == "bias" else BATCH_NORM_RANGES[parameter]
            array = low + (high - low) * uniform[piece]
        if name in branches and not parameter.startswith("moving"):
            array = array / math.sqrt(len(branches))
        weights.setdefault(name, {})[parameter] = array.reshape(shape).astype(np.float32)
    return weights


def _branches(model: Model) -> set[str]:
    """The last layer of every residual branch: what the shortcut is added to."""
    graph = model.graph(model.usual_size)
    names = {value: name for name, value in reversed(graph.layers.items())}
    sums = [value for value in graph.layers.values() if graph.kinds.of(value) == "add"]
    added = [graph.makers[value].inputs[1] for value in sums]
    return {names[value] for value in added if isinstance(value, Value)}


def _fan_in(shape: tuple[int, ...]) -> int:
    return math.prod(shape[:2]) if len(shape) == 3 else math.prod(shape[:-1])  # of three axes: depthwise

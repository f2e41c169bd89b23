"""Small networks as plain functions, that return their activations by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxviz import Model

Activations = dict[str, jax.Array]


def conv(x: jax.Array, weights: dict[str, Any], *, stride: int = 1, padding: str = "VALID") -> jax.Array:
    """A convolution with the bias that it has, if any."""
    numbers = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(x, weights["kernel"], (stride, stride), padding, dimension_numbers=numbers)
    return y + weights["bias"][None, None, None] if "bias" in weights else y


def kernel(key: int, *shape: int) -> jax.Array:
    """He's variance; the same numbers under every setting of JAX."""
    with jax.threefry_partitionable(True):
        drawn = jax.random.normal(jax.random.key(jnp.uint32(key)), shape, jnp.float32)
    return drawn * np.float32(np.sqrt(2 / np.prod(shape[:-1])))


def network(name: str, forward: Callable[[Any, jax.Array], Activations], weights: Any) -> Model:
    """A model in the usual model space."""
    return Model.from_callable(forward, weights, lambda rgb: rgb / 127.5 - 1, name=name, usual_size=48)


def dead_under(relu: Callable[[jax.Array], jax.Array], *, bias: tuple[float, float] = (-3.0, 0.5)) -> Model:
    """`conv` and `relu`: a convolution far below zero in filter 0 and alive in filter 1."""

    def forward(weights: Any, images: jax.Array) -> Activations:
        x = conv(images, weights["conv"])
        return {"conv": x, "relu": relu(x)}

    return network("dead", forward, {"conv": {"kernel": kernel(0, 3, 3, 3, 2), "bias": jnp.array(bias, jnp.float32)}})


def classifier(*, classes: int = 4, channels: int = 5, bias: bool = True) -> Model:
    """`conv`, `relu`, `avg_pool` and `predictions`: class probabilities."""

    def forward(weights: Any, images: jax.Array) -> Activations:
        x = conv(images, weights["conv"], stride=2)
        y = jax.nn.relu(x)
        pooled = y.mean(axis=(1, 2))
        logits = pooled @ weights["predictions"]["kernel"] + weights["predictions"]["bias"][None]
        return {"conv": x, "relu": y, "avg_pool": pooled, "predictions": jax.nn.softmax(logits)}

    first = {"kernel": kernel(1, 3, 3, 3, channels)}
    if bias:
        first["bias"] = jnp.linspace(-0.1, 0.1, channels, dtype=jnp.float32)
    last = {"kernel": kernel(2, channels, classes), "bias": jnp.linspace(-0.1, 0.1, classes, dtype=jnp.float32)}
    return network("classifier", forward, {"conv": first, "predictions": last})

"""Activations, vectors and values of objectives on them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

TOLERANCE = 1e-5  # relative: float32 sums of a few hundred terms in another order
SHAPE = (5, 6, 8)  # height, width, channels: odd and even
VECTORS = np.random.default_rng(0).normal(size=(3, SHAPE[-1])).astype(np.float32)


def activations(*shape: int, seed: int = 1) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def value(objective, activation, filter_index: int = 1) -> float:
    return float(objective(activation, jnp.int32(filter_index)))

"""Small presets, and networks with filters that are dead, for tests of pictures."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from helpers_networks import classifier as any_classifier
from helpers_networks import conv, dead_under, network

from jaxviz import Model, RenderConfig

SMALL = {"image_size": 48, "crop": 0}


def small_preset(preset: str, **overrides: object) -> RenderConfig:
    """A preset small enough for a test, with all its kinds of transforms."""
    changes: dict[str, object] = {"image_size": 48, "crop": 0, "steps": 4, "batch_size": 2}
    if preset == "distill":
        changes["transforms"] = (("pad", 4), ("jitter", 3), ("scale", 0.9, 1.1), ("rotate", 10), ("jitter", 2))
    if preset == "maco":
        changes["transforms"] = (("crops", 2, 0.4, 0.9, 32), ("noise", 0.08))
    return RenderConfig.from_preset(preset, **(changes | overrides))


def dead_under_relu() -> Model:
    """A convolution and a ReLU; filter 0 has a bias so low that its map is 0 for all starting noise."""
    return dead_under(jax.nn.relu, bias=(-0.4, 0.5))


def dead_branch() -> Model:
    """The sum of two convolutions after their ReLUs, all dead at the start but one, for filter 0."""
    keys = jax.random.split(jax.random.key(0))
    biases = {"left": jnp.array([0.5, -3.0], jnp.float32), "right": jnp.array([-3.0, -3.0], jnp.float32)}
    weights = {
        name: {"kernel": _kernel(key), "bias": biases[name]} for name, key in zip(("left", "right"), keys, strict=True)
    }

    def forward(weights: dict, images: jax.Array) -> dict[str, jax.Array]:
        found = {name: jax.nn.relu(conv(images, weights[name])) for name in ("left", "right")}
        return found | {"sum": found["left"] + found["right"]}

    return network("branches", forward, weights)


def _kernel(key: jax.Array) -> jax.Array:
    """The same numbers under every setting of JAX."""
    with jax.threefry_partitionable(True):
        return jax.random.normal(key, (3, 3, 3, 2), jnp.float32)


def classifier() -> Model:
    """A convolution, a ReLU, a pool and four classes."""
    return any_classifier()


def dead_at_first() -> Model:
    """Eight filters that have a gradient only while the image's mean is above 0, as it is for half of all noise."""

    def late(weights: jax.Array, images: jax.Array, layer: str) -> jax.Array:
        red = jnp.repeat(images[..., :1], 8, axis=-1)
        bright = images.mean(axis=(1, 2, 3), keepdims=True) > weights
        return jnp.where(bright, red, jax.lax.stop_gradient(red))

    return Model.from_callable(late, jnp.float32(0), lambda rgb: rgb, layers=["late"])

"""The score of one unit's images as a function of them: network, then objective.

A unit is one filter with its replicas, the images that may influence each other through the objective; nearly always
one image. Each image may be seen in several views (random crops); its score is their mean. float32, model space.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from jaxviz.algebra import Objective

Forward = Callable[[Any, Any, str], Any]  # (weights, images, layer) -> activation


class Head(NamedTuple):
    """An affine score as one constant array: score = sum(gradient * activation below) + score of zeros."""

    gradient: Float[Array, "*map channels"]
    at_zero: Float[Array, ""]


def affine_head(
    forward: Any,
    weights: Any,
    layer: str,
    objective: Objective,
    filter_index: Integer[Array, ""],
    size: tuple[int, int],
) -> Head | None:
    """What stands for the target where objective and target are affine in a layer below; else None.

    To be computed once, outside the loop; with it the target's own activation is never computed.
    """
    below = forward.below_affine(layer) if objective.is_linear and hasattr(forward, "below_affine") else None
    if below is None:
        return None
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    activation = jax.eval_shape(lambda images: forward(weights, images, below), image)

    def score_above(activation: Array) -> Array:
        return objective(forward.above(weights, activation, below, layer)[0], filter_index)

    at_zero, pull_back = jax.vjp(score_above, jnp.zeros(activation.shape, jnp.float32))
    (gradient,) = pull_back(jnp.ones((), jnp.float32))
    return Head(gradient[0], at_zero)


def unit_scores(
    forward: Any,
    weights: Any,
    layer: str,
    objective: Objective,
    filter_index: Integer[Array, ""],
    head: Head | None,
    images: Float[Array, "replicas views height width 3"],
) -> Float[Array, " replicas"]:
    """One score per replica, the mean over its views; `head` is `affine_head` for images of this size."""
    replicas, views = images.shape[:2]
    flat = images.reshape(-1, *images.shape[2:])
    if head is not None:
        activations = forward(weights, flat, forward.below_affine(layer))
        scores = jnp.sum(activations * head.gradient[None], axis=tuple(range(1, activations.ndim))) + head.at_zero
        return scores.reshape(replicas, views).mean(axis=1)
    activations = forward(weights, flat, layer)
    by_view = activations.reshape(replicas, views, *activations.shape[1:])
    scores = jax.vmap(lambda seen: objective.scores(seen, filter_index), in_axes=1, out_axes=1)(by_view)
    return scores.mean(axis=1)

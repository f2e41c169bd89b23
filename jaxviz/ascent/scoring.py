"""The score of one unit's images as a function of them: network, then objective.

A unit is one filter with its replicas, the images that may influence each other through the objective; nearly always
one image. Each image may be seen in several views (random crops); its score is their mean. float32, model space.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from jaxviz.ascent.algebra import Objective
from jaxviz.network.head import Route
from jaxviz.network.program import Prepared


class Head(NamedTuple):
    """An affine score as constant arrays: the sum of all gradient * value below, plus the score of zeros."""

    gradients: list[Float[Array, ...]]
    at_zero: Float[Array, ""]


def affine_head(
    route: Route, prepared: Prepared, objective: Objective, filter_index: Integer[Array, ""]
) -> Head | None:
    """What stands for the target where objective and target are affine in values below; else None.

    To be computed once, outside the loop; with it the target's own activation is never computed.
    """
    if route.upper is None or not objective.is_linear:
        return None

    def score_above(below: list[Array]) -> Array:
        return objective(route.above(prepared, below), filter_index)

    at_zero, pull_back = jax.vjp(score_above, [jnp.zeros(shape, jnp.float32) for shape in route.below_shapes()])
    (gradients,) = pull_back(jnp.ones((), jnp.float32))
    return Head(gradients, at_zero)


def unit_scores(
    route: Route,
    prepared: Prepared,
    objective: Objective,
    filter_index: Integer[Array, ""],
    head: Head | None,
    images: Float[Array, "replicas views height width channels"],
    *,
    redirected: bool = False,
) -> Float[Array, " replicas"]:
    """One score per replica, the mean over its views; `head` is `affine_head` for images of this size."""
    replicas, views = images.shape[:2]
    flat = images.reshape(-1, *images.shape[2:])
    if head is not None:

        def score(image: Array) -> Array:
            below = route.below(prepared, image, redirected=redirected)
            parts = [(value * gradient).sum() for value, gradient in zip(below, head.gradients, strict=True)]
            return sum(parts[1:], start=parts[0])

        scores = jax.vmap(score)(flat) + head.at_zero
        return scores.reshape(replicas, views).mean(axis=1)
    activations = jax.vmap(lambda image: route.activation(prepared, image, redirected=redirected))(flat)
    by_view = activations.reshape(replicas, views, *activations.shape[1:])
    scores = jax.vmap(lambda seen: objective.scores(seen, filter_index), in_axes=1, out_axes=1)(by_view)
    return scores.mean(axis=1)

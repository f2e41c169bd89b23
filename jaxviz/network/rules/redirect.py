"""ReLU and ReLU6 with a redirected gradient: the same values, and a way back for an image that has no gradient.

Where a filter is zero in every cell, a ReLU passes no gradient, and an image that ascends towards it never moves. Here
such an image gets, at this ReLU, the incoming gradient wherever that pulls the input back to where the ReLU passes it:
up from below 0, down from above 6. An image with any gradient of its own keeps exactly that. Written for ascent: the
incoming gradient is that of something maximised. Activations are (batch, ..., channels), and every image of the batch
decides for itself, at every ReLU.

Source: Lucid, lucid/misc/redirected_relu_grad.py, which minimises, so that its signs are the other way round. Lucid
stops after 16 steps; how long to redirect is not decided here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_vjp
def relu(x: Float[Array, "batch *map channels"]) -> Float[Array, "batch *map channels"]:
    """`jax.nn.relu` with the redirected gradient."""
    return jax.nn.relu(x)


@jax.custom_vjp
def relu6(x: Float[Array, "batch *map channels"]) -> Float[Array, "batch *map channels"]:
    """`jax.nn.relu6` with the redirected gradient."""
    return jax.nn.relu6(x)


def _pull_back(
    plain: Callable[[Array], Array],
    ceiling: float,
    x: Float[Array, "batch *map channels"],
    gradient: Float[Array, "batch *map channels"],
) -> tuple[Float[Array, "batch *map channels"]]:
    (own,) = jax.vjp(plain, x)[1](gradient)
    # At 0 itself the plain gradient is zero too, and a map of zeros must find its way back.
    pushed_out = ((x <= 0) & (gradient < 0)) | ((x >= ceiling) & (gradient > 0))
    redirected = jnp.where(pushed_out, 0.0, gradient)
    has_own = (own != 0).any(axis=tuple(range(1, x.ndim)), keepdims=True)  # (batch, 1, ...)
    return (jnp.where(has_own, own, redirected),)


relu.defvjp(lambda x: (jax.nn.relu(x), x), partial(_pull_back, jax.nn.relu, math.inf))
relu6.defvjp(lambda x: (jax.nn.relu6(x), x), partial(_pull_back, jax.nn.relu6, 6.0))

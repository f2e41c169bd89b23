"""Objectives: one activation -> one score, always maximised.

An objective is a frozen, hashable dataclass called with one image's activation, (height, width, channels) or
(channels,), and the traced filter index. Selecting the filter is a masked sum, not an indexing: the gradient
of an index is a scatter, which is slow inside a compiled loop. One with `is_linear` is linear in the activation; then
a target that is affine in what is below it needs no activation of its own (ascent.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer


@dataclass(frozen=True)
class Channel:
    """Mean of one filter over its whole map, less `border` cells on each side (the Keras example's score)."""

    border: int = 0
    name: ClassVar[str] = "channel"
    is_linear: ClassVar[bool] = True  # in the activation

    def __call__(self, activation: Float[Array, "*map channels"], filter_index: Integer[Array, ""]) -> Float[Array, ""]:
        """The filter's mean activation."""
        if activation.ndim == 3 and self.border:
            activation = activation[self.border : -self.border, self.border : -self.border]
        means = activation.mean(axis=tuple(range(activation.ndim - 1)))  # (channels,)
        chosen = jnp.arange(means.shape[0]) == filter_index
        return jax.lax.select(chosen, means, jnp.zeros_like(means)).sum()

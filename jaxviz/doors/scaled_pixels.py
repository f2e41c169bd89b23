"""The `preprocess` of networks that scale and shift each color, as other frameworks record it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp


@dataclass(frozen=True)
class ScaledPixels:
    """`pixels * scale + offset`; equal ones are one function to jit.

    Attributes:
        scale: a factor for each channel, red first.
        offset: a term for each.
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...]

    def __call__(self, rgb: Any) -> Any:
        """Pixels in [0, 255], (..., channels), to model space, float32."""
        scale, offset = jnp.asarray(self.scale, jnp.float32), jnp.asarray(self.offset, jnp.float32)
        shape = (1,) * (jnp.ndim(rgb) - 1) + scale.shape  # also where JAX does not promote ranks
        return jnp.asarray(rgb, jnp.float32) * scale.reshape(shape) + offset.reshape(shape)

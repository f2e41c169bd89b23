"""Parameterizations: what is optimised, and the image that it stands for.

A parameterization is a frozen, hashable dataclass with two pure functions: `init(key, size)` gives the image
parameters of one image, `to_image(parameters)` the float32 image (height, width, 3) in model space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
from jaxtyping import Array, Float, Key


@dataclass(frozen=True)
class Pixel:
    """The pixels themselves, starting uniform in [-initial_range, initial_range)."""

    initial_range: float
    name: ClassVar[str] = "pixel"

    def init(self, key: Key[Array, ""], size: tuple[int, int]) -> Float[Array, "height width 3"]:
        """Uniform noise."""
        return jax.random.uniform(key, (*size, 3), minval=-self.initial_range, maxval=self.initial_range)

    def to_image(self, parameters: Float[Array, "height width 3"]) -> Float[Array, "height width 3"]:
        """The image is its parameters."""
        return parameters

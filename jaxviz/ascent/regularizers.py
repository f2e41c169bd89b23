"""Regularisers: what is taken off an image's score for being rough or far from grey.

One image, (height, width, channels), in model space, where 0 is about grey. All three are means over the image, so
that a weight means the same at every size. Lucid's total_variation and L1 are the sums, and its L2 the root of the sum
(lucid/optvis/objectives.py), of the same values.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Weight = float | np.float32 | Float[Array, ""]


def penalty(image: Float[Array, "height width channels"], *, tv: Weight, l1: Weight, l2: Weight) -> Float[Array, ""]:
    """Weighted sum of total variation, mean absolute value and mean square, to be subtracted from the score.

    Args:
        image: in model space.
        tv: weight of the total variation: the mean absolute difference of vertical neighbours plus that of horizontal
            ones (the two sums of `tf.image.total_variation`, each divided by its number of differences).
        l1: weight of mean |x|.
        l2: weight of mean x^2.
    """
    roughness = _mean_change(image, axis=0) + _mean_change(image, axis=1)
    return tv * roughness + l1 * _absolute(image).mean() + l2 * (image * image).mean()


def _mean_change(image: Float[Array, "height width channels"], axis: int) -> Float[Array, ""]:
    """Mean absolute difference of neighbours; 0 where there are none."""
    return _absolute(jnp.diff(image, axis=axis)).mean() if image.shape[axis] > 1 else jnp.zeros((), jnp.float32)


def _absolute(x: Float[Array, "height width channels"]) -> Float[Array, "height width channels"]:
    """|x| with the gradient 0 at 0; `jnp.abs` has 1 there, which would push flat areas and grey ones."""
    return x * jnp.sign(x)

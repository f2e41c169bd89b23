"""How a convolution, and with it its input gradient, is computed: the one place where speed is tuned.

Images are (batch, height, width, channels), kernels (height, width, in, out). 1x1 convolutions are written as
a matrix product and depthwise ones as shifted multiply-adds, because XLA on a CPU runs both, and their
gradients, several times faster in these forms than as grouped or transposed convolutions inside a loop.
Everything else is a plain `lax` convolution, which is each GPU's fast path.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxviz.models.graph import Padding


def conv(
    x: Float[Array, "batch height width in"],
    kernel: Float[Array, "kernel_h kernel_w in out"],
    *,
    stride: int = 1,
    padding: Padding = "VALID",
    precision: lax.PrecisionLike = None,
) -> Float[Array, "batch height_out width_out out"]:
    """Convolution (cross-correlation, as in every deep-learning library), no bias."""
    if kernel.shape[:2] == (1, 1):
        return jnp.einsum("nhwi,io->nhwo", x[:, ::stride, ::stride], kernel[0, 0], precision=precision)
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
    )


def depthwise_conv(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_h kernel_w channels"],
    *,
    stride: int = 1,
) -> Float[Array, "batch height_out width_out channels"]:
    """One filter per channel with TensorFlow's SAME padding: kernel_h * kernel_w shifted multiply-adds."""
    rows, columns = kernel.shape[:2]
    height, width = -(-x.shape[1] // stride), -(-x.shape[2] // stride)
    pads = lax.padtype_to_pads(x.shape[1:3], (rows, columns), (stride, stride), "SAME")
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    out = jnp.zeros((x.shape[0], height, width, x.shape[3]), x.dtype)
    for i in range(rows):
        for j in range(columns):
            shifted = padded[:, i : i + (height - 1) * stride + 1 : stride, j : j + (width - 1) * stride + 1 : stride]
            out = out + shifted * kernel[i, j]
    return out


def max_pool(
    x: Float[Array, "batch height width channels"], *, kernel: int, stride: int
) -> Float[Array, "batch height_out width_out channels"]:
    """Maximum over a square window, no padding. The gradient goes to the first maximum of a window."""
    if kernel == 1:
        return x[:, ::stride, ::stride]
    window = (1, kernel, kernel, 1)
    pooled: jax.Array = lax.reduce_window(x, -jnp.inf, lax.max, window, (1, stride, stride, 1), "VALID")
    return pooled


def zero_pad(x: Float[Array, "batch height width channels"], border_px: int) -> jax.Array:
    """Zeros on all four sides."""
    return jnp.pad(x, ((0, 0), (border_px, border_px), (border_px, border_px), (0, 0)))

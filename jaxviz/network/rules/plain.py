"""Convolutions and pools as `lax` has them, with autodiff's gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped

Pads = tuple[tuple[int, int], tuple[int, int]]  # zeros at (top, bottom), (left, right)


def conv(
    x: Float[Array, "batch height width in"],
    kernel: Float[Array, "kernel_h kernel_w in_of_group out"],
    gradient_kernel: Array | None = None,  # the other path's
    *,
    stride: int | tuple[int, int] = 1,
    pads: Pads = ((0, 0), (0, 0)),
    groups: int = 1,
    dilation: tuple[int, int] = (1, 1),
) -> Float[Array, "batch height_out width_out out"]:
    """Convolution (cross-correlation, as in every deep-learning library), no bias."""
    return lax.conv_general_dilated(
        x,
        kernel,
        _pair(stride),
        pads,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def depthwise_conv(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_h kernel_w channels"],
    *,
    stride: int | tuple[int, int] = 1,
    pads: Pads = ((0, 0), (0, 0)),
) -> Float[Array, "batch height_out width_out channels"]:
    """One filter per channel: kernel_h * kernel_w shifted multiply-adds."""
    rows, columns = kernel.shape[:2]
    # The barrier keeps XLA from padding anew, with a branch for each number, for every shift below.
    padded = lax.optimization_barrier(zero_pad(x, pads))
    down, right = _pair(stride)
    height, width = (padded.shape[1] - rows) // down + 1, (padded.shape[2] - columns) // right + 1
    out = jnp.zeros((x.shape[0], height, width, x.shape[3]), x.dtype)
    for i in range(rows):
        for j in range(columns):
            shifted = padded[:, i : i + (height - 1) * down + 1 : down, j : j + (width - 1) * right + 1 : right]
            out = out + shifted * kernel[i, j][None, None, None]
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


def zero_pad(x: Shaped[Array, "batch height width channels"], pads: Pads) -> Shaped[Array, "batch h w channels"]:
    """Zeros around each image."""
    return x if pads == ((0, 0), (0, 0)) else jnp.pad(x, ((0, 0), *pads, (0, 0)))


def _pair(stride: int | tuple[int, int]) -> tuple[int, int]:
    return (stride, stride) if isinstance(stride, int) else stride

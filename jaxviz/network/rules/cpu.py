"""Convolutions and pools with hand-written input gradients that XLA:CPU runs fast inside a loop.

In a loop body autodiff's transposed convolution becomes a naive loop nest (jax-ml/jax issue 12868), and max-pool's
select-and-scatter is slower still. Here a convolution's gradient is again a plain forward convolution, with a kernel
that is flipped and transposed beforehand, once, outside the loop (`gradient_kernel`); 1x1 convolutions are matrix
products; depthwise ones and pools are shifted multiply-adds and selections, which XLA fuses. The kernels themselves
get no gradient here: asking for one raises. Winograd's transforms cost what they save here, and were left out.

A strided layer's input falls into stride * stride phases. Padded input row stride * m + p receives kernel row
p + stride * t from output row m - t, so each phase is a stride-1 convolution of the output's gradient; they are
computed as one, with the phases as channels in the order (row phase, column phase, in), and interleaved at the end.
With groups, (group, row phase, column phase, in) per group. A stride is one number or (rows, columns).
"""

from __future__ import annotations

from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxviz.network.rules import onednn, plain
from jaxviz.network.rules.kernels import LAX, Product, kernel_of
from jaxviz.network.rules.plain import Pads, zero_pad

__all__ = ["conv", "depthwise_conv", "gradient_kernel", "max_pool", "zero_pad"]

Stride = int | tuple[int, int]

NARROW = 16  # channels of a gradient's phases up to which a convolution fills the vectors of the CPU badly
LARGEST_POOL = 254  # cells of a window, so that a cell's place and "none" are a byte
NO_PADS: Pads = ((0, 0), (0, 0))


def gradient_kernel(
    kernel: Float[Array, "kernel_h kernel_w in_of_group out"], *, stride: Stride, groups: int = 1
) -> Float[Array, "taps_h taps_w out_of_group phases_in"]:
    """The kernel of the forward convolution that is a convolution's input gradient.

    Where the phases are `NARROW`, the taps of a column become channels, (1, taps_w, out, taps_h * phases_in), whose
    products `_conv_backward` adds up: a convolution to few channels wastes the vectors of the CPU.
    """
    rows, columns, channels_in, channels_out = kernel.shape
    down, right = _pair(stride)
    taps_h, taps_w, depth = -(-rows // down), -(-columns // right), down * right * channels_in
    whole = jnp.pad(kernel, ((0, taps_h * down - rows), (0, taps_w * right - columns), (0, 0), (0, 0)))
    split = whole.reshape(taps_h, down, taps_w, right, channels_in, groups, channels_out // groups)
    flipped = split[::-1, :, ::-1].transpose(0, 2, 6, 5, 1, 3, 4)  # taps_h taps_w out group down right in
    flipped = flipped.reshape(taps_h, taps_w, channels_out // groups, groups * depth)
    if depth > NARROW or groups > 1:
        return flipped
    return flipped.transpose(1, 2, 0, 3).reshape(1, taps_w, channels_out, taps_h * depth)


def to_bfloat16_numbers(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Each number rounded to the nearest that bfloat16 has, still float32."""
    return lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)


def conv(
    x: Float[Array, "batch height width in"],
    kernel: Float[Array, "kernel_h kernel_w in_of_group out"],
    gradient_kernel: Float[Array, "taps_h taps_w out_of_group phases_in"],
    *,
    stride: Stride = 1,
    pads: Pads = NO_PADS,
    rounded: bool = False,
    groups: int = 1,
    dilation: tuple[int, int] = (1, 1),
    kernels: str = LAX,
) -> Float[Array, "batch height_out width_out out"]:
    """Convolution, no bias, with a result of the type of x. Sums are float32; bfloat16 kernels take bfloat16 operands.

    With `rounded` the kernels are float32 numbers that bfloat16 has, and what they are multiplied with becomes such.
    bfloat16 kernels have neither groups nor a dilation; dilated ones have stride 1. `kernels` is a set of kernels.py.
    """
    return _conv(_Shape(_pair(stride), pads, rounded, groups, dilation, kernels), x, kernel, gradient_kernel)


def depthwise_conv(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_h kernel_w channels"],
    *,
    stride: Stride = 1,
    pads: Pads = NO_PADS,
) -> Float[Array, "batch height_out width_out channels"]:
    """One filter per channel."""
    return _depthwise(_pair(stride), pads, x, kernel)


def max_pool(
    x: Float[Array, "batch height width channels"], *, kernel: Stride, stride: Stride
) -> Float[Array, "batch height_out width_out channels"]:
    """Maximum over a window, no padding. The gradient goes to the first maximum of a window.

    `kernel` has at most `LARGEST_POOL` cells, rounded up to whole strides.
    """
    down, right = _pair(stride)
    return x[:, ::down, ::right] if _pair(kernel) == (1, 1) else _max_pool(_pair(kernel), (down, right), x)


class _Shape(NamedTuple):
    """What is static of a convolution."""

    stride: tuple[int, int]
    pads: Pads
    rounded: bool = False
    groups: int = 1
    dilation: tuple[int, int] = (1, 1)
    kernels: str = LAX


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv(shape: _Shape, x: Array, kernel: Array, for_gradient: Array) -> Array:
    return _product(x, kernel, shape, x.dtype)


def _conv_forward(shape: _Shape, x: Any, kernel: Any, for_gradient: Any) -> tuple[Array, Any]:
    _refuse_weight_gradient(kernel, for_gradient)
    # x and the kernel for their shapes only: XLA does not keep them
    return _product(x.value, kernel.value, shape, x.value.dtype), (x.value, kernel.value, for_gradient.value)


def _conv_backward(shape: _Shape, residuals: Any, gradient: Array) -> tuple[Array, None, None]:
    x, kernel, for_gradient = residuals
    depth = shape.stride[0] * shape.stride[1] * kernel.shape[2]
    narrow = depth <= NARROW and shape.groups == 1
    taps_h = for_gradient.shape[3] // depth if narrow else for_gradient.shape[0]
    taps_w = for_gradient.shape[1]
    taps = tuple((tap - 1) * apart + 1 for tap, apart in zip((taps_h, taps_w), shape.dilation, strict=True))
    around, skipped = _around(gradient, x, shape.stride, shape.pads, (taps[0], taps[1]))
    same = shape._replace(stride=(1, 1), pads=around)
    phases = _product(gradient, for_gradient, same, jnp.float32 if narrow else x.dtype)
    if narrow:
        height = phases.shape[1] - taps[0] + 1
        starts = range(0, taps[0], shape.dilation[0])
        phases = reduce(
            jnp.add, [phases[:, i : i + height, :, n * depth : (n + 1) * depth] for n, i in enumerate(starts)]
        )
    interleaved = _interleave(phases.astype(x.dtype), shape.stride, shape.groups)
    return _unpad(interleaved, x, shape.stride, shape.pads, skipped), None, None


_conv.defvjp(_conv_forward, _conv_backward, symbolic_zeros=True)


def _product(x: Array, kernel: Array, shape: _Shape, dtype: Any) -> Array:
    rows, columns, channels_in, channels_out = kernel.shape
    stride, pads = shape.stride, shape.pads
    product = Product(
        window=(rows, columns),
        channels_in=channels_in,
        channels_out=channels_out,
        cells=x.shape[1] * x.shape[2] // (stride[0] * stride[1]),
        overhangs=x.shape[1] < rows or x.shape[2] < columns,
        bfloat16=kernel.dtype == jnp.bfloat16,
        is_plain=shape.groups == 1 and shape.dilation == (1, 1),
    )
    chosen = kernel_of(shape.kernels, product)
    if shape.rounded:
        x = to_bfloat16_numbers(x)
    x = x.astype(kernel.dtype)
    if chosen == "onednn":
        return onednn.conv(x, kernel, stride=stride, pads=pads, dtype=dtype)
    if chosen == "lax":
        y = plain.conv(x, kernel, stride=stride, pads=pads, groups=shape.groups, dilation=shape.dilation)
        return y.astype(dtype)
    padded = zero_pad(x, pads)
    if (rows, columns) == (1, 1):
        inner = padded[:, :: stride[0], :: stride[1]]
    else:
        windows = _windows(lax.optimization_barrier(padded), (rows, columns), stride)
        inner = jnp.concatenate(windows, axis=-1)
    matrix = kernel.reshape(rows * columns * channels_in, channels_out)
    y = lax.dot_general(inner, matrix, (((3,), (0,)), ((), ())), preferred_element_type=jnp.float32)
    return y.astype(dtype)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _depthwise(stride: tuple[int, int], pads: Pads, x: Array, kernel: Array) -> Array:
    return plain.depthwise_conv(x, kernel, stride=stride, pads=pads)


def _depthwise_forward(stride: tuple[int, int], pads: Pads, x: Any, kernel: Any) -> tuple[Array, Any]:
    _refuse_weight_gradient(kernel)
    return plain.depthwise_conv(x.value, kernel.value, stride=stride, pads=pads), (x.value, kernel.value)


def _depthwise_backward(stride: tuple[int, int], pads: Pads, residuals: Any, gradient: Array) -> tuple[Array, None]:
    x, kernel = residuals
    down, right = stride
    taps_h, taps_w = -(-kernel.shape[0] // down), -(-kernel.shape[1] // right)
    around, skipped = _around(gradient, x, stride, pads, (taps_h, taps_w))
    phases = []
    for p in range(down):
        for q in range(right):
            taps = kernel[p::down, q::right][::-1, ::-1]
            # Every phase as if it had all taps, so that all come out equally large.
            taps = jnp.pad(taps, ((taps_h - taps.shape[0], 0), (taps_w - taps.shape[1], 0), (0, 0)))
            phases.append(plain.depthwise_conv(gradient, taps, pads=around))
    return _unpad(_interleave(jnp.concatenate(phases, axis=-1), stride, 1), x, stride, pads, skipped), None


_depthwise.defvjp(_depthwise_forward, _depthwise_backward, symbolic_zeros=True)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _max_pool(kernel: tuple[int, int], stride: tuple[int, int], x: Array) -> Array:
    return _max_pool_forward(kernel, stride, x)[0]


def _max_pool_forward(kernel: tuple[int, int], stride: tuple[int, int], x: Array) -> tuple[Array, Any]:
    """The maxima, and where each was first: row * cells + column in its window, as uint8."""
    (rows, columns), (down, right) = kernel, stride
    x = lax.optimization_barrier(x)  # so that what made x is not computed anew for every cell of a window
    across = [x[:, :, j : x.shape[2] - columns + j + 1 : right] for j in range(columns)]
    places = [jnp.full(across[0].shape, j, jnp.uint8) for j in range(columns)]
    # Along rows first: neighbouring windows share them.
    row_maximum, column = lax.optimization_barrier(_first_maximum(across, places))
    under = [row_maximum[:, i : x.shape[1] - rows + i + 1 : down] for i in range(rows)]
    cells = _reach(columns, right) * right
    places = [column[:, i : x.shape[1] - rows + i + 1 : down] + jnp.uint8(i * cells) for i in range(rows)]
    maximum, place = _first_maximum(under, places)
    return maximum, (x, place)


def _max_pool_backward(
    kernel: tuple[int, int], stride: tuple[int, int], residuals: Any, gradient: Array
) -> tuple[Array]:
    """Input row y = stride * m + p lies in the windows m - i as their row p + stride * i; columns likewise."""
    x, place = residuals
    (down, right), reach = stride, (_reach(kernel[0], stride[0]), _reach(kernel[1], stride[1]))
    around, _ = _around(gradient, x, stride, NO_PADS, reach)
    # The barrier keeps XLA from padding anew, with a branch for each number, in every sum below.
    place, gradient = lax.optimization_barrier((zero_pad(place + jnp.uint8(1), around), zero_pad(gradient, around)))
    height, width = gradient.shape[1] - reach[0] + 1, gradient.shape[2] - reach[1] + 1
    row = jnp.arange(down * height, dtype=jnp.int32) % down
    column = jnp.arange(right * width, dtype=jnp.int32) % right
    total = jnp.zeros((), gradient.dtype)
    for i in range(reach[0]):
        for j in range(reach[1]):
            top, left = reach[0] - 1 - i, reach[1] - 1 - j
            window = (slice(None), slice(top, top + height), slice(left, left + width))
            wanted = (row + down * i)[:, None] * (reach[1] * right) + column[None] + right * j + 1
            chosen = _repeat(place[window], stride) == wanted.astype(jnp.uint8)[None, :, :, None]
            total = total + jnp.where(chosen, _repeat(gradient[window], stride), 0)
    return (total[:, : x.shape[1], : x.shape[2]],)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _first_maximum(cells: list[Array], places: list[Array]) -> tuple[Array, Array]:
    """The largest of some cells, and the place of the first that is as large."""
    maximum, place = reduce(jnp.maximum, cells), places[-1]
    for cell, its_place in zip(reversed(cells[:-1]), reversed(places[:-1]), strict=True):
        place = jnp.where(cell == maximum, its_place, place)
    return maximum, place


def _reach(kernel: int, stride: int) -> int:
    """How many windows a cell lies in, along one axis, at most."""
    return -(-kernel // stride)


def _repeat(x: Array, times: tuple[int, int]) -> Array:
    """Every row and column so many times."""
    batch, height, width, channels = x.shape
    wide = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, times[0], width, times[1], channels))
    return wide.reshape(batch, times[0] * height, times[1] * width, channels)


def _windows(x: Array, kernel: tuple[int, int], stride: tuple[int, int]) -> list[Array]:
    """The cells of all windows, in row order."""
    rows, columns = kernel
    bottom, right = x.shape[1] - rows + 1, x.shape[2] - columns + 1
    down, across = stride
    return [x[:, i : bottom + i : down, j : right + j : across] for i in range(rows) for j in range(columns)]


def _refuse_weight_gradient(*primals: Any) -> None:
    if any(primal.perturbed for primal in primals):
        raise NotImplementedError(
            "the CPU path of a convolution has no weight gradient; differentiate Model.activation, which has one"
        )


def _around(
    gradient: Array, x: Array, stride: tuple[int, int], pads: Pads, taps: tuple[int, int]
) -> tuple[Pads, tuple[int, int]]:
    """What to put around an output's gradient so that its convolution with `taps` gives the phases of x.

    Returns the zeros, and how many rows and columns of the phases of the padded input are left out at the top and at
    the left, because they hold padding only.
    """
    around, skipped = [], []
    for axis, (step, tap, (before, _)) in enumerate(zip(stride, taps, pads, strict=True), start=1):
        skip = min(before // step, tap - 1)
        length = -(-(x.shape[axis] + before) // step)
        around.append((tap - 1 - skip, max(0, length - gradient.shape[axis])))
        skipped.append(skip)
    return (around[0], around[1]), (skipped[0], skipped[1])


def _interleave(phases: Array, stride: tuple[int, int], groups: int) -> Array:
    """(batch, rows, columns, groups * phases * in) -> (batch, down * rows, right * columns, groups * in)."""
    down, right = stride
    if (down, right) == (1, 1):
        return phases
    batch, rows, columns, depth = phases.shape
    split = phases.reshape(batch, rows, columns, groups, down, right, depth // (groups * down * right))
    return split.transpose(0, 1, 4, 2, 5, 3, 6).reshape(batch, down * rows, right * columns, depth // (down * right))


def _unpad(padded: Array, x: Array, stride: tuple[int, int], pads: Pads, skipped: tuple[int, int]) -> Array:
    """The part of the padded input's gradient that is x's."""
    top, left = (before - step * skip for step, (before, _), skip in zip(stride, pads, skipped, strict=True))
    return padded[:, top : top + x.shape[1], left : left + x.shape[2]]


def _pair(stride: Stride) -> tuple[int, int]:
    return (stride, stride) if isinstance(stride, int) else stride

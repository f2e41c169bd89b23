"""Convolutions and pools with hand-written input gradients that XLA:CPU runs fast inside a loop.

In a loop body autodiff's transposed convolution becomes a naive loop nest (jax-ml/jax issue 12868), and max-pool's
select-and-scatter is slower still. Here a convolution's gradient is again a plain forward convolution, with a kernel
that is flipped and transposed beforehand, once, outside the loop (`gradient_kernel`); 1x1 convolutions are matrix
products; depthwise ones and pools are shifted multiply-adds and selections, which XLA fuses. The kernels themselves
get no gradient here: asking for one raises. Winograd's transforms cost what they save here, and were left out.

A strided layer's input falls into stride * stride phases. Padded input row stride * m + p receives kernel row
p + stride * t from output row m - t, so each phase is a stride-1 convolution of the output's gradient; they are
computed as one, with the phases as channels in the order (row phase, column phase, in), and interleaved at the end.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxviz.models.convolution import plain
from jaxviz.models.convolution.plain import Pads, zero_pad

__all__ = ["conv", "depthwise_conv", "gradient_kernel", "max_pool", "zero_pad"]

NARROW = 16  # channels of a gradient's phases up to which a convolution fills the vectors of the CPU badly
WIDE = 256  # channels from which building the rows of a matrix costs less than bfloat16 gains
NO_PADS: Pads = ((0, 0), (0, 0))


def gradient_kernel(
    kernel: Float[Array, "kernel_h kernel_w in out"], *, stride: int
) -> Float[Array, "taps_h taps_w out phases_in"]:
    """The kernel of the forward convolution that is a convolution's input gradient.

    Where the phases are `NARROW`, the taps of a column become channels, (1, taps_w, out, taps_h * phases_in), whose
    products `_conv_backward` adds up: a convolution to few channels wastes the vectors of the CPU.
    """
    rows, columns, channels_in, channels_out = kernel.shape
    taps_h, taps_w, depth = -(-rows // stride), -(-columns // stride), stride * stride * channels_in
    whole = jnp.pad(kernel, ((0, taps_h * stride - rows), (0, taps_w * stride - columns), (0, 0), (0, 0)))
    split = whole.reshape(taps_h, stride, taps_w, stride, channels_in, channels_out)
    flipped = split[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4).reshape(taps_h, taps_w, channels_out, depth)
    if depth > NARROW:
        return flipped
    return flipped.transpose(1, 2, 0, 3).reshape(1, taps_w, channels_out, taps_h * depth)


def to_bfloat16_numbers(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Each number rounded to the nearest that bfloat16 has, still float32."""
    return lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)


def takes_bfloat16(kernel: tuple[int, ...]) -> bool:
    """Whether a convolution gains from bfloat16 operands; `kernel` is its kernel's shape."""
    rows, columns, channels_in, channels_out = kernel
    return rows == columns == 1 or min(channels_in, channels_out) >= WIDE


def conv(
    x: Float[Array, "batch height width in"],
    kernel: Float[Array, "kernel_h kernel_w in out"],
    gradient_kernel: Float[Array, "taps_h taps_w out phases_in"],
    *,
    stride: int = 1,
    pads: Pads = NO_PADS,
    rounded: bool = False,
) -> Float[Array, "batch height_out width_out out"]:
    """Convolution, no bias. bfloat16 kernels take bfloat16 operands and accumulate and give float32.

    With `rounded` the kernels are float32 numbers that bfloat16 has, and what they are multiplied with becomes such.
    """
    return _conv(stride, pads, rounded, x, kernel, gradient_kernel)


def depthwise_conv(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_h kernel_w channels"],
    *,
    stride: int = 1,
    pads: Pads = NO_PADS,
) -> Float[Array, "batch height_out width_out channels"]:
    """One filter per channel."""
    return _depthwise(stride, pads, x, kernel)


def max_pool(
    x: Float[Array, "batch height width channels"], *, kernel: int, stride: int
) -> Float[Array, "batch height_out width_out channels"]:
    """Maximum over a square window, no padding. The gradient goes to the first maximum of a window."""
    return x[:, ::stride, ::stride] if kernel == 1 else _max_pool(kernel, stride, x)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _conv(stride: int, pads: Pads, rounded: bool, x: Array, kernel: Array, for_gradient: Array) -> Array:  # noqa: ARG001
    return _product(x, kernel, stride, pads, rounded)


def _conv_forward(stride: int, pads: Pads, rounded: bool, x: Any, kernel: Any, for_gradient: Any) -> tuple[Array, Any]:
    _refuse_weight_gradient(kernel, for_gradient)
    return _product(x.value, kernel.value, stride, pads, rounded), (x.value, for_gradient.value)


def _conv_backward(stride: int, pads: Pads, rounded: bool, residuals: Any, gradient: Array) -> tuple[Array, None, None]:
    x, for_gradient = residuals  # x for its shape only: XLA does not keep it
    depth = stride * stride * x.shape[3]
    taps_h = for_gradient.shape[3] // depth if depth <= NARROW else for_gradient.shape[0]
    taps_w = for_gradient.shape[1]
    around, skipped = _around(gradient, x, stride, pads, (taps_h, taps_w))
    phases = _product(gradient, for_gradient, 1, around, rounded)
    if depth <= NARROW:
        height = phases.shape[1] - taps_h + 1
        phases = reduce(jnp.add, [phases[:, i : i + height, :, i * depth : (i + 1) * depth] for i in range(taps_h)])
    return _unpad(_interleave(phases, stride), x, stride, pads, skipped), None, None


_conv.defvjp(_conv_forward, _conv_backward, symbolic_zeros=True)


def _product(x: Array, kernel: Array, stride: int, pads: Pads, rounded: bool) -> Array:
    rows, columns, channels_in, channels_out = kernel.shape
    if rounded:
        x = to_bfloat16_numbers(x)
    if (rows, columns) != (1, 1) and kernel.dtype == jnp.float32:
        return plain.conv(x, kernel, stride=stride, pads=pads)
    padded = zero_pad(x.astype(kernel.dtype), pads)
    if (rows, columns) == (1, 1):
        inner = padded[:, ::stride, ::stride]
    else:  # XLA:CPU has no convolution of bfloat16, so the windows become rows of a matrix
        windows = _windows(lax.optimization_barrier(padded), (rows, columns), stride)
        inner = jnp.concatenate(windows, axis=-1)
    matrix = kernel.reshape(rows * columns * channels_in, channels_out)
    return lax.dot_general(inner, matrix, (((3,), (0,)), ((), ())), preferred_element_type=jnp.float32)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _depthwise(stride: int, pads: Pads, x: Array, kernel: Array) -> Array:
    return plain.depthwise_conv(x, kernel, stride=stride, pads=pads)


def _depthwise_forward(stride: int, pads: Pads, x: Any, kernel: Any) -> tuple[Array, Any]:
    _refuse_weight_gradient(kernel)
    return plain.depthwise_conv(x.value, kernel.value, stride=stride, pads=pads), (x.value, kernel.value)


def _depthwise_backward(stride: int, pads: Pads, residuals: Any, gradient: Array) -> tuple[Array, None]:
    x, kernel = residuals
    taps_h, taps_w = -(-kernel.shape[0] // stride), -(-kernel.shape[1] // stride)
    around, skipped = _around(gradient, x, stride, pads, (taps_h, taps_w))
    phases = []
    for p in range(stride):
        for q in range(stride):
            taps = kernel[p::stride, q::stride][::-1, ::-1]
            # Every phase as if it had all taps, so that all come out equally large.
            taps = jnp.pad(taps, ((taps_h - taps.shape[0], 0), (taps_w - taps.shape[1], 0), (0, 0)))
            phases.append(plain.depthwise_conv(gradient, taps, pads=around))
    return _unpad(_interleave(jnp.concatenate(phases, axis=-1), stride), x, stride, pads, skipped), None


_depthwise.defvjp(_depthwise_forward, _depthwise_backward, symbolic_zeros=True)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _max_pool(kernel: int, stride: int, x: Array) -> Array:
    return _max_pool_forward(kernel, stride, x)[0]


def _max_pool_forward(kernel: int, stride: int, x: Array) -> tuple[Array, Any]:
    """The maxima, and where each was first: row * cells + column in its window, as uint8."""
    x = lax.optimization_barrier(x)  # so that what made x is not computed anew for every cell of a window
    across = [x[:, :, j : x.shape[2] - kernel + j + 1 : stride] for j in range(kernel)]
    places = [jnp.full(across[0].shape, j, jnp.uint8) for j in range(kernel)]
    # Along rows first: neighbouring windows share them.
    row_maximum, column = lax.optimization_barrier(_first_maximum(across, places))
    rows = range(kernel)
    down = [row_maximum[:, i : x.shape[1] - kernel + i + 1 : stride] for i in rows]
    cells = _reach(kernel, stride) * stride
    places = [column[:, i : x.shape[1] - kernel + i + 1 : stride] + jnp.uint8(i * cells) for i in rows]
    maximum, place = _first_maximum(down, places)
    return maximum, (x, place)


def _max_pool_backward(kernel: int, stride: int, residuals: Any, gradient: Array) -> tuple[Array]:
    """Input row y = stride * m + p lies in the windows m - i as their row p + stride * i; columns likewise."""
    x, place = residuals
    reach = _reach(kernel, stride)
    around, _ = _around(gradient, x, stride, NO_PADS, (reach, reach))
    # The barrier keeps XLA from padding anew, with a branch for each number, in every sum below.
    place, gradient = lax.optimization_barrier((zero_pad(place + jnp.uint8(1), around), zero_pad(gradient, around)))
    height, width = gradient.shape[1] - reach + 1, gradient.shape[2] - reach + 1
    row, column = (jnp.arange(stride * length, dtype=jnp.int32) % stride for length in (height, width))
    total = jnp.zeros((), gradient.dtype)
    for i in range(reach):
        for j in range(reach):
            top, left = reach - 1 - i, reach - 1 - j
            window = (slice(None), slice(top, top + height), slice(left, left + width))
            wanted = (row + stride * i)[:, None] * (reach * stride) + column[None] + stride * j + 1
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


def _repeat(x: Array, times: int) -> Array:
    """Every row and column so many times."""
    batch, height, width, channels = x.shape
    wide = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, times, width, times, channels))
    return wide.reshape(batch, times * height, times * width, channels)


def _windows(x: Array, kernel: tuple[int, int], stride: int) -> list[Array]:
    """The cells of all windows, in row order."""
    rows, columns = kernel
    bottom, right = x.shape[1] - rows + 1, x.shape[2] - columns + 1
    return [x[:, i : bottom + i : stride, j : right + j : stride] for i in range(rows) for j in range(columns)]


def _refuse_weight_gradient(*primals: Any) -> None:
    if any(primal.perturbed for primal in primals):
        raise NotImplementedError(
            "the CPU path of a convolution has no weight gradient; differentiate Model.forward, which has one"
        )


def _around(gradient: Array, x: Array, stride: int, pads: Pads, taps: tuple[int, int]) -> tuple[Pads, tuple[int, int]]:
    """What to put around an output's gradient so that its convolution with `taps` gives the phases of x.

    Returns the zeros, and how many rows and columns of the phases of the padded input are left out at the top and at
    the left, because they hold padding only.
    """
    around, skipped = [], []
    for axis, (tap, (before, _)) in enumerate(zip(taps, pads, strict=True), start=1):
        skip = min(before // stride, tap - 1)
        length = -(-(x.shape[axis] + before) // stride)
        around.append((tap - 1 - skip, max(0, length - gradient.shape[axis])))
        skipped.append(skip)
    return (around[0], around[1]), (skipped[0], skipped[1])


def _interleave(phases: Array, stride: int) -> Array:
    """(batch, rows, columns, stride * stride * channels) -> (batch, stride * rows, stride * columns, channels)."""
    if stride == 1:
        return phases
    batch, rows, columns, depth = phases.shape
    split = phases.reshape(batch, rows, columns, stride, stride, depth // stride**2)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(batch, stride * rows, stride * columns, depth // stride**2)


def _unpad(padded: Array, x: Array, stride: int, pads: Pads, skipped: tuple[int, int]) -> Array:
    """The part of the padded input's gradient that is x's."""
    top, left = (before - stride * skip for (before, _), skip in zip(pads, skipped, strict=True))
    return padded[:, top : top + x.shape[1], left : left + x.shape[2]]

"""Convolutions and pools with hand-written input gradients that XLA:CPU runs fast inside a loop.

In a loop body autodiff's transposed convolution becomes a naive loop nest (jax-ml/jax issue 12868), and max-pool's
select-and-scatter is slower still. Here a convolution's gradient is again a plain forward convolution, with a kernel
that is flipped and transposed beforehand, once, outside the loop (`gradient_kernel`); 1x1 convolutions are matrix
products; the others are shifted multiply-adds and selections, which XLA fuses. The kernels themselves get no gradient
here: asking for one raises.

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
NO_PADS: Pads = ((0, 0), (0, 0))


def gradient_kernel(
    kernel: Float[Array, "kernel_h kernel_w in out"], *, stride: int
) -> Float[Array, "taps_h taps_w out phases_in"]:
    """The kernel of the forward convolution that is a convolution's input gradient."""
    rows, columns, channels_in, channels_out = kernel.shape
    taps_h, taps_w = -(-rows // stride), -(-columns // stride)
    whole = jnp.pad(kernel, ((0, taps_h * stride - rows), (0, taps_w * stride - columns), (0, 0), (0, 0)))
    split = whole.reshape(taps_h, stride, taps_w, stride, channels_in, channels_out)
    flipped = split[::-1, :, ::-1]
    return flipped.transpose(0, 2, 5, 1, 3, 4).reshape(taps_h, taps_w, channels_out, stride * stride * channels_in)


def conv(
    x: Float[Array, "batch height width in"],
    kernel: Float[Array, "kernel_h kernel_w in out"],
    gradient_kernel: Float[Array, "taps_h taps_w out phases_in"],
    *,
    stride: int = 1,
    pads: Pads = NO_PADS,
) -> Float[Array, "batch height_out width_out out"]:
    """Convolution, no bias. bfloat16 kernels take bfloat16 operands and accumulate and give float32."""
    return _conv(stride, pads, x, kernel, gradient_kernel)


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
    return _max_pool(kernel, stride, x)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _conv(stride: int, pads: Pads, x: Array, kernel: Array, for_gradient: Array) -> Array:  # noqa: ARG001
    return _product(x, kernel, stride, pads)


def _conv_forward(stride: int, pads: Pads, x: Any, kernel: Any, for_gradient: Any) -> tuple[Array, Any]:
    _refuse_weight_gradient(kernel, for_gradient)
    return _product(x.value, kernel.value, stride, pads), (x.value, for_gradient.value)


def _conv_backward(stride: int, pads: Pads, residuals: Any, gradient: Array) -> tuple[Array, None, None]:
    x, for_gradient = residuals  # x for its shape only: XLA does not keep it
    taps_h, taps_w, channels_out, depth = for_gradient.shape
    rows, columns = _phase_lengths(x, stride, pads)
    around = _around(gradient, (taps_h, taps_w), rows, columns)
    if depth > NARROW:
        phases = _product(gradient, for_gradient, 1, around)
    else:
        # The taps of a row as channels, then shifted sums: a convolution to few channels wastes the vectors.
        wide = for_gradient.transpose(0, 2, 1, 3).reshape(taps_h, 1, channels_out, taps_w * depth)
        products = _product(gradient, wide, 1, around)
        width = products.shape[2] - taps_w + 1
        shifted = [products[:, :, j : j + width, j * depth : (j + 1) * depth] for j in range(taps_w)]
        phases = reduce(jnp.add, shifted)
    return _unpad(_interleave(phases, stride), x, pads), None, None


_conv.defvjp(_conv_forward, _conv_backward, symbolic_zeros=True)


def _product(x: Array, kernel: Array, stride: int, pads: Pads) -> Array:
    if kernel.shape[:2] != (1, 1):
        return plain.conv(x, kernel, stride=stride, pads=pads)
    inner = zero_pad(x, pads)[:, ::stride, ::stride].astype(kernel.dtype)
    return lax.dot_general(inner, kernel[0, 0], (((3,), (0,)), ((), ())), preferred_element_type=jnp.float32)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _depthwise(stride: int, pads: Pads, x: Array, kernel: Array) -> Array:
    return plain.depthwise_conv(x, kernel, stride=stride, pads=pads)


def _depthwise_forward(stride: int, pads: Pads, x: Any, kernel: Any) -> tuple[Array, Any]:
    _refuse_weight_gradient(kernel)
    return plain.depthwise_conv(x.value, kernel.value, stride=stride, pads=pads), (x.value, kernel.value)


def _depthwise_backward(stride: int, pads: Pads, residuals: Any, gradient: Array) -> tuple[Array, None]:
    x, kernel = residuals
    taps_h, taps_w = -(-kernel.shape[0] // stride), -(-kernel.shape[1] // stride)
    height, width = _phase_lengths(x, stride, pads)
    phases = []
    for p in range(stride):
        for q in range(stride):
            taps = kernel[p::stride, q::stride][::-1, ::-1]
            # Every phase as if it had all taps, so that all come out equally large.
            taps = jnp.pad(taps, ((taps_h - taps.shape[0], 0), (taps_w - taps.shape[1], 0), (0, 0)))
            around = _around(gradient, (taps_h, taps_w), height, width)
            phases.append(plain.depthwise_conv(gradient, taps, pads=around))
    return _unpad(_interleave(jnp.concatenate(phases, axis=-1), stride), x, pads), None


_depthwise.defvjp(_depthwise_forward, _depthwise_backward, symbolic_zeros=True)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _max_pool(kernel: int, stride: int, x: Array) -> Array:
    return _maximum(_windows(x, kernel, stride))


def _max_pool_forward(kernel: int, stride: int, x: Array) -> tuple[Array, Any]:
    windows = _windows(x, kernel, stride)
    maximum = _maximum(windows)
    first = jnp.full(maximum.shape, len(windows) - 1, jnp.uint8)
    for place in reversed(range(len(windows) - 1)):
        first = jnp.where(windows[place] == maximum, jnp.uint8(place), first)
    return maximum, (x, first)


def _max_pool_backward(kernel: int, stride: int, residuals: Any, gradient: Array) -> tuple[Array]:
    x, first = residuals
    height, width = _phase_lengths(x, stride, NO_PADS)
    height, width = max(height, gradient.shape[1]), max(width, gradient.shape[2])
    reach = (kernel - 1) // stride
    around = ((reach, height - gradient.shape[1]), (reach, width - gradient.shape[2]))
    # The barrier keeps XLA from padding anew, with a branch for each number, in every sum below.
    first, gradient = lax.optimization_barrier((zero_pad(first + jnp.uint8(1), around), zero_pad(gradient, around)))
    phases = []
    for p in range(stride):
        for q in range(stride):
            total = jnp.zeros((x.shape[0], height, width, x.shape[3]), gradient.dtype)
            for i in range(p, kernel, stride):
                for j in range(q, kernel, stride):
                    top, left = reach - i // stride, reach - j // stride
                    cells = (slice(None), slice(top, top + height), slice(left, left + width))
                    total = total + jnp.where(first[cells] == i * kernel + j + 1, gradient[cells], 0)
            phases.append(total)
    return (_unpad(_interleave(jnp.concatenate(phases, axis=-1), stride), x, NO_PADS),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _windows(x: Array, kernel: int, stride: int) -> list[Array]:
    """The kernel * kernel cells of all windows, in row order."""
    height, width = (x.shape[1] - kernel) // stride + 1, (x.shape[2] - kernel) // stride + 1
    last_row, last_column = (height - 1) * stride + 1, (width - 1) * stride + 1
    return [x[:, i : i + last_row : stride, j : j + last_column : stride] for i in range(kernel) for j in range(kernel)]


def _maximum(windows: list[Array]) -> Array:
    return reduce(jnp.maximum, windows)


def _refuse_weight_gradient(*primals: Any) -> None:
    if any(primal.perturbed for primal in primals):
        raise NotImplementedError(
            "the CPU path of a convolution has no weight gradient; differentiate Model.forward, which has one"
        )


def _phase_lengths(x: Array, stride: int, pads: Pads) -> tuple[int, int]:
    """Rows and columns of one phase of the padded input, as far as the unpadded input reaches."""
    (top, _), (left, _) = pads
    return -(-(x.shape[1] + top) // stride), -(-(x.shape[2] + left) // stride)


def _around(gradient: Array, taps: tuple[int, int], rows: int, columns: int) -> Pads:
    """Zeros around an output's gradient, so that its convolution with `taps` covers a phase (and may go beyond)."""
    below, beyond = max(0, rows - gradient.shape[1]), max(0, columns - gradient.shape[2])
    return (taps[0] - 1, below), (taps[1] - 1, beyond)


def _interleave(phases: Array, stride: int) -> Array:
    """(batch, rows, columns, stride * stride * channels) -> (batch, stride * rows, stride * columns, channels)."""
    if stride == 1:
        return phases
    batch, rows, columns, depth = phases.shape
    split = phases.reshape(batch, rows, columns, stride, stride, depth // stride**2)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(batch, stride * rows, stride * columns, depth // stride**2)


def _unpad(padded: Array, x: Array, pads: Pads) -> Array:
    (top, _), (left, _) = pads
    return padded[:, top : top + x.shape[1], left : left + x.shape[2]]

"""PyTorch's convolutions and norms: channels are the second axis, kernels (out, in, height, width).

A convolution says so in its dimension numbers, by which it gets a fast gradient without a transposition of what goes
through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxviz.doors.aten_elementwise import Operation

SPATIAL = "DHW"
Numbers = int | Sequence[int]


def of_channels(x: jax.Array, like: jax.Array) -> jax.Array:
    """A number for each channel, shaped for an array whose second axis the channels are."""
    return x.reshape([-1 if axis == 1 else 1 for axis in range(like.ndim)])


def each_of(numbers: Numbers, count: int) -> tuple[int, ...]:
    """A number for each axis, of PyTorch's one for all."""
    if isinstance(numbers, int):
        return (numbers,) * count
    return tuple(numbers) * (count if len(numbers) == 1 else 1)


def _convolved(
    x: jax.Array, weight: jax.Array, bias: jax.Array | None, **options: Any
) -> jax.Array:  # of images and kernels in PyTorch's order
    axes = SPATIAL[3 - (x.ndim - 2) :]
    y: jax.Array = lax.conv_general_dilated(
        x, weight, dimension_numbers=(f"NC{axes}", f"OI{axes}", f"NC{axes}"), **options
    )
    return y if bias is None else y + of_channels(bias, y)


def _conv(
    x: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None = None,
    stride: Numbers = 1,
    padding: Numbers | str = 0,
    dilation: Numbers = 1,
    groups: int = 1,
) -> jax.Array:
    count = x.ndim - 2
    apart = each_of(dilation, count)
    if padding == "valid":
        padding = 0
    if isinstance(padding, str):  # "same", with a stride of 1: an odd zero goes behind
        totals = [(length - 1) * step for length, step in zip(weight.shape[2:], apart, strict=True)]
        pads = [(total // 2, total - total // 2) for total in totals]
    else:
        pads = [(zeros, zeros) for zeros in each_of(padding, count)]
    return _convolved(
        x, weight, bias,
        window_strides=each_of(stride, count), padding=pads, rhs_dilation=apart, feature_group_count=groups,
    )  # fmt: skip


def _transposed(
    x: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None = None,
    stride: Numbers = 1,
    padding: Numbers = 0,
    output_padding: Numbers = 0,
    groups: int = 1,
    dilation: Numbers = 1,
) -> jax.Array:
    """The kernel, (in, out of a group, height, width), turned, on an image with zeros between its cells."""
    count = x.ndim - 2
    into, out, *window = weight.shape
    kernel = jnp.swapaxes(weight.reshape(groups, into // groups, out, *window), 1, 2)
    kernel = jnp.flip(kernel.reshape(groups * out, into // groups, *window), range(2, count + 2))
    numbers = zip(window, *(each_of(n, count) for n in (padding, output_padding, dilation)), strict=True)
    pads = [((length - 1) * step - zeros, (length - 1) * step - zeros + more) for length, zeros, more, step in numbers]
    return _convolved(
        x, kernel, bias,
        window_strides=(1,) * count, padding=pads, lhs_dilation=each_of(stride, count),
        rhs_dilation=each_of(dilation, count), feature_group_count=groups,
    )  # fmt: skip


def _convolution(
    x: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None,
    stride: Numbers,
    padding: Numbers,
    dilation: Numbers,
    transposed: bool,
    output_padding: Numbers,
    groups: int,
) -> jax.Array:
    if transposed:
        return _transposed(x, weight, bias, stride, padding, output_padding, groups, dilation)
    return _conv(x, weight, bias, stride, padding, dilation, groups)


# Norms


def _batch_norm(
    x: jax.Array,
    weight: jax.Array | None,
    bias: jax.Array | None,
    mean: jax.Array,
    variance: jax.Array,
    momentum: float,  # noqa: ARG001  # of training
    epsilon: float,
) -> tuple[jax.Array, None, None]:
    """The fixed part first, in Flax's order: of a weight and a root of a layer one product is made, once."""
    scale = lax.rsqrt(variance + epsilon)
    scale = scale if weight is None else scale * weight
    y = (x - of_channels(mean, x)) * of_channels(scale, x)
    return y if bias is None else y + of_channels(bias, y), None, None


def _own_batch_norm(
    x: jax.Array,
    weight: jax.Array | None,
    bias: jax.Array | None,
    training: bool,  # noqa: ARG001  # there are no other statistics
    momentum: float,
    epsilon: float,
) -> tuple[jax.Array, None, None]:
    """By the statistics of x itself: of kernels, which are standardized so, or of one image, never of a batch."""
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    mean = jnp.mean(x, axes)
    variance = jnp.mean((x - of_channels(mean, x)) ** 2, axes)
    return _batch_norm(x, weight, bias, mean, variance, momentum, epsilon)


def _scaled(x: jax.Array, weight: jax.Array | None, bias: jax.Array | None) -> jax.Array:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


@partial(jax.jit, static_argnames=("count", "epsilon"))
def layer_norm(
    x: jax.Array, weight: jax.Array | None, bias: jax.Array | None, *, count: int, epsilon: float
) -> jax.Array:
    """Over the last axes."""
    axes = tuple(range(x.ndim - count, x.ndim))
    from_mean = x - jnp.mean(x, axes, keepdims=True)
    y = from_mean * lax.rsqrt(jnp.mean(from_mean * from_mean, axes, keepdims=True) + epsilon)
    shape = (1,) * (x.ndim - count) + x.shape[x.ndim - count :]
    return _scaled(y, *(None if part is None else part.reshape(shape) for part in (weight, bias)))


@partial(jax.jit, static_argnames=("groups", "epsilon"))
def group_norm(
    x: jax.Array, weight: jax.Array | None, bias: jax.Array | None, *, groups: int, epsilon: float
) -> jax.Array:
    """Over groups of channels; as a scale and a shift for each, so that it stays known which axis is which."""
    batch, channels, *rest = x.shape
    ones = (1,) * len(rest)

    def mean(y: jax.Array) -> jax.Array:
        of_each = jnp.mean(y, tuple(range(2, y.ndim)), keepdims=True)  # (batch, channels, 1, 1)
        of_groups = jnp.mean(of_each.reshape(batch, groups, channels // groups), 2, keepdims=True)
        return jnp.broadcast_to(of_groups, (batch, groups, channels // groups)).reshape(batch, channels, *ones)

    from_mean = x - mean(x)
    y = from_mean * lax.rsqrt(mean(from_mean * from_mean) + epsilon)
    return _scaled(y, *(None if part is None else of_channels(part, x) for part in (weight, bias)))


def _layer_norm(
    x: jax.Array,
    shape: Sequence[int],
    weight: jax.Array | None = None,
    bias: jax.Array | None = None,
    epsilon: float = 1e-5,
    *_: Any,
) -> Any:
    return layer_norm(x, weight, bias, count=len(shape), epsilon=epsilon)


def _group_norm(
    x: jax.Array,
    groups: int,
    weight: jax.Array | None = None,
    bias: jax.Array | None = None,
    epsilon: float = 1e-5,
    *_: Any,
) -> Any:
    return group_norm(x, weight, bias, groups=groups, epsilon=epsilon)


def _instance_norm(
    x: jax.Array,
    weight: jax.Array | None,
    bias: jax.Array | None,
    mean: jax.Array | None,
    variance: jax.Array | None,
    of_the_image: bool,
    momentum: float,
    epsilon: float,
    *_: Any,
) -> Any:
    if not of_the_image:
        assert mean is not None
        assert variance is not None
        return _batch_norm(x, weight, bias, mean, variance, momentum, epsilon)[0]
    return group_norm(x, weight, bias, groups=x.shape[1], epsilon=epsilon)


OPERATIONS: dict[str, Operation] = {
    **{f"conv{count}d{kind}": _conv for count in (1, 2, 3) for kind in ("", ".padding")},
    "_native_batch_norm_legit.no_stats": _own_batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "conv_transpose1d": _transposed,
    "conv_transpose2d.input": _transposed,
    "convolution": _convolution,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "layer_norm": _layer_norm,
    "native_layer_norm": lambda *arguments: (_layer_norm(*arguments), None, None),
}

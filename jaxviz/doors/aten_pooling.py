"""PyTorch's pools and changes of size, over the last two axes of (batch, channels, height, width).

Pools whose windows are all of one size are windows of `lax`. Those of changing sizes, and interpolation, are a fixed
matrix for rows and one for columns.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxviz.doors.aten_convolution import Numbers, each_of
from jaxviz.doors.aten_elementwise import Operation
from jaxviz.doors.aten_shapes import global_avg_pool

CUBIC = -0.75  # PyTorch's coefficient of bicubic interpolation, ATen/native/UpSample.h


def _reach(length: int, window: int, stride: int, zeros: int, *, ceil_mode: bool) -> tuple[int, int]:
    """How many windows there are, and how many cells the last one ends behind the image's last."""
    left = length + 2 * zeros - window
    count = left // stride + 1
    if ceil_mode and left % stride and count * stride < length + zeros:  # one that begins within the image
        count += 1
    return count, max(zeros, (count - 1) * stride + window - length - zeros)


def _max_pool(
    x: jax.Array,
    kernel: Numbers,
    stride: Numbers = (),
    padding: Numbers = 0,
    dilation: Numbers = 1,
    ceil_mode: bool = False,
    *,
    axes: int = 2,
) -> jax.Array:
    window, apart, zeros = (each_of(numbers, axes) for numbers in (kernel, dilation, padding))
    step = window if stride in ((), []) else each_of(stride, axes)
    wide = [(size - 1) * gap + 1 for size, gap in zip(window, apart, strict=True)]
    each = list(zip(x.shape[-axes:], wide, step, zeros, strict=True))
    pads = [(numbers[-1], _reach(*numbers, ceil_mode=ceil_mode)[1]) for numbers in each]
    around = (1,) * (x.ndim - axes)
    pads = [*((0, 0) for _ in around), *pads]
    if max(apart) > 1:
        return _dilated_max_pool(x, (*around, *window), (*around, *step), (*around, *apart), pads)
    pooled: jax.Array = lax.reduce_window(x, -jnp.inf, lax.max, (*around, *window), (*around, *step), pads)
    return pooled


def _dilated_max_pool(
    x: jax.Array, window: Sequence[int], step: Sequence[int], apart: Sequence[int], pads: Sequence[tuple[int, int]]
) -> jax.Array:
    """The maximum of shifted images: `lax` has no gradient for windows with gaps."""
    x = jnp.pad(x, pads, constant_values=-jnp.inf)
    wide = [(size - 1) * gap for size, gap in zip(window, apart, strict=True)]
    shifted = []
    for cell in itertools.product(*(range(size) for size in window)):
        starts = [place * gap for place, gap in zip(cell, apart, strict=True)]
        ends = [length - far + start for length, far, start in zip(x.shape, wide, starts, strict=True)]
        shifted.append(lax.slice(x, starts, ends, step))
    return reduce(jnp.maximum, shifted)


def _avg_pool(
    x: jax.Array,
    kernel: Numbers,
    stride: Numbers = (),
    padding: Numbers = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
    *,
    axes: int = 2,
) -> jax.Array:
    window, zeros = each_of(kernel, axes), each_of(padding, axes)
    step = window if stride in ((), []) else each_of(stride, axes)
    counts, pads = [], []
    for length, size, jump, zero in zip(x.shape[-axes:], window, step, zeros, strict=True):
        places, behind = _reach(length, size, jump, zero, ceil_mode=ceil_mode)
        pads.append((zero, behind))
        begins = np.arange(places) * jump - zero
        first, last = (-zero, length + zero) if count_include_pad else (0, length)
        counts.append(np.minimum(begins + size, last) - np.maximum(begins, first))
    around = (1,) * (x.ndim - axes)
    total: jax.Array = lax.reduce_window(
        x, np.zeros((), x.dtype), lax.add, (*around, *window), (*around, *step), [*((0, 0) for _ in around), *pads]
    )
    cells = reduce(np.multiply.outer, counts)  # of each window
    if divisor is not None or (cells == cells.flat[0]).all():
        return total / (divisor or int(cells.flat[0]))
    return total / jnp.asarray(cells.reshape(around + cells.shape), x.dtype)


# Windows of changing sizes


def _starts_and_ends(length: int, count: int) -> list[tuple[int, int]]:
    return [(place * length // count, -(-(place + 1) * length // count)) for place in range(count)]


def _sizes(x: jax.Array, size: Sequence[int | None]) -> tuple[int, int]:
    rows, columns = (there if wanted is None else wanted for there, wanted in zip(x.shape[-2:], size, strict=True))
    return rows, columns


def _adaptive_avg_pool(x: jax.Array, size: Sequence[int | None]) -> Any:
    wanted, there = _sizes(x, size), (x.shape[-2], x.shape[-1])
    if wanted == there:
        return x
    if wanted == (1, 1):
        return global_avg_pool(x)
    if all(length % count == 0 for length, count in zip(there, wanted, strict=True)):
        return _avg_pool(x, [length // count for length, count in zip(there, wanted, strict=True)])
    return adaptive_avg_pool(x, sizes=wanted)


@partial(jax.jit, static_argnames="sizes")
def adaptive_avg_pool(x: jax.Array, *, sizes: tuple[int, int]) -> jax.Array:
    """Means of windows that are not all of one size."""

    def matrix(length: int, count: int) -> np.ndarray[Any, Any]:
        found = np.zeros((count, length), np.float32)
        for place, (start, end) in enumerate(_starts_and_ends(length, count)):
            found[place, start:end] = 1 / (end - start)
        return found

    return _along(x, *(matrix(length, count) for length, count in zip(x.shape[-2:], sizes, strict=True)))


def _adaptive_max_pool(x: jax.Array, size: Sequence[int | None]) -> tuple[jax.Array, None]:
    wanted = _sizes(x, size)
    for axis, count in zip((x.ndim - 2, x.ndim - 1), wanted, strict=True):
        parts = []
        for start, end in _starts_and_ends(x.shape[axis], count):
            window = [end - start if place == axis else 1 for place in range(x.ndim)]
            part = lax.slice_in_dim(x, start, end, axis=axis)
            parts.append(lax.reduce_window(part, -jnp.inf, lax.max, window, (1,) * x.ndim, "VALID"))
        x = jnp.concatenate(parts, axis)
    return x, None


# Interpolation


def _along(x: jax.Array, rows: np.ndarray[Any, Any], columns: np.ndarray[Any, Any]) -> jax.Array:
    """A matrix (new, old) times every column of an image, and one times every row."""
    highest = lax.Precision.HIGHEST
    last = x.ndim - 1
    y = lax.dot_general(x, jnp.asarray(rows, x.dtype), (((last - 1,), (1,)), ((), ())), precision=highest)
    y = jnp.swapaxes(y, -1, -2)
    return lax.dot_general(y, jnp.asarray(columns, x.dtype), (((last,), (1,)), ((), ())), precision=highest)


def _cubic(far: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The weight of a cell at this distance."""
    far = np.abs(far)
    near = ((CUBIC + 2) * far - (CUBIC + 3)) * far * far + 1
    further = ((CUBIC * far - 5 * CUBIC) * far + 8 * CUBIC) * far - 4 * CUBIC
    return np.where(far <= 1, near, np.where(far < 2, further, 0))


def _matrix(way: str, length: int, count: int, scale: float | None, *, align: bool) -> np.ndarray[Any, Any]:
    """(count, length): what each new cell is made of. PyTorch takes a scale that it is given for the true one."""
    step = length / count if scale is None else 1 / scale
    new, found = np.arange(count), np.zeros((count, length))
    if way in ("nearest", "nearest_exact"):
        from_ = np.floor((new + 0.5) * step) if way == "nearest_exact" else np.floor(new * step)
        found[new, np.minimum(from_.astype(int), length - 1)] = 1
        return found.astype(np.float32)
    last = max(count - 1, 1)
    place = new * ((length - 1) / last) if align else (new + 0.5) * step - 0.5
    place = np.maximum(place, 0) if way == "bilinear" else place
    cell = np.floor(place)
    for offset in (-1, 0, 1, 2):
        weights = (_linear if way == "bilinear" else _cubic)(place - cell - offset)
        np.add.at(found, (new, np.clip(cell + offset, 0, length - 1).astype(int)), weights)
    return found.astype(np.float32)


def _linear(far: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = np.maximum(0, 1 - np.abs(far))
    return found


@partial(jax.jit, static_argnames=("way", "size", "scales", "align"))
def upsample(
    x: jax.Array, *, way: str, size: tuple[int, int], scales: tuple[float | None, float | None], align: bool
) -> jax.Array:
    """An image of another size, larger or smaller."""
    numbers = zip(x.shape[-2:], size, scales, strict=True)
    return _along(x, *(_matrix(way, length, count, scale, align=align) for length, count, scale in numbers))


def _upsampled(
    way: str, x: jax.Array, size: Sequence[int] | None, scales: Sequence[float | None], *, align: bool = False
) -> Any:
    if size is None:
        rows, columns = (math.floor(n * scale) for n, scale in zip(x.shape[-2:], scales, strict=True) if scale)
        size = (rows, columns)
    return upsample(x, way=way, size=(size[0], size[1]), scales=(scales[0], scales[1]), align=align)


def _nearest(way: str) -> dict[str, Operation]:
    name = {"nearest": "upsample_nearest2d", "nearest_exact": "_upsample_nearest_exact2d"}[way]

    def by_scales(x: jax.Array, size: Any, scales: Any) -> Any:
        return _upsampled(way, x, size, scales or (None, None))

    def by_size(x: jax.Array, size: Any, high: float | None = None, wide: float | None = None) -> Any:
        return _upsampled(way, x, size, (high, wide))

    return {f"{name}.vec": by_scales, name: by_size}


def _smooth(way: str) -> dict[str, Operation]:
    def by_scales(x: jax.Array, size: Any, align: bool, scales: Any) -> Any:
        return _upsampled(way, x, size, scales or (None, None), align=align)

    def by_size(x: jax.Array, size: Any, align: bool, high: float | None = None, wide: float | None = None) -> Any:
        return _upsampled(way, x, size, (high, wide), align=align)

    return {f"upsample_{way}2d.vec": by_scales, f"upsample_{way}2d": by_size}


def _with_indices(function: Callable[..., jax.Array]) -> Operation:
    return lambda *arguments: (function(*arguments), None)


OPERATIONS: dict[str, Operation] = {
    **_nearest("nearest"),
    **_nearest("nearest_exact"),
    **_smooth("bilinear"),
    **_smooth("bicubic"),
    "_adaptive_avg_pool2d": _adaptive_avg_pool,
    "adaptive_avg_pool2d": _adaptive_avg_pool,
    "adaptive_max_pool2d": _adaptive_max_pool,
    **{f"avg_pool{axes}d": partial(_avg_pool, axes=axes) for axes in (1, 2, 3)},
    **{f"max_pool{axes}d": partial(_max_pool, axes=axes) for axes in (1, 2, 3)},
    "max_pool2d_with_indices": _with_indices(_max_pool),
}

"""PyTorch's operations that move, join, cut or make axes, and reductions and products over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxviz.doors.aten_elementwise import Operation, floating, together

PAD_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _view(x: jax.Array, shape: Sequence[int]) -> jax.Array:
    return jnp.reshape(x, tuple(shape))


def _flatten(x: jax.Array, start: int = 0, end: int = -1) -> jax.Array:
    start, end = start % x.ndim, end % x.ndim
    return jnp.reshape(x, (*x.shape[:start], -1, *x.shape[end + 1 :]))


def _transpose(x: jax.Array, first: int, second: int) -> jax.Array:
    return jnp.swapaxes(x, first, second)


def _squeeze(x: jax.Array, dims: int | Sequence[int] | None = None) -> jax.Array:
    wanted = range(x.ndim) if dims is None else (dims,) if isinstance(dims, int) else dims
    return lax.squeeze(x, [dim % x.ndim for dim in wanted if x.shape[dim] == 1])


def _expand(x: jax.Array, shape: Sequence[int], *, implicit: bool = False) -> jax.Array:  # noqa: ARG001
    own = (1,) * (len(shape) - x.ndim) + x.shape
    wanted = [there if length == -1 else length for length, there in zip(shape, own, strict=True)]
    return jnp.broadcast_to(jnp.reshape(x, own), wanted)


def _cat(arrays: Sequence[jax.Array], dim: int = 0) -> jax.Array:
    return jnp.concatenate(together(*[array for array in arrays if array.shape != (0,)]), axis=dim)


def _stack(arrays: Sequence[jax.Array], dim: int = 0) -> jax.Array:
    return jnp.stack(together(*arrays), axis=dim)


def _slice(x: jax.Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> jax.Array:
    first, last, _ = slice(start, end).indices(x.shape[dim])
    if (first, last, step) == (0, x.shape[dim], 1):
        return x
    return lax.slice_in_dim(x, first, max(first, last), step, axis=dim)


def _select(x: jax.Array, dim: int, index: int) -> jax.Array:
    return lax.index_in_dim(x, index, axis=dim, keepdims=False)


def _split(x: jax.Array, size: int | Sequence[int], dim: int = 0) -> list[jax.Array]:
    length = x.shape[dim]
    sizes = [min(size, length - start) for start in range(0, length, size)] if isinstance(size, int) else list(size)
    return list(lax.split(x, sizes, axis=dim % x.ndim))


def _chunk(x: jax.Array, chunks: int, dim: int = 0) -> list[jax.Array]:
    return _split(x, -(-x.shape[dim] // chunks), dim)


def _unbind(x: jax.Array, dim: int = 0) -> list[jax.Array]:
    return [_select(x, dim, index) for index in range(x.shape[dim])]


def _pad(x: jax.Array, pads: Sequence[int], mode: str = "constant", value: float | None = None) -> jax.Array:
    """PyTorch's pairs begin with the last axis; what is negative cuts."""
    pairs = [(0, 0)] * (x.ndim - len(pads) // 2) + list(zip(pads[::2], pads[1::2], strict=True))[::-1]
    if mode == "constant":
        return lax.pad(x, jnp.asarray(value or 0, x.dtype), [(low, high, 0) for low, high in pairs])
    return jnp.pad(x, pairs, mode=PAD_MODES[mode])


def _constant_pad(x: jax.Array, pads: Sequence[int], value: float = 0) -> jax.Array:
    return _pad(x, pads, "constant", value)


def _repeat(x: jax.Array, times: Sequence[int]) -> jax.Array:
    return jnp.tile(jnp.reshape(x, (1,) * (len(times) - x.ndim) + x.shape), times)


def _roll(x: jax.Array, shifts: int | Sequence[int], dims: int | Sequence[int] = ()) -> jax.Array:
    return jnp.roll(x, shifts, dims if isinstance(dims, int) or dims else None)


def _index(x: jax.Array, indices: Sequence[Any]) -> Any:
    return x[tuple(slice(None) if index is None else index for index in indices)]


def _pixel_shuffle(x: jax.Array, factor: int) -> jax.Array:
    *batch, channels, height, width = x.shape
    parts = x.reshape(*batch, channels // factor**2, factor, factor, height, width)
    start = len(batch)
    order = (*range(start), start, start + 3, start + 1, start + 4, start + 2)
    return jnp.transpose(parts, order).reshape(*batch, -1, height * factor, width * factor)


def _pixel_unshuffle(x: jax.Array, factor: int) -> jax.Array:
    *batch, channels, height, width = x.shape
    parts = x.reshape(*batch, channels, height // factor, factor, width // factor, factor)
    start = len(batch)
    order = (*range(start), start, start + 2, start + 4, start + 1, start + 3)
    return jnp.transpose(parts, order).reshape(*batch, -1, height // factor, width // factor)


def _channel_shuffle(x: jax.Array, groups: int) -> jax.Array:
    batch, channels, *rest = x.shape
    return jnp.swapaxes(x.reshape(batch, groups, channels // groups, *rest), 1, 2).reshape(x.shape)


# Arrays from nothing


def _arange(start: float, end: float, step: float = 1, *, dtype: Any = None, **_: Any) -> jax.Array:
    whole = all(isinstance(number, int) for number in (start, end, step))
    return jnp.asarray(np.arange(start, end, step), dtype or (jnp.int32 if whole else jnp.float32))


def _full(shape: Sequence[int], value: Any, *, dtype: Any = None, **_: Any) -> jax.Array:
    usual = jnp.bool_ if isinstance(value, bool) else jnp.int32 if isinstance(value, int) else jnp.float32
    return jnp.full(tuple(shape), value, dtype or usual)


def _full_like(x: jax.Array, value: Any, *, dtype: Any = None, **_: Any) -> jax.Array:
    return jnp.full(x.shape, value, dtype or x.dtype)


# Reductions


def _axes(x: jax.Array, dims: int | Sequence[int] | None) -> tuple[int, ...]:
    if dims is None or (not isinstance(dims, int) and len(dims) == 0):
        return tuple(range(x.ndim))
    return tuple(dim % x.ndim for dim in ((dims,) if isinstance(dims, int) else dims))


@jax.jit
def global_avg_pool(x: jax.Array) -> jax.Array:
    """The mean of every channel, the last two axes of one cell."""
    return jnp.mean(x, (-2, -1), keepdims=True)


def _mean(x: jax.Array, dims: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    x, axes = x if dtype is None else x.astype(dtype), _axes(x, dims)
    if keepdim and x.ndim == 4 and sorted(axes) == [2, 3]:
        return global_avg_pool(x)
    return jnp.mean(x, axes, keepdims=keepdim)


def _sum(x: jax.Array, dims: Any = None, keepdim: bool = False, *, dtype: Any = None) -> jax.Array:
    return jnp.sum(x if dtype is None else x.astype(dtype), _axes(x, dims), keepdims=keepdim)


def _amax(x: jax.Array, dims: Any = (), keepdim: bool = False) -> jax.Array:
    return jnp.max(x, _axes(x, dims), keepdims=keepdim)


def _amin(x: jax.Array, dims: Any = (), keepdim: bool = False) -> jax.Array:
    return jnp.min(x, _axes(x, dims), keepdims=keepdim)


def _max_dim(x: jax.Array, dim: int, keepdim: bool = False) -> tuple[Any, Any]:
    return jnp.max(x, dim % x.ndim, keepdims=keepdim), jnp.argmax(x, dim % x.ndim, keepdims=keepdim)


def _var(x: jax.Array, dims: Any = None, *, correction: float | None = None, keepdim: bool = False) -> jax.Array:
    axes = _axes(x, dims)
    from_mean = x - jnp.mean(x, axes, keepdims=True)
    count = math.prod(x.shape[axis] for axis in axes) - (1 if correction is None else correction)
    return jnp.sum(from_mean * from_mean, axes, keepdims=keepdim) / count


def _var_mean(x: jax.Array, dims: Any = None, **options: Any) -> tuple[jax.Array, jax.Array]:
    return _var(x, dims, **options), _mean(x, dims, options.get("keepdim", False))


def _vector_norm(
    x: jax.Array, order: float = 2, dims: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> jax.Array:
    axes, x = _axes(x, dims), x if dtype is None else x.astype(dtype)
    if order == 2:
        return jnp.sqrt(jnp.sum(x * x, axes, keepdims=keepdim))
    if order == 1:
        return jnp.sum(jnp.abs(x), axes, keepdims=keepdim)
    return jnp.sum(jnp.abs(x) ** order, axes, keepdims=keepdim) ** (1 / order)


OPERATIONS: dict[str, Operation] = {
    "_reshape_copy": _view,
    "_unsafe_view": _view,
    "amax": _amax,
    "amin": _amin,
    "arange": lambda end, **options: _arange(0, end, **options),
    "arange.start": _arange,
    "arange.start_step": _arange,
    "cat": _cat,
    "channel_shuffle": _channel_shuffle,
    "chunk": _chunk,
    "constant_pad_nd": _constant_pad,
    "cumsum": lambda x, dim, *, dtype=None: jnp.cumsum(x, dim, dtype=dtype or x.dtype),
    "expand": _expand,
    "flatten.using_ints": _flatten,
    "flip": lambda x, dims: jnp.flip(x, tuple(dims)),
    "full": _full,
    "full_like": _full_like,
    "index.Tensor": _index,
    "index_select": lambda x, dim, index: jnp.take(x, index, axis=dim),
    "linalg_vector_norm": _vector_norm,
    "max": lambda x: jnp.max(x),
    "max.dim": _max_dim,
    "mean": _mean,
    "mean.dim": _mean,
    "ones": lambda shape, **options: _full(shape, 1.0, **options),
    "ones_like": lambda x, **options: _full_like(x, 1, **options),
    "pad": _pad,
    "permute": lambda x, dims: jnp.transpose(x, [dim % x.ndim for dim in dims]),
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "repeat": _repeat,
    "reshape": _view,
    "roll": _roll,
    "scalar_tensor": lambda value, **options: _full((), value, **options),
    "select.int": _select,
    "slice.Tensor": _slice,
    "split.Tensor": _split,
    "split_with_sizes": _split,
    "squeeze": _squeeze,
    "squeeze.dim": _squeeze,
    "squeeze.dims": _squeeze,
    "stack": _stack,
    "sum": _sum,
    "sum.dim_IntList": _sum,
    "t": lambda x: jnp.swapaxes(x, -1, -2) if x.ndim == 2 else x,
    "transpose.int": _transpose,
    "unbind.int": _unbind,
    "unsqueeze": lambda x, dim: jnp.expand_dims(x, dim % (floating(x).ndim + 1)),
    "var.correction": _var,
    "var_mean.correction": _var_mean,
    "view": _view,
    "zeros": lambda shape, **options: _full(shape, 0.0, **options),
    "zeros_like": lambda x, **options: _full_like(x, 0, **options),
}

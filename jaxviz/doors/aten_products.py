"""PyTorch's matrix products, and attention, which is made of them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxviz.doors.aten_elementwise import Operation, together


def _softmax(x: jax.Array, dim: int, dtype: Any = None) -> jax.Array:
    """`_softmax` says in its third place whether the result is float32 where x is half of it: never here."""
    return jax.nn.softmax(x if not dtype else x.astype(dtype), dim)


def _log_softmax(x: jax.Array, dim: int, dtype: Any = None) -> jax.Array:
    return jax.nn.log_softmax(x if not dtype else x.astype(dtype), dim)


def linear(x: jax.Array, weight: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """An array times the transposed weight, (out, in), along the last axis of x, wherever the others are."""
    y = lax.dot_general(x, weight, (((x.ndim - 1,), (1,)), ((), ())))
    return y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + bias.shape)


def _addmm(bias: jax.Array, x: jax.Array, y: jax.Array, *, beta: float = 1, alpha: float = 1) -> jax.Array:
    product = jnp.matmul(x, y)
    product = product if alpha == 1 else product * alpha
    added, product = together(bias if beta == 1 else bias * beta, product)
    return jnp.asarray(product + added)


def _attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None = None,
    dropout: float = 0.0,  # noqa: ARG001  # in eval mode
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> jax.Array:
    if enable_gqa:
        times = query.shape[-3] // key.shape[-3]
        key, value = jnp.repeat(key, times, -3), jnp.repeat(value, times, -3)
    scores = jnp.matmul(query, jnp.swapaxes(key, -1, -2)) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    if mask is not None:
        mask = jnp.reshape(mask, (1,) * (scores.ndim - mask.ndim) + mask.shape)
        scores = jnp.where(mask, scores, -jnp.inf) if mask.dtype == jnp.bool_ else scores + mask.astype(scores.dtype)
    return jnp.matmul(jax.nn.softmax(scores, -1), value)


OPERATIONS: dict[str, Operation] = {
    "_log_softmax": lambda x, dim, half: _log_softmax(x, dim),  # noqa: ARG005
    "_softmax": lambda x, dim, half: _softmax(x, dim),  # noqa: ARG005
    "addmm": _addmm,
    "bmm": jnp.matmul,
    "linear": linear,
    "log_softmax.int": _log_softmax,
    "matmul": jnp.matmul,
    "mm": jnp.matmul,
    "mv": jnp.matmul,
    "scaled_dot_product_attention": _attention,
    "softmax.int": _softmax,
}

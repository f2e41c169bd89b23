"""PyTorch's operations on single numbers, activations among them. `OPERATIONS` is by PyTorch's names, without `aten.`.

Activations are those of `jax.nn` where there is one, so that they are known for what they are. Where two operands have
other types or numbers of axes, they are brought together as PyTorch does it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Operation = Callable[..., Any]


def together(*operands: Any) -> list[Any]:
    """Arrays of one type and one number of axes; Python's numbers stay what they are beside an array."""
    arrays = [operand for operand in operands if isinstance(operand, jax.Array)]
    if not arrays:
        return [jnp.asarray(operand, jnp.float32) for operand in operands]
    dtype = arrays[0].dtype
    for array in arrays[1:]:
        dtype = jnp.promote_types(dtype, array.dtype)
    numbers = [operand for operand in operands if not isinstance(operand, jax.Array)]
    if any(isinstance(number, float) for number in numbers) and not jnp.issubdtype(dtype, jnp.inexact):
        dtype = jnp.dtype(jnp.float32)
    elif dtype == jnp.bool_ and any(not isinstance(number, bool) for number in numbers):
        dtype = jnp.dtype(jnp.int32)
    rank = max(array.ndim for array in arrays)
    return [
        jnp.reshape(operand, (1,) * (rank - operand.ndim) + operand.shape).astype(dtype)
        if isinstance(operand, jax.Array)
        else operand
        for operand in operands
    ]


def floating(x: Any) -> jax.Array:
    """An array of float32 where it is one of whole numbers."""
    array = jnp.asarray(x)
    return array if jnp.issubdtype(array.dtype, jnp.inexact) else array.astype(jnp.float32)


def _binary(function: Operation) -> Operation:
    return lambda x, y: function(*together(x, y))


def _unary(function: Operation) -> Operation:
    return lambda x: function(floating(x))


def _add(x: Any, y: Any, *, alpha: float = 1) -> Any:
    x, y = together(x, y)
    return x + (y if alpha == 1 else y * alpha)


def _sub(x: Any, y: Any, *, alpha: float = 1) -> Any:
    x, y = together(x, y)
    return x - (y if alpha == 1 else y * alpha)


def _rsub(x: Any, y: Any, alpha: float = 1) -> Any:
    return _sub(y, x, alpha=alpha)


def _div(x: Any, y: Any, *, rounding_mode: str | None = None) -> Any:
    if rounding_mode is None:
        x = floating(x) if isinstance(x, jax.Array) else x
        x, y = together(x, floating(y) if isinstance(y, jax.Array) else y)
        return x / y
    x, y = together(x, y)
    return jnp.floor_divide(x, y) if rounding_mode == "floor" else jnp.trunc(x / y).astype(x.dtype)


def _clamp(x: jax.Array, low: Any = None, high: Any = None) -> Any:
    """The smallest first, so that 0 and 6 are known for a ReLU6."""
    if low is not None:
        x = jnp.maximum(*together(x, low))
    return x if high is None else jnp.minimum(*together(x, high))


def _hardtanh(x: jax.Array, low: float = -1.0, high: float = 1.0) -> Any:
    if (low, high) == (0, 6):
        return jax.nn.relu6(x)
    return jax.nn.hard_tanh(x) if (low, high) == (-1, 1) else _clamp(x, low, high)


def _where(condition: Any, x: Any, y: Any) -> Any:
    x, y = together(x, y)
    rank = max(jnp.ndim(item) for item in (condition, x, y))
    shapes = [(1,) * (rank - jnp.ndim(item)) + jnp.shape(item) for item in (condition, x, y)]
    condition, x, y = (jnp.reshape(item, shape) for item, shape in zip((condition, x, y), shapes, strict=True))
    return jnp.where(condition, x, y)


def _masked_fill(x: jax.Array, mask: Any, value: Any) -> Any:
    return _where(mask, jnp.asarray(value, x.dtype), x)


def _elu(x: jax.Array, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Any:
    if (scale, input_scale) == (1, 1):
        return jax.nn.elu(x, alpha)
    return scale * jnp.where(x > 0, x, alpha * jnp.expm1(jnp.minimum(x, 0) * input_scale))


def _softplus(x: jax.Array, beta: float = 1.0, threshold: float = 20.0) -> Any:  # noqa: ARG001
    """Above the threshold PyTorch gives x: within 2e-9 of this."""
    return jax.nn.softplus(x) if beta == 1 else jax.nn.softplus(x * beta) / beta


def _gelu(x: jax.Array, *, approximate: str = "none") -> Any:
    return jax.nn.gelu(x, approximate=approximate == "tanh")


@jax.jit
def prelu(x: jax.Array, slope: jax.Array) -> jax.Array:
    """Below zero a slope for each channel, the second axis."""
    if slope.size > 1 and slope.ndim == 1:
        slope = slope.reshape([-1 if axis == 1 else 1 for axis in range(x.ndim)])
    return jnp.where(x > 0, x, jnp.reshape(slope, (1,) * (x.ndim - slope.ndim) + slope.shape) * x)


def _glu(x: jax.Array, dim: int = -1) -> Any:
    return jax.nn.glu(x, dim)


def _threshold(x: jax.Array, threshold: float, value: float) -> Any:
    return jnp.where(x > threshold, x, jnp.asarray(value, x.dtype))


def _same(x: Any, *_: Any, **__: Any) -> Any:
    return x


def _cast(x: Any, dtype: Any = None, **_: Any) -> Any:
    return x if dtype is None else jnp.asarray(x).astype(dtype)


UNARY: dict[str, Operation] = {
    "cos": jnp.cos,
    "erf": jax.lax.erf,
    "exp": jnp.exp,
    "expm1": jnp.expm1,
    "log": jnp.log,
    "log1p": jnp.log1p,
    "reciprocal": lambda x: 1 / x,
    "rsqrt": lax.rsqrt,
    "sigmoid": jax.nn.sigmoid,
    "sin": jnp.sin,
    "sqrt": jnp.sqrt,
    "tanh": jnp.tanh,
}
COMPARISONS: dict[str, Operation] = {
    "eq": jnp.equal,
    "ge": jnp.greater_equal,
    "gt": jnp.greater,
    "le": jnp.less_equal,
    "lt": jnp.less,
    "ne": jnp.not_equal,
}
OPERATIONS: dict[str, Operation] = {
    **{name: _unary(function) for name, function in UNARY.items()},
    **{f"{name}.{kind}": _binary(f) for name, f in COMPARISONS.items() for kind in ("Tensor", "Scalar")},
    "abs": jnp.abs,
    "add.Scalar": _add,
    "add.Tensor": _add,
    "alias": _same,
    "atan2": _binary(jnp.arctan2),
    "bitwise_and.Tensor": _binary(jnp.bitwise_and),
    "bitwise_not": jnp.bitwise_not,
    "bitwise_or.Tensor": _binary(jnp.bitwise_or),
    "ceil": jnp.ceil,
    "celu": lambda x, alpha=1.0: jax.nn.celu(x, alpha),
    "clamp": _clamp,
    "clamp.Tensor": _clamp,
    "clamp_max": lambda x, high: _clamp(x, None, high),
    "clamp_min": _clamp,
    "clone": _same,
    "contiguous": _same,
    "detach": lambda x: lax.stop_gradient(x),
    "div.Scalar": _div,
    "div.Tensor": _div,
    "div.Tensor_mode": _div,
    "div.Scalar_mode": _div,
    "dropout": _same,  # in eval mode
    "elu": _elu,
    "floor": jnp.floor,
    "floor_divide": partial(_div, rounding_mode="floor"),
    "gelu": _gelu,
    "glu": _glu,
    "hardsigmoid": jax.nn.hard_sigmoid,
    "hardswish": jax.nn.hard_swish,
    "hardtanh": _hardtanh,
    "leaky_relu": lambda x, slope=0.01: jax.nn.leaky_relu(x, slope),
    "lift_fresh_copy": _same,
    "log_sigmoid": jax.nn.log_sigmoid,
    "logical_and": _binary(jnp.logical_and),
    "logical_not": jnp.logical_not,
    "logical_or": _binary(jnp.logical_or),
    "masked_fill.Scalar": _masked_fill,
    "masked_fill.Tensor": _masked_fill,
    "maximum": _binary(jnp.maximum),
    "minimum": _binary(jnp.minimum),
    "mish": jax.nn.mish,
    "mul.Scalar": _binary(lambda x, y: x * y),
    "mul.Tensor": _binary(lambda x, y: x * y),
    "neg": jnp.negative,
    "pow.Scalar": lambda x, y: jnp.power(jnp.asarray(x, floating(y).dtype), floating(y)),
    "pow.Tensor_Scalar": lambda x, y: floating(x) ** y,
    "pow.Tensor_Tensor": _binary(jnp.power),
    "prelu": prelu,
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "remainder.Scalar": _binary(jnp.remainder),
    "remainder.Tensor": _binary(jnp.remainder),
    "round": jnp.round,
    "rsub.Scalar": _rsub,
    "rsub.Tensor": _rsub,
    "selu": jax.nn.selu,
    "sign": jnp.sign,
    "silu": jax.nn.silu,
    "softplus": _softplus,
    "sub.Scalar": _sub,
    "sub.Tensor": _sub,
    "threshold": _threshold,
    "to.dtype": _cast,
    "_to_copy": _cast,
    "where.ScalarOther": _where,
    "where.ScalarSelf": _where,
    "where.self": _where,
}

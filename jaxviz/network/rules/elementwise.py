"""Elementwise operations, on values in whatever order their axes stand."""

from __future__ import annotations

import math
import operator
from typing import Any

import jax.numpy as jnp

from jaxviz.network.geometry import ELEMENTWISE
from jaxviz.network.graph import Graph
from jaxviz.network.jaxprs import SEPARATE_DERIVATIVE, Equation
from jaxviz.network.layout import Turned, in_order
from jaxviz.network.naming import ACTIVATIONS
from jaxviz.network.rules.base import Replayed, Settings

NOT_ELEMENTWISE = ("softmax", "log_softmax", "glu")


def is_elementwise(equation: Equation) -> bool:
    """Whether every number of the result is made of the numbers in its place."""
    if equation.name in SEPARATE_DERIVATIVE:
        kind = ACTIVATIONS.get(equation.function)
        return kind is not None and kind not in NOT_ELEMENTWISE
    return equation.name in ELEMENTWISE


def elementwise(graph: Graph, equation: Equation, settings: Settings) -> Replayed | None:
    """The operation on turned arrays, where one comes turned; else as it is."""
    if not is_elementwise(equation) or len(equation.outputs) != 1:
        return None
    shapes = [operand.shape for operand in equation.inputs]
    (output,) = equation.outputs

    def run(arguments: list[Any], redirected: bool) -> list[Any]:
        arguments = _alike(equation, arguments)
        found = [argument for argument in arguments if isinstance(argument, Turned)]
        if not found:
            return [_bound(equation, arguments)]
        order = max(found, key=lambda argument: math.prod(argument.shape)).order
        rest = [axis for axis, length in enumerate(output.shape) if length != 1 and axis not in order]
        order = (*order, *rest)
        arrays = [in_order(x, shape, order) for x, shape in zip(arguments, shapes, strict=True)]
        return [Turned(_bound(equation, arrays), order, output.shape)]

    return Replayed(equation.inputs, run, described(equation))


def _alike(equation: Equation, arguments: list[Any]) -> list[Any]:
    """Where one of the values that the network has in float32 is kept in bfloat16, the others in it too."""
    wide = [operand.dtype == jnp.float32 for operand in equation.inputs]
    kept = [getattr(argument, "dtype", None) == jnp.bfloat16 for argument in arguments]
    if not any(map(operator.and_, wide, kept)):
        return arguments
    return [_in_bfloat16(x) if is_wide else x for x, is_wide in zip(arguments, wide, strict=True)]


def _bound(equation: Equation, arrays: list[Any]) -> Any:
    """The result; what has a derivative of its own knows only the types that it was traced with."""
    (output,) = equation.outputs
    dtypes = [operand.dtype for operand in equation.inputs]
    kept = [getattr(array, "dtype", dtype) != dtype for array, dtype in zip(arrays, dtypes, strict=True)]
    if equation.name not in SEPARATE_DERIVATIVE or not any(kept):
        return equation.bind(arrays)[0]
    (found,) = equation.bind([jnp.asarray(array, dtype) for array, dtype in zip(arrays, dtypes, strict=True)])
    return found.astype(jnp.bfloat16) if output.dtype == jnp.float32 else found


def _in_bfloat16(x: Any) -> Any:
    return x.astype(jnp.bfloat16) if isinstance(x, Turned) else jnp.asarray(x, jnp.bfloat16)


def described(equation: Equation) -> str:
    """An operation in words: its name and parameters, and the shapes of what it takes."""
    params = ", ".join(f"{name}={value}" for name, value in sorted(equation.params.items()))
    if equation.function in ("relu", "relu6"):
        params = ""
    return f"{equation.name} {equation.function} {params} {[operand.shape for operand in equation.inputs]}"

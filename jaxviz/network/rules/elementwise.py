"""Elementwise operations, on values in whatever order their axes stand.

One with a derivative of its own is none of them: what it calls was traced for an order of axes and a type. Those of
`jax.nn` that matter are in `relu.py`.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import jax.numpy as jnp

from jaxviz.network.geometry import ELEMENTWISE
from jaxviz.network.graph import Graph
from jaxviz.network.jaxprs import Equation
from jaxviz.network.layout import Turned, in_order
from jaxviz.network.rules.base import Replayed, Settings


def elementwise(graph: Graph, equation: Equation, settings: Settings) -> Replayed | None:
    """The operation on turned arrays, where one comes turned; else as it is."""
    if equation.name not in ELEMENTWISE or len(equation.outputs) != 1:
        return None
    shapes = [operand.shape for operand in equation.inputs]
    (output,) = equation.outputs

    def run(arguments: list[Any], redirected: bool) -> list[Any]:
        arguments = _alike(equation, arguments)
        found = [argument for argument in arguments if isinstance(argument, Turned)]
        if not found:
            return equation.bind(arguments)
        order = max(found, key=lambda argument: math.prod(argument.shape)).order
        rest = [axis for axis, length in enumerate(output.shape) if length != 1 and axis not in order]
        order = (*order, *rest)
        arrays = [in_order(x, shape, order) for x, shape in zip(arguments, shapes, strict=True)]
        return [Turned(equation.bind(arrays)[0], order, output.shape)]

    return Replayed(equation.inputs, run, described(graph, equation))


def _alike(equation: Equation, arguments: list[Any]) -> list[Any]:
    """Where one of the values that the network has in float32 is kept in bfloat16, the others in it too."""
    wide = [operand.dtype == jnp.float32 for operand in equation.inputs]
    kept = [getattr(argument, "dtype", None) == jnp.bfloat16 for argument in arguments]
    if not any(map(operator.and_, wide, kept)):
        return arguments
    return [_in_bfloat16(x) if is_wide else x for x, is_wide in zip(arguments, wide, strict=True)]


def _in_bfloat16(x: Any) -> Any:
    return x.astype(jnp.bfloat16) if isinstance(x, Turned) else jnp.asarray(x, jnp.bfloat16)


def described(graph: Graph, equation: Equation) -> str:
    """An operation in words, with the shapes of what it takes."""
    through = tuple(place for place, operand in enumerate(equation.inputs) if graph.depends(operand))
    return f"{equation.said(through)} {[operand.shape for operand in equation.inputs]}"

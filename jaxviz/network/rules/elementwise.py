"""Elementwise operations, on values in whatever order their axes stand."""

from __future__ import annotations

import math
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
            return equation.bind(arguments)
        order = max(found, key=lambda argument: math.prod(argument.shape)).order
        rest = [axis for axis, length in enumerate(output.shape) if length != 1 and axis not in order]
        order = (*order, *rest)
        return [
            Turned(
                equation.bind([in_order(x, shape, order) for x, shape in zip(arguments, shapes, strict=True)])[0],
                order,
                output.shape,
            )
        ]

    # What has a derivative of its own was traced for the network's types and takes no others.
    return Replayed(equation.inputs, run, described(equation), keeps_bfloat16=equation.name not in SEPARATE_DERIVATIVE)


def _alike(equation: Equation, arguments: list[Any]) -> list[Any]:
    """Where a value is kept in bfloat16, the others of its type in it too."""
    dtypes = {argument.dtype for argument in arguments if hasattr(argument, "dtype")}
    if jnp.dtype(jnp.bfloat16) not in dtypes or equation.name == "convert_element_type":
        return arguments
    return [
        jnp.asarray(argument).astype(jnp.bfloat16)
        if not isinstance(argument, Turned) and jnp.asarray(argument).dtype == jnp.float32
        else argument.astype(jnp.bfloat16)
        if isinstance(argument, Turned) and argument.dtype == jnp.float32
        else argument
        for argument in arguments
    ]


def described(equation: Equation) -> str:
    """An operation in words: its name and parameters, and the shapes of what it takes."""
    params = ", ".join(f"{name}={value}" for name, value in sorted(equation.params.items()))
    if equation.function in ("relu", "relu6"):
        params = ""
    return f"{equation.name} {equation.function} {params} {[operand.shape for operand in equation.inputs]}"

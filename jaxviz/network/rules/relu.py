"""ReLU and ReLU6, however they are written, with the redirected gradient (redirect.py) where that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxviz.network.geometry import is_number
from jaxviz.network.graph import Graph
from jaxviz.network.jaxprs import RELUS, Equation, Operand
from jaxviz.network.layout import Turned
from jaxviz.network.naming import clipped_kind
from jaxviz.network.rules import redirect
from jaxviz.network.rules.base import Replayed, Settings
from jaxviz.network.rules.elementwise import elementwise

REDIRECTED: dict[str, Callable[[Any], Any]] = {"relu": redirect.relu, "relu6": redirect.relu6}
PLAIN: dict[str, Callable[[Any], Any]] = {"relu": jax.nn.relu, "relu6": jax.nn.relu6}


def named(graph: Graph, equation: Equation, settings: Settings) -> Replayed | None:
    """`jax.nn.relu` and `jax.nn.relu6`; what else is called so keeps the derivative that it has."""
    if not equation.relu:
        return None
    (operand,), function = equation.inputs, RELUS[equation.relu]
    usual = Replayed((operand,), lambda arguments, redirected: [_each(function, arguments[0])], "as in jax.nn")
    return _replaced(usual, operand, equation.relu)


def maximum(graph: Graph, equation: Equation, settings: Settings) -> Replayed | None:
    """max(x, 0)."""
    if clipped_kind(graph, equation) != "relu":
        return None
    (operand,) = graph.depending_inputs(equation)
    return _relu(graph, equation, settings, operand, "relu")


def clipped(graph: Graph, equation: Equation, settings: Settings) -> Replayed | None:
    """min(max(x, 0), 6)."""
    if clipped_kind(graph, equation) != "relu6":
        return None
    (inner,) = graph.depending_inputs(equation)
    maker = graph.maker(inner)
    assert maker is not None
    (operand,) = graph.depending_inputs(maker)
    plain = elementwise(graph, equation, settings)
    if plain is None:
        return None
    return _replaced(plain, operand, "relu6")


def clamped(graph: Graph, equation: Equation, settings: Settings) -> Replayed | None:
    """lax.clamp(0, x, 6)."""
    low, operand, high = equation.inputs
    if not (is_number(low, 0) and is_number(high, 6) and graph.depends(operand)):
        return None
    return _relu(graph, equation, settings, operand, "relu6")


def _relu(graph: Graph, equation: Equation, settings: Settings, operand: Operand, kind: str) -> Replayed | None:
    plain = elementwise(graph, equation, settings)
    return None if plain is None else _replaced(plain, operand, kind)


def _replaced(plain: Replayed, operand: Operand, kind: str) -> Replayed:
    """The operation itself, or where it is redirected the ReLU of `operand`, which comes last."""

    def of_one_image(x: Any) -> Any:
        return REDIRECTED[kind](x[None])[0]

    def run(arguments: list[Any], redirected: bool) -> list[Any]:
        *usual, x = arguments
        return [_each(of_one_image, x)] if redirected else plain.run(usual, redirected)

    return Replayed((*plain.inputs, operand), run, f"{kind} of the last, or {plain.said}")


def _each(function: Callable[[Any], Any], x: Any) -> Any:
    return x._replace(array=function(x.array)) if isinstance(x, Turned) else function(x)

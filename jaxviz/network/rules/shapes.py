"""Operations that move, add, remove or reduce axes, on values in whatever order their axes stand."""

from __future__ import annotations

from typing import Any

import jax
from jax import lax

from jaxviz.network.graph import Graph
from jaxviz.network.jaxprs import Equation
from jaxviz.network.layout import Turned, in_order, relabelled, same_long_axes, turned, whole
from jaxviz.network.rules.base import Replayed, Rule, Settings
from jaxviz.network.rules.elementwise import described


def transpose(graph: Graph, equation: Equation, settings: Settings) -> Replayed:
    """No array is moved: only what is said of its axes."""
    (operand,), (output,) = equation.inputs, equation.outputs
    moved = {int(old): new for new, old in enumerate(equation.params["permutation"])}

    def run(arguments: list[Any], redirected: bool) -> list[Any]:
        return [relabelled(arguments[0], operand.shape, output.shape, moved)]

    return Replayed(equation.inputs, run, described(graph, equation))


def reshape(graph: Graph, equation: Equation, settings: Settings) -> Replayed | None:
    """A reshape, or the like, that only adds or removes axes of length 1."""
    operand, (output,) = equation.inputs[0], equation.outputs
    moved = same_long_axes(operand.shape, output.shape)
    if equation.name == "broadcast_in_dim" and moved is not None:
        places = equation.params["broadcast_dimensions"]
        moved = {axis: int(places[axis]) for axis in moved}
    if moved is None or len(equation.inputs) > 1:
        return None

    def run(arguments: list[Any], redirected: bool) -> list[Any]:
        if not isinstance(arguments[0], Turned):
            return equation.bind(arguments)
        return [relabelled(arguments[0], operand.shape, output.shape, moved)]

    return Replayed(equation.inputs, run, described(graph, equation))


def pad(graph: Graph, equation: Equation, settings: Settings) -> Replayed | None:
    """A pad of axes that are there."""
    operand, (output,) = equation.inputs[0], equation.outputs
    config = [(int(low), int(high), int(inner)) for low, high, inner in equation.params["padding_config"]]
    if graph.depends(equation.inputs[1]) or any(
        operand.shape[axis] == 1 and padded != (0, 0, 0) for axis, padded in enumerate(config)
    ):
        return None

    def run(arguments: list[Any], redirected: bool) -> list[Any]:
        x, fill = arguments
        if not isinstance(x, Turned):
            return [lax.pad(x, _typed(fill, x), config)]
        return [Turned(lax.pad(x.array, _typed(fill, x), [config[axis] for axis in x.order]), x.order, output.shape)]

    return Replayed(equation.inputs, run, described(graph, equation))


def concatenate(graph: Graph, equation: Equation, settings: Settings) -> Replayed:
    """Values one behind the other, in the order of the first turned one."""
    shapes, (output,) = [operand.shape for operand in equation.inputs], equation.outputs
    along = equation.params["dimension"]

    def run(arguments: list[Any], redirected: bool) -> list[Any]:
        found = [argument for argument in arguments if isinstance(argument, Turned)]
        if not found or output.shape[along] == 1:
            return equation.bind([whole(argument) for argument in arguments])
        order = found[0].order
        order = (*order, *(axis for axis, n in enumerate(output.shape) if n != 1 and axis not in order))
        parts = [in_order(x, shape, order) for x, shape in zip(arguments, shapes, strict=True)]
        return [Turned(lax.concatenate(parts, order.index(along)), order, output.shape)]

    return Replayed(equation.inputs, run, described(graph, equation))


def cut(graph: Graph, equation: Equation, settings: Settings) -> Replayed:
    """Every so many rows, columns or channels from one to another."""
    (output,), params = equation.outputs, equation.params
    starts, ends = params["start_indices"], params["limit_indices"]
    steps = params["strides"] or (1,) * len(starts)

    def run(arguments: list[Any], redirected: bool) -> list[Any]:
        (x,) = arguments
        if not isinstance(x, Turned):
            return equation.bind(arguments)
        part = lax.slice(x.array, *([numbers[axis] for axis in x.order] for numbers in (starts, ends, steps)))
        return [_long(part, x.order, output.shape)]

    return Replayed(equation.inputs, run, described(graph, equation))


def split(graph: Graph, equation: Equation, settings: Settings) -> Replayed:
    """Parts one behind the other."""
    sizes, along = equation.params["sizes"], equation.params["axis"]

    def run(arguments: list[Any], redirected: bool) -> list[Any]:
        (x,) = arguments
        if not isinstance(x, Turned) or along not in x.order:
            return equation.bind([whole(x)])
        parts = lax.split(x.array, sizes, axis=x.order.index(along))
        return [_long(part, x.order, output.shape) for part, output in zip(parts, equation.outputs, strict=True)]

    return Replayed(equation.inputs, run, described(graph, equation))


def reduce(graph: Graph, equation: Equation, settings: Settings) -> Replayed:
    """A sum or maximum over axes. Its numbers are float32: bfloat16 would lose them in a sum."""
    (operand,), (output,) = equation.inputs, equation.outputs
    axes = {int(axis) for axis in equation.params["axes"]}
    left = [axis for axis in range(len(operand.shape)) if axis not in axes]
    over = lax.reduce_sum if equation.name == "reduce_sum" else lax.reduce_max

    def run(arguments: list[Any], redirected: bool) -> list[Any]:
        if not isinstance(arguments[0], Turned):
            return equation.bind(arguments)
        x = turned(arguments[0], operand.shape)
        reduced = over(x.array, tuple(place for place, axis in enumerate(x.order) if axis in axes))
        return [Turned(reduced, tuple(left.index(axis) for axis in x.order if axis not in axes), output.shape)]

    return Replayed(equation.inputs, run, described(graph, equation), keeps_bfloat16=False)


def _long(array: jax.Array, order: tuple[int, ...], shape: tuple[int, ...]) -> Turned:
    """A value whose array may have axes of length 1 still."""
    left = tuple(axis for axis in order if shape[axis] != 1)
    return Turned(array.reshape([shape[axis] for axis in left]), left, shape)


def _typed(fill: Any, x: Any) -> Any:
    return lax.convert_element_type(fill, x.dtype)


RULES: dict[str, tuple[Rule, ...]] = {
    "broadcast_in_dim": (reshape,),
    "concatenate": (concatenate,),
    "pad": (pad,),
    "reduce_max": (reduce,),
    "reduce_sum": (reduce,),
    "reshape": (reshape,),
    "slice": (cut,),
    "split": (split,),
    "squeeze": (reshape,),
    "transpose": (transpose,),
}

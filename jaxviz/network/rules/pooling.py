"""Pools over height and width with gradients that XLA:CPU runs fast; on an accelerator they run as they are.

As they are, on values in whatever order their axes stand.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from jaxviz.network.geometry import Geometry
from jaxviz.network.graph import Graph
from jaxviz.network.jaxprs import Equation, Value
from jaxviz.network.layout import Turned, arranged, from_arranged
from jaxviz.network.rules import cpu, plain
from jaxviz.network.rules.base import Replayed, Settings
from jaxviz.network.rules.elementwise import described

BY_AXIS = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")  # parameters


def maximum(graph: Graph, equation: Equation, settings: Settings) -> Replayed | None:
    """Maximum of windows; the gradient goes to the first maximum."""
    found = _read(graph, equation, settings)
    if found is None:
        return None
    axes, window, stride, pads = found
    reach = [-(-cells // step) * step for cells, step in zip(window, stride, strict=True)]
    if window != (1, 1) and reach[0] * reach[1] > cpu.LARGEST_POOL:
        return None
    (operand,) = equation.inputs

    def run(arguments: list[Any], redirected: bool) -> list[Any]:
        x = arranged(arguments[0], operand.shape, axes)
        shape = x.shape
        x = x.reshape(-1, *shape[-3:])
        if pads != ((0, 0), (0, 0)):
            x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf)
        y = cpu.max_pool(x, kernel=window, stride=stride)
        y = y.reshape(*shape[:-3], *y.shape[1:])
        return [from_arranged(y, equation.outputs[0].shape, axes)]

    # Of bfloat16 numbers a CPU takes the maximum in float32, one by one: slower than to widen all of them once.
    return Replayed(equation.inputs, run, f"max_pool {found} {operand.shape}", keeps_bfloat16=False)


def total(graph: Graph, equation: Equation, settings: Settings) -> Replayed | None:
    """Sum of windows, as a convolution of every channel with ones."""
    found = _read(graph, equation, settings)
    if found is None:
        return None
    axes, window, stride, pads = found
    (operand,) = equation.inputs

    def run(arguments: list[Any], redirected: bool) -> list[Any]:
        x = arranged(arguments[0], operand.shape, axes)
        shape = x.shape
        ones = jnp.ones((*window, shape[-1]), x.dtype)
        y = cpu.depthwise_conv(x.reshape(-1, *shape[-3:]), ones, stride=stride, pads=pads)
        y = y.reshape(*shape[:-3], *y.shape[1:])
        return [from_arranged(y, equation.outputs[0].shape, axes)]

    return Replayed(equation.inputs, run, f"sum_pool {found} {operand.shape}", keeps_bfloat16=False)


def as_it_is(graph: Graph, equation: Equation, settings: Settings) -> Replayed:
    """Any pool, in the order of axes in which its operand comes."""
    (operand,), (output,) = equation.inputs, equation.outputs

    def run(arguments: list[Any], redirected: bool) -> list[Any]:
        (x,) = arguments
        if not isinstance(x, Turned):
            return equation.bind(arguments)
        axes = (*(axis for axis in range(len(operand.shape)) if axis not in x.order), *x.order)
        params = {name: tuple(equation.params[name][axis] for axis in axes) for name in BY_AXIS}
        same = replace(equation, params=equation.params | params)
        return [from_arranged(y, output.shape, axes) for y in same.bind([arranged(x, operand.shape, axes)])]

    return Replayed(
        equation.inputs, run, described(graph, equation), keeps_bfloat16=equation.name != "reduce_window_sum"
    )


def _read(
    graph: Graph, equation: Equation, settings: Settings
) -> tuple[tuple[int, ...], tuple[int, int], tuple[int, int], plain.Pads] | None:
    """(axes with rows, columns, channels last, window, stride, pads) of a pool over rows and columns alone."""
    params, (operand,) = equation.params, equation.inputs
    own = graph.geometry.get(operand) if isinstance(operand, Value) else None
    if settings.platform != "cpu" or own is None or None in (own.rows, own.columns, own.channels):
        return None
    if set(params["base_dilation"]) != {1} or set(params["window_dilation"]) != {1}:
        return None
    rows, columns, channels = _axes(own)
    others = [axis for axis in range(len(operand.shape)) if axis not in (rows, columns, channels)]
    for axis in (*others, channels):
        if params["window_dimensions"][axis] != 1 or params["window_strides"][axis] != 1:
            return None
        if tuple(params["padding"][axis]) != (0, 0):
            return None
    pads = tuple((int(low), int(high)) for low, high in (params["padding"][rows], params["padding"][columns]))
    window = int(params["window_dimensions"][rows]), int(params["window_dimensions"][columns])
    stride = int(params["window_strides"][rows]), int(params["window_strides"][columns])
    if min(min(pair) for pair in pads) < 0:
        return None
    return (*others, rows, columns, channels), window, stride, (pads[0], pads[1])


def _axes(own: Geometry) -> tuple[int, int, int]:
    rows, columns, channels = own[:3]
    assert rows is not None
    assert columns is not None
    assert channels is not None
    return rows, columns, channels

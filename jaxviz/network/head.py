"""`Route`: how a layer is reached, and the constant head of a score that is linear in it.

The last operations in front of a layer are often affine in what is below: the convolution itself, its bias, a norm, a
sum of branches. The gradient of a linear score through them is a constant. It is found once, outside the loop, and the
loop ends below: at the values where the affine part begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxviz.network.graph import Graph
from jaxviz.network.jaxprs import Equation, Value
from jaxviz.network.program import Prepared, Program
from jaxviz.network.rules import Settings

LINEAR = frozenset(  # in all that depends on the image
    {"add", "add_any", "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "neg", "pad", "reduce_sum"}
    | {"reduce_window_sum", "reshape", "rev", "slice", "squeeze", "sub", "transpose"}
)
LINEAR_IN_ONE = frozenset({"conv_general_dilated", "dot_general", "mul"})


@dataclass(frozen=True)
class Route:
    """The programs that lead to a layer: `whole` to it; `lower` to where its affine part begins, `upper` from there.

    `lower` and `upper` are None where the layer is not affine in what is below.
    """

    whole: Program
    lower: Program | None = None
    upper: Program | None = None

    def prepare(self, weights: Any, constants: Sequence[Any] = ()) -> Prepared:
        """The arrays that its programs take."""
        found: Prepared = {}
        for program in (self.whole, self.lower, self.upper):
            if program is not None:
                found |= program.prepare(weights, constants)
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """(height, width, channels) or (channels,) of the layer."""
        return self.whole.shapes[0]

    def activation(self, prepared: Prepared, image: jax.Array, *, redirected: bool = False) -> jax.Array:
        """The layer of one image (height, width, channels), float32."""
        return self.whole.run(prepared, [image], redirected=redirected)[0]

    def below(self, prepared: Prepared, image: jax.Array, *, redirected: bool = False) -> list[jax.Array]:
        """The values in which the layer is affine."""
        assert self.lower is not None
        return self.lower.run(prepared, [image], redirected=redirected)

    def above(self, prepared: Prepared, below: Sequence[jax.Array]) -> jax.Array:
        """The layer from them."""
        assert self.upper is not None
        return self.upper.run(prepared, below)[0]

    def below_shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the values in which the layer is affine."""
        assert self.lower is not None
        return list(self.lower.shapes)


def route_to(graph: Graph, target: Value, settings: Settings) -> Route:
    """How a value is reached."""
    whole = Program(graph, [target], settings)
    frontier = affine_frontier(graph, target)
    if frontier is None:
        return Route(whole)
    return Route(whole, Program(graph, frontier, settings), Program(graph, [target], settings, known=frontier))


def affine_frontier(graph: Graph, target: Value) -> tuple[Value, ...] | None:
    """The values nearest to the image in which a target is affine, and that are all it rests on; None: itself only.

    A value that something else needs too is where the affine part begins: it is computed anyway.
    """
    path = graph.path_to([target])
    users: dict[Value, list[Equation]] = {}
    for equation in path:
        for operand in dict.fromkeys(graph.depending_inputs(equation)):
            users.setdefault(operand, []).append(equation)
    inside: set[int] = set()
    for equation in reversed(path):
        taken = [user for output in equation.outputs for user in users.get(output, [])]
        is_last = target in equation.outputs
        if (is_last or taken) and all(id(user) in inside for user in taken) and _is_affine(graph, equation):
            inside.add(id(equation))
    made_inside = {output for equation in path if id(equation) in inside for output in equation.outputs}
    frontier = [
        operand
        for equation in path
        if id(equation) in inside
        for operand in graph.depending_inputs(equation)
        if operand not in made_inside
    ]
    return tuple(dict.fromkeys(frontier)) if target in made_inside else None


def _is_affine(graph: Graph, equation: Equation) -> bool:
    depending = graph.depending_inputs(equation)
    if any(not jnp.issubdtype(value.dtype, jnp.floating) for value in (*depending, *equation.outputs)):
        return False
    if equation.name in LINEAR:
        return equation.name != "pad" or not graph.depends(equation.inputs[1])
    if equation.name in LINEAR_IN_ONE:
        return sum(graph.depends(operand) for operand in equation.inputs) == 1
    if equation.name == "div":
        return not graph.depends(equation.inputs[1])
    if equation.name == "reduce_window_max":  # of one cell: a strided slice
        return set(equation.params["window_dimensions"]) == {1} and set(map(tuple, equation.params["padding"])) == {
            (0, 0)
        }
    return False

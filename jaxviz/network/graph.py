"""`Graph`: a traced network, and what its equations say of each other.

What does not depend on the image (scales of batch norms, casts and turned kernels) is `fixed`: computed once, before
the loop. Everything else `depends` on the image and is computed for it, at every step.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from jaxviz.network.geometry import Geometry, geometries, macs
from jaxviz.network.jaxprs import Equation, Literal, Operand, Trace, Value


class Graph:
    """A trace with its uses, its axes and its costs."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.makers = {output: equation for equation in trace.equations for output in equation.outputs}
        self.depending: set[Operand] = {trace.image}
        for equation in trace.equations:
            if any(operand in self.depending for operand in equation.inputs):
                self.depending.update(equation.outputs)

    @cached_property
    def geometry(self) -> dict[Value, Geometry]:
        """Axes and receptive field of the values for which they are known."""
        return geometries(self.trace, self.depending)

    @cached_property
    def is_channels_first(self) -> bool:
        """Whether its convolutions have their channels in front of rows and columns."""
        return any(
            equation.params["dimension_numbers"].lhs_spec[1] != len(equation.inputs[0].shape) - 1
            for equation in self.trace.equations
            if equation.name == "conv_general_dilated" and self.depends(equation.outputs[0])
        )

    @cached_property
    def places(self) -> dict[Value, int]:
        """Each value's place in the order of computation; the image comes first."""
        made = {output: place for place, equation in enumerate(self.trace.equations) for output in equation.outputs}
        return {self.trace.image: -1} | made

    @cached_property
    def users(self) -> dict[Value, list[Equation]]:
        """The equations that depend on the image and take a value, for each that is taken."""
        found: dict[Value, list[Equation]] = {}
        for equation in self.trace.equations:
            if self.depends(equation.outputs[0]):
                for operand in dict.fromkeys(equation.inputs):
                    if isinstance(operand, Value):
                        found.setdefault(operand, []).append(equation)
        return found

    def beginning_at(self, known: Iterable[Value]) -> Graph:
        """The same graph, but that known values are given: nothing is seen of what makes them."""
        found, given = copy.copy(self), set(known)
        found.makers = {value: equation for value, equation in self.makers.items() if value not in given}
        return found

    def depends(self, operand: Operand) -> bool:
        """Whether a value depends on the image."""
        return operand in self.depending

    def maker(self, operand: Operand) -> Equation | None:
        """The equation that makes a value; None for arguments and numbers."""
        return self.makers.get(operand) if isinstance(operand, Value) else None

    def depending_inputs(self, equation: Equation) -> list[Value]:
        """The inputs that depend on the image, in order."""
        return [operand for operand in equation.inputs if isinstance(operand, Value) and self.depends(operand)]

    def path_to(self, targets: Iterable[Operand], *, known: Iterable[Value] = ()) -> list[Equation]:
        """The equations that targets need and that depend on the image, in order; `known` values need none."""
        needed, there = set(targets), set(known)
        path = []
        for equation in reversed(self.trace.equations):
            if any(output in needed and output not in there for output in equation.outputs) and any(
                self.depends(output) for output in equation.outputs
            ):
                path.append(equation)
                needed.update(operand for operand in equation.inputs if operand not in there)
        return path[::-1]

    def macs_to(self, target: Value) -> int:
        """Multiply-adds of one image's forward pass to a value: convolutions and matrix products, nothing else.

        An input gradient costs as many again, and a multiply-add is two FLOP.
        """
        below = self._products_below.get(target, 0)
        return sum(cost for place, cost in enumerate(self._costs) if below >> place & 1)

    @cached_property
    def _costs(self) -> list[int]:
        """Multiply-adds of the equations that depend on the image and have any, in order."""
        found = [macs(equation) for equation in self.trace.equations if self.depends(equation.outputs[0])]
        return [cost for cost in found if cost]

    @cached_property
    def _products_below(self) -> dict[Value, int]:
        """Of every value the places in `_costs` of what it rests on, as bits: for a whole table at once."""
        found: dict[Value, int] = {}
        place = 0
        for equation in self.trace.equations:
            if self.depends(equation.outputs[0]):
                bits = 0
                for operand in self.depending_inputs(equation):
                    bits |= found.get(operand, 0)
                if macs(equation):
                    bits |= 1 << place
                    place += 1
                found |= dict.fromkeys(equation.outputs, bits)
        return found

    def leaf_behind(self, operand: Operand) -> int | None:
        """The place among the weights of the array that a fixed value is made of; None where there is none.

        Of several arrays it is the one with as many numbers: what is in its way are casts, turns and scales.
        """
        numbers = math.prod(operand.shape)
        seen = operand
        while (equation := self.maker(seen)) is not None:
            large = [item for item in equation.inputs if isinstance(item, Value) and math.prod(item.shape) == numbers]
            if not large:
                return None
            seen = large[0]
        return self._leaf_places.get(seen) if isinstance(seen, Value) else None

    def leaves_behind(self, target: Value) -> list[int]:
        """The places of the weights that a value rests on."""
        operands = {operand for equation in self.path_to([target]) for operand in equation.inputs}
        fixed = {operand for operand in operands if not self.depends(operand)}
        taken = fixed | {operand for equation in self.fixed_equations(fixed) for operand in equation.inputs}
        return sorted(place for leaf, place in self._leaf_places.items() if leaf in taken)

    @cached_property
    def _leaf_places(self) -> dict[Value, int]:
        return {leaf: place for place, leaf in enumerate(self.trace.leaves)}

    def digest(self, operand: Operand) -> str:
        """A hash of what a fixed value is made of: weights by their places, operations, numbers."""
        if isinstance(operand, Literal):
            return f"{operand.value!r}:{operand.dtype}"
        if operand not in self._digests:
            equation = self.makers[operand]
            parts = [self.digest(part) for part in equation.inputs]
            text = f"{equation.said_of_values} {parts} {equation.outputs.index(operand)}"
            self._digests[operand] = hashlib.sha256(text.encode()).hexdigest()
        return self._digests[operand]

    @cached_property
    def _digests(self) -> dict[Value, str]:
        leaves = {leaf: f"leaf {place}" for place, leaf in enumerate(self.trace.leaves)}
        return leaves | {value: f"constant {place}" for place, value in enumerate(self.trace.constants)}

    def fixed_equations(self, operands: Iterable[Any]) -> list[Equation]:
        """The equations that fixed values need, in order."""
        needed = set(operands)
        path = []
        for equation in reversed(self.trace.equations):
            if any(output in needed for output in equation.outputs):
                path.append(equation)
                needed.update(equation.inputs)
        return path[::-1]

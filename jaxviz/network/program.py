"""`Program`: the part of a network that leads from one image to some values, ready to be run many times.

It is cut to what those values need, and what does not depend on the image is computed once, by `prepare`: that is what
`run` takes in place of weights. Equal programs are equal computations whatever the weights, so jit compiles them once.
It runs one image; put `jax.vmap` around it, whose batching of convolutions costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from jaxviz.network.graph import Graph
from jaxviz.network.jaxprs import ADDRESS, Equation, Literal, Operand, Value
from jaxviz.network.layout import Stored, arranged, from_arranged, whole
from jaxviz.network.rules import ELEMENTWISE_RULE, RULES, Replayed, Settings
from jaxviz.network.rules.base import Fixed
from jaxviz.network.rules.elementwise import described

Prepared = dict[str, jax.Array]  # by what each array is made of: equal keys of two sizes of a network are equal arrays
SPREADING = ("broadcast_in_dim", "iota")  # fixed operations that are cheaper done anew than read from memory


@dataclass(frozen=True)
class _Step:
    """An operation of the program: where its arguments are, how it runs, where its results go."""

    replayed: Replayed
    sources: tuple[str | Value | Literal, ...]  # the key of a prepared array, a value, a number
    outputs: tuple[Value, ...]
    shapes: tuple[tuple[int, ...], ...]


class Program:
    """From an image, or from other known values, to some values of a graph."""

    def __init__(
        self, graph: Graph, targets: Sequence[Value], settings: Settings, *, known: Sequence[Value] | None = None
    ) -> None:
        self.graph, self.targets, self.settings = graph, tuple(targets), settings
        self.known = (graph.trace.image,) if known is None else tuple(known)
        self._fixed: dict[str, Fixed] = {}
        self._steps = self._build()

    def prepare(self, weights: Any, constants: Sequence[Any] = ()) -> Prepared:
        """The arrays that `run` takes, from the model's weights and the arrays that the network closes over."""
        trace = self.graph.trace
        environment: dict[Any, Any] = dict(zip(trace.leaves, jax.tree.leaves(weights), strict=True))
        environment |= dict(zip(trace.constants, constants, strict=True))
        needed = [fixed.operand for fixed in self._fixed.values()]
        for equation in self.graph.fixed_equations(needed):
            if equation.outputs[0] not in environment:
                results = equation.bind([_read(environment, operand) for operand in equation.inputs])
                environment |= dict(zip(equation.outputs, results, strict=True))
        prepared = {}
        for key, fixed in self._fixed.items():
            array = _read(environment, fixed.operand)
            prepared[key] = array if fixed.make is None else fixed.make(array)
        return prepared

    def run(self, prepared: Prepared, known: Sequence[jax.Array], *, redirected: bool = False) -> list[jax.Array]:
        """The targets, float32, from the known values of one image.

        A known value and a target are (height, width, channels), or (channels,) where there is no map; where a value's
        axes are not known it is as the network has it.
        """
        environment: dict[Any, Any] = {}
        for value, array in zip(self.known, known, strict=True):
            if self.settings.keeps_bfloat16 and array.dtype == jnp.float32:
                array = array.astype(jnp.bfloat16)
            environment[value] = self._from_canonical(value, array)
        for step in self._steps:
            arguments = [
                prepared[source] if isinstance(source, str) else _read(environment, source) for source in step.sources
            ]
            if not step.replayed.keeps_bfloat16:
                arguments = list(map(_widened, step.sources, arguments))
            results = step.replayed.run(arguments, redirected)
            environment |= dict(zip(step.outputs, results, strict=True))
        return [self.canonical(target, environment[target]).astype(jnp.float32) for target in self.targets]

    def canonical(self, value: Value, stored: Stored) -> jax.Array:
        """A value of one image as (height, width, channels) or (channels,), where its axes are known."""
        axes = _canonical_axes(self.graph, value)
        if axes is None:
            return whole(stored)
        others = [axis for axis in range(len(value.shape)) if axis not in axes]
        shape = canonical_shape(self.graph, value)
        assert shape is not None
        return arranged(stored, value.shape, (*others, *axes)).reshape(shape)

    def _from_canonical(self, value: Value, array: jax.Array) -> Stored:
        axes = _canonical_axes(self.graph, value)
        if axes is None:
            return array.reshape(value.shape)
        others = [axis for axis in range(len(value.shape)) if axis not in axes]
        order = (*others, *axes)
        return from_arranged(array.reshape([value.shape[axis] for axis in order]), value.shape, order)

    @cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the targets, as `run` gives them."""
        return tuple(canonical_shape(self.graph, target) or target.shape for target in self.targets)

    @cached_property
    def _said(self) -> str:
        """All that decides the computation, in words."""
        numbers: dict[Any, int] = {value: place for place, value in enumerate(self.known)}
        lines = [f"{self.settings} {[value.shape for value in self.known]}"]

        def said(source: Any) -> str:
            if isinstance(source, str):
                return source
            if isinstance(source, Literal):
                return f"{source.value!r}:{source.dtype}"
            return f"v{numbers[source]}"

        for step in self._steps:
            numbers |= {output: len(numbers) + place for place, output in enumerate(step.outputs)}
            lines.append(f"{step.replayed.said} {[said(source) for source in step.sources]} {step.shapes}")
        lines.append(str([(said(target), _canonical_axes(self.graph, target)) for target in self.targets]))
        return "\n".join(lines)

    @property
    def fingerprint(self) -> str:
        """A hash of the computation that is the same in another process."""
        return hashlib.sha256(ADDRESS.sub("", self._said).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and self._said == other._said

    def __hash__(self) -> int:
        return hash(self._said)

    def _build(self) -> tuple[_Step, ...]:
        """The steps, from the last to the first, so that what a rule takes over is not there twice."""
        needed: set[Any] = set(self.targets)
        steps: list[_Step] = []
        there, graph = set(self.known), self.graph.beginning_at(self.known)
        spread: dict[Value, _Step] = {}
        for equation in reversed(self.graph.trace.equations):
            wanted = [output for output in equation.outputs if output in needed and output not in there]
            if not wanted or not self.graph.depends(equation.outputs[0]):
                continue
            replayed = _rule(graph, equation, self.settings)
            sources = tuple(self._source(operand, spread) for operand in replayed.inputs)
            needed.update(source for source in sources if isinstance(source, Value))
            steps.append(_Step(replayed, sources, equation.outputs, tuple(value.shape for value in equation.outputs)))
        return (*spread.values(), *reversed(steps))

    def _source(self, operand: Operand | Fixed, spread: dict[Value, _Step]) -> str | Value | Literal:
        """Where an operand is when the program runs."""
        if isinstance(operand, Literal):
            return operand
        fixed = operand if isinstance(operand, Fixed) else Fixed(operand)
        if isinstance(fixed.operand, Literal) or (isinstance(operand, Value) and self.graph.depends(operand)):
            return fixed.operand
        maker = self.graph.maker(fixed.operand)
        if not fixed.form and maker is not None and maker.name in SPREADING and fixed.operand.shape:
            self._spread(maker, spread)
            return fixed.operand
        return self._prepared(fixed)

    def _prepared(self, fixed: Fixed) -> str:
        key = hashlib.sha256(f"{self.graph.digest(fixed.operand)} {fixed.form}".encode()).hexdigest()[:20]
        self._fixed.setdefault(key, fixed)
        return key

    def _spread(self, equation: Equation, spread: dict[Value, _Step]) -> None:
        """A fixed operation that is done at every step."""
        if equation.outputs[0] in spread:
            return
        sources = tuple(self._source(operand, spread) for operand in equation.inputs)
        replayed = Replayed(equation.inputs, _as_it_is(equation), described(self.graph, equation))
        shapes = tuple(value.shape for value in equation.outputs)
        spread[equation.outputs[0]] = _Step(replayed, sources, equation.outputs, shapes)


def canonical_shape(graph: Graph, value: Value) -> tuple[int, ...] | None:
    """(height, width, channels) or (channels,) of a value; None where its axes are not known."""
    axes, own = _canonical_axes(graph, value), graph.geometry.get(value)
    if axes is None:
        return None
    if own is None or own.channels is None or len(value.shape) <= 2:
        return tuple(value.shape[axis] for axis in axes)[-3:]
    rows, columns = (1 if axis is None else value.shape[axis] for axis in own[:2])
    return rows, columns, value.shape[own.channels]


def _canonical_axes(graph: Graph, value: Value) -> tuple[int, ...] | None:
    """The axes of rows, columns and channels as far as they are there; None where a value has others too."""
    own = graph.geometry.get(value)
    if own is None or own.channels is None:  # what the network promises: (batch, height, width, channels)
        promised = len(value.shape) in (2, 4) and value.shape[0] == 1
        return tuple(range(1, len(value.shape))) if promised else None
    axes = tuple(axis for axis in own[:3] if axis is not None)
    others = [length for axis, length in enumerate(value.shape) if axis not in axes]
    return axes if all(length == 1 for length in others) else None


def _rule(graph: Graph, equation: Equation, settings: Settings) -> Replayed:
    for rule in RULES.get(equation.name, ()) if settings.rules else ():
        replayed = rule(graph, equation, settings)
        if replayed is not None:
            return replayed
    if settings.rules and (found := ELEMENTWISE_RULE(graph, equation, settings)) is not None:
        return found
    return Replayed(equation.inputs, _as_it_is(equation), described(graph, equation), keeps_bfloat16=False)


def _as_it_is(equation: Equation) -> Callable[[list[Any], bool], list[Any]]:
    def run(arguments: list[Any], redirected: bool) -> list[Any]:  # noqa: ARG001
        return equation.bind([whole(argument) for argument in arguments])

    return run


def _read(environment: dict[Any, Any], operand: Any) -> Any:
    return operand.value if isinstance(operand, Literal) else environment[operand]


def _widened(source: Any, argument: Any) -> Any:
    """An argument in the type that the network says, where it is kept in bfloat16."""
    is_kept = isinstance(source, Value) and source.dtype == jnp.float32 and argument.dtype == jnp.bfloat16
    return argument.astype(jnp.float32) if is_kept else argument

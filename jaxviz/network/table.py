"""`Layer`: what a model says of one of its layers, and the table of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from jaxviz.network.graph import Graph
from jaxviz.network.jaxprs import Equation, Value, every_equation, inner_jaxprs
from jaxviz.network.naming import Kinds, NamedGraph
from jaxviz.network.program import canonical_shape
from jaxviz.network.rules.convolution import slow_reason


@dataclass(frozen=True)
class Layer:
    """One layer at one image size.

    Attributes:
        name: what it is called.
        kind: "conv", "depthwise_conv", "batch_norm", "relu", "add", "dense", ...
        channels: how many filters it has.
        size: (height, width) of its map; None where it has none.
        receptive_field: side in pixels of the square that one cell sees; None where it sees the whole image.
        macs: multiply-adds of one image's forward pass up to it.
        slow: why it is a convolution without a fast gradient; None for all others.
    """

    name: str
    kind: str
    channels: int
    size: tuple[int, int] | None
    receptive_field: int | None
    macs: int
    slow: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(height, width, channels) or (channels,) of one image's activation."""
        return (self.channels,) if self.size is None else (*self.size, self.channels)


def describe(graph: NamedGraph, name: str, value: Value, kinds: Kinds, *, is_first: bool = True) -> Layer:
    """The layer that a value is; a second name of a value is an "identity"."""
    shape = canonical_shape(graph, value) or value.shape
    own = graph.geometry.get(value)
    field = None if own is None or own.field is None else int(max(own.field))
    begun = (kinds.kernel_below(value, set(graph.layers.values())) if graph.knows_others else None) or value
    return Layer(
        name=name,
        kind=kinds.of(begun) if is_first else "identity",
        channels=shape[-1],
        size=(shape[0], shape[1]) if len(shape) == 3 else None,
        receptive_field=field,
        macs=graph.macs_to(value),
        slow=_slow_values(graph).get(begun),
    )


@lru_cache(maxsize=4)
def _slow_values(graph: Graph) -> dict[Value, str]:
    return {output: reason for equation, reason in slow_convolutions(graph) for output in equation.outputs}


def slow_convolutions(graph: Graph) -> Iterator[tuple[Equation, str]]:
    """Convolutions that depend on the image and have no fast gradient, and why."""
    for equation in graph.trace.equations:
        if not graph.depends(equation.outputs[0]):
            continue
        if equation.name == "conv_general_dilated":
            reason = slow_reason(graph, equation)
            if reason is not None:
                yield equation, reason
        elif any(
            inner.primitive.name == "conv_general_dilated"
            for jaxpr in inner_jaxprs(equation.params)
            for inner in every_equation(jaxpr)
        ):
            yield equation, f"it is inside `{equation.function or equation.name}`, which is not opened"

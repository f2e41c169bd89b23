"""A network as a table: one `Layer` a row, in the order its own framework lists them.

The table is the single description of a network. From it come the Flax module (`layers.py`), the names and
shapes of its weights (the converters), output sizes, receptive fields and parameter counts. It holds names
and numbers only and does not import jax, so that `jaxviz models` and `jaxviz layers` answer at once.
Layout: images are (height, width, channels); kernels are (height, width, in, out), depthwise ones
(height, width, channels).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

Kind = Literal[
    "input",
    "pad",
    "conv",
    "depthwise_conv",
    "batch_norm",
    "relu",
    "relu6",
    "max_pool",
    "add",
    "identity",
    "global_avg_pool",
    "dense",
    "dense_softmax",
]
Padding = Literal["VALID", "SAME"]


@dataclass(frozen=True)
class Layer:
    """One row: what the layer computes from which other layers.

    `kernel`, `stride` and `padding` concern convolutions and pools; `border_px` the zero padding on each side
    of a `pad`; `bias` convolutions; `epsilon` batch norms.
    """

    name: str
    kind: Kind
    channels: int
    inputs: tuple[str, ...] = ()
    kernel: int = 1
    stride: int = 1
    padding: Padding = "VALID"
    border_px: int = 0
    bias: bool = False
    epsilon: float = 0.0


@dataclass(frozen=True)
class Graph:
    """An immutable, hashable network table; each layer's inputs stand above it."""

    layers: tuple[Layer, ...]

    @cached_property
    def by_name(self) -> dict[str, Layer]:
        """The rows by layer name."""
        return {layer.name: layer for layer in self.layers}

    @property
    def targets(self) -> tuple[str, ...]:
        """Names that can be rendered: every layer but the input."""
        return tuple(layer.name for layer in self.layers if layer.kind != "input")

    def path_to(self, target: str) -> Iterator[Layer]:
        """The layers that `target` depends on, itself last, in table order: nothing above it."""
        needed = {target}
        for layer in reversed(self.layers):
            if layer.name in needed:
                needed.update(layer.inputs)
        return (layer for layer in self.layers if layer.name in needed)

    def before_softmax(self) -> Graph:
        """The same table, weights and names, with logits where there are class probabilities."""
        return Graph(tuple(replace(row, kind="dense") if row.kind == "dense_softmax" else row for row in self.layers))

    def weight_shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Shape of every weight array: {layer: {parameter: shape}}."""
        shapes = {layer.name: self._shapes_of(layer) for layer in self.layers}
        return {name: arrays for name, arrays in shapes.items() if arrays}

    def parameter_count(self) -> int:
        """Numbers in all weight arrays, moving statistics included, as Keras counts them."""
        return sum(math.prod(shape) for arrays in self.weight_shapes().values() for shape in arrays.values())

    def output_sizes(self, height: int, width: int) -> dict[str, tuple[int, int]]:
        """(height, width) of every activation for one image size; 0 where nothing is left."""
        sizes: dict[str, tuple[int, int]] = {}
        for layer in self.layers:
            size = sizes[layer.inputs[0]] if layer.inputs else (height, width)
            sizes[layer.name] = (_output_length(layer, size[0]), _output_length(layer, size[1]))
        return sizes

    def receptive_fields(self) -> dict[str, int | None]:
        """Side in pixels of the input square that one cell sees; None where it sees the whole image."""
        fields: dict[str, int | None] = {}
        jumps: dict[str, int] = {}  # distance in input pixels between neighbouring cells
        for layer in self.layers:
            if not layer.inputs:
                fields[layer.name], jumps[layer.name] = 1, 1
                continue
            jump = jumps[layer.inputs[0]]
            seen = [fields[name] for name in layer.inputs]
            local = [field for field in seen if field is not None]
            whole_image = len(local) < len(seen) or layer.kind == "global_avg_pool"
            fields[layer.name] = None if whole_image else max(local) + (layer.kernel - 1) * jump
            jumps[layer.name] = jump * layer.stride
        return fields

    def macs(self, target: str, height: int, width: int) -> int:
        """Multiply-adds of one image's forward pass to `target`: convolutions and dense layers, nothing else.

        An input gradient costs as many again, and a multiply-add is two FLOP.
        """
        sizes = self.output_sizes(height, width)
        total = 0
        for layer in self.path_to(target):
            if layer.kind in ("conv", "depthwise_conv", "dense", "dense_softmax"):
                cells = math.prod(sizes[layer.name])
                in_channels = 1 if layer.kind == "depthwise_conv" else self.by_name[layer.inputs[0]].channels
                total += cells * layer.kernel**2 * in_channels * layer.channels
        return total

    def _shapes_of(self, layer: Layer) -> dict[str, tuple[int, ...]]:
        if layer.kind == "batch_norm":
            return {name: (layer.channels,) for name in ("gamma", "beta", "moving_mean", "moving_variance")}
        if layer.kind == "depthwise_conv":
            return {"kernel": (layer.kernel, layer.kernel, layer.channels)}
        if layer.kind in ("conv", "dense", "dense_softmax"):
            in_channels = self.by_name[layer.inputs[0]].channels
            square = (layer.kernel, layer.kernel) if layer.kind == "conv" else ()
            shapes: dict[str, tuple[int, ...]] = {"kernel": (*square, in_channels, layer.channels)}
            return shapes | ({"bias": (layer.channels,)} if layer.bias else {})
        return {}


class GraphBuilder:
    """Builds a `Graph` row by row; every method returns the new layer's name, to be fed to the next."""

    def __init__(self, channels: int = 3) -> None:
        self._layers: dict[str, Layer] = {"input_layer": Layer("input_layer", "input", channels)}

    def graph(self) -> Graph:
        """The finished table."""
        return Graph(tuple(self._layers.values()))

    def channels(self, name: str) -> int:
        """Channels of a layer that is already there."""
        return self._layers[name].channels

    def pad(self, x: str, name: str, *, border_px: int) -> str:
        """Zeros on all four sides."""
        return self._add(Layer(name, "pad", self.channels(x), (x,), border_px=border_px))

    def conv(
        self,
        x: str,
        name: str,
        *,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        padding: Padding = "VALID",
        bias: bool = False,
    ) -> str:
        """A square convolution."""
        return self._add(Layer(name, "conv", channels, (x,), kernel, stride, padding, bias=bias))

    def depthwise_conv(self, x: str, name: str, *, kernel: int, stride: int = 1) -> str:
        """One filter per channel, SAME padding, no bias."""
        return self._add(Layer(name, "depthwise_conv", self.channels(x), (x,), kernel, stride, "SAME"))

    def batch_norm(self, x: str, name: str, *, epsilon: float) -> str:
        """Inference-time batch norm over channels."""
        return self._add(Layer(name, "batch_norm", self.channels(x), (x,), epsilon=epsilon))

    def relu(self, x: str, name: str) -> str:
        """max(x, 0)."""
        return self._add(Layer(name, "relu", self.channels(x), (x,)))

    def relu6(self, x: str, name: str) -> str:
        """min(max(x, 0), 6)."""
        return self._add(Layer(name, "relu6", self.channels(x), (x,)))

    def max_pool(self, x: str, name: str, *, kernel: int, stride: int) -> str:
        """Maximum over a square window, no padding."""
        return self._add(Layer(name, "max_pool", self.channels(x), (x,), kernel, stride))

    def add(self, shortcut: str, branch: str, name: str) -> str:
        """The sum of a shortcut and a branch, in this order."""
        return self._add(Layer(name, "add", self.channels(branch), (shortcut, branch)))

    def identity(self, x: str, name: str) -> str:
        """A second name for a layer's output."""
        return self._add(Layer(name, "identity", self.channels(x), (x,)))

    def global_avg_pool(self, x: str, name: str) -> str:
        """Mean over the whole map: (channels,)."""
        return self._add(Layer(name, "global_avg_pool", self.channels(x), (x,)))

    def dense_softmax(self, x: str, name: str, *, channels: int) -> str:
        """Fully connected layer followed by softmax: class probabilities."""
        return self._add(Layer(name, "dense_softmax", channels, (x,), bias=True))

    def _add(self, layer: Layer) -> str:
        assert layer.name not in self._layers, layer.name
        self._layers[layer.name] = layer
        return layer.name


def _output_length(layer: Layer, length: int) -> int:
    if layer.kind == "global_avg_pool":
        return 1
    if layer.padding == "SAME":
        return -(-length // layer.stride)
    return max(0, (length + 2 * layer.border_px - layer.kernel) // layer.stride + 1)

"""The Flax NNX modules that the families are built from, and the network that runs a `Graph`.

Activations are float32, (batch, height, width, channels), in model space at the input; batch norm uses its
moving statistics. A weight's path in the module is `<layer>/<parameter>`, with Keras's parameter names, so
that weights are the plain dictionary {layer: {parameter: array}} everywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from jaxviz.models import convolution
from jaxviz.models.graph import Graph, Layer

Weights = Mapping[str, Mapping[str, Any]]  # {layer: {parameter: array}}


class Conv(nnx.Module):
    """A square convolution, with a bias where the layer has one."""

    def __init__(self, layer: Layer, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.layer = nnx.static(layer)
        self.kernel = nnx.Param(jnp.zeros(shapes["kernel"]))
        if layer.bias:
            self.bias = nnx.Param(jnp.zeros(shapes["bias"]))

    def __call__(self, x: Float[Array, "batch height width in"]) -> Float[Array, "batch height_out width_out out"]:
        """Convolve."""
        layer = self.layer
        y = convolution.conv(x, self.kernel[...], stride=layer.stride, padding=layer.padding)
        return y + self.bias[...] if layer.bias else y


class DepthwiseConv(nnx.Module):
    """One filter per channel, SAME padding."""

    def __init__(self, layer: Layer, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.layer = nnx.static(layer)
        self.kernel = nnx.Param(jnp.zeros(shapes["kernel"]))

    def __call__(self, x: Float[Array, "batch height width c"]) -> Float[Array, "batch height_out width_out c"]:
        """Convolve each channel by itself."""
        return convolution.depthwise_conv(x, self.kernel[...], stride=self.layer.stride)


class BatchNorm(nnx.Module):
    """Inference-time batch norm: (x - mean) / sqrt(variance + epsilon) * gamma + beta."""

    def __init__(self, layer: Layer, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.layer = nnx.static(layer)
        self.gamma = nnx.Param(jnp.ones(shapes["gamma"]))
        self.beta = nnx.Param(jnp.zeros(shapes["beta"]))
        self.moving_mean = nnx.BatchStat(jnp.zeros(shapes["moving_mean"]))
        self.moving_variance = nnx.BatchStat(jnp.ones(shapes["moving_variance"]))

    def __call__(self, x: Float[Array, "batch *map c"]) -> Float[Array, "batch *map c"]:
        """Normalise with the moving statistics."""
        scale = self.gamma[...] * lax.rsqrt(self.moving_variance[...] + self.layer.epsilon)
        return x * scale + (self.beta[...] - self.moving_mean[...] * scale)


class DenseSoftmax(nnx.Module):
    """Fully connected layer, then softmax."""

    def __init__(self, layer: Layer, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.layer = nnx.static(layer)
        self.kernel = nnx.Param(jnp.zeros(shapes["kernel"]))
        self.bias = nnx.Param(jnp.zeros(shapes["bias"]))

    def __call__(self, x: Float[Array, "batch in"]) -> Float[Array, "batch classes"]:
        """Class probabilities."""
        return jax.nn.softmax(x @ self.kernel[...] + self.bias[...])


MODULES = {"conv": Conv, "depthwise_conv": DepthwiseConv, "batch_norm": BatchNorm, "dense_softmax": DenseSoftmax}


class Network(nnx.Module):
    """The Flax module of a `Graph`: one submodule per layer that has weights, under the layer's name."""

    def __init__(self, graph: Graph) -> None:
        self.graph = nnx.static(graph)
        for name, shapes in graph.weight_shapes().items():
            layer = graph.by_name[name]
            setattr(self, name, MODULES[layer.kind](layer, shapes))

    def __call__(self, images: Float[Array, "batch height width 3"], layer: str) -> Float[Array, "batch ..."]:
        """The activation of `layer`; nothing that it does not depend on is computed."""
        activations: dict[str, jax.Array] = {}
        for row in self.graph.path_to(layer):
            activations[row.name] = self._apply(row, images, [activations[name] for name in row.inputs])
        return activations[layer]

    def activations(self, images: Float[Array, "batch height width 3"]) -> dict[str, jax.Array]:
        """Every layer's activation, in table order (for checks: it holds all of them at once)."""
        found: dict[str, jax.Array] = {}
        for row in self.graph.layers:
            found[row.name] = self._apply(row, images, [found[name] for name in row.inputs])
        return found

    def _apply(self, row: Layer, images: jax.Array, inputs: list[jax.Array]) -> jax.Array:
        match row.kind:
            case "input":
                return images
            case "pad":
                return convolution.zero_pad(inputs[0], row.border_px)
            case "relu":
                return jax.nn.relu(inputs[0])
            case "relu6":
                return jax.nn.relu6(inputs[0])
            case "max_pool":
                return convolution.max_pool(inputs[0], kernel=row.kernel, stride=row.stride)
            case "add":
                return inputs[0] + inputs[1]
            case "identity":
                return inputs[0]
            case "global_avg_pool":
                return inputs[0].mean(axis=(1, 2))
            case _:
                module = getattr(self, row.name)
                return module(inputs[0])  # type: ignore[no-any-return]


@dataclass(frozen=True)
class GraphForward:
    """`forward(weights, images, layer)` of a `Graph`; equal graphs are equal functions, so jit compiles once."""

    graph: Graph

    def __call__(
        self, weights: Weights, images: Float[Array, "batch height width 3"], layer: str
    ) -> Float[Array, "batch ..."]:
        """The activation of `layer`."""
        return self.network(weights)(images, layer)

    def network(self, weights: Weights) -> Network:
        """The Flax module holding these weights."""
        return nnx.merge(_definition(self.graph), nnx.State(weights))


@lru_cache(maxsize=16)
def _definition(graph: Graph) -> nnx.GraphDef[Network]:
    abstract = nnx.eval_shape(lambda: Network(graph))
    return nnx.split(abstract)[0]

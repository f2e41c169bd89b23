"""The Flax NNX modules that the families are built from, and the network that runs a `Graph`.

Activations are float32, (batch, height, width, channels), in model space at the input; batch norm uses its
moving statistics. A weight's path in the module is `<layer>/<parameter>`, with Keras's parameter names, so
that weights are the plain dictionary {layer: {parameter: array}} everywhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from jaxviz.models import redirect as redirected_relus
from jaxviz.models.convolution import PATHS, cpu
from jaxviz.models.convolution.plain import Pads
from jaxviz.models.graph import Graph, Layer

Weights = Mapping[str, Mapping[str, Any]]  # {layer: {parameter: array}}
Path = Literal["plain", "cpu", "rounded"]  # of convolution/


class Conv(nnx.Module):
    """A square convolution, with a bias where the layer has one."""

    def __init__(self, layer: Layer, shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
        self.layer, self.path = nnx.static(layer), nnx.static(path)
        self.kernel = nnx.Param(jnp.zeros(shapes["kernel"]))
        if layer.bias:
            self.bias = nnx.Param(jnp.zeros(shapes["bias"]))
        if path != "plain":
            self.gradient_kernel = nnx.Variable(cpu.gradient_kernel(self.kernel[...], stride=layer.stride))

    def __call__(
        self, x: Float[Array, "batch height width in"], border_px: int = 0
    ) -> Float[Array, "batch height_out width_out out"]:
        """Convolve, with `border_px` zeros around the image."""
        layer = self.layer
        for_gradient = None if self.path == "plain" else self.gradient_kernel[...]
        pads = _pads(x, layer, border_px)
        y: jax.Array = PATHS[self.path].conv(x, self.kernel[...], for_gradient, stride=layer.stride, pads=pads)
        return y + self.bias[...].astype(y.dtype)[None, None, None] if layer.bias else y


class DepthwiseConv(nnx.Module):
    """One filter per channel, SAME padding."""

    def __init__(self, layer: Layer, shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
        self.layer, self.path = nnx.static(layer), nnx.static(path)
        self.kernel = nnx.Param(jnp.zeros(shapes["kernel"]))

    def __call__(self, x: Float[Array, "batch height width c"]) -> Float[Array, "batch height_out width_out c"]:
        """Convolve each channel by itself."""
        pads = _pads(x, self.layer, 0)
        y: jax.Array = PATHS[self.path].depthwise_conv(x, self.kernel[...], stride=self.layer.stride, pads=pads)
        return y


class BatchNorm(nnx.Module):
    """Inference-time batch norm: (x - mean) / sqrt(variance + epsilon) * gamma + beta."""

    def __init__(self, layer: Layer, shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:  # noqa: ARG002
        self.layer = nnx.static(layer)
        self.gamma = nnx.Param(jnp.ones(shapes["gamma"]))
        self.beta = nnx.Param(jnp.zeros(shapes["beta"]))
        self.moving_mean = nnx.BatchStat(jnp.zeros(shapes["moving_mean"]))
        self.moving_variance = nnx.BatchStat(jnp.ones(shapes["moving_variance"]))

    def __call__(self, x: Float[Array, "batch *map c"]) -> Float[Array, "batch *map c"]:
        """Normalise with the moving statistics."""
        scale = self.gamma[...] * lax.rsqrt(self.moving_variance[...] + self.layer.epsilon)
        shift = self.beta[...] - self.moving_mean[...] * scale
        scale, shift = (jnp.broadcast_to(array.astype(x.dtype), x.shape) for array in (scale, shift))
        return x * scale + shift


class Dense(nnx.Module):
    """Fully connected layer."""

    def __init__(self, layer: Layer, shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:  # noqa: ARG002
        self.layer = nnx.static(layer)
        self.kernel = nnx.Param(jnp.zeros(shapes["kernel"]))
        self.bias = nnx.Param(jnp.zeros(shapes["bias"]))

    def __call__(self, x: Float[Array, "batch in"]) -> Float[Array, "batch classes"]:
        """Class logits, float32."""
        return (x @ self.kernel[...]).astype(jnp.float32) + self.bias[...][None]


class DenseSoftmax(Dense):
    """Fully connected layer, then softmax."""

    def __call__(self, x: Float[Array, "batch in"]) -> Float[Array, "batch classes"]:
        """Class probabilities."""
        return jax.nn.softmax(super().__call__(x))


MODULES = {
    "conv": Conv,
    "depthwise_conv": DepthwiseConv,
    "batch_norm": BatchNorm,
    "dense": Dense,
    "dense_softmax": DenseSoftmax,
}

# Kinds with one input, affine in it.
AFFINE = ("conv", "depthwise_conv", "batch_norm", "pad", "identity", "global_avg_pool", "dense")


class Padded(NamedTuple):
    """An activation and the zeros around it, which are left to the convolution that follows."""

    inner: jax.Array
    border_px: int


class Network(nnx.Module):
    """The Flax module of a `Graph`: one submodule per layer that has weights, under the layer's name."""

    def __init__(self, graph: Graph, path: Path = "plain", *, redirected: bool = False) -> None:
        self.graph, self.path = nnx.static(graph), nnx.static(path)
        self.redirected = nnx.static(redirected)
        for name, shapes in graph.weight_shapes().items():
            layer = graph.by_name[name]
            setattr(self, name, MODULES[layer.kind](layer, shapes, path))

    def __call__(self, images: Float[Array, "batch height width 3"], layer: str) -> Float[Array, "batch ..."]:
        """The activation of `layer`; nothing that it does not depend on is computed."""
        return self._run(images, self.graph.path_to(layer))[layer]

    def above(self, activation: Float[Array, "batch ..."], below: str, layer: str) -> Float[Array, "batch ..."]:
        """The activation of `layer` from that of `below`, where all paths to `layer` go through `below`."""
        rows = [row for row in self.graph.path_to(layer) if row.name not in {r.name for r in self.graph.path_to(below)}]
        return self._run(activation, rows, {below: activation})[layer]

    def activations(self, images: Float[Array, "batch height width 3"]) -> dict[str, jax.Array]:
        """Every layer's activation, in table order (for checks: it holds all of them at once)."""
        return self._run(images, self.graph.layers)

    def _run(
        self, images: jax.Array, rows: Iterable[Layer], known: Mapping[str, jax.Array] | None = None
    ) -> dict[str, jax.Array]:
        found: dict[str, jax.Array | Padded] = dict(known or {})
        for row in rows:
            found[row.name] = self._apply(row, images, [found[name] for name in row.inputs])
        return {name: self._whole(value) for name, value in found.items()}

    def _apply(self, row: Layer, images: jax.Array, inputs: list[jax.Array | Padded]) -> jax.Array | Padded:
        if row.kind == "input":
            return images
        if row.kind == "conv" and isinstance(inputs[0], Padded):
            convolved: jax.Array = getattr(self, row.name)(*inputs[0])
            return convolved
        x, *others = (self._whole(value) for value in inputs)
        match row.kind:
            case "pad":
                return Padded(x, row.border_px)
            case "relu":
                return redirected_relus.relu(x) if self.redirected else jax.nn.relu(x)
            case "relu6":
                return redirected_relus.relu6(x) if self.redirected else jax.nn.relu6(x)
            case "max_pool":
                pooled: jax.Array = PATHS[self.path].max_pool(x, kernel=row.kernel, stride=row.stride)
                return pooled
            case "add":
                return x + others[0]
            case "identity":
                return x
            case "global_avg_pool":
                return x.mean(axis=(1, 2))
            case _:
                return getattr(self, row.name)(x)  # type: ignore[no-any-return]

    def _whole(self, value: jax.Array | Padded) -> jax.Array:
        if not isinstance(value, Padded):
            return value
        border = (value.border_px, value.border_px)
        padded: jax.Array = PATHS[self.path].zero_pad(value.inner, (border, border))
        return padded


@dataclass(frozen=True)
class GraphForward:
    """`forward(weights, images, layer)` of a `Graph`; equal graphs are equal functions, so jit compiles once.

    As it comes it is the plain path, differentiable in everything. `fast` gives the one for many steps, `redirected`
    the one whose gradient revives dead filters, `before_softmax` the one whose classifier gives logits.
    """

    graph: Graph
    path: Path = "plain"
    dtype: str = "float32"
    redirect: bool = False

    def __call__(
        self, weights: Weights, images: Float[Array, "batch height width 3"], layer: str
    ) -> Float[Array, "batch ..."]:
        """The activation of `layer`, float32."""
        return self.network(weights)(images.astype(self._activation_dtype), layer).astype(jnp.float32)

    def network(self, weights: Weights) -> Network:
        """The Flax module holding these weights."""
        return nnx.merge(_definition(self.graph, self.path, self.redirect), nnx.State(weights))

    def redirected(self) -> GraphForward:
        """The same values, with the gradient of `redirect.py` at every ReLU."""
        return replace(self, redirect=True)

    def before_softmax(self) -> GraphForward:
        """The same layers and weights, but a classifier layer gives its logits in place of probabilities."""
        return replace(self, graph=self.graph.before_softmax())

    def fast(
        self, layer: str, *, platform: str, dtype: str = "float32", multiplies_bfloat16: bool = True
    ) -> GraphForward:
        """The forward pass to `layer`, nothing above it, on the fast path of a platform ("cpu", "gpu", "tpu").

        It takes the weights that its `prepare` returns. With `dtype` bfloat16 an accelerator holds kernels and
        activations in bfloat16; a CPU, which is no faster at that, takes bfloat16 operands for its larger matrix
        products only, or where it does not multiply bfloat16 numbers, float32 operands rounded to such. All add up in
        float32.
        """
        path: Path = "plain"
        if platform == "cpu":
            path = "rounded" if dtype == "bfloat16" and not multiplies_bfloat16 else "cpu"
        return replace(self, graph=Graph(tuple(self.graph.path_to(layer))), path=path, dtype=dtype)

    def prepare(self, weights: Weights) -> Weights:
        """From the model's weights those that are needed here, and what is computed from them once."""
        prepared = {name: dict(weights[name]) for name in self.graph.weight_shapes()}
        for row in self.graph.layers:
            if row.kind == "conv" and self.path != "plain":
                kernel = prepared[row.name]["kernel"]
                if self.dtype == "bfloat16" and cpu.takes_bfloat16(kernel.shape):
                    rounded = self.path == "rounded"
                    kernel = cpu.to_bfloat16_numbers(kernel) if rounded else kernel.astype("bfloat16")
                prepared[row.name]["kernel"] = kernel
                prepared[row.name]["gradient_kernel"] = cpu.gradient_kernel(kernel, stride=row.stride)
            elif row.kind in ("conv", "depthwise_conv", "dense", "dense_softmax") and self.path == "plain":
                prepared[row.name]["kernel"] = prepared[row.name]["kernel"].astype(self.dtype)
        return prepared

    def below_affine(self, layer: str) -> str | None:
        """The layer from which `layer` is an affine function: the input of the last convolutions, norms and the like.

        None where the layer is not affine in the one below it.
        """
        below = layer
        while (row := self.graph.by_name[below]).kind in AFFINE:
            (below,) = row.inputs
        return None if below == layer else below

    def above(
        self, weights: Weights, activation: Float[Array, "batch ..."], below: str, layer: str
    ) -> Float[Array, "batch ..."]:
        """The activation of `layer`, float32, computed from that of `below`, the only layer that it rests on."""
        activation = activation.astype(self._activation_dtype)
        return self.network(weights).above(activation, below, layer).astype(jnp.float32)

    @property
    def _activation_dtype(self) -> str:
        return self.dtype if self.path == "plain" else "float32"


@lru_cache(maxsize=64)
def _definition(graph: Graph, path: Path, redirected: bool) -> nnx.GraphDef[Network]:
    abstract = nnx.eval_shape(lambda: Network(graph, path, redirected=redirected))
    return nnx.split(abstract)[0]


def _pads(x: jax.Array, layer: Layer, border_px: int) -> Pads:
    """Zeros around an image: the border of a `pad` before it, and TensorFlow's SAME padding."""
    if layer.padding == "SAME":
        kernel, stride = (layer.kernel, layer.kernel), (layer.stride, layer.stride)
        (top, bottom), (left, right) = lax.padtype_to_pads(x.shape[1:3], kernel, stride, "SAME")
        return (int(top), int(bottom)), (int(left), int(right))  # NumPy's integers before JAX 0.9
    return (border_px, border_px), (border_px, border_px)

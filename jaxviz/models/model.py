"""`Model`: a network ready to be rendered, ours or anybody's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from jaxviz.errors import ConfigError, UnknownLayerError, WeightsError, nearest


@dataclass(frozen=True, eq=False)
class Model:
    """A frozen network.

    Attributes:
        name: what folders and messages call it.
        layers: names of its layers, in the network's own order; all are valid targets.
        weights: any pytree of arrays; an argument of the compiled function.
        forward: `forward(weights, images, layer) -> activation`. Images are float32 (batch, height, width, 3)
            in model space; the activation is (batch, height, width, channels) or (batch, channels). It should
            stop at the layer. Hashable: a function, or an object whose equality is that of what it computes.
        preprocess: RGB in [0, 255], (..., 3), to model space.
    """

    name: str
    layers: tuple[str, ...]
    weights: Any
    forward: Callable[[Any, Any, str], Any]
    preprocess: Callable[[Any], Any]

    @classmethod
    def from_callable(
        cls,
        forward: Callable[[Any, Any, str], Any],
        weights: Any,
        layers: Sequence[str],
        preprocess: Callable[[Any], Any],
        *,
        name: str = "custom",
    ) -> Model:
        """Wrap your own JAX network: Flax linen or NNX, Equinox, plain functions.

        For example, with a linen module that sows or captures its intermediates:

            def forward(weights, images, layer):
                _, state = module.apply(weights, images, capture_intermediates=True)
                return state["intermediates"][layer]["__call__"][0]

            model = Model.from_callable(forward, weights, ["Conv_0", "Conv_1"], lambda rgb: rgb / 255)

        Raises:
            WeightsError: `weights` hold a number that is not finite.
            ConfigError: `forward` or `preprocess` cannot be called, or `layers` is not a list of distinct names.
        """
        for argument, value in (("forward", forward), ("preprocess", preprocess)):
            if not callable(value):
                raise ConfigError(f"{argument} {value!r} cannot be called; give a function")
        names = (layers,) if isinstance(layers, str) else tuple(layers)
        if not names or not all(isinstance(layer, str) and layer for layer in names) or len(set(names)) < len(names):
            raise ConfigError(f"layers {layers!r} is not a list of distinct, non-empty layer names")
        arrays = jax.tree.map(jax.numpy.asarray, weights)
        for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
            # A NaN need not show later: XLA's ReLU on a CPU makes it a zero, and the filter would pass for dead.
            if jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact) and not jax.numpy.isfinite(leaf).all():
                raise WeightsError(f"weights{jax.tree_util.keystr(path)} hold NaN or infinity; give finite numbers")
        return cls(name, names, arrays, forward, preprocess)

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of names, shapes, types and values of all weights, whatever file they came from."""
        digest = hashlib.sha256()
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.weights):
            array = np.asarray(leaf)
            digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def check_layer(model: str, layer: str, layers: Sequence[str]) -> None:
    """Raise UnknownLayerError, naming the nearest, unless `layer` is one of the model's layers."""
    if layer not in layers:
        raise UnknownLayerError(f"{model} has no layer {layer!r}; {nearest(layer, layers)}. See: jaxviz layers {model}")

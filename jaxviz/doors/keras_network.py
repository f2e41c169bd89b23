"""A Keras model as a function of its weights and of images behind its preprocessing.

Model space begins behind the preprocessing that the model itself begins with. Rescaling, Normalization and arithmetic
with numbers become `preprocess`. What only changes an image's size, and augmentation, is left out: an image has the
size that its user asks for. A model that takes blue first is given red first all the same, its channels are turned
inside, so that pictures are in their true colors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxviz.doors.keras_backend import keras_on_jax
from jaxviz.doors.keras_preprocess import Step, read_beginning
from jaxviz.doors.keras_walk import Walk, is_opened
from jaxviz.errors import ConfigError

USUAL_SIDE = 224  # px, of the image at which a model that takes any is looked at

Weights = dict[str, dict[str, Any]]  # {layer's path: {name: array}}


@dataclass(frozen=True)
class KerasNetwork:
    """What `Model.from_callable` takes of a Keras model.

    Attributes:
        forward: (weights, images) to activations by the layer's name, images behind the preprocessing.
        weights: {layer's path: {name: array}}.
        preprocess: pixels to what `forward` takes.
        size: (height, width) at which the layers are looked up.
        channels: of the image.
        layers: their names.
        left_out: what the model begins with and `forward` does not do, in words.
    """

    forward: Callable[[Any, Any], Any]
    weights: Weights
    preprocess: Step
    size: tuple[int, int]
    channels: int
    layers: tuple[str, ...]
    left_out: tuple[str, ...]


def keras_network(
    model: Any,
    *,
    values: Callable[[Any], Any] = lambda variable: variable.value,
    before: Step | None = None,
    preprocess: Step | None = None,
    names: Callable[[Any], Mapping[int, str]] = lambda _: {},
    built_for: Callable[[tuple[int, int]], Any] | None = None,
) -> KerasNetwork:
    """A model of Keras's, on its JAX backend, with the layers of nested models.

    Args:
        model: functional or sequential; of another one the layers are found by their kernels.
        values: a variable's array, or its shape.
        before: pixels to what the model takes, where that is known.
        preprocess: pixels to what the layers behind the model's own preprocessing take, as the user gives it.
        names: a model's layers, by identity, under other names than their own.
        built_for: the same model for an image of another size, where it depends on that.

    Raises:
        ConfigError: no model, one of several inputs, one that takes no images, or begins with what has no place here.
    """
    keras = keras_on_jax()
    if not isinstance(model, keras.Model):
        raise ConfigError(argument="model", value=type(model).__name__, allowed="a keras.Model")
    height, width, channels, is_channels_first = _image_shape(model)
    size = (height or USUAL_SIDE, width or USUAL_SIDE)
    places, weights = _weights_of(model, values)
    forward = _Forward(keras, {size: model}, places, size, is_channels_first, names, built_for)
    with forward.scope(weights, model):
        walk = forward.looked_at(weights, channels)
        found = read_beginning(walk, [before] if before else [], channels, is_channels_first=is_channels_first)
    forward.skipped = found.skipped
    forward.order = found.affine.order
    forward.size = found.size or size
    is_known = before is not None or found.has_arithmetic
    return KerasNetwork(
        forward,
        weights,
        preprocess or (found.affine.pixels if is_known else _unknown(model.name)),
        forward.size,
        channels,
        tuple(walk.found),
        found.left_out,
    )


@dataclass(eq=False)
class _Forward:
    """`forward(weights, images)`."""

    keras: Any
    models: dict[tuple[int, int], Any]
    places: list[tuple[str, str]]  # of the model's variables among the weights: layer's path, name
    size: tuple[int, int]
    is_channels_first: bool
    names: Callable[[Any], Mapping[int, str]]
    built_for: Callable[[tuple[int, int]], Any] | None
    skipped: frozenset[int] = frozenset()
    order: tuple[int, ...] = ()

    def __call__(self, weights: Weights, images: Any) -> Any:
        walk, result = self.walk(weights, images)
        return walk.found if is_opened(self.keras, self.model(images.shape[1:3])) else result

    def model(self, size: tuple[int, ...]) -> Any:
        """The model for images of a size."""
        key = (size[0], size[1])
        if self.built_for is None:
            return next(iter(self.models.values()))
        if key not in self.models:
            self.models[key] = self.built_for(key)
        return self.models[key]

    def walk(self, weights: Weights, images: Any) -> tuple[Walk, Any]:
        """A run for images in model space; at another size than its own as far as the layers take it."""
        size = images.shape[1:3]
        if self.order != tuple(range(len(self.order))):
            images = images[..., jnp.asarray(self.order)]
        if self.is_channels_first:
            images = jnp.transpose(images, (0, 3, 1, 2))
        model = self.model(size)
        walk = Walk(self.keras, self.skipped, self.names(model))
        with self.scope(weights, model):
            try:
                return walk, walk.run(model, images)
            except (TypeError, ValueError):
                if tuple(size) == self.size or not walk.found:
                    raise
                return walk, None

    def looked_at(self, weights: Weights, channels: int) -> Walk:
        """A run for shapes alone."""
        walks = []

        def look(weights: Weights, images: Any) -> Any:
            walk, result = self.walk(weights, images)
            walks.append(walk)
            return result

        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), weights)
        jax.eval_shape(look, shapes, jax.ShapeDtypeStruct((1, *self.size, channels), jnp.float32))
        return walks[0]

    def scope(self, weights: Weights, model: Any) -> Any:
        """In it variables have these values; where there are only shapes, those that they begin with."""
        arrays = [weights[path][name] for path, name in self.places]
        known = list(zip(model.variables, arrays, strict=True))
        given = [(variable, value) for variable, value in known if not isinstance(value, jax.ShapeDtypeStruct)]
        return self.keras.StatelessScope(state_mapping=given, initialize_variables=False)


def _image_shape(model: Any) -> tuple[int | None, int | None, int, bool]:
    """Height, width, channels, and whether the model takes channels first."""
    shapes = [tuple(tensor.shape) for tensor in getattr(model, "inputs", None) or ()]
    if not shapes:
        raise ConfigError(
            f"model {model.name!r} does not say what it takes; build it first, model.build((None, 224, 224, 3)), or "
            "give a functional or sequential one"
        )
    if len(shapes) > 1 or len(shapes[0]) != 4:
        raise ConfigError(
            f"model {model.name!r} takes {', '.join(map(str, shapes))}; allowed is one image, (batch, height, width, "
            "channels)"
        )
    layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else model.layers
    formats = {getattr(layer, "data_format", None) for layer in layers}
    is_channels_first = "channels_first" in formats and "channels_last" not in formats
    _, height, width, channels = shapes[0]
    if is_channels_first:
        channels, height, width = shapes[0][1:]
    if channels is None:
        raise ConfigError(f"model {model.name!r} takes {shapes[0]}; its input must say how many channels there are")
    return height, width, channels, is_channels_first


def _weights_of(model: Any, values: Callable[[Any], Any]) -> tuple[list[tuple[str, str]], Weights]:
    """Where each variable is among the weights, and they."""
    places: list[tuple[str, str]] = []
    weights: Weights = {}
    for variable in model.variables:
        path, _, name = variable.path.rpartition("/")
        arrays = weights.setdefault(path, {})
        free, number = name, 1
        while free in arrays:  # two layers of one name, each in a model of its own
            number += 1
            free = f"{name}@{number}"
        arrays[free] = values(variable)
        places.append((path, free))
    return places, weights


def _unknown(name: str) -> Step:
    def preprocess(_: Any) -> Any:
        raise ConfigError(
            f"model {name!r} does not say what becomes of pixels: it begins with no Rescaling or Normalization",
            argument="preprocess",
            try_next="give it in Python, jaxviz.Model.from_keras(model, preprocess=lambda rgb: rgb / 127.5 - 1); the "
            "command line takes the function that returns that, FILE.py:FUNCTION",
        )

    return preprocess

"""A Keras model's layers one after the other, nested models opened: every layer's activation by its name.

A layer of a nested model is `base/conv1_conv`. One that is called again is `conv@2`. What is neither functional nor
sequential is one layer: its inside is its own affair.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Found = OrderedDict[str, Any]  # JAX keeps its order, where it sorts a dict


@dataclass(frozen=True)
class Call:
    """An operation of Keras's, what it was given, and its result."""

    operation: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    result: Any


@dataclass
class Walk:
    """A run through a model.

    Attributes:
        keras: the module.
        skipped: operations that give the image itself.
        names: of layers, by identity, in place of their own.
        image: what the model is given.
        found: activations by the layer's name, so far.
        calls: of operations, in order.
    """

    keras: Any
    skipped: frozenset[int] = frozenset()
    names: Mapping[int, str] = field(default_factory=dict)
    image: Any = None
    found: Found = field(default_factory=OrderedDict)
    calls: list[Call] = field(default_factory=list)

    def run(self, model: Any, images: Any, prefix: str = "") -> Any:
        """What a model gives for images."""
        self.image = images if self.image is None else self.image
        if is_functional(self.keras, model):
            # The graph's own interpreter: the public `call` refuses images of another size, and hides nested models.
            return model._run_through_graph(images, operation_fn=lambda layer: self._called(layer, prefix))
        if isinstance(model, self.keras.Sequential):
            for layer in model.layers:
                images = self._called(layer, prefix)(images)
            return images
        return model(images, **_inference(model))

    def _called(self, layer: Any, prefix: str) -> Callable[..., Any]:
        name = prefix + self.names.get(id(layer), layer.name)

        def call(*arguments: Any, **options: Any) -> Any:
            if id(layer) in self.skipped:
                return self.image
            if is_opened(self.keras, layer):
                result = self.run(layer, arguments[0], f"{name}/")
            else:
                options |= _inference(layer)
                result = layer(*arguments, **options)
                self.calls.append(Call(layer, arguments, options, result))
            if hasattr(result, "shape") and result is not self.image:
                self.found[_free(name, self.found)] = result
            return result

        return call


def is_functional(keras: Any, layer: Any) -> bool:
    """Whether a model is a graph of layers, and no class with a `call` of its own."""
    if not isinstance(layer, keras.Model) or not isinstance(layer, keras.Function):
        return False
    owner = next(cls for cls in type(layer).__mro__ if "call" in vars(cls))
    return owner.__name__ == "Functional" and owner.__module__.startswith("keras.")


def is_opened(keras: Any, layer: Any) -> bool:
    """Whether a layer is a model whose layers are those of the whole."""
    is_sequential = isinstance(layer, keras.Sequential) and type(layer).call is keras.Sequential.call
    return is_sequential or is_functional(keras, layer)


def _inference(layer: Any) -> dict[str, Any]:
    return {"training": False} if "training" in inspect.signature(layer.call).parameters else {}


def _free(name: str, taken: Found) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}@{number}"
    return free

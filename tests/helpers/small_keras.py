"""Fine-tuned networks as Keras users build and save them, by Keras 3 and Keras 2, of the shrunk ResNetV2.

Every function takes the module `keras` or `tf_keras`, and returns (the whole model, the known network in it).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tiny_files import CLASSES, RESNET_BLOCKS, RESNET_CHANNELS

SIDE = 64
ENDINGS = (".keras", ".weights.h5", ".h5")
Built = tuple[Any, Any]


def base(keras: Any, *, classes: int | None = None, input_tensor: Any = None, name: str = "resnet50v2") -> Any:
    """The network by Keras's own builder, under the names of ResNet50V2's layers."""
    builder = importlib.import_module(f"{keras.__name__}.src.applications.resnet")
    stack = getattr(builder, "stack_residual_blocks_v2", None) or builder.stack2

    def stacks(x: Any) -> Any:
        for number, (blocks, channels) in enumerate(zip(RESNET_BLOCKS, RESNET_CHANNELS, strict=True), start=2):
            stride = 1 if number == len(RESNET_BLOCKS) + 1 else 2
            x = stack(x, channels, blocks, stride1=stride, name=f"conv{number}")
        return x

    named = {"name" if "name" in builder.ResNet.__code__.co_varnames else "model_name": name}
    shape = (SIDE, SIDE, 3) if input_tensor is None else None
    options = {"include_top": classes is not None, "classes": classes or CLASSES, "weights": None} | named
    network = builder.ResNet(stacks, True, True, input_shape=shape, input_tensor=input_tensor, **options)
    rng = np.random.default_rng(len(network.layers))
    for layer in network.layers:
        if type(layer).__name__ in ("Conv2D", "BatchNormalization", "Dense"):  # what stands before it keeps its numbers
            arrays = layer.get_weights()
            layer.set_weights([rng.random(array.shape, np.float32) + np.float32(0.5) for array in arrays])
    return network


def image(keras: Any) -> Any:
    return keras.Input((SIDE, SIDE, 3))


def head(keras: Any, x: Any, classes: int = 5) -> Any:
    layers = keras.layers
    return layers.Dense(classes)(layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x)))


def nested(keras: Any) -> Built:
    """The transfer learning tutorial: augmentation, preprocessing by operators, the network called, a head."""
    layers, i, network = keras.layers, image(keras), base(keras)
    augmentation = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.2)])
    x = keras.applications.resnet_v2.preprocess_input(augmentation(i))
    return keras.Model(i, head(keras, network(x, training=False))), network


def nested_twice(keras: Any) -> Built:
    """A model that is called by another one."""
    layers, i, j, network = keras.layers, image(keras), image(keras), base(keras)
    middle = keras.Model(i, network(layers.Rescaling(1 / 127.5, offset=-1)(i)), name="middle")
    return keras.Model(j, head(keras, middle(layers.RandomZoom(0.1)(j)))), network


def sequential(keras: Any) -> Built:
    layers, network = keras.layers, base(keras)
    parts = [image(keras), layers.Rescaling(1 / 127.5, offset=-1), network]
    if keras.__name__ == "tf_keras":
        parts[0] = layers.InputLayer((SIDE, SIDE, 3))
    return keras.Sequential([*parts, layers.GlobalAveragePooling2D(), layers.Dense(5)]), network


def flat(keras: Any) -> Built:
    network = base(keras)
    return keras.Model(network.input, head(keras, network.output)), network


def five_classes(keras: Any) -> Built:
    network = base(keras, classes=5)
    return network, network


def trained(keras: Any) -> Built:
    """With the state of Adam and of random generators; the trained numbers differ from those at the start."""
    model, network = nested(keras)
    model.compile("adam", "mse")
    model.fit(np.ones((1, SIDE, SIDE, 3)), np.ones((1, 5)), verbose=0)
    return model, network


SHAPES: dict[str, Callable[[Any], Built]] = {
    shape.__name__: shape for shape in (nested, nested_twice, sequential, flat, five_classes, trained)
}


def preprocessed(keras: Any, before: Callable[[Any], Any]) -> Built:
    """The network behind `before`, in one flat model."""
    i = image(keras)
    network = base(keras, input_tensor=before(i))
    return network, network


def save(model: Any, path: Path) -> Path:
    """By what its ending says, as users do."""
    (model.save_weights if path.name.endswith(".weights.h5") else model.save)(path)
    return path

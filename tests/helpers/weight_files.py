"""Weight files for the converter's tests: written by the frameworks themselves, or by h5py in their layouts.

All hold the same values, every array another, so that any mix-up shows.
"""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np

from jaxviz.models import weight_shapes

Weights = dict[str, dict[str, np.ndarray]]

KERAS_FORMATS = {
    "keras 3 .weights.h5": "k3.weights.h5",
    "keras 3 .keras": "k3.keras",
    "keras 3 legacy whole model": "k3_model.h5",
    "keras 2 legacy weights": "k2_weights.h5",
    "keras 2 .weights.h5 (no name attributes)": "k2.weights.h5",
}


def random_weights(model_name: str, *, head: bool, seed: int = 0) -> Weights:
    """Distinct finite values for every weight of a model; those without head are the first of those with it."""
    rng = np.random.default_rng(seed)
    shapes = weight_shapes(model_name, head=head)
    return {
        layer: {name: rng.random(shape, np.float32) + np.float32(0.5) for name, shape in parameters.items()}
        for layer, parameters in shapes.items()
    }


def write_legacy_h5(path: Path, weights: Weights, *, suffix: str = ":0", as_bytes: bool = True) -> Path:
    """A legacy weights file, in the layout of Keras 2's `save_weights`, layers in the given order."""
    text: Callable[[str], object] = (lambda name: name.encode()) if as_bytes else str
    with h5py.File(path, "w") as root:
        root.attrs["layer_names"] = [text(name) for name in weights]
        for layer, parameters in weights.items():
            group = root.create_group(layer)
            names = [f"{layer}/{name}{suffix}" for name in parameters]
            group.attrs["weight_names"] = [text(name) for name in names]
            for name, array in zip(names, parameters.values(), strict=True):
                group[name] = array
    return path


def assert_same_weights(found: Weights, expected: Weights) -> None:
    """Same layers, same parameters, same bits."""
    assert {layer: set(arrays) for layer, arrays in found.items()} == {
        layer: set(arrays) for layer, arrays in expected.items()
    }
    different = [
        f"{layer}/{name}"
        for layer, arrays in expected.items()
        for name, array in arrays.items()
        if found[layer][name].dtype != np.float32 or not np.array_equal(found[layer][name], array)
    ]
    assert not different, different


@functools.cache
def keras_weights() -> Weights:
    """What all files of `write_keras_files` hold."""
    return random_weights("resnet50v2", head=True)


def write_keras_files(folder: Path) -> None:
    """ResNet50V2 with head in every format, written by Keras 3 and Keras 2 themselves; `notop.h5` without head.

    `finetuned.keras` has it within another model.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's and Keras's own, while they are imported and save
        import keras
        import tf_keras

        keras.backend.clear_session()
        new = keras.applications.ResNet50V2(weights=None)
        old = tf_keras.applications.ResNet50V2(weights=None)
        notop = tf_keras.applications.ResNet50V2(weights=None, include_top=False)
        new.set_weights([_value(variable.path) for variable in new.weights])
        old.set_weights([_value(variable.name) for variable in old.weights])
        notop.set_weights([_value(variable.name) for variable in notop.weights])
        new.save_weights(folder / "k3.weights.h5")
        new.save(folder / "k3.keras")
        new.save(folder / "k3_model.h5")
        old.save_weights(folder / "k2_weights.h5")
        old.save_weights(folder / "k2.weights.h5")
        notop.save_weights(folder / "notop.h5")
        finetuned = _finetuned(keras)
        finetuned.save(folder / "finetuned.keras")


def _finetuned(keras: ModuleType) -> Any:
    """The network within a model of five classes, behind augmentation and the usual preprocessing."""
    base = keras.applications.ResNet50V2(weights=None, include_top=False, input_shape=(64, 64, 3))
    base.set_weights([_value(variable.path) for variable in base.weights])
    image = keras.Input((64, 64, 3))
    x = keras.applications.resnet_v2.preprocess_input(keras.layers.RandomFlip()(image))
    return keras.Model(image, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(base(x, training=False))))


def _value(variable: str) -> np.ndarray:
    layer, name = variable.removesuffix(":0").split("/")
    return keras_weights()[layer][name]


def torch_bytes(state: object, *, zipped: bool) -> bytes:
    """What torch.save writes, in the zip container or the old one."""
    import torch

    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()

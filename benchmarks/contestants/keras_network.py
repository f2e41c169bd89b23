"""The Keras network of the three contestants that use one, with the race's weights set by name."""

from __future__ import annotations

from typing import Any

import safetensors.numpy

from benchmarks.settings import Task


def keras_network(task: Task) -> Any:
    """`keras.applications.ResNet50V2` without its head, on whatever backend KERAS_BACKEND says."""
    import keras

    network = keras.applications.ResNet50V2(
        weights=None, include_top=False, input_shape=(task.size, task.size, 3), pooling=None
    )
    arrays = safetensors.numpy.load_file(task.weights)
    for layer in network.layers:
        for variable in layer.weights:
            variable.assign(arrays.pop(f"{layer.name}/{variable.name}"))
    assert not arrays, f"not in Keras's network: {sorted(arrays)}"
    return network


def keras_extractor(network: Any, layer: str) -> Any:
    """The network up to a layer."""
    import keras

    return keras.Model(network.input, network.get_layer(layer).output)

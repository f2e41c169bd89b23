"""The Keras network of the contestants that use one, with the race's weights set by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import safetensors.numpy

from benchmarks.settings import Task


def keras_network(task: Task, policy: str = "float32") -> Any:
    """`keras.applications.ResNet50V2` without its head, on whatever backend KERAS_BACKEND says.

    Its layers compute in the dtype of `policy`, Keras's word; their weights stay float32.
    """
    import keras

    with _dtype_policy(policy):
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


@contextmanager
def _dtype_policy(policy: str) -> Iterator[None]:
    """Layers that are made meanwhile have it, and the process's own is as before."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)

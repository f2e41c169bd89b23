"""Keras weight files to a model's weights and preprocessing, through h5py and without TensorFlow.

Read are legacy `.h5` (weights, and whole models), `.weights.h5`, and `.keras`, a zip that holds the second as
`model.weights.h5` and the model's configuration as `config.json`. The known network may stand in them alone, within
other models, or between other layers.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxviz.errors import WeightsError
from jaxviz.models import weight_shapes
from weights_convert.archives import open_zip, read_member
from weights_convert.hdf5_arrays import arrays_of, open_hdf5, text_attribute
from weights_convert.keras_config import NoSuchLayer, Step, UnclearConfig, steps_before
from weights_convert.keras_layouts import legacy_arrays, numbered_arrays
from weights_convert.keras_preprocessing import Surroundings, refuse_statistics, understood
from weights_convert.match import FileArrays, MatchedWeights, is_state, match_arrays
from weights_convert.preprocessing import CHANNELS

ZIP_MEMBER = "model.weights.h5"
CONFIG_MEMBER = "config.json"
MODEL_CONFIG = "model_config"  # the attribute of a whole-model .h5
MAX_CONFIG_BYTES = 2**26
FIRST_PAD = "conv1_pad"  # in front of the first layer with weights, and part of the network
ALONE = "network.save_weights('network.weights.h5') of the ResNetV2 itself, as model.get_layer('resnet50v2') gives it"


class KerasWeights(NamedTuple):
    """A network from a Keras file; `unclear` says why it is not known what stands before it."""

    weights: MatchedWeights
    surroundings: Surroundings
    unclear: str = ""


def read_keras_hdf5(file: Path | bytes, model_name: str, *, origin: str, config: bytes | None = None) -> KerasWeights:
    """The weights of `model_name` from a legacy `.h5` or a `.weights.h5` file, `config` that of the model around it.

    Raises:
        WeightsError: truncated, damaged, another kind of HDF5 file, another network's weights, or there is something
            before the network that cannot be honored.
    """
    with open_hdf5(file, origin=origin) as root:
        datasets = arrays_of(root, origin)
        arrays = legacy_arrays(root, datasets, model_name) or numbered_arrays(root, datasets, model_name, origin)
        if arrays is None:
            raise WeightsError(
                f"weights file {origin} is HDF5 but holds no Keras weights: no attribute 'layer_names', no arrays "
                "'layers/.../vars/0'. Give a file written by Keras's save_weights() or save()"
            )
        written = config if config is not None else text_attribute(root, MODEL_CONFIG)
        steps, unclear = _steps(written, model_name, origin)
        kept = {step: _statistics_group(step, arrays) for step in steps if step.class_name == "Normalization"}
        honored = {name for name in arrays.found if name.rpartition("/")[0] in kept.values()}
        around = replace(arrays, found={name: array for name, array in arrays.found.items() if name not in honored})
        weights = match_arrays(around, model_name, origin=origin, alone=ALONE)
        if (written is None or unclear) and (found := _normalizations(arrays)):
            why = (
                f"its configuration is not clear, {unclear}" if unclear else "weights alone do not say where it stands"
            )
            refuse_statistics(found, origin=origin, why=why)

        def statistics(step: Step) -> tuple[Any, Any] | None:
            return _statistics(kept[step], arrays)

        return KerasWeights(weights, understood(steps, statistics, origin=origin, alone=ALONE), unclear)


def read_keras_zip(path: Path, model_name: str, *, origin: str) -> KerasWeights:
    """The weights of `model_name` from a `.keras` file.

    Raises:
        WeightsError: as `read_keras_hdf5`.
    """
    with open_zip(path, origin=origin) as archive:
        content = read_member(archive, ZIP_MEMBER, origin=origin)
        has_config = CONFIG_MEMBER in archive.namelist()
        config = read_member(archive, CONFIG_MEMBER, max_bytes=MAX_CONFIG_BYTES, origin=origin) if has_config else None
    return read_keras_hdf5(content, model_name, origin=origin, config=config)


def _steps(config: str | bytes | None, model_name: str, origin: str) -> tuple[tuple[Step, ...], str]:
    """The layers before the network, and in words why they are not known, where the model is of a class of its own.

    Raises:
        WeightsError: the way to the network is more than one layer after another, or the configuration is broken.
    """
    if config is None:
        return (), ""
    try:
        steps = steps_before(json.loads(config), next(iter(weight_shapes(model_name))))
    except NoSuchLayer as error:
        return (), str(error)
    except (UnclearConfig, ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, UnclearConfig) else "it is no JSON"
        raise WeightsError(
            f"weights file {origin} is refused: its configuration does not say what is done to an image before the "
            f"network ({why}). Save the network without what stands before it, and feed it what that gave: {ALONE}"
        ) from error
    return tuple(step for step in steps if step.name != FIRST_PAD), ""


def _statistics_group(step: Step, arrays: FileArrays) -> str | None:
    """Where a Normalization layer's arrays stand, by the names that each layout has for it."""
    for group, first in ((f"{step.group}/vars", "0"), *((name, "mean") for name in _names(step))):
        if f"{group}/{first}" in arrays.found:
            return group
    return None


def _names(step: Step) -> tuple[str, ...]:
    return (step.name, f"{step.outer}/{step.name}", step.outer)


def _statistics(group: str | None, arrays: FileArrays) -> tuple[list[float], list[float]] | None:
    """Mean and variance of a Normalization layer, in its group as `0` and `1` or by name."""
    for names in (("0", "1"), ("mean", "variance")):
        found = [arrays.found[name] for name in (f"{group}/{names[0]}", f"{group}/{names[1]}") if name in arrays.found]
        if len(found) == 2 and all(math.prod(array.shape) <= CHANNELS for array in found):
            mean, variance = (np.ravel(array[()]).astype(float).tolist() for array in found)
            return mean, variance
    return None


def _normalizations(arrays: FileArrays) -> list[str]:
    """The Normalization layers of a file, by what they keep: mean, variance and a count of the same images."""
    found = []
    for name, array in arrays.found.items():
        prefix, _, last = name.rpartition("/")
        mean, variance = {"count": ("mean", "variance"), "2": ("0", "1")}.get(last, ("", ""))
        means, variances = arrays.found.get(f"{prefix}/{mean}"), arrays.found.get(f"{prefix}/{variance}")
        is_count = array.shape == () and np.issubdtype(array.dtype, np.integer) and not is_state(name)
        if is_count and means is not None and variances is not None and means.shape == variances.shape:
            found.append(repr(prefix.removesuffix("/vars")))
    return found

"""Which weight each array of a Keras file is meant for, and where the network that it is of would stand.

Two layouts, told apart by content:
- legacy `.h5`: the root (or, in a whole-model file, its group `model_weights`) lists its layers in the attribute
  `layer_names`, each layer its arrays in `weight_names`. A network within another is one layer, `resnet50v2`, whose
  arrays are `conv1_conv/kernel`;
- Keras 3 and late Keras 2 `.weights.h5`: groups `layers/conv2d_10/vars/0`, named by class and counter. Some versions
  write the layer's true name as an attribute `name`. If all groups with arrays have one, names decide; if none has,
  the counter does, against the order of the network's layers; a mixture is refused, because the two can contradict.
  A network within another is a group that has `layers` itself, `layers/functional/layers/conv2d_10/vars/0`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import h5py

from jaxviz.errors import WeightsError
from jaxviz.models import weight_shapes
from weights_convert.hdf5_arrays import Hdf5Array, names_attribute, text_attribute
from weights_convert.match import FileArrays, Target, is_state, kind_of

LEGACY_MODEL_GROUP = "model_weights"
HEAD_ALIASES = {"probs": "predictions"}  # what keras_applications called the head until 2020

# Keras 3 numbers a layer's arrays in the order of creation.
VARIABLES: dict[str, tuple[str, ...]] = {
    "conv": ("kernel", "bias"),
    "batch_norm": ("gamma", "beta", "moving_mean", "moving_variance"),
    "dense": ("kernel", "bias"),
}
CLASS_NAMES: dict[str, str] = {"conv2d": "conv", "batch_normalization": "batch_norm", "dense": "dense"}
NUMBERED = re.compile(r"(?:(?P<place>.*)/)?(?P<group>[^/]+)/vars/(?P<number>\d+)")  # a path of Keras 3
COUNTER = re.compile(r"_\d+$")
# A layer of this family, maybe of a larger network, which has every name of a smaller and must not be taken for it.
RELATIVE = re.compile(r"conv\d+_block\d+_\w+")


def legacy_arrays(root: h5py.File, datasets: Mapping[str, Hdf5Array], model_name: str) -> FileArrays | None:
    """The arrays of a legacy file, or None of another.

    Listed arrays go by `layer/parameter`, those of a network within another by `outer/layer/parameter`; arrays that no
    layer lists, by their own path.
    """
    for prefix, group in (("", root), (f"{LEGACY_MODEL_GROUP}/", root.get(LEGACY_MODEL_GROUP))):
        layers = names_attribute(group, "layer_names") if isinstance(group, h5py.Group) else None
        if layers is not None:
            return _legacy(group, prefix, layers, datasets, model_name)
    return None


def numbered_arrays(
    root: h5py.File, datasets: Mapping[str, Hdf5Array], model_name: str, origin: str
) -> FileArrays | None:
    """The arrays of a `.weights.h5` file, or None of another.

    Raises:
        WeightsError: some layers of the network have a name, others have none.
    """
    rows: dict[str, list[_Row]] = {}
    for path in datasets:
        found = NUMBERED.fullmatch(path)
        if found is not None and not is_state(path):
            row = _Row(path, found["group"], int(found["number"]))
            rows.setdefault(found["place"] or "", []).append(row)
    if not rows:
        return None
    places = {place: _numbered(root, place, own, datasets, model_name, origin) for place, own in rows.items()}
    return FileArrays(datasets, {place: targets for place, targets in places.items() if targets})


class _Row(NamedTuple):
    """An array of a numbered layout: `layers/conv2d_10/vars/0` has group `conv2d_10`, number 0."""

    path: str
    group: str
    number: int


def _legacy(
    group: h5py.Group, prefix: str, layers: list[str], datasets: Mapping[str, Hdf5Array], model_name: str
) -> FileArrays:
    known = _Known(model_name)
    found: dict[str, Hdf5Array] = {}
    places: dict[str, dict[str, Target]] = {}
    unlisted = dict(datasets)
    for outer in layers:
        for weight in _weight_names(group, outer):
            path = f"{prefix}{outer}/{weight}"
            if path not in unlisted:
                continue
            place, layer, parameter = _legacy_place(outer, weight, known)
            name = "/".join(part for part in (place, layer, parameter) if part)
            name = path if name in found else name
            found[name] = unlisted.pop(path)
            if HEAD_ALIASES.get(layer, layer) in known:
                places.setdefault(place, {})[name] = (HEAD_ALIASES.get(layer, layer), parameter)
    return FileArrays(found | unlisted, places)


def _weight_names(group: h5py.Group, layer: str) -> list[str]:
    member = group.get(layer)
    return (names_attribute(member, "weight_names") or []) if isinstance(member, h5py.Group) else []


def _legacy_place(outer: str, weight: str, known: _Known) -> tuple[str, str, str]:
    """(place, layer, parameter) of an array that the layer `outer` lists."""
    *scopes, parameter = weight.split("/")
    parameter = parameter.partition(":")[0]
    if HEAD_ALIASES.get(outer, outer) in known or not scopes:
        return "", outer, parameter  # scopes before the parameter vary: 'conv_1/conv/kernel:0'
    *scopes, layer = scopes
    if layer not in known and COUNTER.sub("", layer) in known:  # a second network in one graph of TensorFlow 1
        scopes, layer = [*scopes, COUNTER.findall(layer)[0]], COUNTER.sub("", layer)
    if layer in known:
        return "/".join((outer, *scopes)), layer, parameter
    return "", outer if layer == outer else "/".join((outer, *scopes, layer)), parameter


def _numbered(
    root: h5py.File, place: str, rows: list[_Row], datasets: Mapping[str, Hdf5Array], model_name: str, origin: str
) -> dict[str, Target]:
    """Which weight each array of the layers in `place` is meant for."""
    prefix = f"{place}/" if place else ""
    names = {group: _name(root[f"{prefix}{group}"]) for group in dict.fromkeys(row.group for row in rows)}
    unnamed = sorted(group for group, name in names.items() if name is None)
    known = _Known(model_name)
    if unnamed and any(name in known for name in names.values() if name is not None):
        raise WeightsError(
            f"weights file {origin} is refused: some layer groups have an attribute 'name', others have none "
            f"({', '.join(unnamed[:3])}), so which layer is which is not certain. Save it again with one Keras version"
        )
    if unnamed:
        layers = _by_counter(rows, prefix, datasets, model_name)
    else:
        layers = {group: HEAD_ALIASES.get(name, name) for group, name in names.items() if name is not None}
    targets: dict[str, Target] = {}
    for row in rows:
        layer = layers.get(row.group, "")
        variables = VARIABLES[kind_of(known.shapes[layer])] if layer in known.shapes else ()
        if layer in known:
            targets[row.path] = (layer, variables[row.number] if row.number < len(variables) else str(row.number))
    return targets


def _name(group: h5py.Group) -> str | None:
    """The layer's true name, written on the group's `vars` by Keras 3.15, or on the group itself."""
    named = text_attribute(group["vars"], "name")
    return named if named is not None else text_attribute(group, "name")


def _by_counter(rows: list[_Row], prefix: str, datasets: Mapping[str, Hdf5Array], model_name: str) -> dict[str, str]:
    """Layers by group: `conv2d_10` is the eleventh convolution of the table; the file itself is sorted by letters.

    Other layers of the same class in front shift all counters: then the one shift at which all shapes fit is taken.
    """
    shapes = weight_shapes(model_name, head=True)
    layers: dict[str, str] = {}
    for class_name, kind in CLASS_NAMES.items():
        table = [layer for layer, own in shapes.items() if kind_of(own) == kind]
        counters = {
            count: group for group in {row.group for row in rows} if (count := _counter(group, class_name)) >= 0
        }
        last = max(counters, default=0)
        fitting = [
            shift
            for shift in range(last - len(table) + 2)
            if all(
                _fits(f"{prefix}{counters.get(shift + place)}", shapes[layer], datasets)
                for place, layer in enumerate(table)
            )
        ]
        shift = fitting[0] if len(fitting) == 1 else 0
        layers |= {counters[shift + i]: layer for i, layer in enumerate(table) if shift + i in counters}
    return layers


def _fits(group: str, shapes: Mapping[str, tuple[int, ...]], datasets: Mapping[str, Hdf5Array]) -> bool:
    numbered = enumerate(VARIABLES[kind_of(shapes)])
    found = {parameter: datasets.get(f"{group}/vars/{number}") for number, parameter in numbered}
    return all((array := found[parameter]) is not None and array.shape == shape for parameter, shape in shapes.items())


def _counter(group: str, class_name: str) -> int:
    """The number behind a class's name, 0 without one; -1 for another class."""
    counter = "0" if group == class_name else group.removeprefix(f"{class_name}_")
    return int(counter) if counter.isdecimal() and len(counter) < 6 else -1


class _Known:
    """The layers with weights of a network and of its larger relatives."""

    def __init__(self, model_name: str) -> None:
        self.shapes = weight_shapes(model_name, head=True)

    def __contains__(self, layer: str) -> bool:
        return layer in self.shapes or RELATIVE.fullmatch(layer) is not None

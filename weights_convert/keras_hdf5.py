"""Keras weight files to a model's weights, through h5py and without TensorFlow.

Three layouts, told apart by content:
- legacy `.h5`, as `keras.applications` distributes them: the root (or, in a whole-model file, its group
  `model_weights`) lists its layers in the attribute `layer_names`, each layer its arrays in `weight_names`;
- Keras 3 `.weights.h5`: groups `layers/conv2d_10/vars/0`, named by class and counter. Some versions write the
  layer's true name as an attribute `name`. If all groups with arrays have one, names decide; if none has, the
  counter does, against the order of the network's layers; a mixture is refused, because the two can contradict;
- `.keras`: a zip that holds the second as `model.weights.h5`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from jaxviz.errors import WeightsError
from jaxviz.models import weight_shapes
from weights_convert.archives import open_zip, read_member
from weights_convert.match import MatchedWeights, Target, kind_of, match_arrays

IGNORED = ("optimizer_weights/*", "optimizer/*", "_optimizer/*")  # the training state of a whole-model file
LEGACY_MODEL_GROUP = "model_weights"
LAYER_GROUPS = ("layers", "_layer_checkpoint_dependencies")  # Keras 3 and late Keras 2; early 2.12
HEAD_ALIASES = {"probs": "predictions"}  # what keras_applications called the head until 2020

# Keras 3 numbers a layer's arrays in the order of creation.
VARIABLES: dict[str, tuple[str, ...]] = {
    "conv": ("kernel", "bias"),
    "batch_norm": ("gamma", "beta", "moving_mean", "moving_variance"),
    "dense": ("kernel", "bias"),
}
CLASS_NAMES: dict[str, str] = {"conv2d": "conv", "batch_normalization": "batch_norm", "dense": "dense"}

ZIP_MEMBER = "model.weights.h5"
MAX_MEMBER_BYTES = 2**31  # three times ResNet152V2 with Adam's state; a zip can claim any size

# What h5py raises on a file that is damaged inside; it has no exception type of its own.
HDF5_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError)


def read_keras_hdf5(file: Path | BinaryIO, model_name: str, *, origin: str) -> MatchedWeights:
    """The weights of `model_name` from a legacy `.h5` or a `.weights.h5` file.

    Raises:
        WeightsError: truncated, damaged, another kind of HDF5 file, or another network's weights.
    """
    try:
        with h5py.File(file, "r") as root:
            found, targets = _arrays_and_targets(root, model_name, origin)
            return match_arrays(found, targets, model_name, origin=origin, ignored=IGNORED)
    except HDF5_ERRORS as error:
        raise WeightsError(
            f"weights file {origin} is HDF5 but cannot be read, it is truncated or damaged ({error}). "
            "Copy or download it again"
        ) from error


def read_keras_zip(path: Path, model_name: str, *, origin: str) -> MatchedWeights:
    """The weights of `model_name` from a `.keras` file.

    Raises:
        WeightsError: as `read_keras_hdf5`.
    """
    with open_zip(path, origin=origin) as archive:
        content = read_member(archive, ZIP_MEMBER, max_bytes=MAX_MEMBER_BYTES, origin=origin)
    return read_keras_hdf5(io.BytesIO(content), model_name, origin=origin)


def _arrays_and_targets(
    root: h5py.File, model_name: str, origin: str
) -> tuple[dict[str, h5py.Dataset], dict[str, Target]]:
    datasets = dict(_walk(root, origin))
    for prefix, group in (("", root), (f"{LEGACY_MODEL_GROUP}/", root.get(LEGACY_MODEL_GROUP))):
        if group is not None and _attribute_names(group, "layer_names") is not None:
            return _legacy(group, prefix, datasets, model_name)
    for prefix in LAYER_GROUPS:
        if prefix in root:
            return datasets, _keras3_targets(root, f"{prefix}/", datasets, model_name, origin)
    raise WeightsError(
        f"weights file {origin} is HDF5 but holds no Keras weights: no attribute 'layer_names', no group 'layers'. "
        "Give a file written by Keras's save_weights() or save()"
    )


def _walk(root: h5py.File, origin: str) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every array of the file by its path; links and arrays that lead out of the file are refused."""
    pending = [("", root)]
    seen = {root.id}  # a group can be linked into itself
    while pending:
        prefix, group = pending.pop()
        for name in group:
            path = f"{prefix}{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise WeightsError(f"weights file {origin} is refused: {path!r} is a link, maybe to another file")
            member = group[name]
            if isinstance(member, h5py.Group):
                if member.id not in seen:
                    pending.append((f"{path}/", member))
                seen.add(member.id)
            elif isinstance(member, h5py.Dataset):
                if member.external or member.is_virtual:
                    raise WeightsError(f"weights file {origin} is refused: {path!r} keeps its data in another file")
                yield path, member


def _legacy(
    group: h5py.Group, prefix: str, datasets: Mapping[str, h5py.Dataset], model_name: str
) -> tuple[dict[str, h5py.Dataset], dict[str, Target]]:
    """Listed arrays under `layer/parameter`; arrays that no layer lists under their own path, to be unexpected."""
    found: dict[str, h5py.Dataset] = {}
    unlisted = dict(datasets)
    for layer in _attribute_names(group, "layer_names") or ():
        weights = _attribute_names(group[layer], "weight_names") if layer in group else None
        for weight in weights or ():
            path = f"{prefix}{layer}/{weight}"
            parameter = weight.rpartition("/")[2].partition(":")[0]  # scopes before it vary: 'conv_1/conv/kernel:0'
            name = f"{layer}/{parameter}"
            if path in unlisted:
                found[path if name in found else name] = unlisted.pop(path)
    shapes = weight_shapes(model_name, head=True)
    spellings = [*HEAD_ALIASES.items(), *((name, name) for name in shapes)]
    targets = {f"{spelt}/{parameter}": (name, parameter) for spelt, name in spellings for parameter in shapes[name]}
    return found | unlisted, targets


def _attribute_names(group: h5py.Group, attribute: str) -> list[str] | None:
    """A list of names; Keras splits one longer than HDF5's 64 kB limit into `attribute0`, `attribute1`, ..."""
    if attribute in group.attrs:
        chunks = [group.attrs[attribute]]
    else:
        chunks = []
        while f"{attribute}{len(chunks)}" in group.attrs:
            chunks.append(group.attrs[f"{attribute}{len(chunks)}"])
        if not chunks:
            return None
    return [_text(name) for chunk in chunks for name in chunk]


def _keras3_targets(
    root: h5py.File, prefix: str, datasets: Mapping[str, h5py.Dataset], model_name: str, origin: str
) -> dict[str, Target]:
    """Which weight each array `layers/<group>/vars/<number>` is meant for."""
    paths = [path for path in datasets if path.startswith(prefix) and path.count("/") == 3 and "/vars/" in path]
    groups = sorted({path.split("/")[1] for path in paths})
    names = {group: _name_attribute(root[f"{prefix}{group}"]) for group in groups}
    unnamed = [group for group, name in names.items() if name is None]
    if unnamed and len(unnamed) < len(groups):
        raise WeightsError(
            f"weights file {origin} is refused: some layer groups have an attribute 'name', others have none "
            f"({', '.join(unnamed[:3])}), so which layer is which is not certain. Save it again with one Keras version"
        )
    kinds = {layer: kind_of(arrays) for layer, arrays in weight_shapes(model_name, head=True).items()}
    if unnamed:
        rows = {kind: [layer for layer, own in kinds.items() if own == kind] for kind in VARIABLES}
        layers = {group: _by_counter(group, rows) for group in groups}
    else:
        layers = {group: HEAD_ALIASES.get(str(name), name) for group, name in names.items()}
    targets: dict[str, Target] = {}
    for path in paths:
        _, group, _, number = path.split("/")
        layer = layers[group] or ""
        variables = VARIABLES.get(kinds.get(layer, ""), ())
        if number in map(str, range(len(variables))):
            targets[path] = (layer, variables[int(number)])
    return targets


def _name_attribute(group: h5py.Group) -> str | None:
    """The layer's true name, written on the group's `vars` by Keras 3.15, or on the group itself."""
    for holder in (group["vars"], group):
        if "name" in holder.attrs:
            return _text(holder.attrs["name"])
    return None


def _by_counter(group: str, rows: Mapping[str, list[str]]) -> str | None:
    """`conv2d_10` is the eleventh convolution of the table; the file itself is sorted by letters."""
    for class_name, kind in CLASS_NAMES.items():
        counter = "0" if group == class_name else group.removeprefix(f"{class_name}_")
        if counter.isdecimal() and int(counter) < len(rows[kind]):
            return rows[kind][int(counter)]
    return None


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)

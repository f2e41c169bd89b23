"""Named arrays from a file, matched one to one with the weights that a model needs.

Every array of the file is used exactly once (or stands in the format's own ignore table), every weight is
filled exactly once; nothing is guessed from shapes. Shapes are compared before any data is read, so that a
file that claims absurd ones costs nothing. All that is wrong is told in one error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jaxviz.errors import WeightsError
from jaxviz.models import list_models, weight_shapes

Weights = dict[str, dict[str, NDArray[np.float32]]]  # {layer: {parameter: array}}, as models.weight_shapes names them
Target = tuple[str, str]  # (layer, parameter)

LISTED_PER_KIND = 8  # names of each kind of mistake that a message shows


class ArraySource(Protocol):
    """What is asked of an array before and after it is known to fit: NumPy's and h5py's both do."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers."""

    def __getitem__(self, key: tuple[()], /) -> Any:
        """`source[()]` reads the whole array."""


@dataclass(frozen=True)
class MatchedWeights:
    """All weights of a model, float32, without its head or with all of it."""

    arrays: Weights
    has_head: bool


def match_arrays(
    found: Mapping[str, ArraySource],
    targets: Mapping[str, Target],
    model_name: str,
    *,
    origin: str,
    ignored: Sequence[str] = (),
) -> MatchedWeights:
    """Reads `found` (by its names in the file) into the weights of `model_name`.

    `targets` says which weight a name in the file is meant for; it may hold names that are not in the file.
    `ignored` are patterns of names that are no weights of the network. The head belongs to the result if any
    array of the file is meant for it.

    Raises:
        WeightsError: naming all that is missing, unexpected, doubled, misshapen, not floating point, not finite.
    """
    found = {name: array for name, array in found.items() if not any(fnmatchcase(name, rule) for rule in ignored)}
    head = head_layers(model_name)
    has_head = any(targets[name][0] in head for name in found if name in targets)
    shapes = _flat(weight_shapes(model_name, head=has_head))
    _refuse(_mismatches(found, targets, shapes), model_name, origin)

    arrays: Weights = {layer: {} for layer, _ in shapes}
    not_finite = []
    source_of = {targets[name]: name for name in found}
    for target in shapes:
        layer, parameter = target
        array = _read(found[source_of[target]])
        arrays[layer][parameter] = array
        if not np.isfinite(array).all():
            not_finite.append(f"{source_of[target]!r}")
    _refuse({"hold NaN or infinity": not_finite}, model_name, origin)
    return MatchedWeights(arrays, has_head)


def kind_of(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What a layer with weights of these shapes is: batch_norm, conv, depthwise_conv or dense."""
    return "batch_norm" if "gamma" in shapes else {4: "conv", 3: "depthwise_conv", 2: "dense"}[len(shapes["kernel"])]


def head_layers(model_name: str) -> set[str]:
    """Layers with weights that only the model with its head has."""
    return set(weight_shapes(model_name, head=True)) - set(weight_shapes(model_name))


def without_head(arrays: Weights, model_name: str) -> Weights:
    """The same arrays less those of the head."""
    head = head_layers(model_name)
    return {layer: parameters for layer, parameters in arrays.items() if layer not in head}


def _flat(shapes: dict[str, dict[str, tuple[int, ...]]]) -> dict[Target, tuple[int, ...]]:
    return {(layer, name): shape for layer, arrays in shapes.items() for name, shape in arrays.items()}


def _mismatches(
    found: Mapping[str, ArraySource], targets: Mapping[str, Target], shapes: Mapping[Target, tuple[int, ...]]
) -> dict[str, list[str]]:
    unexpected, doubled, misshapen, not_floating = [], [], [], []
    source_of: dict[Target, str] = {}
    for name, array in found.items():
        target = targets.get(name)
        if target is None or target not in shapes:
            unexpected.append(repr(name))
        elif target in source_of:
            doubled.append(f"{name!r} and {source_of[target]!r}")
        else:
            source_of[target] = name
            if tuple(array.shape) != shapes[target]:
                misshapen.append(f"{name!r} is {tuple(array.shape)}, {_label(target)} needs {shapes[target]}")
            if not np.issubdtype(array.dtype, np.floating):
                not_floating.append(f"{name!r} ({array.dtype})")
    name_of = {target: name for name, target in targets.items()}
    missing = [_label(target, name_of.get(target)) for target in shapes if target not in source_of]
    return {
        "missing": missing,
        "unexpected": unexpected,
        "doubled": doubled,
        "misshapen": misshapen,
        "not floating point": not_floating,
    }


def _label(target: Target, name: str | None = None) -> str:
    label = "/".join(target)
    return repr(label) if name in (None, label) else f"{label!r} ({name!r} in such a file)"


def _refuse(mismatches: Mapping[str, Sequence[str]], model_name: str, origin: str) -> None:
    """Raises if there are any mismatches."""
    parts = [f"{len(names)} {kind}: {_shortened(names)}" for kind, names in mismatches.items() if names]
    if parts:
        raise WeightsError(
            f"weights file {origin} does not fit MODEL {model_name}; {'; '.join(parts)}. "
            f"Give the file of this very network, or the MODEL that the file belongs to, "
            f"one of {', '.join(list_models())}"
        )


def _shortened(names: Iterable[str]) -> str:
    names = list(names)
    rest = len(names) - LISTED_PER_KIND
    return ", ".join(names[:LISTED_PER_KIND]) + (f" and {rest} more" if rest > 0 else "")


def _read(source: ArraySource) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # too large for float32: infinity, which is refused by name
        array = np.ascontiguousarray(source[()], dtype=np.float32)
    return array if array.flags.owndata else array.copy()  # a view would keep the whole file in memory

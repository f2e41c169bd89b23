"""Named arrays from a file, matched one to one with the weights that a model needs.

A file may hold more than the network: a wrapper, another head, the state of an optimizer. Readers say of each array
where it stands ("place": the group or prefix of the network that it may belong to) and which weight it is meant for.
The one place whose names and shapes are the whole network without its head is taken; nothing is guessed. Shapes are
compared before any data is read, so that a file that claims absurd ones costs nothing. All that is wrong is told in
one error, all that is left out is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from jaxviz.errors import WeightsError
from jaxviz.models import list_models, weight_shapes

Weights = dict[str, dict[str, NDArray[np.float32]]]  # {layer: {parameter: array}}, as models.weight_shapes names them
Target = tuple[str, str]  # (layer, parameter)
Shapes = Mapping[Target, tuple[int, ...]]

LISTED_PER_KIND = 8  # names of each kind of mistake that a message shows
STATES = {"optimizer", "_optimizer", "optimizer_weights", "seed_generator", "num_batches_tracked"}  # parts of names


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
class FileArrays:
    """The arrays of a file, and what each may be.

    Attributes:
        found: every array by its name in the file.
        places: {place: {name: target}}, the arrays that could be the network's, by where that network would stand:
            "" is the top of the file. A target that no layer of the model has (a larger network's) counts as wrong.
        spelled: how the file would spell a target, where that is another name.
        others: what else the file holds, in words.
    """

    found: Mapping[str, ArraySource]
    places: Mapping[str, Mapping[str, Target]]
    spelled: Mapping[Target, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class MatchedWeights:
    """All weights of a model, float32, without its head or with all of it.

    `left_out` names what else the file holds, a layer each; not the state of optimizers and random generators.
    """

    arrays: Weights
    has_head: bool
    left_out: tuple[str, ...] = ()


class _Fit(NamedTuple):
    """How the arrays of one place fit the network."""

    source_of: Mapping[Target, str]
    mismatches: Mapping[str, list[str]]  # {what is wrong: names}

    @property
    def is_whole(self) -> bool:
        return not any(self.mismatches.values())


def match_arrays(file: FileArrays, model_name: str, *, origin: str, alone: str) -> MatchedWeights:
    """The weights of `model_name` from wherever they stand in the file, and the head where it stands with them.

    `alone` is what to type to save a network without anything around it.

    Raises:
        WeightsError: no place has the whole network, naming all that is missing, misshapen, doubled or not floating
            point in the one that is nearest; several have it; a number is not finite.
    """
    body = _flat(weight_shapes(model_name))
    head = {
        target: shape for target, shape in _flat(weight_shapes(model_name, head=True)).items() if target not in body
    }
    fits = {place: _fit(file, targets, body, head) for place, targets in file.places.items()} or {
        "": _fit(file, {}, body, head)
    }
    whole = sorted(place for place, fit in fits.items() if fit.is_whole)
    if len(whole) > 1:
        raise WeightsError(
            f"weights file {origin} holds {len(whole)} whole networks of MODEL {model_name}: "
            f"{shortened(repr(place) for place in whole)}. Save the one that is meant alone: {alone}"
        )
    if not whole:
        place, fit = max(fits.items(), key=lambda item: len(item[1].source_of))
        rest = [name for name in _unused(file, fit.source_of.values()) if name not in file.places.get(place, {})]
        unexpected = [*fit.mismatches["unexpected"], *map(repr, rest)]
        _refuse({**fit.mismatches, "unexpected": unexpected}, model_name, origin, alone)
    fit = fits[whole[0]]
    head_source_of = _whole_head(file, file.places.get(whole[0], {}), head)
    source_of = {**fit.source_of, **head_source_of}
    arrays = _read_all(file.found, source_of, model_name, origin, alone)
    left_out = (*_layers(file.found, _unused(file, source_of.values())), *file.others)
    return MatchedWeights(arrays, bool(head_source_of), left_out)


def match_exactly(
    found: Mapping[str, ArraySource], targets: Mapping[str, Target], model_name: str, *, origin: str, alone: str
) -> MatchedWeights:
    """The same for a file that holds the weights of a model and nothing else, with its whole head or without.

    Raises:
        WeightsError: as `match_arrays`; also for an array that is too many.
    """
    head = head_layers(model_name)
    has_head = any(targets[name][0] in head for name in found if name in targets)
    shapes = _flat(weight_shapes(model_name, head=has_head))
    fit = _fit(FileArrays(found, {}), {name: targets.get(name, ("", "")) for name in found}, shapes, {})
    _refuse(fit.mismatches, model_name, origin, alone)
    return MatchedWeights(_read_all(found, fit.source_of, model_name, origin, alone), has_head)


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


def is_state(name: str) -> bool:
    """Whether an array belongs to an optimizer, a random generator or a counter, by its name."""
    return not STATES.isdisjoint(re.split(r"[/.]", name))


def shortened(names: Iterable[str]) -> str:
    """The first names of a list, and how many more there are."""
    names = list(names)
    rest = len(names) - LISTED_PER_KIND
    return ", ".join(names[:LISTED_PER_KIND]) + (f" and {rest} more" if rest > 0 else "")


def _flat(shapes: dict[str, dict[str, tuple[int, ...]]]) -> dict[Target, tuple[int, ...]]:
    return {(layer, name): shape for layer, arrays in shapes.items() for name, shape in arrays.items()}


def _fit(file: FileArrays, targets: Mapping[str, Target], body: Shapes, head: Shapes) -> _Fit:
    wrong: dict[str, list[str]] = {
        kind: [] for kind in ("missing", "unexpected", "doubled", "misshapen", "not floating point")
    }
    source_of: dict[Target, str] = {}
    for name, target in targets.items():
        array = file.found[name]
        if target in head:
            continue
        if target not in body:
            wrong["unexpected"].append(repr(name))
        elif target in source_of:
            wrong["doubled"].append(f"{name!r} and {source_of[target]!r}")
        else:
            source_of[target] = name
            if tuple(array.shape) != body[target]:
                wrong["misshapen"].append(f"{name!r} is {tuple(array.shape)}, {_label(target)} needs {body[target]}")
            if not np.issubdtype(array.dtype, np.floating):
                wrong["not floating point"].append(f"{name!r} ({array.dtype})")
    wrong["missing"] = [_label(target, file.spelled.get(target)) for target in body if target not in source_of]
    return _Fit(source_of, wrong)


def _whole_head(file: FileArrays, targets: Mapping[str, Target], head: Shapes) -> dict[Target, str]:
    """The arrays of the head, or none where any of them is missing, doubled, or of another shape or type."""
    found: dict[Target, str] = {}
    for name, target in targets.items():
        if target in head:
            array = file.found[name]
            if target in found or tuple(array.shape) != head[target] or not np.issubdtype(array.dtype, np.floating):
                return {}
            found[target] = name
    return found if len(found) == len(head) else {}


def _unused(file: FileArrays, used: Iterable[str]) -> list[str]:
    taken = set(used)
    return [name for name in file.found if name not in taken and not is_state(name)]


def _layers(found: Mapping[str, ArraySource], names: Iterable[str]) -> list[str]:
    """The layers that arrays belong to, each with their shapes."""
    shapes: dict[str, list[str]] = {}
    for name in names:
        layer = re.sub(r"(/vars)?[/.][^/.]*$", "", name)
        shapes.setdefault(layer, []).append(str(tuple(found[name].shape)))
    return [f"{layer!r} {shortened(own)}" for layer, own in shapes.items()]


def _label(target: Target, name: str | None = None) -> str:
    label = "/".join(target)
    return repr(label) if name in (None, label) else f"{label!r} ({name!r} in such a file)"


def _refuse(mismatches: Mapping[str, Sequence[str]], model_name: str, origin: str, alone: str) -> None:
    """Raises if there are any mismatches."""
    parts = [f"{len(names)} {kind}: {shortened(names)}" for kind, names in mismatches.items() if names]
    if parts:
        raise WeightsError(
            f"weights file {origin} does not fit MODEL {model_name}; {'; '.join(parts)}. "
            f"Give a file that holds this very network, alone or with others around it, or the MODEL that the file "
            f"belongs to, one of {', '.join(list_models())}. To save a network alone: {alone}"
        )


def _read_all(
    found: Mapping[str, ArraySource], source_of: Mapping[Target, str], model_name: str, origin: str, alone: str
) -> Weights:
    """The arrays in the network's order, float32 and finite."""
    arrays: Weights = {}
    not_finite = []
    for target in _flat(weight_shapes(model_name, head=True)):
        if target in source_of:
            array = _read(found[source_of[target]])
            arrays.setdefault(target[0], {})[target[1]] = array
            if not np.isfinite(array).all():
                not_finite.append(f"{source_of[target]!r}")
    _refuse({"hold NaN or infinity": not_finite}, model_name, origin, alone)
    return arrays


def _read(source: ArraySource) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # too large for float32: infinity, which is refused by name
        array = np.ascontiguousarray(source[()], dtype=np.float32)
    return array if array.flags.owndata else array.copy()  # a view would keep the whole file in memory

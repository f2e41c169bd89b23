"""The layers that stand between the input of a Keras model and the known network in it, from the model's configuration.

A configuration is JSON: of a `.keras` file `config.json`, of a whole-model `.h5` the attribute `model_config`. It is
read as data. Nothing of it is built or run: a `Lambda` in it holds a program, which is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

MAX_DEPTH = 20  # of models within models
INPUT = "InputLayer"
SEQUENCES = ("Sequential", "Pipeline")  # their layers are called one after another


class UnclearConfig(Exception):  # noqa: N818  # no error of the user's: the caller decides what it means
    """What stands before the network is more than one layer after another, or the configuration is broken; why."""


class NoSuchLayer(UnclearConfig):
    """The configuration does not have the network: a model of a class of the user's does not list its layers."""


class Tensor(NamedTuple):
    """What a layer called `layer` gives; in the arguments of a call."""

    layer: str
    call: int


@dataclass(frozen=True, eq=False)
class Step:
    """One layer that the images go through, called with one tensor.

    Attributes:
        class_name: its class, `Rescaling`.
        name: its name in the model.
        config: what it was made with.
        arguments: of the call by place or keyword; a `Tensor` stands for the images, everything else is constant.
        group: of its arrays in a `.weights.h5` file, `layers/rescaling`.
        outer: the layer of the whole model that it is or is in, under which a legacy file has its arrays.
    """

    class_name: str
    name: str
    config: Mapping[str, Any]
    arguments: Mapping[int | str, Any]
    group: str
    outer: str

    def __str__(self) -> str:
        return f"{self.name!r} ({self.class_name})"


def steps_before(config: Any, layer: str) -> tuple[Step, ...]:
    """The layers from the input of the model up to `layer`, which takes what the last of them gives.

    Raises:
        NoSuchLayer: the configuration does not have the layer.
        UnclearConfig: the way to it cannot be followed.
    """
    try:
        top = _Container(config, "", "", "", 0)
    except UnclearConfig as error:
        raise NoSuchLayer(str(error)) from error
    found = list(top.paths_to(layer))
    if not found:
        raise NoSuchLayer(f"no model in it has a layer {layer!r}")
    ways = [_along(path, layer) for path in found]
    if any(_what(way) != _what(ways[0]) for way in ways):
        raise UnclearConfig(f"several models in it have a layer {layer!r}, behind different layers")
    return ways[0]


def _what(way: Sequence[Step]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(step.class_name, step.config) for step in way]


def _along(path: list[_Container], layer: str) -> tuple[Step, ...]:
    """The steps through each model of a path of one within another."""
    steps: list[Step] = []
    for container, inner in zip(path, [*(inner.name for inner in path[1:]), layer], strict=True):
        steps.extend(container.steps_to(inner))
    return tuple(steps)


class _Container:
    """A model in the configuration: a graph of layers, or a sequence of them."""

    def __init__(self, entry: Any, name: str, group: str, outer: str, depth: int) -> None:
        config = _field(entry, "config", dict)
        layers = _field(config, "layers", list)
        if depth > MAX_DEPTH:
            raise UnclearConfig(f"models in it are over {MAX_DEPTH} deep in one another")
        self.class_name = str(_field(entry, "class_name", str))
        self.name, self._config, self._depth = name, config, depth
        self._is_sequence = self.class_name in SEQUENCES
        self._layers: dict[str, Mapping[str, Any]] = {}
        self._groups: dict[str, str] = {}
        self._outer = outer
        counts: dict[str, int] = {}
        for member in layers:
            class_name = _field(member, "class_name", str)
            own = member.get("name") or _field(member, "config", dict).get("name")
            if not isinstance(own, str) or own in self._layers:
                raise UnclearConfig("a layer in it has no name, or that of another")
            key = _snake_case(class_name)
            count = counts.get(key, 0)
            counts[key] = count + 1
            self._layers[own] = member
            self._groups[own] = f"{group}layers/{key}{f'_{count}' if count else ''}"

    def paths_to(self, layer: str) -> Iterator[list[_Container]]:
        """The models from this one down to each that has the layer."""
        if layer in self._layers:
            yield [self]
        for name in self._layers:
            try:
                inner = self._inner(name)
            except UnclearConfig:  # what cannot be read is no model with the network
                continue
            for path in inner.paths_to(layer) if inner is not None else ():
                yield [self, *path]

    def steps_to(self, layer: str) -> list[Step]:
        """The layers from this model's input to the input of one of its own, the same ones in all its calls."""
        calls = 1 if self._is_sequence else len(_field(self._member(layer), "inbound_nodes", list))
        ways = [self._backwards(self._source(layer, call)) for call in range(calls)]
        if not ways or any(_what(way) != _what(ways[0]) for way in ways):
            raise UnclearConfig(f"the layer {layer!r} in it is called {calls} times, behind different layers")
        return ways[0]

    def all_steps(self) -> list[Step]:
        """The layers from this model's input to its output."""
        if self._is_sequence:
            return self._backwards(Tensor(list(self._layers)[-1], 0)) if self._layers else []
        outputs = list(_tensors_of_names(self._config.get("output_layers")))
        if len(outputs) != 1:
            raise UnclearConfig(f"the model {self.name!r} in it has {len(outputs)} outputs")
        return self._backwards(outputs[0])

    def _backwards(self, tensor: Tensor | None) -> list[Step]:
        steps: list[Step] = []
        seen: set[Tensor] = set()
        while tensor is not None and self._member(tensor.layer)["class_name"] != INPUT:
            if tensor in seen:
                raise UnclearConfig(f"the layer {tensor.layer!r} in it follows itself")
            seen.add(tensor)
            inner = self._inner(tensor.layer)
            steps.extend([self._step(tensor)] if inner is None else reversed(inner.all_steps()))
            tensor = self._source(tensor.layer, tensor.call)
        return steps[::-1]

    def _step(self, tensor: Tensor) -> Step:
        member = self._member(tensor.layer)
        arguments: dict[int | str, Any] = (
            {0: Tensor("", 0)} if self._is_sequence else self._call(tensor.layer, tensor.call)
        )
        config = _field(member, "config", dict)
        outer = self._outer or tensor.layer
        return Step(member["class_name"], tensor.layer, config, arguments, self._groups[tensor.layer], outer)

    def _source(self, layer: str, call: int) -> Tensor | None:
        """The one tensor that a layer is called with; None at the start of a sequence."""
        if self._is_sequence:
            names = list(self._layers)
            place = names.index(layer)
            return Tensor(names[place - 1], 0) if place else None
        tensors = list(_tensors(list(self._call(layer, call).values())))
        if len(tensors) != 1:
            raise UnclearConfig(f"the layer {layer!r} in it takes {len(tensors)} tensors")
        return tensors[0]

    def _call(self, layer: str, call: int) -> dict[int | str, Any]:
        calls = _field(self._member(layer), "inbound_nodes", list)
        if not calls:
            raise UnclearConfig(f"the layer {layer!r} in it is never called")
        # Keras 2 counts the call with which a model within another was built, but does not write it.
        return _arguments(calls[max(0, min(call, len(calls) - 1))])

    def _member(self, layer: str) -> Mapping[str, Any]:
        if layer not in self._layers:
            raise UnclearConfig(f"it speaks of a layer {layer!r} that it does not have")
        return self._layers[layer]

    def _inner(self, name: str) -> _Container | None:
        member = self._layers[name]
        config = member.get("config")
        if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
            return None
        return _Container(member, name, f"{self._groups[name]}/", self._outer or name, self._depth + 1)


def _arguments(call: Any) -> dict[int | str, Any]:
    """The arguments of a call, by place or keyword."""
    if isinstance(call, dict):  # Keras 3
        places = dict(enumerate(_field(call, "args", list)))
        keywords = {
            name: value for name, value in _field(call, "kwargs", dict).items() if name not in ("training", "mask")
        }
        return {place: _value(argument) for place, argument in (places | keywords).items()}
    if not isinstance(call, list) or not call:
        raise UnclearConfig("a call in it is neither Keras 3's nor Keras 2's")
    if isinstance(call[0], list):  # Keras 2, a layer: [["input_1", 0, 0, {}]]
        if len(call) != 1:
            return {place: _name_tensor(tensor) for place, tensor in enumerate(call)}
        call = call[0]
    first = call[2] if call[0] == "_CONSTANT_VALUE" and len(call) > 2 else _name_tensor(call)
    keywords = call[3] if len(call) > 3 and isinstance(call[3], dict) else {}
    named = {name: _keyword(value) for name, value in keywords.items() if name not in ("training", "mask", "name")}
    return {0: first, **named}


def _value(argument: Any) -> Any:
    """An argument of Keras 3: a tensor, a constant array as lists of numbers, or what JSON has."""
    if isinstance(argument, list):
        return [_value(one) for one in argument]
    if isinstance(argument, dict):
        config = argument.get("config")
        if argument.get("class_name") == "__keras_tensor__" and isinstance(config, dict):
            return _name_tensor(config.get("keras_history"))
        if argument.get("class_name") in ("__tensor__", "__numpy__") and isinstance(config, dict):
            return config.get("value")
    return argument


def _keyword(value: Any) -> Any:
    """An argument of Keras 2: a tensor is a list, `["input_1", 0, 0]`."""
    return _name_tensor(value) if isinstance(value, list) and value and isinstance(value[0], str) else value


def _name_tensor(named: Any) -> Tensor:
    if isinstance(named, list) and len(named) >= 3 and isinstance(named[0], str) and type(named[1]) is int:
        return Tensor(named[0], named[1])
    raise UnclearConfig("a tensor in it has no name")


def _tensors_of_names(named: Any) -> Iterator[Tensor]:
    """The outputs of a model: `["post_relu", 0, 0]`, or a list of such."""
    if isinstance(named, list):
        for one in [named] if named and isinstance(named[0], str) else named:
            yield _name_tensor(one)


def _tensors(arguments: Any) -> Iterator[Tensor]:
    if isinstance(arguments, Tensor):
        yield arguments
    elif isinstance(arguments, list):
        for one in arguments:
            yield from _tensors(one)


def _field(holder: Any, name: str, kind: type) -> Any:
    value = holder.get(name) if isinstance(holder, dict) else None
    if not isinstance(value, kind):
        raise UnclearConfig(f"it has no {name!r} where a model has one")
    return value


def _snake_case(class_name: str) -> str:
    """As Keras makes the name of a group from that of a class (keras/src/utils/naming.py)."""
    name = re.sub(r"\W+", "", class_name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()

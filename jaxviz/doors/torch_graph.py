"""What `torch.export` gives of a module for one image size: operations in order, each module's output named.

Names are the modules' paths, `layer1.0.conv1`, containers among them; a module that is called again gets a counter,
`layer1.0.relu_1`, and what a module does by itself is called by its function, `layer1.0.add`: as `torchvision`'s
feature extraction names them. An operation that a module does in place has its own result; the layer in front of it
keeps the one that it had.
"""

from __future__ import annotations

import itertools
import operator
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from jaxviz.doors.aten import FUNCTIONAL, OF_TWO, OPERATIONS
from jaxviz.errors import ConfigError

OUTPUT = "output"  # the name of what the module returns, where no module inside it makes it
CHECKS = ("_assert", "sym_constrain")  # operations that compute nothing
PLAIN_MODULES = "torch.nn.modules."  # their inner operations are no layers
CONTAINERS = f"{PLAIN_MODULES}container."
# What torch raises where it cannot follow a module, or the module's own code on such an image.
FAILURES = (RuntimeError, ValueError, TypeError, AssertionError, AttributeError, LookupError)


class Ref(NamedTuple):
    """The result of another step, or an input, by its name."""

    place: str


class Step(NamedTuple):
    """One operation: where its result goes, what it is made of, the shape it must have, what layers it is."""

    place: str
    function: Callable[..., Any]
    arguments: Any
    options: Any
    shape: tuple[int, ...] | None
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """A module for images of one size.

    Attributes:
        weights: (place, name of the weight) of every one that is used.
        constants: (place, array) of tensors that are no parameters and no buffers.
        image: the place of the image.
        steps: in order.
        output: what comes last.
    """

    weights: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, Any], ...]
    image: str
    steps: tuple[Step, ...]
    output: Ref

    def run(self, weights: dict[str, jax.Array], images: jax.Array) -> jax.Array:
        """What the module gives for one image, (1, channels, height, width), every layer named on the way."""
        found: dict[str, Any] = {place: weights[name] for place, name in self.weights}
        found |= {place: jnp.asarray(array) for place, array in self.constants} | {self.image: images}
        for step in self.steps:
            arguments, options = (_filled(given, found) for given in (step.arguments, step.options))
            result = step.function(*arguments, **options)
            if step.shape is not None:
                assert result.shape == step.shape, f"{step.place} gives {result.shape}, in PyTorch {step.shape}"
            for layer in step.layers:
                result = checkpoint_name(result, layer)
            found[step.place] = result
        result = found[self.output.place]
        assert isinstance(result, jax.Array)
        return result


def graph_of(module: Any, shape: tuple[int, ...], name: str) -> Graph:
    """A module, in eval mode, for an image of a shape. Its weights may hold no numbers.

    Raises:
        ConfigError: torch cannot export it, or it does what has no row in the table.
    """
    exported = _exported(module, shape, name)
    nodes = [node for node in exported.graph.nodes if not _is_check(node)]
    _check_operations(nodes, name)
    return _graph(exported, nodes)


def _exported(module: Any, shape: tuple[int, ...], name: str) -> Any:
    import torch

    example = torch.empty(shape, dtype=torch.float32)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about torch
            exported = torch.export.export(module, (example,), strict=False)
            table: Any = torch.export.default_decompositions()
            for operation in OPERATIONS:
                packet, _, overload = operation.partition(".")
                found = getattr(getattr(torch.ops.aten, packet, None), overload or "default", None)
                table.pop(found, None)  # ours is left whole
            return exported.run_decompositions(table)
    except FAILURES as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
        raise ConfigError(
            f"module {name} cannot be exported by PyTorch for an image of {_size_said(shape)} ({said}); give another "
            "`image_size` if it is about sizes; else a module whose forward takes one tensor of images and does not "
            "depend on their values: try torch.export.export(module.eval(), (images,))"
        ) from error


def _size_said(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}x{shape[3]}x{shape[1]}"


def _is_check(node: Any) -> bool:
    return node.op == "call_function" and _operation(node).startswith(CHECKS)


def _operation(node: Any) -> str:
    """An operation's name in the table: "relu" for aten.relu.default, "add.Tensor" for aten.add.Tensor."""
    return str(node.target).removeprefix("aten.").removesuffix(".default")


def _check_operations(nodes: Sequence[Any], name: str) -> None:
    unknown: dict[str, list[str]] = {}
    for node in nodes:
        if node.op not in ("placeholder", "output") and node.target is not operator.getitem:
            operation = _operation(node)
            if operation not in OPERATIONS:
                places = unknown.setdefault(operation, [])
                path = _calls(node)[-1].path if _calls(node) else ""
                places += [path] if path not in places else []
    if not unknown:
        return
    said = "; ".join(
        f"{operation} in {', '.join(repr(path) if path else 'its own forward' for path in places[:3])}"
        f"{f' and {len(places) - 3} more modules' if len(places) > 3 else ''}"
        for operation, places in sorted(unknown.items())
    )
    raise ConfigError(
        f"module {name} does what is not translated to JAX: {said}; give a part of it without that, such as "
        "module.features, put another module in its place, or write it in JAX: jaxviz.Model.from_callable"
    )


# Steps


def _graph(exported: Any, nodes: Sequence[Any]) -> Graph:
    kinds = {spec.arg.name: spec for spec in exported.graph_signature.input_specs}
    weights, constants, image = [], [], ""
    for node in nodes:
        if node.op == "placeholder":
            spec = kinds[node.name]
            if spec.kind.name == "USER_INPUT":
                image = node.name
            elif spec.kind.name in ("PARAMETER", "BUFFER"):
                weights.append((node.name, spec.target))
            else:
                constants.append((node.name, _plain(exported.constants[spec.target])))
    (output,) = [node for node in nodes if node.op == "output"]
    returned = [node for node in output.all_input_nodes if node.name in exported.graph_signature.user_outputs]
    results = [node for node in returned if hasattr(node.meta.get("val"), "shape")]  # else what is changed in place
    names = _names(nodes, image, results)
    steps = [_step(node, names.get(node.name, ())) for node in nodes if node.op == "call_function"]
    return Graph(tuple(weights), tuple(constants), image, tuple(steps), Ref(results[-1].name))


def _step(node: Any, layers: tuple[str, ...]) -> Step:
    is_item = node.target is operator.getitem
    value = node.meta.get("val")
    return Step(
        node.name,
        operator.getitem if is_item else OPERATIONS[_operation(node)],
        _plain(node.args),
        _plain(node.kwargs),
        tuple(value.shape) if hasattr(value, "shape") else None,
        layers,
    )


def _plain(value: Any) -> Any:
    """An argument without anything of torch: arrays, numbers, JAX's types, references."""
    import torch

    if isinstance(value, torch.fx.Node):
        return Ref(value.name)
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        return jnp.array((tensor.float() if tensor.is_floating_point() else tensor).numpy())
    if isinstance(value, torch.dtype):
        known = {"float64": "float32", "int64": "int32"}  # what JAX has
        name = str(value).removeprefix("torch.")
        return jnp.dtype(known.get(name, name))
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _filled(given: Any, found: dict[str, Any]) -> Any:
    """An argument with the results that it refers to."""
    if isinstance(given, Ref):
        return found[given.place]
    if isinstance(given, dict):
        return {key: _filled(item, found) for key, item in given.items()}
    return [_filled(item, found) for item in given] if isinstance(given, list) else given


# Names


class Call(NamedTuple):
    """One call of a module: what torch calls the call, the module's path and its class."""

    key: str
    path: str
    kind: str


def _calls(node: Any) -> list[Call]:
    """The module calls that a node stands in, outermost first, without that of the whole module."""
    stack = (node.meta.get("nn_module_stack") or {}).items()
    found = [Call(f"{key} {path}", path.partition("@")[0], str(kind)) for key, (path, kind) in stack]
    return [call for call in found if call.path]


def _names(nodes: Sequence[Any], image: str, results: Sequence[Any]) -> dict[str, tuple[str, ...]]:
    """The layers that each node is, by its name; of a module's output the innermost module first."""
    made = [node for node in nodes if node.op == "call_function"]
    inside: dict[str, set[Any]] = {}
    for node in made:
        for call in _calls(node):
            inside.setdefault(call.key, set()).add(node)
    paths = {call.path for node in made for call in _calls(node)}
    depending = _depending(nodes, image)
    names: dict[str, tuple[str, ...]] = {}
    taken: set[str] = set()

    def give(node: Any, name: str) -> None:
        names[node.name] = (*names.get(node.name, ()), name)
        taken.add(name)

    for node in made:
        if node not in depending or not hasattr(node.meta.get("val"), "shape"):
            continue
        calls = _calls(node)
        ended = [call for call in reversed(calls) if any(user not in inside[call.key] for user in node.users)]
        for call in ended:
            give(node, call.path if call.path not in taken else _counted(call.path, taken | paths))
        word = FUNCTIONAL.get(_operation(_before_item(node)))
        if word and _is_layer_by_itself(node, calls, depending) and (not ended or ended[0] != calls[-1]):
            name = ".".join([*(call.path for call in calls[-1:]), word])
            give(node, name if name not in taken | paths else _counted(name, taken | paths))
    for result in results:
        if result in depending and result.name not in names:
            give(result, OUTPUT if OUTPUT not in taken | paths else _counted(OUTPUT, taken | paths))
    return names


def _counted(name: str, taken: set[str]) -> str:
    numbered = (f"{name}_{number}" for number in itertools.count(1))
    return next(free for free in numbered if free not in taken)


def _before_item(node: Any) -> Any:
    """The operation of which a node is the first result, or the node."""
    return node.args[0] if node.target is operator.getitem and node.args[1] == 0 else node


def _is_layer_by_itself(node: Any, calls: Sequence[Call], depending: set[Any]) -> bool:
    if calls and calls[-1].kind.startswith(PLAIN_MODULES) and not calls[-1].kind.startswith(CONTAINERS):
        return False
    return _operation(node) not in OF_TWO or sum(item in depending for item in node.all_input_nodes) > 1


def _depending(nodes: Sequence[Any], image: str) -> set[Any]:
    """The nodes that depend on the image."""
    found: set[Any] = set()
    for node in nodes:
        if node.name == image or any(item in found for item in node.all_input_nodes):
            found.add(node)
    return found

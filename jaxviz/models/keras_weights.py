"""Keras's weights and the families' modules: one dictionary of arrays, one NNX state, and the way between them.

Everywhere else in the project weights are the plain dictionary {layer: {parameter: array}} with Keras's names: `kernel`
and `bias` of convolutions and dense layers, `gamma`, `beta`, `moving_mean` and `moving_variance` of batch norms. A
family stores what holds weights under its layer's name, so a leaf's path ends in (layer, parameter of Flax), and the
names of the parameters and the shape of depthwise kernels are all that differs:

    Keras (kernel height, kernel width, channels)        Flax (kernel height, kernel width, 1, channels)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxviz.errors import WeightsError

Weights = Mapping[str, Mapping[str, Any]]  # {layer: {parameter: array}}
Shapes = dict[str, dict[str, tuple[int, ...]]]  # {layer: {parameter: shape}}
State = nnx.State[Any, Any]
# What builds a module from `head`, `kernel_init` and `rngs`: `ResNet50V2`, `EfficientNetLite0`.
Family = Callable[..., nnx.Module]

# Flax's name by Keras's, in Keras's order.
KERNEL_NAMES = {"kernel": "kernel", "bias": "bias"}
BATCH_NORM_NAMES = {"gamma": "scale", "beta": "bias", "moving_mean": "mean", "moving_variance": "var"}


class AbstractModule(NamedTuple):
    """A family's module in evaluation mode, without numbers."""

    definition: nnx.GraphDef[Any]
    state: State  # shapes where arrays would be
    layers: tuple[str, ...]  # those that hold weights, in the order in which they were made


def to_state(weights: Weights, like: State) -> State:
    """The state of a module that holds these weights, for `nnx.update` and `nnx.merge`.

    Args:
        weights: {layer: {parameter: array}} with Keras's names.
        like: the state of a module of the same architecture, `nnx.state(model)`; its numbers are not looked at.

    Raises:
        WeightsError: a layer or parameter is missing or one too many, or has another shape.

    Example:
        >>> from jaxviz.models.resnet_v2 import ResNetV2
        >>> trained, fresh = (ResNetV2((1, 1), channels=(8, 16), rngs=nnx.Rngs(seed)) for seed in (0, 1))
        >>> weights = from_state(nnx.state(trained))
        >>> nnx.update(fresh, to_state(weights, nnx.state(fresh)))
    """
    leaves = list(_leaves(like))
    _check_names(weights, leaves)
    flat = {}
    for leaf in leaves:
        array = weights[leaf.layer][leaf.parameter]
        if tuple(array.shape) != leaf.keras_shape:
            raise WeightsError(
                f"weights have a {leaf.layer}/{leaf.parameter} of shape {tuple(array.shape)}; "
                f"the network's is {leaf.keras_shape}"
            )
        flat[leaf.path] = array if leaf.shape == leaf.keras_shape else array.reshape(leaf.shape)
    return nnx.from_flat_state(flat)


def from_state(state: State) -> dict[str, dict[str, jax.Array]]:
    """The weights that a state holds, {layer: {parameter: array}} with Keras's names.

    Args:
        state: of a family's module, `nnx.state(model)`, or a part of one, `nnx.state(model, nnx.Param)`. What has no
            name in Keras, as the keys of a dropout, is left out.
    """
    weights: dict[str, dict[str, jax.Array]] = {}
    for leaf in _leaves(state):
        weights.setdefault(leaf.layer, {})[leaf.parameter] = leaf.variable[...].reshape(leaf.keras_shape)
    return weights


def weight_shapes(family: Family, *, head: bool = True) -> Shapes:
    """Shape of every weight array, {layer: {parameter: shape}}, in the order of the network; nothing is computed."""
    found = abstract_module(family, head=head)
    shapes: Shapes = {layer: {} for layer in found.layers}
    for leaf in _leaves(found.state):
        shapes[leaf.layer][leaf.parameter] = leaf.keras_shape
    return shapes


def abstract_weights(family: Family, *, head: bool = True) -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
    """What stands for the weights where a function of them is traced: float32 arrays without numbers."""
    return {
        layer: {parameter: jax.ShapeDtypeStruct(shape, jnp.float32) for parameter, shape in shapes.items()}
        for layer, shapes in weight_shapes(family, head=head).items()
    }


@lru_cache(maxsize=32)
def abstract_module(family: Family, *, head: bool) -> AbstractModule:
    """A family's module in evaluation mode, without numbers: nothing is computed, and nothing traced in vain."""
    layers: list[str] = []

    def build() -> nnx.Module:
        module = family(head=head, kernel_init=_zeros, rngs=_NoKeys())
        module.eval()
        layers.extend(_layers(module))
        return module

    definition, state = nnx.split(nnx.eval_shape(build))
    return AbstractModule(definition, state, tuple(layers))


class _Leaf(NamedTuple):
    """A parameter under both its names."""

    path: tuple[Any, ...]
    layer: str
    parameter: str  # Keras's name
    shape: tuple[int, ...]
    keras_shape: tuple[int, ...]
    variable: nnx.Variable[Any]


def _leaves(state: State) -> Iterator[_Leaf]:
    """The leaves of a state, those of each layer in Keras's order."""
    variables = dict(nnx.to_flat_state(state))
    for module in dict.fromkeys(path[:-1] for path in variables):
        is_batch_norm = any((*module, name) in variables for name in ("scale", "mean"))
        for parameter, name in (BATCH_NORM_NAMES if is_batch_norm else KERNEL_NAMES).items():
            path = (*module, name)
            if path in variables:
                shape = tuple(variables[path].shape)
                yield _Leaf(path, str(module[-1]), parameter, shape, _keras_shape(shape), variables[path])


def _keras_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A depthwise kernel without its axis of one input channel; other shapes as they are."""
    is_depthwise = len(shape) == 4 and shape[2] == 1
    return (*shape[:2], shape[3]) if is_depthwise else shape


def _check_names(weights: Weights, leaves: list[_Leaf]) -> None:
    here = {f"{layer}/{parameter}" for layer, arrays in weights.items() for parameter in arrays}
    wanted = {f"{leaf.layer}/{leaf.parameter}" for leaf in leaves}
    if missing := sorted(wanted - here):
        raise WeightsError(f"weights lack {len(missing)} arrays of the network, the first is {missing[0]}")
    if unknown := sorted(here - wanted):
        raise WeightsError(f"weights hold {len(unknown)} arrays that the network lacks, the first is {unknown[0]}")


def _layers(module: nnx.Module) -> Iterator[str]:
    """Names of the submodules that hold weights, in the order in which they were made."""
    for name, child in vars(module).items():
        if isinstance(child, nnx.Module):
            if any(isinstance(value, nnx.Variable) for value in vars(child).values()):
                yield name
            else:
                yield from _layers(child)


def _zeros(key: Any, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> jax.Array:  # noqa: ARG001
    return jnp.zeros(shape, dtype)


class _NoKeys(nnx.Rngs):
    """Keys for initializers that look at none: tracing real ones took 70 % of the time of an abstract module."""

    def params(self) -> None:
        """No key."""

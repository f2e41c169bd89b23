"""Networks with channels first: the same numbers as with channels last, and no activation is turned on the way."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.networks import (
    FAST,
    NCHW,
    PLAIN,
    conv,
    distance,
    graph_of,
    kernel,
    last,
    normal,
    prepared,
    runner,
    values_and_gradients,
)
from jax import lax

from jaxviz.network.jaxprs import every_equation
from jaxviz.network.layout import Turned, arranged, from_arranged, whole
from jaxviz.network.program import Program, canonical_shape
from jaxviz.network.rules import Settings

pytestmark = pytest.mark.quick

TOLERANCE = 1e-6  # sums of a few hundred float32 products in another order
SIZE = (12, 10)

WEIGHTS = {
    "conv1": kernel(0, 3, 3, 3, 8),
    "scale": 1 + normal(1, 8, scale=0.1),
    "variance": 1 + normal(2, 8, scale=0.1) ** 2,
    "mean": normal(3, 8, scale=0.1),
    "depthwise": kernel(4, 3, 3, 1, 8) * 3,
    "conv2": kernel(5, 3, 3, 4, 6),
    "conv3": kernel(6, 1, 1, 6, 5),
    "bias": normal(7, 5),
    "dense": kernel(8, 5, 4),
    "gate": kernel(9, 5, 5),
}


def last_(w: Any, x: jax.Array) -> dict[str, jax.Array]:
    """Channels last."""
    y: dict[str, jax.Array] = {}
    x = y["conv1"] = conv(x, w["conv1"])
    x = y["norm"] = (x - w["mean"]) * (w["scale"] * lax.rsqrt(w["variance"] + 1e-3))
    x = y["relu"] = jax.nn.relu(x)
    x = y["depthwise"] = conv(x, w["depthwise"], 2, groups=8) + lax.slice(x, (0, 0, 0, 0), x.shape, (1, 2, 2, 1))
    x = jnp.pad(x, ((0, 0), (0, 1), (1, 0), (0, 0)))
    x = y["conv2"] = conv(jnp.concatenate([x[..., 6:], *jnp.split(x, 4, -1)[:1]], -1), w["conv2"], 1, "VALID")
    x = y["pool"] = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 2, 1), (1, 2, 1, 1), "SAME")
    x = y["mean pool"] = lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 1, 1, 1), "VALID") / 4
    x = y["conv3"] = conv(x, w["conv3"]) + w["bias"]
    x = x * jax.nn.sigmoid(x.mean((1, 2)) @ w["gate"])[:, None, None]
    y["gated"] = x
    y["dense"] = jax.nn.softmax(x.max((1, 2)) @ w["dense"])
    return y


def _first(kernel: jax.Array) -> jax.Array:
    return jnp.transpose(kernel, (3, 2, 0, 1))


def _conv_first(x: jax.Array, kernel: jax.Array, stride: int = 1, pads: str = "SAME", groups: int = 1) -> jax.Array:
    found: jax.Array = lax.conv_general_dilated(
        x[None], kernel, (stride, stride), pads, dimension_numbers=NCHW, feature_group_count=groups
    )
    return found[0]


def one_(w: Any, x: jax.Array) -> dict[str, jax.Array]:
    """Channels first, of one image (channels, height, width), as Equinox has it: kernels (out, in, height, width)."""
    y: dict[str, jax.Array] = {}
    x = y["conv1"] = _conv_first(x, w["conv1"])
    root = lax.rsqrt(w["variance"] + 1e-3)
    x = y["norm"] = (x - w["mean"][:, None, None]) * (w["scale"] * root)[:, None, None]
    x = y["relu"] = jax.nn.relu(x)
    x = y["depthwise"] = _conv_first(x, w["depthwise"], 2, groups=8) + lax.slice(x, (0, 0, 0), x.shape, (1, 2, 2))
    x = jnp.pad(x, ((0, 0), (0, 1), (1, 0)))
    x = y["conv2"] = _conv_first(jnp.concatenate([x[6:], *jnp.split(x, 4)[:1]]), w["conv2"], 1, "VALID")
    x = y["pool"] = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 2), (1, 2, 1), "SAME")
    x = y["mean pool"] = lax.reduce_window(x, 0.0, lax.add, (1, 2, 2), (1, 1, 1), "VALID") / 4
    x = y["conv3"] = _conv_first(x, w["conv3"]) + w["bias"][:, None, None]
    x = x * jax.nn.sigmoid(w["gate"].T @ x.mean((1, 2)))[:, None, None]
    y["gated"] = x
    y["dense"] = jax.nn.softmax(w["dense"].T @ x.max((1, 2)))
    return y


def first_(w: Any, images: jax.Array) -> dict[str, jax.Array]:
    """The same of images (batch, height, width, channels)."""
    return jax.vmap(lambda x: one_(w, x))(jnp.transpose(images, (0, 3, 1, 2)))


FIRST_WEIGHTS = {name: _first(leaf) if leaf.ndim == 4 else leaf for name, leaf in WEIGHTS.items()}
LAST, FIRST = graph_of(last_, WEIGHTS, SIZE), graph_of(first_, FIRST_WEIGHTS, SIZE)
LAYERS = tuple(LAST.layers)
SETTINGS = {"plain": PLAIN, "fast": FAST, "gpu": Settings(platform="gpu")}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layers_shape_is_that_of_the_network_with_channels_last(layer):
    expected = canonical_shape(LAST, LAST.layers[layer])
    assert len(expected) == (1 if layer == "dense" else 3)
    assert canonical_shape(FIRST, FIRST.layers[layer]) == expected


@pytest.mark.parametrize("layer", LAYERS)
def test_axes_and_fields_are_those_of_the_network_with_channels_last(layer):
    ours, theirs = FIRST.geometry[FIRST.layers[layer]], LAST.geometry[LAST.layers[layer]]
    assert (ours.field, ours.jump) == (theirs.field, theirs.jump)
    assert (ours.rows, ours.columns, ours.channels) == ((2, 3, 1) if layer != "dense" else (None, None, 1))


@pytest.mark.parametrize("layer", ["conv2", "gated", "dense"])
def test_values_and_gradients_are_those_of_the_network_with_channels_last(layer):
    ways: list[Any] = [(lambda w, x: last_(w, x)[layer], WEIGHTS)]
    for settings in SETTINGS.values():
        program = Program(FIRST, [FIRST.layers[layer]], settings)
        ways.append((runner(program), prepared(program, FIRST_WEIGHTS)))
    theirs, *ours = values_and_gradients(ways, normal(10, 2, *SIZE, 3))
    for name, (value, gradient) in zip(SETTINGS, ours, strict=True):
        assert distance(value, theirs[0]) < TOLERANCE, name
        assert distance(gradient, theirs[1]) < TOLERANCE, name


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("settings", [FAST, Settings(platform="gpu")], ids=["cpu", "gpu"])
def test_no_activation_is_turned(layer, settings):
    program = Program(FIRST, [FIRST.layers[layer]], settings)
    images = jnp.zeros((2, *SIZE, 3))
    jaxpr = jax.make_jaxpr(runner(program))(prepared(program, FIRST_WEIGHTS), images)
    sizes = [
        math.prod(equation.invars[0].aval.shape)
        for equation in every_equation(jaxpr)
        if equation.primitive.name == "transpose" and equation.params["permutation"] != tuple(range(4))
    ]
    assert max(sizes, default=0) <= 2 * 8  # a scale of each channel or the mean of each, of two images


def test_kernels_are_turned_beforehand():
    graph = graph_of(lambda w, x: first_(w, x)["conv1"], FIRST_WEIGHTS, SIZE)
    program = Program(graph, [last(graph)], FAST)
    shapes = {array.shape for array in prepared(program, FIRST_WEIGHTS).values()}
    assert (3, 3, 3, 8) in shapes
    assert (8, 3, 3, 3) not in shapes


@pytest.mark.parametrize("axes", [(0, 2, 3, 1), (0, 1, 2, 3), (3, 0, 1, 2)])
@pytest.mark.parametrize("shape", [(1, 4, 5, 6), (2, 1, 5, 1), (1, 1, 1, 3), (1, 1, 1, 1)])
def test_a_stored_value_is_whole_again(shape, axes):
    array = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    stored = from_arranged(jnp.transpose(array, axes), shape, axes)
    assert isinstance(stored, Turned) == (axes != (0, 1, 2, 3))
    np.testing.assert_array_equal(whole(stored), array)
    np.testing.assert_array_equal(arranged(stored, shape, (0, 2, 3, 1)), array.transpose(0, 2, 3, 1))

"""Programs in bfloat16, as each platform has them, and networks that compute in bfloat16 themselves."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.networks import (
    FAST,
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

from jaxviz.network.program import Program
from jaxviz.network.rules import Settings

pytestmark = pytest.mark.quick

FLOAT32_TOLERANCE = 1e-6  # sums of a few hundred products in another order
BFLOAT16_TOLERANCE = 2e-2  # three convolutions of operands with 8 bits, 2 ** -9 each on average, and what is kept
SIZE = (9, 8)


def _network(w: Any, x: jax.Array) -> jax.Array:
    """One of each kind of rule, wide enough that a CPU multiplies the 1x1 convolutions in bfloat16."""
    x = jnp.pad(conv(x, w["stem"], 2), ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = x * (w["scale"] * lax.rsqrt(w["variance"] + 1e-3)) + w["shift"]
    x = conv(jax.nn.relu(x), w["depthwise"], 1, "VALID", groups=16)
    x = conv(jax.nn.relu6(x), w["expand"])
    x = x + conv(jax.nn.silu(x), w["inner"], dilation=(2, 1))
    pooled = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    pooled = lax.reduce_window(pooled, 0.0, lax.add, (1, 2, 2, 1), (1, 1, 1, 1), "SAME") / 4
    gate = jax.nn.sigmoid(pooled.mean((1, 2)) @ w["gate"])
    return jnp.concatenate([pooled * gate[:, None, None, :], pooled[..., :3]], -1)


WEIGHTS = {
    "stem": kernel(0, 3, 3, 4, 16),
    "scale": 1 + normal(1, 16, scale=0.1),
    "variance": 1 + normal(2, 16, scale=0.1) ** 2,
    "shift": normal(3, 16, scale=0.1),
    "depthwise": kernel(4, 3, 3, 1, 16) * 4,
    "expand": kernel(5, 1, 1, 16, 12) * 2,
    "inner": kernel(6, 3, 3, 12, 12),
    "gate": kernel(7, 12, 12),
}
SETTINGS = {
    "cpu, bfloat16": Settings(dtype="bfloat16"),
    "cpu, rounded": Settings(dtype="bfloat16", multiplies_bfloat16=False),
    "gpu, bfloat16": Settings(platform="gpu", dtype="bfloat16"),
    "tpu, bfloat16": Settings(platform="tpu", dtype="bfloat16"),
    "gpu, float32": Settings(platform="gpu"),
}


@pytest.fixture(scope="module")
def compared() -> dict[str, tuple[jax.Array, jax.Array]]:
    """By its settings what each program gives, and what the function itself."""
    graph = graph_of(_network, WEIGHTS, SIZE, 4)
    ways: list[Any] = [(_network, WEIGHTS)]
    for settings in SETTINGS.values():
        program = Program(graph, [last(graph)], settings)
        ways.append((runner(program), prepared(program, WEIGHTS)))
    found = values_and_gradients(ways, normal(7, 2, *SIZE, 4))
    return dict(zip(["itself", *SETTINGS], found, strict=True))


@pytest.mark.parametrize("name", SETTINGS)
def test_values_and_gradients_of_a_setting_are_near_those_of_the_function(compared, name):
    tolerance = FLOAT32_TOLERANCE if SETTINGS[name].dtype == "float32" else BFLOAT16_TOLERANCE
    for ours, theirs in zip(compared[name], compared["itself"], strict=True):
        assert ours.dtype == jnp.float32
        assert distance(ours, theirs) < tolerance


@pytest.mark.parametrize("name", [name for name in SETTINGS if name.endswith("bfloat16") or "rounded" in name])
def test_bfloat16_is_not_float32(compared, name):
    assert distance(compared[name][0], compared["itself"][0]) > FLOAT32_TOLERANCE


def test_a_cpu_without_bfloat16_products_computes_the_same(compared):
    for ours, theirs in zip(compared["cpu, rounded"], compared["cpu, bfloat16"], strict=True):
        assert distance(ours, theirs) < 1e-3  # a number on the edge may be rounded the other way


def test_an_accelerator_keeps_activations_in_bfloat16():
    graph = graph_of(_network, WEIGHTS, SIZE, 4)
    program = Program(graph, [last(graph)], Settings(platform="gpu", dtype="bfloat16"))
    arrays = prepared(program, WEIGHTS)
    jaxpr = jax.make_jaxpr(runner(program))(arrays, jnp.zeros((2, *SIZE, 4)))
    convolutions = [equation for equation in jaxpr.eqns if equation.primitive.name == "conv_general_dilated"]
    assert len(convolutions) == 3
    assert {str(operand.aval.dtype) for equation in convolutions for operand in equation.invars} == {"bfloat16"}
    assert jaxpr.out_avals[0].dtype == jnp.float32


@jax.custom_vjp
def _sine(x: jax.Array) -> jax.Array:
    return jnp.sin(x)


_sine.defvjp(lambda x: (jnp.sin(x), jnp.cos(x)), lambda cosine, gradient: (cosine * gradient,))


def _half(w: Any, x: jax.Array) -> jax.Array:
    """Computes in bfloat16, as mixed-precision training leaves a network, and gives bfloat16."""
    w = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), w)
    x = jax.nn.relu(conv(x.astype(jnp.bfloat16), w["stem"], 2) + w["bias"])
    x = conv(x, w["depthwise"], groups=16)
    x = jnp.concatenate([_sine(x), x[..., :4] * x.sum((1, 2), keepdims=True, dtype=jnp.bfloat16)[..., :4] / 20], -1)
    x = lax.cond(w["bias"][0] > 100, lambda x: x, lambda x: x * 2, x)
    x = lax.reduce_window(x, np.array(0, jnp.bfloat16), lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "SAME") / 4
    return lax.reduce_window(x, np.array(-np.inf, jnp.bfloat16), lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "SAME")


HALF_WEIGHTS = {
    "stem": kernel(0, 3, 3, 4, 16), "bias": normal(1, 16, scale=0.1), "depthwise": kernel(4, 3, 3, 1, 16) * 4,
}  # fmt: skip
HALF_SETTINGS = {"plain": PLAIN, "fast": FAST, **SETTINGS}


@pytest.mark.parametrize("name", HALF_SETTINGS)
def test_a_network_that_computes_in_bfloat16_is_handed_on_as_float32(name):
    graph = graph_of(_half, HALF_WEIGHTS, SIZE, 4)
    program = Program(graph, [last(graph)], HALF_SETTINGS[name])
    ways = [(_half, HALF_WEIGHTS), (runner(program), prepared(program, HALF_WEIGHTS))]
    theirs, ours = values_and_gradients(ways, normal(7, 2, *SIZE, 4))
    assert theirs[0].dtype == jnp.bfloat16
    assert ours[0].dtype == jnp.float32
    assert distance(ours[0], theirs[0]) < BFLOAT16_TOLERANCE
    assert distance(ours[1], theirs[1]) < BFLOAT16_TOLERANCE


def test_the_plain_replay_of_a_bfloat16_network_is_bit_equal():
    graph = graph_of(_half, HALF_WEIGHTS, SIZE, 4)
    program = Program(graph, [last(graph)], PLAIN)
    image = normal(7, *SIZE, 4)
    ours = jax.jit(lambda image: program.run(prepared(program, HALF_WEIGHTS), [image])[0])(image)
    theirs = jax.jit(_half)(HALF_WEIGHTS, image[None])[0].astype(jnp.float32)
    np.testing.assert_array_equal(ours, theirs)

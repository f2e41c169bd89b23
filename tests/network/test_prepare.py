"""What is computed once, what two programs share, and when jit compiles again."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.networks import FAST, PLAIN, conv, distance, graph_of, kernel, last, normal, prepared, runner
from jax import lax

from jaxviz.network.jaxprs import every_equation
from jaxviz.network.program import Program
from jaxviz.network.rules import Settings

pytestmark = pytest.mark.quick

TOLERANCE = 1e-6  # sums of a few hundred float32 products in another order
SETTINGS = {"plain": PLAIN, "cpu": FAST, "gpu": Settings(platform="gpu", dtype="bfloat16")}


def network(w: Any, x: jax.Array) -> jax.Array:
    x = conv(x, w["stem"].astype(jnp.float32)) * (w["scale"] * lax.rsqrt(w["variance"] + 1e-3)) + w["bias"]
    x = jax.nn.softplus(conv(jax.nn.relu(x), w["inner"] * jax.nn.relu(w["gain"]), 2))
    return lax.reduce_window(jax.nn.gelu(x), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def weights(seed: int) -> dict[str, jax.Array]:
    return {
        "stem": kernel(seed, 3, 3, 3, 4).astype(jnp.bfloat16), "inner": kernel(seed + 1, 3, 3, 4, 4),
        "gain": 1 + normal(seed, 4) ** 2, "scale": normal(seed + 2, 4), "variance": normal(seed + 3, 4) ** 2,
        "bias": normal(seed + 4, 4), "unused": normal(seed, 3),
    }  # fmt: skip


def program_of(forward: Any, its_weights: Any, settings: Settings = FAST, size: tuple[int, int] = (8, 8)) -> Program:
    graph = graph_of(forward, its_weights, size)
    return Program(graph, [last(graph)], settings)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_programs_of_a_network_that_is_traced_anew_are_equal(settings):
    one, other = (program_of(network, weights(seed), settings) for seed in (0, 10))
    assert one == other
    assert hash(one) == hash(other)
    assert one.fingerprint == other.fingerprint


def test_a_program_with_other_weights_does_not_compile_again():
    compiled = []

    @partial(jax.jit, static_argnums=0)
    def run(program, arrays, image):
        compiled.append(program)
        return program.run(arrays, [image])[0]

    image = normal(1, 8, 8, 3)
    for seed in (0, 10):
        program = program_of(network, weights(seed))
        found = run(program, prepared(program, weights(seed)), image)
        assert distance(found, network(weights(seed), image[None])[0]) < TOLERANCE
    assert len(compiled) == 1


@pytest.mark.parametrize(
    "other",
    [
        lambda w, x: 2 * network(w, x),
        lambda w, x: network(w, jnp.sin(x)),
        lambda w, x: network({**w, "bias": w["scale"]}, x),
        lambda w, x: network(w, jnp.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :8]),
    ],
    ids=["another number", "another operation", "another weight", "another pad"],
)
def test_programs_of_other_networks_are_not_equal(other):
    one, another = (program_of(forward, weights(0)) for forward in (network, other))
    assert one != another
    assert one.fingerprint != another.fingerprint


def test_programs_for_other_settings_sizes_and_targets_are_not_equal():
    graph = graph_of(network, weights(0))
    targets = [equation.outputs[0] for equation in graph.trace.equations if equation.name == "conv_general_dilated"]
    programs = [
        *(program_of(network, weights(0), settings) for settings in SETTINGS.values()),
        program_of(network, weights(0), size=(10, 8)),
        *(Program(graph, [target], FAST) for target in targets),
    ]
    assert len(set(programs)) == len({program.fingerprint for program in programs}) == len(programs)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_what_rests_on_weights_only_is_prepared(settings):
    program = program_of(network, weights(0), settings)
    jaxpr = jax.make_jaxpr(runner(program))(prepared(program, weights(0)), jnp.zeros((2, 8, 8, 3)))
    names = [equation.primitive.name for equation in every_equation(jaxpr)]
    assert "rsqrt" not in names
    assert names.count("conv_general_dilated") == 2


def test_only_what_is_needed_is_prepared():
    graph = graph_of(network, weights(0))
    (first, _) = (e.outputs[0] for e in graph.trace.equations if e.name == "conv_general_dilated")
    program = Program(graph, [first], FAST)
    assert len(prepared(program, weights(0))) == 2  # a kernel, and the one for its gradient
    assert [str(graph.trace.leaf_paths[place][0].key) for place in graph.leaves_behind(first)] == ["stem"]


def test_sizes_of_an_image_share_what_is_prepared():
    programs = [program_of(network, weights(0), size=size) for size in ((8, 8), (16, 12))]
    one, other = (prepared(program, weights(0)) for program in programs)
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])


def test_settings_do_not_share_what_they_prepare_in_other_ways():
    one, other = (
        prepared(program_of(network, weights(0), settings), weights(0)) for settings in (FAST, SETTINGS["gpu"])
    )
    for key in one.keys() & other.keys():
        assert one[key].dtype == other[key].dtype
        np.testing.assert_array_equal(one[key], other[key])


def closed_over(seed: int) -> Any:
    array, bias = kernel(seed, 3, 3, 3, 4), np.asarray(normal(seed, 4))
    return lambda w, x: jax.nn.relu(conv(x, array) + bias) * w


def test_arrays_that_a_function_closes_over_are_prepared_and_not_built_in():
    one, other = (program_of(closed_over(seed), jnp.float32(1)) for seed in (0, 1))
    assert one == other
    arrays = [prepared(program, jnp.float32(1)) for program in (one, other)]
    assert arrays[0].keys() == arrays[1].keys()
    image = normal(1, 8, 8, 3)
    for seed in (0, 1):
        found = one.run(arrays[seed], [image])[0]
        assert distance(found, closed_over(seed)(jnp.float32(1), image[None])[0]) < TOLERANCE


def with_own_derivative(kind: str, factor: float, seed: int = 0) -> Any:
    """A convolution of a closed-over kernel whose derivative is that, times a factor that no trace of it has."""
    array = kernel(seed, 3, 3, 3, 4)

    def block(x):
        return conv(x, array)

    if kind == "custom_jvp":
        own = jax.custom_jvp(block)
        own.defjvps(lambda tangent, _, x: factor * block(tangent))
    else:
        own = jax.custom_vjp(block)
        own.defvjp(lambda x: (block(x), x), lambda x, gradient: (factor * jax.vjp(block, x)[1](gradient)[0],))
    return lambda w, x: own(x) * w


@pytest.mark.parametrize("kind", ["custom_jvp", "custom_vjp"])
def test_programs_with_another_derivative_of_their_own_are_not_equal(kind):
    one, same, other = (program_of(with_own_derivative(kind, factor), jnp.float32(1)) for factor in (1.0, 1.0, 2.0))
    assert one == same
    assert one != other
    assert one.fingerprint != other.fingerprint


def in_cond(factor: float) -> Any:
    inner = with_own_derivative("custom_jvp", factor)
    return lambda w, x: lax.cond(w > 0, lambda x: inner(w, x), lambda x: inner(2 * w, x), x)


def test_a_derivative_inside_what_is_not_opened_counts():
    one, same, other = (program_of(in_cond(factor), jnp.float32(1)) for factor in (1.0, 1.0, 2.0))
    assert one == same
    assert one != other


def test_what_a_derivative_closes_over_counts():
    one, other = (program_of(with_own_derivative("custom_vjp", 1.0, seed), jnp.float32(1)) for seed in (0, 1))
    assert one != other


@pytest.mark.parametrize("kind", ["custom_jvp", "custom_vjp"])
def test_own_derivatives_of_fixed_values_do_not_matter(kind):
    def forward(w, x):
        own = jax.custom_jvp(jnp.exp) if kind == "custom_jvp" else jax.custom_vjp(jnp.exp)
        if kind == "custom_jvp":
            own.defjvps(lambda tangent, _, x: tangent)
        else:
            own.defvjp(lambda x: (jnp.exp(x), ()), lambda _, gradient: (gradient,))
        return conv(x, own(w))

    programs = [program_of(forward, kernel(0, 3, 3, 3, 4), size=size) for size in ((8, 8), (8, 8), (10, 8))]
    assert programs[0] == programs[1]
    assert {frozenset(prepared(program, kernel(0, 3, 3, 3, 4))) for program in programs} == {
        frozenset(prepared(programs[0], kernel(0, 3, 3, 3, 4)))
    }

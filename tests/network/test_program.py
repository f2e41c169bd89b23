"""Programs against the user's own function under autodiff: values and input gradients, with rules and without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.networks import (
    FAST,
    NHWC,
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

pytestmark = pytest.mark.quick

TOLERANCE = 1e-6  # sums of a few hundred float32 products in another order, 6e-8 each


class Case(NamedTuple):
    """A network: images have 4 channels."""

    forward: Callable[[Any, jax.Array], jax.Array]
    weights: Any = ()
    size: tuple[int, int] = (9, 8)


def _pool(x: jax.Array, window: tuple[int, int], strides: tuple[int, int], pads: Any, *, maximum: bool) -> jax.Array:
    start, combine = (-jnp.inf, lax.max) if maximum else (0.0, lax.add)
    if not isinstance(pads, str):
        pads = ((0, 0), *pads, (0, 0))
    return lax.reduce_window(x, start, combine, (1, *window, 1), (1, *strides, 1), pads)


def _residual(w: Any, x: jax.Array) -> jax.Array:
    x = conv(x, w[0])
    return conv(jax.nn.relu(x), w[1]) + x


def _squeeze_and_excite(w: Any, x: jax.Array) -> jax.Array:
    x = conv(x, w[0])
    gate = jax.nn.relu(x.mean((1, 2)) @ w[1])
    return conv(x * jax.nn.sigmoid(gate @ w[2])[:, None, None, :], w[3])


def _classifier(w: Any, x: jax.Array) -> jax.Array:
    return jax.nn.softmax(conv(x, w[0]).mean((1, 2)) @ w[1] + 0.5)


def _scanned(w: Any, x: jax.Array) -> jax.Array:
    def block(x: jax.Array, its: Any) -> tuple[jax.Array, jax.Array]:
        x = x + jax.nn.relu(conv(x, its["kernel"]) + its["bias"])
        return x, x.mean((1, 2))

    x, means = lax.scan(block, x, w)
    return x * means.sum(0)[:, None, None, :]


def _scanned_backwards(w: Any, x: jax.Array) -> jax.Array:
    x, outs = lax.scan(lambda x, k: (jax.nn.tanh(conv(x, k)), x), x, w, reverse=True)
    return x + outs[0] - 2 * outs[1]


def _checkpointed(w: Any, x: jax.Array) -> jax.Array:
    block = jax.checkpoint(lambda k, x: jax.nn.relu(conv(x, k, 2)))
    return conv(block(w[0], x), w[1])


@jax.custom_vjp
def _doubling(x: jax.Array) -> jax.Array:
    return jnp.sin(x)


_doubling.defvjp(lambda x: (jnp.sin(x), ()), lambda _, gradient: (2 * gradient,))  # not the derivative of a sine


@jax.custom_jvp
def _tripling(x: jax.Array) -> jax.Array:
    return jnp.sin(x)


_tripling.defjvps(lambda tangent, _, x: 3 * tangent)


def _conditional(w: Any, x: jax.Array) -> jax.Array:
    x = conv(x, w[0])
    return lax.cond(w[0][0, 0, 0, 0] > 100, lambda x: x, lambda x: conv(jnp.sin(x), w[1]), x)


def _one_dimensional(w: Any, x: jax.Array) -> jax.Array:
    rows = conv(x, w[0]).mean(2)
    rows = lax.conv_general_dilated(rows, w[1], (2,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))
    return rows.mean(1)


def _transposed(w: Any, x: jax.Array) -> jax.Array:
    return lax.conv_transpose(conv(x, w[0], 2), w[1], (2, 2), "SAME", dimension_numbers=NHWC)


def _two_users_of_a_pad(w: Any, x: jax.Array) -> jax.Array:
    x = jnp.pad(conv(x, w[0]), ((0, 0), (1, 2), (0, 1), (0, 0)))
    return conv(x, w[1], 2, "VALID") + jnp.exp(x[:, 1:10:2, 1:9:2])


def _padded(x: jax.Array) -> jax.Array:
    return jnp.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)))


def _rounded(x: jax.Array) -> jax.Array:
    """Whole numbers, which meet often, with the gradient of x."""
    return lax.stop_gradient(jnp.round(x)) + (x - lax.stop_gradient(x))


def _cut(w: Any, x: jax.Array) -> jax.Array:
    x = conv(x, w[0])
    return conv(jnp.concatenate([x[:, ::2, 1::2], x[:, ::2, ::2]], -1), w[1])


K = kernel(0, 3, 3, 4, 6)
STRIDES = {"stride 1": 1, "stride 2": 2, "stride 3": 3, "stride 1 by 2": (1, 2), "stride 3 by 2": (3, 2)}
CASES = {
    **{name: Case(lambda w, x, n=n: conv(x, w, n), K) for name, n in STRIDES.items()},
    "wide": Case(lambda w, x: conv(x, w, 2), kernel(0, 3, 3, 4, 40)),
    "kernel 1 by 3": Case(lambda w, x: conv(x, w, (2, 1)), kernel(0, 1, 3, 4, 6)),
    "kernel 5 by 2": Case(lambda w, x: conv(x, w, (2, 3)), kernel(0, 5, 2, 4, 6)),
    "1x1": Case(lambda w, x: conv(x, w), kernel(0, 1, 1, 4, 6)),
    "1x1 of stride 2": Case(lambda w, x: conv(x, w, 2), kernel(0, 1, 1, 4, 6)),
    "no pads": Case(lambda w, x: conv(x, w, 2, "VALID"), K),
    "uneven pads": Case(lambda w, x: conv(x, w, 2, ((0, 3), (2, 1))), K),
    "more pads than kernel": Case(lambda w, x: conv(x, w, 1, ((4, 3), (0, 5))), K),
    "2 groups": Case(lambda w, x: conv(x, w, groups=2), kernel(0, 3, 3, 2, 6)),
    "2 groups of stride 2": Case(lambda w, x: conv(x, w, (2, 1), groups=2), kernel(0, 3, 3, 2, 6)),
    "depthwise": Case(lambda w, x: conv(x, w, groups=4), kernel(0, 3, 3, 1, 4)),
    "depthwise of stride 2": Case(lambda w, x: conv(x, w, 2, groups=4), kernel(0, 5, 3, 1, 4)),
    "depthwise twice": Case(lambda w, x: conv(x, w, (1, 2), groups=4), kernel(0, 3, 3, 1, 8)),
    "depthwise dilated": Case(lambda w, x: conv(x, w, groups=4, dilation=(2, 1)), kernel(0, 3, 3, 1, 4)),
    "dilated": Case(lambda w, x: conv(x, w, dilation=(2, 3)), K),
    "dilated narrow": Case(lambda w, x: conv(x, w, dilation=(2, 2)), kernel(0, 3, 2, 4, 2)),
    "dilated in groups": Case(lambda w, x: conv(x, w, groups=2, dilation=(2, 2)), kernel(0, 3, 3, 2, 4)),
    "dilated with stride": Case(lambda w, x: conv(x, w, 2, dilation=(2, 1)), K),
    "pad in front": Case(lambda w, x: conv(_padded(x), w, 2, "VALID"), K),
    "pad in front of depthwise": Case(lambda w, x: conv(_padded(x), w, 2, "SAME", groups=4), kernel(0, 3, 3, 1, 4)),
    "pad of ones in front": Case(
        lambda w, x: conv(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1.0), w, 1, "VALID"), K
    ),
    "pad between cells in front": Case(
        lambda w, x: conv(lax.pad(x, 0.0, ((0, 0, 0), (1, 1, 1), (0, 0, 0), (0, 0, 0))), w, 1, "VALID"), K
    ),
    "pad of channels in front": Case(
        lambda w, x: conv(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 2))), w, 1, "VALID"), kernel(0, 3, 3, 6, 3)
    ),
    "two users of a pad": Case(_two_users_of_a_pad, (kernel(0, 3, 3, 4, 5), kernel(1, 3, 3, 5, 5))),
    "max pool": Case(lambda w, x: _pool(x, (2, 2), (2, 2), "VALID", maximum=True)),
    "max pool that overlaps": Case(lambda w, x: _pool(x, (3, 3), (2, 2), "SAME", maximum=True)),
    "max pool 3 by 2": Case(lambda w, x: _pool(x, (3, 2), (1, 3), "SAME", maximum=True)),
    "max pool with ties": Case(lambda w, x: _pool(_rounded(x), (3, 3), (2, 1), ((1, 2), (2, 0)), maximum=True)),
    "max pool over gaps": Case(lambda w, x: _pool(x, (2, 2), (3, 3), "VALID", maximum=True)),
    "max pool of all": Case(lambda w, x: _pool(x, (9, 8), (1, 1), "VALID", maximum=True)),
    "max pool too large for a byte": Case(
        lambda w, x: _pool(x, (16, 16), (1, 1), "VALID", maximum=True), size=(17, 16)
    ),
    "average pool": Case(lambda w, x: _pool(x, (2, 2), (2, 2), "VALID", maximum=False) / 4),
    "average pool with pads": Case(lambda w, x: _pool(x, (3, 2), (2, 1), ((1, 2), (0, 1)), maximum=False) / 6),
    "residual": Case(_residual, (kernel(0, 3, 3, 4, 5), kernel(1, 3, 3, 5, 5))),
    "concatenation": Case(_cut, (kernel(0, 3, 3, 4, 5), kernel(1, 3, 3, 10, 5))),
    "squeeze and excite": Case(
        _squeeze_and_excite, (kernel(0, 3, 3, 4, 6), kernel(1, 6, 3), kernel(2, 3, 6), kernel(3, 1, 1, 6, 3))
    ),
    "hard swish": Case(lambda w, x: jax.nn.hard_swish(3 * conv(x, w)), K),
    "gelu": Case(lambda w, x: jax.nn.gelu(conv(x, w)), K),
    "softplus": Case(lambda w, x: jax.nn.softplus(conv(x, w)), K),
    "softmax": Case(_classifier, (kernel(0, 3, 3, 4, 6), kernel(1, 6, 5))),
    "transposed": Case(_transposed, (kernel(0, 3, 3, 4, 5), kernel(1, 3, 3, 5, 6))),
    "scan": Case(_scanned, {"kernel": jnp.stack([kernel(n, 3, 3, 4, 4) for n in range(3)]), "bias": normal(3, 3, 4)}),
    "scan backwards": Case(_scanned_backwards, jnp.stack([kernel(n, 3, 3, 4, 4) for n in range(2)])),
    "checkpoint": Case(_checkpointed, (kernel(0, 3, 3, 4, 5), kernel(1, 3, 3, 5, 5))),
    "custom_vjp": Case(lambda w, x: _doubling(conv(x, w)), K),
    "custom_jvp": Case(lambda w, x: _tripling(conv(x, w)), K),
    "cond": Case(_conditional, (kernel(0, 3, 3, 4, 5), kernel(1, 3, 3, 5, 5))),
    "one dimension": Case(_one_dimensional, (kernel(0, 3, 3, 4, 5), kernel(1, 3, 5, 6))),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_autodiff(name):
    forward, weights, size = CASES[name]
    graph = graph_of(forward, weights, size, 4)
    ways = [(forward, weights)]
    for settings in (PLAIN, FAST):
        program = Program(graph, [last(graph)], settings)
        ways.append((runner(program), prepared(program, weights)))
    theirs, *ours = values_and_gradients(ways, normal(7, 2, *size, 4))
    assert float(np.abs(theirs[1]).max()) > 0
    for way, (value, gradient) in zip(("plain", "fast"), ours, strict=True):
        assert distance(value, theirs[0]) < TOLERANCE, way
        assert distance(gradient, theirs[1]) < TOLERANCE, way


@pytest.mark.parametrize("name", ["pad in front", "two users of a pad"])
def test_a_pad_in_front_of_a_convolution_can_be_a_target_itself(name):
    forward, weights, size = CASES[name]
    graph = graph_of(forward, weights, size, 4)
    (pad,) = (equation.outputs[0] for equation in graph.trace.equations if equation.name == "pad")
    program = Program(graph, [pad, last(graph)], FAST)
    assert sum(step.replayed.said.startswith("pad") for step in program._steps) == 1
    image = normal(7, *size, 4)
    padded, output = program.run(prepared(program, weights), [image])
    assert (padded.shape[0], padded.shape[1]) == (size[0] + 3, size[1] + 1)
    assert distance(output, forward(weights, image[None])[0]) < TOLERANCE


def test_a_pad_in_front_of_a_convolution_is_done_once():
    graph = graph_of(*CASES["pad in front"], 4)
    (step,) = Program(graph, [last(graph)], FAST)._steps
    assert "pads=((1, 2), (0, 1))" in step.replayed.said


def test_a_program_can_begin_at_a_pad_in_front_of_a_convolution():
    forward, weights, size = CASES["pad in front"]
    graph = graph_of(forward, weights, size, 4)
    (pad,) = (equation.outputs[0] for equation in graph.trace.equations if equation.name == "pad")
    program = Program(graph, [last(graph)], FAST, known=[pad])
    image = normal(7, *size, 4)
    (output,) = program.run(prepared(program, weights), [_padded(image[None])[0]])
    assert distance(output, forward(weights, image[None])[0]) < TOLERANCE


@pytest.mark.parametrize("settings", [PLAIN, FAST], ids=["plain", "fast"])
def test_gradient_of_a_tie_goes_to_the_first_maximum(settings):
    graph = graph_of(lambda w, x: _pool(x, (3, 3), (1, 1), "VALID", maximum=True), (), (3, 3), 1)
    program = Program(graph, [last(graph)], settings)
    gradient = jax.grad(lambda image: program.run({}, [image])[0].sum())(jnp.ones((3, 3, 1)))
    np.testing.assert_array_equal(gradient[:, :, 0], [[1, 0, 0], [0, 0, 0], [0, 0, 0]])


def test_images_of_a_batch_are_rendered_as_one_by_one():
    forward, weights, size = CASES["squeeze and excite"]
    graph = graph_of(forward, weights, size, 4)
    program = Program(graph, [last(graph)], FAST)
    arrays, images = prepared(program, weights), normal(7, 3, *size, 4)
    run = runner(program)
    ((together, gradients),) = values_and_gradients([(run, arrays)], images)
    cotangent = normal(99, *together.shape)

    @jax.jit
    def one(image, cotangent):
        value, pull_back = jax.vjp(lambda image: run(arrays, image), image)
        return value, pull_back(cotangent)[0]

    for place in range(3):
        value, gradient = one(images[place : place + 1], cotangent[place : place + 1])
        assert distance(value[0], together[place]) < TOLERANCE
        assert distance(gradient[0], gradients[place]) < TOLERANCE


def test_a_target_that_is_known_is_given_back():
    graph = graph_of(*CASES["residual"], 4)
    image = normal(7, 9, 8, 4)
    (given,) = Program(graph, [graph.trace.image], FAST).run({}, [image])
    np.testing.assert_array_equal(given, image)

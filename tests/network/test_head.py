"""The constant head: from where on a layer is affine, and that what is above gives it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.networks import FAST, QUICKLY, conv, distance, graph_of, kernel, last, normal, prepared
from jax import lax

from jaxviz.network.head import affine_frontier, route_to

pytestmark = pytest.mark.quick

TOLERANCE = 1e-6  # sums of a few hundred float32 products in another order
SIZE = (9, 8)


def _stem(w: Any, x: jax.Array) -> jax.Array:
    return jax.nn.relu(conv(x, w["stem"]))


def _norm(w: Any, x: jax.Array) -> jax.Array:
    return (x - w["mean"]) * (w["scale"] * lax.rsqrt(w["variance"])) + w["bias"]


def _branches(w: Any, x: jax.Array) -> jax.Array:
    a = _stem(w, x)
    b = jnp.tanh(conv(a, w["inner"]))
    return _norm(w, conv(b, w["inner"])) + conv(a, w["inner"])


def _strided(w: Any, x: jax.Array) -> jax.Array:
    x = conv(_stem(w, x), w["inner"])
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 1, 1), (1, 2, 2, 1), "VALID")


def _padded(w: Any, x: jax.Array) -> jax.Array:
    x = jnp.pad(_stem(w, x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    return conv(x, w["inner"], 1, "VALID") + jnp.sin(x[:, 1:-1, 1:-1])


def _pooled(w: Any, x: jax.Array) -> jax.Array:
    return lax.reduce_window(conv(x, w["stem"]), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "SAME")


def _dense(w: Any, x: jax.Array) -> jax.Array:
    return _stem(w, x).mean((1, 2)) @ w["dense"] + w["bias"]


def _joined(w: Any, x: jax.Array) -> jax.Array:
    x = _stem(w, x)
    pooled = lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME") / 9
    return jnp.concatenate([conv(x, w["inner"])[..., ::-1], -pooled], -1) - 1.0


WEIGHTS = {
    "stem": kernel(0, 3, 3, 3, 5),
    "inner": kernel(1, 3, 3, 5, 5),
    "dense": kernel(2, 5, 5),
    **{name: 1 + normal(3, 5, scale=0.1) for name in ("mean", "scale", "variance", "bias")},
}
AFFINE = {  # network -> how many values its last affine part begins at
    "convolution": (lambda w, x: conv(_stem(w, x), w["inner"]), 1),
    "bias and norm": (lambda w, x: _norm(w, conv(_stem(w, x), w["inner"]) + w["bias"]), 1),
    "first convolution": (lambda w, x: conv(x, w["stem"]), 1),
    "two convolutions": (lambda w, x: conv(conv(x, w["stem"]), w["inner"], 2), 1),
    "sum of branches": (_branches, 2),
    "strided slice": (_strided, 1),
    "pad with two users": (_padded, 2),
    "dense": (_dense, 1),
    "concatenation": (_joined, 1),
    "gate": (lambda w, x: conv(x, w["stem"]) * jax.nn.sigmoid(x.mean((1, 2)) @ w["stem"][0, 0])[:, None, None], None),
    "relu": (_stem, None),
    "max pool": (_pooled, None),
    "division by what depends": (lambda w, x: conv(x, w["stem"]) / (1 + x[..., :1] ** 2), None),
}  # fmt: skip


@pytest.mark.parametrize("name", AFFINE)
def test_frontier_is_where_the_affine_part_begins(name):
    forward, count = AFFINE[name]
    graph = graph_of(forward, WEIGHTS, SIZE)
    frontier = affine_frontier(graph, last(graph))
    assert count == (None if frontier is None else len(frontier))
    route = route_to(graph, last(graph), FAST)
    assert (route.lower is None, route.upper is None) == (count is None, count is None)


@pytest.mark.parametrize("name", [name for name, (_, count) in AFFINE.items() if count is not None])
def test_layer_and_gradient_through_the_head_are_those_of_autodiff(name):
    forward, _ = AFFINE[name]
    graph = graph_of(forward, WEIGHTS, SIZE)
    route = route_to(graph, last(graph), FAST)
    constants = list(graph.trace.constants.values())
    arrays = route.prepare(WEIGHTS, constants)
    assert arrays.keys() >= prepared(route.whole, WEIGHTS).keys()
    image, score_of = normal(4, *SIZE, 3), normal(5, *route.shape)

    def whole(image):
        activation = forward(WEIGHTS, image[None])[0]
        return (activation * score_of).sum(), activation

    def by_head(image):
        """The head is a constant, found where everything below is zero."""
        zeros = [jnp.zeros(shape) for shape in route.below_shapes()]
        head = jax.grad(lambda below: (route.above(arrays, below) * score_of).sum())(zeros)
        below = route.below(arrays, image)
        linear = sum((x * its).sum() for x, its in zip(below, head, strict=True))
        return linear, route.above(arrays, below)

    def both(image):
        return [jax.value_and_grad(function, has_aux=True)(image) for function in (whole, by_head)]

    ((_, theirs), their_gradient), ((_, ours), our_gradient) = jax.jit(both, compiler_options=QUICKLY)(image)
    assert distance(ours, theirs) < TOLERANCE
    assert distance(our_gradient, their_gradient) < TOLERANCE


def test_a_value_that_is_needed_elsewhere_is_where_the_affine_part_begins():
    def forward(w, x):
        x = conv(x, w["stem"])
        return conv(x, w["inner"]) + jnp.tanh(x)

    graph = graph_of(forward, WEIGHTS, SIZE)
    made = {equation.name: equation.outputs[0] for equation in reversed(graph.trace.equations)}
    assert set(affine_frontier(graph, last(graph))) == {made["conv_general_dilated"], made["tanh"]}


def test_the_constant_head_needs_none_of_the_weights_below():
    graph = graph_of(AFFINE["convolution"][0], WEIGHTS, SIZE)
    route = route_to(graph, last(graph), FAST)
    upper, lower = (set(prepared(program, WEIGHTS)) for program in (route.upper, route.lower))
    assert upper
    assert lower
    assert not upper & lower
    assert upper | lower == set(prepared(route.whole, WEIGHTS))


def test_the_image_is_below_where_all_is_affine():
    graph = graph_of(AFFINE["two convolutions"][0], WEIGHTS, SIZE)
    route = route_to(graph, last(graph), FAST)
    image = normal(4, *SIZE, 3)
    (below,) = route.below(route.prepare(WEIGHTS), image)
    np.testing.assert_array_equal(below, image)

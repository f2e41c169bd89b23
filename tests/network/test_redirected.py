"""Redirected ReLUs in anybody's network, however the ReLU is written and wherever the channels are."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.networks import FAST, NCHW, QUICKLY, conv, graph_of, kernel, last, normal, prepared
from jax import lax

from jaxviz.network.program import Program
from jaxviz.network.rules import Settings

pytestmark = pytest.mark.quick

RELUS = {
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "max(x, 0)": lambda x: jnp.maximum(x, 0),
    "max(0, x)": lambda x: jnp.maximum(0.0, x),
    "min(max(x, 0), 6)": lambda x: jnp.minimum(jnp.maximum(x, 0.0), 6.0),
    "min(6, max(0, x))": lambda x: jnp.minimum(6, jnp.maximum(0, x)),
    "clip": lambda x: jnp.clip(x, 0, 6),
    "clamp": lambda x: lax.clamp(0.0, x, 6.0),
}
DEAD, ALIVE = 0, 1  # filters
KERNEL, BIAS = kernel(0, 3, 3, 3, 2), jnp.asarray([-9.0, 0.5], jnp.float32)


def channels_last(relu: Any) -> Any:
    return lambda w, x: relu(conv(x, w[0]) + w[1])


def channels_first(relu: Any) -> Any:
    def one(w, x):
        x = lax.conv_general_dilated(x[None], w[0], (1, 1), "SAME", dimension_numbers=NCHW)[0]
        return relu(x + w[1][:, None, None])

    def forward(w, images):
        w = (jnp.transpose(w[0], (3, 2, 0, 1)), w[1])
        return jax.vmap(lambda x: one(w, x))(jnp.transpose(images, (0, 3, 1, 2)))

    return forward


def value_and_gradient(forward: Any, settings: Settings, index: int, *, redirected: bool) -> tuple[Any, Any]:
    graph = graph_of(forward, (KERNEL, BIAS))
    program = Program(graph, [last(graph)], settings)
    arrays = prepared(program, (KERNEL, BIAS))

    def score(image):
        (activation,) = program.run(arrays, [image], redirected=redirected)
        return activation[..., index].mean(), activation

    (_, activation), gradient = jax.jit(jax.value_and_grad(score, has_aux=True), compiler_options=QUICKLY)(
        normal(1, 8, 8, 3)
    )
    return activation, gradient


@pytest.fixture(scope="module")
def found() -> Any:
    """By how it is written: everything once."""
    kept: dict[Any, Any] = {}

    def of(write, name, index, redirected, settings=FAST):
        key = (write, name, index, redirected, settings)
        if key not in kept:
            kept[key] = value_and_gradient(write(RELUS[name]), settings, index, redirected=redirected)
        return kept[key]

    return of


WRITTEN = pytest.mark.parametrize("write", [channels_last, channels_first])


@WRITTEN
@pytest.mark.parametrize("name", RELUS)
def test_a_dead_filter_gets_a_gradient_when_redirected_only(found, write, name):
    assert not np.asarray(found(write, name, DEAD, False)[1]).any()
    assert np.asarray(found(write, name, DEAD, True)[1]).any()


@WRITTEN
@pytest.mark.parametrize("name", RELUS)
def test_values_and_gradients_of_a_live_filter_are_kept_exactly(found, write, name):
    for redirected, plain in zip(found(write, name, ALIVE, True), found(write, name, ALIVE, False), strict=True):
        np.testing.assert_array_equal(redirected, plain)


def test_an_accelerator_redirects_too(found):
    gpu = Settings(platform="gpu", dtype="bfloat16")
    assert not np.asarray(found(channels_first, "relu6", DEAD, False, gpu)[1]).any()
    assert np.asarray(found(channels_first, "relu6", DEAD, True, gpu)[1]).any()


def test_all_of_one_image_decides_whatever_the_first_axis_is():
    """A dense layer of one image, written W @ x, gives (channels,): some of it alive, so nothing is redirected."""

    def forward(w, images):
        return jax.vmap(lambda x: jax.nn.relu(w.T @ x.mean((0, 1)) + jnp.asarray([1.0, -9.0]))[None].sum(0))(images)

    graph = graph_of(forward, kernel(0, 3, 2), (4, 4))
    program = Program(graph, [last(graph)], FAST)
    arrays = prepared(program, kernel(0, 3, 2))
    gradients = [
        jax.grad(lambda x, redirected=redirected: program.run(arrays, [x], redirected=redirected)[0].sum())(
            normal(1, 4, 4, 3)
        )
        for redirected in (False, True)
    ]
    np.testing.assert_array_equal(*gradients)


@jax.custom_vjp
def relu(x: jax.Array) -> jax.Array:
    """A guided one: it is called as that of `jax.nn`, and has another derivative."""
    return jnp.maximum(x, 0)


relu.defvjp(lambda x: (jnp.maximum(x, 0), x), lambda x, gradient: (jnp.where(x > 0, jnp.maximum(gradient, 0), 0),))


@pytest.mark.parametrize("redirected", [False, True])
def test_a_relu_with_a_derivative_of_its_own_keeps_that(redirected):
    graph = graph_of(lambda w, x: relu(x), ())
    program = Program(graph, [last(graph)], FAST)
    x, cotangent = normal(1, 8, 8, 3), normal(2, 8, 8, 3)
    pull_back = jax.vjp(lambda x: program.run({}, [x], redirected=redirected)[0], x)[1]
    np.testing.assert_array_equal(pull_back(cotangent)[0], jnp.where(x > 0, jnp.maximum(cotangent, 0), 0))

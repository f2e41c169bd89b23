"""ReLUs with a redirected gradient: plain values, the plain gradient where there is one, and dead filters revived."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers_networks import dead_under

from jaxviz.ascent import climb as ascent
from jaxviz.network.rules import Settings, redirect

RELUS = {"relu": (redirect.relu, jax.nn.relu), "relu6": (redirect.relu6, jax.nn.relu6)}
VALUES = jnp.array([-7.0, -1.0, 0.0, 0.5, 3.0, 6.0, 7.0, 20.0])
STEP_SIZE = 1.0  # pixels of norm 1 a step


def gradient(function, x, incoming):
    return jax.vjp(function, x)[1](incoming)[0]


@pytest.mark.parametrize("name", RELUS)
def test_values_are_the_plain_ones(name):
    redirected, plain = RELUS[name]
    np.testing.assert_array_equal(redirected(VALUES[None]), plain(VALUES[None]))


@pytest.mark.parametrize("name", RELUS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_an_image_with_a_gradient_of_its_own_keeps_it_bit_for_bit(name, sign):
    """The kinks at 0 and 6 are among the values."""
    redirected, plain = RELUS[name]
    x, incoming = VALUES[None], sign * jnp.arange(1.0, 9.0)[None]
    assert gradient(plain, x, incoming).any()
    np.testing.assert_array_equal(gradient(redirected, x, incoming), gradient(plain, x, incoming))


@pytest.mark.parametrize(
    ("name", "x", "incoming", "expected"),
    [
        ("relu", -1.0, 2.0, 2.0),  # upwards, out of the dead half
        ("relu", -1.0, -2.0, 0.0),  # further down
        ("relu", 0.0, 2.0, 2.0),
        ("relu", 0.0, -2.0, 0.0),
        ("relu6", -1.0, 2.0, 2.0),
        ("relu6", -1.0, -2.0, 0.0),
        ("relu6", 0.0, 2.0, 2.0),
        ("relu6", 7.0, 2.0, 0.0),  # further up
        ("relu6", 7.0, -2.0, -2.0),  # downwards, out of the saturated end
        ("relu6", 6.0, -2.0, -2.0),
        ("relu6", 6.0, 2.0, 0.0),
    ],
)
def test_gradient_of_a_dead_image_is_what_leads_back(name, x, incoming, expected):
    assert gradient(RELUS[name][0], jnp.array([[x]]), jnp.array([[incoming]])) == expected


@pytest.mark.parametrize("name", RELUS)
@pytest.mark.parametrize("shape", [(2, 8), (2, 4, 5, 3)])
def test_every_image_decides_for_itself(name, shape):
    redirected, plain = RELUS[name]
    x = jax.random.normal(jax.random.key(0), shape).at[1].set(-1.0)
    incoming = jax.random.normal(jax.random.key(1), shape)
    alive, dead = gradient(redirected, x, incoming)
    np.testing.assert_array_equal(alive, gradient(plain, x, incoming)[0])
    np.testing.assert_array_equal(dead, jnp.maximum(incoming[1], 0.0))


def test_every_image_decides_for_itself_under_vmap():
    x = jnp.array([[[-1.0, 2.0]], [[-1.0, -2.0]]])  # (unit, batch of 1, channels)
    mapped = jax.vmap(lambda x: gradient(redirect.relu, x, jnp.ones_like(x)))(x)
    np.testing.assert_array_equal(mapped, [[[0.0, 1.0]], [[1.0, 1.0]]])


def bound_dead(kind: str, platform: str = "cpu"):
    """A convolution far below zero in filter 0 and alive in filter 1, then a ReLU: (route to that, its arrays)."""
    (route,), prepared = ascent.bind(dead_under(RELUS[kind][1]), "relu", [NOISE.shape[1:3]], Settings(platform))
    return route, prepared


def climb(bound, start, filter_index: int, *, redirected: bool = False, steps: int = 20):
    """Each image's score before every step of normalised ascent, and its final one."""
    route, prepared = bound

    def score(image):
        return route.activation(prepared, image, redirected=redirected)[..., filter_index].mean()

    @jax.jit
    def step(images):
        values, gradients = jax.vmap(jax.value_and_grad(score))(images)
        norms = jnp.sqrt((gradients * gradients).sum(axis=(1, 2, 3), keepdims=True))
        return images + STEP_SIZE * gradients / jnp.maximum(norms, 1e-6), values

    images, history = start, []
    for _ in range(steps):
        images, values = step(images)
        history.append(values)
    return np.array([*history, jax.vmap(score)(images)])


NOISE = 0.1 * jax.random.normal(jax.random.key(0), (2, 8, 8, 3))


@pytest.mark.parametrize("kind", RELUS)
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_dead_filter_is_revived_by_redirected_steps_only(kind, platform):
    bound = bound_dead(kind, platform)
    assert (climb(bound, NOISE, 0) == 0).all()
    revived = climb(bound, NOISE, 0, redirected=True)
    assert (revived[0] == 0).all()
    assert (revived[-1] > 0).all()


@pytest.mark.parametrize("kind", RELUS)
def test_live_filter_takes_the_same_steps(kind):
    bound = bound_dead(kind)
    np.testing.assert_array_equal(climb(bound, NOISE, 1, redirected=True), climb(bound, NOISE, 1))


@pytest.mark.parametrize("kind", RELUS)
def test_gradient_is_compiled_without_a_scatter(kind):
    route, prepared = bound_dead(kind)
    loop = jax.jit(jax.vmap(jax.grad(lambda image: route.activation(prepared, image, redirected=True).sum())))
    assert "scatter" not in loop.lower(NOISE).as_text()
    assert "scatter(" not in loop.lower(NOISE).compile().as_text()

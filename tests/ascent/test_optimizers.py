"""Optimisers: against NumPy, per image under vmap, and that updates are directions of ascent."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxviz.ascent.optimizers import NORM_EPSILON, OPTIMIZERS, make_optimizer
from jaxviz.errors import ConfigError

pytestmark = pytest.mark.quick

ROUNDING = 1e-6  # relative: float32 sums in another order
BIAS_ROUNDING = 1e-4  # relative: 1 - 0.999**t in float32, whose rounding of 6e-8 stands against 1e-3
STEPS = 6


def gradients(steps=STEPS, shape=(4, 3)):
    """Of changing sign and size, one entry always zero."""
    found = np.random.default_rng(0).normal(size=(steps, *shape)) * 10.0 ** np.arange(-steps, 0).reshape(-1, 1, 1)
    found[:, 0, 0] = 0
    return found.astype(np.float32)


def updates(name, sequence):
    optimizer = make_optimizer(name)
    state = optimizer.init(jnp.zeros_like(sequence[0]))
    step, found = jax.jit(optimizer.update), []
    for gradient in sequence:
        update, state = step(jnp.asarray(gradient), state)
        found.append(np.asarray(update))
    return np.stack(found)


def numpy_adam(sequence, *, nesterov, b1=0.9, b2=0.999, eps=1e-8):
    """Kingma & Ba's Algorithm 1; with Nesterov momentum Dozat's Algorithm 2, b1 constant, without its factor b2."""
    mean, square, found = 0.0, 0.0, []
    for t, gradient in enumerate(sequence.astype(np.float64), start=1):
        mean = b1 * mean + (1 - b1) * gradient
        square = b2 * square + (1 - b2) * gradient**2
        if nesterov:
            momentum = b1 * mean / (1 - b1 ** (t + 1)) + (1 - b1) * gradient / (1 - b1**t)
        else:
            momentum = mean / (1 - b1**t)
        found.append(momentum / (np.sqrt(square / (1 - b2**t)) + eps))
    return np.stack(found)


def test_normalized_is_the_formula():
    gradient = gradients()[0]
    expected = gradient * jax.lax.rsqrt(jnp.maximum(jnp.sum(gradient * gradient), NORM_EPSILON))
    np.testing.assert_array_equal(updates("normalized", [gradient])[0], expected)


def test_normalized_takes_the_norm_over_all_arrays_of_an_image():
    optimizer = make_optimizer("normalized")
    gradient = {"a": jnp.full((2, 2), 1.0), "b": jnp.full(3, 2.0)}
    update, _ = optimizer.update(gradient, optimizer.init(gradient))
    assert sum(jnp.sum(leaf**2) for leaf in update.values()) == pytest.approx(1, rel=ROUNDING)
    assert update["b"][0] == pytest.approx(2 / 4, rel=ROUNDING)  # the norm is sqrt(4 * 1 + 3 * 4)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zero_gradient_gives_zero_update(name):
    assert (updates(name, np.zeros((3, 4, 3), np.float32)) == 0).all()


@pytest.mark.parametrize("name", ["adam", "nadam"])
def test_first_update_is_the_sign(name):
    gradient = gradients()[-1:]
    first = updates(name, gradient)[0]
    scale = 1.0 if name == "adam" else 0.9 / (1 + 0.9) + 1.0  # b1 (1 - b1) / (1 - b1^2) + 1
    np.testing.assert_allclose(first, scale * np.sign(gradient[0]), rtol=BIAS_ROUNDING)


@pytest.mark.parametrize("name", ["adam", "nadam"])
def test_updates_are_those_of_a_numpy_reference(name):
    sequence = gradients()
    expected = numpy_adam(sequence, nesterov=name == "nadam")
    np.testing.assert_allclose(updates(name, sequence), expected, rtol=BIAS_ROUNDING)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_adding_updates_climbs(name):
    optimizer = make_optimizer(name)
    x = jnp.array([3.0, -2.0])
    state, step = optimizer.init(x), jax.jit(optimizer.update)
    for _ in range(40):
        update, state = step(-2 * x, state)  # the gradient of -x^2
        x = x + 0.1 * update
    assert jnp.sum(x**2) < 1.0  # from 13


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_image_under_vmap_climbs_as_it_does_alone(name):
    """Beside another whose gradients are 1e4 times as large."""
    optimizer = make_optimizer(name)
    sequence = jnp.stack([jnp.asarray(gradients()), 1e4 * jnp.asarray(gradients()[::-1])], axis=1)
    state, step = jax.vmap(optimizer.init)(jnp.zeros_like(sequence[0])), jax.jit(jax.vmap(optimizer.update))
    for gradient, alone in zip(sequence, updates(name, gradients()), strict=True):
        update, state = step(gradient, state)
        np.testing.assert_allclose(update[0], alone, rtol=ROUNDING)


def test_unknown_name_is_an_error_that_lists_the_names():
    with pytest.raises(ConfigError, match="'sgd'; choose one of normalized, adam, nadam"):
        make_optimizer("sgd")

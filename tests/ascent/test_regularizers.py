"""Regularisers: numbers by hand, means, and gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxviz.ascent.regularizers import penalty

ROUNDING = 1e-6  # relative: float32 means
SIZES = [(4, 6), (1, 5), (5, 1), (1, 1)]


def noise(size):
    return jnp.asarray(np.random.default_rng(0).normal(size=(*size, 3)), jnp.float32)


def planes(*rows):
    """The same plane in every channel."""
    return jnp.repeat(jnp.array(rows, jnp.float32)[..., None], 3, axis=-1)


def test_total_variation_is_the_sum_of_both_mean_changes():
    image = planes([0, 1, 4], [2, 1, 0])
    vertical, horizontal = (2 + 0 + 4) / 3, (1 + 3 + 1 + 1) / 4
    assert penalty(image, tv=1.0, l1=0.0, l2=0.0) == pytest.approx(vertical + horizontal, rel=ROUNDING)


def test_l1_is_the_mean_absolute_value():
    assert penalty(planes([-2, 1], [0, 3]), tv=0.0, l1=1.0, l2=0.0) == pytest.approx(1.5, rel=ROUNDING)


def test_l2_is_the_mean_square():
    assert penalty(planes([-2, 1], [0, 3]), tv=0.0, l1=0.0, l2=1.0) == pytest.approx(3.5, rel=ROUNDING)


def test_weights_add_up():
    image = noise((4, 6))
    single = [penalty(image, tv=tv, l1=l1, l2=l2) for tv, l1, l2 in np.eye(3).tolist()]
    expected = 2 * single[0] + 3 * single[1] + 5 * single[2]
    assert penalty(image, tv=2.0, l1=3.0, l2=5.0) == pytest.approx(float(expected), rel=ROUNDING)


def test_weights_can_be_traced():
    image = noise((4, 6))
    traced = jax.jit(lambda image, weight: penalty(image, tv=weight, l1=weight, l2=weight))(image, jnp.float32(0.5))
    assert traced == pytest.approx(float(penalty(image, tv=0.5, l1=0.5, l2=0.5)), rel=ROUNDING)


@pytest.mark.parametrize("size", SIZES)
def test_grey_costs_nothing(size):
    assert penalty(jnp.zeros((*size, 3)), tv=1.0, l1=1.0, l2=1.0) == 0


def test_one_colour_has_no_variation():
    assert penalty(jnp.full((4, 6, 3), 0.7), tv=1.0, l1=0.0, l2=0.0) == 0


def test_a_repeated_image_costs_the_same():
    """Means, not sums: constant along x, so that only the vertical changes count, and those repeat."""
    tall = jnp.repeat(noise((6, 1)), 2, axis=1)
    wide = jnp.repeat(noise((6, 1)), 9, axis=1)
    weights = {"tv": 1.0, "l1": 1.0, "l2": 1.0}
    assert penalty(wide, **weights) == pytest.approx(float(penalty(tall, **weights)), rel=ROUNDING)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["noise", "grey"])
def test_gradient_is_finite(kind, size):
    image = noise(size) if kind == "noise" else jnp.zeros((*size, 3))
    gradient = jax.jit(jax.grad(lambda x: penalty(x, tv=1.0, l1=1.0, l2=1.0)))(image)
    assert np.isfinite(gradient).all()
    assert (gradient == 0).all() == (kind == "grey")


def test_descent_smooths():
    image = noise((8, 8))
    weights = {"tv": 1.0, "l1": 0.0, "l2": 0.0}
    stepped = image - 0.5 * jax.jit(jax.grad(lambda x: penalty(x, **weights)))(image)
    assert penalty(stepped, **weights) < penalty(image, **weights)


def test_gradient_has_no_scatter():
    gradient = jax.jit(jax.vmap(jax.grad(lambda x: penalty(x, tv=1.0, l1=1.0, l2=1.0))))
    text = gradient.lower(jnp.zeros((2, 6, 8, 3))).compile().as_text()
    assert "pad(" in text  # the slices' gradient is in there
    assert "scatter(" not in text

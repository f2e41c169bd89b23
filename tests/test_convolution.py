"""Convolution, depthwise convolution and max-pool against `lax`: values and input gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxviz.models import convolution

# Sums of at most 7 * 7 * 5 float32 products in another order.
RELATIVE_TOLERANCE = 1e-5

SHAPES = [(1, 8, 8), (2, 7, 9), (3, 13, 6)]  # batch, height, width: odd and even


def reference_conv(x, kernel, stride, padding, groups=1):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=numbers, feature_group_count=groups
    )


def assert_same_values_and_gradients(ours, theirs, x):
    value, ours_pullback = jax.vjp(ours, x)
    expected, theirs_pullback = jax.vjp(theirs, x)
    assert value.shape == expected.shape
    cotangent = jax.random.normal(jax.random.key(3), value.shape)
    for ours_array, theirs_array in ((value, expected), (ours_pullback(cotangent)[0], theirs_pullback(cotangent)[0])):
        scale = float(jnp.abs(theirs_array).max())
        np.testing.assert_allclose(ours_array, theirs_array, rtol=0, atol=RELATIVE_TOLERANCE * scale)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kernel_px", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_conv_agrees_with_lax(shape, kernel_px, stride, padding):
    if padding == "VALID" and kernel_px > min(shape[1:]):
        padding = "SAME"
    x = jax.random.normal(jax.random.key(0), (*shape, 5))
    kernel = jax.random.normal(jax.random.key(1), (kernel_px, kernel_px, 5, 4))
    assert_same_values_and_gradients(
        lambda x: convolution.conv(x, kernel, stride=stride, padding=padding),
        lambda x: reference_conv(x, kernel, stride, padding),
        x,
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kernel_px", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_conv_agrees_with_grouped_lax(shape, kernel_px, stride):
    x = jax.random.normal(jax.random.key(0), (*shape, 6))
    kernel = jax.random.normal(jax.random.key(1), (kernel_px, kernel_px, 6))
    assert_same_values_and_gradients(
        lambda x: convolution.depthwise_conv(x, kernel, stride=stride),
        lambda x: reference_conv(x, kernel[:, :, None, :], stride, "SAME", groups=6),
        x,
    )


def test_depthwise_conv_is_compiled_without_a_convolution():
    x, kernel = jnp.zeros((1, 8, 8, 4)), jnp.zeros((3, 3, 4))
    assert "convolution" not in jax.jit(convolution.depthwise_conv).lower(x, kernel).as_text()


@pytest.mark.parametrize(("kernel_px", "stride"), [(3, 2), (2, 2), (1, 2), (3, 1)])
@pytest.mark.parametrize("shape", SHAPES)
def test_max_pool_agrees_with_a_loop_over_windows(shape, kernel_px, stride):
    x = np.asarray(jax.random.normal(jax.random.key(0), (*shape, 2)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (kernel_px, kernel_px), axis=(1, 2))
    expected = windows[:, ::stride, ::stride].max(axis=(-2, -1))
    np.testing.assert_array_equal(convolution.max_pool(jnp.asarray(x), kernel=kernel_px, stride=stride), expected)


def test_max_pool_gradient_of_a_tie_goes_to_the_first_maximum():
    x = jnp.ones((1, 3, 3, 1))
    gradient = jax.grad(lambda x: convolution.max_pool(x, kernel=3, stride=1).sum())(x)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 0, 0], [0, 0, 0], [0, 0, 0]])

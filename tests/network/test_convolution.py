"""Both paths of convolution, depthwise convolution and max-pool against `lax`: values and input gradients."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers_tiers import thinned
from jax import lax

from jaxviz.network.rules import cpu, kernels, plain

# Sums of at most 7 * 7 * 5 float32 products in another order.
RELATIVE_TOLERANCE = 1e-5

SHAPES = [(1, 8, 8), (2, 7, 9), (3, 13, 6)]  # batch, height, width: odd and even
PADS = [((0, 0), (0, 0)), ((3, 3), (3, 3)), ((0, 1), (2, 1))]


def reference_conv(x, kernel, stride, pads, groups=1, dilation=(1, 1)):
    numbers = ("NHWC", "HWIO", "NHWC")
    stride = (stride, stride) if isinstance(stride, int) else stride
    return lax.conv_general_dilated(
        x, kernel, stride, pads, rhs_dilation=dilation, dimension_numbers=numbers, feature_group_count=groups
    )


def normal(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def assert_same_values_and_gradients(ours, theirs, x):
    @jax.jit  # one compilation for all of it
    def both(x, cotangent):
        return [(value, pull_back(cotangent)[0]) for value, pull_back in (jax.vjp(ours, x), jax.vjp(theirs, x))]

    shapes = {jax.eval_shape(function, x).shape for function in (ours, theirs)}
    assert len(shapes) == 1
    for ours_array, theirs_array in zip(*both(x, normal(3, shapes.pop())), strict=True):
        scale = float(np.abs(theirs_array).max())
        np.testing.assert_allclose(ours_array, theirs_array, rtol=0, atol=RELATIVE_TOLERANCE * scale)


@thinned("path, pads, stride, kernel_px, shape", [plain, cpu], PADS, [1, 2], [1, 3, 7], SHAPES, every=7)
def test_conv_agrees_with_lax(shape, kernel_px, stride, pads, path):
    if kernel_px > min(length + sum(pad) for length, pad in zip(shape[1:], pads, strict=True)):
        pads = ((3, 3), (3, 3))
    x, kernel = normal(0, (*shape, 5)), normal(1, (kernel_px, kernel_px, 5, 4))
    for_gradient = cpu.gradient_kernel(kernel, stride=stride)
    assert_same_values_and_gradients(
        lambda x: path.conv(x, kernel, for_gradient, stride=stride, pads=pads),
        lambda x: reference_conv(x, kernel, stride, pads),
        x,
    )


@thinned("path, groups, stride, pads, shape", [plain, cpu], [1, 2, 4], [(1, 2), (2, 1), (3, 2)], PADS, SHAPES, every=17)
def test_grouped_conv_of_any_stride_agrees_with_lax(shape, pads, stride, groups, path):
    x, kernel = normal(0, (*shape, 4)), normal(1, (3, 5, 4 // groups, 8))
    for_gradient = cpu.gradient_kernel(kernel, stride=stride, groups=groups)
    assert_same_values_and_gradients(
        lambda x: path.conv(x, kernel, for_gradient, stride=stride, pads=pads, groups=groups),
        lambda x: reference_conv(x, kernel, stride, pads, groups),
        x,
    )


@thinned("path, groups, dilation, channels", [plain, cpu], [1, 2], [(1, 2), (2, 2), (3, 1)], [4, 24], every=5)
def test_dilated_conv_agrees_with_lax(channels, dilation, groups, path):
    pads, x, kernel = ((2, 1), (0, 3)), normal(0, (2, 13, 9, channels)), normal(1, (3, 2, channels // groups, 6))
    for_gradient = cpu.gradient_kernel(kernel, stride=1, groups=groups)
    assert_same_values_and_gradients(
        lambda x: path.conv(x, kernel, for_gradient, pads=pads, groups=groups, dilation=dilation),
        lambda x: reference_conv(x, kernel, 1, pads, groups, dilation),
        x,
    )


@pytest.mark.parametrize("path", [plain, cpu], ids=["plain", "cpu"])
def test_depthwise_conv_of_another_stride_for_rows_than_for_columns_agrees_with_lax(path):
    x, kernel, pads = normal(0, (2, 11, 9, 6)), normal(1, (3, 4, 6)), ((1, 1), (2, 1))
    assert_same_values_and_gradients(
        lambda x: path.depthwise_conv(x, kernel, stride=(1, 3), pads=pads),
        lambda x: reference_conv(x, kernel[:, :, None, :], (1, 3), pads, groups=6),
        x,
    )


@pytest.mark.parametrize(("window", "stride"), [((2, 3), (2, 1)), ((3, 1), (1, 2))])
def test_max_pool_that_is_not_square_agrees_with_lax(window, stride):
    assert_same_values_and_gradients(
        lambda x: cpu.max_pool(x, kernel=window, stride=stride),
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *stride, 1), "VALID"),
        jnp.round(normal(0, (2, 9, 8, 3))),
    )


@thinned("rounded, pads, stride, shape", [False, True], PADS, [1, 2], SHAPES, every=7)
def test_wide_bfloat16_conv_is_the_float32_one_of_rounded_operands(rounded, pads, stride, shape):
    operand = jnp.float32 if rounded else jnp.bfloat16
    x = normal(0, (*shape, kernels.WIDE))
    kernel = normal(1, (3, 3, kernels.WIDE, kernels.WIDE)) / (3 * math.sqrt(kernels.WIDE))
    assert kernels.takes_bfloat16(kernels.LAX, (3, 3), (kernels.WIDE, kernels.WIDE))
    held = jnp.asarray(kernel).astype(jnp.bfloat16).astype(operand)

    def rounded_to_bfloat16(values):
        return values.astype(jnp.bfloat16).astype(jnp.float32)

    @jax.jit
    def both(x, cotangent, held):
        for_gradient = cpu.gradient_kernel(held, stride=stride)
        value, pull_back = jax.vjp(
            lambda x: cpu.conv(x, held, for_gradient, stride=stride, pads=pads, rounded=rounded), x
        )
        expected, expected_pull_back = jax.vjp(
            lambda x: reference_conv(x, held.astype(jnp.float32), stride, pads), rounded_to_bfloat16(x)
        )
        gradients = pull_back(cotangent)[0], expected_pull_back(rounded_to_bfloat16(cotangent))[0]
        return (value, expected), gradients

    shape_out = jax.eval_shape(lambda x: reference_conv(x, kernel, stride, pads), x).shape
    for ours, theirs in both(x, normal(3, shape_out), held):
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=RELATIVE_TOLERANCE * float(np.abs(theirs).max()))


@thinned("path, stride, kernel_px, shape", [plain, cpu], [1, 2], [3, 5], SHAPES, every=7)
def test_depthwise_conv_agrees_with_grouped_lax(shape, kernel_px, stride, path):
    x, kernel = normal(0, (*shape, 6)), normal(1, (kernel_px, kernel_px, 6))
    pads = tuple(lax.padtype_to_pads(shape[1:], (kernel_px, kernel_px), (stride, stride), "SAME"))
    assert_same_values_and_gradients(
        lambda x: path.depthwise_conv(x, kernel, stride=stride, pads=pads),
        lambda x: reference_conv(x, kernel[:, :, None, :], stride, pads, groups=6),
        x,
    )


def test_depthwise_conv_is_compiled_without_a_convolution():
    x, kernel = jnp.zeros((1, 8, 8, 4)), jnp.zeros((3, 3, 4))
    assert "convolution" not in jax.jit(plain.depthwise_conv).lower(x, kernel).as_text()


@thinned("ties, shape, window", [False, True], SHAPES, [(3, 2), (2, 2), (1, 2), (3, 1), (3, 3), (2, 3)], every=7)
def test_max_pool_agrees_with_lax(ties, shape, window):
    kernel_px, stride = window
    x = normal(0, (*shape, 2))
    x = jnp.round(x) if ties else x  # whole numbers meet often, and the first of equals must win
    window = (1, kernel_px, kernel_px, 1)
    assert_same_values_and_gradients(
        lambda x: cpu.max_pool(x, kernel=kernel_px, stride=stride),
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, window, (1, stride, stride, 1), "VALID"),
        x,
    )


@pytest.mark.parametrize("path", [plain, cpu], ids=["plain", "cpu"])
def test_max_pool_gradient_of_a_tie_goes_to_the_first_maximum(path):
    x = jnp.ones((1, 3, 3, 1))
    gradient = jax.grad(lambda x: path.max_pool(x, kernel=3, stride=1).sum())(x)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 0, 0], [0, 0, 0], [0, 0, 0]])


def test_weight_gradient_raises_on_the_cpu_path():
    x, kernel = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 4, 4))
    for_gradient = cpu.gradient_kernel(kernel, stride=1)
    with pytest.raises(NotImplementedError, match="no weight gradient"):
        jax.grad(lambda kernel: cpu.conv(x, kernel, for_gradient).sum())(kernel)
    with pytest.raises(NotImplementedError, match="no weight gradient"):
        jax.grad(lambda kernel: cpu.depthwise_conv(x, kernel).sum())(kernel[..., 0])


def test_plain_activation_has_weight_gradients(resnet):
    def mean(weights):
        return resnet.with_weights(weights).activation(jnp.ones((1, 32, 32, 3)), "conv2_block1_1_conv").mean()

    gradient = jax.grad(mean)(resnet.weights)
    assert float(jnp.abs(gradient["conv1_conv"]["kernel"]).max()) > 0

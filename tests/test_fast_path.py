"""The compiled loop on a CPU: the same numbers as autodiff's, and nothing in its body that is known to be slow."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers_tiers import thinned

from jaxviz import RenderConfig, ascent, render_layer
from jaxviz.objectives import Channel
from jaxviz.parameterizations import Pixel
from jaxviz.scoring import affine_head, unit_scores

# One step's gradient, relative L2: the same products in another order, and ReLU masks that rounding flips.
GRADIENT_TOLERANCE = 1e-3
# Sums in another order fall to the other side of some roundings to bfloat16, 0.4 % apart, in a few layers.
ROUNDING_TOLERANCE = 2e-3
BFLOAT16_DRIFT = 0.05  # of the mean final score: bfloat16 has 8 bits of precision, and the ascent amplifies


class PlainForward:
    """A model's forward pass without `fast`: `lax` convolutions and autodiff."""

    def __init__(self, forward):
        self.forward = forward

    def __call__(self, weights, images, layer):
        return self.forward(weights, images, layer)


def arguments(model, layer, *, forward=None, size=64, batch=2, steps=3):
    parameterization = Pixel((size, size), 0.125)
    indices = jnp.arange(batch, dtype=jnp.int32)
    keys = ascent.unit_keys(jnp.uint32(0), indices, jnp.zeros((batch, 1), jnp.int32), jnp.zeros(batch, jnp.int32))
    start = ascent.initial_parameters(keys, parameterization)
    run, weights = ascent.bind(forward or model.forward, model.weights, layer, platform="cpu")
    loop = ascent.Loop(forward=run, layer=layer, steps=steps, mesh=ascent.batch_mesh(jax.local_devices()[:1]))
    numbers = ascent.Numbers(jnp.float32(10))
    return (weights, indices, keys, start, numbers, Channel(), parameterization), {"loop": loop}


def slow_operations(text: str) -> tuple[int, list[str]]:
    """(convolutions and dots in the largest loop body, what is slow in it) of a compiled module's text."""
    computations = dict(re.findall(r"^(?:ENTRY )?%?([\w.\-]+) [^\n]*\{\n(.*?)^\}", text, flags=re.M | re.S))
    bodies = re.findall(r"body=%?([\w.\-]+)", text)
    best: tuple[int, list[str]] = (0, [])
    for body in bodies:
        seen, queue = set(), [body]
        while queue:
            name = queue.pop()
            if name not in seen and name in computations:
                seen.add(name)
                queue += re.findall(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)", computations[name])
        lines = [line for name in seen for line in computations[name].splitlines()]
        products = sum(bool(re.search(r" (convolution|dot)\(", line)) for line in lines)
        slow = [
            line.strip()[:160] for line in lines if re.search(r" (select-and-scatter|scatter)\(|lhs_dilate|01oi", line)
        ]
        if products >= best[0]:
            best = products, slow
    return best


@pytest.mark.parametrize(("fixture", "layer"), [("resnet", "conv3_block1_out"), ("lite0", "block3_2_expand_conv")])
def test_loop_body_holds_nothing_slow(request, fixture, layer):
    positional, static = arguments(request.getfixturevalue(fixture), layer)
    products, slow = slow_operations(ascent.compiled("cpu").lower(*positional, **static).compile().as_text())
    assert products >= 10
    assert not slow


@pytest.mark.long
def test_the_same_reader_finds_what_is_slow_in_the_plain_step(resnet):
    positional, static = arguments(resnet, "conv3_block1_out", forward=PlainForward(resnet.forward))
    products, slow = slow_operations(ascent.compiled("cpu").lower(*positional, **static).compile().as_text())
    assert products >= 10
    assert any(" scatter(" in line for line in slow)  # what XLA makes of a batched select-and-scatter
    assert any("01oi" in line for line in slow)


@pytest.mark.parametrize(
    ("fixture", "layer"),
    [
        ("resnet", "conv2_block3_out"),
        ("lite0", "block2_1_expand_relu"),
        pytest.param("resnet", "conv4_block1_2_conv", marks=pytest.mark.long),
        pytest.param("lite0", "block4_2_expand_relu", marks=pytest.mark.long),
    ],
)
def test_fast_path_takes_the_step_of_plain_autodiff(request, fixture, layer):
    model = request.getfixturevalue(fixture)
    positional, static = arguments(model, layer, steps=1)
    fast = ascent.compiled("cpu")(*positional, **static)
    plain_positional, plain_static = arguments(model, layer, steps=1, forward=PlainForward(model.forward))
    plain = ascent.compiled("cpu")(*plain_positional, **plain_static)
    np.testing.assert_allclose(fast.history, plain.history, rtol=1e-5, atol=1e-5)
    for image, expected, start in zip(fast.images, plain.images, positional[3], strict=True):
        error = jnp.linalg.norm(image - expected) / jnp.linalg.norm(expected - start)
        assert float(error) <= GRADIENT_TOLERANCE


def test_gpu_branch_holds_plain_nhwc_convolutions(resnet):
    """Lowered for CUDA, where nobody here can run it: `lax` convolutions in NHWC, no hand-written gradient."""
    layer = "conv2_block3_2_conv"

    def gradient(weights, images):
        run, prepared = ascent.bind(resnet.forward, weights, layer, platform="gpu")
        return jax.grad(lambda images: run(prepared, images, layer).sum())(images)

    text = (
        jax.jit(gradient).trace(resnet.weights, jnp.zeros((2, 64, 64, 3))).lower(lowering_platforms=("cuda",)).as_text()
    )
    assert "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]" in text
    assert "select_and_scatter" in text
    assert "gradient_kernel" not in str(
        jax.tree.structure(ascent.bind(resnet.forward, resnet.weights, layer, platform="gpu")[1])
    )


def test_bfloat16_on_a_gpu_reaches_the_convolutions(resnet):
    def gradient(weights, images):
        run, prepared = ascent.bind(resnet.forward, weights, "conv2_block3_2_conv", platform="gpu", dtype="bfloat16")
        return jax.grad(lambda images: run(prepared, images, "conv2_block3_2_conv").sum())(images)

    traced = jax.jit(gradient).trace(resnet.weights, jnp.zeros((2, 64, 64, 3)))
    lines = traced.lower(lowering_platforms=("cuda",)).as_text().splitlines()
    convolutions = [line for line in lines if "stablehlo.convolution" in line]
    assert convolutions
    assert all("bf16" in line and "f32" not in line.replace("bf16", "") for line in convolutions)


def test_bfloat16_on_a_cpu_is_for_matrix_products_only(resnet):
    _, prepared = ascent.bind(resnet.forward, resnet.weights, "conv2_block1_out", platform="cpu", dtype="bfloat16")
    for layer, expected in (("conv1_conv", "float32"), ("conv2_block1_1_conv", "bfloat16")):
        assert prepared[layer]["kernel"].dtype == prepared[layer]["gradient_kernel"].dtype == expected
    assert prepared["conv2_block1_preact_bn"]["gamma"].dtype == "float32"


def test_bfloat16_on_a_cpu_without_its_products_is_rounded_float32(resnet):
    """The same numbers as on a CPU that has them, up to the order of sums."""
    layer = "conv2_block1_out"
    images = jax.random.uniform(jax.random.key(0), (2, 64, 64, 3), minval=-1, maxval=1)
    found = []
    for has_products in (True, False):
        run, prepared = ascent.bind(
            resnet.forward,
            resnet.weights,
            layer,
            platform="cpu",
            dtype="bfloat16",
            multiplies_bfloat16=has_products,
        )
        kernel = prepared["conv2_block1_1_conv"]["kernel"]
        assert kernel.dtype == ("bfloat16" if has_products else "float32")
        assert (kernel.astype("bfloat16").astype(kernel.dtype) == kernel).all()
        scored = jax.value_and_grad(lambda x, run=run, prepared=prepared: run(prepared, x, layer).sum())
        found.append(jax.jit(scored)(images))
    (score, gradient), (rounded_score, rounded_gradient) = found
    np.testing.assert_allclose(rounded_score, score, rtol=ROUNDING_TOLERANCE)
    scale = float(jnp.abs(gradient).max())
    np.testing.assert_allclose(rounded_gradient, gradient, rtol=0, atol=ROUNDING_TOLERANCE * scale)


@pytest.mark.long
def test_bfloat16_scores_are_near_those_of_float32(resnet):
    config = RenderConfig.keras(image_size=64, crop=7, steps=10, batch_size=4)
    exact = render_layer(resnet, "conv3_block1_out", range(4), config)
    rounded = render_layer(resnet, "conv3_block1_out", range(4), dataclasses.replace(config, dtype="bfloat16"))
    assert rounded.scores.dtype == rounded.history.dtype == np.float32
    assert (rounded.scores != exact.scores).any()
    assert abs(rounded.scores.mean() / exact.scores.mean() - 1) < BFLOAT16_DRIFT


def test_bind_keeps_only_the_weights_that_the_layer_needs(resnet):
    _, prepared = ascent.bind(resnet.forward, resnet.weights, "conv2_block1_1_conv", platform="cpu")
    assert set(prepared) == {"conv1_conv", "conv2_block1_preact_bn", "conv2_block1_1_conv"}


def scored(forward, weights, layer, objective, image):
    """The score of one image, the way that `ascend` computes it."""
    head = affine_head(forward, weights, layer, objective, jnp.int32(5), image.shape[:2])
    return unit_scores(forward, weights, layer, objective, jnp.int32(5), head, image[None, None])[0]


class ActivationWay:
    """A forward pass that hides that its target is affine in a layer below it."""

    def __init__(self, forward):
        self.forward = forward

    def __call__(self, weights, images, layer):
        return self.forward(weights, images, layer)


AFFINE = [
    ("resnet", "conv1_conv", "input_layer", 0),
    ("resnet", "conv2_block1_1_conv", "conv2_block1_preact_relu", 2),
    ("resnet", "conv2_block1_2_conv", "conv2_block1_1_relu", 1),
    ("resnet", "conv2_block3_2_conv", "conv2_block3_1_relu", 0),  # strided
    ("resnet", "conv2_block1_2_bn", "conv2_block1_1_relu", 0),
    ("lite0", "block2_1_depthwise_conv", "block2_1_expand_relu", 0),
    ("lite0", "block2_1_project_bn", "block2_1_depthwise_relu", 0),
]


@thinned("platform, case", ["cpu", "gpu"], AFFINE, every=3)
def test_target_that_is_never_computed_gives_the_scores_and_gradients_of_its_activation(request, platform, case):
    fixture, layer, below, border = case
    model = request.getfixturevalue(fixture)
    run, weights = ascent.bind(model.forward, model.weights, layer, platform=platform)
    assert run.below_affine(layer) == below
    image = jax.random.uniform(jax.random.key(0), (64, 64, 3))
    scores = [
        jax.jit(
            jax.value_and_grad(lambda image, forward=forward: scored(forward, weights, layer, Channel(border), image))
        )(image)
        for forward in (run, ActivationWay(run))
    ]
    (value, gradient), (expected, expected_gradient) = scores
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    assert float(jnp.linalg.norm(gradient - expected_gradient)) <= 1e-5 * float(jnp.linalg.norm(expected_gradient))


def test_loop_holds_no_product_for_an_affine_target(resnet):
    """The stem and its gradient, and nothing for the 1x1 convolution that is the target."""
    positional, static = arguments(resnet, "conv2_block1_1_conv")
    products, _ = slow_operations(ascent.compiled("cpu").lower(*positional, **static).compile().as_text())
    assert products == 2
    static["loop"] = dataclasses.replace(static["loop"], forward=ActivationWay(static["loop"].forward))
    products, _ = slow_operations(ascent.compiled("cpu").lower(*positional, **static).compile().as_text())
    assert products > 2


def test_a_target_behind_a_nonlinearity_has_nothing_affine_below_it(resnet):
    for layer in ("conv2_block1_preact_relu", "conv2_block1_out", "pool1_pool"):
        assert resnet.forward.below_affine(layer) is None

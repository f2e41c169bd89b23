"""The compiled loop on a CPU: the same numbers as autodiff's, and nothing in its body that is known to be slow."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers_tiers import thinned

from jaxviz import Model, RenderConfig, render_layer
from jaxviz.ascent import climb as ascent
from jaxviz.ascent.objectives import Channel
from jaxviz.ascent.parameterizations import Pixel
from jaxviz.ascent.scoring import affine_head, unit_scores
from jaxviz.machine import not_kept
from jaxviz.network.head import Route
from jaxviz.network.rules import Settings
from jaxviz.network.rules.kernels import LAX, SETS, why_not

# One step's gradient, relative L2: the same products in another order, and ReLU masks that rounding flips.
GRADIENT_TOLERANCE = 1e-3
# Sums in another order fall to the other side of some roundings to bfloat16, 0.4 % apart, in a few layers.
ROUNDING_TOLERANCE = 2e-3
BFLOAT16_DRIFT = 0.05  # of the mean final score: bfloat16 has 8 bits of precision, and the ascent amplifies


PLAIN = Settings(rules=False)  # the network's own operations and autodiff


def bound(model, layer, settings=Settings("cpu"), *, size=64):  # noqa: B008
    (route,), prepared = ascent.bind(model, layer, [(size, size)], settings)
    return route, prepared


def arguments(model, layer, *, settings=Settings("cpu"), size=64, batch=2, steps=3):  # noqa: B008
    parameterization = Pixel((size, size), 0.125)
    indices = jnp.arange(batch, dtype=jnp.int32)
    keys = ascent.unit_keys(jnp.uint32(0), indices, jnp.zeros((batch, 1), jnp.int32), jnp.zeros(batch, jnp.int32))
    start = ascent.initial_parameters(keys, parameterization)
    route, prepared = bound(model, layer, settings, size=size)
    loop = ascent.Loop(seen=route, final=route, steps=steps, mesh=ascent.batch_mesh(jax.local_devices()[:1]))
    numbers = ascent.Numbers(jnp.float32(10))
    return (prepared, indices, keys, start, numbers, Channel(), parameterization), {"loop": loop}


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


def swapped(text: str) -> list[str]:
    """Convolutions of a compiled module in which XLA took image and kernel for each other, 50 times slower."""
    return re.findall(r" convolution\([^\n]*rhs_reversal", text)


def step_of_deep_convolutions(settings, kernels):
    """The compiled gradient of two convolutions of a map of 2 x 2."""

    def forward(weights, images):
        for kernel in weights:
            numbers = ("NHWC", "HWIO", "NHWC")
            images = jax.nn.relu(
                jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=numbers)
            )
        return images

    shapes = [(3, 3, 3, 24), (3, 3, 24, 24), (3, 3, 24, 24)]
    weights = [np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in shapes]
    model = Model.from_callable(forward, weights, lambda rgb: rgb, usual_size=2)
    positional, static = arguments(model, model.layers[-1], settings=settings, size=2)
    with not_kept():
        return ascent.compiled("cpu", kernels).lower(*positional, **static).compile().as_text()


@pytest.mark.parametrize("kernels", sorted(SETS))
def test_no_convolution_of_a_map_smaller_than_its_window_is_left_to_xla(kernels):
    if refused := why_not(kernels, "cpu"):
        pytest.skip(refused)
    assert not swapped(step_of_deep_convolutions(Settings("cpu", kernels=kernels), kernels))
    assert swapped(step_of_deep_convolutions(PLAIN, LAX))  # the reader finds them where there are any


@pytest.mark.long
def test_the_same_reader_finds_what_is_slow_in_the_plain_step(resnet):
    positional, static = arguments(resnet, "conv3_block1_out", settings=PLAIN)
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
    plain_positional, plain_static = arguments(model, layer, steps=1, settings=PLAIN)
    plain = ascent.compiled("cpu")(*plain_positional, **plain_static)
    np.testing.assert_allclose(fast.history, plain.history, rtol=1e-5, atol=1e-5)
    for image, expected, start in zip(fast.images, plain.images, positional[3], strict=True):
        error = jnp.linalg.norm(image - expected) / jnp.linalg.norm(expected - start)
        assert float(error) <= GRADIENT_TOLERANCE


def lowered_for_cuda(model, layer, dtype="float32"):
    """The gradient of a layer's sum as it would be sent to a GPU's compiler; nobody here can run it."""

    def gradient(weights, images):
        (route,), prepared = ascent.bind(model, layer, [images.shape[1:3]], Settings("gpu", dtype), weights=weights)
        return jax.grad(lambda images: jax.vmap(lambda image: route.activation(prepared, image))(images).sum())(images)

    traced = jax.jit(gradient).trace(model.weights, jnp.zeros((2, 64, 64, 3)))
    return traced.lower(lowering_platforms=("cuda",)).as_text()


def test_gpu_branch_holds_plain_nhwc_convolutions(resnet):
    """Lowered for CUDA: `lax` convolutions in NHWC, no hand-written gradient."""
    layer = "conv2_block3_2_conv"
    text = lowered_for_cuda(resnet, layer)
    assert "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]" in text
    assert "select_and_scatter" in text
    kernels = {platform: kernel_shapes(bound(resnet, layer, Settings(platform))[1]) for platform in ("cpu", "gpu")}
    assert len(kernels["cpu"]) == 2 * len(kernels["gpu"])  # each with one for the gradient


def test_bfloat16_on_a_gpu_reaches_the_convolutions(resnet):
    lines = lowered_for_cuda(resnet, "conv2_block3_2_conv", "bfloat16").splitlines()
    convolutions = [line for line in lines if "stablehlo.convolution" in line]
    assert convolutions
    assert all("bf16" in line and "f32" not in line.replace("bf16", "") for line in convolutions)


def kernels(prepared):
    """The kernels of convolutions among prepared arrays, batch norms' numbers left out."""
    return [array for array in prepared.values() if array.ndim == 4 and min(array.shape[2:]) > 1]


def kernel_shapes(prepared):
    return [array.shape for array in kernels(prepared)]


def test_bfloat16_on_a_cpu_is_for_matrix_products_only(resnet):
    _, prepared = bound(resnet, "conv2_block1_out", Settings("cpu", "bfloat16"))
    found = {(kernel.shape[:2] == (1, 1), kernel.dtype.name) for kernel in kernels(prepared)}
    assert found == {(True, "bfloat16"), (False, "float32")}
    others = [array for array in prepared.values() if not any(array is kernel for kernel in kernels(prepared))]
    assert {array.dtype.name for array in others} == {"float32"}


def test_bfloat16_on_a_cpu_without_its_products_is_rounded_float32(resnet):
    """The same numbers as on a CPU that has them, up to the order of sums."""
    layer = "conv2_block1_out"
    images = jax.random.uniform(jax.random.key(0), (2, 64, 64, 3), minval=-1, maxval=1)
    found = []
    for has_products in (True, False):
        settings = Settings("cpu", "bfloat16", multiplies_bfloat16=has_products)
        route, prepared = bound(resnet, layer, settings)
        products = [kernel for kernel in kernels(prepared) if kernel.shape[:2] == (1, 1)]
        assert {kernel.dtype.name for kernel in products} == {"bfloat16" if has_products else "float32"}
        assert all((kernel.astype("bfloat16").astype(kernel.dtype) == kernel).all() for kernel in products)

        def score(x, route=route, prepared=prepared):
            return jax.vmap(lambda image: route.activation(prepared, image))(x).sum()

        found.append(jax.jit(jax.value_and_grad(score))(images))
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
    layers = ("conv1_conv", "conv2_block1_preact_bn", "conv2_block1_1_conv")
    weights = {layer: resnet.weights[layer] for layer in layers}
    assert resnet.needed_weights(layers[-1], (64, 64)) == sum(array.size for array in jax.tree.leaves(weights))
    _, prepared = bound(resnet, layers[-1], Settings("gpu"))
    assert sorted(kernel_shapes(prepared)) == [(1, 1, 64, 64), (7, 7, 3, 64)]
    others = sum(array.size for array in prepared.values()) - sum(kernel.size for kernel in kernels(prepared))
    assert others <= 64 * 5  # a bias and a batch norm's four


def scored(route, prepared, objective, image):
    """The score of one image, the way that `ascend` computes it."""
    head = affine_head(route, prepared, objective, jnp.int32(5))
    return unit_scores(route, prepared, objective, jnp.int32(5), head, image[None, None])[0]


def whole_way(route):
    """A route that hides that its target is affine in what is below."""
    return Route(route.whole)


def below(model, route):
    """Names of the layers in which a target is affine."""
    graph = model.graph((64, 64))
    names = {value: name for name, value in graph.layers.items()} | {graph.trace.image: "input_layer"}
    return None if route.lower is None else {names[value] for value in route.lower.targets}


AFFINE = [
    ("resnet", "conv1_conv", {"input_layer"}, 0),
    ("resnet", "conv2_block1_1_conv", {"conv2_block1_preact_relu"}, 2),
    ("resnet", "conv2_block1_2_conv", {"conv2_block1_1_relu"}, 1),
    ("resnet", "conv2_block3_2_conv", {"conv2_block3_1_relu"}, 0),  # strided
    ("resnet", "conv2_block1_2_bn", {"conv2_block1_1_relu"}, 0),
    ("resnet", "conv2_block1_out", {"conv2_block1_preact_relu", "conv2_block1_2_relu"}, 0),  # a sum of branches
    ("lite0", "block2_1_depthwise_conv", {"block2_1_expand_relu"}, 0),
    ("lite0", "block2_1_project_bn", {"block2_1_depthwise_relu"}, 0),
]


@thinned("platform, case", ["cpu", "gpu"], AFFINE, every=3)
def test_target_that_is_never_computed_gives_the_scores_and_gradients_of_its_activation(request, platform, case):
    fixture, layer, expected_below, border = case
    model = request.getfixturevalue(fixture)
    route, prepared = bound(model, layer, Settings(platform))
    assert below(model, route) == expected_below
    image = jax.random.uniform(jax.random.key(0), (64, 64, 3))
    scores = [
        jax.jit(jax.value_and_grad(lambda image, way=way: scored(way, prepared, Channel(border), image)))(image)
        for way in (route, whole_way(route))
    ]
    (value, gradient), (expected, expected_gradient) = scores
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    assert float(jnp.linalg.norm(gradient - expected_gradient)) <= 1e-5 * float(jnp.linalg.norm(expected_gradient))


def test_loop_holds_no_product_for_an_affine_target(resnet):
    """The stem and its gradient, and nothing for the 1x1 convolution that is the target."""
    positional, static = arguments(resnet, "conv2_block1_1_conv")
    products, _ = slow_operations(ascent.compiled("cpu").lower(*positional, **static).compile().as_text())
    assert products == 2
    way = whole_way(static["loop"].seen)
    static["loop"] = dataclasses.replace(static["loop"], seen=way, final=way)
    products, _ = slow_operations(ascent.compiled("cpu").lower(*positional, **static).compile().as_text())
    assert products > 2


def test_a_target_behind_a_nonlinearity_has_nothing_affine_below_it(resnet):
    for layer in ("conv2_block1_preact_relu", "conv2_block1_1_relu", "pool1_pool"):
        assert resnet.route(layer, (64, 64), Settings("cpu")).lower is None


@pytest.mark.quick
def test_programs_of_every_set_of_kernels_are_forgotten(monkeypatch):
    monkeypatch.setattr(ascent, "_PROGRAMS", {})
    monkeypatch.setattr(ascent, "compiler_options", lambda *_, **__: {})
    monkeypatch.setattr(ascent, "ascend", lambda x, *, loop: x + loop)
    programs = [ascent.compiled("cpu", kernels) for kernels in ("lax", "other")]
    assert [int(program(1, loop=1)) for program in programs] == [2, 2]
    assert all(program._cache_size() for program in programs)
    ascent.forget_programs()
    assert not any(program._cache_size() for program in programs)

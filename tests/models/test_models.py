"""`Model.from_callable` over linen and NNX networks, and `load_model`."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers_networks import conv, kernel, network

import jaxviz
from jaxviz import Model, RenderConfig, load_model, render_layer
from jaxviz.errors import ConfigError, UnknownLayerError, UnknownModelError, WeightsError
from jaxviz.network.rules import Settings


class Small(nnx.Module):
    """A convolution and a classifier."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(3, 5, (3, 3), rngs=rngs)
        self.dense = nnx.Linear(5, 4, rngs=rngs)

    def __call__(self, images, layer):
        x = self.conv(images)
        return x if layer == "conv" else self.dense(jax.nn.relu(x).mean(axis=(1, 2)))


@pytest.fixture(scope="module")
def nnx_model() -> Model:
    definition, state = nnx.split(Small(nnx.Rngs(0)))
    return Model.from_callable(
        lambda weights, images, layer: nnx.merge(definition, weights)(images, layer),
        state,
        lambda rgb: rgb / 255,
        layers=["conv", "dense"],
        name="small-nnx",
    )


def test_nnx_network_renders_a_convolution(nnx_model, small):
    result = render_layer(nnx_model, "conv", "all", small)
    assert result.pictures.shape == (5, 50, 50, 3)
    assert set(result.status) == {"ok"}


def test_layer_without_a_map_renders_one_picture_per_unit(nnx_model, small):
    result = render_layer(nnx_model, "dense", None, small)
    assert result.filters == (0, 1, 2, 3)
    assert (result.scores > result.history[:, 0]).all()


def test_linen_network_saves_what_it_renders(toy_model, small, tmp_path):
    folder = render_layer(toy_model, "conv_c", [1, 4], small).save(tmp_path)
    assert folder == tmp_path / "toy" / "conv_c" / "keras"
    assert sorted(path.name for path in folder.iterdir()) == ["0001.png", "0004.png", "grid.png", "layer.json"]


def test_model_is_frozen(toy_model):
    with pytest.raises(dataclasses.FrozenInstanceError):
        toy_model.name = "other"


def test_weights_hash_is_of_the_values(toy_model):
    same = dataclasses.replace(toy_model, weights=jax.tree.map(jnp.array, toy_model.weights))
    changed = dataclasses.replace(toy_model, weights=jax.tree.map(lambda array: array + 1, toy_model.weights))
    assert same.weights_sha256 == toy_model.weights_sha256
    assert changed.weights_sha256 != toy_model.weights_sha256


@pytest.mark.parametrize("layers", [[], ["a", "a"], [""], [3]])
def test_from_callable_refuses_bad_layer_lists(layers):
    with pytest.raises(ConfigError, match="layers"):
        Model.from_callable(lambda weights, images, layer: images, {}, lambda rgb: rgb, layers=layers)


def test_from_callable_refuses_what_cannot_be_called():
    with pytest.raises(ConfigError, match="forward 3 cannot be called"):
        Model.from_callable(3, {}, lambda rgb: rgb, layers=["a"])


def test_from_callable_refuses_weights_that_are_not_finite():
    weights = {"conv": {"kernel": np.array([1.0, np.nan], np.float32)}}
    with pytest.raises(WeightsError, match=r"weights\['conv'\]\['kernel'\] hold NaN"):
        Model.from_callable(lambda weights, images, layer: images, weights, lambda rgb: rgb, layers=["a"])


def test_forward_that_returns_no_activation_is_named(small):
    model = Model.from_callable(lambda weights, images, layer: images.sum(), {}, lambda rgb: rgb, layers=["a"])
    with pytest.raises(ConfigError, match="forward must give"):
        render_layer(model, "a", [0], small)


def test_anybodys_network_renders_in_bfloat16(nnx_model, small):
    rounded = render_layer(nnx_model, "dense", [0], dataclasses.replace(small, dtype="bfloat16"))
    assert rounded.status == ("ok",)
    assert rounded.scores.dtype == np.float32
    assert (rounded.scores > rounded.history[:, 0]).all()


def test_unknown_layer_names_the_nearest(lite0):
    with pytest.raises(UnknownLayerError, match="nearest: 'block5_2_expand_conv'"):
        render_layer(lite0, "block5_2_expandconv", [0])


def test_unknown_model_names_the_nearest():
    with pytest.raises(UnknownModelError, match="nearest: 'resnet50v2'"):
        load_model("resnet50")


def test_model_without_head_has_no_classifier():
    model = load_model("efficientnet_lite0")
    assert "predictions" not in model.layers
    assert "head_relu" in model.layers
    assert "predictions" not in model.weights


def test_reloaded_model_does_not_recompile(small):
    render_layer(load_model("efficientnet_lite0"), "stem_conv", [0], small)
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, _, **__: compiled.append(event))
    try:
        render_layer(load_model("efficientnet_lite0"), "stem_conv", [1], small)
    finally:
        jax.monitoring.clear_event_listeners()
    assert not [event for event in compiled if "backend_compile" in event]


def test_weights_of_another_model_are_refused(tmp_path):
    from weights_convert.locate import obtain_weights
    from weights_convert.safetensors_file import write_safetensors

    found = obtain_weights("efficientnet_lite0", head=False)
    write_safetensors(tmp_path / "lite0.safetensors", found.arrays, found.metadata)
    assert load_model("efficientnet_lite0", weights=tmp_path / "lite0.safetensors").name == "efficientnet_lite0"
    with pytest.raises(WeightsError, match="efficientnet_lite0"):
        load_model("efficientnet_lite1", weights=tmp_path / "lite0.safetensors")


@pytest.mark.parametrize(
    ("name", "black", "white"), [("resnet50v2", -1.0, 1.0), ("efficientnet_lite0", -127 / 128, 1.0)]
)
def test_preprocess_maps_rgb_to_model_space(name, black, white):
    from jaxviz.models import architecture

    preprocess = architecture(name).preprocess
    assert preprocess(np.float32(0)) == pytest.approx(black)
    assert preprocess(np.float32(255)) == pytest.approx(white)


@pytest.mark.parametrize("filters", [[8], [-1], [0, 0], [], [1.5], "some", 3])
def test_bad_filters_are_refused(toy_model, small, filters):
    with pytest.raises(jaxviz.errors.FilterError, match="filters"):
        render_layer(toy_model, "conv_a", filters, small)


def test_default_filters_are_the_first_64_cut_to_the_layer(toy_model, lite0, small):
    from jaxviz.render.plan import plan_render

    assert plan_render(toy_model, "conv_a", None, small).filters == tuple(range(8))
    assert plan_render(lite0, "block5_2_expand_conv", None, small).filters == tuple(range(64))
    assert plan_render(lite0, "block5_2_expand_conv", "all", small).filters == tuple(range(672))


def test_initial_images_of_the_wrong_shape_are_refused(toy_model, small):
    with pytest.raises(ConfigError, match=r"initial_images has shape \(2, 60, 64, 3\)"):
        render_layer(toy_model, "conv_a", range(2), small, initial_images=np.zeros((2, 60, 64, 3), np.float32))


def test_border_that_leaves_nothing_is_refused(toy_model):
    config = RenderConfig.keras(image_size=64, crop=7, activation_border=16)
    with pytest.raises(ConfigError, match="activation_border 16 leaves nothing of the 32x32 map"):
        render_layer(toy_model, "conv_a", [0], config)


def test_non_square_images_render(toy_model):
    result = render_layer(toy_model, "conv_a", [0], RenderConfig.keras(image_size=(60, 90), crop=10, steps=2))
    assert result.pictures.shape == (1, 40, 70, 3)


def test_network_that_computes_in_bfloat16_keeps_its_own_numbers():
    """Its weights and activations are bfloat16; the plain path and the rules give the same of them."""

    def forward(weights, images):
        first = conv(images.astype(jnp.bfloat16), weights["conv"])
        relu = jax.nn.relu(first)
        return {"conv": first, "relu": relu, "gelu": jax.nn.gelu(relu), "mean": relu.mean(axis=(1, 2))}

    weights = {"conv": {"kernel": kernel(0, 3, 3, 3, 6).astype(jnp.bfloat16)}}
    model = network("rounded", forward, weights)
    images = jax.random.normal(jax.random.key(0), (2, 12, 12, 3))
    for layer, expected in forward(weights, images).items():
        assert expected.dtype == jnp.bfloat16
        route = model.route(layer, (12, 12), Settings("cpu"))
        by_rules = jax.vmap(partial(route.activation, model.prepare(route)))(images)
        for found in (model.activation(images, layer), by_rules):
            assert found.dtype == jnp.float32
            np.testing.assert_allclose(found, expected.astype(jnp.float32), rtol=0.02, atol=1e-2, err_msg=layer)

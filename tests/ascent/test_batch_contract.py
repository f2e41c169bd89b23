"""The contract on batches: with one N a picture is the same, bit for bit, whatever it is rendered with."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from jaxviz import RenderConfig, render_layer, visualize_filter

pytestmark = pytest.mark.own_kernels
LAYER = "conv2_block1_1_conv"
GREY_LEVELS = 1  # design: another N chooses other kernels, and 30 steps amplify their rounding

MODELS = [
    ("resnet", LAYER),
    ("lite0", "block2_1_depthwise_relu"),
    pytest.param(("toy_model", "conv_c"), marks=pytest.mark.quick),
]


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def config(request) -> RenderConfig:
    return RenderConfig.keras(image_size=64, crop=7, steps=30, batch_size=4, dtype=request.param)


@pytest.fixture(params=MODELS, ids=["resnet", "lite0", "toy"])
def case(request):
    return request.getfixturevalue(request.param[0]), request.param[1]


def assert_same(result, other, filters):
    for filter_index in filters:
        one, two = (found.items[found.filters.index(filter_index)] for found in (result, other))
        np.testing.assert_array_equal(one.history, two.history, err_msg=f"filter {filter_index}")
        np.testing.assert_array_equal(one.picture, two.picture, err_msg=f"filter {filter_index}")
        assert one.score == two.score, filter_index


def test_rerun_is_bit_equal(case, config):
    assert_same(render_layer(*case, range(4), config), render_layer(*case, range(4), config), range(4))


def test_neighbours_do_not_matter(case, config):
    assert_same(render_layer(*case, [2, 0, 1, 3], config), render_layer(*case, [2, 5, 4, 3], config), [2, 3])


def test_place_in_the_batch_does_not_matter(case, config):
    assert_same(render_layer(*case, [0, 1, 2, 3], config), render_layer(*case, [3, 2, 1, 0], config), range(4))


def test_padding_does_not_matter(case, config):
    assert_same(render_layer(*case, range(5), config), render_layer(*case, [4], config), [4])


def test_visualize_filter_gives_the_layers_picture(case, config):
    result = render_layer(*case, range(3), config)
    score, picture = visualize_filter(*case, 1, config)
    assert score == result.items[1].score
    np.testing.assert_array_equal(picture, result.pictures[1])


def test_batch_of_one_and_of_eight_agree_to_a_grey_level(resnet, config):
    one = render_layer(resnet, LAYER, range(8), dataclasses.replace(config, batch_size=1))
    eight = render_layer(resnet, LAYER, range(8), dataclasses.replace(config, batch_size=8))
    difference = np.abs(one.pictures.astype(int) - eight.pictures.astype(int))
    assert difference.max() <= GREY_LEVELS


def test_another_seed_gives_other_pictures(case, config):
    one = render_layer(*case, range(2), config)
    two = render_layer(*case, range(2), dataclasses.replace(config, seed=1))
    assert (one.pictures != two.pictures).any(axis=(1, 2, 3)).all()


def test_filters_start_from_different_noise(toy_model, config):
    from jaxviz.ascent import climb as ascent
    from jaxviz.ascent.parameterizations import Pixel

    keys = ascent.unit_keys(
        np.uint32(0), np.arange(3, dtype=np.int32), np.zeros((3, 1), np.int32), np.zeros(3, np.int32)
    )
    starts = ascent.initial_parameters(keys, Pixel((32, 40), 0.125))[:, 0]
    assert starts.shape == (3, 32, 40, 3)
    assert float(np.abs(starts).max()) <= 0.125
    assert float(np.std(starts)) == pytest.approx(0.25 / np.sqrt(12), rel=0.02)
    assert not np.array_equal(starts[0], starts[1])


def test_more_filters_do_not_recompile(resnet, config):
    small = dataclasses.replace(config, steps=2, seed=5)
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, _, **__: compiled.append(event))
    try:
        render_layer(resnet, "conv1_conv", range(4), small)
        assert any("backend_compile" in event for event in compiled)  # the counter counts
        compiled.clear()
        render_layer(resnet, "conv1_conv", range(30, 43), dataclasses.replace(small, seed=6, step_size=3.0))
        assert not [event for event in compiled if "backend_compile" in event]
    finally:
        jax.monitoring.clear_event_listeners()

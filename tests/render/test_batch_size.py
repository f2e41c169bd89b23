"""What `auto` chooses, what fits the memory, and what happens when it does not."""

from __future__ import annotations

import dataclasses
import logging
from types import SimpleNamespace

import jax
import pytest

from jaxviz import RenderConfig, iter_render, render_layer
from jaxviz import machine as devices
from jaxviz.ascent import climb as ascent
from jaxviz.errors import DeviceMemoryError
from jaxviz.render import batch_size
from jaxviz.render.plan import plan_render

GIB = 2**30
AUTO = RenderConfig.keras(image_size=64, crop=7, steps=2)


def program(weights: int, images: int) -> SimpleNamespace:
    """A compiled program that needs so many bytes."""
    analysis = SimpleNamespace(
        argument_size_in_bytes=weights, temp_size_in_bytes=images, output_size_in_bytes=0, alias_size_in_bytes=0
    )
    return SimpleNamespace(memory_analysis=lambda: analysis)


@pytest.mark.parametrize(("side", "expected"), [(32, 16), (64, 16), (96, 8), (97, 4), (128, 4), (180, 2), (512, 1)])
def test_cpu_batch_holds_about_as_many_pixels_at_every_size(side, expected):
    assert batch_size.automatic(macs=10**9, weights=1000, pixels=side * side) == expected


@pytest.mark.parametrize(("per_weight", "expected"), [(1000, 2), (400, 2), (399, 4), (104, 8), (27, 16), (0, 16)])
def test_cpu_batch_is_larger_where_each_weight_has_little_to_do(per_weight, expected):
    assert batch_size.automatic(macs=1000 * per_weight, weights=1000, pixels=180 * 180) == expected


def test_layer_without_weights_has_a_batch():
    assert batch_size.automatic(macs=0, weights=0, pixels=180 * 180) >= 1


@pytest.mark.parametrize("cache", ["1024K", "32768K", "491520K", None])
def test_cpu_batch_does_not_follow_what_a_machine_says_of_its_cache(resnet, monkeypatch, cache):
    monkeypatch.setattr(batch_size, "_text", lambda file: cache or "" if "cache" in str(file) else "")
    config = RenderConfig.keras(image_size=180)
    assert plan_render(resnet, "conv5_block3_3_conv", None, config).recipe.batch_size == 8


def test_accelerator_gets_a_whole_layer(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert batch_size.automatic(macs=1, weights=1, pixels=180 * 180) == batch_size.ACCELERATOR


@pytest.mark.parametrize(
    ("layer", "expected"), [("conv2_block1_1_conv", 2), ("conv3_block4_out", 2), ("conv5_block3_3_conv", 8)]
)
def test_batch_follows_the_weights_below_a_layer(resnet, layer, expected):
    config = RenderConfig.keras(image_size=180)
    assert plan_render(resnet, layer, None, config).recipe.batch_size == expected


def test_batch_counts_the_pixels_of_all_views(lite0):
    maco = RenderConfig.from_preset("maco", batch_size="auto")
    assert plan_render(lite0, "block1_1_depthwise_conv", None, maco).recipe.batch_size == 1


@pytest.mark.parametrize(
    ("free", "expected"),
    [(100 * GIB, 16), (20 * GIB, 16), (12 * GIB, 8), (4 * GIB, 1), (2 * GIB, 0)],
)
def test_largest_batch_that_fits_is_affine_in_its_size(monkeypatch, free, expected):
    monkeypatch.setattr(batch_size, "free_bytes", lambda _device: free)
    device = SimpleNamespace(platform="gpu")
    assert batch_size.largest_that_fits(program(2 * GIB, 16 * GIB), 16, [device]) == expected


def test_virtual_devices_share_one_memory(monkeypatch):
    monkeypatch.setattr(batch_size, "free_bytes", lambda _device: 20 * GIB)
    cpus = [SimpleNamespace(platform="cpu")] * 2
    assert batch_size.largest_that_fits(program(0, 16 * GIB), 16, cpus[:1]) == 16
    assert batch_size.largest_that_fits(program(0, 16 * GIB), 16, cpus) == 8


def test_memory_that_nobody_tells_does_not_limit(monkeypatch):
    monkeypatch.setattr(batch_size, "free_bytes", lambda _device: None)
    assert batch_size.largest_that_fits(program(GIB, GIB), 16, [SimpleNamespace(platform="gpu")]) == 16


def test_accelerator_says_its_own_limit():
    gpu = SimpleNamespace(platform="gpu", memory_stats=lambda: {"bytes_limit": 7})
    assert batch_size.free_bytes(gpu) == 7


def test_this_cpu_has_free_memory():
    assert batch_size.free_bytes(jax.devices()[0]) > 2**20


@pytest.fixture
def two_images_fit(monkeypatch):
    """A device whose runtime reports exhausted memory above two images a call."""
    compiled = ascent.compiled

    class Limited:
        def __init__(self, platform, kernels):
            self.inner = compiled(platform, kernels)

        def lower(self, *args, **options):
            return self.inner.lower(*args, **options)

        def __call__(self, weights, filters, *args, **options):
            if len(filters) > 2:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes")
            return self.inner(weights, filters, *args, **options)

    monkeypatch.setattr(ascent, "compiled", Limited)
    monkeypatch.setattr(batch_size, "automatic", lambda **_: 8)


def test_automatic_batch_halves_until_it_fits_and_says_so(toy_model, two_images_fit, caplog):
    with caplog.at_level(logging.WARNING, "jaxviz"):
        result = render_layer(toy_model, "conv_a", range(5), AUTO)
    assert result.recipe.batch_size == 2
    assert [item.recipe.batch_size for item in result.items] == [2] * 5
    assert [record.getMessage().rsplit(" ", 1)[1] for record in caplog.records] == ["4", "2"]


def test_stream_starts_again_with_a_smaller_batch(toy_model, two_images_fit):
    assert [item.recipe.batch_size for item in iter_render(toy_model, "conv_a", range(3), AUTO)] == [2] * 3


def test_pictures_after_a_restart_are_those_of_the_smaller_batch(toy_model, two_images_fit):
    restarted = render_layer(toy_model, "conv_a", range(3), AUTO)
    asked = render_layer(toy_model, "conv_a", range(3), dataclasses.replace(AUTO, batch_size=2))
    assert (restarted.pictures == asked.pictures).all()


def test_batch_size_that_was_asked_for_is_an_error_that_says_what_to_type(toy_model, two_images_fit):
    with pytest.raises(DeviceMemoryError, match="try batch_size 2"):
        render_layer(toy_model, "conv_a", [0], dataclasses.replace(AUTO, batch_size=4))


def test_image_of_which_not_one_fits_is_an_error(toy_model, monkeypatch):
    monkeypatch.setattr(batch_size, "free_bytes", lambda _device: 1)
    with pytest.raises(DeviceMemoryError, match="give a smaller image_size"):
        render_layer(toy_model, "conv_a", [0], AUTO)


def test_weights_that_do_not_fit_are_an_error(toy_model, monkeypatch):
    def full(*_args, **_options):
        raise MemoryError

    monkeypatch.setattr(ascent, "bind", full)
    with pytest.raises(DeviceMemoryError, match="does not fit the memory"):
        render_layer(toy_model, "conv_a", [0], dataclasses.replace(AUTO, batch_size=4))


def test_option_that_this_xla_does_not_take_is_left_out_and_said(monkeypatch, caplog):
    monkeypatch.setattr(devices, "COMPILER_OPTIONS", {"cpu": {"xla_cpu_no_such_option": "1"}})
    devices.compiler_options.cache_clear()
    try:
        with caplog.at_level(logging.INFO, "jaxviz"):
            assert devices.compiler_options("cpu") == {}
        assert "does not take the option xla_cpu_no_such_option=1" in caplog.text
    finally:
        devices.compiler_options.cache_clear()


def test_this_xla_takes_the_options_that_are_asked_for():
    assert devices.compiler_options("cpu") == devices.COMPILER_OPTIONS["cpu"]
    assert devices.compiler_options("gpu") == {}


def test_memory_that_others_take_later_does_not_stop_a_run(toy_model, monkeypatch):
    free = iter([GIB, 1, 1, 1])
    monkeypatch.setattr(batch_size, "free_bytes", lambda _device: next(free))
    config = dataclasses.replace(AUTO, batch_size=2)
    assert len(render_layer(toy_model, "conv_a", range(6), config).items) == 6

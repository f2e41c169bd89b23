"""The benchmark's settings, and what it says of the machine."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from helpers_networks import conv, kernel, network

from jaxviz.bench import dot, machine
from jaxviz.bench.settings import check_sizes, checked_settings, command_of, default_layers
from jaxviz.errors import ConfigError
from jaxviz.models import architecture, list_models

pytestmark = pytest.mark.quick

# The machine


class Device(SimpleNamespace):
    """What a device tells."""


GPU = {"platform": "gpu", "compute_capability": "9.0"}


@pytest.mark.parametrize(
    ("device", "dtype", "setting", "words"),
    [
        ({"platform": "cpu"}, "float32", None, "float32"),
        ({"platform": "cpu"}, "bfloat16", None, "bfloat16 operands of 1x1 and wide convolutions, float32 sums"),
        (GPU, "float32", None, "TF32 likely (jax's default on this GPU)"),
        (GPU, "float32", "default", "TF32 likely (jax's default on this GPU)"),
        (GPU, "float32", "tensorfloat32", "TF32"),
        (GPU, "float32", "high", "TF32"),
        (GPU, "float32", "highest", "float32"),
        (GPU, "float32", "float32", "float32"),
        (GPU, "bfloat16", None, "bfloat16 weights and activations, float32 sums"),
        ({"platform": "gpu", "compute_capability": "7.5"}, "float32", None, "float32"),
        ({"platform": "gpu", "compute_capability": "gfx942"}, "float32", None, "the device's own choice"),
        ({"platform": "gpu"}, "float32", None, "the device's own choice"),
        ({"platform": "tpu"}, "float32", None, "1 pass of bfloat16"),
        ({"platform": "tpu"}, "float32", "high", "3 passes of bfloat16"),
        ({"platform": "tpu"}, "float32", "highest", "float32"),
    ],
)
def test_precision_in_words(device: dict[str, str], dtype: str, setting: str | None, words: str) -> None:
    assert machine.precision(Device(**device), dtype, setting).startswith(words)


def test_precision_names_a_cpu_that_does_not_multiply_bfloat16() -> None:
    words = machine.precision(Device(platform="cpu"), "bfloat16", None, multiplies_bfloat16=False)
    assert words.startswith("float32; operands of 1x1 and wide convolutions rounded to bfloat16")


@pytest.mark.parametrize("has_products", [True, False])
def test_dot_rate_of_bfloat16_is_of_what_a_render_multiplies(
    monkeypatch: pytest.MonkeyPatch, has_products: bool
) -> None:
    monkeypatch.setattr(dot, "multiplies_bfloat16", lambda: has_products)
    assert dot.operands("bfloat16") == ("bfloat16" if has_products else "float32")
    assert dot.operands("float32") == "float32"


def test_peak_memory_is_that_of_the_fullest_device() -> None:
    devices = [Device(memory_stats=lambda n=n: {"peak_bytes_in_use": n * 2**20}) for n in (3, 7, 5)]
    assert machine.peak_memory(devices) == (7.0, "device")


def test_peak_memory_is_that_of_the_process_where_devices_do_not_count() -> None:
    mb, of = machine.peak_memory([Device(memory_stats=lambda: None)])
    assert of == "process"
    assert mb is not None
    assert mb > 50


def test_program_memory_counts_arguments_results_and_temporaries() -> None:
    counted = SimpleNamespace(
        argument_size_in_bytes=2**20, output_size_in_bytes=2**21, temp_size_in_bytes=2**22, alias_size_in_bytes=0
    )
    assert machine.program_memory_mb(SimpleNamespace(memory_analysis=lambda: counted)) == 7.0


def test_program_memory_may_be_unknown() -> None:
    assert machine.program_memory_mb(SimpleNamespace(memory_analysis=lambda: None)) is None


@pytest.mark.parametrize(("load", "busy"), [(None, False), (0.0, False), (2.0, False), (2.1, True)])
def test_busy_is_half_a_process_per_core(load: float | None, busy: bool) -> None:
    assert machine.is_busy(load, 4) is busy


def test_tuning_variables_are_recorded_without_places() -> None:
    given = {"XLA_FLAGS": "--a", "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": "/home/me", "HOME": "/home/me"}
    assert machine.tuning(given) == {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--a"}


def test_dot_rate_grows_the_product_until_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {1024: 0.002, 2048: 0.01, 4096: 0.06, 8192: 0.1}
    monkeypatch.setattr(dot, "_product", lambda dtype, side: lambda: times[side])
    assert dot.best_sides(["float32"]) == {"float32": 4096}


def test_dot_rate_stops_where_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def product(dtype: str, side: int) -> Callable[[], float]:
        if side > 2048:
            raise MemoryError
        return lambda: 0.001

    monkeypatch.setattr(dot, "_product", product)
    assert dot.best_sides(["float32"]) == {"float32": 2048}


# Settings


@pytest.mark.parametrize("model", list_models())
def test_default_layers_are_a_shallow_a_middle_and_a_deep_one(model: str) -> None:
    known = architecture(model)
    macs = [known.layer(layer, (180, 180)).macs for layer in default_layers(known, quick=False)]
    assert len(macs) == 3
    assert macs == sorted(macs)
    assert macs[0] < macs[-1] / 4


def test_globs_give_each_layer_once() -> None:
    found = checked_settings(layers=["conv2_block1_?_conv", "conv2_block1_1_conv"]).layers
    assert found == tuple(name for name in architecture("resnet50v2").layers if name in found)
    assert set(found) == {f"conv2_block1_{number}_conv" for number in range(4)}


def test_size_that_leaves_nothing_of_a_layer_is_refused() -> None:
    def forward(weights: Any, images: Any) -> Any:
        first = conv(images, weights["first"])
        return {"first": first, "second": conv(first, weights["second"])}

    weights = {"first": {"kernel": kernel(0, 1, 1, 3, 2)}, "second": {"kernel": kernel(1, 5, 5, 2, 2)}}
    with pytest.raises(ConfigError, match=r"image_size 4x9 .* 'second'; give a larger"):
        check_sizes(network("small", forward, weights), ["first", "second"], (4, 9))


def test_the_command_of_a_report_asks_for_the_same() -> None:
    settings = checked_settings(quick=True, seed=4)
    words = command_of(settings).split()[2:]
    asked = dict(zip(words[::2], words[1::2], strict=False))
    again = checked_settings(
        model=asked["--model"],
        layers=asked["--layers"].split(","),
        batch_sizes=[int(size) for size in asked["--batch-size"].split(",")],
        dtypes=asked["--dtype"].split(","),
        size=(96, 96),
        steps=int(asked["--steps"]),
        repeats=int(asked["--repeats"]),
        seed=int(asked["--seed"]),
        quick="--quick" in words,
        kernels=asked["--kernels"],
    )
    assert again == settings

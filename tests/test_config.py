"""RenderConfig: the preset's numbers, and that nothing wrong gets through."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxviz import RenderConfig
from jaxviz.config import RecordedConfig
from jaxviz.errors import ConfigError
from jaxviz.records import from_json, to_json

pytestmark = pytest.mark.quick

FIELDS = [field.name for field in dataclasses.fields(RenderConfig)]
WRONG = [
    ("image_size", 0),
    ("image_size", -5),
    ("image_size", 100_000),
    ("image_size", 64.5),
    ("image_size", "64"),
    ("image_size", (64,)),
    ("image_size", (64, 64, 3)),
    ("image_size", (64, 0)),
    ("image_size", (64, "x")),
    ("image_size", True),
    ("image_size", None),
    ("steps", 0),
    ("steps", -1),
    ("steps", 2.5),
    ("steps", "30"),
    ("steps", True),
    ("step_size", 0.0),
    ("step_size", -1.0),
    ("step_size", float("nan")),
    ("step_size", float("inf")),
    ("step_size", "10"),
    ("seed", -1),
    ("seed", 2**32),
    ("seed", 1.0),
    ("activation_border", -1),
    ("activation_border", 0.5),
    ("initial_range", 0.0),
    ("initial_range", float("nan")),
    ("crop", -1),
    ("crop", 2.0),
    ("contrast", 0.0),
    ("contrast", "much"),
    ("dtype", "float16"),
    ("dtype", None),
    ("batch_size", 0),
    ("batch_size", "x"),
    ("batch_size", 1.0),
    ("batch_size", None),
    ("kernels", "avx512_bf16"),
    ("kernels", None),
    ("preset", "nope"),
]


def test_config_defaults_are_the_preset_keras() -> None:
    assert RenderConfig() == RenderConfig.keras() == RenderConfig.from_preset("keras")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_size", (180, 180)),
        ("steps", 30),
        ("step_size", 10.0),
        ("seed", 0),
        ("activation_border", 0),
        ("initial_range", 0.125),
        ("crop", 25),
        ("contrast", 0.15),
        ("dtype", "float32"),
        ("batch_size", "auto"),
        ("kernels", "auto"),
        ("preset", "keras"),
    ],
)
def test_keras_preset_has_the_published_number(field: str, value: object) -> None:
    assert getattr(RenderConfig.keras(), field) == value


def test_keras_preset_gives_a_picture_of_130_px() -> None:
    assert RenderConfig.keras().picture_size == (130, 130)


def test_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RenderConfig.keras().steps = 3  # type: ignore[misc]


def test_config_can_be_hashed() -> None:
    assert len({RenderConfig.keras(), RenderConfig.keras(), RenderConfig.keras(seed=1)}) == 2


def test_int_size_means_a_square() -> None:
    assert RenderConfig.keras(image_size=96).size == (96, 96)


@pytest.mark.parametrize("size", [(96, 128), [96, 128]])
def test_pair_size_means_height_and_width(size: object) -> None:
    config = RenderConfig.keras(image_size=size)
    assert (config.image_size, config.picture_size) == ((96, 128), (46, 78))


@pytest.mark.parametrize("size", [50, 40, 1, (50, 180), (180, 50)])
def test_size_below_51_px_needs_a_crop(size: object) -> None:
    with pytest.raises(ConfigError, match=r"crop 25 px per side leaves nothing.*image_size 51 or more, or crop"):
        RenderConfig.keras(image_size=size)


def test_size_of_51_px_leaves_one_pixel() -> None:
    assert RenderConfig.keras(image_size=51).picture_size == (1, 1)


def test_size_below_51_px_is_fine_with_a_crop() -> None:
    assert RenderConfig.keras(image_size=40, crop=0).picture_size == (40, 40)


@pytest.mark.parametrize("size", [1, 2, 3, 40, (9, 180)])
def test_crop_that_the_message_suggests_is_accepted(size: object) -> None:
    with pytest.raises(ConfigError) as caught:
        RenderConfig.keras(image_size=size)
    suggested = int(str(caught.value).rpartition("or crop ")[2].partition(" ")[0])
    assert min(RenderConfig.keras(image_size=size, crop=suggested).picture_size) >= 1


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_wrong_value_is_refused_by_name_and_value(field: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        RenderConfig(**{field: value})
    message = str(caught.value)
    shown = value[-1] if isinstance(value, tuple) and len(value) == 2 else value
    assert message.startswith(f"{field} {shown!r}")
    assert (caught.value.argument, caught.value.value) == (field, shown)


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_message_of_a_wrong_value_says_what_is_allowed(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=r"allowed: |number from \d+ to \d+|finite number|such as"):
        RenderConfig(**{field: value})


def test_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"preset.*'nope'.*keras"):
        RenderConfig.from_preset("nope")


@settings(derandomize=True, deadline=None, database=None, max_examples=300)
@given(
    field=st.sampled_from(FIELDS),
    value=st.one_of(st.integers(), st.floats(), st.text(max_size=8), st.none(), st.tuples(st.integers(), st.floats())),
)
@example(field="step_size", value=10**400)
@example(field="initial_range", value=10**400)
@example(field="contrast", value=10**400)
@example(field="image_size", value=b"ab")
@example(field="image_size", value=range(64, 66))
def test_any_value_makes_a_config_or_raises_config_error(field: str, value: object) -> None:
    try:
        config = RenderConfig(**{field: value})
    except ConfigError:
        return
    assert min(config.picture_size) >= 1


@pytest.mark.parametrize("field", ["step_size", "initial_range", "contrast"])
def test_number_beyond_float32_is_refused(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        RenderConfig(**{field: 1e39})


def test_bytes_are_no_size() -> None:
    with pytest.raises(ConfigError, match="image_size"):
        RenderConfig(image_size=b"\xb4\xb4")


def test_numbers_are_json_and_leave_out_what_decides_no_picture() -> None:
    numbers = json.loads(to_json(RenderConfig.keras(batch_size=8).numbers()))
    assert set(numbers) == set(FIELDS) - {"preset", "batch_size", "kernels"}


@pytest.mark.parametrize("preset", ["keras", "distill", "maco"])
def test_numbers_come_back_from_json(preset: str) -> None:
    numbers = RenderConfig.from_preset(preset, step_size=3, image_size=[64, 96]).numbers()
    assert from_json(to_json(numbers), RecordedConfig) == numbers


def test_numbers_are_the_same_for_numpys_floats() -> None:
    assert RenderConfig.keras(step_size=np.float64(3)).numbers() == RenderConfig.keras(step_size=3.0).numbers()


def test_numbers_with_an_unknown_field_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown field `color_space`"):
        from_json('{"color_space": "lab"}', RecordedConfig)


def test_numbers_tell_two_seeds_apart() -> None:
    assert RenderConfig.keras(seed=1).numbers() != RenderConfig.keras(seed=2).numbers()


def test_names_are_those_that_there_are():
    """config.py may not import jax, so it holds the names a second time."""
    from jaxviz import config
    from jaxviz.ascent import optimizers, parameterizations
    from jaxviz.network.rules import kernels

    assert kernels.LAX in config.KERNELS
    assert set(config.OPTIMIZERS) == set(optimizers.OPTIMIZERS)
    assert set(config.PARAMETERIZATIONS) == set(parameterizations.PARAMETERIZATIONS)

"""Everything about a render that is a number or a name: `RenderConfig` and its presets. No jax here.

keras: the recipe of the published Keras example "Visualizing what convnets learn" (fchollet, 2020), with the mean
taken over the whole activation map. It stays as published: no transforms, no rescue of dead filters.
distill: pictures as in "Feature Visualization" (Olah et al. 2017) and in Lucid: Fourier image with decorrelated
colours, Adam, robust transforms.
maco: the image's spectrum fixed to that of natural images, its phase optimised over random crops (Fel et al. 2023,
arXiv:2306.06805).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

import msgspec

from jaxviz.errors import ConfigError
from jaxviz.records import from_json

PRESETS: dict[str, dict[str, Any]] = {  # what differs from the defaults of RenderConfig
    "keras": {},
    "distill": {
        "image_size": 224,
        "steps": 256,
        "step_size": 0.05,
        "crop": 0,
        "parameterization": "fourier",
        "optimizer": "adam",
        "transforms": (("pad", 12), ("jitter", 8), ("scale", 0.9, 1.1), ("rotate", 10), ("jitter", 4)),
        "rescue_steps": 16,
        "attempts": 3,
    },
    "maco": {
        "image_size": 256,
        "steps": 256,
        "step_size": 1.0,
        "crop": 0,
        "parameterization": "maco",
        "optimizer": "nadam",
        "transforms": (("crops", 8, 0.25, 0.75, 128), ("noise", 0.08)),
        "rescue_steps": 16,
        "attempts": 3,
    },
}
DTYPES = ("float32", "bfloat16")
PARAMETERIZATIONS = ("pixel", "fourier", "maco")
OPTIMIZERS = ("normalized", "adam", "nadam")
OPTIONS = {  # field -> its option on the command line, for messages
    "image_size": "size",
    "steps": "steps",
    "step_size": "step-size",
    "seed": "seed",
    "activation_border": "activation-border",
    "crop": "crop",
    "dtype": "dtype",
    "batch_size": "batch-size",
    "preset": "preset",
    "parameterization": "parameterization",
    "optimizer": "optimizer",
    "transforms": "transforms",
    "tv": "tv",
    "l1": "l1",
    "l2": "l2",
    "attempts": "attempts",
}
NOT_RECORDED = ("preset", "batch_size")
NORMALIZED = {"image_size": tuple[int, int], "transforms": tuple[tuple[str | int | float, ...], ...]}
LARGEST_IMAGE_PX = 8192
LARGEST_BATCH = 65536
LARGEST_SEED = 2**32 - 1
LARGEST_STEPS = 1_000_000
LARGEST_ATTEMPTS = 100
SMALLEST, LARGEST = 1e-30, 1e30  # of lengths and ranges: what float32 holds, with room to square the smaller ones


@dataclass(frozen=True)
class RenderConfig:
    """How pictures are made; the defaults are the preset `keras`. Immutable and checked when made.

    Attributes:
        image_size: (height, width) in pixels of the optimised image; an int means a square.
        steps: updates of the image.
        step_size: of the optimizer; with `normalized` the length of one update, in units of the image parameters.
        seed: of the starting noise and of the transforms.
        activation_border: cells of the activation map left out of the score on each side.
        initial_range: `pixel`: starting pixels are uniform in [-initial_range, initial_range), in model space.
        crop: pixels cut from each side of the final image.
        contrast: `pixel`: standard deviation of the picture, on a scale where black is 0 and white is 1.
        parameterization: what is optimised: "pixel", "fourier" or "maco" (parameterizations.py).
        optimizer: "normalized" (the gradient scaled to L2 norm 1), "adam" or "nadam".
        transforms: what happens to the image before the network sees it, drawn anew for every image and step:
            (name, number, ...) each, such as (("pad", 12), ("jitter", 8)); the names are in transforms.py.
        tv, l1, l2: weights of penalties on the image in model space: total variation, mean |x|, mean x^2.
        rescue_steps: for so many steps an image without a gradient of its own takes the redirected one of ReLUs
            (in jaxviz's own networks; anybody's `forward` has ReLUs that jaxviz cannot reach).
        attempts: how often a filter that stays dead or turns nan is tried, each time from other noise.
        dtype: of the operands of the network's products, "float32" or "bfloat16"; sums, image, norm, update and
            scores are float32 always.
        batch_size: images per device and call, or "auto".
        preset: the name these numbers started from; the default label of the output folder.

    Raises:
        ConfigError: a value outside its range, or a crop that leaves no picture.
    """

    image_size: int | Sequence[int] = (180, 180)
    steps: int = 30
    step_size: float = 10.0
    seed: int = 0
    activation_border: int = 0
    initial_range: float = 0.125
    crop: int = 25
    contrast: float = 0.15
    parameterization: str = "pixel"
    optimizer: str = "normalized"
    transforms: Sequence[Sequence[str | float]] = ()
    tv: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    rescue_steps: int = 0
    attempts: int = 1
    dtype: str = "float32"
    batch_size: int | Literal["auto"] = "auto"
    preset: str = "keras"

    def __post_init__(self) -> None:
        for name in ("steps", "seed", "activation_border", "crop", "rescue_steps", "attempts", "batch_size"):
            object.__setattr__(self, name, _plain_int(getattr(self, name)))
        object.__setattr__(self, "image_size", _pair(self.image_size))
        object.__setattr__(self, "transforms", _specs(self.transforms))
        height, width = self.size
        for length in (height, width):
            _check_int("image_size", length, 1, LARGEST_IMAGE_PX)
        _check_int("steps", self.steps, 1, LARGEST_STEPS)
        _check_positive("step_size", self.step_size)
        _check_int("seed", self.seed, 0, LARGEST_SEED)
        _check_int("activation_border", self.activation_border, 0, LARGEST_IMAGE_PX)
        _check_positive("initial_range", self.initial_range)
        _check_int("crop", self.crop, 0, LARGEST_IMAGE_PX)
        _check_positive("contrast", self.contrast)
        _check_choice("parameterization", self.parameterization, PARAMETERIZATIONS)
        _check_choice("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("tv", "l1", "l2"):
            _check_weight(name, getattr(self, name))
        _check_int("rescue_steps", self.rescue_steps, 0, LARGEST_STEPS)
        _check_int("attempts", self.attempts, 1, LARGEST_ATTEMPTS)
        _check_choice("dtype", self.dtype, DTYPES)
        _check_choice("preset", self.preset, tuple(PRESETS))
        if self.batch_size != "auto":
            _check_int("batch_size", self.batch_size, 1, LARGEST_BATCH, also=" or 'auto'")
        if min(height, width) <= 2 * self.crop:
            raise ConfigError(
                f"crop {self.crop} px per side leaves nothing of an image of {height}x{width} px; "
                f"give --size {2 * self.crop + 1} or more, or --crop {max(0, (min(height, width) - 1) // 2)} or less"
            )

    @classmethod
    def keras(cls, **overrides: Any) -> RenderConfig:
        """The preset `keras`: 180 px, 30 normalised steps of size 10 from uniform noise."""
        return cls.from_preset("keras", **overrides)

    @classmethod
    def distill(cls, **overrides: Any) -> RenderConfig:
        """The preset `distill`: 224 px, Fourier image, 256 steps of Adam at 0.05, robust transforms."""
        return cls.from_preset("distill", **overrides)

    @classmethod
    def maco(cls, **overrides: Any) -> RenderConfig:
        """The preset `maco`: 256 px, fixed spectrum, 256 steps of Nadam at 1.0 over random crops with noise."""
        return cls.from_preset("maco", **overrides)

    @classmethod
    def from_preset(cls, preset: str, **overrides: Any) -> RenderConfig:
        """The preset of that name, with overrides."""
        _check_choice("preset", preset, tuple(PRESETS))
        return cls(**(PRESETS[preset] | {"preset": preset} | overrides))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the optimised image in pixels."""
        height, width = self.image_size  # type: ignore[misc]  # a pair since __post_init__
        return height, width

    @property
    def picture_size(self) -> tuple[int, int]:
        """(height, width) of the picture: the image less the crop."""
        return self.size[0] - 2 * self.crop, self.size[1] - 2 * self.crop

    def numbers(self) -> RecordedConfig:
        """The fields that decide a picture: all but the preset's name and the batch size."""
        values = {name: value for name, value in asdict(self).items() if name not in NOT_RECORDED}
        return from_json(json.dumps(values), RecordedConfig)  # as JSON, NumPy's floats are floats


if TYPE_CHECKING:
    RecordedConfig = RenderConfig  # which has its fields
else:
    # A `RenderConfig` in a recipe, less NOT_RECORDED. A field that a record lacks has its default: a new field's
    # default is what was done without it, or the recipes' schema is raised. A field that is unknown is refused.
    RecordedConfig = msgspec.defstruct(
        "RecordedConfig",
        [
            (one.name, (get_type_hints(RenderConfig) | NORMALIZED).get(one.name), one.default)
            for one in fields(RenderConfig)
            if one.name not in NOT_RECORDED
        ],
        frozen=True,
        forbid_unknown_fields=True,
        module=__name__,
    )


def _plain_int(value: Any) -> Any:
    """NumPy's and other libraries' integers as Python's, so that they go into JSON; the rest as it is."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def _pair(size: Any) -> tuple[Any, Any]:
    size = _plain_int(size)
    pair = (size, size) if isinstance(size, int) else tuple(map(_plain_int, size)) if isinstance(size, Sequence) else ()
    if isinstance(size, str | bytes) or len(pair) != 2:
        raise ConfigError(f"image_size {size!r} is neither a number of pixels nor (height, width), such as 180")
    return pair


def _specs(transforms: Any) -> tuple[tuple[str | float, ...], ...]:
    """Transforms as tuples of a name and numbers; whether there is such a transform, transforms.py knows."""
    if isinstance(transforms, Sequence) and not isinstance(transforms, str | bytes):
        specs = tuple(tuple(map(_plain_number, spec)) if isinstance(spec, list | tuple) else () for spec in transforms)
        if all(spec and isinstance(spec[0], str) and all(map(_is_finite, spec[1:])) for spec in specs):
            return specs
    raise ConfigError(
        f"{_described('transforms')} {transforms!r} is not a list of (name, number, ...), "
        'such as (("pad", 12), ("jitter", 8))'
    )


def _plain_number(value: Any) -> Any:
    return _plain_int(value) if isinstance(value, Integral) else float(value) if isinstance(value, Real) else value


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_weight(name: str, value: Any) -> None:
    if not _is_finite(value) or not 0 <= value <= LARGEST:
        raise ConfigError(f"{_described(name)} {value!r} is not a finite number from 0 to {LARGEST}")


def _check_int(name: str, value: Any, lowest: int, highest: int, *, also: str = "") -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise ConfigError(f"{_described(name)} {value!r} is not a whole number from {lowest} to {highest}{also}")


def _check_positive(name: str, value: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not SMALLEST <= value <= LARGEST:
        raise ConfigError(f"{_described(name)} {value!r} is not a finite number above 0, from {SMALLEST} to {LARGEST}")


def _check_choice(name: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(f"{_described(name)} {value!r} is unknown; allowed: {', '.join(allowed)}")


def _described(name: str) -> str:
    return f"{name} (--{OPTIONS[name]})" if name in OPTIONS else name

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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

import msgspec

from jaxviz.errors import ConfigError
from jaxviz.records import from_json
from jaxviz.spelling import parse_batch_size, parse_size, parse_transforms

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
KERNELS = ("auto", "lax")
DTYPES = ("float32", "bfloat16")
PARAMETERIZATIONS = ("pixel", "fourier", "maco")
OPTIMIZERS = ("normalized", "adam", "nadam")
NOT_RECORDED = ("preset", "batch_size", "kernels")  # `auto` is resolved: what it means is in the recipe itself
NORMALIZED = {"image_size": tuple[int, int], "transforms": tuple[tuple[str | int | float, ...], ...]}
LARGEST_IMAGE_PX = 8192
LARGEST_BATCH = 65536
LARGEST_SEED = 2**32 - 1
LARGEST_STEPS = 1_000_000
LARGEST_ATTEMPTS = 100
SMALLEST, LARGEST = 1e-30, 1e30  # of lengths and ranges: what float32 holds, with room to square the smaller ones
Check = Callable[[str, Any], Any]  # (name, value) -> the value as it is kept; raises ConfigError


def setting(
    default: Any,
    check: Check,
    help: str,
    *,
    metavar: str = "",
    choices: Sequence[str] = (),
    option: str = "",
    parse: Callable[[str], Any] | None = None,
    toml: Any = None,
    written: str = "",
) -> Any:
    """A field of `RenderConfig`, and with it an option of every command that renders and a key of job files.

    Args:
        default: of the preset `keras`.
        check: what it may be.
        help: what it is, without a full stop.
        metavar: its value on the command line, such as N; `choices` make their own.
        choices: all that it may be.
        option: its name on the command line and in job files; default: the field's.
        parse: reads it from text, where it is not of one of TOML's types.
        toml: the types it may have in a job file; default: the field's.
        written: how it is written in a job file, where that is not obvious.

    Returns:
        A dataclass field.
    """
    words = dict(metavar=metavar, choices=tuple(choices), option=option, parse=parse, toml=toml, written=written)
    return field(default=default, metadata={"check": check, "help": help, "words": words})


def whole(lowest: int, highest: int, *, also: str | None = None) -> Check:
    """A whole number in a range, or `also`."""

    def check(name: str, value: Any) -> Any:
        value = _plain_int(value)
        if value == also and isinstance(value, str):
            return value
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            allowed = f"a whole number from {lowest} to {highest}" + (f" or {also!r}" if also else "")
            raise ConfigError(argument=name, value=value, allowed=allowed)
        return value

    return check


def one_of(choices: Sequence[str]) -> Check:
    """One of some names."""

    def check(name: str, value: Any) -> Any:
        if value not in choices:
            raise ConfigError("is unknown", argument=name, value=value, allowed=", ".join(choices))
        return value

    return check


def positive(name: str, value: Any) -> Any:
    """A finite number above 0."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not SMALLEST <= value <= LARGEST:
        allowed = f"a finite number above 0, from {SMALLEST} to {LARGEST}"
        raise ConfigError(argument=name, value=value, allowed=allowed)
    return value


def weight(name: str, value: Any) -> Any:
    """A finite number of 0 or more."""
    if not _is_finite(value) or not 0 <= value <= LARGEST:
        raise ConfigError(argument=name, value=value, allowed=f"a finite number from 0 to {LARGEST}")
    return value


def height_and_width(name: str, size: Any) -> tuple[int, int]:
    """A number of pixels, or two."""
    size = _plain_int(size)
    pair = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, Sequence) else ()
    if isinstance(size, str | bytes) or len(pair) != 2:
        raise ConfigError("is neither a number of pixels nor (height, width), such as 180", argument=name, value=size)
    height, width = (whole(1, LARGEST_IMAGE_PX)(name, length) for length in pair)
    return height, width


def specs(name: str, transforms: Any) -> tuple[tuple[str | float, ...], ...]:
    """Tuples of a name and numbers; whether there is such a transform, transforms.py knows."""
    if isinstance(transforms, Sequence) and not isinstance(transforms, str | bytes):
        found = tuple(tuple(map(_plain_number, spec)) if isinstance(spec, list | tuple) else () for spec in transforms)
        if all(spec and isinstance(spec[0], str) and all(map(_is_finite, spec[1:])) for spec in found):
            return found
    allowed = 'a list of (name, number, ...), such as (("pad", 12), ("jitter", 8))'
    raise ConfigError(argument=name, value=transforms, allowed=allowed)


def _plain_int(value: Any) -> Any:
    """NumPy's and other libraries' integers as Python's, so that they go into JSON; the rest as it is."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def _plain_number(value: Any) -> Any:
    return _plain_int(value) if isinstance(value, Integral) else float(value) if isinstance(value, Real) else value


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """How pictures are made; the defaults are the preset `keras`. Immutable and checked when made.

    A field that is added here is an option of the command line and a key of job files by that (options.py).

    Attributes:
        {attributes}

    Raises:
        ConfigError: a value outside its range, or a crop that leaves no picture.
    """

    steps: int = setting(30, whole(1, LARGEST_STEPS), "Updates of the image", metavar="N")
    # With `normalized` the length of one update, in units of the image parameters.
    step_size: float = setting(10.0, positive, "Length of one update", metavar="X")
    image_size: int | Sequence[int] = setting(
        (180, 180), height_and_width, "Size of the optimised image", metavar="PX|HxW", option="size",
        parse=parse_size, toml=int | str | list[int], written='`180`, `"128x192"` or `[128, 192]`, height first',
    )  # fmt: skip
    crop: int = setting(25, whole(0, LARGEST_IMAGE_PX), "Cut from each side at the end", metavar="PX")
    activation_border: int = setting(
        0, whole(0, LARGEST_IMAGE_PX), "Cells of the map left out on each side", metavar="CELLS"
    )
    parameterization: str = setting("pixel", one_of(PARAMETERIZATIONS), "What is optimised", choices=PARAMETERIZATIONS)
    # `normalized`: the gradient scaled to L2 norm 1.
    optimizer: str = setting("normalized", one_of(OPTIMIZERS), "How the image moves", choices=OPTIMIZERS)
    # Drawn anew for every image and step; the names are in transforms.py.
    transforms: Sequence[Sequence[str | float]] = setting(
        (), specs, "Before the network: pad:12,jitter:8,scale:0.9:1.1,rotate:10,...",
        metavar="LIST|none", parse=parse_transforms, toml=str | list[list[str | int | float]],
        written='`[["pad", 12], ["jitter", 8]]`, `"pad:12,jitter:8"` or `"none"`',
    )  # fmt: skip
    tv: float = setting(0.0, weight, "Penalty on total variation", metavar="WEIGHT")
    l1: float = setting(0.0, weight, "Penalty on the mean of |x|", metavar="WEIGHT")
    l2: float = setting(0.0, weight, "Penalty on the mean of x^2", metavar="WEIGHT")
    initial_range: float = setting(
        0.125, positive, "For pixel: half the range of the first noise, in model space", metavar="X"
    )
    # On a scale where black is 0 and white is 1.
    contrast: float = setting(0.15, positive, "For pixel: standard deviation of the picture", metavar="X")
    # Those of its ReLUs, in any network (network/rules/redirect.py).
    rescue_steps: int = setting(
        0, whole(0, LARGEST_STEPS), "Steps in which a dead filter takes redirected gradients", metavar="N"
    )
    attempts: int = setting(
        1, whole(1, LARGEST_ATTEMPTS), "Tries for a filter that stays dead or turns nan", metavar="N"
    )
    seed: int = setting(0, whole(0, LARGEST_SEED), "Of noise and transforms", metavar="N")
    batch_size: int | Literal["auto"] = setting(
        "auto", whole(1, LARGEST_BATCH, also="auto"), "Images per device and call; part of the recipe",
        metavar="auto|N", parse=parse_batch_size, toml=int | str,
    )  # fmt: skip
    kernels: str = setting(
        "auto", one_of(KERNELS),
        "Libraries that multiply on a CPU; part of the recipe; lax is the portable choice", choices=KERNELS,
    )  # fmt: skip
    # Image, norm, update and scores are float32 too.
    dtype: str = setting(
        "float32", one_of(DTYPES), "Operands of the network's products; sums stay float32", choices=DTYPES
    )
    preset: str = setting(
        "keras", one_of(tuple(PRESETS)), "The name these numbers started from; the default label of the output folder"
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            checked = each.metadata["check"](each.name, getattr(self, each.name))
            object.__setattr__(self, each.name, checked)
        height, width = self.size
        if min(height, width) <= 2 * self.crop:
            raise ConfigError(
                f"`crop` {self.crop} px per side leaves nothing of an image of {height}x{width} px",
                argument="crop",
                value=self.crop,
                try_next=f"give `image_size` {2 * self.crop + 1} or more, "
                f"or `crop` {max(0, (min(height, width) - 1) // 2)} or less",
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
        one_of(tuple(PRESETS))("preset", preset)
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
        """The fields that decide a picture by themselves: all but NOT_RECORDED."""
        values = {name: value for name, value in asdict(self).items() if name not in NOT_RECORDED}
        return from_json(json.dumps(values), RecordedConfig)  # as JSON, NumPy's floats are floats


def _recorded(kind: type[RenderConfig]) -> type[msgspec.Struct]:
    """A `RenderConfig` in a recipe, less NOT_RECORDED.

    A field that a record lacks has its default: a new field's default is what was done without it, or the recipes'
    schema is raised. A field that is unknown is refused.
    """
    hints = get_type_hints(kind) | NORMALIZED
    recorded = [(one.name, hints.get(one.name), one.default) for one in fields(kind) if one.name not in NOT_RECORDED]
    return msgspec.defstruct("RecordedConfig", recorded, frozen=True, forbid_unknown_fields=True, module=__name__)


if TYPE_CHECKING:
    RecordedConfig = RenderConfig  # which has its fields
else:
    RecordedConfig = _recorded(RenderConfig)


_ATTRIBUTES = "\n        ".join(f"{each.name}: {each.metadata['help']}." for each in fields(RenderConfig))
RenderConfig.__doc__ = str(RenderConfig.__doc__).replace("{attributes}", _ATTRIBUTES)

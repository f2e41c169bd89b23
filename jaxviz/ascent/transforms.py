"""Robust transforms: the image moved a little at random before the network sees it, so that no pixel is relied on.

A transform is a frozen, hashable dataclass of numbers, called with a key and one float32 image (height, width,
channels) in model space, where 0 is (about) grey: what lies outside an image is 0. Shapes are static, so it can be
vmapped with a key for each image inside a compiled loop. `apply` runs a chain. What a transform draws has no gradient.

All but `Noise` only say where the pixels of their output lie in their input, and neighbours in a chain are composed
and resampled once (resampling.py): the image is blurred once, and what leaves the frame on the way is not lost.

Lucid's set (Olah et al., "Feature Visualization", Distill, 2017), and the crops and noise of MaCo (Fel et al., 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Key

from jaxviz.ascent.resampling import MAX_ANGLE, Placement, Size, compose, fit_in_one, resample, size_of
from jaxviz.errors import ConfigError

MAX_ZOOM = 8.0  # a gradient's time grows with it


class _Geometric:
    """A transform that only places its output in the image."""

    def output_size(self, size: Size) -> Size:
        """Size of the output for an input of `size`."""
        return size

    def placement(self, key: Key[Array, ""], size: Size) -> Placement:
        """Where the output lies in an image of `size`."""
        raise NotImplementedError

    def __call__(
        self, key: Key[Array, ""], image: Float[Array, "height width channels"]
    ) -> Float[Array, "h w channels"]:
        """The image resampled there."""
        return resample(self.placement(key, size_of(image)), image)


@dataclass(frozen=True)
class Pad(_Geometric):
    """`px` pixels of zeros on all sides."""

    px: int
    name: ClassVar[str] = "pad"
    example: ClassVar[tuple[Any, ...]] = ("pad", 12)

    def __post_init__(self) -> None:
        _check_whole(self, "px", 0)

    def output_size(self, size: Size) -> Size:
        """Size of the output for an input of `size`."""
        return size[0] + 2 * self.px, size[1] + 2 * self.px

    def placement(self, key: Key[Array, ""], size: Size) -> Placement:  # noqa: ARG002
        """The image in the middle."""
        return Placement(self.output_size(size))


@dataclass(frozen=True)
class Jitter(_Geometric):
    """A crop, `px` pixels smaller in both directions, at a random offset 0..px in each."""

    px: int
    name: ClassVar[str] = "jitter"
    example: ClassVar[tuple[Any, ...]] = ("jitter", 8)

    def __post_init__(self) -> None:
        _check_whole(self, "px", 0)

    def output_size(self, size: Size) -> Size:
        """Size of the output for an input of `size`."""
        if self.px >= min(size):
            raise ConfigError(
                f"jitter {self.px} leaves nothing of an image that is {size[0]}x{size[1]} px at its place in the "
                f"chain; give {min(size) - 1} or less, or a larger image"
            )
        return size[0] - self.px, size[1] - self.px

    def placement(self, key: Key[Array, ""], size: Size) -> Placement:
        """Every offset equally likely."""
        y, x = jax.random.randint(key, (2,), 0, self.px + 1, jnp.int32).astype(jnp.float32) - self.px / 2
        return Placement(self.output_size(size), shift=(y, x), slack=self.px)


@dataclass(frozen=True)
class Scale(_Geometric):
    """Zoom about the centre by a factor uniform in [smallest, largest], the size kept."""

    smallest: float
    largest: float
    name: ClassVar[str] = "scale"
    example: ClassVar[tuple[Any, ...]] = ("scale", 0.9, 1.1)

    def __post_init__(self) -> None:
        _check_range(self, MAX_ZOOM)

    def placement(self, key: Key[Array, ""], size: Size) -> Placement:
        """A factor above 1 enlarges."""
        if self.smallest == self.largest == 1:
            return Placement(size)
        zoom = jax.random.uniform(key, (), jnp.float32, minval=self.smallest, maxval=self.largest)
        return Placement(size, zoom=zoom, largest=float(self.largest), slack=None)


@dataclass(frozen=True)
class Rotate(_Geometric):
    """Rotation about the centre by an angle uniform in [-degrees, degrees], the size kept."""

    degrees: float
    name: ClassVar[str] = "rotate"
    example: ClassVar[tuple[Any, ...]] = ("rotate", 10.0)

    def __post_init__(self) -> None:
        _check_number(self, "degrees", 0, math.degrees(MAX_ANGLE))

    def placement(self, key: Key[Array, ""], size: Size) -> Placement:
        """A positive angle turns the picture counter-clockwise."""
        if self.degrees == 0:
            return Placement(size)
        steepest = math.radians(self.degrees)
        angle = jax.random.uniform(key, (), jnp.float32, minval=-steepest, maxval=steepest)
        return Placement(size, angle=angle, steepest=steepest, slack=None)


@dataclass(frozen=True)
class Noise:
    """Normal noise of standard deviation `sd` in model space on every pixel and channel."""

    sd: float
    name: ClassVar[str] = "noise"
    example: ClassVar[tuple[Any, ...]] = ("noise", 0.08)

    def __post_init__(self) -> None:
        _check_number(self, "sd", 0, 1e6)

    def output_size(self, size: Size) -> Size:
        """Size of the output for an input of `size`."""
        return size

    def __call__(
        self, key: Key[Array, ""], image: Float[Array, "height width channels"]
    ) -> Float[Array, "height width channels"]:
        """The image with noise drawn from the key."""
        return image + self.sd * _normal(key, image.shape) if self.sd else image


@dataclass(frozen=True)
class RandomCrops:
    """`views` square crops, each of its own side and place, resampled to `px` x `px`.

    A side is uniform in [smallest, largest] of the image's shorter side, then every place where the crop lies wholly
    inside the image is equally likely. The corner pixels of a view are those of its crop.
    """

    views: int
    smallest: float
    largest: float
    px: int
    name: ClassVar[str] = "crops"
    example: ClassVar[tuple[Any, ...]] = ("crops", 8, 0.3, 0.7, 128)

    def __post_init__(self) -> None:
        _check_whole(self, "views", 1)
        _check_range(self, 1)
        _check_whole(self, "px", 1)

    def output_size(self, size: Size) -> Size:
        """Size of a view of an input of `size`."""
        side = self.smallest * min(size)
        if side < 2:
            raise ConfigError(
                f"crops of {self.smallest:g} of an image that is {size[0]}x{size[1]} px at their place in the chain "
                f"have {side:.1f} px, and need 2; give {math.ceil(200 / min(size)) / 100:g} or more, or a larger image"
            )
        return self.px, self.px

    def placement(self, key: Key[Array, ""], size: Size) -> Placement:
        """One view's crop."""
        side_key, place_key = jax.random.split(key)
        shorter, pixels = min(size), max(1, self.px - 1)  # from corner pixel to corner pixel of a view
        side = shorter * jax.random.uniform(side_key, (), jnp.float32, minval=self.smallest, maxval=self.largest)
        y, x = (jax.random.uniform(place_key, (2,), jnp.float32) - 0.5) * (jnp.array(size, jnp.float32) - side)
        largest = pixels / (shorter * self.smallest - 1)
        return Placement((self.px, self.px), zoom=pixels / (side - 1), shift=(y, x), largest=largest, slack=None)

    def __call__(
        self, key: Key[Array, ""], image: Float[Array, "height width channels"]
    ) -> Float[Array, "views px px channels"]:
        """The views, each drawn with the key folded with its number."""

        def view(number: Integer[Array, ""]) -> Array:
            return resample(self.placement(jax.random.fold_in(key, number), size_of(image)), image)

        return jax.vmap(view)(jnp.arange(self.views, dtype=jnp.int32))


Transform = Pad | Jitter | Scale | Rotate | Noise | RandomCrops
BY_NAME: dict[str, type[Transform]] = {kind.name: kind for kind in (Pad, Jitter, Scale, Rotate, Noise, RandomCrops)}


def apply(
    transforms: tuple[Transform, ...], key: Key[Array, ""], image: Float[Array, "height width channels"]
) -> Float[Array, "views h w channels"]:
    """A chain on one image: transform i draws with the key folded with i, from the crops on also with the view.

    Without crops there is one view. The numbers of views and pixels are those of `output_size`, which also raises.
    """
    views, *_ = output_size(transforms, size_of(image))
    shared = next((i for i, transform in enumerate(transforms) if isinstance(transform, RandomCrops)), len(transforms))

    def view(number: Integer[Array, ""] | int) -> Array:
        moved, placement = image, Placement(size_of(image))
        for i, transform in enumerate(transforms):
            own = jax.random.fold_in(key, i)
            own = own if i < shared else jax.random.fold_in(own, number)
            if isinstance(transform, Noise):
                moved = transform(own, resample(placement, moved))
                placement = Placement(placement.size)
                continue
            following = transform.placement(own, placement.size)
            if not fit_in_one(placement, following):
                moved, placement = resample(placement, moved), Placement(placement.size)
            placement = compose(placement, following)
        return resample(placement, moved)

    return jax.vmap(view)(jnp.arange(views, dtype=jnp.int32)) if views > 1 else view(0)[None]


def output_size(transforms: Sequence[Transform], size: Size) -> tuple[int, int, int]:
    """(views, height, width) of what `apply` makes of an image of `size` (height, width).

    Raises:
        ConfigError: some transform leaves nothing of the image, or there are crops twice.
    """
    views = [transform.views for transform in transforms if isinstance(transform, RandomCrops)]
    if len(views) > 1:
        raise ConfigError(f"crops stand {len(views)} times in the chain of transforms; give them once")
    for transform in transforms:
        size = transform.output_size(size)
    return math.prod(views), *size


def from_specs(specs: Sequence[Sequence[Any]]) -> tuple[Transform, ...]:
    """Transforms from names and numbers: `(("pad", 12), ("scale", 0.9, 1.1))` becomes `(Pad(12), Scale(0.9, 1.1))`.

    Raises:
        ConfigError: an unknown name, more or fewer numbers than the transform has, or a number outside its range.
    """
    return tuple(_from_spec(spec) for spec in specs)


def _from_spec(spec: Sequence[Any]) -> Transform:
    if isinstance(spec, str) or not spec or not isinstance(spec[0], str) or spec[0] not in BY_NAME:
        raise ConfigError(
            f"names none; they are {', '.join(BY_NAME)}, each with its numbers, for example {Pad.example!r}",
            argument="transforms",
            value=spec,
        )
    kind, numbers = BY_NAME[spec[0]], tuple(spec[1:])
    names = [field.name for field in fields(kind)]
    if len(numbers) != len(names):
        raise ConfigError(
            f"{kind.name}: got {len(numbers)} numbers {numbers!r}, and takes {len(names)} ({', '.join(names)}), "
            f"for example {kind.example!r}"
        )
    return kind(*numbers)


def _normal(key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
    """Standard normal numbers from 65,536 quantiles, two from each 32 random bits: drawing bits is what takes time."""
    count = math.prod(shape)
    bits = jax.random.bits(key, (-(-count // 2),), jnp.uint32)
    halves = jnp.concatenate([bits & 0xFFFF, bits >> 16])[:count].astype(jnp.float32)
    return (math.sqrt(2) * jax.lax.erf_inv((halves + 0.5) / 2**15 - 1)).reshape(shape)


def _check_whole(transform: Any, field: str, least: int) -> None:
    value = getattr(transform, field)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        _refuse(transform, field, f"a whole number of at least {least}")


def _check_number(transform: Any, field: str, least: float, most: float) -> None:
    value = getattr(transform, field)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        _refuse(transform, field, f"a number from {least:g} to {most:g}")


def _check_range(transform: Any, most: float) -> None:
    _check_number(transform, "smallest", 0, most)
    _check_number(transform, "largest", 0, most)
    if not 0 < transform.smallest <= transform.largest:
        _refuse(transform, "smallest", f"above 0 and at most the largest, {transform.largest!r}")


def _refuse(transform: Any, field: str, allowed: str) -> None:
    value = getattr(transform, field)
    raise ConfigError(f"{transform.name}: {field} is {value!r}, must be {allowed}, for example {transform.example!r}")

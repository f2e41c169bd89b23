"""Whether a request suits a layer: its filters, its image size, its starting images. NumPy only.

Everything here raises before anything is compiled, and before weights are fetched where it can.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float32

from jaxviz.config import RenderConfig
from jaxviz.errors import ConfigError, FilterError

if TYPE_CHECKING:
    from jaxviz.ascent.algebra import Objective

LARGEST_REPLICAS = 1000
DEFAULT_FILTERS = 64  # the seed's grid is 8 x 8

Filters = Iterable[int] | Literal["all"] | None


def check_request(
    layer: str, activation: tuple[int, ...], filters: Filters, config: RenderConfig, objective: Objective
) -> tuple[int, ...]:
    """The filters to render, once they, the objective and the image size suit the layer's activation.

    `activation` is (height, width, channels) or (channels,) of one image. Raises FilterError or ConfigError.
    """
    size = f"{config.size[0]}x{config.size[1]}"
    if 0 in activation:
        raise ConfigError(
            f"`image_size` {size} leaves an empty activation {activation} at layer {layer!r}",
            argument="image_size",
            try_next="give a larger `image_size`",
        )
    objective.check(activation, layer)
    return _checked_filters(filters, objective.choices(activation[-1]), layer)


def _checked_filters(filters: Filters, channels: int, layer: str) -> tuple[int, ...]:
    if filters is None:
        return tuple(range(min(DEFAULT_FILTERS, channels)))
    if isinstance(filters, str):
        if filters == "all":
            return tuple(range(channels))
        raise FilterError("is neither filter numbers nor 'all'", argument="filters", value=filters)
    try:
        chosen = tuple(operator.index(number) for number in filters)
    except TypeError as error:
        raise FilterError(
            "are not whole numbers, such as range(64) or [3, 7]", argument="filters", value=filters
        ) from error
    if not chosen or len(set(chosen)) < len(chosen):
        raise FilterError("must be distinct filter numbers, at least one", argument="filters", value=list(chosen))
    outside = [number for number in chosen if not 0 <= number < channels]
    if outside:
        raise FilterError(
            f"is out of range; layer {layer!r} has {channels} filters, 0-{channels - 1}",
            argument="filters",
            value=outside[0],
            try_next=f"Type for example: `filters` 0-{min(63, channels - 1)}",
        )
    return chosen


def check_replicas(replicas: Any) -> None:
    """Raise ConfigError unless it is a number of pictures of one filter."""
    if not isinstance(replicas, int) or isinstance(replicas, bool) or not 1 <= replicas <= LARGEST_REPLICAS:
        raise ConfigError(argument="replicas", value=replicas, allowed=f"a whole number from 1 to {LARGEST_REPLICAS}")


def checked_snapshots(snapshots: Any, config: RenderConfig) -> tuple[int, ...]:
    """Steps after which a picture is kept, ascending and distinct. Raises ConfigError."""
    try:
        steps = tuple(sorted({operator.index(step) for step in snapshots}))
    except TypeError as error:
        raise ConfigError("are not steps, such as (1, 8, 32)", argument="snapshots", value=snapshots) from error
    outside = [step for step in steps if not 0 <= step <= config.steps]
    if outside:
        raise ConfigError(
            f"is out of range; with {config.steps} steps it is 0 (the start) to {config.steps}",
            argument="snapshots",
            value=outside[0],
            try_next="Give other snapshots or more `steps`",
        )
    return steps


def checked_images(
    initial_images: Any, count: int, config: RenderConfig, channels: int
) -> Float32[np.ndarray, "count h w channels"]:
    """Starting images as float32, when there are `count` of them of the configured size. Raises ConfigError."""
    if config.parameterization != "pixel":
        raise ConfigError(
            f"initial_images are pixels; parameterization {config.parameterization!r} does not start from an image. "
            "Give parameterization='pixel', or leave them away"
        )
    images_given = np.asarray(initial_images, np.float32)
    expected = (count, *config.size, channels)
    if images_given.shape != expected:
        raise ConfigError(
            f"initial_images has shape {images_given.shape}; for {count} filters at image_size "
            f"{config.size[0]}x{config.size[1]} it must be {expected}, in model space"
        )
    return images_given

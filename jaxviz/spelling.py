"""Values as people write them, on the command line and in job files: text in, values out.

What is no value of the option is a ConfigError or FilterError that says what is. No jax here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from jaxviz.errors import ConfigError, FilterError

NUMBER = re.compile(r"[0-9]{1,6}")  # no layer, image or batch has a million of anything


def parse_size(text: str) -> tuple[int, int]:
    """The value of --size: (height, width) in pixels; how many there may be is left to `RenderConfig`."""
    height, cross, width = text.lower().partition("x")
    if not NUMBER.fullmatch(height) or (cross and not NUMBER.fullmatch(width)):
        raise ConfigError(
            f"`image_size` {text!r} is neither PX nor HxW",
            argument="image_size",
            value=text,
            try_next="Type for example: `image_size` 180 or `image_size` 128x192",
        )
    return int(height), int(width or height)


def parse_filters(text: str) -> list[int] | Literal["all"]:
    """The value of --filters: "all", or numbers and inclusive ranges, sorted and without duplicates.

    Raises:
        FilterError: anything else.
    """
    if text.strip() == "all":
        return "all"
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not NUMBER.fullmatch(first) or (dash and not NUMBER.fullmatch(last)):
            raise FilterError(
                f"`filters` {text!r}: {part.strip()!r} is neither a number nor a range",
                argument="filters",
                value=text,
                try_next="Type for example: `filters` 0-63, `filters` 3,7,100-120 or `filters` all",
            )
        low, high = int(first), int(last or first)
        if low > high:
            raise FilterError(
                f"`filters` {text!r}: {part.strip()!r} is no range",
                argument="filters",
                value=text,
                try_next="the smaller number comes first, such as 0-63",
            )
        numbers.update(range(low, high + 1))
    return sorted(numbers)


def parse_transforms(text: str) -> list[tuple[str | float, ...]]:
    """The value of --transforms: names and numbers; what they mean is left to transforms.py."""
    if text.strip() == "none":
        return []
    return [_parse_transform(part.strip(), text) for part in text.split(",")]


def parse_snapshots(text: str) -> list[int]:
    """The value of --snapshots: steps."""
    steps = [part.strip() for part in text.split(",")]
    if not all(NUMBER.fullmatch(step) for step in steps):
        raise ConfigError(
            f"`snapshots` {text!r} is no list of steps",
            argument="snapshots",
            value=text,
            try_next="Type for example: `snapshots` 1,8,32,128",
        )
    return [int(step) for step in steps]


def default_snapshots(steps: int) -> list[int]:
    """The steps that an animation shows where none were given: 0, 1, 2, 4, 8 and so on."""
    return [0, *(2**power for power in range(steps.bit_length()) if 2**power < steps)]


def parse_batch_size(text: str) -> int | str:
    """The value of --batch-size; what is no number is left to `RenderConfig` to judge."""
    return int(text) if NUMBER.fullmatch(text) else text


def parse_filter_rules(texts: list[str]) -> tuple[tuple[str, tuple[int, ...] | Literal["all"]], ...]:
    """The values of an atlas's --filters: LIST for all layers, or GLOB=LIST. Raises FilterError."""
    rules = []
    for text in texts:
        glob, equals, listed = text.rpartition("=")
        filters = parse_filters(listed)
        rules.append((glob if equals else "*", filters if isinstance(filters, str) else tuple(filters)))
    return tuple(rules)


def parse_path(text: str, argument: str) -> Path:
    """The path that an argument names, `~` being the home folder."""
    if "\0" in text:
        raise ConfigError("is no path: it has a NUL character in it", argument=argument, value=text)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        problem = f"`{argument}` {text!r}: whose home folder that is, is not known"
        raise ConfigError(problem, argument=argument, value=text, try_next="write the whole path") from error


def _parse_transform(part: str, text: str) -> tuple[str | float, ...]:
    name, *numbers = part.split(":")
    try:
        if not name:
            raise ValueError
        return name, *(float(number) if set(number) & set(".e") else int(number) for number in numbers)
    except ValueError:
        raise ConfigError(
            f"`transforms` {text!r}: {part!r} is no transform with numbers",
            argument="transforms",
            value=text,
            try_next="Type for example: `transforms` pad:12,jitter:8,scale:0.9:1.1,rotate:10,jitter:4 or "
            "`transforms` none",
        ) from None

"""Options that several commands share: they mean the same everywhere, and are read the same way.

Text in, values out; what is no value of the option is a ConfigError that says what is.
"""

from __future__ import annotations

import re
from typing import Annotated

import typer

from jaxviz.config import RenderConfig
from jaxviz.errors import ConfigError

NUMBER = re.compile(r"[0-9]{1,6}")  # no layer, image or batch has a million of anything

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="A model; see: jaxviz models")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Size = Annotated[str | None, typer.Option(metavar="PX|HxW", help="Size of the optimised image (keras: 180).")]


def parse_size(text: str) -> tuple[int, int]:
    """The value of --size: (height, width) in pixels."""
    height, cross, width = text.lower().partition("x")
    if not NUMBER.fullmatch(height) or (cross and not NUMBER.fullmatch(width)):
        raise ConfigError(f"--size {text!r} is neither PX nor HxW. Type for example: --size 180 or --size 128x192")
    return RenderConfig.keras(image_size=(int(height), int(width or height)), crop=0).size


def parse_batch_size(text: str) -> int | str:
    """The value of --batch-size; what is no number is left to `RenderConfig` to judge."""
    return int(text) if NUMBER.fullmatch(text) else text

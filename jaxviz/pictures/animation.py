"""Frames -> the bytes of an animated WebP or GIF. NumPy in, bytes out."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jaxviz.errors import ConfigError

FORMATS = ("webp", "gif")
FRAME_MS, LAST_FRAME_MS = 400, 2000  # the finished picture stays longer
WEBP_QUALITY = 85
LARGEST_WEBP_PX = 16383  # of the format


def check_format(name: str) -> None:
    """Raise ConfigError unless it is the name of a format."""
    if name not in FORMATS:
        raise ConfigError("is unknown", argument="animate", value=name, allowed=", ".join(FORMATS))


def animation_bytes(frames: Sequence[UInt8[np.ndarray, "height width 3"]], *, file_format: str) -> bytes:
    """An endless animation of equal-sized frames.

    Raises:
        ConfigError: frames larger than WebP can hold.
    """
    height, width = frames[0].shape[:2]
    if file_format == "webp" and max(height, width) > LARGEST_WEBP_PX:
        raise ConfigError(
            f"holds at most {LARGEST_WEBP_PX} px, the grid has {height}x{width}",
            argument="animate",
            value="webp",
            try_next="give `animate` gif or fewer `filters`",
        )
    first, *others = [Image.fromarray(frame) for frame in frames]
    durations = [FRAME_MS] * len(others) + [LAST_FRAME_MS]
    options = {"quality": WEBP_QUALITY} if file_format == "webp" else {}
    buffer = io.BytesIO()
    first.save(buffer, file_format.upper(), save_all=True, append_images=others, duration=durations, loop=0, **options)
    return buffer.getvalue()

"""A picture as a PNG file that explains itself: names of picture files, and the text chunk `jaxviz` inside them.

The chunk is JSON: recipe, filter, replica, score, status, attempt, step of a snapshot, version. NumPy in, bytes out.
"""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, PngImagePlugin

import jaxviz
from jaxviz.recipe import Picture, Recipe

SCHEMA = 1
CHUNK = "jaxviz"
PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND\xaeB`\x82"  # the last chunk of every whole PNG, with its checksum
PICTURE_NAME = re.compile(r"\d{4,}(_r\d+)?(\.s\d{4,})?\.png")

Key = tuple[int, int]  # (filter, replica)


@dataclass(frozen=True)
class Saved:
    """What a finished picture file says of itself; `step` is None but for a snapshot."""

    filter_index: int
    score: float
    status: str
    recipe: Recipe
    replica: int = 0
    attempt: int = 0
    step: int | None = None

    @property
    def key(self) -> Key:
        """(filter, replica)."""
        return self.filter_index, self.replica


def picture_name(key: Key, step: int | None = None) -> str:
    """0003.png; 0003_r1.png for its replica 1; 0003.s0032.png for its snapshot after 32 steps."""
    filter_index, replica = key
    snapshot = "" if step is None else f".s{step:04d}"
    return f"{filter_index:04d}" + (f"_r{replica}" if replica else "") + f"{snapshot}.png"


def picture_bytes(picture: Picture, step: int | None = None) -> bytes:
    """The file of a picture, or of its snapshot at a step."""
    provenance: dict[str, Any] = {
        "schema": SCHEMA,
        "filter_index": picture.filter_index,
        "replica": picture.replica,
        "score": number(picture.score),
        "status": picture.status,
        "attempt": picture.attempt,
        "recipe": picture.recipe.to_json(),
        "version": jaxviz.__version__,
    }
    if step is None:
        return png_bytes(picture.picture, provenance)
    return png_bytes(picture.snapshots[step], provenance | {"step": step})


def png_bytes(picture: UInt8[np.ndarray, "height width 3"], provenance: dict[str, Any]) -> bytes:
    """A PNG file with JSON in its chunk."""
    info = PngImagePlugin.PngInfo()
    info.add_text(CHUNK, json.dumps(provenance, allow_nan=False))
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def read_saved(file: Path) -> Saved | str:
    """The provenance of a picture file, or in words why it has none; a damaged file is "damaged"."""
    try:
        content = file.read_bytes()
        if not content.startswith(PNG_START[: len(content)]):
            return "it is no PNG file"
        if PNG_END not in content:  # Pillow forgives a missing end; a whole file has it, something may follow
            return "damaged"
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            text = getattr(image, "text", {}).get(CHUNK)
    except Image.DecompressionBombError:
        return "it is larger than any picture"
    except (OSError, SyntaxError, ValueError):
        return "damaged"
    if text is None:
        return "it was not made by jaxviz"
    try:
        values = json.loads(text)
        if values["schema"] != SCHEMA:
            return f"it was written in format {values['schema']}, this jaxviz reads {SCHEMA}"
        return Saved(
            filter_index=int(values["filter_index"]),
            replica=int(values.get("replica", 0)),
            score=math.nan if values["score"] is None else float(values["score"]),
            status=str(values["status"]),
            attempt=int(values.get("attempt", 0)),
            step=None if values.get("step") is None else int(values["step"]),
            recipe=Recipe.from_json(values["recipe"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, AttributeError):
        return "its provenance cannot be read"


def read_picture(file: Path) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels of a picture file."""
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def number(value: float) -> float | None:
    """A number for JSON: None where it is not finite."""
    return value if math.isfinite(value) else None

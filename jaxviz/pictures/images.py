"""Final image -> picture, pictures -> grid, and the tile that stands for a filter without a picture.

NumPy arrays in and out. Images are float32, (height, width, channels), pictures uint8 RGB, (height, width, 3). Of an
image with one channel the picture is grey; with more than three it shows the first three as red, green and blue, with
two those as red and green.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

GRID_MARGIN_PX = 5  # black, between tiles, as in the Keras example
STD_EPSILON = 1e-5  # of the Keras example's deprocess_image
TILE_COLOURS = {"dead": (44, 44, 52), "nan": (72, 36, 36)}
TILE_CROSS_COLOUR, TILE_TEXT_COLOUR = (88, 88, 88), (240, 240, 240)
SMALLEST_LABELLED_PX = 12  # a smaller tile has its colour only


def deprocess(
    image: Float[np.ndarray, "height width channels"], *, crop: int, contrast: float
) -> UInt8[np.ndarray, "picture_height picture_width 3"]:
    """A final image as a picture: standardised over the whole image, centred on grey, cropped, truncated.

    Source: `deprocess_image` of the Keras example "Visualizing what convnets learn".
    """
    standard = (image - image.mean()) / (image.std() + STD_EPSILON) * contrast
    height, width = image.shape[:2]
    standard = standard[crop : height - crop, crop : width - crop]
    picture: np.ndarray = (np.clip(standard + 0.5, 0.0, 1.0) * 255).astype(np.uint8)
    return as_rgb(picture)


def quantize(
    rgb: Float[np.ndarray, "height width channels"], *, crop: int
) -> UInt8[np.ndarray, "picture_height picture_width 3"]:
    """An image in [0, 1] as a picture: cropped, rounded to the nearest of 256 levels."""
    height, width = rgb.shape[:2]
    kept = rgb[crop : height - crop, crop : width - crop]
    picture: np.ndarray = np.rint(np.clip(kept, 0.0, 1.0) * 255).astype(np.uint8)
    return as_rgb(picture)


def as_rgb(picture: UInt8[np.ndarray, "height width channels"]) -> UInt8[np.ndarray, "height width 3"]:
    """What is shown of the channels."""
    channels = picture.shape[-1]
    if channels == 1:
        return np.repeat(picture, 3, axis=-1)
    shown = picture[..., :3]
    return shown if channels >= 3 else np.concatenate([shown, np.zeros_like(shown[..., :1])], axis=-1)


def placeholder(height: int, width: int, *, filter_index: int, status: str) -> UInt8[np.ndarray, "height width 3"]:
    """A crossed dark tile that names its filter and its status, for a filter that has no picture."""
    tile = Image.new("RGB", (width, height), TILE_COLOURS[status])
    if min(height, width) >= SMALLEST_LABELLED_PX:
        draw = ImageDraw.Draw(tile)
        draw.line((0, 0, width - 1, height - 1), fill=TILE_CROSS_COLOUR)
        draw.line((0, height - 1, width - 1, 0), fill=TILE_CROSS_COLOUR)
        font = ImageFont.load_default(size=max(8, min(height, width) // 6))
        middle, label = (width / 2, height / 2), f"{filter_index}\n{status}"
        draw.text(middle, label, fill=TILE_TEXT_COLOUR, font=font, anchor="mm", align="center")
    return np.asarray(tile)


def grid_columns(count: int) -> int:
    """Columns of the squarest grid for so many pictures: 8 for 64."""
    return max(1, math.isqrt(max(count - 1, 0)) + 1)


def grid(
    pictures: Sequence[UInt8[np.ndarray, "height width 3"]],
    *,
    columns: int | None = None,
    numbers: Sequence[int] | None = None,
    margin_px: int = GRID_MARGIN_PX,
) -> UInt8[np.ndarray, "grid_height grid_width 3"]:
    """Equal-sized pictures in rows with a black margin between them; `numbers` are written into the corners."""
    height, width = pictures[0].shape[:2]
    columns = columns or grid_columns(len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = np.zeros((rows * (height + margin_px) - margin_px, columns * (width + margin_px) - margin_px, 3), np.uint8)
    for place, picture in enumerate(pictures):
        tile = picture if numbers is None else _numbered(picture, numbers[place])
        top, left = (place // columns) * (height + margin_px), (place % columns) * (width + margin_px)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _numbered(picture: UInt8[np.ndarray, "height width 3"], number: int) -> UInt8[np.ndarray, "height width 3"]:
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(8, min(picture.shape[:2]) // 9))
    draw.rectangle(draw.textbbox((3, 2), str(number), font=font), fill=(0, 0, 0))
    draw.text((3, 2), str(number), fill=TILE_TEXT_COLOUR, font=font)
    return np.asarray(image)

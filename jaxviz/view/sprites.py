"""Many pictures in one image without margins, for pages and tools that load a layer at once: `sheets`.

Pictures are uint8 RGB, (height, width, 3), of one size. Which picture lies where is a matter of counting: the first one
of a sheet is top left, and they go on to the right and then down, `columns` to a row.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jaxviz.pictures.images import grid_columns

LARGEST_WEBP_PX = 16383  # of the format
WEBP_QUALITY = 90


@dataclass(frozen=True)
class Sheet:
    """Tiles side by side.

    Attributes:
        pixels: the image; places without a tile, in its last row only, are black.
        first: which picture the first tile is, counted over all sheets from 0.
        count: how many tiles there are.
        columns: how many of them make a row.
        tile: (height, width) of each.
    """

    pixels: UInt8[np.ndarray, "sheet_height sheet_width 3"]
    first: int
    count: int
    columns: int
    tile: tuple[int, int]

    def place(self, tile: int) -> tuple[int, int]:
        """(top, left) in pixels of the sheet's tile number `tile`, from 0."""
        row, column = divmod(tile, self.columns)
        return row * self.tile[0], column * self.tile[1]


def sheets(
    pictures: Iterable[UInt8[np.ndarray, "height width 3"]],
    count: int,
    *,
    tile_px: int | None = None,
    largest_px: int = LARGEST_WEBP_PX,
) -> Iterator[Sheet]:
    """Sheets that hold `count` pictures, one after the other: one sheet unless its side would exceed `largest_px`.

    Args:
        pictures: read one by one, so that no more than a sheet is in memory.
        count: how many there are.
        tile_px: the longer side of a tile; larger pictures are made smaller, smaller ones stay. None: as they are.
        largest_px: of a sheet's side; a single tile may be larger.

    Raises:
        ValueError: there are fewer or more pictures than `count`, or their sizes differ.
    """
    tiles = (_tile(picture, tile_px) for picture in pictures)
    made = 0
    while made < count:
        head = next(tiles, None)
        if head is None:
            raise ValueError(f"{count} pictures were announced, {made} came")
        height, width = head.shape[:2]
        columns, rows = (max(1, largest_px // side) for side in (width, height))
        here = min(count - made, columns * rows)
        columns = max(min(columns, grid_columns(here)), -(-here // rows))
        pixels = np.zeros((-(-here // columns) * height, columns * width, 3), np.uint8)
        sheet = Sheet(pixels, made, here, columns, (height, width))
        placed = -1
        for placed, tile in enumerate(islice(chain((head,), tiles), here)):
            if tile.shape != head.shape:
                raise ValueError(f"picture {made + placed} is {_size(tile)}, the ones before are {_size(head)}")
            top, left = sheet.place(placed)
            pixels[top : top + height, left : left + width] = tile
        if placed + 1 < here:
            raise ValueError(f"{count} pictures were announced, {made + placed + 1} came")
        yield sheet
        made += here
    if next(tiles, None) is not None:
        raise ValueError(f"{count} pictures were announced, more came")


def webp_bytes(pixels: UInt8[np.ndarray, "height width 3"], *, quality: int = WEBP_QUALITY) -> bytes:
    """A sheet as a WebP file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()


def _tile(picture: UInt8[np.ndarray, "height width 3"], tile_px: int | None) -> UInt8[np.ndarray, "height width 3"]:
    height, width = picture.shape[:2]
    longer = max(height, width)
    if tile_px is None or longer <= tile_px:
        return picture
    size = max(1, round(width * tile_px / longer)), max(1, round(height * tile_px / longer))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[0]}x{picture.shape[1]} px"

"""A layer's pictures, read once: thumbnails on sheets, a strip of a few, and what is measured on each.

A sheet holds so few tiles that a page loads only those near the window, and so many that a wide layer is a handful of
files. All of it takes a while, so it is described in JSON: a site that has that description and the sheets need not
measure the same pictures again.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources

import numpy as np
from jaxtyping import UInt8
from msgspec import Struct
from PIL import Image, __version__

from jaxviz.errors import StorageError
from jaxviz.records import from_json, to_json
from jaxviz.store.catalogue import LayerPictures
from jaxviz.view.measures import PictureMeasures, measure_picture
from jaxviz.view.sprites import Sheet, sheets

TILE_PX = 112  # the longer side of a thumbnail
TILES_PER_SHEET = 256
STRIP_TILES, STRIP_PX, STRIP_GAP_PX = 12, 96, 6
QUALITY = 80
STRIP, DESCRIPTION = "strip.webp", "measured.json"  # in the layer's folder

Pixels = UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True)
class Thumbnails:
    """Files of a layer, and where on them its tiles are.

    Attributes:
        sheets: content of each sheet, and how many tiles it has across and down.
        places: for each tile its sheet, and x and y in the per cent of CSS's background-position.
        measures: for each tile; None for a placeholder.
        ratio: width over height of a picture.
        strip: content of the strip, its size in pixels and how many pictures it shows.
    """

    sheets: tuple[tuple[bytes, int, int], ...]
    places: tuple[tuple[int, float, float], ...]
    measures: tuple[PictureMeasures | None, ...]
    ratio: float
    strip: tuple[bytes, int, int, int]

    def to_json(self, digest: str) -> bytes:
        """All but the sheets themselves, with `digest`, which says of which pictures."""
        sheets = tuple((_sha256(content), columns, rows) for content, columns, rows in self.sheets)
        strip = (_sha256(self.strip[0]), *self.strip[1:])
        return to_json(Description(digest, sheets, strip, self.places, self.measures, self.ratio)).encode() + b"\n"


class Description(Struct, frozen=True):
    """measured.json: `Thumbnails` with the SHA-256 of each file for its content; `digest` says of which pictures."""

    digest: str
    sheets: tuple[tuple[str, int, int], ...]
    strip: tuple[str, int, int, int]
    places: tuple[tuple[int, float, float], ...]
    measures: tuple[PictureMeasures | None, ...]
    ratio: float


def read_thumbnails(description: bytes, digest: str, read: Callable[[str], bytes]) -> Thumbnails | None:
    """What `to_json` described, with its files as `read` gives them; None where it is of other pictures, or damaged."""
    try:
        found = from_json(description, Description)
        if found.digest != digest:
            return None
        sheets = tuple((read(sheet_name(at)), across, down) for at, (_, across, down) in enumerate(found.sheets))
        strip = (read(STRIP), *found.strip[1:])
    except (OSError, ValueError):
        return None
    made = Thumbnails(sheets, found.places, found.measures, found.ratio, strip)
    return made if made.to_json(digest) == description else None  # the files are those that were described


def digest_of(pictures: LayerPictures) -> str:
    """What the thumbnails and measures of a layer rest on: its files, the code that makes them, Pillow and NumPy.

    Raises:
        StorageError: a picture has gone since the folder was read.
    """
    digest = hashlib.sha256(f"{__version__} {np.__version__}\n".encode())
    for module in ("view/measures.py", "pictures/repetition.py", "view/sprites.py", "view/gallery/thumbnails.py"):
        digest.update(resources.files("jaxviz").joinpath(module).read_bytes())
    for tile in pictures.tiles:
        try:
            content = tile.file.read_bytes()
        except OSError as error:
            raise StorageError(
                f"cannot read {tile.file}: {error.strerror or error}; it was there a moment ago"
            ) from error
        digest.update(f"{tile.file.name} {tile.status} {_sha256(content)}\n".encode())
    return digest.hexdigest()


def sheet_name(number: int) -> str:
    """The file of a sheet, in the layer's folder."""
    return f"sheet-{number}.jpg"


def sheet_count(tiles: int) -> int:
    """How many sheets so many tiles take."""
    return -(-tiles // TILES_PER_SHEET)


def make_thumbnails(pictures: LayerPictures) -> Thumbnails:
    """Read a layer's pictures, one sheet's at a time.

    Raises:
        StorageError: a picture has gone since the folder was read.
    """
    measures: list[PictureMeasures | None] = []
    strip: list[Pixels] = []
    on_strip = _spread(pictures)
    made: list[tuple[bytes, int, int]] = []
    places: list[tuple[int, float, float]] = []
    first_size: tuple[int, int] | None = None

    def read(first: int, last: int) -> Iterator[Pixels]:
        nonlocal first_size
        for place in range(first, last):
            tile = pictures.tiles[place]
            picture = tile.read()
            measures.append(measure_picture(picture) if tile.status == "ok" else None)
            first_size = first_size or (picture.shape[0], picture.shape[1])
            if picture.shape[:2] != first_size:  # somebody changed the file; its provenance says otherwise
                picture = _resized(picture, first_size)
            if place in on_strip:
                strip.append(picture)
            yield picture

    total = len(pictures.tiles)
    for number, first in enumerate(range(0, total, TILES_PER_SHEET)):
        last = min(first + TILES_PER_SHEET, total)
        (sheet,) = sheets(read(first, last), last - first, tile_px=TILE_PX)
        rows = sheet.pixels.shape[0] // sheet.tile[0]
        made.append((_jpeg(sheet.pixels), sheet.columns, rows))
        places += [(number, *_per_cent(sheet, rows, at)) for at in range(sheet.count)]
    assert first_size is not None
    ratio = round(first_size[1] / first_size[0], 4)
    return Thumbnails(tuple(made), tuple(places), tuple(measures), ratio, _strip(strip, first_size))


def _jpeg(pixels: Pixels) -> bytes:
    """JPEG with colours at full resolution: a browser decodes it three times as fast as WebP, and a layer has many."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return buffer.getvalue()


def _per_cent(sheet: Sheet, rows: int, tile: int) -> tuple[float, float]:
    row, column = divmod(tile, sheet.columns)
    across, down = max(sheet.columns - 1, 1), max(rows - 1, 1)
    return round(100 * column / across, 3), round(100 * row / down, 3)


def _spread(pictures: LayerPictures) -> set[int]:
    """Places of some pictures, evenly over those that are ok, or over all where none is."""
    good = [place for place, tile in enumerate(pictures.tiles) if tile.status == "ok"] or list(
        range(len(pictures.tiles))
    )
    few = min(STRIP_TILES, len(good))
    return {good[at * len(good) // few] for at in range(few)}


def _strip(pictures: list[Pixels], size: tuple[int, int]) -> tuple[bytes, int, int, int]:
    """Pictures in one row with see-through gaps."""
    height, width = STRIP_PX, max(1, round(STRIP_PX * size[1] / size[0]))
    sheet = np.zeros((height, len(pictures) * (width + STRIP_GAP_PX) - STRIP_GAP_PX, 4), np.uint8)
    for place, picture in enumerate(pictures):
        left = place * (width + STRIP_GAP_PX)
        sheet[:, left : left + width, :3] = _resized(picture, (height, width))
        sheet[:, left : left + width, 3] = 255
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "WEBP", quality=QUALITY)
    return buffer.getvalue(), sheet.shape[1], sheet.shape[0], len(pictures)


def _resized(picture: Pixels, size: tuple[int, int]) -> Pixels:
    height, width = size
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

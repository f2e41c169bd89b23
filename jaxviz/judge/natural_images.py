"""Natural images to compare pictures with: a folder of the user's, or crops of photographs that scikit-image ships.

uint8 RGB, (height, width, 3), all of one size; cropped to its aspect ratio, then resized (bicubic, antialiased).
Colour profiles are ignored. Nothing is downloaded: scikit-image is not even imported, its files are read from
where it is installed. NumPy and Pillow only.
"""

from __future__ import annotations

import hashlib
import importlib.util
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from jaxviz.errors import ConfigError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
FEWEST, MOST = 2, 10_000  # images of a folder: fewer have no spread; more do not fit everybody's memory
FORMAT = 1  # part of the hash; another way of cropping or converting is another number

# The colour photographs among the files in scikit-image's wheel, 0.18 to 0.26: no drawings, no text, no textures,
# nothing from a microscope, a clinic or a telescope, and one of the two nearly equal motorcycles.
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
# (side of a crop as a share of the largest one, positions along each axis), evenly spaced from edge to edge.
CROPS = ((0.9, 2), (0.7, 4), (0.5, 5))  # 45 of each photograph
WHOLE = ((1.0, 1),)  # the largest crop, centred

BACKGROUND = (255, 255, 255, 255)  # behind what is transparent
UNREADABLE = (  # what Pillow raises for files that are broken, too large or no images
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)

Crops = tuple[tuple[float, int], ...]
Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True, eq=False)
class NaturalImages:
    """A set of natural images of one size.

    Attributes:
        images: uint8 RGB.
        sha256: of what decides them: the photographs' pixels, in order, the crops and the size.
        source: where they come from, in words.
    """

    images: UInt8[np.ndarray, "images height width 3"]
    sha256: str
    source: str


def natural_images(folder: str | Path | None, size: tuple[int, int]) -> NaturalImages | None:
    """The images of a folder, or without one 225 overlapping crops of scikit-image's photographs.

    Args:
        folder: searched with its subfolders for files with one of `SUFFIXES`, hidden ones left out; of each the
            first frame, turned as its EXIF data say, its centre in the asked aspect ratio. In order of path.
        size: (height, width) of each image, in pixels.

    Returns:
        The images; None without a folder where scikit-image, or a photograph of it, is not installed.

    Raises:
        ConfigError: no such folder, fewer than 2 images in it or too many, or one that cannot be read.
    """
    if folder is not None:
        return _collected(_image_files(Path(folder)), WHOLE, size, source=str(folder))
    photographs = _shipped_photographs()
    if photographs is None:
        return None
    count = len(photographs) * sum(positions**2 for _, positions in CROPS)
    return _collected(photographs, CROPS, size, source=f"{count} crops of photographs in scikit-image")


def _image_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        problem = "is a file" if folder.is_file() else "does not exist"
        raise ConfigError(f"`images` {folder} {problem}; give a folder of photographs")
    found = [
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
    ]
    if not FEWEST <= len(found) <= MOST:
        raise ConfigError(
            f"`images` {folder} holds {len(found)} images ({', '.join(SUFFIXES)}); "
            f"give a folder with {FEWEST} to {MOST} photographs, some hundreds for percentiles that mean something"
        )
    return sorted(found, key=lambda file: file.relative_to(folder).parts)


def _shipped_photographs() -> list[Path] | None:
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        return None
    files = [Path(spec.origin).parent / "data" / name for name in PHOTOGRAPHS]
    return files if all(file.is_file() for file in files) else None


def _collected(files: list[Path], crops: Crops, size: tuple[int, int], *, source: str) -> NaturalImages:
    height, width = size
    digest = hashlib.sha256(f"jaxviz natural images {FORMAT}, {height}x{width}\n".encode())

    def resized() -> Iterator[np.ndarray]:
        for file in files:
            photograph = _read(file)
            chosen = _boxes(photograph, crops, size)
            digest.update(f"{photograph.size} {chosen}\n".encode())
            digest.update(photograph.tobytes())
            for box in chosen:
                yield np.asarray(photograph.crop(box).resize((width, height), Image.Resampling.BICUBIC))

    images = np.fromiter(resized(), np.dtype((np.uint8, (height, width, 3))))
    return NaturalImages(images, digest.hexdigest(), source)


def _read(file: Path) -> Image.Image:
    """A file's first frame as RGB, upright."""
    try:
        with Image.open(file) as image:
            return _rgb(ImageOps.exif_transpose(image))
    except UNREADABLE as error:
        raise ConfigError(
            f"`images` holds {file}, which cannot be read as a photograph ({error or type(error).__name__}); "
            "remove it or give another folder"
        ) from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its grey levels are floating point numbers on no known scale")
    if image.mode.startswith("I"):  # 16 bits of grey; Pillow's own conversion clips them at 255
        return Image.fromarray((np.asarray(image).clip(0, 2**16 - 1) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image)
    return image.convert("RGB")


def _boxes(photograph: Image.Image, crops: Crops, size: tuple[int, int]) -> list[Box]:
    """Crops of the size's aspect ratio, each scale on its own even grid, row by row."""
    height, width = size
    largest = min(photograph.width / width, photograph.height / height)
    found = []
    for share, positions in crops:
        box_width, box_height = (max(1, round(side * largest * share)) for side in (width, height))
        for top in _starts(photograph.height - box_height, positions):
            for left in _starts(photograph.width - box_width, positions):
                found.append((left, top, left + box_width, top + box_height))
    return found


def _starts(room: int, positions: int) -> list[int]:
    if positions == 1:
        return [room // 2]
    return [round(room * place / (positions - 1)) for place in range(positions)]

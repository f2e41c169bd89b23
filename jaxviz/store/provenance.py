"""A picture as a file that explains itself: names of picture files, and the provenance inside them.

It is JSON: recipe, filter, replica, score, status, attempt, step of a snapshot, versions. A PNG has it in a text chunk
`jaxviz`, a WebP (lossless) in its XMP. NumPy in, bytes out.
"""

from __future__ import annotations

import errno
import html
import io
import math
import re
import struct
import zlib
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import UInt8
from msgspec import Meta, Struct
from PIL import Image, PngImagePlugin

import jaxviz
from jaxviz.errors import StorageError
from jaxviz.records import from_json, to_json
from jaxviz.render.recipe import Picture, Recipe, Status

# Raised whenever equal recipes give other bits, or are written otherwise. 2: `fourier` and `maco` without a library's
# FFT. 3: every field is typed. 4: the set of kernels is named, and x86 CPUs may take another one.
SCHEMA = 4
CHUNK = "jaxviz"
PNG_START = b"\x89PNG\r\n\x1a\n"
FORMATS = ("png", "webp")
PICTURE_NAME = re.compile(r"\d{4,}(_r\d+)?(\.s\d{4,})?\.(png|webp)")
PNG_STRATEGY = zlib.Z_RLE  # no larger than the default; a fifth faster on pictures in `keras`, twice on `distill`
NO_MORE_FILES = (errno.EMFILE, errno.ENFILE)  # says nothing of the picture
WEBP_METHOD = 1  # of 0, fast, to 6, small; beyond 1 nothing is saved on pictures in `keras`
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:jaxviz="urn:jaxviz:provenance:1"><jaxviz:provenance>{}</jaxviz:provenance>'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)
XMP_PROVENANCE = re.compile(rb"<jaxviz:provenance>([^<]*)</jaxviz:provenance>")

Key = tuple[int, int]  # (filter, replica)
Index = Annotated[int, Meta(ge=0)]


class Header(Struct, frozen=True):
    """What every record of pictures has, whatever its schema."""

    schema: int


class GridSaved(Header, frozen=True):
    """What a grid says of itself."""

    kind: str = "grid"


class Saved(Header, frozen=True, kw_only=True):
    """What a finished picture file says of itself: `score` is None where it is not finite, `step` but for a snapshot.

    `version` and `jaxlib` are those that made it.
    """

    filter_index: Index
    replica: Index = 0
    score: float | None
    status: Status
    attempt: Index = 0
    step: Index | None = None
    recipe: Recipe
    version: str = ""
    jaxlib: str = ""

    @property
    def key(self) -> Key:
        """(filter, replica)."""
        return self.filter_index, self.replica


def picture_name(key: Key, step: int | None = None, file_format: str = "png") -> str:
    """0003.png; 0003_r1.png for its replica 1; 0003.s0032.png for its snapshot after 32 steps."""
    filter_index, replica = key
    snapshot = "" if step is None else f".s{step:04d}"
    return f"{filter_index:04d}" + (f"_r{replica}" if replica else "") + f"{snapshot}.{file_format}"


@lru_cache(maxsize=1)
def jaxlib_version() -> str:
    """The version of jaxlib, which is software that bits depend on: another one makes other pictures of a recipe."""
    return metadata.version("jaxlib")


def saved_as(picture: Picture, step: int | None = None) -> Saved:
    """What the file of a picture, or of its snapshot at a step, says of itself."""
    return Saved(
        SCHEMA,
        filter_index=picture.filter_index,
        replica=picture.replica,
        score=number(picture.score),
        status=picture.status,
        attempt=picture.attempt,
        step=step,
        recipe=picture.recipe,
        version=jaxviz.__version__,
        jaxlib=jaxlib_version(),
    )


def picture_bytes(picture: Picture, step: int | None = None, file_format: str = "png") -> bytes:
    """The file of a picture, or of its snapshot at a step."""
    encode = png_bytes if file_format == "png" else webp_bytes
    return encode(picture.picture if step is None else picture.snapshots[step], saved_as(picture, step))


def png_bytes(picture: UInt8[np.ndarray, "height width 3"], provenance: Struct) -> bytes:
    """A PNG file with a record in its chunk."""
    info = PngImagePlugin.PngInfo()
    info.add_text(CHUNK, to_json(provenance))
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", pnginfo=info, compress_type=PNG_STRATEGY)
    return buffer.getvalue()


def webp_bytes(picture: UInt8[np.ndarray, "height width 3"], provenance: Struct) -> bytes:
    """A lossless WebP file with a record in its XMP."""
    packet = XMP.format(html.escape(to_json(provenance), quote=False)).encode()
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="WEBP", lossless=True, method=WEBP_METHOD, xmp=packet)
    return buffer.getvalue()


class _DamagedError(Exception):
    pass


class _NotOfItsFormatError(Exception):
    pass


def read_saved(file: Path) -> Saved | str:
    """The provenance of a picture file, or in words why it has none; a damaged file is "damaged".

    A PNG is checked by the checksums of its chunks, without decoding it: a network's atlas has tens of thousands.
    """
    try:
        content = file.read_bytes()
        text = _webp_text(content) if file.suffix == ".webp" else _png_text(content)
    except _NotOfItsFormatError as error:
        return str(error)
    except Image.DecompressionBombError:
        return "it is larger than any picture"
    except (OSError, SyntaxError, ValueError, _DamagedError) as error:
        if getattr(error, "errno", None) in NO_MORE_FILES:
            raise StorageError(
                f"cannot read {file}: {error}; allow more open files, such as: ulimit -n 4096"
            ) from error
        return "damaged"
    if text is None:
        return "it was not made by jaxviz"
    try:
        schema = from_json(text, Header).schema
        if schema != SCHEMA:
            return f"it is of schema {schema}, this jaxviz makes and reads {SCHEMA}"
        return from_json(text, Saved)
    except ValueError:
        return "its provenance cannot be read"


def _png_text(content: bytes) -> str | None:
    """The chunk `jaxviz` of a PNG whose chunks are all whole; what follows its end does not matter."""
    if not content.startswith(PNG_START[: len(content)]):
        raise _NotOfItsFormatError("it is no PNG file")
    text, place, kinds = None, len(PNG_START), set()
    while b"IEND" not in kinds:
        if len(content) < place + 12:
            raise _DamagedError
        length, kind = struct.unpack_from(">I4s", content, place)
        end = place + 8 + length
        if len(content) < end + 4 or zlib.crc32(content[place + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            raise _DamagedError
        if kind == b"tEXt" and content.startswith(CHUNK.encode() + b"\0", place + 8):
            text = content[place + 8 + len(CHUNK) + 1 : end].decode("latin-1")
        kinds.add(kind)
        place = end + 4
    if not {b"IHDR", b"IDAT"} <= kinds:
        raise _DamagedError
    return text


def _webp_text(content: bytes) -> str | None:
    """The provenance in the XMP of a whole WebP file."""
    header = content[:4], content[8:12]
    if len(content) >= 12 and header != (b"RIFF", b"WEBP"):
        raise _NotOfItsFormatError("it is no WebP file")
    if len(content) < 12 or len(content) < 8 + struct.unpack_from("<I", content, 4)[0]:
        raise _DamagedError
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        found = XMP_PROVENANCE.search(image.info.get("xmp", b""))
    return None if found is None else html.unescape(found[1].decode())


def read_picture(file: Path) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels of a picture file."""
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def number(value: float) -> float | None:
    """A number for JSON: None where it is not finite."""
    return value if math.isfinite(value) else None

"""Members of a zip file, for the formats that are one (`.keras`, newer `.pth`): bounded, with our own errors.

Nothing is unpacked to disk, so a member's name is a name and no path.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxviz.errors import WeightsError

# All that zipfile raises on an archive that is cut off, damaged, encrypted or compressed in an unknown way.
ZIP_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError),
    *(KeyError, IndexError, OverflowError, MemoryError, struct.error),
)
# What weights are kept with. Other methods make room for what a damaged member claims before they read it.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
MAX_GROWTH_BYTES = 2**29  # of a member over its archive: the zeros of a fresh optimizer shrink to nothing


@contextmanager
def open_zip(path: Path, *, origin: str) -> Iterator[zipfile.ZipFile]:
    """The archive, open while in the block.

    Raises:
        WeightsError: it is truncated or damaged, also when a member read inside the block turns out to be.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except ZIP_ERRORS as error:
        raise WeightsError(
            f"weights file {origin} is a zip file but cannot be read, it is truncated or damaged ({error}). "
            "Copy or download it again"
        ) from error


def read_member(archive: zipfile.ZipFile, name: str, *, origin: str, max_bytes: int | None = None) -> bytes:
    """A member's content, by default one that is not much larger than the archive.

    Raises:
        WeightsError: there is no such member, or it claims more than `max_bytes`, which a zip can do for free.
    """
    try:
        member = archive.getinfo(name)
    except KeyError:
        raise WeightsError(
            f"weights file {origin} has no member {name!r}, it was not saved whole. Save or copy it again"
        ) from None
    most = most_bytes(archive)
    most = most if max_bytes is None else min(most, max_bytes)
    if member.file_size > most:
        raise WeightsError(
            f"weights file {origin} is refused: {name!r} claims {member.file_size} bytes, at most {most} fit"
        )
    if member.compress_type not in METHODS:
        raise WeightsError(
            f"weights file {origin} is refused: {name!r} is compressed by method {member.compress_type}. "
            "Pack it by the usual one, deflate, or not at all"
        )
    with archive.open(member) as file:
        return file.read(member.file_size)  # without a number it takes whatever the packed bytes grow to


def most_bytes(archive: zipfile.ZipFile) -> int:
    """How much may be read of an archive."""
    return Path(str(archive.filename)).stat().st_size + MAX_GROWTH_BYTES

"""Members of a zip file, for the formats that are one (`.keras`, newer `.pth`): bounded, with our own errors."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxviz.errors import WeightsError

# All that zipfile raises on an archive that is cut off, damaged, encrypted or compressed in an unknown way.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)


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


def read_member(archive: zipfile.ZipFile, name: str, *, max_bytes: int, origin: str) -> bytes:
    """A member's content.

    Raises:
        WeightsError: there is no such member, or it claims more than `max_bytes`, which a zip can do for free.
    """
    try:
        size = archive.getinfo(name).file_size
    except KeyError:
        raise WeightsError(
            f"weights file {origin} has no member {name!r}, it was not saved whole. Save or copy it again"
        ) from None
    if size > max_bytes:
        raise WeightsError(f"weights file {origin} is refused: {name!r} claims {size} bytes, at most {max_bytes} fit")
    return archive.read(name)

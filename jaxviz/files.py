"""The one writer: a file appears whole or not at all.

Bytes go to a temporary file beside the target, reach the disk, and take the target's name in one step. All
of jaxviz and weights_convert writes through here, so that a full or read-only disk is met in one place.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from jaxviz.errors import StorageError

TEMPORARY_PREFIX = ".jaxviz-"


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write `content` to `path`, creating folders; an interrupted or failed write leaves the old file.

    `durable=False` does not wait for the disk: for thousands of small files that can be made again.

    Raises:
        StorageError: the disk is full, read-only, or the folder cannot be made.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())  # mkstemp makes private files
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}. Nothing half-written was left there; "
            "free space or choose another folder, then run the same command again"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()


def check_writable(folder: Path) -> None:
    """Create `folder` and try a file in it, so that a long run does not find out at its end.

    Raises:
        StorageError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=TEMPORARY_PREFIX, dir=folder):
            pass
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}; choose another folder") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

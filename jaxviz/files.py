"""The one writer: a file appears whole or not at all.

Bytes go to a temporary file beside the target, reach the disk, and take the target's name in one step. All
of jaxviz and weights_convert writes through here, so that a full or read-only disk is met in one place. A
temporary file's name tells its process, so that what a killed one left behind can be known and removed. Where jaxviz
keeps files for the user stands here too: one cache directory, overridden by JAXVIZ_CACHE.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import tempfile
import threading
from pathlib import Path

import platformdirs

from jaxviz.errors import StorageError

_UMASK = threading.Lock()
TEMPORARY_PREFIX = ".jaxviz-"
TEMPORARY_NAME = re.compile(r"\.jaxviz-tmp-(?P<pid>\d+)-(?P<host>.*)-[^-]*")


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write `content` to `path`, creating folders; an interrupted or failed write leaves the old file.

    `durable=False` does not wait for the disk: for thousands of small files that can be made again.

    Raises:
        StorageError: the disk is full, read-only, or the folder cannot be made.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=_prefix(), dir=path.parent)
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
        with tempfile.NamedTemporaryFile(prefix=_prefix(), dir=folder):
            pass
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}; choose another folder") from error


def remove_left_overs(folder: Path, *, alone: bool) -> None:
    """Remove the temporary files that killed processes left in a folder.

    Args:
        folder: it need not exist; folders in it are not looked into.
        alone: nobody else writes there, so that all of them are left over; otherwise only those whose process ran on
            this host and is gone.

    Raises:
        StorageError: the folder cannot be read.
    """
    try:
        names = [entry.name for entry in os.scandir(folder)] if folder.is_dir() else []
    except OSError as error:
        raise StorageError(f"cannot read folder {folder}: {error.strerror or error}") from error
    for name in names:
        match = TEMPORARY_NAME.fullmatch(name)
        if match and (alone or (match["host"] == _host() and not _is_running(int(match["pid"])))):
            with contextlib.suppress(OSError):
                (folder / name).unlink()


def _prefix() -> str:
    return f"{TEMPORARY_PREFIX}tmp-{os.getpid()}-{_host()}-"


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())[:64]


def _is_running(pid: int) -> bool:
    if os.name != "posix":
        return True  # there os.kill would do something else
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # somebody else's
    return True


def _umask() -> int:
    with _UMASK:  # it can only be read by setting it, and other threads write files too
        mask = os.umask(0)
        os.umask(mask)
        return mask


def cache_dir() -> Path:
    """The per-user cache directory (not created here)."""
    override = os.environ.get("JAXVIZ_CACHE")
    return Path(override).expanduser() if override else Path(platformdirs.user_cache_dir("jaxviz", appauthor=False))


def weights_dir() -> Path:
    """Where converted weights are kept."""
    return cache_dir() / "weights"


def keras_cache_dir() -> Path:
    """Where Keras itself keeps the weight files that it downloaded (KERAS_HOME, else ~/.keras)."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home).expanduser() if home else Path.home() / ".keras") / "models"

"""The one writer: a file appears whole or not at all.

Bytes go to a temporary file beside the target, reach the disk, and take the target's name in one step. All
of jaxviz and weights_convert writes through here, so that a full or read-only disk is met in one place. A
temporary file's name tells its process, so that what a killed one left behind can be known and removed. Where jaxviz
keeps files for the user stands here too: one cache directory, overridden by JAXVIZ_CACHE.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import platformdirs

from jaxviz.errors import StorageError

log = logging.getLogger("jaxviz")

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


@contextlib.contextmanager
def looking_at(path: Path) -> Iterator[None]:
    """What the system refuses while a path that the user named is looked at becomes a StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


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
    """The per-user cache directory (not created here).

    Raises:
        StorageError: it would be in a home folder, and there is none.
    """
    given = os.environ.get("JAXVIZ_CACHE")
    return _home_folder(lambda: Path(given or platformdirs.user_cache_dir("jaxviz", appauthor=False)), "JAXVIZ_CACHE")


def weights_dir() -> Path:
    """Where converted weights are kept. Raises as `cache_dir`."""
    return cache_dir() / "weights"


def keras_cache_dir() -> Path:
    """Where Keras itself keeps weight files that it downloaded (KERAS_HOME, else ~/.keras). Raises as `cache_dir`."""
    given = os.environ.get("KERAS_HOME")
    return _home_folder(lambda: Path(given or "~/.keras"), "KERAS_HOME") / "models"


def find_file(place: Callable[[], Path]) -> Path | None:
    """A file that need not be there, such as one in a cache; None also where it cannot be looked for.

    The log (logger `jaxviz`) says why it cannot, once, as a warning: no home folder, or a folder of somebody else's.
    """
    try:
        path = place()
        if not path.is_file():
            return None
        with path.open("rb"):
            return path
    except StorageError as error:
        warn_once(f"{error}. Until then nothing is looked for there")
    except OSError as error:
        warn_once(f"cannot look into {path.parent}: {error.strerror or error}; nothing is taken from there")
    return None


def current_folder() -> str:
    """The current folder, for a message about relative paths."""
    try:
        return str(Path.cwd())
    except OSError:
        return "which is gone"


@lru_cache(maxsize=64)
def warn_once(message: str) -> None:
    """Say something in the log, as a warning, the first time that it is to be said."""
    log.warning("%s", message)


def _home_folder(make: Callable[[], Path], variable: str) -> Path:
    """A folder that may be in somebody's home; `variable` names another one."""
    try:
        folder = make().expanduser()
    except RuntimeError:  # of pathlib and platformdirs: no HOME and no entry for this user, or `~x` of nobody
        folder = None
    if folder is None or str(folder).startswith("~"):
        given = os.environ.get(variable)
        problem = f"{variable} {given!r} is in the home folder of nobody" if given else "this user has no home folder"
        raise StorageError(f"{problem}: set {variable} to the full path of a folder")
    return folder

"""One run for one folder: a lock file with its owner's process and host, held for as long as the owner lives.

The system's own lock (`flock`) on the file decides, not the file's being there: it ends with its process, however that
ended, so that nothing has to be cleaned up after a crash, a pre-empted machine or a container of another name. What is
written in the file is for the message. Shards of one job may share a folder: those of the same job, `i` of `n`, each
with a lock of its own. Where a file system or a platform has no such lock (Windows), runs are not kept apart.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from jaxviz.errors import FolderInUseError, StorageError
from jaxviz.records import from_json, to_json
from jaxviz.render.shard import Shard

try:
    import fcntl
    import resource
except ImportError:  # Windows
    fcntl = resource = None  # type: ignore[assignment]

LOCK_NAME = ".jaxviz-lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # a file system without them
LOOKS, LOOK_EVERY_S = 5, 0.05  # whoever finds out that an owner is gone holds its file for a moment
SPARE_FILES = 256  # beside one for each lock
HELD = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)


class Owner(Struct, frozen=True):
    """What a lock file says of its owner."""

    pid: int
    host: str
    since: str


class FolderLock:
    """A lock that is held; release it, or use it as a context."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor

    @classmethod
    def acquire(cls, folder: Path, shard: Shard | None = None) -> FolderLock:
        """The lock of a folder, which is created.

        Raises:
            FolderInUseError: another run, or the same shard, is at work there.
            StorageError: the lock file cannot be written.
        """
        path = folder / (LOCK_NAME if shard is None else f"{LOCK_NAME}-{shard.index}-of-{shard.count}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = cls(path, _hold(folder, path))
            try:
                for other in lock_files(folder):
                    if other != path and _conflict(other, shard):
                        _let_go(other, _hold(folder, other))  # its owner is gone
                lock.sign()
            except BaseException:
                lock.release()
                raise
        except OSError as error:
            raise StorageError(
                f"cannot lock folder {folder}: {error.strerror or error}; choose another `out`"
            ) from error
        return lock

    def sign(self) -> None:
        """Write who holds it, for the message; a full disk is for whoever writes pictures to tell."""
        owner = Owner(os.getpid(), socket.gethostname(), time.strftime("%Y-%m-%dT%H:%M:%S%z"))
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, to_json(owner).encode(), 0)

    def release(self) -> None:
        """Remove the lock file; a second time does nothing."""
        if self._descriptor >= 0:
            _let_go(self.path, self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def lock_files(folder: Path) -> list[Path]:
    """The lock files in a folder, held or left behind."""
    return sorted(folder.glob(f"{LOCK_NAME}*"))


@contextlib.contextmanager
def locked(folders: list[Path], shard: Shard | None = None) -> Iterator[dict[Path, FolderLock]]:
    """Locks of several folders, all or none; those not yet released are released at the end."""
    _allow_files(len(folders))
    with contextlib.ExitStack() as stack:
        yield {folder: stack.enter_context(FolderLock.acquire(folder, shard)) for folder in folders}


def _allow_files(count: int) -> None:
    """Let this process have so many files open and some more, as far as the system lets it."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _conflict(other: Path, shard: Shard | None) -> bool:
    """Whether the owner of another lock file may not work beside this one: only shards of one job may."""
    return shard is None or not other.name.endswith(f"-of-{shard.count}")


def _hold(folder: Path, path: Path) -> int:
    """A descriptor of a lock file, locked. Raises FolderInUseError: somebody else holds it, and not only to look."""
    for _ in range(LOOKS):
        descriptor = _try_to_hold(path)
        if descriptor is not None:
            return descriptor
        time.sleep(LOOK_EVERY_S)
    raise _in_use(folder, path)


def _try_to_hold(path: Path) -> int | None:
    """A descriptor of the file, locked and still the one of that name; None: somebody else holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same_file(descriptor, path):
                return descriptor
        except OSError as error:
            if error.errno in NO_LOCKS:
                return descriptor
            os.close(descriptor)
            if error.errno in HELD:
                return None
            raise
        os.close(descriptor)  # its owner removed it meanwhile


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))  # noqa: PTH116  # the pair of fstat
    except FileNotFoundError:
        return False


def _let_go(path: Path, descriptor: int) -> None:
    with contextlib.suppress(OSError):  # a read-only disk: the lock ends with the descriptor
        path.unlink(missing_ok=True)
    os.close(descriptor)


def _in_use(folder: Path, path: Path) -> FolderInUseError:
    try:
        owner = from_json(path.read_bytes(), Owner)
        who = f"process {owner.pid} on host {owner.host}, since {owner.since}"
    except (OSError, ValueError):
        who = "another process"
    return FolderInUseError(
        f"`out` folder {folder} is in use: {who}, is rendering into it. Wait until it is done or stop it, choose "
        "another `out` or `label`, or share the work with `shard` I/N in every process"
    )

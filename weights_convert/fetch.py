"""Downloads a weights file that Keras publishes: checked, bounded in time, leaving nothing half-done.

`pooch` does the transfer in a thread; a watchdog here gives up on it. Timeouts of sockets are not enough: they
leave out name resolution, count once per address of the host, and start anew with every byte that drips in.
Proxies are taken from the environment (HTTPS_PROXY and its like). For a cluster without access to the
internet, JAXVIZ_WEIGHTS_MIRROR is the URL of a folder that holds the same files.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import pooch
import requests

from jaxviz.errors import StorageError, WeightsUnavailableError
from jaxviz.files import TEMPORARY_PREFIX, cache_dir
from weights_convert import digests
from weights_convert.safetensors_file import cache_path
from weights_convert.sources import KERAS_BASE_URL, KERAS_FILES, KerasFile

MIRROR_VARIABLE = "JAXVIZ_WEIGHTS_MIRROR"
CONNECT_TIMEOUT_S = 8.0  # name, connection, TLS, first chunk; with the start-up a failure stays under 12 s
STALL_TIMEOUT_S = 8.0  # without a whole chunk: less than 8 kB/s, at which 94 MB would take over three hours
CHUNK_BYTES = 2**16
ATTEMPTS = 2  # of a transfer that was cut off or arrived damaged; nothing else gets better at once
POLL_S = 0.05


class ProgressBar(Protocol):
    """What a caller may pass in to watch a download; pooch's protocol."""

    total: int

    def update(self, size: int) -> None:
        """`size` more bytes are here."""

    def reset(self) -> None:
        """Back to none, before another attempt or a final correction."""

    def close(self) -> None:
        """The download is over."""


@dataclass(frozen=True)
class PublishedFile:
    """A downloaded file, which lasts as long as the block that asked for it."""

    path: Path
    url: str


@contextmanager
def published_file(model_name: str, *, head: bool, progress: ProgressBar | None = None) -> Iterator[PublishedFile]:
    """The file of `model_name` as Keras publishes it, its MD5 right, in a folder that goes with the block.

    Raises:
        WeightsUnavailableError: no network, no such file, or not the right content; it says the ways out.
        StorageError: no space or no folder to keep it.
    """
    published = KERAS_FILES[model_name][head]
    url = _url(published)
    kept = cache_dir()
    try:
        kept.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=kept)
    except OSError as error:
        raise _storage_error(error) from error
    with folder:
        path = Path(folder.name) / published.file_name
        try:
            _fetch(url, published, path, progress)
        except _FetchError as error:
            raise unavailable(f"{url} could not be fetched: {error}", model_name, head=head) from error
        except OSError as error:
            raise _storage_error(error) from error
        yield PublishedFile(path, url)


def unavailable(reason: str, model_name: str, *, head: bool) -> WeightsUnavailableError:
    """The error that says why there are no weights, and the three ways out."""
    try:
        kept = str(cache_path(model_name, head=head))
    except StorageError as error:  # no home folder
        kept = str(error)
    convert = f"python -m weights_convert convert {model_name}"
    return WeightsUnavailableError(
        f"no weights for MODEL {model_name}: {reason}. Three ways out:\n"
        f"  1. a file that you have: {convert} FILE (or --weights FILE where you render)\n"
        f"  2. a machine with network: there `{convert}{' --head' if head else ''}`, then copy the .safetensors "
        f"that it writes to\n     {kept}\n"
        f"  3. the model that needs no network: efficientnet_lite0"
    )


class _FetchError(Exception):
    """Why there is no file; `again` if another attempt may help."""

    def __init__(self, message: str, *, again: bool = False) -> None:
        super().__init__(message)
        self.again = again


class _CancelledError(Exception):
    """Raised in the transfer's thread when nobody waits for it any more."""


class _Watch:
    """The progress bar that pooch sees: notes when bytes came, passes on, and stops an abandoned transfer."""

    def __init__(self, progress: ProgressBar | None) -> None:
        self.progress = progress
        self.cancelled = False
        self.received = 0
        self.last_s = time.monotonic()
        self._total = 0

    @property
    def total(self) -> int:
        return self._total

    @total.setter
    def total(self, total: int) -> None:
        self._total = total
        if self.progress is not None:
            self.progress.total = total

    def update(self, size: int) -> None:
        if self.cancelled:
            raise _CancelledError
        self.received += size
        self.last_s = time.monotonic()
        if self.progress is not None:
            self.progress.update(size)

    def reset(self) -> None:
        if self.progress is not None:
            self.progress.reset()

    def close(self) -> None:
        """Not yet: the hash is still to be checked."""

    def silent_for_s(self) -> float:
        return time.monotonic() - self.last_s


def _url(published: KerasFile) -> str:
    base = os.environ.get(MIRROR_VARIABLE) or KERAS_BASE_URL
    return f"{base.rstrip('/')}/{published.file_name}"


def _fetch(url: str, published: KerasFile, path: Path, progress: ProgressBar | None) -> None:
    try:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with path.open("wb") as file:
                    _transfer(url, file, _Watch(progress))
                if digests.md5(path) != published.md5:
                    raise _FetchError(f"what came is not {published.file_name}, its MD5 is wrong", again=True)
                return
            except _FetchError as error:
                if not error.again or attempt == ATTEMPTS:
                    raise
                if progress is not None:
                    progress.reset()
    finally:
        if progress is not None:
            progress.close()


def _transfer(url: str, file: BinaryIO, watch: _Watch) -> None:
    """Runs the transfer in a thread and waits for it, as long as it moves.

    The thread is a daemon and is not joined for long: it may sit in a system call that nothing interrupts. It
    only ever writes to `file`, which is closed by then.
    """
    outcome: list[BaseException | None] = []
    thread = threading.Thread(target=_run_pooch, args=(url, file, watch, outcome), daemon=True)
    thread.start()
    try:
        while not outcome:
            limit_s = STALL_TIMEOUT_S if watch.received else CONNECT_TIMEOUT_S
            if watch.silent_for_s() > limit_s:
                what = f"stalled after {watch.received} bytes" if watch.received else "no answer"
                raise _FetchError(f"{what}, waited {limit_s:g} s")
            thread.join(POLL_S)
    finally:
        watch.cancelled = True
    if outcome[0] is not None:
        raise _explained(outcome[0])


def _run_pooch(url: str, file: BinaryIO, watch: _Watch, outcome: list[BaseException | None]) -> None:
    responses: list[requests.Response] = []  # pooch leaves them open when a transfer fails
    download = pooch.HTTPDownloader(
        progressbar=watch,
        chunk_size=CHUNK_BYTES,
        timeout=(CONNECT_TIMEOUT_S + 1, STALL_TIMEOUT_S + 1),  # later than the watch: they end an abandoned thread
        hooks={"response": lambda response, **_: responses.append(response)},
    )
    failure: BaseException | None = None
    try:
        download(url, file, None)
    except BaseException as error:  # carried to the waiting thread and raised there
        failure = error
    for response in responses:
        response.close()
    outcome.append(failure)


def _explained(error: BaseException) -> BaseException:
    """The same error in a user's words if it is about the network, else itself."""
    if isinstance(error, requests.HTTPError):
        return _FetchError(f"the server answered {str(error).partition(' for url')[0]}")
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return _FetchError("the transfer was cut off", again=True)
    if isinstance(error, requests.Timeout):
        return _FetchError("no answer in time")
    if isinstance(error, requests.RequestException):
        return _FetchError(_innermost(error))
    return error


def _innermost(error: BaseException) -> str:
    """The last of a chain of wrapped errors says what happened; the outer ones repeat it with addresses."""
    reason: object = error
    while True:
        inner = getattr(reason, "reason", None) or next(
            (arg for arg in getattr(reason, "args", ()) if isinstance(arg, BaseException)), None
        )
        if not isinstance(inner, BaseException):
            return str(reason)
        reason = inner


def _storage_error(error: OSError) -> StorageError:
    return StorageError(
        f"cannot keep a download in {cache_dir()}: {error.strerror or error}. Nothing was left there; free space or "
        "set JAXVIZ_CACHE to another folder"
    )

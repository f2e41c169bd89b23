"""Files are encoded and written in threads while the next batch computes, so that no device waits for the disk.

Few threads and a bounded queue: encoding and the disk let go of Python's lock, but on a small CPU they take time from
the network's. A failed write stops the run at its next picture; what was queued is still written if it can be.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial

from jaxviz.render.recipe import Picture
from jaxviz.store.folder import LayerFolder

THREADS = 2
LARGEST_QUEUE = 128  # tasks; beyond it rendering waits, so that memory stays flat


class Writer:
    """A context that ends when all is written.

    The functions given as `then` are called in the caller's own thread, in order, some time after their task is done.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="jaxviz-writer")
        self._queue: deque[tuple[Future[None], Callable[[], None]]] = deque()

    def write(self, folder: LayerFolder, picture: Picture, then: Callable[[], None]) -> None:
        """Queue a picture.

        Raises:
            StorageError: this or an earlier one could not be written.
        """
        if folder.untouched:  # the first picture makes room by removing another recipe's, with nobody beside it
            self.drain()
            folder.write(picture)
            then()
        else:
            self.submit(partial(folder.write, picture), then)

    def submit(self, task: Callable[[], None], then: Callable[[], None]) -> None:
        """Queue a task. Raises what an earlier one raised."""
        while self._queue and (self._queue[0][0].done() or len(self._queue) >= LARGEST_QUEUE):
            self._take_first()
        self._queue.append((self._pool.submit(task), then))

    def drain(self) -> None:
        """Wait until everything is written. Raises what a task raised."""
        while self._queue:
            self._take_first()

    def settle(self) -> None:
        """Wait until everything is written or has failed, and raise nothing."""
        while self._queue:
            future, then = self._queue[0]
            wait([future])
            self._queue.popleft()
            if future.exception() is None:
                then()

    def _take_first(self) -> None:
        future, then = self._queue[0]
        wait([future])  # a Ctrl-C here leaves it in the queue
        self._queue.popleft()
        future.result()
        then()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.drain()
        finally:
            self._pool.shutdown(wait=True)

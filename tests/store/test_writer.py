"""The writer's queue: bounded, in order, and nothing in it is forgotten."""

from __future__ import annotations

import threading

import pytest

from jaxviz.errors import StorageError
from jaxviz.store import writer
from jaxviz.store.writer import LARGEST_QUEUE, Writer

pytestmark = pytest.mark.quick


def test_then_is_called_in_order_and_in_the_callers_thread() -> None:
    told: list[tuple[int, str]] = []
    with Writer() as written:
        for number in range(50):
            written.submit(lambda: None, lambda number=number: told.append((number, threading.current_thread().name)))
    assert told == [(number, threading.current_thread().name) for number in range(50)]


def test_queue_is_bounded() -> None:
    gate, done = threading.Event(), []
    with Writer() as written:
        for _ in range(LARGEST_QUEUE):
            written.submit(gate.wait, lambda: done.append(1))
        threading.Timer(0.2, gate.set).start()
        written.submit(lambda: None, lambda: None)
        assert done, "it has waited for the first"


def test_failed_task_is_raised_and_what_was_queued_is_done() -> None:
    gate, done = threading.Event(), []

    def fail() -> None:
        gate.wait()
        raise StorageError("disk full")

    def write_two() -> None:
        with Writer() as written:
            written.submit(fail, lambda: None)
            written.submit(lambda: done.append(1), lambda: None)
            gate.set()

    with pytest.raises(StorageError, match="disk full"):
        write_two()
    assert done == [1]


def test_interrupted_wait_forgets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    told = []
    with Writer() as written:
        written.submit(lambda: None, lambda: told.append(1))
        with monkeypatch.context() as patch:
            patch.setattr(writer, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                written.drain()
        written.settle()
        assert told == [1]

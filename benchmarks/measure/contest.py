"""Contestants against each other at one layer after the other: built once, then interleaved rounds, all but one asleep.

Who fails leaves, with the reason, and the others go on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

from benchmarks.contestants import ENTRIES
from benchmarks.measure.bench import Bench
from benchmarks.processes import Worker, WorkerError
from benchmarks.settings import Settings
from jaxviz.bench.figures import in_turns

SCORES = ("first", "last", "final")  # before the first step, before the last one, of the final image
ONE_AT_A_TIME_SLOW_FILTERS = 8
BATCHED_SLOW_FILTERS = 16


class Way(NamedTuple):
    """A kind of contestant, the images per call of one that does not choose for itself, and what it alone is told."""

    kind: str
    batch: int
    arguments: Mapping[str, Any] = {}


class Contest:
    """Who runs, and why the others do not."""

    def __init__(self, settings: Settings, running: Mapping[str, tuple[Worker, dict[str, Any]]]) -> None:
        """`running`: a worker by name, and what it is told with every command."""
        self._settings, self._running = settings, dict(running)
        self.absent: dict[str, str] = {}
        for name in running:
            answer = self._ask(name, "build")
            if answer is not None and answer["unavailable"] is not None:
                self._leave(name, answer["unavailable"])

    def at(self, layer: str) -> dict[str, dict[str, Any]]:
        """Raw values of everybody who came through: everybody prepares, then the rounds."""
        entries: dict[str, dict[str, Any]] = {}
        for name in list(self._running):
            prepared = self._ask(name, "prepare", layer=layer)
            if prepared is not None:
                count = filters_measured(self._settings, prepared["seconds_per_filter"], prepared["images_per_call"])
                entries[name] = {**prepared, "filters_measured": count, "runs": []}
        in_turns(self._settings.rounds, {name: partial(self._round, name, entries[name]) for name in entries})
        return {name: entry for name, entry in entries.items() if name in self._running}

    def _round(self, name: str, entry: dict[str, Any]) -> None:
        """Times of every run; scores of the first, and whether the others gave the same, bit for bit."""
        answer = self._ask(name, "measure", filters=list(range(entry["filters_measured"])))
        if answer is not None:
            scores = {kind: answer.pop(f"{kind}_scores") for kind in SCORES}
            entry["scores_repeat"] = entry.setdefault("scores", scores) == scores and entry.get("scores_repeat", True)
            entry["runs"].append(answer)

    def _ask(self, name: str, function: str, **arguments: Any) -> dict[str, Any] | None:
        """What the worker answers; None, and it is out, if it fails, or if it was out before."""
        if name not in self._running:
            return None
        worker, told = self._running[name]
        try:
            return worker.ask(f"contestants.timed.{function}", **told, **arguments)
        except WorkerError as error:
            self._leave(name, f"failed: {error}")
            return None

    def _leave(self, name: str, reason: str) -> None:
        print(f"{name} is out: {reason}", file=sys.stderr, flush=True)
        self.absent[name] = reason
        del self._running[name]


@contextmanager
def contest(bench: Bench, model: str, ways: Mapping[str, Way]) -> Iterator[Contest]:
    """A process for each way of doing the job, by name; they end with it."""
    with ExitStack() as stack:
        running = {}
        for name, way in ways.items():
            worker = bench.worker(name, ENTRIES[way.kind].environment)
            stack.enter_context(worker)
            told = {"kind": way.kind, "task": bench.task(model, way.batch), "arguments": dict(way.arguments)}
            running[name] = (worker, told)
        yield Contest(bench.settings, running)


def filters_measured(settings: Settings, seconds_per_filter: float, images_per_call: int) -> int:
    """All filters, or for a slow contestant 8 of them, 16 where it takes several images a call."""
    if seconds_per_filter * settings.filters <= settings.slow_after_s:
        return settings.filters
    fewer = ONE_AT_A_TIME_SLOW_FILTERS if images_per_call == 1 else max(BATCHED_SLOW_FILTERS, images_per_call)
    return min(fewer, settings.filters)

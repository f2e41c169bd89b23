"""How long JAX traced, lowered and compiled, from its own events; works through any API on top of it.

Events nest (a function traced inside another reports twice) and may overlap, so the union of their time spans counts.
"""

from __future__ import annotations

import time
from typing import Any

import jax

COMPILATION_EVENTS = "/jax/core/compile/"  # tracing, lowering to StableHLO, XLA


class CompileClock:
    """Listens from its making on."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []
        jax.monitoring.register_event_duration_secs_listener(self._record)

    def reset(self) -> None:
        """Forget what was recorded."""
        self._spans.clear()

    def seconds(self) -> float:
        """Time covered by at least one event since the last reset."""
        total, reached = 0.0, float("-inf")
        for start, end in sorted(self._spans):
            total += max(0.0, end - max(start, reached))
            reached = max(reached, end)
        return total

    def _record(self, event: str, duration_secs: float, **_details: Any) -> None:
        if event.startswith(COMPILATION_EVENTS):
            now = time.perf_counter()
            self._spans.append((now - duration_secs, now))

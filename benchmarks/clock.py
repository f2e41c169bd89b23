"""How long something took, how much of the machine others used meanwhile, and how long JAX compiled.

Linux first: what cannot be found out elsewhere is None.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

COMPILATION_EVENTS = "/jax/core/compile/"  # tracing, lowering to StableHLO, XLA


class Clock:
    """Runs from its making on."""

    def __init__(self) -> None:
        self._busy, self._own, self._started = _busy_cpu_s(), time.process_time(), time.perf_counter()

    def read(self, own_cpu_s: float | None = None) -> dict[str, float | None]:
        """Seconds since the start, by the wall, by our processor time, and by others'.

        Args:
            own_cpu_s: of the process that worked, where that is another one.
        """
        seconds, own_s, busy = time.perf_counter() - self._started, time.process_time() - self._own, _busy_cpu_s()
        own_s = own_s if own_cpu_s is None else own_cpu_s
        others_s = None if busy is None or self._busy is None else busy - self._busy - own_s
        return {"seconds": seconds, "own_cpu_s": own_s, "others_cpu_s": others_s}


class CompileClock:
    """How long JAX traced, lowered and compiled, from its own events; works through any API on top of it.

    Events nest (a function traced inside another reports twice) and may overlap, so the union of their time spans
    counts. Listens from its making on.
    """

    def __init__(self) -> None:
        import jax  # only where somebody computes with it

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


def reset_peak_memory() -> None:
    """Start the count of the largest resident size anew, where the system can; else it is that of all layers so far."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _busy_cpu_s() -> float | None:
    """Seconds that all cores together were not idle since boot; time stolen by a hypervisor counts as busy."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")

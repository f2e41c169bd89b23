"""How long something took, and how much of the machine others used meanwhile.

Linux first: what cannot be found out elsewhere is None.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path


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

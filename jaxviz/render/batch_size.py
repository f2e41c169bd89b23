"""Images per device and call, N: what `auto` chooses, and whether a compiled ascent fits the memory.

`auto` looks at the layer and the image, never at a clock or at what a machine says of its caches (a virtual machine may
report those of a whole server), so that all CPUs choose the same N: it is part of the recipe. A batch has to keep all
cores busy, which takes about as many pixels at every image size, and it has to be worth its weights: libraries read and
repack those once a call, so that each should have some hundreds of multiply-adds to do. Beyond that more images only
fill the caches. The newest sweep is in benchmarks/README.md. An accelerator needs a whole layer at once to be busy; its
number is a guess until somebody measures one.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import jax

log = logging.getLogger("jaxviz")

ACCELERATOR = 64
# The best of sweeps or near it (benchmarks/README.md). Of two equally fast sizes the smaller pads less and shows its
# first picture sooner.
CPU_PIXELS = 8 * 96 * 96  # that keep all cores busy: no more than these, unless the weights ask for it
CPU_MACS_PER_WEIGHT = 800  # at least, in a call
CPU_LARGEST = 16
MEMORY_SHARE = 0.9  # of what is free: the rest is for the pictures and for everybody else


def automatic(*, macs: int, weights: int, pixels: int) -> int:
    """N on the default device for a layer, from numbers of one image: multiply-adds, weights behind it, pixels seen."""
    if jax.default_backend() != "cpu":
        return ACCELERATOR
    busy = 1 << (max(CPU_PIXELS // pixels, 1).bit_length() - 1)
    per_weight = macs / max(weights, 1)
    worth_it = 1 << math.ceil(math.log2(max(CPU_MACS_PER_WEIGHT / max(per_weight, 1), 1)))
    chosen = min(max(busy, worth_it), CPU_LARGEST)
    log.info("batch size %d: %s pixels and %.0f multiply-adds a weight in an image", chosen, f"{pixels:,}", per_weight)
    return chosen


def largest_that_fits(program: Any, batch_size: int, devices: list[jax.Device]) -> int:
    """`batch_size` where the compiled program fits the memory, else the largest smaller power of two; 0: none does.

    What a program needs beside its weights is proportional to the batch.
    """
    memory = program.memory_analysis()
    free = free_bytes(devices[0])
    if memory is None or free is None:
        return batch_size
    sharing = len(devices) if devices[0].platform == "cpu" else 1  # virtual devices have one memory
    weights = memory.argument_size_in_bytes
    images = memory.output_size_in_bytes + memory.temp_size_in_bytes - memory.alias_size_in_bytes
    room = MEMORY_SHARE * free / sharing - weights
    if images <= room:
        return batch_size
    smaller = int(max(room, 0.0) / images * batch_size)
    return 1 << (smaller.bit_length() - 1) if smaller else 0


def free_bytes(device: jax.Device) -> int | None:
    """What a program may use of a device's memory; None where nobody says."""
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        return stats.get("bytes_limit")
    limits = [_meminfo_available(), _control_group_limit()]
    return min((limit for limit in limits if limit is not None), default=None)


def _meminfo_available() -> int | None:
    lines = [line for line in _text(Path("/proc/meminfo")).splitlines() if line.startswith("MemAvailable:")]
    return int(lines[0].split()[1]) * 2**10 if lines else None


def _control_group_limit() -> int | None:
    """What a container may use; version 2 of the interface."""
    text = _text(Path("/sys/fs/cgroup/memory.max"))
    return int(text) if text.isdecimal() else None


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""

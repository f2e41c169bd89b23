"""Images per device and call, N: what `auto` chooses, and whether a compiled ascent fits the memory.

`auto` looks at the layer, the image and the machine, never at a clock, so that one machine always chooses the same N:
it is part of the recipe. On a CPU a batch is fastest while its activations stay in the cache and yet are enough to keep
all cores busy: it holds about as many pixels at every image size. Weights that outgrow the cache speak for more images:
they come from memory at every step, once for the whole batch. The newest sweep is in benchmarks/README.md. An
accelerator needs a whole layer at once to be busy; its number is a guess until somebody measures one.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax

log = logging.getLogger("jaxviz")

ACCELERATOR = 64
# A batch's images have no more pixels, several times as many where weights outgrow the cache: the best of sweeps or
# near it (benchmarks/README.md). Of two equally fast sizes the smaller pads less and shows its first picture sooner.
CPU_PIXELS = 4 * 96 * 96
CPU_LARGE_WEIGHTS = 4
CPU_LARGEST = 8
USUAL_CACHE_BYTES = 32 * 2**20
MEMORY_SHARE = 0.9  # of what is free: the rest is for the pictures and for everybody else


def automatic(weight_bytes: int, pixels: int) -> int:
    """N on the default device for a layer that needs so many bytes of weights; `pixels`: what it sees of an image."""
    if jax.default_backend() != "cpu":
        return ACCELERATOR
    fitting = max(CPU_PIXELS // pixels, 1)
    reason = f"activations of {pixels:,} pixels an image should stay in the cache"
    if weight_bytes > cache_bytes():
        fitting *= CPU_LARGE_WEIGHTS
        reason += f", {weight_bytes / 2**20:.0f} MiB of weights do not"
    chosen = 1 << (min(fitting, CPU_LARGEST).bit_length() - 1)
    log.info("batch size %d: %s", chosen, reason)
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


def cache_bytes() -> int:
    """The largest cache of the first core, or a usual size where the system does not tell."""
    found = []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = _text(file)
        if text.endswith("K") and text[:-1].isdecimal():
            found.append(int(text[:-1]) * 2**10)
    return max(found, default=USUAL_CACHE_BYTES)


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

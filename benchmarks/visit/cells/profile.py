"""Where the time of one call of the main job goes, by operation, from a trace."""

from __future__ import annotations

import gzip
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from benchmarks.visit.cells.job import bench_of
from benchmarks.visit.run import PROFILE
from benchmarks.visit.settings import Settings
from jaxviz.bench import executable
from jaxviz.files import write_atomically

MOST = 30  # operations
DTYPE = "bfloat16"
STREAM, CPU_THREAD = "Stream", "tf_XLA"  # beginnings of the names of lines that hold operations


def profile(settings: Settings, folder: Path, *, layer: str, size: int) -> Iterator[dict[str, Any]]:
    """The operations that took longest, and the raw profile beside the results."""
    bench = bench_of(settings, folder, layer, size, (settings.filters,), (DTYPE,))
    row = executable.new_row(bench, layer, DTYPE, settings.filters)
    program = executable.compile_program(bench, row)
    seconds, _ = executable.timed_call(bench, program)
    raw = folder / "profile"
    shutil.rmtree(raw, ignore_errors=True)
    arguments = executable.arguments_of(bench, row, executable.filters_of(row, program.channels))
    with jax.profiler.trace(str(raw)):
        jax.block_until_ready(program.compiled(*arguments))
    (path,) = raw.rglob("*.xplane.pb")
    write_atomically(folder / PROFILE, gzip.compress(path.read_bytes()))
    found = operations(jax.profiler.ProfileData.from_file(str(path)))
    shutil.rmtree(raw)
    yield {"layer": layer, "size": size, "dtype": DTYPE, "batch_size": settings.filters, "call_s": seconds, **found}


def operations(data: Any) -> dict[str, Any]:
    """Total time by operation, over all lines of the devices, or of XLA's threads where there is no device."""
    planes = list(data.planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:")]
    lines = [line for plane in devices for line in plane.lines if line.name.startswith(STREAM)]
    if not lines:  # a CPU
        lines = [line for plane in planes for line in plane.lines if line.name.startswith(CPU_THREAD)]
    total: dict[str, float] = defaultdict(float)
    count: dict[str, int] = defaultdict(int)
    first, last = float("inf"), 0.0
    for line in lines:
        for event in line.events:
            name = _name(event)
            total[name] += event.duration_ns
            count[name] += 1
            first, last = min(first, event.start_ns), max(last, event.start_ns + event.duration_ns)
    whole = sum(total.values())
    longest = sorted(total, key=lambda name: total[name], reverse=True)[:MOST]
    return {
        "lines": sorted({line.name for line in lines}),
        "busy_s": round(whole / 1e9, 6),
        "span_s": round(max(0.0, last - first) / 1e9, 6),
        "operations": [
            {
                "name": name,
                "seconds": round(total[name] / 1e9, 6),
                "share": round(total[name] / whole, 4),
                "count": count[name],
            }
            for name in longest
        ],
    }


def _name(event: Any) -> str:
    """The kernel's name, with the HLO instruction it belongs to where the trace says so."""
    operation = dict(event.stats).get("hlo_op")
    return str(event.name) if operation in (None, event.name) else f"{operation}: {event.name}"

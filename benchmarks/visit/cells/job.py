"""The main job: all filters of a call, timed as `jaxviz bench` times them, and a whole layer into files."""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
from jax.sharding import NamedSharding, PartitionSpec
from msgspec.structs import replace

from benchmarks.visit import hlo
from benchmarks.visit.cells.start import WEIGHTS, model_of
from benchmarks.visit.settings import Settings
from jaxviz import RenderConfig
from jaxviz.ascent import climb as ascent
from jaxviz.bench import dot, executable, figures, machine
from jaxviz.bench.executable import Bench, Program
from jaxviz.bench.records import DotRate, Row
from jaxviz.bench.settings import checked_settings
from jaxviz.machine import batch_devices, ran_out_of_memory
from jaxviz.render.batch_size import free_bytes

WORTH = 1.03  # a doubled N that is no faster than this ends the sweep
CACHE_EVENTS = "/jax/compilation_cache/cache_"  # hits, misses
SMALL_CROP_PX = 7  # where the preset's 25 leave nothing
SMALL_PX = 100
LOOK_S = 2.0  # between two looks at the files of a whole layer
LEFT_OUT = ("folder", "grid", "animation", "filters")  # of the command's summary: places, and 2,048 numbers


def job(
    settings: Settings, folder: Path, *, layer: str, size: int, batch_sizes: Sequence[int], dtypes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """A row for each dtype and N, and the dot rate measured after it; ends where a doubled N gains nothing."""
    bench = bench_of(settings, folder, layer, size, batch_sizes, dtypes)
    found: dict[str, Any] = {"layer": layer, "size": size, "dot_rates": {}, "rows": []}
    for dtype in dtypes:
        rate: DotRate | None = None
        best = 0.0
        for batch_size in batch_sizes:
            row, more = measured(bench, executable.new_row(bench, layer, dtype, batch_size))
            found["rows"].append(more | _with_figures(row, settings, rate))
            yield found
            if row.status != "ok":
                break
            if rate is None:
                rate = _dot_rate(row, settings)
                found["dot_rates"][dtype] = msgspec.to_builtins(rate)
                found["rows"][-1] = more | _with_figures(row, settings, rate)
                yield found
            speed = found["rows"][-1]["figures"]["image_steps_per_s"]
            if speed < WORTH * best:
                break
            best = speed


def measured(bench: Bench, row: Row) -> tuple[Row, dict[str, Any]]:
    """One program, compiled, called, timed, its products read: a row of `jaxviz bench`, and what has no room there."""
    device = bench.mesh.devices.flat[0]
    free = free_bytes(device)
    counted: Counter[str] = Counter()
    jax.monitoring.register_event_listener(lambda event, **_: counted.update([event]))
    found: dict[str, Any] = {"free_mb": None if free is None else round(free / machine.MIB, 1)}
    try:
        program = executable.compile_program(bench, row)
        hits, misses = (counted[CACHE_EVENTS + kind] for kind in ("hits", "misses"))
        found |= {"compiled_before": hits > 0 and misses == 0, "products": _products(program)}
        for _ in range(bench.settings.repeats):
            seconds, transfer_s = executable.timed_call(bench, program)
            program.seconds.append(seconds)
            program.transfer_seconds.append(transfer_s)
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        return row, found
    finally:
        jax.monitoring.clear_event_listeners()
    return program.finished_row(), found


def _dot_rate(row: Row, settings: Settings) -> DotRate:
    rates = tuple(map(figures.rounded, dot.interleaved_rates({row.dtype: settings.dot_side})[row.dtype]))
    rate = DotRate(side=settings.dot_side, gflops_each=rates, precision=row.precision)
    return replace(rate, gflops=statistics.median(rates))


def _with_figures(row: Row, settings: Settings, rate: DotRate | None) -> dict[str, Any]:
    """The row as JSON; a share of the dot rate where that is known already."""
    made: dict[str, Any] = msgspec.to_builtins(replace(row, figures=figures.row_figures(row, settings.steps, rate, 1)))
    return made


def bench_of(
    settings: Settings, folder: Path, layer: str, size: int, batch_sizes: Sequence[int], dtypes: Sequence[str]
) -> Bench:
    """What all programs of a cell share: the visit's weights on the first device."""
    asked = checked_settings(
        model=settings.model,
        layers=[layer],
        batch_sizes=list(batch_sizes),
        dtypes=dtypes,
        size=(size, size),
        steps=settings.steps,
        repeats=settings.repeats,
    )
    model = model_of(settings, folder)
    mesh = ascent.batch_mesh(batch_devices(calls=1))  # a visit is about one GPU
    whole = NamedSharding(mesh, PartitionSpec())
    weights = jax.block_until_ready(jax.device_put(model.weights, whole))
    step_size = jax.device_put(jnp.float32(RenderConfig.keras().step_size), whole)
    return Bench(asked, model, mesh, weights, step_size)


def _products(program: Program) -> dict[str, Any] | None:
    """The operand types of the compiled program's products; None where it does not show its text."""
    text = program.compiled.as_text()
    return None if text is None else hlo.summary(text)


def files(settings: Settings, folder: Path, *, layer: str) -> Iterator[dict[str, Any]]:
    """A whole layer in bfloat16 through the command line, pictures written."""
    out = folder / "files"
    shutil.rmtree(out, ignore_errors=True)
    filters = "all" if settings.many_filters is None else f"0-{settings.many_filters - 1}"
    options = ["--filters", filters, "--dtype", "bfloat16", "--steps", str(settings.steps)]
    options += ["--size", str(settings.size)]
    if settings.size < SMALL_PX:
        options += ["--crop", str(SMALL_CROP_PX)]
    words = ["render", settings.model, layer, *options, "--weights", str(folder / WEIGHTS), "--out", str(out), "--json"]
    found: dict[str, Any] = {"command": "jaxviz " + " ".join(["render", settings.model, layer, *options])}
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "jaxviz", *words], stdout=subprocess.PIPE, text=True)
    answer = None
    while answer is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            answer, _ = process.communicate(timeout=LOOK_S)
        seconds = time.perf_counter() - started
        written = [path.stat().st_size for path in out.rglob("*.png")]
        mib = round(sum(written) / machine.MIB, 2)
        yield (found := found | {"seconds": round(seconds, 3), "files": len(written), "mib": mib})
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, found["command"])
    shutil.rmtree(out)
    yield found | {"summary": {name: value for name, value in json.loads(answer).items() if name not in LEFT_OUT}}

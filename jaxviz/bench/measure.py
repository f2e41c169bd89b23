"""READ FIRST of the benchmark: how a layer is measured.

    measure -> dot rates
            -> for each layer: _sweep      batch sizes 1, 2, 4, ... of every dtype: compile, warm up, one timed call;
                                           ends where throughput saturates, memory runs out or a call takes long
                               _repeat     the timed repeats, in turns over all programs of the layer (A B C A B C)
            -> dot rates again

What is timed is the very program that `render` runs: `ascent.ascend`, all steps in one call, from image parameters on
the device to final images, scores and history there. Compilation, warm-up, the draw of starting images and the way to
the host stay outside. Weights are seeded noise that keeps activations O(1), so nothing is downloaded and nothing
drifts into denormals.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, takewhile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from msgspec.structs import replace

from jaxviz import ascent, models
from jaxviz.bench import dot, machine
from jaxviz.bench.figures import LARGEST_AUTO_BATCH, rounded, sweep_end, with_figures
from jaxviz.bench.records import DotRate, Report, Row, Settings, Sweep
from jaxviz.bench.settings import command_of
from jaxviz.config import RenderConfig
from jaxviz.devices import batch_devices, ran_out_of_memory
from jaxviz.errors import DeviceMemoryError
from jaxviz.models.layers import GraphForward
from jaxviz.models.model import Model
from jaxviz.models.random_weights import random_weights
from jaxviz.objectives import Channel
from jaxviz.parameterizations import Pixel

WEIGHTS_SEED = 0  # --seed is that of the starting images
SCORED_FILTERS = 8  # the first ones, whatever the batch size, so that mean scores compare

Say = Callable[[str], None]


@dataclass(frozen=True)
class Bench:
    """What all programs of a run share."""

    settings: Settings
    model: Model  # weights on the host
    mesh: Mesh
    weights: Any  # on every device
    step_size: jax.Array

    @property
    def images(self) -> NamedSharding:
        """Split over the devices by image."""
        return NamedSharding(self.mesh, PartitionSpec(ascent.BATCH_AXIS))


@dataclass
class Program:
    """A compiled program and what has been measured of it; `row` holds all but the seconds."""

    row: Row
    channels: int
    compiled: Any
    seconds: list[float] = field(default_factory=list)
    transfer_seconds: list[float] = field(default_factory=list)

    def finished_row(self) -> Row:
        """The row with its seconds."""
        return replace(
            self.row, status="ok", seconds=tuple(self.seconds), transfer_seconds=tuple(self.transfer_seconds)
        )


def measure(settings: Settings, *, say: Say) -> Iterator[Report]:
    """Measure; yields the report so far after every layer, and the complete one at the end.

    `say` is told what is going on, never while something is timed. The persistent compilation cache should be off.

    Raises:
        DeviceMemoryError: not even the weights fit the device.
    """
    started = _now()
    load = machine.load_average()
    bench = _prepared(settings, say)
    devices = list(bench.mesh.devices.flat)
    say("matrix products")
    sides = dot.best_sides(settings.dtypes)
    rates = dot.interleaved_rates(sides)
    rows: list[Row] = []
    sweeps: list[Sweep] = []

    def report(*, complete: bool) -> Report:
        return with_figures(
            Report(
                complete=complete,
                started=started,
                finished=_now(),
                command=command_of(settings),
                settings=settings,
                hardware=machine.hardware(devices),
                versions=machine.versions(),
                environment=machine.tuning(os.environ),
                load_average_at_start=load,
                weights_sha256=bench.model.weights_sha256,
                dot_rates={dtype: _dot_rate(bench, dtype, sides[dtype], rates[dtype]) for dtype in sides},
                rows=tuple(rows),
                sweeps=tuple(sweeps),
            )
        )

    for layer in settings.layers:
        programs, failed, ended = _sweep(bench, layer, say)
        failed += _repeat(bench, programs, say)
        rows += sorted(
            [program.finished_row() for program in programs] + failed,
            key=lambda row: (settings.dtypes.index(row.dtype), row.batch_size),
        )
        sweeps += ended
        yield report(complete=False)
    say("matrix products again")
    for dtype, more in dot.interleaved_rates(sides).items():
        rates[dtype] += more
    yield report(complete=True)


def _prepared(settings: Settings, say: Say) -> Bench:
    say(f"{settings.model} with random weights")
    architecture = models.architecture(settings.model, head=True)
    with jax.default_device(_host_device()):  # whose rounding depends least on the accelerator
        weights = random_weights(architecture.graph, seed=WEIGHTS_SEED)
    model = Model(
        name=settings.model,
        layers=architecture.graph.targets,
        weights=weights,
        forward=GraphForward(architecture.graph),
        preprocess=architecture.preprocess,
    )
    mesh = ascent.batch_mesh(batch_devices(calls=sys.maxsize))
    whole = NamedSharding(mesh, PartitionSpec())
    try:
        on_devices = jax.block_until_ready(jax.device_put(weights, whole))
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if ran_out_of_memory(error):
            raise DeviceMemoryError(f"MODEL (--model) {settings.model!r}: its weights do not fit the device") from error
        raise
    step_size = jax.device_put(jnp.float32(RenderConfig.keras().step_size), whole)
    return Bench(settings, model, mesh, on_devices, step_size)


def _host_device() -> jax.Device | None:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves it out
        return None


def _sweep(bench: Bench, layer: str, say: Say) -> tuple[list[Program], list[Row], list[Sweep]]:
    """(programs, rows that did not fit, why each dtype ended) of one layer, each program called twice."""
    settings = bench.settings
    programs: list[Program] = []
    failed: list[Row] = []
    throughputs: dict[str, list[float]] = {dtype: [] for dtype in settings.dtypes}
    ended: dict[str, Sweep] = {}
    for batch_size in _doubling() if settings.batch_sizes == "auto" else settings.batch_sizes:
        for dtype in settings.dtypes:
            if dtype in ended:
                continue
            say(f"{layer}: {dtype} N={batch_size}, compiling and first calls")
            row = _new_row(bench, layer, dtype, batch_size)
            try:
                program = _compiled(bench, row)
                seconds, _ = _timed_call(bench, program)
            except (jax.errors.JaxRuntimeError, MemoryError) as error:
                if not ran_out_of_memory(error):
                    raise
                failed.append(row)
                ended[dtype] = Sweep(layer=layer, dtype=dtype, ended="memory")
                continue
            programs.append(program)
            throughputs[dtype].append(row.images_per_call / seconds)
            reason = sweep_end(throughputs[dtype], batch_size, seconds)
            if reason is not None and settings.batch_sizes == "auto":
                ended[dtype] = Sweep(layer=layer, dtype=dtype, ended=reason)
    given = {dtype: Sweep(layer=layer, dtype=dtype, ended="given") for dtype in settings.dtypes}
    return programs, failed, list((given | ended).values())


def _doubling() -> Iterator[int]:
    return takewhile(lambda size: size <= LARGEST_AUTO_BATCH, (2**power for power in count()))


def _repeat(bench: Bench, programs: list[Program], say: Say) -> list[Row]:
    """Time every program `repeats` times, in turns; returns, and takes out of the list, what ran out of memory."""
    failed: list[Row] = []
    for repeat in range(bench.settings.repeats):
        for program in list(programs):
            row = program.row
            say(f"{row.layer}: repeat {repeat + 1} of {bench.settings.repeats}, {row.dtype} N={row.batch_size}")
            try:
                seconds, transfer_s = _timed_call(bench, program)
            except (jax.errors.JaxRuntimeError, MemoryError) as error:
                if not ran_out_of_memory(error):
                    raise
                programs.remove(program)
                failed.append(row)
                continue
            program.seconds.append(seconds)
            program.transfer_seconds.append(transfer_s)
    return failed


def _new_row(bench: Bench, layer: str, dtype: str, batch_size: int) -> Row:
    """All that is known before anything is compiled."""
    return Row(
        layer=layer,
        dtype=dtype,
        batch_size=batch_size,
        images_per_call=batch_size * bench.mesh.size,
        macs_per_image=bench.model.forward.graph.macs(layer, *bench.settings.size),  # type: ignore[attr-defined]
        precision=_precision(bench, dtype),
        status="out of memory",  # until it has been measured
    )


def _compiled(bench: Bench, row: Row) -> Program:
    """The program of a row, compiled and warmed up, with its memory and mean score."""
    settings = bench.settings
    channels = bench.model.forward.graph.by_name[row.layer].channels  # type: ignore[attr-defined]
    arguments = _arguments(bench, _filters(row, channels))
    options = {
        "forward": bench.model.forward,
        "layer": row.layer,
        "objective": Channel(),
        "parameterization": _parameterization(),
        "steps": settings.steps,
        "mesh": bench.mesh,
        "dtype": row.dtype,
    }
    started = time.perf_counter()
    compiled = ascent.ascend.lower(*arguments, **options).compile()
    compile_s = time.perf_counter() - started
    scored = min(SCORED_FILTERS, channels)
    scores: list[float] = []
    for first in range(0, scored, row.images_per_call):  # the first call is the warm-up
        result = compiled(*_arguments(bench, _filters(row, channels, first)))
        scores += np.asarray(result.scores).tolist()
    mean = sum(scores[:scored]) / scored
    peak = machine.peak_memory(list(bench.mesh.devices.flat))
    row = replace(
        row,
        compile_s=round(compile_s, 3),
        program_memory_mb=machine.program_memory_mb(compiled),
        peak_memory_mb=peak.mb,
        peak_memory_of=peak.of,
        mean_score=float(np.float32(mean)) if math.isfinite(mean) else None,
        scored_filters=scored,
    )
    return Program(row, channels, compiled)


def _timed_call(bench: Bench, program: Program) -> tuple[float, float]:
    """(seconds on the device, seconds to the host) of one call."""
    arguments = _arguments(bench, _filters(program.row, program.channels))
    started = time.perf_counter()
    result = jax.block_until_ready(program.compiled(*arguments))
    finished = time.perf_counter()
    jax.device_get(result)
    return round(finished - started, 9), round(time.perf_counter() - finished, 9)


def _arguments(bench: Bench, filters: np.ndarray) -> tuple[Any, ...]:
    """Weights, filters and starting images, all on their devices and ready."""
    indices = jax.device_put(filters, bench.images)
    starts = ascent.initial_parameters(
        jnp.uint32(bench.settings.seed), indices, parameterization=_parameterization(), size=bench.settings.size
    )
    arguments = (bench.weights, indices, jax.device_put(starts, bench.images), bench.step_size)
    return jax.block_until_ready(arguments)  # type: ignore[no-any-return]


def _filters(row: Row, channels: int, first: int = 0) -> np.ndarray:
    """One call's filters: as many as it has images, starting again when the layer has no more."""
    return (np.arange(first, first + row.images_per_call) % channels).astype(np.int32)


def _parameterization() -> Pixel:
    return Pixel(RenderConfig.keras().initial_range)


def _precision(bench: Bench, dtype: str) -> str:
    setting: str | None = getattr(jax.config, "jax_default_matmul_precision", None)
    return machine.precision(bench.mesh.devices.flat[0], dtype, setting)


def _dot_rate(bench: Bench, dtype: str, side: int, rates: Sequence[float]) -> DotRate:
    each = tuple(rounded(rate) for rate in rates)
    words = "bfloat16 operands, float32 sums" if dtype == "bfloat16" else _precision(bench, dtype)
    return DotRate(side=side, gflops_each=each, precision=words)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

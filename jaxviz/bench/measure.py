"""READ FIRST of the benchmark: how a layer is measured.

    measure -> dot rates
            -> for each layer: _sweep      batch sizes 1, 2, 4, ... of every dtype: compile, warm up, one timed call;
                                           ends where throughput saturates, memory runs out or a call takes long
                               _repeat     the timed repeats, in turns over all programs of the layer (A B C A B C)
            -> dot rates again

What is timed is the very program that `render` runs: `ascent.compiled`, all steps in one call, from image parameters on
the device to final images, scores and history there. Compilation, warm-up, the draw of starting images and the way to
the host stay outside. Weights are seeded noise that keeps activations O(1), so nothing is downloaded and nothing
drifts into denormals.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import count, takewhile

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxviz.ascent import climb as ascent
from jaxviz.bench import dot, executable, machine
from jaxviz.bench.executable import Bench, Program
from jaxviz.bench.figures import LARGEST_AUTO_BATCH, rounded, sweep_end, with_figures
from jaxviz.bench.records import DotRate, Report, Row, Settings, Sweep
from jaxviz.bench.settings import command_of
from jaxviz.config import RenderConfig
from jaxviz.errors import DeviceMemoryError
from jaxviz.loading import describe_model
from jaxviz.machine import batch_devices, ran_out_of_memory
from jaxviz.models import MODELS
from jaxviz.models.random_weights import random_weights

WEIGHTS_SEED = 0  # --seed is that of the starting images

Say = Callable[[str], None]


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
                kernels=bench.kernels,
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
    say(f"{settings.model} with random weights" if settings.model in MODELS else settings.model)
    model = describe_model(settings.model)
    with jax.default_device(_host_device()):  # whose rounding depends least on the accelerator
        weights = random_weights(model, seed=WEIGHTS_SEED) if model.is_known else model.weights
    model = model.with_weights(weights)
    mesh = ascent.batch_mesh(batch_devices(calls=sys.maxsize))
    whole = NamedSharding(mesh, PartitionSpec())
    try:
        on_devices = jax.block_until_ready(jax.device_put(weights, whole))
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if ran_out_of_memory(error):
            raise DeviceMemoryError(f"`model` {settings.model!r}: its weights do not fit the device") from error
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
            row = executable.new_row(bench, layer, dtype, batch_size)
            try:
                program = executable.compile_program(bench, row)
                seconds, _ = executable.timed_call(bench, program)
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
                seconds, transfer_s = executable.timed_call(bench, program)
            except (jax.errors.JaxRuntimeError, MemoryError) as error:
                if not ran_out_of_memory(error):
                    raise
                programs.remove(program)
                failed.append(row)
                continue
            program.seconds.append(seconds)
            program.transfer_seconds.append(transfer_s)
    return failed


def _dot_rate(bench: Bench, dtype: str, side: int, rates: Sequence[float]) -> DotRate:
    each = tuple(rounded(rate) for rate in rates)
    in_words = f"{dot.operands(dtype)} operands, float32 sums"
    words = executable.precision(bench, dtype) if dtype == "float32" else in_words
    return DotRate(side=side, gflops_each=each, precision=words)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

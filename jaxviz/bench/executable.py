"""One compiled program of the benchmark: made, warmed up, called and timed.

It is the very program that `render` runs, `ascent.compiled`, compiled ahead of time so that compilation can be timed.
What is timed of a call goes from image parameters on the device to final images, scores and history there; the draw
of the starting images comes before, the way to the host is timed apart.
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from msgspec.structs import replace

from jaxviz.ascent import climb as ascent
from jaxviz.ascent.objectives import Channel
from jaxviz.ascent.parameterizations import Pixel
from jaxviz.bench import machine
from jaxviz.bench.records import Row, Settings
from jaxviz.config import RenderConfig
from jaxviz.machine import multiplies_bfloat16, not_kept
from jaxviz.network.head import Route
from jaxviz.network.model import Model
from jaxviz.network.program import Prepared
from jaxviz.network.rules import Settings as RuleSettings
from jaxviz.network.rules import kernels as kernel_sets

SCORED_FILTERS = 8  # the first ones, whatever the batch size, so that mean scores compare


@dataclass(frozen=True)
class Bench:
    """What all programs of a run share."""

    settings: Settings
    model: Model  # weights on the host
    mesh: Mesh
    weights: Any  # on every device
    step_size: jax.Array
    _bound: dict[tuple[str, str], tuple[Route, Prepared]] = field(default_factory=dict)

    def bound(self, layer: str, dtype: str) -> tuple[Route, Prepared]:
        """How a layer is reached, and the arrays that this takes; those of one layer are kept at a time."""
        if (layer, dtype) not in self._bound:
            for key in [key for key in self._bound if key[0] != layer]:
                del self._bound[key]
            settings = RuleSettings(self.platform, dtype, multiplies_bfloat16(), kernels=self.kernels)
            (route,), prepared = ascent.bind(self.model, layer, [self.settings.size], settings, weights=self.weights)
            self._bound[layer, dtype] = route, prepared
        return self._bound[layer, dtype]

    @property
    def platform(self) -> str:
        """Jax's name of what computes: cpu, gpu or tpu."""
        found: str = self.mesh.devices.flat[0].platform
        return found

    @property
    def kernels(self) -> str:
        """The name of the set of kernels that computes."""
        return kernel_sets.automatic(self.platform) if self.settings.kernels == "auto" else kernel_sets.LAX

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


def new_row(bench: Bench, layer: str, dtype: str, batch_size: int) -> Row:
    """All that is known before anything is compiled."""
    return Row(
        layer=layer,
        dtype=dtype,
        batch_size=batch_size,
        images_per_call=batch_size * bench.mesh.size,
        macs_per_image=bench.model.layer(layer, bench.settings.size).macs,
        precision=precision(bench, dtype),
        status="out of memory",  # until it has been measured
    )


def compile_program(bench: Bench, row: Row) -> Program:
    """The program of a row, compiled and warmed up, with its memory and mean score."""
    settings = bench.settings
    channels = bench.model.layer(row.layer, settings.size).channels
    route, _ = bench.bound(row.layer, row.dtype)
    arguments = arguments_of(bench, row, filters_of(row, channels))
    loop = ascent.Loop(seen=route, final=route, steps=settings.steps, mesh=bench.mesh)
    started = time.perf_counter()
    with nullcontext() if bench.kernels == kernel_sets.LAX else not_kept():
        compiled = ascent.compiled(bench.platform, bench.kernels).lower(*arguments, loop=loop).compile()
    compile_s = time.perf_counter() - started
    scored = min(SCORED_FILTERS, channels)
    scores: list[float] = []
    for first in range(0, scored, row.images_per_call):  # the first call is the warm-up
        result = compiled(*arguments_of(bench, row, filters_of(row, channels, first)))
        scores += np.asarray(result.scores)[:, 0].tolist()
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


def timed_call(bench: Bench, program: Program) -> tuple[float, float]:
    """(seconds on the device, seconds to the host) of one call."""
    arguments = arguments_of(bench, program.row, filters_of(program.row, program.channels))
    started = time.perf_counter()
    result = jax.block_until_ready(program.compiled(*arguments))
    finished = time.perf_counter()
    jax.device_get(result)
    return round(finished - started, 9), round(time.perf_counter() - finished, 9)


def arguments_of(bench: Bench, row: Row, filters: np.ndarray) -> tuple[Any, ...]:
    """Weights, filters, keys, starting images, numbers, all on their devices and ready."""
    indices = jax.device_put(filters, bench.images)
    alone = jax.device_put(np.zeros((len(filters), 1), np.int32), bench.images)  # each filter's replica 0
    keys = ascent.unit_keys(jnp.uint32(bench.settings.seed), indices, alone, alone[:, 0])
    parameterization = Pixel(bench.settings.size, RenderConfig.keras().initial_range)
    starts = jax.device_put(ascent.initial_parameters(keys, parameterization), bench.images)
    _, weights = bench.bound(row.layer, row.dtype)
    arguments = (weights, indices, keys, starts, ascent.Numbers(bench.step_size), Channel(), parameterization)
    return jax.block_until_ready(arguments)  # type: ignore[no-any-return]


def precision(bench: Bench, dtype: str) -> str:
    """What a row's products are computed in, in words."""
    setting: str | None = getattr(jax.config, "jax_default_matmul_precision", None)
    return machine.precision(bench.mesh.devices.flat[0], dtype, setting, multiplies_bfloat16=multiplies_bfloat16())


def filters_of(row: Row, channels: int, first: int = 0) -> np.ndarray:
    """One call's filters: as many as it has images, starting again when the layer has no more."""
    return (np.arange(first, first + row.images_per_call) % channels).astype(np.int32)

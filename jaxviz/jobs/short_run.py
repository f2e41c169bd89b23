"""A few batches of a plan with fewer steps, timed: what a whole run is estimated from (estimate.py).

Nothing is written, and no program that is kept on disk is used unless the caller lets jax do so.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

from jaxviz.bench.machine import MIB, peak_memory
from jaxviz.machine import batch_devices
from jaxviz.render.batches import iter_pictures
from jaxviz.render.plan import Plan
from jaxviz.render.recipe import Picture
from jaxviz.store.provenance import picture_bytes

FEWEST_STEPS, MOST_STEPS = 4, 16  # of a measured batch
CALL_S = 0.5  # what it should take at least, so that what happens once a batch does not count for steps
MORE_BATCHES = 3  # after the first, which is slower
LAST_SCORE = 0.5  # of a step: the forward pass that scores the final image


@dataclass(frozen=True)
class ShortRun:
    """What was measured of a plan.

    Attributes:
        steps: of its batches.
        first_s: what the first batch took longer, compilation included.
        compile_s: tracing and compiling.
        device_s: a batch, from its starting images to the final ones on the host; host_s: its pictures made of them.
        encode_s: one picture's file, `file_bytes` long.
        memory_bytes: the most that device or process have taken so far, and what more snapshots would.
    """

    steps: int
    first_s: float
    compile_s: float
    device_s: float
    host_s: float
    encode_s: float
    file_bytes: float
    memory_bytes: int | None

    def batch_s(self, steps: int) -> float:
        """Seconds of a batch with so many steps."""
        return self.device_s * (steps + LAST_SCORE) / (self.steps + LAST_SCORE) + self.host_s


def measure(plan: Plan, *, steps: int, file_format: str) -> ShortRun:
    """Compile a plan with so many steps and render some batches. Raises DeviceMemoryError."""
    short = _shortened(plan, steps)
    compile_s = 0.0

    def compiled(seconds: float) -> None:
        nonlocal compile_s
        compile_s = seconds

    per_call, per_unit = images_per_call(short), short.recipe.replicas
    pictures = iter_pictures(short, on_compiled=compiled)
    device: list[float] = []
    host: list[float] = []
    last: list[Picture] = []
    for _ in range(1 + MORE_BATCHES):
        last, seconds = _timed(pictures, per_call)
        made_s = sum(seconds[per_unit:])  # each unit's pictures are made when the first of them is asked for
        host.append(made_s * per_call / (per_call - per_unit) if per_call > per_unit else 0.0)
        device.append(sum(seconds) - host[-1])
    started = time.perf_counter()
    encoded = [len(picture_bytes(picture, None, file_format)) for picture in last]
    encode_s = (time.perf_counter() - started) / len(last)
    device_s = statistics.median(device[1:])
    peak = peak_memory(batch_devices(calls=len(plan.units))).mb
    return ShortRun(
        steps=short.config.steps,
        first_s=max(device[0] - device_s, compile_s),
        compile_s=compile_s,
        device_s=device_s,
        host_s=statistics.median(host[1:]),
        encode_s=encode_s,
        file_bytes=statistics.mean(encoded),
        memory_bytes=None if peak is None else int(peak * MIB) + _snapshot_bytes(plan, short),
    )


def enough_steps(plan: Plan, *, flop_per_picture: int, flop_per_s: float) -> int:
    """Steps of a batch that takes long enough to be measured, and no longer."""
    call_flop = images_per_call(plan) * flop_per_picture / plan.config.steps
    return min(MOST_STEPS, max(FEWEST_STEPS, math.ceil(CALL_S * flop_per_s / call_flop)))


def images_per_call(plan: Plan) -> int:
    """Images of one call, on all devices."""
    per_device = plan.recipe.batch_size // plan.recipe.replicas
    devices = batch_devices(calls=-(-len(plan.units) // per_device))
    return per_device * len(devices) * plan.recipe.replicas


def _timed(pictures: Iterator[Picture], count: int) -> tuple[list[Picture], list[float]]:
    """The next pictures, and the seconds that each was waited for."""
    found, seconds = [], []
    for _ in range(count):
        started = time.perf_counter()
        found.append(next(pictures))
        seconds.append(time.perf_counter() - started)
    return found, seconds


def _shortened(plan: Plan, steps: int) -> Plan:
    """The plan with so many steps and full batches of its first units, which are repeated where they are few."""
    config = plan.config
    steps = min(steps, config.steps)
    per_call = images_per_call(plan) // plan.recipe.replicas
    units = (plan.units * per_call)[:per_call] * (1 + MORE_BATCHES) * len(batch_devices(calls=len(plan.units)))
    return dataclasses.replace(
        plan,
        units=units,
        snapshots=tuple(step for step in plan.snapshots if step <= steps),
        config=dataclasses.replace(config, steps=steps, rescue_steps=min(config.rescue_steps, 1), attempts=1),
    )


def _snapshot_bytes(plan: Plan, short: Plan) -> int:
    """Memory of the snapshots that a whole run takes beyond those of a short one."""
    missing = len(plan.snapshots) - len(short.snapshots)
    return missing * images_per_call(plan) * math.prod(plan.config.size) * 3 * 4

"""A plan becomes pictures: cut into batches of exactly N, each climbs (ascent.py), final images become pictures.

Every call of the compiled function has the same N, the last one padded, because the libraries underneath
choose other kernels for another N and the ascent amplifies their rounding. So the picture of a filter does
not depend on its neighbours, its place, or a rerun. A filter that stays dead or turns nan is tried again from other
noise, as often as the configuration says, in a later batch.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import UInt8

from jaxviz.ascent import climb as ascent
from jaxviz.ascent.parameterizations import PARAMETERIZATIONS, Parameterization, make_parameterization
from jaxviz.errors import DeviceMemoryError
from jaxviz.machine import batch_devices, multiplies_bfloat16, not_kept, ran_out_of_memory
from jaxviz.network.head import Route
from jaxviz.network.program import Prepared
from jaxviz.network.rules import Settings
from jaxviz.network.rules.kernels import LAX
from jaxviz.pictures import images
from jaxviz.render import batch_size
from jaxviz.render.plan import Plan, Unit, device_name
from jaxviz.render.recipe import Picture, Status

log = logging.getLogger("jaxviz")


def iter_pictures(plan: Plan, *, on_compiled: Callable[[float], None] | None = None) -> Iterator[Picture]:
    """Render a plan, a batch at a time; `on_compiled` is told the seconds that tracing and compiling took."""
    if not plan.units:
        return
    per_device = plan.recipe.batch_size // plan.recipe.replicas
    mesh = ascent.batch_mesh(batch_devices(calls=-(-len(plan.units) // per_device)))
    with _memory_errors(plan):
        routes, prepared = ascent.bind(
            plan.model,
            plan.layer,
            [plan.seen_size, plan.config.size],
            Settings(_platform(mesh), plan.config.dtype, multiplies_bfloat16(), kernels=plan.recipe.kernels),
            before_softmax=plan.objective.before_softmax,
        )
        prepared = jax.block_until_ready(jax.device_put(prepared, NamedSharding(mesh, PartitionSpec())))
    run = _Run(
        plan, mesh, routes, prepared, make_parameterization(plan.config, plan.model.preprocess, plan.model.channels)
    )
    size = per_device * mesh.size
    queue = deque(plan.units)
    running = _launch(run, queue, size, first=True, on_compiled=on_compiled)
    while running is not None:
        units, launched = running
        with _memory_errors(plan):
            jax.block_until_ready(launched)
        running = _launch(run, queue, size)  # computes while these become pictures and files
        with _memory_errors(plan):
            batch = jax.device_get(launched)
        for place, unit in enumerate(units):
            pictures = [_picture(plan, unit, batch, place, row) for row in range(len(unit.replicas))]
            again = _next_attempt(plan, unit, pictures)
            if again is None:
                yield from pictures
            else:
                queue.append(again)
        if running is None:  # other attempts only
            running = _launch(run, queue, size)


@dataclass(frozen=True)
class _Run:
    """What all batches of a plan share."""

    plan: Plan
    mesh: Mesh
    routes: tuple[Route, ...]  # from what the transforms make of an image, and from the image
    prepared: Prepared
    parameterization: Parameterization


def _launch(
    run: _Run,
    queue: deque[Unit],
    size: int,
    *,
    first: bool = False,
    on_compiled: Callable[[float], None] | None = None,
) -> tuple[list[Unit], ascent.Ascent] | None:
    """Let the next `size` units climb, without waiting for them; None: there are none."""
    units = [queue.popleft() for _ in range(min(size, len(queue)))]
    if not units:
        return None
    with _memory_errors(run.plan):
        call = _prepared_call(run, units + units[-1:] * (size - len(units)))
        if first:  # later, what is free says little: part of it is this run's
            _compile(run.plan, call, on_compiled)
        return units, call()


def _prepared_call(run: _Run, units: list[Unit]) -> partial[ascent.Ascent]:
    """A call of the compiled function with its arguments on the devices."""
    config = run.plan.config
    split = NamedSharding(run.mesh, PartitionSpec(ascent.BATCH_AXIS))
    filter_indices = np.array([unit.filter_index for unit in units], np.int32)
    replicas = np.array([unit.replicas for unit in units], np.int32)
    attempts = np.array([unit.attempt for unit in units], np.int32)
    keys = ascent.unit_keys(jnp.uint32(config.seed), *jax.device_put((filter_indices, replicas, attempts), split))
    parameters = (
        ascent.initial_parameters(keys, run.parameterization)
        if units[0].starts is None
        else jax.device_put(np.stack([unit.starts for unit in units if unit.starts is not None]), split)
    )
    numbers = ascent.Numbers(*(np.float32(getattr(config, name)) for name in ascent.Numbers._fields))
    loop = ascent.Loop(
        seen=run.routes[0],
        final=run.routes[1],
        steps=config.steps,
        mesh=run.mesh,
        transforms=run.plan.transforms,
        optimizer=config.optimizer,
        penalized=any((config.tv, config.l1, config.l2)),
        rescue_steps=config.rescue_steps,
        snapshots=run.plan.snapshots,
    )
    return partial(
        ascent.compiled(_platform(run.mesh), run.plan.recipe.kernels),
        run.prepared,
        jax.device_put(filter_indices, split),
        keys,
        parameters,
        numbers,
        run.plan.objective,
        run.parameterization,
        loop=loop,
    )


def _compile(plan: Plan, call: partial[ascent.Ascent], on_compiled: Callable[[float], None] | None) -> None:
    """Compile ahead, tell how long it took, and raise DeviceMemoryError if the batch cannot fit."""
    started = time.perf_counter()
    mesh = call.keywords["loop"].mesh
    jitted: Any = call.func
    with nullcontext() if plan.recipe.kernels == LAX else not_kept():
        program = jitted.lower(*call.args, **call.keywords).compile()  # jit finds it when called
    if on_compiled is not None:
        on_compiled(time.perf_counter() - started)
    fits = batch_size.largest_that_fits(program, plan.recipe.batch_size, list(mesh.devices.flat))
    if fits < plan.recipe.batch_size:
        raise _does_not_fit(plan, fits)


def _platform(mesh: Mesh) -> str:
    platform: str = mesh.devices.flat[0].platform
    return platform


@contextmanager
def _memory_errors(plan: Plan) -> Iterator[None]:
    """What libraries raise when memory runs out becomes a DeviceMemoryError."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if ran_out_of_memory(error):
            raise _does_not_fit(plan, plan.recipe.batch_size // 2) from error
        raise


def _does_not_fit(plan: Plan, fits: int) -> DeviceMemoryError:
    """`fits` images may fit instead; 0: not even one."""
    size = f"{plan.config.size[0]}x{plan.config.size[1]}"
    try_next = f"try `batch_size` {fits} or a smaller `image_size`" if fits else "give a smaller `image_size`"
    return DeviceMemoryError(
        f"with images of {size} px does not fit the memory of {device_name()}",
        fits=fits,
        argument="batch_size",
        value=plan.recipe.batch_size,
        try_next=try_next,
    )


def _picture(plan: Plan, unit: Unit, batch: Any, place: int, row: int) -> Picture:
    image, history, score = batch.images[place, row], batch.history[place, row], float(batch.scores[place, row])
    finite = bool(np.isfinite(score) and np.isfinite(history).all() and np.isfinite(image).all())
    status: Status = "nan" if not finite else "ok" if batch.has_gradient[place, row] else "dead"
    snapshots = dict(zip(plan.snapshots, batch.snapshots[place, row], strict=True))
    return Picture(
        filter_index=unit.filter_index,
        replica=unit.replicas[row],
        picture=_tile(plan, unit, image, status),
        score=score,
        history=history,
        status=status,
        attempt=unit.attempt,
        snapshots={step: _tile(plan, unit, snapshot, status) for step, snapshot in snapshots.items()},
        recipe=plan.recipe,
    )


def _tile(plan: Plan, unit: Unit, image: np.ndarray, status: Status) -> UInt8[np.ndarray, "height width 3"]:
    """The picture, or a labelled tile where there is none."""
    config = plan.config
    if status != "ok":
        return images.placeholder(*config.picture_size, filter_index=unit.filter_index, status=status)
    if not PARAMETERIZATIONS[config.parameterization].is_rgb:
        return images.deprocess(image, crop=config.crop, contrast=config.contrast)
    return images.quantize(image, crop=config.crop)


def _next_attempt(plan: Plan, unit: Unit, pictures: list[Picture]) -> Unit | None:
    """The unit once more, from other noise, where a picture is dead or nan and an attempt is left."""
    failed = [picture for picture in pictures if picture.status != "ok"]
    if not failed or unit.starts is not None or unit.attempt + 1 >= plan.config.attempts:
        return None
    log.info("filter %d is %s; trying again from other noise", unit.filter_index, failed[0].status)
    return replace(unit, attempt=unit.attempt + 1)

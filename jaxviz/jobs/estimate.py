"""What a run would take, without the run: filters, FLOP, memory, disk and time of every layer. Nothing is written.

What needs no clock comes from the network's table. The rest is measured here and now: each layer's program is compiled
with a few steps, some batches are rendered, and their time is scaled to all steps and batches. Compilation is counted
as if no compiled program were kept. Filters that another attempt may be spent on are counted once, and pictures are not
put beside natural images.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence

import jax
from msgspec import Struct
from msgspec.structs import replace

from jaxviz.ascent import climb as ascent
from jaxviz.errors import DeviceMemoryError
from jaxviz.jobs import atlas, short_run
from jaxviz.jobs.resume import check_kernels, finished
from jaxviz.jobs.short_run import enough_steps, images_per_call
from jaxviz.jobs.task import LayerTask, check_task, flop_per_picture
from jaxviz.network.model import Model
from jaxviz.pictures import images
from jaxviz.render.plan import device_name, smaller_batch
from jaxviz.store.provenance import picture_name

USUAL_FLOP_PER_S = {"cpu": 5e9}  # for the first layer's number of steps; the next ones go by what was measured
ACCELERATOR_FLOP_PER_S = 1e12
PROVENANCE_BYTES = 3000  # of a picture file beside its pixels, at most
PNG_OVERHEAD = 1.01  # of pixels that do not compress


class LayerEstimate(Struct, frozen=True, kw_only=True):
    """One layer; None is what was not measured. Times in seconds, of what is left to render."""

    model: str
    layer: str
    label: str
    folder: str
    filters: int
    pictures: int  # filters times replicas
    already_there: int
    steps: int
    flop: int
    disk_bytes: int  # measured: about; otherwise at most
    batch_size: int | None = None
    batches: int | None = None
    memory_bytes: int | None = None  # the most that the whole process has taken up to this layer
    compile_s: float | None = None
    time_s: float | None = None


class Estimate(Struct, frozen=True, kw_only=True):
    """A run: its layers in the order of work, and all of them together."""

    layers: tuple[LayerEstimate, ...]
    filters: int
    pictures: int
    already_there: int
    flop: int
    disk_bytes: int
    memory_bytes: int | None
    start_s: float | None  # importing, reading weights
    compile_s: float | None
    time_s: float | None  # start and compilation included
    device: str | None


def estimate(
    tasks: Sequence[LayerTask],
    *,
    measure: bool = True,
    started: float | None = None,
    say: Callable[[str], None] = lambda _: None,
    download_bar: bool = False,
) -> Estimate:
    """What rendering these tasks would take.

    Args:
        tasks: what to render.
        measure: on this machine, which needs the weights; otherwise only what the network's table tells.
        started: when the process began, in `time.perf_counter()`; until now it has imported what a run would.
        say: is told what is being measured.
        download_bar: whether a download of weights shows a progress bar on stderr.

    Raises:
        RequestError: a run would be refused.
        WeightsUnavailableError: measuring needs weights that are not here.
    """
    started = time.perf_counter() if started is None else started
    plain = [_from_table(task) for task in tasks]
    if not measure:
        return _summed(plain, start_s=None)
    found = atlas.load_models(tasks, download_bar=download_bar)
    start_s = time.perf_counter() - started
    layers: list[LayerEstimate] = []
    rate: float | None = None
    for place, (task, known) in enumerate(zip(tasks, plain, strict=True)):
        say(f"measuring {place + 1} of {len(tasks)}: {task.request.model} {task.layer}")
        layer, rate = _measured(task, known, found[atlas.weights_key(task.request)], rate)
        layers.append(layer)
        ascent.forget_programs()  # as a run does
    return _summed(layers, start_s=start_s)


def _from_table(task: LayerTask) -> LayerEstimate:
    """What needs neither weights nor a clock."""
    request, config = task.request, task.request.config
    filters = check_task(task)
    pictures = len(filters) * request.replicas
    files = pictures * (1 + len(request.snapshots))
    grid = _grid_pixels(pictures, config.picture_size)
    raw = files * 3 * math.prod(config.picture_size) + 3 * grid
    frames = (len(request.snapshots) + 1) * grid if request.animate is not None else 0
    return LayerEstimate(
        model=request.model,
        layer=task.layer,
        label=request.folder_name,
        folder=str(task.folder),
        filters=len(filters),
        pictures=pictures,
        already_there=0 if request.overwrite else _count_files(task, filters),
        steps=config.steps,
        flop=pictures * flop_per_picture(task),
        disk_bytes=int(PNG_OVERHEAD * raw) + frames + files * PROVENANCE_BYTES,
        batch_size=None if isinstance(config.batch_size, str) else config.batch_size,
    )


def _measured(
    task: LayerTask, known: LayerEstimate, model: Model, rate: float | None
) -> tuple[LayerEstimate, float | None]:
    """The layer, measured, and FLOP/s of its steps."""
    started = time.perf_counter()
    plan = atlas.plan_task(task, model)
    left = plan.without(finished(task, plan.recipe))
    there = len(plan.wanted) - len(left.wanted)
    flop = len(left.wanted) * flop_per_picture(task)
    plan_s = time.perf_counter() - started
    known = replace(known, already_there=there, flop=flop, batch_size=plan.recipe.batch_size)
    if not left.units:
        return replace(known, batches=0, disk_bytes=0, compile_s=0.0, time_s=plan_s), rate
    check_kernels(task, plan.recipe)
    rate = rate or USUAL_FLOP_PER_S.get(jax.default_backend(), ACCELERATOR_FLOP_PER_S)
    while True:
        steps = enough_steps(left, flop_per_picture=flop // len(left.wanted), flop_per_s=rate)
        try:
            run = short_run.measure(left, steps=steps, file_format=task.request.file_format)
            break
        except DeviceMemoryError as error:
            left = smaller_batch(left, error)
    config = left.config
    per_call = images_per_call(left)
    batches = -(-len(left.wanted) // per_call)
    batch_s = run.batch_s(config.steps)
    grid_share = _grid_pixels(known.pictures, config.picture_size) / math.prod(config.picture_size)
    written = len(left.wanted) * (1 + len(left.snapshots)) + grid_share
    time_s = plan_s + run.first_s + batches * batch_s + written * run.encode_s
    return (
        replace(
            known,
            batch_size=left.recipe.batch_size,
            batches=batches,
            disk_bytes=int(written * run.file_bytes),
            memory_bytes=run.memory_bytes,
            compile_s=run.compile_s,
            time_s=time_s,
        ),
        per_call * (flop / len(left.wanted)) / batch_s,
    )


def _summed(layers: Sequence[LayerEstimate], *, start_s: float | None) -> Estimate:
    measured = start_s is not None
    peaks = [layer.memory_bytes for layer in layers if layer.memory_bytes is not None]
    return Estimate(
        layers=tuple(layers),
        filters=sum(layer.filters for layer in layers),
        pictures=sum(layer.pictures for layer in layers),
        already_there=sum(layer.already_there for layer in layers),
        flop=sum(layer.flop for layer in layers),
        disk_bytes=sum(layer.disk_bytes for layer in layers),
        memory_bytes=max(peaks, default=None),
        start_s=start_s,
        compile_s=sum(layer.compile_s or 0.0 for layer in layers) if measured else None,
        time_s=None if start_s is None else start_s + sum(layer.time_s or 0.0 for layer in layers),
        device=device_name() if measured else None,
    )


def _grid_pixels(pictures: int, size: tuple[int, int]) -> int:
    columns = images.grid_columns(pictures)
    rows = -(-pictures // columns)
    return rows * (size[0] + images.GRID_MARGIN_PX) * columns * (size[1] + images.GRID_MARGIN_PX)


def _count_files(task: LayerTask, filters: tuple[int, ...]) -> int:
    """Files with the names of the task's pictures, of whatever recipe."""
    request = task.request
    keys = itertools.product(filters, range(request.replicas))
    return sum((task.folder / picture_name(key, file_format=request.file_format)).is_file() for key in keys)

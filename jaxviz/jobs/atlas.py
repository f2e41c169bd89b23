"""READ AFTER render.py: many layers, one after the other, into folders that a later run can trust.

    run_tasks -> everything that can be wrong is found first: requests (task.py), weights, foreign folders
              -> every folder is locked (locks.py), so that a second run is told at once
              -> layer by layer: what is missing, of that this shard's part -> iter_pictures (render.py)
              -> pictures are written while the next batch computes (writer.py); then grid.png and layer.json

What has been done is told to a `Report` (events.py) as it happens; nothing is printed here.
"""

from __future__ import annotations

import dataclasses
import operator
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from jaxviz import loading
from jaxviz.ascent import climb as ascent
from jaxviz.errors import ConfigError, DeviceMemoryError
from jaxviz.jobs.checks import check_tasks
from jaxviz.jobs.events import Compiled, LayerDone, LayerStarted, Note, Rendered, Report, SmallerBatch, Started, Written
from jaxviz.jobs.resume import check_folder, check_kernels, recipe_there, settled
from jaxviz.jobs.task import LayerTask, RenderRequest, flop_per_picture, needs_head
from jaxviz.judge.plan_judge import PlanJudge
from jaxviz.network.model import Model
from jaxviz.render.batches import iter_pictures
from jaxviz.render.options import for_command_line
from jaxviz.render.plan import Plan, device_name, plan_render, smaller_batch
from jaxviz.render.recipe import status_counts
from jaxviz.render.shard import Shard
from jaxviz.store.folder import Judge, LayerFolder, foreign_error
from jaxviz.store.locks import FolderLock, locked
from jaxviz.store.writer import Writer


class RunInterruptedError(KeyboardInterrupt):
    """Ctrl-C: so many layers are done, and of the one at work, if there was one, `there` of `wanted` pictures."""

    def __init__(self, layer: _Layer | None, *, layers: int) -> None:
        super().__init__()
        self.layers = layers
        self.folder = None if layer is None else layer.folder
        self.wanted = 0 if layer is None else len(layer.plan.wanted)
        self.there = 0 if layer is None else sum(key in layer.folder.done for key in layer.plan.wanted)


def run_tasks(
    tasks: Sequence[LayerTask],
    report: Report,
    *,
    shard: Shard | None = None,
    download_bar: bool = False,
    one_jaxlib: bool = False,
) -> list[LayerDone]:
    """Render what is missing of all tasks, in their order; returns a summary for each.

    Args:
        tasks: layers and filters, each with an output folder of its own.
        report: is told what happens: `Started`, then for each layer `LayerStarted`, `Compiled`, for each picture
            `Rendered` and `Written`, and `LayerDone`; `SmallerBatch` where memory ran out and the layer starts again.
        shard: render only this part; the shard that finds a layer complete makes its grid and layer.json.
        download_bar: whether a download of weights shows a progress bar on stderr.
        one_jaxlib: refuse to add pictures to those of another jaxlib; else the log (logger `jaxviz`) says so.

    Raises:
        RequestError: before anything is rendered.
        FolderInUseError: another run is at work in one of the folders.
        StorageError, DeviceMemoryError: in the middle; what is written is whole, and the same call goes on from there.
        RunInterruptedError: likewise, after Ctrl-C.
    """
    counts = check_tasks(tasks, shard)
    models = load_models(tasks, download_bar=download_bar)
    with locked([task.folder for task in tasks], shard) as locks:
        for task in tasks:
            check_folder(task, models[weights_key(task.request)], one_jaxlib=one_jaxlib)
        run = _Run(report, shard, locks, Writer())
        work = [flop_per_picture(task) for task in tasks]
        shares = [count // (1 if shard is None else shard.count) for count in counts]
        flop = sum(map(operator.mul, shares, work))
        part = None if shard is None else str(shard)
        report(Started(pictures=sum(shares), flop=flop, layers=len(tasks), shard=part))
        with run.writer:
            try:
                for place, task in enumerate(tasks):
                    _run_layer(run, task, models[weights_key(task.request)], place, shares[place])
                    ascent.forget_programs()  # of one layer are of no use to the next, and fill gigabytes
                run.writer.drain()
            except KeyboardInterrupt:
                raise run.interrupted() from None
    return run.summaries


@dataclass
class _Run:
    """What all layers of a run share."""

    report: Report
    shard: Shard | None
    locks: dict[Path, FolderLock]
    writer: Writer
    summaries: list[LayerDone] = field(default_factory=list)
    last: _Layer | None = None

    def interrupted(self) -> RunInterruptedError:
        """Leave the folder at work whole, and say what it holds."""
        layer = self.last
        with suppress(KeyboardInterrupt):
            self.writer.settle()
            if layer is not None and not layer.done and self.shard is None:
                if not layer.described:
                    layer.folder.look_again()
                    layer.folder.put_beside(None)
                request = layer.task.request
                layer.folder.describe(
                    device=device_name(), timings=layer.timings(layer.elapsed_s), numbers=request.numbers
                )
        return RunInterruptedError(None if layer is None or layer.done else layer, layers=len(self.summaries))


@dataclass
class _Layer:
    """One layer at work."""

    task: LayerTask
    plan: Plan
    folder: LayerFolder
    started: float
    rendered: int = 0
    compile_s: float | None = None
    described: bool = False  # whether grid and layer.json are being made
    done: bool = False

    @property
    def name(self) -> tuple[str, str, str]:
        return self.plan.model.name, self.plan.layer, self.folder.label

    @property
    def elapsed_s(self) -> float:
        return round(time.perf_counter() - self.started, 3)

    def timings(self, render_s: float) -> dict[str, int | float | None]:
        return {"rendered": self.rendered, "render_s": render_s, "compile_s": self.compile_s}


WeightsKey = tuple[str, Path | None, str | None, int]


def weights_key(request: RenderRequest) -> WeightsKey:
    """What decides which network with which weights a request means."""
    return request.model, request.weights, request.custom_objects, id(request.given)


def load_models(tasks: Sequence[LayerTask], *, download_bar: bool) -> dict[WeightsKey, Model]:
    """All models at the start, so that a missing file or network is not found in the middle of the night."""
    requests = {weights_key(task.request): task.request for task in tasks}
    with_head = {weights_key(task.request) for task in tasks if needs_head(task)}

    def load(key: WeightsKey, request: RenderRequest) -> Model:
        if request.given is not None:
            return request.given
        head = key in with_head
        return loading.load_model(
            request.model,
            weights=request.weights,
            head=head,
            progress=download_bar,
            custom_objects=request.custom_objects,
        )

    return {key: load(key, request) for key, request in requests.items()}


def _run_layer(run: _Run, task: LayerTask, model: Model, place: int, expected: int) -> None:
    """One layer; where memory runs out it starts again with a smaller batch."""
    plan = plan_task(task, model)
    folder = _open(task, plan, overwrite=task.request.overwrite, alone=run.shard is None)
    others = folder.done.keys() - set(plan.wanted)
    while True:
        layer = run.last = _Layer(task, plan, folder, time.perf_counter())
        try:
            _render_layer(run, layer, place, expected)
            return
        except DeviceMemoryError as error:
            if run.shard is not None:
                raise DeviceMemoryError(
                    f"{error.text}. Render this layer once without `shard`; the shards then take its batch size"
                ) from error
            if others:
                raise DeviceMemoryError(
                    f"{error.text}. A smaller batch would replace the {len(others)} other pictures in {folder.path}: "
                    "wait until memory is free, choose another label, `label` LABEL, or render them all anew with "
                    "`overwrite`"
                ) from error
            run.writer.drain()
            plan = smaller_batch(plan, error)
            run.report(SmallerBatch(*layer.name, batch_size=plan.recipe.batch_size))
            folder = _open(task, plan, overwrite=True, alone=True)


def plan_task(task: LayerTask, model: Model) -> Plan:
    """What to render; what is `auto` is as in the pictures that are there."""
    request = task.request
    config, kernels = settled(request.config, recipe_there(task))
    plan = plan_render(
        model,
        task.layer,
        task.filters,
        config,
        objective=request.objective_value,
        replicas=request.replicas,
        snapshots=request.snapshots,
        kernels=kernels,
    )
    return dataclasses.replace(plan, automatic_batch=request.config.batch_size == "auto")


def _open(task: LayerTask, plan: Plan, *, overwrite: bool, alone: bool) -> LayerFolder:
    request = task.request
    return LayerFolder.open(
        request.out,
        plan.recipe,
        label=request.folder_name,
        overwrite=overwrite,
        snapshots=plan.snapshots,
        file_format=request.file_format,
        network=plan.facts,
        alone=alone,
    )


def _render_layer(run: _Run, layer: _Layer, place: int, expected: int) -> None:
    """Render and write what is missing; grid and layer.json are made while the next layer compiles."""
    plan, folder, request = layer.plan, layer.folder, layer.task.request
    mine = plan if run.shard is None else plan.shard(run.shard, place)
    missing = mine.without(folder.done)
    if missing.units:  # of a set that another shard has settled meanwhile
        check_kernels(layer.task, plan.recipe)
    run.report(
        LayerStarted(
            *layer.name,
            expected=expected,
            flop_per_picture=flop_per_picture(layer.task),
            folder=str(folder.path),
            batch_size=plan.recipe.batch_size,
            pictures=len(mine.wanted),
            missing=len(missing.wanted),
        )
    )
    judge = _judge(plan, request, run.report)
    for picture in iter_pictures(missing, on_compiled=partial(_compiled, run, layer)):
        layer.rendered += 1
        names = (*layer.name, picture.filter_index, picture.replica)
        score = picture.score if picture.status == "ok" else None
        run.report(Rendered(*names, status=picture.status, score=score))
        run.writer.write(folder, picture, partial(run.report, Written(*names)))
    run.writer.drain()
    folder.look_again()
    if run.shard is not None and folder.foreign:  # another shard works with another batch size, say
        file, reason = next(iter(folder.foreign.items()))
        raise foreign_error(folder.path, file.name, reason)
    complete = run.shard is None or all(key in folder.done for key in plan.wanted)
    folder.put_beside(judge if complete else None)
    render_s = layer.elapsed_s
    done = partial(_done, run, layer, render_s)
    if not complete:
        done()
        return
    layer.described = True
    describe = partial(folder.describe, device=device_name(), timings=layer.timings(render_s), numbers=request.numbers)
    run.writer.submit(partial(describe, animate=request.animate), done)


def _compiled(run: _Run, layer: _Layer, seconds: float) -> None:
    layer.compile_s = round(seconds, 3)
    run.report(Compiled(*layer.name, compile_s=layer.compile_s))


def _judge(plan: Plan, request: RenderRequest, report: Report) -> Judge | None:
    """The judge that was asked for; where none was and natural images are at hand, one for all but `keras`."""
    asked = request.judge or (request.judge is None and request.images is not None)
    if request.judge is False or (not asked and plan.config.preset == "keras"):
        return None
    try:
        return PlanJudge(plan, request.images)
    except ConfigError as error:
        if asked:
            raise
        report(Note(f"pictures are not put beside natural images: {for_command_line(error)}"))
        return None


def _done(run: _Run, layer: _Layer, render_s: float) -> None:
    """The layer is written: sum up, and let others in."""
    plan, folder, request = layer.plan, layer.folder, layer.task.request
    there = {key: folder.done[key] for key in plan.wanted if key in folder.done}
    summary = LayerDone(
        *layer.name,
        folder=str(folder.path),
        grid=str(folder.path / "grid.png"),
        animation=str(folder.path / f"grid.{request.animate}") if request.animate else None,
        filters=plan.filters,
        replicas=plan.replicas,
        counts=status_counts(saved.status for saved in there.values()),
        judged=tuple(entry for entry in folder.entries if entry.judged_score is not None and entry.key in there),
        rendered=layer.rendered,
        already_there=len(there) - layer.rendered,
        missing=len(plan.wanted) - len(there),
        batch_size=plan.recipe.batch_size,
        render_s=render_s,
        compile_s=layer.compile_s,
        device=device_name(),
    )
    layer.done = True
    run.summaries.append(summary)
    run.locks[folder.path].release()
    run.report(summary)

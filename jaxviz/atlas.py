"""READ AFTER render.py: many layers, one after the other, into folders that a later run can trust.

    run_tasks -> everything that can be wrong is found first: requests (task.py), weights, foreign folders
              -> every folder is locked (locks.py), so that a second run is told at once
              -> layer by layer: what is missing, of that this shard's part -> iter_pictures (render.py)
              -> pictures are written while the next batch computes (writer.py); then grid.png and layer.json

What has been done is told to a `Report` as it happens; nothing is printed here.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from jaxviz import ascent
from jaxviz import models as registry
from jaxviz.contents import first_saved
from jaxviz.early_checks import check_files, check_together
from jaxviz.errors import ConfigError, DeviceMemoryError
from jaxviz.judged import PlanJudge
from jaxviz.locks import FolderLock, Shard, locked
from jaxviz.models.model import Model
from jaxviz.plan import Plan, device_name, plan_render, recipe_of, smaller_batch
from jaxviz.recipe import STATUSES, Picture
from jaxviz.render import iter_pictures
from jaxviz.storage import Judge, LayerFolder, foreign_error
from jaxviz.task import LayerTask, RenderRequest, check_task, needs_head, task_macs
from jaxviz.writer import Writer

Report = Callable[[str, dict[str, Any]], None]  # what happened, and its values for JSON


class RunInterruptedError(KeyboardInterrupt):
    """Ctrl-C, with what is whole: `there` of `wanted` pictures of the layer it came in, `layers` done before."""

    def __init__(self, folder: LayerFolder, *, there: int, wanted: int, layers: int) -> None:
        super().__init__()
        self.folder, self.there, self.wanted, self.layers = folder, there, wanted, layers


def run_tasks(
    tasks: Sequence[LayerTask], report: Report, *, shard: Shard | None = None, download_bar: bool = False
) -> list[dict[str, Any]]:
    """Render what is missing of all tasks, in their order; returns a summary for each.

    Args:
        tasks: layers and filters, each with an output folder of its own.
        report: is told what happens: "start", then for each layer "layer", "compiled", "rendered" and "written" for
            each picture, and "done" with the summary; "smaller_batch" where memory ran out and the layer starts again.
        shard: render only this part; the shard that finds a layer complete makes its grid and layer.json.
        download_bar: whether a download of weights shows a progress bar on stderr.

    Raises:
        RequestError: before anything is rendered.
        FolderInUseError: another run is at work in one of the folders.
        StorageError, DeviceMemoryError: in the middle; what is written is whole, and the same call goes on from there.
        RunInterruptedError: likewise, after Ctrl-C.
    """
    wanted = _check(tasks, shard)
    models = load_models(tasks, download_bar=download_bar)
    with locked([task.folder for task in tasks], shard) as locks:
        for task in tasks:
            _check_folder(task, models[_weights_key(task.request)])
        shares = 1 if shard is None else shard.count
        total = {"pictures": wanted // shares, "macs": sum(task_macs(task) for task in tasks) // shares}
        report("start", total | {"layers": len(tasks), "shard": None if shard is None else str(shard)})
        run = _Run(report, shard, locks, Writer())
        with run.writer:
            for place, task in enumerate(tasks):
                _run_layer(run, task, models[_weights_key(task.request)], place)
                ascent.forget_programs()  # of one layer are of no use to the next, and fill gigabytes
            run.drain()
    return run.summaries


@dataclass
class _Run:
    """What all layers of a run share."""

    report: Report
    shard: Shard | None
    locks: dict[Path, FolderLock]
    writer: Writer
    summaries: list[dict[str, Any]] = field(default_factory=list)
    last: _Layer | None = None

    def drain(self) -> None:
        """Wait until the last layer is written."""
        try:
            self.writer.drain()
        except KeyboardInterrupt:
            assert self.last is not None
            raise self.last.interrupted(self) from None


@dataclass
class _Layer:
    """One layer at work."""

    task: LayerTask
    plan: Plan
    folder: LayerFolder
    started: float
    rendered: int = 0
    compile_s: float | None = None

    @property
    def name(self) -> dict[str, str]:
        return {"model": self.plan.model.name, "layer": self.plan.layer, "label": self.folder.label}

    def timings(self) -> dict[str, float | None]:
        render_s = round(time.perf_counter() - self.started, 3)
        return {"rendered": self.rendered, "render_s": render_s, "compile_s": self.compile_s}

    def interrupted(self, run: _Run) -> RunInterruptedError:
        """Leave the folder whole, and say what it holds."""
        with suppress(KeyboardInterrupt):
            run.writer.settle()
            if run.shard is None:
                self.folder.finish(device=device_name(), timings=self.timings(), numbers=self.task.request.numbers)
        there = sum(key in self.folder.done for key in self.plan.wanted)
        return RunInterruptedError(self.folder, there=there, wanted=len(self.plan.wanted), layers=len(run.summaries))


def _check(tasks: Sequence[LayerTask], shard: Shard | None) -> int:
    """Check all tasks, without weights; returns how many pictures they are."""
    seen: set[Path] = set()
    pictures = 0
    for request in {id(task.request): task.request for task in tasks}.values():
        check_files(request)
    for task in tasks:
        filters = check_task(task)
        check_together(task, filters)
        pictures += len(filters) * task.request.replicas
        if task.folder in seen:
            raise ConfigError(f"two tasks write to {task.folder}; give one of them another label (--name)")
        seen.add(task.folder)
        if shard is not None and task.request.overwrite:
            raise ConfigError(
                f"--overwrite with --shard {shard} would let shards replace each other's pictures; remove the folder "
                "first, or choose another label with --name"
            )
    return pictures


def _weights_key(request: RenderRequest) -> tuple[str, Path | None]:
    return request.model, request.weights


def load_models(tasks: Sequence[LayerTask], *, download_bar: bool) -> dict[tuple[str, Path | None], Model]:
    """All models at the start, so that a missing file or network is not found in the middle of the night."""
    with_head = {_weights_key(task.request): False for task in tasks}
    for task in tasks:
        with_head[_weights_key(task.request)] |= needs_head(task)
    return {
        (name, weights): registry.load_model(name, weights=weights, head=head, progress=download_bar)
        for (name, weights), head in with_head.items()
    }


def _check_folder(task: LayerTask, model: Model) -> None:
    """Raise OutputFolderError if the first picture that is there already is of another recipe."""
    request = task.request
    saved = None if request.overwrite else first_saved(task.folder)
    if saved is None:
        return
    size = request.config.batch_size
    recipe = recipe_of(
        model,
        task.layer,
        request.config,
        request.objective_value,
        batch_size=saved.recipe.batch_size if isinstance(size, str) else size,
        replicas=request.replicas,
    )
    differences = recipe.differences(saved.recipe)
    if differences:
        raise foreign_error(task.folder, f"filter {saved.filter_index}", "; ".join(differences))


def _run_layer(run: _Run, task: LayerTask, model: Model, place: int) -> None:
    """One layer; where memory runs out it starts again with a smaller batch."""
    plan = plan_task(task, model)
    folder = _open(task, plan, overwrite=task.request.overwrite, alone=run.shard is None)
    while True:
        layer = run.last = _Layer(task, plan, folder, time.perf_counter())
        try:
            _render_layer(run, layer, place)
            return
        except DeviceMemoryError as error:
            if run.shard is not None:
                raise  # the others would go on with another batch size
            run.writer.drain()
            plan = smaller_batch(plan, error)
            run.report("smaller_batch", layer.name | {"batch_size": plan.recipe.batch_size})
            folder = _open(task, plan, overwrite=True, alone=True)


def plan_task(task: LayerTask, model: Model) -> Plan:
    """What to render; an automatic batch size is the one of the pictures that are there."""
    request, config = task.request, task.request.config
    automatic = config.batch_size == "auto"
    if automatic and not request.overwrite:
        saved = first_saved(task.folder)
        config = config if saved is None else dataclasses.replace(config, batch_size=saved.recipe.batch_size)
    plan = plan_render(
        model,
        task.layer,
        task.filters,
        config,
        objective=request.objective_value,
        replicas=request.replicas,
        snapshots=request.snapshots,
    )
    return dataclasses.replace(plan, automatic_batch=automatic)


def _open(task: LayerTask, plan: Plan, *, overwrite: bool, alone: bool) -> LayerFolder:
    request = task.request
    return LayerFolder.open(
        request.out,
        plan.recipe,
        label=request.folder_name,
        overwrite=overwrite,
        snapshots=plan.snapshots,
        file_format=request.file_format,
        alone=alone,
    )


def _render_layer(run: _Run, layer: _Layer, place: int) -> None:
    """Render and write what is missing; grid and layer.json are made while the next layer compiles."""
    plan, folder = layer.plan, layer.folder
    mine = plan if run.shard is None else plan.shard(run.shard, place)
    missing = mine.without(folder.done)
    told = layer.name | {"folder": str(folder.path), "pictures": len(mine.wanted), "missing": len(missing.wanted)}
    macs = task_macs(layer.task) // len(plan.wanted)
    run.report("layer", told | {"batch_size": plan.recipe.batch_size, "macs_per_picture": macs})
    try:
        judge = _judge(plan, layer.task.request, run.report)
        for picture in iter_pictures(missing, on_compiled=partial(_compiled, run, layer)):
            layer.rendered += 1
            names = layer.name | {"filter_index": picture.filter_index, "replica": picture.replica}
            run.report("rendered", names | {"status": picture.status, "score": _number(picture)})
            run.writer.write(folder, picture, partial(run.report, "written", names))
        run.writer.drain()
        folder.look_again()
        complete = run.shard is None or all(key in folder.done for key in plan.wanted)
        folder.put_beside(judge if complete else None)
        done = partial(_done, run, layer, layer.timings())
        if complete:
            request = layer.task.request
            describe = partial(
                folder.describe,
                device=device_name(),
                timings=layer.timings(),
                numbers=request.numbers,
                animate=request.animate,
            )
            run.writer.submit(describe, done)
        else:
            done()
    except KeyboardInterrupt:
        raise layer.interrupted(run) from None


def _compiled(run: _Run, layer: _Layer, seconds: float) -> None:
    layer.compile_s = round(seconds, 3)
    run.report("compiled", layer.name | {"compile_s": layer.compile_s})


def _number(picture: Picture) -> float | None:
    return picture.score if picture.status == "ok" else None


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
        report("note", {"message": f"pictures are not put beside natural images: {error}"})
        return None


def _done(run: _Run, layer: _Layer, timings: dict[str, float | None]) -> None:
    """The layer is written: sum up, and let others in."""
    plan, folder, request = layer.plan, layer.folder, layer.task.request
    there = [key for key in plan.wanted if key in folder.done]
    statuses = [folder.done[key].status for key in there]
    judged = [entry for entry in folder.entries if entry["judged_score"] is not None]
    summary = {
        **layer.name,
        "folder": str(folder.path),
        "grid": str(folder.path / "grid.png"),
        "animation": str(folder.path / f"grid.{request.animate}") if request.animate else None,
        "filters": list(plan.filters),
        "replicas": plan.replicas,
        "counts": {status: statuses.count(status) for status in STATUSES},
        "judged": [entry for entry in judged if (entry["filter_index"], entry["replica"]) in set(there)],
        "rendered": layer.rendered,
        "already_there": len(there) - layer.rendered,
        "missing": len(plan.wanted) - len(there),
        "batch_size": plan.recipe.batch_size,
        "render_s": timings["render_s"],
        "compile_s": timings["compile_s"],
        "device": device_name(),
    }
    run.summaries.append(summary)
    run.locks[folder.path].release()
    run.report("done", summary)

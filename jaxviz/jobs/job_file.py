"""A job file: several atlases, that is layers of several models with presets, labels and overrides, in one TOML file.

    read_job  -> the file as `RenderRequest`s and `LayerChoice`s, one pair for each table [[atlas]]
    job_tasks -> what to render, layer by layer, in the order of work
    check_job -> the same, once all that can be wrong without weights has been looked for, files included

Whatever is wrong is one JobFileError that says which table is meant. Paths are those of the command line: relative to
the current folder, not to the file. What may stand in the file is in job_schema.py. No jax until `check_job`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import UNSET, Struct

from jaxviz import spelling
from jaxviz.errors import ConfigError, JobFileError, RequestError
from jaxviz.jobs import schema as job_schema
from jaxviz.jobs.checks import check_files, check_together
from jaxviz.jobs.schema import Atlas, JobFile, LayerFilters, place_of
from jaxviz.jobs.task import (
    ORDERS,
    FilterList,
    LayerChoice,
    LayerTask,
    RenderRequest,
    atlas_tasks,
    check_task,
    render_request,
    task_macs,
)
from jaxviz.render.options import OPTIONS, for_job_file
from jaxviz.store.contents import folder_path

LONGEST_MESSAGE = 600  # characters


@dataclass(frozen=True)
class JobAtlas:
    """One table [[atlas]], read: how and where, and which layers; `place` names it in messages."""

    place: str
    request: RenderRequest
    choice: LayerChoice


@dataclass(frozen=True)
class Job:
    """A job file, read; `order` is one of `task.ORDERS`."""

    file: Path
    order: str
    atlases: tuple[JobAtlas, ...]


def read_job(file: str | Path, overrides: Sequence[str] = (), *, overwrite: bool = False) -> Job:
    """A job file, with overrides KEY=VALUE (`--set`) applied before anything is checked.

    Raises:
        JobFileError: it is no job file, or a value in it is outside its range.
        StorageError: it cannot be read.
    """
    file = Path(file)
    job = job_schema.read_file(file, overrides)
    if job.order not in ORDERS:
        raise JobFileError(
            f"{file}: order {job_schema.short(repr(job.order))} is unknown; allowed: {', '.join(ORDERS)}"
        )
    return Job(file, job.order, tuple(_atlases(file, job, overwrite=overwrite)))


def job_tasks(job: Job) -> tuple[LayerTask, ...]:
    """The layers and filters of all atlases, in the order of work: "cheapest" first counts over the whole job.

    Raises:
        JobFileError: an unknown model, a glob that fits no layer, or two atlases that write to the same folder.
    """
    return tuple(task for _, task in _placed_tasks(job))


def check_job(job: Job) -> tuple[LayerTask, ...]:
    """`job_tasks`, once everything that can be checked without weights is in order. Imports jax.

    Raises:
        JobFileError: filters that a layer does not have, settings that do not suit a layer, a file that is missing.
    """
    tasks = _placed_tasks(job)
    for atlas in job.atlases:
        with _said_of(job.file, atlas.place):
            check_files(atlas.request)
    for place, task in tasks:
        with _said_of(job.file, place):
            check_together(task, check_task(task))
    return tuple(task for _, task in tasks)


def _atlases(file: Path, job: JobFile, *, overwrite: bool) -> Iterator[JobAtlas]:
    for number, atlas in enumerate(job.atlas):
        given = _given(job.defaults) | _given(atlas)
        place = place_of(number, given.get("label"))
        with _said_of(file, place):
            folder_path("out", "model", "layer", given.get("label", "label"))  # raises unless it is a file name
            choice = _choice(atlas, given.pop("filters", None), job.order)
            request = render_request(atlas.model, given | {"out": job.out, "overwrite": overwrite})
            yield JobAtlas(place, request, choice)


def _given(table: Struct) -> dict[str, Any]:
    """The options that stand in a table, by name."""
    values = {option.name: getattr(table, option.key_name) for option in OPTIONS if option.in_job_file}
    return {name: value for name, value in values.items() if value is not UNSET}


def _choice(atlas: Atlas, filters: job_schema.Filters | None, order: str) -> LayerChoice:
    """Which layers, and which filters of them."""
    everywhere = [] if filters is None else [("*", _filters(filters))]
    return LayerChoice(
        layers=tuple(atlas.layers),
        exclude=tuple(atlas.exclude),
        filters=(*everywhere, *(_layer_filters(number, layer) for number, layer in enumerate(atlas.layer))),
        order="given" if order == "given" else "network",  # the whole job is sorted, not each atlas
    )


def _layer_filters(number: int, layer: LayerFilters) -> tuple[str, FilterList]:
    try:
        return layer.glob, _filters(layer.filters)
    except RequestError as error:
        raise JobFileError(f"layer.{number}: {for_job_file(error)}") from None


def _filters(value: job_schema.Filters) -> FilterList:
    if isinstance(value, list):
        return tuple(value)
    found = spelling.parse_filters(str(value))
    return found if isinstance(found, str) else tuple(found)


def _placed_tasks(job: Job) -> list[tuple[str, LayerTask]]:
    """(place of the [[atlas]], task) in the order of work."""
    placed: list[tuple[str, LayerTask]] = []
    owners: dict[Path, str] = {}
    for atlas in job.atlases:
        with _said_of(job.file, atlas.place):
            tasks = atlas_tasks(atlas.request, atlas.choice)
            for task in tasks:
                other = owners.setdefault(task.folder, atlas.place)
                if other is not atlas.place:
                    raise ConfigError(
                        f"layer {task.layer!r} of {task.request.model} goes to the same folder, label "
                        f"{task.request.folder_name!r}, as that of {other}; give one of them another label"
                    )
            placed += [(atlas.place, task) for task in tasks]
    if job.order == "cheapest":
        placed.sort(key=lambda item: task_macs(item[1]) * item[1].request.config.steps)
    return placed


@contextmanager
def _said_of(file: Path, place: str) -> Iterator[None]:
    """What is wrong with a table, as one message that names it, in the words of the file."""
    try:
        yield
    except RequestError as error:
        raise JobFileError(f"{file}: {place}: {_shortened(for_job_file(error))}") from error


def _shortened(message: str) -> str:
    """A message without what a page of nonsense in the file would make of it."""
    return job_schema.short(re.sub(r"(\S{150})\S{50,}", r"\1...", message), LONGEST_MESSAGE)

"""What a run would be refused for only once weights are there, or pictures are: looked for before anything else.

Beside `task.check_task`, for whoever renders for hours. No weights are needed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from jaxviz.errors import ConfigError
from jaxviz.files import current_folder
from jaxviz.jobs.task import LayerTask, RenderRequest, check_task
from jaxviz.render.shard import Shard


def check_tasks(tasks: Sequence[LayerTask], shard: Shard | None = None) -> list[int]:
    """Check all tasks of a run, and that they do not stand in each other's way; pictures of each. Imports jax.

    Raises:
        RequestError: the run would be refused, sooner or later.
    """
    for request in {id(task.request): task.request for task in tasks}.values():
        check_files(request)
    counts = []
    seen: set[Path] = set()
    for task in tasks:
        filters = check_task(task)
        check_together(task, filters)
        counts.append(len(filters) * task.request.replicas)
        if task.folder in seen:
            raise ConfigError(f"two tasks write to {task.folder}; give one of them another `label`")
        seen.add(task.folder)
        if shard is not None and task.request.overwrite:
            raise ConfigError(
                f"`overwrite` with `shard` {shard} would let shards replace each other's pictures; remove the folder "
                "first, or choose another label, `label` LABEL"
            )
    return counts


def check_files(request: RenderRequest) -> None:
    """Files that are read, and a folder that is made, only when work begins.

    Raises:
        ConfigError: one is not there or is something else.
    """
    for name, path, is_there, kind in (
        ("weights", request.weights, Path.is_file, "file"),
        ("vectors", request.objective.vectors, Path.is_file, "file"),
        ("images", request.images, Path.is_dir, "folder"),
    ):
        try:
            found = path is None or is_there(path)
        except OSError as error:  # such as a name that is too long
            raise ConfigError(f"cannot be a {kind}: {error.strerror}", argument=name, value=str(path)) from error
        if not found:
            raise ConfigError(
                f"is no {kind}; paths are relative to the current folder, {current_folder()}",
                argument=name,
                value=str(path),
            )
    try:
        for folder in (request.out, *request.out.parents):
            if folder.exists() and not folder.is_dir():
                raise ConfigError(
                    f"leads to {folder}, which is a file; give a folder", argument="out", value=str(request.out)
                )
    except OSError as error:
        raise ConfigError(f"cannot be a folder: {error.strerror}", argument="out", value=str(request.out)) from error
    if request.judge and request.images is None and importlib.util.find_spec("skimage") is None:
        raise ConfigError(
            "`judge` needs natural images: give a folder of them, `images`, or install scikit-image: "
            "pip install 'jaxviz-atlas[natural]'"
        )


def check_together(task: LayerTask, filters: tuple[int, ...]) -> None:
    """Settings that do not go together at this layer; `filters` are those of `check_task`. Imports jax.

    Raises:
        ConfigError: the objective does not suit the layer or the pictures, the batch does not hold whole groups, or
            the animated grid is larger than its format.
    """
    from jaxviz.render.plan import whole_units

    request, config = task.request, task.request.config
    objective = request.objective_value
    task.network.route(task.layer, config.size, before_softmax=objective.before_softmax)
    if objective.couples and config.batch_size != "auto":
        whole_units(int(config.batch_size), request.replicas, automatic=False)
    if request.judge or (request.judge is None and request.images is not None):
        _check_judged(task)
    if request.animate == "webp":
        _check_animation(task, len(filters) * request.replicas)


def _check_judged(task: LayerTask) -> None:
    """The objective suits the picture, which may be smaller than the image that was optimised."""
    request, config = task.request, task.request.config
    height, width = config.picture_size
    shape = task.network.layer(task.layer, (height, width)).shape
    if 0 in shape:
        raise ConfigError(
            f"a picture of {height}x{width} px leaves an empty map at layer {task.layer!r} and cannot be judged; give "
            "a smaller `crop`, or judge no pictures"
        )
    request.objective_value.check(shape, task.layer)


def _check_animation(task: LayerTask, pictures: int) -> None:
    from jaxviz.pictures import images
    from jaxviz.pictures.animation import LARGEST_WEBP_PX

    side = images.grid_columns(pictures) * (max(task.request.config.picture_size) + images.GRID_MARGIN_PX)
    if side - images.GRID_MARGIN_PX > LARGEST_WEBP_PX:
        raise ConfigError(
            f"`animate` 'webp' holds at most {LARGEST_WEBP_PX} px; the grid of layer {task.layer!r} would "
            f'have {side - images.GRID_MARGIN_PX}. Give animate = "gif" or fewer filters'
        )

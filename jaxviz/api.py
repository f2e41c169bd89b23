"""READ FIRST: the main jobs. A model, a layer and some filters become pictures; many layers become an atlas.

    render_layer -> plan_render: checks everything, fixes the batch size N and the recipe (plan.py)
                 -> iter_pictures: batches of exactly N climb (ascent.py) and become pictures (render.py)
    render_atlas -> run_tasks: the same, layer by layer, into folders that a later run can trust (atlas.py)

Any `Model` will do: `load_model`, `Model.from_flax`, `Model.from_callable`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxviz.ascent.algebra import Objective
from jaxviz.config import RenderConfig
from jaxviz.errors import DeviceMemoryError
from jaxviz.jobs.atlas import run_tasks
from jaxviz.jobs.events import Event, LayerDone, Report
from jaxviz.jobs.task import FilterList, LayerChoice, ObjectiveRequest, RenderRequest, atlas_tasks
from jaxviz.network.model import Model
from jaxviz.render.batches import iter_pictures
from jaxviz.render.plan import Plan, plan_render, smaller_batch
from jaxviz.render.recipe import Picture
from jaxviz.render.request import Filters
from jaxviz.render.shard import parse_shard
from jaxviz.store.result import LayerResult


def render_layer(
    model: Model,
    layer: str,
    filters: Filters = None,
    config: RenderConfig | None = None,
    *,
    objective: Objective | None = None,
    replicas: int = 1,
    snapshots: Sequence[int] = (),
    initial_images: Any = None,
) -> LayerResult:
    """The pictures of some filters of a layer, all with one compilation.

    Args:
        model: from `load_model` or `Model.from_callable`.
        layer: a name in `model.layers`.
        filters: distinct filter numbers, "all", or None for the first 64.
        config: how; default `RenderConfig.keras()`.
        objective: what to maximise, from `jaxviz.ascent.objectives`; default the mean of the filter, `Channel()`.
        replicas: pictures of each filter, from different noise; with `Diversity` in the objective they differ more.
        snapshots: steps after which the picture is kept too, such as (1, 8, 32); 0 is the start.
        initial_images: float32 (filters, height, width, 3) in model space to start from instead of noise, for the
            parameterization "pixel"; with replicas, those of the first filter come first.

    Raises:
        RequestError: UnknownLayerError, FilterError or ConfigError, all before anything is compiled.
        EnvironmentFailure: JAX has no device to start on.
        DeviceMemoryError: the batch does not fit the device, and its size was given or cannot be smaller. An
            automatic one is made smaller, the layer starts again, and the log (logger `jaxviz`) says so.
    """
    plan = plan_render(
        model, layer, filters, config,
        objective=objective, replicas=replicas, snapshots=snapshots, initial_images=initial_images,
    )  # fmt: skip
    while True:
        try:
            finished = {(item.filter_index, item.replica): item for item in iter_pictures(plan)}
            return LayerResult(tuple(finished[key] for key in plan.wanted), plan)
        except DeviceMemoryError as error:
            plan = smaller_batch(plan, error)


def iter_render(
    model: Model,
    layer: str,
    filters: Filters = None,
    config: RenderConfig | None = None,
    *,
    objective: Objective | None = None,
    replicas: int = 1,
    snapshots: Sequence[int] = (),
    initial_images: Any = None,
) -> Iterator[Picture]:
    """`render_layer` as a stream: pictures come as their batches finish, and memory stays flat.

    They come in the order asked for, but for filters that needed another attempt: those come later. While you look at
    the pictures of one batch, the next one is computed already, and no more than that.
    """
    plan = plan_render(
        model, layer, filters, config,
        objective=objective, replicas=replicas, snapshots=snapshots, initial_images=initial_images,
    )  # fmt: skip
    return _with_smaller_batches(plan)


def visualize_filter(
    model: Model, layer: str, filter_index: int, config: RenderConfig | None = None
) -> tuple[float, UInt8[np.ndarray, "height width 3"]]:
    """One filter's (score, picture): the same picture that `render_layer` gives it.

    For that it computes a whole batch; `RenderConfig.keras(batch_size=1)` computes one image only.
    """
    (item,) = iter_render(model, layer, [filter_index], config)
    return item.score, item.picture


def render_atlas(
    model: Model,
    layers: str | Sequence[str] = (),
    out: str | Path = "out",
    *,
    config: RenderConfig | None = None,
    filters: FilterList = "all",
    exclude: Sequence[str] = (),
    objective: Objective | None = None,
    label: str | None = None,
    replicas: int = 1,
    snapshots: Sequence[int] = (),
    judge: bool | None = None,
    images: str | Path | None = None,
    overwrite: bool = False,
    order: str = "cheapest",
    shard: str | None = None,
    report: Report | None = None,
) -> tuple[LayerDone, ...]:
    """Pictures of many layers of any network, on disk: what `jaxviz atlas` does, resumable in the same way.

    Args:
        model: from `load_model`, `Model.from_callable` or `Model.from_flax`.
        layers: names or globs of names; none: every convolution.
        out: the folder above all; pictures go to out/model/layer/label.
        config: how; default `RenderConfig.keras()`.
        filters: of each layer: "all", or filter numbers, of which a layer must have all.
        exclude: globs of layers to leave out.
        objective: what to maximise; default the mean of the filter.
        label: name of the folders; None: the preset's name.
        replicas: pictures of each filter.
        snapshots: steps after which the picture is kept too.
        judge: put pictures beside natural images; None: where they are at hand, for all presets but `keras`.
        images: a folder of natural images; None: those that scikit-image ships.
        overwrite: render again, and replace another recipe's pictures.
        order: of the layers: "cheapest" first, "network" or "given".
        shard: "I/N": render only this part.
        report: is told what happens, see events.py.

    Returns:
        A summary of each layer, in the order of work.

    Raises:
        RequestError: before anything is rendered.
        FolderInUseError, StorageError, DeviceMemoryError: what is written is whole; the same call goes on from there.

    Example:
        >>> done = render_atlas(model, ["conv*"], "out", config=RenderConfig.distill())  # doctest: +SKIP
        >>> [one.counts for one in done]  # doctest: +SKIP
    """
    request = RenderRequest(
        model=model.name,
        config=config or RenderConfig.keras(),
        out=Path(out),
        label=label,
        objective=ObjectiveRequest(given=objective),
        replicas=replicas,
        snapshots=tuple(snapshots),
        judge=judge,
        images=None if images is None else Path(images),
        overwrite=overwrite,
        given=model,
    )
    globs = (layers,) if isinstance(layers, str) else tuple(layers)
    chosen = filters if filters is None or isinstance(filters, str) else tuple(filters)
    tasks = atlas_tasks(request, LayerChoice(globs, tuple(exclude), (("*", chosen),), order))
    done = run_tasks(tasks, report or _say_nothing, shard=None if shard is None else parse_shard(shard))
    return tuple(done)


def _with_smaller_batches(plan: Plan) -> Iterator[Picture]:
    """`iter_pictures`, starting again with a smaller batch as long as nothing has been given out."""
    given = False
    while True:
        try:
            for picture in iter_pictures(plan):
                given = True
                yield picture
        except DeviceMemoryError as error:
            if given:
                raise
            plan = smaller_batch(plan, error)
        else:
            return


def _say_nothing(event: Event) -> None:
    """For whoever does not listen."""

"""READ FIRST: the main job. A model, a layer and some filters become pictures.

    render_layer -> plan_render: checks everything, fixes the batch size N and the recipe
                 -> iter_pictures: cuts the filters into batches of exactly N, lets each climb (ascent.py),
                    and turns final images into pictures (images.py), a batch at a time, in flat memory

Every call of the compiled function has the same N, the last one padded, because the libraries underneath
choose other kernels for another N and the ascent amplifies their rounding. So the picture of a filter does
not depend on its neighbours, its place, or a rerun.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float32, UInt8
from PIL import Image

from jaxviz import ascent, batch_size, images, storage
from jaxviz.config import RenderConfig
from jaxviz.devices import batch_devices, ran_out_of_memory
from jaxviz.errors import ConfigError, DeviceMemoryError
from jaxviz.models.model import Model, check_layer
from jaxviz.objectives import Channel
from jaxviz.parameterizations import Pixel
from jaxviz.recipe import Picture, Recipe, Status
from jaxviz.request import Filters, check_request, checked_images

log = logging.getLogger("jaxviz")


@dataclass(frozen=True)
class Plan:
    """A checked request: what `iter_pictures` will render."""

    model: Model
    layer: str
    filters: tuple[int, ...]
    config: RenderConfig
    recipe: Recipe
    initial_images: Float32[np.ndarray, "filters height width 3"] | None = None
    automatic_batch: bool = False  # whether the batch size may shrink


@dataclass(frozen=True)
class LayerResult:
    """The pictures of one layer, in the order the filters were asked for."""

    items: tuple[Picture, ...]
    recipe: Recipe
    config: RenderConfig

    @property
    def filters(self) -> tuple[int, ...]:
        """The filters."""
        return tuple(item.filter_index for item in self.items)

    @cached_property
    def pictures(self) -> UInt8[np.ndarray, "filters height width 3"]:
        """RGB pictures; a dead or nan filter has a labelled placeholder tile."""
        return np.stack([item.picture for item in self.items])

    @cached_property
    def scores(self) -> Float32[np.ndarray, " filters"]:
        """The plain objective on each final image."""
        return np.array([item.score for item in self.items], np.float32)

    @cached_property
    def history(self) -> Float32[np.ndarray, "filters steps"]:
        """What was optimised, before each step."""
        return np.stack([item.history for item in self.items])

    @property
    def status(self) -> tuple[Status, ...]:
        """`ok`, `dead` or `nan` for each filter."""
        return tuple(item.status for item in self.items)

    def grid(
        self, *, columns: int | None = None, numbers: bool = False, margin_px: int = images.GRID_MARGIN_PX
    ) -> Image.Image:
        """All pictures in one image, with a black margin; `numbers` writes the filter into each corner."""
        shown = self.filters if numbers else None
        sheet = images.grid(list(self.pictures), columns=columns, numbers=shown, margin_px=margin_px)
        return Image.fromarray(sheet)

    def save(self, out: str | Path, *, name: str | None = None, overwrite: bool = False) -> Path:
        """Write PNGs, `grid.png` and `layer.json` to OUT/<model>/<layer>/<name> and return that folder.

        `name` is the preset's by default. Pictures of the same recipe that are there already are kept.

        Raises:
            OutputFolderError: the folder holds another recipe's pictures and `overwrite` is False.
            StorageError: the disk is full or read-only.
        """
        folder = storage.LayerFolder.open(
            out, self.recipe, label=self.config.preset if name is None else name, overwrite=overwrite
        )
        for item in self.items:
            if item.filter_index not in folder.done:
                folder.write(item)
        folder.finish(device=device_name())
        return folder.path


def render_layer(
    model: Model,
    layer: str,
    filters: Filters = None,
    config: RenderConfig | None = None,
    *,
    initial_images: Any = None,
) -> LayerResult:
    """The pictures of some filters of a layer, all with one compilation.

    Args:
        model: from `load_model` or `Model.from_callable`.
        layer: a name in `model.layers`.
        filters: distinct filter numbers, "all", or None for the first 64.
        config: how; default `RenderConfig.keras()`.
        initial_images: float32 (filters, height, width, 3) in model space to start from instead of noise.

    Raises:
        RequestError: UnknownLayerError, FilterError or ConfigError, all before anything is compiled.
        DeviceMemoryError: the batch does not fit the device, and its size was given or cannot be smaller. An
            automatic one is made smaller, the layer starts again, and the log (logger `jaxviz`) says so.
    """
    plan = plan_render(model, layer, filters, config, initial_images=initial_images)
    while True:
        try:
            return LayerResult(tuple(iter_pictures(plan)), plan.recipe, plan.config)
        except DeviceMemoryError as error:
            plan = smaller_batch(plan, error)


def iter_render(
    model: Model,
    layer: str,
    filters: Filters = None,
    config: RenderConfig | None = None,
    *,
    initial_images: Any = None,
) -> Iterator[Picture]:
    """`render_layer` as a stream: pictures come as their batches finish, and memory stays flat."""
    return _with_smaller_batches(plan_render(model, layer, filters, config, initial_images=initial_images))


def visualize_filter(
    model: Model, layer: str, filter_index: int, config: RenderConfig | None = None
) -> tuple[float, UInt8[np.ndarray, "height width 3"]]:
    """One filter's (score, picture): the same picture that `render_layer` gives it.

    For that it computes a whole batch; `RenderConfig.keras(batch_size=1)` computes one image only.
    """
    (item,) = iter_render(model, layer, [filter_index], config)
    return item.score, item.picture


def plan_render(
    model: Model,
    layer: str,
    filters: Filters = None,
    config: RenderConfig | None = None,
    *,
    initial_images: Any = None,
) -> Plan:
    """Check a request and fix its batch size and recipe; nothing is compiled. Raises as `render_layer` does."""
    config = config or RenderConfig.keras()
    check_layer(model.name, layer, model.layers)
    if config.dtype != "float32" and not hasattr(model.forward, "fast"):
        raise ConfigError(
            f"dtype {config.dtype!r} is for jaxviz's own networks; {model.name} computes in the types of its own "
            "weights and forward. Leave dtype at 'float32'"
        )
    shape, per_device = _examined(model, layer, config)
    chosen = check_request(layer, shape, filters, config)
    start = None if initial_images is None else checked_images(initial_images, len(chosen), config)
    recipe = Recipe(
        model=model.name,
        weights_sha256=model.weights_sha256,
        layer=layer,
        objective=Channel.name,
        config=config.numbers(),
        batch_size=per_device,
        initial_images_sha256=None if start is None else hashlib.sha256(start.tobytes()).hexdigest(),
    )
    return Plan(model, layer, chosen, config, recipe, start, automatic_batch=config.batch_size == "auto")


def iter_pictures(plan: Plan, *, on_compiled: Callable[[float], None] | None = None) -> Iterator[Picture]:
    """Render a plan, a batch at a time; `on_compiled` is told the seconds that tracing and compiling took."""
    if not plan.filters:
        return
    per_device = plan.recipe.batch_size
    mesh = ascent.batch_mesh(batch_devices(calls=-(-len(plan.filters) // per_device)))
    with _memory_errors(plan):
        forward, weights = ascent.bind(
            plan.model.forward,
            plan.model.weights,
            plan.layer,
            platform=mesh.devices.flat[0].platform,
            dtype=plan.config.dtype,
        )
        weights = jax.block_until_ready(jax.device_put(weights, NamedSharding(mesh, PartitionSpec())))
    size = per_device * mesh.size
    for first in range(0, len(plan.filters), size):
        wanted = plan.filters[first : first + size]
        padding = (0, size - len(wanted))
        starts = None
        if plan.initial_images is not None:
            starts = np.pad(plan.initial_images[first : first + size], (padding, (0, 0), (0, 0), (0, 0)), mode="edge")
        filter_indices = np.pad(np.array(wanted, np.int32), padding, mode="edge")
        with _memory_errors(plan):
            call = _prepared_call(plan, mesh, forward, weights, filter_indices, starts)
            if first == 0:  # later, what is free says little: part of it is this run's
                _compile(plan, call, on_compiled)
            batch = jax.device_get(call())
        for place, filter_index in enumerate(wanted):
            yield _picture(plan, filter_index, batch, place)


def smaller_batch(plan: Plan, error: DeviceMemoryError) -> Plan:
    """The plan with a batch that should fit, after it did not; its pictures are another recipe's.

    Raises:
        DeviceMemoryError: the error itself, where the size was asked for or cannot be smaller.
    """
    before = plan.recipe.batch_size
    fits = min(before // 2, error.fits)
    if not plan.automatic_batch or fits < 1:
        raise error
    log.warning(
        "%s %s: a batch of %d does not fit the memory of %s; starting the layer again with %d",
        plan.model.name, plan.layer, before, device_name(), fits,
    )  # fmt: skip
    return dataclasses.replace(plan, recipe=dataclasses.replace(plan.recipe, batch_size=fits))


def device_name() -> str:
    """The default device in words, for the record."""
    device = jax.devices()[0]
    return f"{device.platform}: {device.device_kind} ({platform.machine()})"


def _prepared_call(
    plan: Plan,
    mesh: Mesh,
    forward: ascent.Forward,
    weights: Any,
    filter_indices: np.ndarray,
    starts: np.ndarray | None,
) -> partial[ascent.Ascent]:
    """A call of the compiled function with its arguments on the devices."""
    config = plan.config
    parameterization = Pixel(config.initial_range)
    split = NamedSharding(mesh, PartitionSpec(ascent.BATCH_AXIS))
    indices = jax.device_put(filter_indices, split)
    parameters = (
        ascent.initial_parameters(jnp.uint32(config.seed), indices, parameterization=parameterization, size=config.size)
        if starts is None
        else jax.device_put(starts, split)
    )
    return partial(
        ascent.compiled(mesh.devices.flat[0].platform),
        weights,
        indices,
        parameters,
        jnp.float32(config.step_size),
        forward=forward,
        layer=plan.layer,
        objective=Channel(config.activation_border),
        parameterization=parameterization,
        steps=config.steps,
        mesh=mesh,
    )


def _compile(plan: Plan, call: partial[ascent.Ascent], on_compiled: Callable[[float], None] | None) -> None:
    """Compile ahead, tell how long it took, and raise DeviceMemoryError if the batch cannot fit."""
    started = time.perf_counter()
    devices = list(call.keywords["mesh"].devices.flat)
    ascend = ascent.compiled(devices[0].platform)
    program = ascend.lower(*call.args, **call.keywords).compile()  # jit finds it when called
    if on_compiled is not None:
        on_compiled(time.perf_counter() - started)
    fits = batch_size.largest_that_fits(program, plan.recipe.batch_size, devices)
    if fits < plan.recipe.batch_size:
        raise _does_not_fit(plan, fits)


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
    try_next = f"try --batch-size {fits} or a smaller --size" if fits else "give a smaller --size"
    return DeviceMemoryError(
        f"batch_size (--batch-size) {plan.recipe.batch_size} with images of {size} px does not fit the memory of "
        f"{device_name()}; {try_next}",
        fits=fits,
    )


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


def _picture(plan: Plan, filter_index: int, batch: Any, place: int) -> Picture:
    image, history, score = batch.images[place], batch.history[place], float(batch.scores[place])
    finite = bool(np.isfinite(score) and np.isfinite(history).all() and np.isfinite(image).all())
    status: Status = "nan" if not finite else "ok" if batch.has_gradient[place] else "dead"
    config = plan.config
    if status == "ok":
        picture = images.deprocess(image, crop=config.crop, contrast=config.contrast)
    else:
        picture = images.placeholder(*config.picture_size, filter_index=filter_index, status=status)
    return Picture(filter_index, picture, score, history, status, plan.recipe)


def _examined(model: Model, layer: str, config: RenderConfig) -> tuple[tuple[int, ...], int]:
    """(shape of one image's activation: (height, width, channels) or (channels,), batch size)."""
    image = jax.ShapeDtypeStruct((1, *config.size, 3), jnp.float32)
    traced = _activation.trace(model.weights, image, forward=model.forward, layer=layer)
    abstract = traced.out_info
    shape: tuple[int, ...] = getattr(abstract, "shape", ())
    if len(shape) not in (2, 4) or shape[0] != 1:
        raise ConfigError(
            f"layer {layer!r} of {model.name} gives {abstract}; forward must return "
            "(batch, height, width, channels) or (batch, channels)"
        )
    if config.batch_size != "auto":
        return shape[1:], config.batch_size
    return shape[1:], batch_size.automatic(traced.lower(), _needed_weights(model, layer))


@partial(jax.jit, static_argnames=("forward", "layer"))
def _activation(weights: Any, images: jax.Array, *, forward: ascent.Forward, layer: str) -> Any:
    return forward(weights, images, layer)


def _needed_weights(model: Model, layer: str) -> Any:
    """The weights that a layer rests on, as far as one can know."""
    graph = getattr(model.forward, "graph", None)
    if graph is None:
        return model.weights
    return {row.name: model.weights[row.name] for row in graph.path_to(layer) if row.name in model.weights}

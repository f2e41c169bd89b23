"""READ FIRST: the main job. A model, a layer and some filters become pictures.

    render_layer -> plan_render: checks everything, fixes the batch size N and the recipe
                 -> iter_pictures: cuts the filters into batches of exactly N, lets each climb (ascent.py),
                    and turns final images into pictures (images.py), a batch at a time, in flat memory

Every call of the compiled function has the same N, the last one padded, because the libraries underneath
choose other kernels for another N and the ascent amplifies their rounding. So the picture of a filter does
not depend on its neighbours, its place, or a rerun.
"""

from __future__ import annotations

import hashlib
import operator
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float32, UInt8
from PIL import Image

from jaxviz import ascent, images, storage
from jaxviz.config import RenderConfig
from jaxviz.devices import batch_devices, ran_out_of_memory
from jaxviz.errors import ConfigError, DeviceMemoryError, FilterError
from jaxviz.models.model import Model, check_layer
from jaxviz.objectives import Channel
from jaxviz.parameterizations import Pixel
from jaxviz.recipe import Picture, Recipe, Status

DEFAULT_FILTERS = 64  # the seed's grid is 8 x 8
# Images per device and call. A CPU is fastest while a batch's activations stay in its cache; an accelerator
# needs a whole layer at once to be busy.
AUTO_BATCH = {"cpu": 4, "accelerator": 64}

Filters = Iterable[int] | Literal["all"] | None


@dataclass(frozen=True)
class Plan:
    """A checked request: what `iter_pictures` will render."""

    model: Model
    layer: str
    filters: tuple[int, ...]
    config: RenderConfig
    recipe: Recipe
    initial_images: Float32[np.ndarray, "filters height width 3"] | None = None


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
        DeviceMemoryError: the batch does not fit the device.
    """
    plan = plan_render(model, layer, filters, config, initial_images=initial_images)
    return LayerResult(tuple(iter_pictures(plan)), plan.recipe, plan.config)


def iter_render(
    model: Model,
    layer: str,
    filters: Filters = None,
    config: RenderConfig | None = None,
    *,
    initial_images: Any = None,
) -> Iterator[Picture]:
    """`render_layer` as a stream: pictures come as their batches finish, and memory stays flat."""
    return iter_pictures(plan_render(model, layer, filters, config, initial_images=initial_images))


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
    if config.dtype != "float32" and not hasattr(model.forward, "prepare"):
        raise ConfigError(
            f"dtype {config.dtype!r} is for jaxviz's own networks; {model.name} computes in the types of its own "
            "weights and forward. Leave dtype at 'float32'"
        )
    chosen = check_request(layer, _activation_shape(model, layer, config), filters, config)
    start = None if initial_images is None else _checked_images(initial_images, len(chosen), config)
    recipe = Recipe(
        model=model.name,
        weights_sha256=model.weights_sha256,
        layer=layer,
        objective=Channel.name,
        config=config.numbers(),
        batch_size=auto_batch_size() if config.batch_size == "auto" else config.batch_size,
        initial_images_sha256=None if start is None else hashlib.sha256(start.tobytes()).hexdigest(),
    )
    return Plan(model, layer, chosen, config, recipe, start)


def check_request(layer: str, activation: tuple[int, ...], filters: Filters, config: RenderConfig) -> tuple[int, ...]:
    """The filters to render, once they, the border and the image size suit the layer's activation.

    `activation` is (height, width, channels) or (channels,) of one image. Raises FilterError or ConfigError.
    """
    size = f"{config.size[0]}x{config.size[1]}"
    if 0 in activation:
        raise ConfigError(
            f"image_size (--size) {size} leaves an empty activation {activation} at layer {layer!r}; "
            "give a larger --size"
        )
    border = config.activation_border
    if len(activation) == 3 and border and min(activation[:2]) <= 2 * border:
        raise ConfigError(
            f"activation_border {border} leaves nothing of the {activation[0]}x{activation[1]} map of layer {layer!r} "
            f"at --size {size}; give --activation-border {(min(activation[:2]) - 1) // 2} or less"
        )
    return _checked_filters(filters, activation[-1], layer)


def iter_pictures(plan: Plan, *, on_compiled: Callable[[float], None] | None = None) -> Iterator[Picture]:
    """Render a plan, a batch at a time; `on_compiled` is told the seconds that tracing and compiling took."""
    if not plan.filters:
        return
    per_device = plan.recipe.batch_size
    mesh = ascent.batch_mesh(batch_devices(calls=-(-len(plan.filters) // per_device)))
    weights = jax.device_put(plan.model.weights, NamedSharding(mesh, PartitionSpec()))
    size = per_device * mesh.size
    for first in range(0, len(plan.filters), size):
        wanted = plan.filters[first : first + size]
        padding = (0, size - len(wanted))
        starts = None
        if plan.initial_images is not None:
            starts = np.pad(plan.initial_images[first : first + size], (padding, (0, 0), (0, 0), (0, 0)), mode="edge")
        filter_indices = np.pad(np.array(wanted, np.int32), padding, mode="edge")
        batch = _ascend(plan, mesh, weights, filter_indices, starts, on_compiled if first == 0 else None)
        for place, filter_index in enumerate(wanted):
            yield _picture(plan, filter_index, batch, place)


def auto_batch_size() -> int:
    """Images per device and call on this machine's default device."""
    return AUTO_BATCH["cpu" if jax.default_backend() == "cpu" else "accelerator"]


def device_name() -> str:
    """The default device in words, for the record."""
    device = jax.devices()[0]
    return f"{device.platform}: {device.device_kind} ({platform.machine()})"


def _ascend(
    plan: Plan,
    mesh: Mesh,
    weights: Any,
    filter_indices: np.ndarray,
    starts: np.ndarray | None,
    on_compiled: Callable[[float], None] | None,
) -> Any:
    """One call of the compiled function: an `ascent.Ascent` of NumPy arrays."""
    config = plan.config
    parameterization = Pixel(config.initial_range)
    split = NamedSharding(mesh, PartitionSpec(ascent.BATCH_AXIS))
    indices = jax.device_put(filter_indices, split)
    try:
        parameters = (
            ascent.initial_parameters(
                jnp.uint32(config.seed), indices, parameterization=parameterization, size=config.size
            )
            if starts is None
            else jax.device_put(starts, split)
        )
        arguments = (weights, indices, parameters, jnp.float32(config.step_size))
        options = {
            "forward": plan.model.forward,
            "layer": plan.layer,
            "objective": Channel(config.activation_border),
            "parameterization": parameterization,
            "steps": config.steps,
            "mesh": mesh,
            "dtype": config.dtype,
        }
        if on_compiled is not None:
            started = time.perf_counter()
            ascent.ascend.lower(*arguments, **options).compile()  # jit finds it when called
            on_compiled(time.perf_counter() - started)
        batch = ascent.ascend(*arguments, **options)
        return jax.device_get(batch)
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if ran_out_of_memory(error):
            size = plan.recipe.batch_size
            raise DeviceMemoryError(
                f"batch_size (--batch-size) {size} with images of {config.size[0]}x{config.size[1]} px does not fit "
                f"the memory of {device_name()}; try --batch-size {max(1, size // 2)} or a smaller --size"
            ) from error
        raise


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


def _activation_shape(model: Model, layer: str, config: RenderConfig) -> tuple[int, ...]:
    """Shape of one image's activation: (height, width, channels) or (channels,)."""
    image = jax.eval_shape(lambda: jnp.zeros((1, *config.size, 3)))
    abstract = jax.eval_shape(lambda weights, images: model.forward(weights, images, layer), model.weights, image)
    shape: tuple[int, ...] = getattr(abstract, "shape", ())
    if len(shape) not in (2, 4) or shape[0] != 1:
        raise ConfigError(
            f"layer {layer!r} of {model.name} gives {abstract}; forward must return "
            "(batch, height, width, channels) or (batch, channels)"
        )
    return shape[1:]


def _checked_filters(filters: Filters, channels: int, layer: str) -> tuple[int, ...]:
    if filters is None:
        return tuple(range(min(DEFAULT_FILTERS, channels)))
    if isinstance(filters, str):
        if filters == "all":
            return tuple(range(channels))
        raise FilterError(f"filters {filters!r} is neither filter numbers nor 'all'")
    try:
        chosen = tuple(operator.index(number) for number in filters)
    except TypeError as error:
        raise FilterError(f"filters {filters!r} are not whole numbers, such as range(64) or [3, 7]") from error
    if not chosen or len(set(chosen)) < len(chosen):
        raise FilterError(f"filters {list(chosen)!r} must be distinct filter numbers, at least one")
    outside = [number for number in chosen if not 0 <= number < channels]
    if outside:
        raise FilterError(
            f"filters (--filters) {outside[0]} is out of range; layer {layer!r} has {channels} filters, "
            f"0-{channels - 1}. Type for example: --filters 0-{min(63, channels - 1)}"
        )
    return chosen


def _checked_images(initial_images: Any, count: int, config: RenderConfig) -> Float32[np.ndarray, "count h w 3"]:
    images_given = np.asarray(initial_images, np.float32)
    expected = (count, *config.size, 3)
    if images_given.shape != expected:
        raise ConfigError(
            f"initial_images has shape {images_given.shape}; for {count} filters at image_size "
            f"{config.size[0]}x{config.size[1]} it must be {expected}, in model space"
        )
    return images_given

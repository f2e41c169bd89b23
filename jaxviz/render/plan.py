"""A request, checked and fixed: filters, objective, transforms, batch size N, kernels, recipe. Nothing is compiled."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
import platform
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from jaxtyping import Float32

from jaxviz.ascent import transforms
from jaxviz.ascent.algebra import Objective
from jaxviz.ascent.objectives import Channel
from jaxviz.ascent.parameterizations import PARAMETERIZATIONS
from jaxviz.config import RenderConfig
from jaxviz.errors import ConfigError, DeviceMemoryError
from jaxviz.machine import check_backend, cpu_name
from jaxviz.network.model import Model
from jaxviz.network.rules import kernels as kernel_sets
from jaxviz.render import batch_size
from jaxviz.render.recipe import LayerFacts, Recipe
from jaxviz.render.request import Filters, check_replicas, check_request, checked_images, checked_snapshots
from jaxviz.render.shard import Shard

log = logging.getLogger("jaxviz")


@dataclass(frozen=True)
class Unit:
    """Images that ascend together: one filter with the replicas that influence each other, nearly always one."""

    filter_index: int
    replicas: tuple[int, ...] = (0,)
    attempt: int = 0
    starts: Float32[np.ndarray, "replicas height width channels"] | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """A checked request: what `iter_pictures` will render, in this order."""

    model: Model
    layer: str
    filters: tuple[int, ...]
    replicas: int
    units: tuple[Unit, ...]
    config: RenderConfig
    objective: Objective
    transforms: tuple[transforms.Transform, ...]
    recipe: Recipe
    seen_size: tuple[int, int]  # of what the transforms make of an image
    snapshots: tuple[int, ...] = ()  # steps after which the picture is kept
    automatic_batch: bool = False  # whether the batch size may shrink

    @property
    def facts(self) -> LayerFacts:
        """What the network says of the layer."""
        layer, layers = self.model.layer(self.layer, self.config.size), self.model.layers
        place, count = layers.index(self.layer) + 1, len(layers) + len(self.model.head)
        return LayerFacts(layer.kind, layer.channels, place, count, layer.receptive_field)

    @property
    def wanted(self) -> tuple[tuple[int, int], ...]:
        """(filter, replica) of every picture."""
        return tuple((unit.filter_index, replica) for unit in self.units for replica in unit.replicas)

    def shard(self, shard: Shard, place: int) -> Plan:
        """A shard's part of the layer at this place in the job: whole batches, dealt out in turn.

        It depends on the recipe and the job only, so that processes agree on it without speaking.
        """
        per_call = self.recipe.batch_size // self.recipe.replicas
        mine = (shard.index - 1 - place) % shard.count
        units = [unit for at, unit in enumerate(self.units) if at // per_call % shard.count == mine]
        return dataclasses.replace(self, units=tuple(units))

    def without(self, done: Any) -> Plan:
        """The plan less the units whose pictures, (filter, replica), are all in `done`."""
        left = [
            unit for unit in self.units if any((unit.filter_index, replica) not in done for replica in unit.replicas)
        ]
        return dataclasses.replace(self, units=tuple(left))


def plan_render(
    model: Model,
    layer: str,
    filters: Filters = None,
    config: RenderConfig | None = None,
    *,
    objective: Objective | None = None,
    replicas: int = 1,
    snapshots: Any = (),
    initial_images: Any = None,
    kernels: str | None = None,
) -> Plan:
    """Check a request and fix its batch size and recipe. Arguments and errors are those of `render_layer`.

    `kernels`: the set of the pictures that are there already; None: the one that the configuration means here.
    """
    check_backend()
    config = config or RenderConfig.keras()
    objective = Channel(config.activation_border) if objective is None else objective
    chain = transforms.from_specs(config.transforms)
    views, *seen = transforms.output_size(chain, config.size)
    _check_preprocess(model, config)
    shape = activation_shape(model, layer, config.size, objective)
    chosen = check_request(layer, shape, filters, config, objective)
    if tuple(seen) != config.size:
        objective.check(activation_shape(model, layer, (seen[0], seen[1]), objective), layer)
    check_replicas(replicas)
    for slow in model.slow_convolutions(layer, config.size):
        log.info("%s %s has no fast gradient for %s", model.name, layer, slow)
    starts = None
    if initial_images is not None:
        starts = checked_images(initial_images, len(chosen) * replicas, config, model.channels)
    together = replicas if objective.couples else 1
    automatic = config.batch_size == "auto"
    if automatic:
        per_device = batch_size.automatic(
            macs=views * model.layer(layer, (seen[0], seen[1])).macs,
            weights=model.needed_weights(layer, config.size),
            pixels=math.prod((views, *seen)),
        )
    else:
        per_device = int(config.batch_size)
    images = whole_units(per_device, together, automatic=automatic)
    recipe = recipe_of(model, layer, config, objective, batch_size=images, replicas=replicas, kernels=kernels)
    if starts is not None:
        recipe = msgspec.structs.replace(recipe, initial_images_sha256=hashlib.sha256(starts.tobytes()).hexdigest())
    return Plan(
        model=model,
        layer=layer,
        filters=chosen,
        replicas=replicas,
        units=_units(chosen, replicas, together, starts),
        config=config,
        objective=objective,
        transforms=chain,
        recipe=recipe,
        seen_size=(seen[0], seen[1]),
        snapshots=checked_snapshots(snapshots, config),
        automatic_batch=automatic,
    )


def recipe_of(
    model: Model,
    layer: str,
    config: RenderConfig,
    objective: Objective,
    *,
    batch_size: int,
    replicas: int = 1,
    kernels: str | None = None,
) -> Recipe:
    """What decides the pictures of a request that starts from noise; nothing is traced for it.

    `kernels` is that of `plan_render`.
    """
    if kernels is None:
        automatic = config.kernels == "auto"
        kernels = kernel_sets.automatic(jax.default_backend()) if automatic else kernel_sets.LAX
    return Recipe(
        model=model.name,
        weights_sha256=model.weights_sha256,
        layer=layer,
        objective=objective.to_data(),
        config=config.numbers(),
        batch_size=batch_size,
        kernels=kernels,
        replicas=replicas if objective.couples else 1,
        forward_sha256=model.forward_sha256(layer, config.size),
    )


def activation_shape(model: Model, layer: str, size: tuple[int, int], objective: Objective) -> tuple[int, ...]:
    """(height, width, channels) or (channels,) of what an objective scores. Raises ConfigError."""
    return model.route(layer, size, before_softmax=objective.before_softmax).shape


def smaller_batch(plan: Plan, error: DeviceMemoryError) -> Plan:
    """The plan with a batch that should fit, after it did not; its pictures are another recipe's.

    Raises:
        DeviceMemoryError: the error itself, where the size was asked for or cannot be smaller.
    """
    before, together = plan.recipe.batch_size, plan.recipe.replicas
    fits = min(before // 2, error.fits) // together * together
    if not plan.automatic_batch or fits < 1:
        raise error
    log.warning(
        "%s %s: a batch of %d does not fit the memory of %s; starting the layer again with %d",
        plan.model.name, plan.layer, before, device_name(), fits,
    )  # fmt: skip
    return dataclasses.replace(plan, recipe=msgspec.structs.replace(plan.recipe, batch_size=fits))


def why_not_here(recipe: Recipe) -> str | None:
    """In words why no picture of a recipe can be rendered on this machine; None: it can."""
    return kernel_sets.why_not(recipe.kernels, jax.default_backend())


def device_name() -> str:
    """The default device in words, for the record."""
    device = jax.devices()[0]
    kind = cpu_name() if device.platform == "cpu" else device.device_kind
    return f"{device.platform}: {kind} ({platform.machine()})"


def _check_preprocess(model: Model, config: RenderConfig) -> None:
    """Raise unless jax can trace the model's `preprocess`, where the image goes through it at every step."""
    if not PARAMETERIZATIONS[config.parameterization].is_rgb:
        return
    image = jax.ShapeDtypeStruct((*config.size, model.channels), jnp.float32)
    try:
        traced = jax.eval_shape(model.preprocess, image)
    except jax.errors.JAXTypeError as error:
        raise ConfigError(
            f"preprocess of {model.name} cannot be traced by jax, which parameterization {config.parameterization!r} "
            "needs; write it with operators or jax.numpy"
        ) from error
    if getattr(traced, "shape", None) != image.shape:
        raise ConfigError(f"preprocess of {model.name} gives {traced} for an image of {image.shape}; keep its shape")


def whole_units(images: int, together: int, *, automatic: bool) -> int:
    """A batch size that holds whole units of so many replicas. Raises ConfigError where a given one does not."""
    if automatic:
        return max(images // together, 1) * together
    if images % together:
        raise ConfigError(
            f"`batch_size` {images} does not hold whole groups of {together} replicas, which diversity "
            f"couples; give a multiple of {together}"
        )
    return images


def _units(
    filters: tuple[int, ...], replicas: int, together: int, starts: Float32[np.ndarray, "images h w channels"] | None
) -> tuple[Unit, ...]:
    units = []
    for place, filter_index in enumerate(filters):
        for first in range(0, replicas, together):
            at = place * replicas + first
            given = None if starts is None else starts[at : at + together]
            units.append(Unit(filter_index, tuple(range(first, first + together)), starts=given))
    return tuple(units)

"""The compiled loop: one batch of images climbs together, each towards its own filter.

`step` below is one step written as an equation; `ascend` is jit + shard_map + scan of it. Weights, filters, keys and
numbers are arguments of the compiled function, so one compilation serves every filter of a layer and nothing of the
network is baked in. Everything is per image: key, transforms, norm, update, rescue. float32.

A unit is one filter with the replicas that influence each other (objectives.Diversity); nearly always one image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Integer, Key

from jaxviz.ascent import transforms
from jaxviz.ascent.algebra import Objective
from jaxviz.ascent.optimizers import make_optimizer
from jaxviz.ascent.parameterizations import Parameterization
from jaxviz.ascent.regularizers import penalty
from jaxviz.ascent.scoring import Head, affine_head, unit_scores
from jaxviz.machine import compiler_options
from jaxviz.network.head import Route
from jaxviz.network.model import Model
from jaxviz.network.program import Prepared
from jaxviz.network.rules import Settings
from jaxviz.network.rules.kernels import LAX

# Purposes folded into a filter's key, so that adding one never changes another's numbers.
INITIAL_IMAGE, TRANSFORMS = 0, 1
BATCH_AXIS = "batch"  # the mesh's only axis
_PROGRAMS: dict[tuple[str, str], Any] = {}  # (platform, set of kernels) -> `ascend` under jit

Scalar = np.float32 | jax.Array


@dataclass(frozen=True)
class Loop:
    """What is compiled in: another value of any of these is another compilation.

    `seen` and `final` are from `bind`: how the layer is reached from what the transforms make of an image, and from
    the image itself. `penalized`: whether any of the numbers tv, l1 and l2 is above 0. `snapshots`: steps after which
    the image is kept, ascending; 0 is the starting image.
    """

    seen: Route
    final: Route
    steps: int
    mesh: Mesh
    transforms: tuple[transforms.Transform, ...] = ()
    optimizer: str = "normalized"
    penalized: bool = False
    rescue_steps: int = 0
    snapshots: tuple[int, ...] = ()


class Numbers(NamedTuple):
    """Numbers that are not compiled in."""

    step_size: Scalar
    tv: Scalar = np.float32(0)
    l1: Scalar = np.float32(0)
    l2: Scalar = np.float32(0)


class Ascent(NamedTuple):
    """A batch after the loop; every array's first axes are unit and replica.

    images: final images, RGB in [0, 1] where the parameterization is of RGB, else model space. scores: the plain
    objective on them. history: what was optimised, before each step. has_gradient: whether any step's gradient of
    the objective was other than exactly zero, on the network's own gradient. snapshots: like images.
    """

    images: Float[Array, "units replicas height width channels"]
    scores: Float[Array, "units replicas"]
    history: Float[Array, "units replicas steps"]
    has_gradient: Bool[Array, "units replicas"]
    snapshots: Float[Array, "units replicas snapshots height width channels"]


@jax.jit
def unit_keys(
    seed: Integer[Array, ""],
    filter_indices: Integer[Array, " units"],
    replicas: Integer[Array, "units replicas"],
    attempts: Integer[Array, " units"],
) -> Key[Array, "units replicas"]:
    """The keys of a batch: from seed, filter, replica and attempt, not from the layer or the place in the batch."""

    def unit(filter_index: Array, replicas: Array, attempt: Array) -> Array:
        return jax.vmap(lambda replica: filter_key(seed, filter_index, replica, attempt))(replicas)

    return jax.vmap(unit)(filter_indices, replicas, attempts)


def filter_key(
    seed: Integer[Array, ""], filter_index: Integer[Array, ""], replica: Any = 0, attempt: Any = 0
) -> Key[Array, ""]:
    """The key of one image's ascent. threefry, because `rbg` draws other numbers under vmap."""
    key = jax.random.key(seed, impl="threefry2x32")
    for number in (filter_index, replica, attempt):
        key = jax.random.fold_in(key, number)
    return key


@jax.jit
def initial_parameters(keys: Key[Array, "units replicas"], parameterization: Parameterization) -> Any:
    """Starting image parameters, one set for each key."""
    with jax.threefry_partitionable(True):  # as in `ascend`
        return _per_image(lambda key: parameterization.init(jax.random.fold_in(key, INITIAL_IMAGE)))(keys)


def bind(
    model: Model,
    layer: str,
    sizes: Sequence[tuple[int, int]],
    settings: Settings,
    *,
    before_softmax: bool = False,
    weights: Any = None,
) -> tuple[tuple[Route, ...], Prepared]:
    """How a layer is reached from images of these sizes, and the arrays that this takes in place of weights.

    What depends on weights alone is computed here, once, from `weights` where they are given.
    """
    routes = tuple(model.route(layer, size, settings, before_softmax=before_softmax) for size in sizes)
    constants = [route.whole.graph.trace.constants for route in routes]
    arrays = [list(found.values()) for found in constants]
    return routes, _prepare(model.weights if weights is None else weights, arrays, routes=routes)


@partial(jax.jit, static_argnames="routes")
def _prepare(weights: Any, constants: list[list[Any]], *, routes: tuple[Route, ...]) -> Prepared:
    prepared: Prepared = {}
    for route, arrays in zip(routes, constants, strict=True):
        prepared |= route.prepare(weights, arrays)
    return prepared


def ascend(
    prepared: Prepared,
    filter_indices: Integer[Array, " units"],
    keys: Key[Array, "units replicas"],
    parameters: Any,
    numbers: Numbers,
    objective: Objective,
    parameterization: Parameterization,
    *,
    loop: Loop,
) -> Ascent:
    """Optimise a batch of units, unit i for `filter_indices[i]`.

    `parameters` is a pytree of arrays (units, replicas, ...), `prepared` comes from `bind`. The batch is split over the
    mesh's one axis; each device runs the same program on its share, with a copy of the weights and nothing to
    exchange, so that an image does not depend on the number of devices. To be called through `compiled`.
    """
    whole, split = PartitionSpec(), PartitionSpec(BATCH_AXIS)
    in_specs = (whole, split, split, split, whole, whole, whole)
    climb = jax.shard_map(
        partial(_climb, loop=loop), mesh=loop.mesh, in_specs=in_specs, out_specs=split, check_vma=False
    )
    with jax.threefry_partitionable(True):  # with it off, what the caller may have set, a key draws other bits
        return climb(prepared, filter_indices, keys, parameters, numbers, objective, parameterization)


def _climb(
    prepared: Prepared,
    filter_indices: Array,
    keys: Array,
    parameters: Any,
    numbers: Numbers,
    objective: Objective,
    parameterization: Parameterization,
    *,
    loop: Loop,
) -> Ascent:
    """One device's share of `ascend`."""
    optimizer = make_optimizer(loop.optimizer)
    to_images = _per_image(parameterization.to_image)
    to_final = _per_image(getattr(parameterization, "to_rgb", parameterization.to_image))
    size = parameterization.size
    seen_heads = _heads(loop.seen, prepared, objective, filter_indices)

    def gradients_of(images: Array, number: Array, *, redirected: bool) -> tuple[Array, Array]:
        """(scores, gradients at the images) of all units, through this step's transforms."""

        def unit(filter_index: Array, head: Head | None, keys: Array, images: Array) -> tuple[Array, Array]:
            def total(images: Array) -> tuple[Array, Array]:
                views = jax.vmap(lambda key, image: _transformed(loop, key, image, number))(keys, images)
                scores = unit_scores(loop.seen, prepared, objective, filter_index, head, views, redirected=redirected)
                return scores.sum(), scores

            (_, scores), gradients = jax.value_and_grad(total, has_aux=True)(images)
            return scores, gradients

        return jax.vmap(unit)(filter_indices, seen_heads, keys, images)

    def step(carry: tuple[Any, Any, Array, Array], number: Array) -> tuple[tuple[Any, Any, Array, Array], Array]:
        x, state, has_gradient, snapshots = carry
        images, pull_back = jax.vjp(to_images, x)
        scores, gradients = gradients_of(images, number, redirected=False)
        # The barrier keeps XLA from computing the gradient's last layer for each use of it.
        gradients = jax.lax.optimization_barrier(gradients)
        own = jnp.sum(jnp.abs(gradients), axis=(2, 3, 4)) != 0
        if loop.rescue_steps:
            stuck = ~own & (number < loop.rescue_steps)

            def rescue(gradients: Array) -> Array:
                _, redirected = gradients_of(images, number, redirected=True)
                return jnp.where(stuck[:, :, None, None, None], redirected, gradients)

            gradients = jax.lax.cond(jnp.any(stuck), rescue, lambda gradients: gradients, gradients)
        if loop.penalized:
            weighted = partial(penalty, tv=numbers.tv, l1=numbers.l1, l2=numbers.l2)
            penalties, pulls = _per_image(jax.value_and_grad(weighted))(images)
            scores, gradients = scores - penalties, gradients - pulls
        (direction,) = pull_back(gradients)
        updates, state = _per_image(optimizer.update)(direction, state)
        x = jax.tree.map(lambda value, update: value + numbers.step_size * update, x, updates)
        snapshots = _snapshot(loop, snapshots, lambda: to_final(x), number + 1)
        return (x, state, has_gradient | own, snapshots), scores

    nothing = jnp.zeros((len(loop.snapshots), *keys.shape, *size, parameterization.channels), jnp.float32)
    start = (
        parameters,
        _per_image(optimizer.init)(parameters),
        jnp.zeros(keys.shape, bool),
        _snapshot(loop, nothing, lambda: to_final(parameters), 0),
    )
    (x, _, has_gradient, snapshots), history = jax.lax.scan(step, start, jnp.arange(loop.steps, dtype=jnp.int32))

    plain = objective.plain()
    same = not loop.transforms and plain is objective
    heads = seen_heads if same else _heads(loop.final, prepared, plain, filter_indices)
    score = partial(unit_scores, loop.final, prepared, plain)
    scores = jax.vmap(score)(filter_indices, heads, to_images(x)[:, :, None])
    return Ascent(to_final(x), scores, jnp.moveaxis(history, 0, 2), has_gradient, jnp.moveaxis(snapshots, 0, 2))


def _per_image(function: Any) -> Any:
    """A function of one image's arrays for those of all units and replicas."""
    return jax.vmap(jax.vmap(function))


def _heads(route: Route, prepared: Prepared, objective: Objective, filter_indices: Array) -> Head | None:
    """`affine_head` of every unit."""
    heads: Head | None = jax.vmap(lambda index: affine_head(route, prepared, objective, index))(filter_indices)
    return heads


def _transformed(loop: Loop, key: Array, image: Array, number: Array) -> Float[Array, "views height width channels"]:
    """What the network sees of an image at a step."""
    if not loop.transforms:
        return image[None]
    drawn = jax.random.fold_in(jax.random.fold_in(key, TRANSFORMS), number)
    return transforms.apply(loop.transforms, drawn, image)


def _snapshot(loop: Loop, snapshots: Array, images: Any, number: Any) -> Array:
    """The snapshots, with the images in place if they are wanted after this many steps."""
    if not loop.snapshots:
        return snapshots
    wanted = jnp.array(loop.snapshots, jnp.int32) == number

    def keep(snapshots: Array) -> Array:
        updated: Array = jax.lax.dynamic_update_index_in_dim(snapshots, images(), jnp.argmax(wanted), 0)
        return updated

    kept: Array = jax.lax.cond(wanted.any(), keep, lambda snapshots: snapshots, snapshots)
    return kept


def compiled(platform: str, kernels: str = LAX) -> Any:
    """`ascend` under jit with the options that XLA is given for a set of kernels; `.lower(...)` as usual."""
    if (platform, kernels) not in _PROGRAMS:
        options = compiler_options(platform, onednn=kernels != LAX)
        _PROGRAMS[platform, kernels] = jax.jit(ascend, static_argnames="loop", compiler_options=options)
    return _PROGRAMS[platform, kernels]


def forget_programs() -> None:
    """Free the compiled programs of this process; what is needed again is compiled again, or read from the disk."""
    programs: tuple[Any, ...] = (*_PROGRAMS.values(), _prepare)
    for program in programs:
        program.clear_cache()


def batch_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """The one-axis mesh that a batch is split over."""
    return Mesh(np.array(devices), (BATCH_AXIS,))

"""The compiled loop: one batch of images climbs together, each towards its own filter.

`climb` is one image's ascent written as an equation; `ascend` is jit + shard_map + vmap of it. The weights and the
filter indices are arguments of the compiled function, so one compilation serves every filter of a layer and nothing
of the network is baked in. Everything is per image: key, norm, update. float32, model space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Integer

from jaxviz.objectives import Channel
from jaxviz.parameterizations import Pixel

# Keras's l2_normalize: g * rsqrt(max(sum(g * g), epsilon)), keras/src/backend/tensorflow/nn.py
NORM_EPSILON = 1e-12
# Purposes folded into a filter's key, so that adding one never changes another's numbers.
INITIAL_IMAGE = 0
BATCH_AXIS = "batch"  # the mesh's only axis

Forward = Callable[[Any, Any, str], Any]  # (weights, images, layer) -> activation


class Ascent(NamedTuple):
    """A batch after the loop; every array's first axis is the image.

    images: final images in model space. scores: the objective on them. history: the objective before each
    step. has_gradient: whether any step's gradient was other than exactly zero.
    """

    images: Float[Array, "batch height width 3"]
    scores: Float[Array, " batch"]
    history: Float[Array, "batch steps"]
    has_gradient: Bool[Array, " batch"]


@partial(jax.jit, static_argnames=("parameterization", "size"))
def initial_parameters(
    seed: Integer[Array, ""],
    filter_indices: Integer[Array, " batch"],
    *,
    parameterization: Pixel,
    size: tuple[int, int],
) -> Float[Array, "batch height width 3"]:
    """Starting image parameters: drawn from the seed and the filter, not from the layer or the batch."""

    def draw(filter_index: Integer[Array, ""]) -> Array:
        key = filter_key(seed, filter_index)
        return parameterization.init(jax.random.fold_in(key, INITIAL_IMAGE), size)

    return jax.vmap(draw)(filter_indices)


def filter_key(seed: Integer[Array, ""], filter_index: Integer[Array, ""], replica: int = 0, attempt: int = 0) -> Array:
    """The key of one filter's ascent. threefry, because `rbg` draws other numbers under vmap."""
    key = jax.random.key(seed, impl="threefry2x32")
    for number in (filter_index, replica, attempt):
        key = jax.random.fold_in(key, number)
    return key


@partial(jax.jit, static_argnames=("forward", "layer", "objective", "parameterization", "steps", "mesh", "dtype"))
def ascend(
    weights: Any,
    filter_indices: Integer[Array, " batch"],
    parameters: Float[Array, "batch height width 3"],
    step_size: Float[Array, ""],
    *,
    forward: Forward,
    layer: str,
    objective: Channel,
    parameterization: Pixel,
    steps: int,
    mesh: Mesh,
    dtype: str = "float32",
) -> Ascent:
    """Optimise a batch of images, image i for `filter_indices[i]`, by normalised gradient ascent.

    The batch is split over the mesh's one axis; each device runs the same program on its share, with a copy of the
    weights and nothing to exchange, so that an image does not depend on the number of devices.
    """

    def share(weights: Any, filter_indices: Array, parameters: Array, step_size: Array) -> Ascent:
        # What the network needs for its input gradient is computed here, once, and not in the loop.
        prepare = getattr(forward, "prepare", None)
        run, prepared = prepare(weights, layer, platform=platform, dtype=dtype) if prepare else (forward, weights)

        def climb(filter_index: Integer[Array, ""], start: Array) -> Ascent:
            def score(image_parameters: Array) -> Array:
                image = parameterization.to_image(image_parameters)
                return objective(run(prepared, image[None], layer)[0], filter_index)

            def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
                x, has_gradient = carry
                value, gradient = jax.value_and_grad(score)(x)
                direction = gradient * jax.lax.rsqrt(jnp.maximum(jnp.sum(gradient * gradient), NORM_EPSILON))
                return (x + step_size * direction, has_gradient | jnp.any(gradient != 0)), value

            (x, has_gradient), history = jax.lax.scan(step, (start, jnp.array(False)), length=steps)
            return Ascent(parameterization.to_image(x), score(x), history, has_gradient)

        return jax.vmap(climb)(filter_indices, parameters)

    platform = mesh.devices.flat[0].platform
    split = PartitionSpec(BATCH_AXIS)
    in_specs = (PartitionSpec(), split, split, PartitionSpec())
    return jax.shard_map(share, mesh=mesh, in_specs=in_specs, out_specs=split, check_vma=False)(
        weights, filter_indices, parameters, step_size
    )


def batch_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """The one-axis mesh that a batch is split over."""
    return Mesh(np.array(devices), (BATCH_AXIS,))

"""The compiled loop: one batch of images climbs together, each towards its own filter.

`climb` is one image's ascent written as an equation; `ascend` is jit + shard_map + vmap of it. The weights and the
filter indices are arguments of the compiled function, so one compilation serves every filter of a layer and nothing
of the network is baked in. Everything is per image: key, norm, update. float32, model space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Integer

from jaxviz.devices import compiler_options
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


def bind(forward: Forward, weights: Any, layer: str, *, platform: str, dtype: str = "float32") -> tuple[Forward, Any]:
    """What `ascend` runs to reach a layer, and the weights it takes: the platform's fast path, where there is one.

    What a fast path computes from the weights for its input gradients is computed here, once.
    """
    fast = getattr(forward, "fast", None)
    if fast is None:
        return forward, weights
    run = fast(layer, platform=platform, dtype=dtype)
    return run, _prepare(weights, forward=run)


@partial(jax.jit, static_argnames="forward")
def _prepare(weights: Any, *, forward: Any) -> Any:
    return forward.prepare(weights)


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
) -> Ascent:
    """Optimise a batch of images, image i for `filter_indices[i]`, by normalised gradient ascent.

    `forward` and `weights` come from `bind`. The batch is split over the mesh's one axis; each device runs the same
    program on its share, with a copy of the weights and nothing to exchange, so that an image does not depend on the
    number of devices. To be called through `compiled`.
    """

    def share(weights: Any, filter_indices: Array, parameters: Array, step_size: Array) -> Ascent:
        def climb(filter_index: Integer[Array, ""], start: Array) -> Ascent:
            score_image = _scorer(forward, weights, layer, objective, filter_index, start[None].shape)

            def score(image_parameters: Array) -> Array:
                return score_image(parameterization.to_image(image_parameters))

            def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
                x, has_gradient = carry
                value, gradient = jax.value_and_grad(score)(x)
                # The barrier keeps XLA from computing the gradient's last layer for each use of it.
                gradient = jax.lax.optimization_barrier(gradient)
                direction = gradient * jax.lax.rsqrt(jnp.maximum(jnp.sum(gradient * gradient), NORM_EPSILON))
                return (x + step_size * direction, has_gradient | (jnp.sum(jnp.abs(gradient)) != 0)), value

            (x, has_gradient), history = jax.lax.scan(step, (start, jnp.array(False)), length=steps)
            return Ascent(parameterization.to_image(x), score(x), history, has_gradient)

        return jax.vmap(climb)(filter_indices, parameters)

    split = PartitionSpec(BATCH_AXIS)
    in_specs = (PartitionSpec(), split, split, PartitionSpec())
    return jax.shard_map(share, mesh=mesh, in_specs=in_specs, out_specs=split, check_vma=False)(
        weights, filter_indices, parameters, step_size
    )


def _scorer(
    forward: Any, weights: Any, layer: str, objective: Channel, filter_index: Array, shape: tuple[int, ...]
) -> Callable[[Array], Array]:
    """The score of one image as a function of it.

    Where objective and target are affine in a layer below, their gradient there is one constant array, computed here,
    once: score = sum(gradient * activation below) + score of zeros. So the target itself is never computed.
    """
    below = forward.below_affine(layer) if objective.is_linear and hasattr(forward, "below_affine") else None
    if below is None:
        return lambda image: objective(forward(weights, image[None], layer)[0], filter_index)
    activation = jax.eval_shape(
        lambda images: forward(weights, images, below), jax.ShapeDtypeStruct(shape, jnp.float32)
    )

    def score_above(activation: Array) -> Array:
        return objective(forward.above(weights, activation, below, layer)[0], filter_index)

    at_zero, pull_back = jax.vjp(score_above, jnp.zeros(activation.shape))
    (gradient,) = pull_back(jnp.ones(()))
    return lambda image: jnp.sum(forward(weights, image[None], below) * gradient) + at_zero


@lru_cache(maxsize=8)
def compiled(platform: str) -> Any:
    """`ascend` under jit with the options that XLA is given on a platform; `.lower(...)` as usual."""
    static = ("forward", "layer", "objective", "parameterization", "steps", "mesh")
    return jax.jit(ascend, static_argnames=static, compiler_options=compiler_options(platform))


def batch_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """The one-axis mesh that a batch is split over."""
    return Mesh(np.array(devices), (BATCH_AXIS,))

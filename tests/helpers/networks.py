"""Small networks written as plain functions, and the ways in which one is run: by itself, replayed, with rules.

Weights are dicts of arrays drawn from a seed, images (batch, height, width, channels).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxviz.network.jaxprs import trace
from jaxviz.network.naming import NamedGraph
from jaxviz.network.program import Program
from jaxviz.network.rules import Settings

NHWC, NCHW = ("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW")
PLAIN, FAST = Settings(rules=False), Settings()
QUICKLY = {"xla_backend_optimization_level": 0}  # compiles in a quarter of the time; the same operations


def normal(seed: int, *shape: int, scale: float = 1.0) -> jax.Array:
    """Normal numbers."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) * scale, jnp.float32)


def kernel(seed: int, *shape: int) -> jax.Array:
    """A kernel (height, width, in, out) or (in, out) that keeps the size of numbers."""
    return normal(seed, *shape, scale=1 / math.sqrt(math.prod(shape[:-1])))


def conv(
    x: jax.Array,
    kernel: jax.Array,
    stride: int | tuple[int, int] = 1,
    pads: Any = "SAME",
    *,
    groups: int = 1,
    dilation: tuple[int, int] = (1, 1),
) -> jax.Array:
    """Channels last."""
    strides = (stride, stride) if isinstance(stride, int) else stride
    found: jax.Array = lax.conv_general_dilated(
        x, kernel, strides, pads, rhs_dilation=dilation, dimension_numbers=NHWC, feature_group_count=groups
    )
    return found


def graph_of(
    forward: Callable[[Any, jax.Array], Any], weights: Any, size: tuple[int, int] = (8, 8), channels: int = 3
) -> NamedGraph:
    """A network, traced."""
    return NamedGraph(trace(forward, weights, (*size, channels)))


def last(graph: NamedGraph) -> Any:
    """What a network returns."""
    (output,) = graph.trace.outputs.values()
    return output


def prepared(program: Program, weights: Any) -> dict[str, jax.Array]:
    """What a program takes."""
    return program.prepare(weights, list(program.graph.trace.constants.values()))


def runner(program: Program, *, redirected: bool = False) -> Callable[[Any, jax.Array], jax.Array]:
    """`run(prepared, images) -> activation` of a program with one target, for a batch."""

    def run(arrays: Any, images: jax.Array) -> jax.Array:
        return jax.vmap(lambda image: program.run(arrays, [image], redirected=redirected)[0])(images)

    return run


def values_and_gradients(
    ways: list[tuple[Callable[[Any, jax.Array], jax.Array], Any]], images: jax.Array
) -> list[tuple[jax.Array, jax.Array]]:
    """(activation, gradient of the images) of each (run, arrays), for one cotangent, compiled as one."""
    run, arrays = ways[0]
    cotangent = normal(99, *jax.eval_shape(run, arrays, images).shape)

    def all_of_them(arrays: list[Any], images: jax.Array, cotangent: jax.Array) -> Any:
        found = []
        for (run, _), its_arrays in zip(ways, arrays, strict=True):
            value, pull_back = jax.vjp(lambda x, run=run, its=its_arrays: run(its, x), images)
            found.append((value, pull_back(cotangent.astype(value.dtype))[0]))
        return found

    compiled = jax.jit(all_of_them, compiler_options=QUICKLY)
    return compiled([arrays for _, arrays in ways], images, cotangent)


def distance(ours: jax.Array, theirs: jax.Array) -> float:
    """Relative, of Euclidean norms."""
    assert ours.shape == theirs.shape
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert np.isfinite(ours).all()
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))

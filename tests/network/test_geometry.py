"""Which axis is which behind a reshape or a product, in networks with channels first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from helpers.networks import NCHW, graph_of, kernel, last, normal
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxviz.network.program import canonical_shape

pytestmark = pytest.mark.quick

SIZE = (9, 7)
KERNEL = jnp.transpose(kernel(0, 3, 3, 3, 8), (3, 2, 0, 1))


def behind(change: Callable[[jax.Array], Any]) -> Callable[[Any, jax.Array], Any]:
    """A convolution of 8 channels on an image of 9 x 7, and what changes its axes."""

    def forward(weights: Any, images: jax.Array) -> Any:
        x = jnp.transpose(images, (0, 3, 1, 2))
        x = lax.conv_general_dilated(x, weights, (1, 1), "SAME", dimension_numbers=NCHW)
        return change(checkpoint_name(x, "conv"))

    return forward


def shuffle(x: jax.Array) -> jax.Array:
    return jnp.swapaxes(x.reshape(1, 2, 4, *x.shape[2:]), 1, 2).reshape(x.shape)


def rows_by(matrix: jax.Array) -> Callable[[jax.Array], jax.Array]:
    return lambda x: jnp.swapaxes(lax.dot_general(x, matrix, (((2,), (1,)), ((), ()))), 2, 3)


@pytest.mark.parametrize(
    ("change", "axes", "field"),
    [
        (shuffle, (2, 3, 1), (3, 3)),
        (lambda x: x.reshape(1, 2, 4, 9, 7), (3, 4, None), (3, 3)),
        (rows_by(normal(0, 5, 9)), (2, 3, 1), None),
        (lambda x: x.reshape(1, -1), (None, None, 1), None),
    ],
    ids=["shuffled", "split", "rows by a matrix", "flattened"],
)
def test_axes_are(change, axes, field):
    graph = graph_of(behind(change), KERNEL, SIZE)
    found = graph.geometry.get(last(graph))
    assert (found[:3], found.field) == (axes, field)


@pytest.mark.parametrize(
    "change",
    [lambda x: x.reshape(1, 8, 63), lambda x: x.reshape(1, 8, 3, 3, 7), lambda x: x.reshape(1, 4, 2 * 9, 7)],
    ids=["rows and columns joined", "rows split", "rows and channels joined"],
)
def test_axes_that_are_mixed_are_not_known(change):
    graph = graph_of(behind(change), KERNEL, SIZE)
    assert last(graph) not in graph.geometry


def test_taps_without_channels_are_no_layers_where_convolutions_have_them_first():
    def change(x: jax.Array) -> jax.Array:
        tokens = checkpoint_name(x.reshape(1, 8, 63), "tokens")
        windows = checkpoint_name(x.reshape(1, 4, 18, 7), "windows")
        return tokens.sum() + windows.sum() + checkpoint_name(shuffle(x), "shuffled").sum()

    graph = graph_of(behind(change), KERNEL, SIZE)
    assert list(graph.layers) == ["conv", "shuffled"]
    assert canonical_shape(graph, graph.layers["shuffled"]) == (9, 7, 8)

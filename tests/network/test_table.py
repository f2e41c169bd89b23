"""What is said of layers: kinds, sizes, receptive fields and costs as counted by hand, and what is slow and why."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from helpers.networks import NHWC, conv, graph_of, kernel, last, normal
from jax import lax

from jaxviz.network.table import describe, slow_convolutions

pytestmark = pytest.mark.quick


def network(w: Any, x: jax.Array) -> jax.Array:
    """All kinds of layers, of images (16, 12, 3)."""
    x = conv(x, w["stem"]["kernel"], 2) + w["stem"]["bias"]
    x = (x - w["norm"]["mean"]) * (w["norm"]["scale"] * lax.rsqrt(w["norm"]["variance"] + 1e-3)) + w["norm"]["bias"]
    x = jax.nn.relu(x)
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    y = jax.nn.relu6(conv(x, w["depthwise"]["kernel"], groups=8))
    y = conv(y, w["grouped"]["kernel"], groups=2)
    x = jnp.concatenate([x + y, lax.reduce_window(y, 0.0, lax.add, (1, 2, 2, 1), (1, 1, 1, 1), "SAME") / 4], -1)
    x = lax.conv_transpose(x, w["up"]["kernel"], (2, 2), "SAME", dimension_numbers=NHWC)
    x = x * jax.nn.sigmoid(x)
    return jax.nn.softmax(x.mean((1, 2)) @ w["head"]["kernel"] + w["head"]["bias"])


WEIGHTS = {
    "stem": {"kernel": kernel(0, 3, 3, 3, 8), "bias": normal(1, 8)},
    "norm": {name: normal(2, 8) ** 2 for name in ("mean", "scale", "variance", "bias")},
    "depthwise": {"kernel": kernel(3, 3, 3, 1, 8)},
    "grouped": {"kernel": kernel(4, 1, 1, 4, 8)},
    "up": {"kernel": kernel(5, 2, 2, 16, 4)},
    "head": {"kernel": kernel(6, 4, 10), "bias": normal(7, 10)},
}
GRAPH = graph_of(network, WEIGHTS, (16, 12))

STEM = 8 * 6 * 27 * 8  # multiply-adds: cells, what a filter sees, filters
DEPTHWISE = STEM + 4 * 3 * 9 * 8
GROUPED = DEPTHWISE + 4 * 3 * 4 * 8
UP = GROUPED + 4 * 3 * 2 * 2 * 16 * 4  # every cell below goes into a window of 2 by 2
TABLE = [  # name, kind, shape, side of the receptive field, multiply-adds
    ("stem", "conv", (8, 6, 8), 3, STEM),
    ("stem/batch_norm", "batch_norm", (8, 6, 8), 3, STEM),
    ("stem/relu", "relu", (8, 6, 8), 3, STEM),
    ("stem/max_pool", "max_pool", (4, 3, 8), 7, STEM),
    ("depthwise", "depthwise_conv", (4, 3, 8), 15, DEPTHWISE),
    ("depthwise/relu6", "relu6", (4, 3, 8), 15, DEPTHWISE),
    ("grouped", "grouped_conv", (4, 3, 8), 15, GROUPED),
    ("grouped/add", "add", (4, 3, 8), 15, GROUPED),
    ("grouped/avg_pool", "avg_pool", (4, 3, 8), 19, GROUPED),
    ("grouped/concat", "concat", (4, 3, 16), 19, GROUPED),
    ("up", "transposed_conv", (8, 6, 4), 21, UP),
    ("up/silu", "silu", (8, 6, 4), 21, UP),
    ("up/global_avg_pool", "global_avg_pool", (4,), None, UP),
    ("head", "dense", (10,), None, UP + 4 * 10),
    ("head/softmax", "softmax", (10,), None, UP + 4 * 10),
]


def test_table_has_all_layers_in_order():
    assert list(GRAPH.layers) == [name for name, *_ in TABLE]


@pytest.mark.parametrize("row", TABLE, ids=[name for name, *_ in TABLE])
def test_a_layer_is_as_counted_by_hand(row):
    name, kind, shape, field, macs = row
    layer = describe(GRAPH, name, GRAPH.layers[name], GRAPH.kinds)
    assert (layer.kind, layer.shape, layer.receptive_field, layer.macs) == (kind, shape, field, macs)
    assert layer.channels == shape[-1]
    assert layer.size == (shape[:2] if len(shape) == 3 else None)


def test_a_transposed_convolution_is_slow_and_says_so():
    slow = {name: describe(GRAPH, name, value, GRAPH.kinds).slow for name, value in GRAPH.layers.items()}
    assert slow.pop("up") == "it is transposed"
    assert set(slow.values()) == {None}


def _inside_cond(w: Any, x: jax.Array) -> jax.Array:
    return lax.cond(w[0, 0, 0, 0] > 0, lambda x: conv(x, w), lambda x: x, x)


def _long_scan(w: Any, x: jax.Array) -> jax.Array:
    return lax.scan(lambda x, _: (conv(x, w), None), x, None, length=65)[0]


def _custom(w: Any, x: jax.Array) -> jax.Array:
    @jax.custom_vjp
    def block(x):
        return conv(x, w)

    block.defvjp(lambda x: (conv(x, w), x), lambda x, gradient: (gradient + x,))
    return block(x)


def _vectorised(w: Any, x: jax.Array) -> jax.Array:
    rows = x.reshape(1, 8, 24)
    return lax.conv_general_dilated(rows, normal(0, 3, 24, 5), (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))


K = kernel(0, 3, 3, 3, 3)
SLOW = {
    "strided": (lambda w, x: conv(x, w, 2, dilation=(2, 1)), "its kernel is dilated and its stride is not 1"),
    "cut": (lambda w, x: conv(x, w, 1, ((-1, 0), (0, 0))), "it cuts its input"),
    "one dimension": (_vectorised, "it has 1 dimensions"),
    "kernel of the image": (lambda w, x: conv(x, x[0, :3, :3, :, None]), "its kernel depends on the image"),
    "inside cond": (_inside_cond, "it is inside `cond`, which is not opened"),
    "long scan": (_long_scan, "it is inside `scan`, which is not opened"),
    "own derivative": (_custom, "it is inside `block`, which is not opened"),
}  # fmt: skip


@pytest.mark.parametrize("name", SLOW)
def test_a_slow_convolution_is_named_with_its_reason(name):
    forward, reason = SLOW[name]
    graph = graph_of(forward, K)
    assert [found for _, found in slow_convolutions(graph)] == [reason]


@pytest.mark.parametrize("name", ["inside cond", "long scan", "own derivative"])
def test_multiply_adds_inside_what_is_not_opened_count(name):
    graph = graph_of(SLOW[name][0], K)
    assert graph.macs_to(last(graph)) == 8 * 8 * 27 * 3 * (65 if name == "long scan" else 1)


def test_fast_convolutions_are_not_named():
    graph = graph_of(lambda w, x: conv(conv(x, w, dilation=(2, 2)), w, (2, 3)), K)
    assert not list(slow_convolutions(graph))


def test_a_second_name_of_a_value_is_an_identity():
    graph = graph_of(lambda w, x: (lambda y: {"a": y, "b": y})(conv(x, w)), K)
    (a, b) = graph.layers.values()
    assert a is b
    assert describe(graph, "b", b, graph.kinds, is_first=False).kind == "identity"

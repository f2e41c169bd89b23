"""Names of layers: the user's own, else where the kernels live and what follows them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from helpers.networks import conv, graph_of, kernel, normal
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxviz.network.naming import leaf_name

pytestmark = pytest.mark.quick


def names(forward: Any, weights: Any, size: tuple[int, int] = (8, 8), channels: int = 3) -> list[str]:
    return list(graph_of(forward, weights, size, channels).layers)


def plain(w: Any, x: jax.Array) -> jax.Array:
    """A stem, a residual block and a classifier."""
    x = jax.nn.relu(conv(x, w["stem"]["kernel"]) + w["stem"]["bias"])
    y = jax.nn.relu(conv(x, w["block"]["c1"]["kernel"]))
    x = jax.nn.relu(x + conv(y, w["block"]["c2"]["kernel"]))
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return jax.nn.softmax(x.mean((1, 2)) @ w["head"]["kernel"] + w["head"]["bias"])


PLAIN_WEIGHTS = {
    "stem": {"kernel": kernel(0, 3, 3, 3, 4), "bias": normal(1, 4)},
    "block": {"c1": {"kernel": kernel(2, 3, 3, 4, 4)}, "c2": {"kernel": kernel(3, 3, 3, 4, 4)}},
    "head": {"kernel": kernel(4, 4, 5), "bias": normal(5, 5)},
}
PLAIN_NAMES = [
    "stem", "stem/relu", "block.c1", "block.c1/relu", "block.c2", "block.c2/add", "block.c2/relu",
    "block.c2/max_pool", "block.c2/global_avg_pool", "head", "head/softmax",
]  # fmt: skip


def test_layers_are_called_after_their_kernels_and_what_follows_them():
    assert names(plain, PLAIN_WEIGHTS) == PLAIN_NAMES


@pytest.mark.parametrize("size", [(9, 8), (16, 24), (40, 40)])
def test_names_do_not_depend_on_the_size_of_the_image(size):
    assert names(plain, PLAIN_WEIGHTS, size) == PLAIN_NAMES


def test_names_do_not_depend_on_jit_and_checkpoint():
    assert names(jax.jit(jax.checkpoint(plain)), PLAIN_WEIGHTS) == PLAIN_NAMES


def dictionary(w: Any, x: jax.Array) -> Any:
    stem = conv(x, w[0])
    block = jax.nn.relu(conv(stem, w[1]))
    return {"zebra": stem, "apes": {"inner": block, "sum": block + stem}}


TWO = (kernel(0, 3, 3, 3, 4), kernel(1, 3, 3, 4, 4))


def test_a_dict_of_activations_names_all_layers_in_the_networks_own_order():
    assert names(dictionary, TWO) == ["zebra", "apes.inner", "apes.sum"]


def test_a_list_of_activations_is_named_by_places():
    assert names(lambda w, x: [conv(x, w[0]), conv(conv(x, w[0]), w[1])], TWO) == ["0", "1"]


def test_an_output_that_does_not_depend_on_the_image_is_no_layer():
    assert names(lambda w, x: {"conv": conv(x, w[0]), "weight": w[1], "one": 1.0}, TWO) == ["conv"]


def tapped(w: Any, x: jax.Array) -> jax.Array:
    x = checkpoint_name(conv(x, w[0]), "first")
    return jax.nn.relu(checkpoint_name(jax.nn.relu(conv(x, w[1])), "second"))


def test_taps_name_all_layers():
    assert names(tapped, TWO) == ["first", "second"]


def test_taps_count_under_jit_vmap_and_checkpoint():
    def forward(w, images):
        return jax.vmap(jax.jit(jax.checkpoint(lambda image: tapped(w, image[None])[0])))(images)

    assert names(forward, TWO) == ["first", "second"]


def test_activations_that_are_returned_go_before_taps():
    assert names(lambda w, x: {"output": tapped(w, x)}, TWO) == ["output"]


def test_a_tap_that_is_passed_twice_gets_a_counter():
    def forward(w, x):
        for _ in range(2):
            x = checkpoint_name(jax.nn.relu(conv(x, w)), "block")
        return x

    graph = graph_of(forward, kernel(0, 3, 3, 3, 3))
    assert list(graph.layers) == ["block", "block_1"]
    assert len(set(map(id, graph.layers.values()))) == 2


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = linen.Conv(4, (3, 3), name="stem")(x)
        x = linen.relu(linen.BatchNorm(use_running_average=True, name="norm")(x))
        x = linen.max_pool(x, (2, 2), (2, 2))
        x = linen.relu(linen.Conv(4, (3, 3))(x))
        with jax.numpy_dtype_promotion("standard"):  # it divides by whole numbers
            x = linen.avg_pool(x, (2, 2), (2, 2))
        return linen.Dense(5)(x.mean((1, 2)))


LINEN_SHAPES = jax.eval_shape(Linen().init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def test_layers_of_a_linen_module_are_called_as_in_its_weights():
    assert names(Linen().apply, LINEN_SHAPES) == [
        "stem", "stem/batch_norm", "stem/relu", "stem/max_pool", "Conv_0", "Conv_0/relu", "Conv_0/avg_pool",
        "Conv_0/global_avg_pool", "Dense_0",
    ]  # fmt: skip


def test_captured_intermediates_of_a_linen_module_are_its_layers():
    def forward(variables, x):
        return Linen().apply(variables, x, capture_intermediates=True)[1]

    assert names(forward, LINEN_SHAPES) == ["stem", "norm", "Conv_0", "Dense_0", "output"]


class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.c1 = nnx.Conv(4, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + nnx.relu(self.norm(self.c1(x)))


class Nnx(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.stem = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(2)])
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(4, 5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.dropout(x.mean((1, 2))))


def test_layers_of_an_nnx_module_are_called_after_its_attributes():
    module = nnx.eval_shape(lambda: Nnx(nnx.Rngs(0)))
    module.eval()
    definition, state = nnx.split(module)
    assert names(lambda state, x: nnx.merge(definition, state)(x), state) == [
        "stem", "blocks.0.c1", "blocks.0.c1/batch_norm", "blocks.0.c1/relu", "blocks.0.c1/add", "blocks.1.c1",
        "blocks.1.c1/batch_norm", "blocks.1.c1/relu", "blocks.1.c1/add", "blocks.1.c1/global_avg_pool", "head",
    ]  # fmt: skip


def test_layers_of_a_list_of_kernels_and_biases_are_called_by_places():
    def forward(w, x):
        for its_kernel, bias in w:
            x = jax.nn.relu(conv(x, its_kernel) + bias)
        return x

    weights = [(kernel(0, 3, 3, 3, 4), normal(1, 4)), (kernel(2, 3, 3, 4, 5), normal(3, 5))]
    assert names(forward, weights) == ["0", "0/relu", "1", "1/relu"]


def test_a_kernel_that_is_used_twice_gets_a_counter():
    def forward(w, x):
        return jax.nn.relu(conv(jax.nn.relu(conv(x, w["a"])), w["a"]))

    assert names(forward, {"a": kernel(0, 3, 3, 3, 3)}) == ["a", "a/relu", "a_1", "a_1/relu"]


def test_a_kernel_that_the_function_closes_over_leaves_its_kind():
    closed = kernel(0, 3, 3, 3, 3)
    assert names(lambda w, x: jax.nn.relu(conv(conv(x, closed), w)), closed) == ["conv", "conv_1", "conv_1/relu"]


def test_kernels_are_found_behind_casts_turns_and_scales():
    def forward(w, x):
        x = lax.conv_general_dilated(
            x, (w["a"]["weight"].astype(jnp.bfloat16).astype(jnp.float32)).transpose(2, 3, 1, 0) * 2.0, (1, 1), "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        return conv(x, (w["b"]["w"] / jnp.sqrt(w["b"]["norm"])).reshape(1, 1, 4, 5))

    weights = {"a": {"weight": kernel(0, 4, 3, 3, 3)}, "b": {"w": kernel(1, 4, 5), "norm": normal(2, 5) ** 2}}
    assert names(forward, weights) == ["a", "b"]


def test_slices_of_stacked_kernels_are_counted():
    def forward(w, x):
        return lax.scan(lambda x, k: (jax.nn.relu(conv(x, k)), None), x, w["blocks"])[0]

    weights = {"blocks": jnp.stack([kernel(n, 3, 3, 3, 3) for n in range(2)])}
    found = names(forward, weights)
    assert len(found) == len(set(found)) == 4


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("params.stem.kernel", "stem"),
        ("layer1.0.conv1.weight", "layer1.0.conv1"),
        ("kernel", "kernel"),
        ("params.kernel", "kernel"),
        ("stem.kernel.value", "stem"),
        ("params.block.attention.query", "block.attention.query"),
    ],
)
def test_name_of_a_layer_is_its_kernels_path_without_what_says_nothing(path, name):
    assert leaf_name(tuple(jax.tree_util.DictKey(part) for part in path.split("."))) == name


ACTIVATIONS = {
    "relu": jax.nn.relu, "relu6": jax.nn.relu6, "gelu": jax.nn.gelu, "silu": jax.nn.silu, "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh, "hard_swish": jax.nn.hard_swish, "elu": jax.nn.elu, "softmax": jax.nn.softmax,
    "softplus": jax.nn.softplus, "leaky_relu": jax.nn.leaky_relu, "mish": jax.nn.mish,
}  # fmt: skip
WRITTEN_OUT = {
    "relu": lambda x: jnp.maximum(x, 0),
    "relu6": lambda x: jnp.minimum(jnp.maximum(x, 0), 6),
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu of halves": lambda x: 0.5 * x * (1 + lax.erf(x / np.float32(np.sqrt(2)))),
    "silu": lambda x: x * lax.logistic(x),
}


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_an_activation_is_one_layer(kind):
    assert names(lambda w, x: ACTIVATIONS[kind](conv(x, w["a"])), {"a": TWO[0]}) == ["a", f"a/{kind}"]


@pytest.mark.parametrize("kind", WRITTEN_OUT)
def test_an_activation_that_is_written_out_is_one_layer(kind):
    assert names(lambda w, x: WRITTEN_OUT[kind](conv(x, w["a"])), {"a": TWO[0]}) == ["a", f"a/{kind.split()[0]}"]


def test_clip_is_relu6():
    assert names(lambda w, x: jnp.clip(conv(x, w["a"]), 0, 6), {"a": TWO[0]}) == ["a", "a/relu6"]


def test_a_counter_is_free():
    def forward(w, x):
        return conv(conv(conv(x, w["a"]), w["a_1"]), w["a"])

    graph = graph_of(forward, {"a": kernel(0, 3, 3, 3, 3), "a_1": kernel(1, 3, 3, 3, 3)})
    assert list(graph.layers) == ["a", "a_1", "a_2"]


def _channels_first(w: Any, images: jax.Array) -> jax.Array:
    """As Equinox has it: one image at a time, a bias (channels, 1, 1), a norm of groups of channels."""

    def conv_first(x, kernel, bias, groups=1):
        x = lax.conv_general_dilated(
            x[None], kernel, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW"), feature_group_count=groups
        )
        return jnp.squeeze(x, 0) + bias

    def one(x):
        x = conv_first(x, w["a"]["weight"], w["a"]["bias"])
        grouped = x.reshape(2, -1)
        x = (grouped - grouped.mean(1, keepdims=True)).reshape(x.shape)
        x = jax.nn.relu(conv_first(x, w["b"]["weight"], w["b"]["bias"], 2))
        return w["head"]["weight"] @ x.mean((1, 2)) + w["head"]["bias"]

    return jax.vmap(one)(jnp.transpose(images, (0, 3, 1, 2)))


def test_layers_of_one_image_with_channels_first_have_their_biases_and_axes():
    weights = {
        "a": {"weight": normal(0, 4, 3, 3, 3), "bias": normal(1, 4, 1, 1)},
        "b": {"weight": normal(2, 4, 2, 3, 3), "bias": normal(3, 4, 1, 1)},
        "head": {"weight": normal(4, 5, 4), "bias": normal(5, 5)},
    }
    graph = graph_of(_channels_first, weights)
    assert list(graph.layers) == ["a", "b", "b/relu", "b/global_avg_pool", "head"]
    assert [graph.kinds.of(value) for value in graph.layers.values()] == [
        "conv", "grouped_conv", "relu", "global_avg_pool", "dense",
    ]  # fmt: skip
    taken = {name: len(graph.leaves_behind(value)) for name, value in graph.layers.items()}
    assert taken == {"a": 2, "b": 4, "b/relu": 4, "b/global_avg_pool": 4, "head": 6}


def test_a_convolution_that_is_flattened_keeps_its_axes():
    def forward(w, x):
        return conv(x, w["a"]).reshape(1, -1) @ w["b"]

    graph = graph_of(forward, {"a": kernel(0, 3, 3, 3, 4), "b": kernel(1, 256, 5)})
    assert {name: value.shape for name, value in graph.layers.items()} == {"a": (1, 8, 8, 4), "b": (1, 5)}

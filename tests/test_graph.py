"""Network tables: counts, sizes and receptive fields; and that a forward pass stops at its target."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from helpers_tiers import thinned
from jaxviz.models.layers import GraphForward

from jaxviz.models import architecture, list_models

PUBLISHED_PARAMETERS = {  # keras.applications' model.summary(), without top and with; TensorFlow's lite table
    "resnet50v2": (23_564_800, 25_613_800),
    "resnet101v2": (42_626_560, 44_675_560),
    "resnet152v2": (58_331_648, 60_380_648),
    "efficientnet_lite0": (None, 4_694_024),
}


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
@pytest.mark.parametrize("head", [False, True])
def test_parameter_count_is_the_published_one(name, head):
    expected = PUBLISHED_PARAMETERS[name][head]
    if expected is None:
        expected = PUBLISHED_PARAMETERS[name][True] - 1280 * 1000 - 1000
    assert architecture(name, head=head).graph.parameter_count() == expected


def test_resnet50v2_has_190_layers_and_the_input_is_no_target():
    graph = architecture("resnet50v2").graph
    assert len(graph.layers) == 190
    assert len(graph.targets) == 189
    assert "input_layer" not in graph.targets


@thinned("size, name", [(96, 96), (75, 110), (33, 33)], list_models(), every=4)
def test_output_sizes_are_those_of_the_real_activations(name, size):
    graph = architecture(name, head=True).graph
    weights = jax.tree.map(jnp.zeros, graph.weight_shapes(), is_leaf=lambda leaf: isinstance(leaf, tuple))
    abstract = jax.eval_shape(
        lambda weights, images: GraphForward(graph).network(weights).activations(images),
        weights,
        jnp.zeros((1, *size, 3)),
    )
    sizes = graph.output_sizes(*size)
    assert set(abstract) == {layer.name for layer in graph.layers}
    for layer in graph.layers:
        shape = abstract[layer.name].shape
        assert shape[-1] == layer.channels, layer.name
        assert (shape[1:3] if len(shape) == 4 else (1, 1)) == sizes[layer.name], layer.name


@pytest.mark.parametrize(
    ("name", "target", "size", "published"),
    [
        ("resnet50v2", "post_relu", 224, 3480e6),
        ("efficientnet_lite0", "head_relu", 224, 407e6),  # tensorflow/tpu efficientnet/lite: 407 M
    ],
)
def test_multiply_adds_are_the_published_ones(name, target, size, published):
    assert architecture(name).graph.macs(target, size, size) == pytest.approx(published, rel=0.06)


def test_multiply_adds_count_nothing_above_the_target():
    graph = architecture("resnet50v2").graph
    assert graph.macs("conv1_pad", 180, 180) == 0
    assert graph.macs("conv1_conv", 180, 180) == 90 * 90 * 7 * 7 * 3 * 64
    assert graph.macs("conv2_block1_1_conv", 180, 180) == 90 * 90 * 7 * 7 * 3 * 64 + 45 * 45 * 64 * 64


@pytest.mark.parametrize(
    ("name", "layer", "expected"),
    [
        ("resnet50v2", "conv1_conv", 7),
        ("resnet50v2", "pool1_pool", 11),  # 7 + 2 * 2
        ("resnet50v2", "conv2_block1_2_conv", 19),  # 11 + 2 * 4
        ("resnet50v2", "post_relu", 483),  # Araujo et al. 2019, distill.pub/2019/computing-receptive-fields
        ("efficientnet_lite0", "stem_conv", 3),
        ("efficientnet_lite0", "block1_1_depthwise_conv", 7),  # 3 + 2 * 2
    ],
)
def test_receptive_field_is_the_known_one(name, layer, expected):
    assert architecture(name).graph.receptive_fields()[layer] == expected


def test_receptive_field_is_where_the_gradient_is(resnet):
    """A network of ones lets no path cancel: the input gradient of one cell covers exactly its field."""
    layer, size = "conv2_block2_2_conv", 64
    graph = architecture("resnet50v2").graph
    weights = jax.tree.map(jnp.ones, graph.weight_shapes(), is_leaf=lambda leaf: isinstance(leaf, tuple))

    def centre(image):
        activation = resnet.forward(weights, image, layer)
        middle = activation.shape[1] // 2
        return activation[0, middle, middle, 0]

    ramp = jnp.arange(1.0, size * size * 3 + 1).reshape(1, size, size, 3)  # no ties in the pools
    gradient = jax.grad(centre)(ramp)[0].any(axis=-1)
    field = graph.receptive_fields()[layer]
    assert gradient.any(axis=1).sum() <= field
    # The pool passes the gradient to one cell of each window only, here the last: 2 * 2 px at the edge stay dark.
    assert gradient.any(axis=1).sum() >= field - 4


def test_forward_stops_at_its_target(resnet):
    images = jnp.zeros((1, 64, 64, 3))
    text = jax.jit(resnet.forward, static_argnums=2).lower(resnet.weights, images, "conv2_block1_1_conv").as_text()
    assert text.count("stablehlo.convolution") == 2  # the stem and the target


@pytest.mark.parametrize("name", ["resnet50v2", "efficientnet_lite0"])
def test_every_block_has_an_out_layer(name):
    names = architecture(name).graph.targets
    blocks = {name.split("_")[0] + "_" + name.split("_")[1] for name in names if "block" in name}
    assert all(f"{block}_out" in names for block in blocks)

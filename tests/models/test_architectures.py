"""jaxviz's own networks: counts, sizes, arithmetic, receptive fields; and that nothing above a target is computed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from helpers_tiers import thinned

from jaxviz.models import architecture, list_models, weight_shapes
from jaxviz.models.family_forward import FamilyForward

PUBLISHED_PARAMETERS = {  # keras.applications' model.summary(), without top and with; TensorFlow's lite table
    "resnet50v2": (23_564_800, 25_613_800),
    "resnet101v2": (42_626_560, 44_675_560),
    "resnet152v2": (58_331_648, 60_380_648),
    "efficientnet_lite0": (None, 4_694_024),
}


def ones(model):
    return jax.tree.map(lambda array: jnp.ones(array.shape, array.dtype), model.weights)


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
@pytest.mark.parametrize("head", [False, True])
def test_parameter_count_is_the_published_one(name, head):
    expected = PUBLISHED_PARAMETERS[name][head]
    if expected is None:
        expected = PUBLISHED_PARAMETERS[name][True] - 1280 * 1000 - 1000
    arrays = jax.tree.leaves(architecture(name, head=head).weights)
    assert sum(array.size for array in arrays) == expected


def test_resnet50v2_has_189_layers_beside_the_input_which_is_no_target():
    layers = architecture("resnet50v2").layers
    assert len(layers) == len(set(layers)) == 189
    assert layers[0] == "conv1_pad"
    assert "input_layer" not in layers


@pytest.mark.parametrize("name", list_models())
def test_layers_with_weights_are_in_the_order_of_the_layers(name):
    model = architecture(name, head=True)
    shapes = weight_shapes(name, head=True)
    assert set(shapes) == {layer for layer in model.layers if layer in shapes}
    assert all(model.weights[layer].keys() == arrays.keys() for layer, arrays in shapes.items())


@thinned("size, name", [(96, 96), (75, 110), (33, 33)], list_models(), every=4)
def test_sizes_are_those_of_the_real_activations(name, size, monkeypatch):
    """A forward pass of the module itself, in shapes, beside what is read from the trace."""
    model = architecture(name, head=True)
    assert isinstance(model.forward, FamilyForward)
    found = {}
    module = __import__(model.forward.family.__module__, fromlist=["checkpoint_name"])
    monkeypatch.setattr(module, "checkpoint_name", lambda x, layer: found.setdefault(layer, x))
    jax.eval_shape(FamilyForward(model.forward.family), model.weights, jax.ShapeDtypeStruct((1, *size, 3), "float32"))
    monkeypatch.undo()
    assert {layer: x.shape[1:] for layer, x in found.items()} == {
        layer.name: layer.shape for layer in model.table(size)
    }
    assert tuple(found) == model.layers


@pytest.mark.parametrize(
    ("name", "target", "published"),
    [
        ("resnet50v2", "post_relu", 3480e6),
        ("efficientnet_lite0", "head_relu", 407e6),  # tensorflow/tpu efficientnet/lite: 407 M
    ],
)
def test_multiply_adds_are_the_published_ones(name, target, published):
    assert architecture(name).layer(target, (224, 224)).macs == pytest.approx(published, rel=0.06)


def test_multiply_adds_count_nothing_above_the_target():
    stem = 90 * 90 * 7 * 7 * 3 * 64
    found = [
        architecture("resnet50v2").layer(layer, (180, 180)).macs
        for layer in ("conv1_pad", "conv1_conv", "conv2_block1_1_conv")
    ]
    assert found == [0, stem, stem + 45 * 45 * 64 * 64]


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
    assert architecture(name).layer(layer).receptive_field == expected


def test_receptive_field_is_where_the_gradient_is():
    """A network of ones lets no path cancel: the input gradient of one cell covers exactly its field."""
    layer, size = "conv2_block2_2_conv", 64
    model = architecture("resnet50v2")
    model = model.with_weights(ones(model))

    def centre(image):
        activation = model.activation(image, layer)
        middle = activation.shape[1] // 2
        return activation[0, middle, middle, 0]

    ramp = jnp.arange(1, size * size * 3 + 1, dtype=jnp.float32).reshape(1, size, size, 3)  # no ties in the pools
    gradient = jax.grad(centre)(ramp)[0].any(axis=-1)
    field = model.layer(layer).receptive_field
    assert gradient.any(axis=1).sum() <= field
    # The pool passes the gradient to one cell of each window only, here the last: 2 * 2 px at the edge stay dark.
    assert gradient.any(axis=1).sum() >= field - 4


def test_nothing_above_a_target_is_computed(resnet):
    images = jnp.zeros((1, 64, 64, 3))
    text = jax.jit(lambda images: resnet.activation(images, "conv2_block1_1_conv")).lower(images).as_text()
    assert text.count("stablehlo.convolution") == 2  # the stem and the target


@pytest.mark.parametrize("name", ["resnet50v2", "efficientnet_lite0"])
def test_every_block_has_an_out_layer(name):
    names = architecture(name).layers
    blocks = {name.split("_")[0] + "_" + name.split("_")[1] for name in names if "block" in name}
    assert all(f"{block}_out" in names for block in blocks)

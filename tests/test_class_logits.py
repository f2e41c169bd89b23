"""Class logits: a classifier without its softmax."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers_objectives import TOLERANCE
from jaxviz.models.graph import GraphBuilder
from jaxviz.models.layers import GraphForward

from jaxviz.models import architecture
from jaxviz.models.random_weights import random_weights
from jaxviz.objectives import (
    Channel,
    ClassLogit,
)

pytestmark = pytest.mark.quick

BFLOAT16_ERROR = 0.03  # of logits around 1: 8 bits of precision


# Class logits: a classifier without its softmax


@pytest.fixture(scope="module")
def classifier():
    net = GraphBuilder()
    x = net.relu(net.conv("input_layer", "conv", channels=6, kernel=3, stride=2, bias=True), "relu")
    net.dense_softmax(net.global_avg_pool(x, "avg_pool"), "predictions", channels=5)
    graph = net.graph()
    return GraphForward(graph), jax.tree.map(jnp.asarray, random_weights(graph))


IMAGES = jax.random.normal(jax.random.key(0), (2, 13, 12, 3))


def test_probabilities_are_the_softmax_of_the_logits(classifier):
    forward, weights = classifier
    logits = forward.before_softmax()(weights, IMAGES, "predictions")
    assert float(jnp.abs(logits.sum(axis=1) - 1).min()) > 0.01  # they are no probabilities
    np.testing.assert_allclose(jax.nn.softmax(logits), forward(weights, IMAGES, "predictions"), rtol=TOLERANCE)


def test_classifier_is_prepared_for_bfloat16_with_its_softmax_and_without(classifier):
    forward, weights = classifier
    for graph in (forward, forward.before_softmax()):
        run = graph.fast("predictions", platform="gpu", dtype="bfloat16")
        assert run.prepare(weights)["predictions"]["kernel"].dtype == "bfloat16"
        np.testing.assert_allclose(
            run(run.prepare(weights), IMAGES, "predictions"), graph(weights, IMAGES, "predictions"), atol=BFLOAT16_ERROR
        )


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet50v2"])
def test_graph_before_softmax_has_the_same_weights_and_costs(name):
    graph = architecture(name, head=True).graph
    logits = graph.before_softmax()
    assert logits != graph
    assert logits.weight_shapes() == graph.weight_shapes()
    assert logits.macs("predictions", 64, 64) == graph.macs("predictions", 64, 64)
    assert logits.output_sizes(64, 64) == graph.output_sizes(64, 64)


def test_logits_are_affine_in_the_last_map_and_probabilities_are_not(classifier):
    forward, _ = classifier
    assert forward.before_softmax().below_affine("predictions") == "relu"
    assert forward.below_affine("avg_pool") == "relu"
    assert forward.below_affine("predictions") is None


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize(("objective", "layer"), [(ClassLogit(), "predictions"), (Channel(), "avg_pool")])
def test_head_that_is_never_computed_gives_its_scores_and_gradients(classifier, platform, objective, layer):
    forward, weights = classifier
    run = forward.before_softmax().fast(layer, platform=platform)
    prepared = run.prepare(weights)
    below = run.below_affine(layer)
    assert below == "relu"

    def score_above(activation):
        return objective(run.above(prepared, activation, below, layer)[0], jnp.int32(3))

    def score(image):  # as ascent.py has it
        activation = run(prepared, image[None], below)
        at_zero, constant_gradient = jax.value_and_grad(score_above)(jnp.zeros(activation.shape))
        return (activation * constant_gradient).sum() + at_zero

    def plain(image):
        x = forward(weights, image[None], "avg_pool")[0]
        if layer == "predictions":
            x = x @ weights["predictions"]["kernel"] + weights["predictions"]["bias"]
        return x[3]

    value, gradient = jax.jit(jax.value_and_grad(score))(IMAGES[0])
    expected, expected_gradient = jax.jit(jax.value_and_grad(plain))(IMAGES[0])
    assert float(value) == pytest.approx(float(expected), rel=TOLERANCE)
    np.testing.assert_allclose(
        gradient, expected_gradient, rtol=0, atol=TOLERANCE * float(jnp.abs(expected_gradient).max())
    )

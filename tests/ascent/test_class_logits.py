"""Class logits: a classifier without its softmax."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers_networks import classifier as small_classifier
from helpers_objectives import TOLERANCE

from jaxviz.ascent import climb as ascent
from jaxviz.ascent.objectives import (
    Channel,
    ClassLogit,
)
from jaxviz.ascent.scoring import affine_head, unit_scores
from jaxviz.errors import ConfigError
from jaxviz.models import architecture
from jaxviz.network.rules import Settings

pytestmark = pytest.mark.quick

BFLOAT16_ERROR = 0.03  # of logits around 1: 8 bits of precision
SIZE = (13, 12)
IMAGES = jax.random.normal(jax.random.key(0), (2, *SIZE, 3))


@pytest.fixture(scope="module")
def classifier():
    return small_classifier(classes=5, channels=6)


def bound(model, layer, settings=Settings(rules=False), *, before_softmax=True):  # noqa: B008
    (route,), prepared = ascent.bind(model, layer, [SIZE], settings, before_softmax=before_softmax)
    return route, prepared


def activations(route, prepared, images=IMAGES):
    return jax.vmap(lambda image: route.activation(prepared, image))(images)


def below(model, route):
    """Names of the layers in which a target is affine."""
    if route.lower is None:
        return None
    names = {value: name for name, value in model.graph(SIZE).layers.items()}
    return [names[value] for value in route.lower.targets]


def test_probabilities_are_the_softmax_of_the_logits(classifier):
    logits = activations(*bound(classifier, "predictions"))
    assert float(jnp.abs(logits.sum(axis=1) - 1).min()) > 0.01  # they are no probabilities
    np.testing.assert_allclose(jax.nn.softmax(logits), classifier.activation(IMAGES, "predictions"), rtol=TOLERANCE)


@pytest.mark.parametrize("before_softmax", [False, True])
def test_classifier_multiplies_bfloat16_with_its_softmax_and_without(classifier, before_softmax):
    route, prepared = bound(classifier, "predictions", Settings("gpu", dtype="bfloat16"), before_softmax=before_softmax)
    text = jax.jit(lambda images: activations(route, prepared, images)).lower(IMAGES).as_text()
    (product,) = [line for line in text.splitlines() if "dot_general" in line]
    assert product.split(":")[-1].count("bf16") == 2
    plain = bound(classifier, "predictions", before_softmax=before_softmax)
    np.testing.assert_allclose(activations(route, prepared), activations(*plain), atol=BFLOAT16_ERROR)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet50v2"])
def test_logits_have_the_same_weights_and_costs_as_the_probabilities(name):
    model = architecture(name, head=True)
    logits, probabilities = (
        model.route("predictions", (64, 64), before_softmax=before_softmax) for before_softmax in (True, False)
    )
    assert logits.whole != probabilities.whole
    assert logits.shape == probabilities.shape
    graph = model.graph((64, 64))
    costs, weights = zip(
        *(
            (graph.macs_to(route.whole.targets[0]), graph.leaves_behind(route.whole.targets[0]))
            for route in (logits, probabilities)
        ),
        strict=True,
    )
    assert len(set(costs)) == 1
    assert weights[0] == weights[1]


def test_logits_are_affine_in_the_last_map_and_probabilities_are_not(classifier):
    for layer, before_softmax, expected in (
        ("predictions", True, ["relu"]),
        ("avg_pool", False, ["relu"]),
        ("predictions", False, None),
    ):
        route, _ = bound(classifier, layer, before_softmax=before_softmax)
        assert below(classifier, route) == expected


def test_layer_without_a_softmax_has_no_logits(classifier):
    with pytest.raises(ConfigError, match="'avg_pool' of classifier is a global_avg_pool, not a softmax"):
        classifier.route("avg_pool", SIZE, before_softmax=True)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize(("objective", "layer"), [(ClassLogit(), "predictions"), (Channel(), "avg_pool")])
def test_head_that_is_never_computed_gives_its_scores_and_gradients(classifier, platform, objective, layer):
    route, prepared = bound(classifier, layer, Settings(platform), before_softmax=objective.before_softmax)
    head = affine_head(route, prepared, objective, jnp.int32(3))
    assert head is not None
    assert below(classifier, route) == ["relu"]

    def score(image):
        return unit_scores(route, prepared, objective, jnp.int32(3), head, image[None, None])[0]

    def plain(image):
        x = classifier.activation(image[None], "avg_pool")[0]
        if layer == "predictions":
            dense = classifier.weights["predictions"]
            x = x @ dense["kernel"] + dense["bias"]
        return x[3]

    value, gradient = jax.jit(jax.value_and_grad(score))(IMAGES[0])
    expected, expected_gradient = jax.jit(jax.value_and_grad(plain))(IMAGES[0])
    assert float(value) == pytest.approx(float(expected), rel=TOLERANCE)
    np.testing.assert_allclose(
        gradient, expected_gradient, rtol=0, atol=TOLERANCE * float(jnp.abs(expected_gradient).max())
    )

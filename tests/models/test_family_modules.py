"""The families as Flax modules: named layers, values that the fast rules give too, Keras's weights; and they train."""

from __future__ import annotations

import doctest
import importlib
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxviz.errors import WeightsError
from jaxviz.models import MODELS, architecture, family_of, list_models
from jaxviz.models.efficientnet_lite import EfficientNetLite0
from jaxviz.models.family_forward import FamilyForward
from jaxviz.models.keras_weights import abstract_module, abstract_weights, from_state, to_state, weight_shapes
from jaxviz.models.random_weights import random_weights
from jaxviz.models.resnet_v2 import ResNet50V2, ResNetV2
from jaxviz.network.program import Program
from jaxviz.network.rules import Settings

FAMILIES = {name: family_of(name)[0] for name in list_models()}
TOLERANCE = 1e-5  # of the largest number of an activation: float32 sums in another order

each_model = pytest.mark.parametrize("name", list_models())
with_and_without_head = pytest.mark.parametrize("head", [False, pytest.param(True, marks=pytest.mark.quick)])


def names_in(jaxpr: Any) -> Iterator[str]:
    """What `checkpoint_name` left in a jaxpr, calls opened, in order."""
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        if equation.primitive.name == "name":
            yield equation.params["name"]
        for parameter in equation.params.values():
            if hasattr(parameter, "eqns") or hasattr(parameter, "jaxpr"):
                yield from names_in(parameter)


def trace(forward: FamilyForward, size: int = 64) -> Any:
    weights = abstract_weights(forward.family, head=forward.head)
    return jax.make_jaxpr(forward)(weights, jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))


def tiny_resnet(**settings: Any) -> ResNetV2:
    return ResNetV2((1, 1), channels=(8, 16), classes=5, rngs=nnx.Rngs(0), **settings)


@pytest.fixture
def tiny() -> ResNetV2:
    """Two stages of one block each, its kernels zero: drawing them takes seconds to compile."""
    return tiny_resnet(kernel_init=nnx.initializers.zeros)


# One network, run in two ways


@each_model
@with_and_without_head
def test_layers_are_named_where_they_are_made_each_once(name, head):
    named = list(names_in(trace(FamilyForward(FAMILIES[name], head))))
    assert named == list(architecture(name, head=head).layers)
    assert len(named) == len(set(named))


@each_model
@with_and_without_head
def test_what_holds_weights_is_a_layer_of_that_name(name, head):
    shapes = weight_shapes(FAMILIES[name], head=head)
    named = list(names_in(trace(FamilyForward(FAMILIES[name], head))))
    assert set(shapes) == {layer for layer in named if layer.endswith(("_conv", "_bn", "predictions"))}


@pytest.mark.parametrize(("name", "size"), [("resnet50v2", 64), ("efficientnet_lite0", 64), ("efficientnet_lite0", 75)])
def test_fast_rules_give_every_activation_of_the_module(name, size, monkeypatch):
    model = architecture(name, head=True)
    model = model.with_weights(random_weights(model))
    images = jax.random.uniform(jax.random.key(1), (2, size, size, 3), minval=-1.0)
    graph = model.graph((size, size))
    program = Program(graph, list(graph.layers.values()), Settings("cpu"))
    prepared = program.prepare(model.weights)
    run = jax.jit(jax.vmap(lambda image: program.run(prepared, [image])))
    found = dict(zip(graph.layers, run(images), strict=True))

    module = importlib.import_module(FAMILIES[name].__module__)
    expected: dict[str, jax.Array] = {}
    monkeypatch.setattr(module, "checkpoint_name", lambda x, layer: expected.setdefault(layer, x))

    def activations(weights, images):
        FamilyForward(FAMILIES[name])(weights, images)
        return expected

    for layer, activation in jax.jit(activations)(model.weights, images).items():
        scale = float(jnp.abs(activation).max())
        np.testing.assert_allclose(found[layer], activation, rtol=0, atol=TOLERANCE * scale, err_msg=layer)
    assert expected.keys() == found.keys()


def test_module_itself_gives_the_models_activation():
    model = architecture("efficientnet_lite0", head=True)
    model = model.with_weights(random_weights(model))
    images = jax.random.uniform(jax.random.key(1), (2, 64, 64, 3), minval=-1.0)
    known = abstract_module(EfficientNetLite0, head=True)
    module = nnx.merge(known.definition, to_state(jax.tree.map(jnp.asarray, model.weights), known.state))
    found = nnx.jit(lambda module, images: module(images))(module, images)
    np.testing.assert_allclose(found, model.activation(images, "predictions"), rtol=1e-4)


def test_logits_are_what_the_softmax_is_of():
    model = architecture("efficientnet_lite0", head=True)
    model = model.with_weights(random_weights(model))
    images = jax.random.uniform(jax.random.key(1), (1, 64, 64, 3), minval=-1.0)
    route = model.route("predictions", (64, 64), Settings("cpu"), before_softmax=True)
    prepared = model.prepare(route)
    expected = jax.jit(lambda images: jax.vmap(lambda image: route.activation(prepared, image))(images))(images)
    found = jax.jit(FamilyForward(EfficientNetLite0, logits=True))(model.weights, images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


# Weights


@pytest.mark.quick
@pytest.mark.parametrize("name", ["resnet50v2", "efficientnet_lite0"])
def test_weights_go_there_and_back(name):
    weights = random_weights(architecture(name, head=True))
    state = to_state(weights, abstract_module(FAMILIES[name], head=True).state)
    again = from_state(state)
    assert again.keys() == weights.keys()
    jax.tree.map(np.testing.assert_array_equal, again, weights)


@pytest.mark.quick
def test_module_holds_the_weights_that_it_is_given(tiny):
    weights = jax.tree.map(lambda array: np.asarray(array) + 1, from_state(nnx.state(tiny)))
    nnx.update(tiny, to_state(weights, nnx.state(tiny)))
    kernel = tiny.blocks[1].layers["conv3_block1_2_conv"].kernel
    assert isinstance(kernel, nnx.Param)
    np.testing.assert_array_equal(kernel[...], weights["conv3_block1_2_conv"]["kernel"])
    np.testing.assert_array_equal(tiny.post_bn.var[...], weights["post_bn"]["moving_variance"])


@pytest.mark.quick
def test_depthwise_kernels_are_keras_like():
    assert weight_shapes(EfficientNetLite0)["block1_1_depthwise_conv"] == {"kernel": (3, 3, 32)}


@pytest.mark.quick
def test_missing_unknown_and_misshapen_weights_are_named(tiny):
    state = nnx.state(tiny)
    weights = from_state(state)
    with pytest.raises(WeightsError, match="lack 1 arrays of the network, the first is post_bn/gamma"):
        to_state(weights | {"post_bn": {k: v for k, v in weights["post_bn"].items() if k != "gamma"}}, state)
    with pytest.raises(WeightsError, match="hold 1 arrays that the network lacks, the first is post_bn/delta"):
        to_state(weights | {"post_bn": weights["post_bn"] | {"delta": jnp.zeros(64)}}, state)
    with pytest.raises(WeightsError, match=r"post_bn/gamma of shape \(3,\); the network's is \(64,\)"):
        to_state(weights | {"post_bn": weights["post_bn"] | {"gamma": jnp.zeros(3)}}, state)


@pytest.mark.quick
@each_model
def test_registry_knows_the_size_of_the_module(name):
    shapes = weight_shapes(FAMILIES[name], head=True)
    del shapes["predictions"]
    parameters = sum(math.prod(shape) for arrays in shapes.values() for shape in arrays.values())
    assert (MODELS[name].parameters, MODELS[name].layers) == (parameters, len(architecture(name).layers))


# The forward function


@pytest.mark.quick
def test_equal_forwards_compile_once():
    traced = []

    def mean(forward, weights, images):
        traced.append(forward)
        return forward(weights, images).mean()

    compiled = jax.jit(mean, static_argnums=0)
    weights = abstract_weights(EfficientNetLite0, head=False)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    for _ in range(2):
        compiled.eval_shape(FamilyForward(EfficientNetLite0, head=False), weights, images)
    assert len(traced) == 1


@pytest.mark.quick
def test_forwards_are_equal_where_what_they_compute_is():
    assert FamilyForward(ResNet50V2) == FamilyForward(ResNet50V2)
    assert hash(FamilyForward(ResNet50V2)) == hash(FamilyForward(ResNet50V2))
    different = {FamilyForward(ResNet50V2), FamilyForward(ResNet50V2, head=False), FamilyForward(EfficientNetLite0)}
    assert len(different | {FamilyForward(ResNet50V2, logits=True)}) == 4


@pytest.mark.quick
@pytest.mark.parametrize("name", ["resnet50v2", "efficientnet_lite0"])
def test_float32_stays_float32_where_jax_has_64_bits(name):
    with jax.enable_x64(True):
        traced = trace(FamilyForward(FAMILIES[name]))
    assert {equation.outvars[0].aval.dtype for equation in traced.jaxpr.eqns} == {jnp.dtype("float32")}


@pytest.mark.quick
@pytest.mark.parametrize("family", [ResNet50V2, EfficientNetLite0])
def test_module_without_a_head_ends_in_its_last_map(family):
    weights = abstract_weights(family, head=False)
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    assert jax.eval_shape(FamilyForward(family, head=False), weights, images).ndim == 4


# Training


@nnx.jit
def train_step(model: nnx.Module, optimizer: nnx.Optimizer, images: jax.Array, labels: jax.Array) -> jax.Array:
    def loss(model: nnx.Module) -> jax.Array:
        logits = model(images, logits=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    value, gradients = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradients)
    return value


def test_training_lowers_the_loss_and_moves_the_statistics():
    tiny = tiny_resnet()
    before = from_state(nnx.state(tiny))
    optimizer = nnx.Optimizer(tiny, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)
    images = jax.random.normal(jax.random.key(0), (8, 32, 32, 3))
    labels = jnp.arange(8, dtype=jnp.int32) % 5
    losses = [float(train_step(tiny, optimizer, images, labels)) for _ in range(8)]
    assert losses[-1] < losses[0] / 2
    after = from_state(nnx.state(tiny))
    for layer, arrays in after.items():
        for parameter, array in arrays.items():
            assert (array != before[layer][parameter]).any(), f"{layer}/{parameter}"


def test_evaluation_leaves_the_statistics_alone():
    tiny = tiny_resnet()
    images = jax.random.normal(jax.random.key(0), (4, 32, 32, 3))
    tiny.eval()
    before = from_state(nnx.state(tiny))
    first = tiny(images)
    jax.tree.map(np.testing.assert_array_equal, from_state(nnx.state(tiny)), before)
    np.testing.assert_allclose(first.sum(axis=-1), 1, rtol=1e-5)
    tiny.train()
    assert (tiny(images) != first).any()


@pytest.mark.parametrize("module", ["resnet_v2", "efficientnet_lite", "keras_weights", "family_forward"])
def test_examples_run(module):
    results = doctest.testmod(importlib.import_module(f"jaxviz.models.{module}"))
    assert results.attempted > 0
    assert results.failed == 0

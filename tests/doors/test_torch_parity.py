"""PyTorch's networks in JAX: every named layer's activation, and input gradients, are those of PyTorch itself."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.networks import FAST, PLAIN, QUICKLY, distance, normal

from jaxviz import Model
from jaxviz.network.jaxprs import every_equation
from jaxviz.network.program import Program
from jaxviz.network.rules import Settings

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[torch]'")
import helpers.torch_networks as networks  # noqa: E402

# Both compute in float32, in another order of summation and with other exponentials: a layer's sums of a few hundred
# products differ by about 1e-7, and a few dozen layers add up.
VALUES = 1e-5
GRADIENTS = 2e-5  # as much again on the way back
SIZE = (40, 48)
NETWORKS: dict[str, Any] = {
    "resnet, bottlenecks": lambda: networks.ResNet(networks.Bottleneck),
    "resnet, basic blocks": lambda: networks.ResNet(networks.BasicBlock),
    "vgg": networks.VGG,
    "convnext": networks.ConvNeXt,
}
DEPTHS = {  # a shallow, a middle and a deep layer
    "resnet, bottlenecks": ("bn1", "layer1.1.relu", "layer2.0"),
    "resnet, basic blocks": ("maxpool", "layer1.0.relu_1", "fc"),
    "vgg": ("features.1", "features.6", "classifier.3"),
    "convnext": ("stem.1", "stages.0.0.mlp.act", "stages.1"),
}


class Compared:
    """A network in both frameworks, looked at once."""

    def __init__(self, name: str) -> None:
        self.name = name
        module = networks.unusual(NETWORKS[name]())
        self.model = Model.from_torch(module, preprocess=lambda rgb: rgb / 255, usual_size=SIZE)
        self.images = normal(1, 1, *SIZE, 3)
        self.x, self.theirs = networks.activations(module, np.asarray(self.images))
        self.graph = self.model.graph(SIZE)

    def program(self, layers: list[str], settings: Settings) -> tuple[Program, Any]:
        program = Program(self.graph, [self.graph.layers[layer] for layer in layers], settings)
        constants = list(self.graph.trace.constants.values())
        return program, program.prepare(self.model.weights, constants)


@pytest.fixture(scope="module", params=NETWORKS)
def compared(request: Any) -> Compared:
    return Compared(request.param)


def test_layers_are_the_modules_by_their_paths(compared: Compared) -> None:
    modules = {name for name, value in compared.theirs.items() if value is not None}
    leaves_nothing = {name for name in modules if name.endswith(("drop_path", "drop1"))}
    assert modules - leaves_nothing - set(compared.model.layers) == set()


@pytest.mark.parametrize("settings", [PLAIN, FAST], ids=["plain", "fast"])
def test_every_layers_activation_is_pytorchs(compared: Compared, settings: Settings) -> None:
    layers = [layer for layer in compared.model.layers if layer in compared.theirs]
    program, arrays = compared.program(layers, settings)
    run = jax.jit(lambda arrays, image: program.run(arrays, [image]), compiler_options=QUICKLY)
    for layer, ours in zip(layers, run(arrays, compared.images[0]), strict=True):
        assert distance(ours, networks.channels_last(compared.theirs[layer], ours.shape)) < VALUES, layer


@pytest.mark.parametrize("settings", [PLAIN, FAST], ids=["plain", "fast"])
def test_input_gradients_are_pytorchs(compared: Compared, settings: Settings) -> None:
    layers = list(DEPTHS[compared.name])
    program, arrays = compared.program(layers, settings)

    def gradients(arrays: Any, image: jax.Array, cotangents: list[jax.Array]) -> list[jax.Array]:
        _, pull_back = jax.vjp(lambda image: program.run(arrays, [image]), image)
        zeros = [jnp.zeros_like(cotangent) for cotangent in cotangents]
        return [
            pull_back([*zeros[:place], cotangent, *zeros[place + 1 :]])[0] for place, cotangent in enumerate(cotangents)
        ]

    cotangents = [normal(7, *compared.model.layer(layer).shape) for layer in layers]
    ours = jax.jit(gradients, compiler_options=QUICKLY)(arrays, compared.images[0], cotangents)
    for layer, found, cotangent in zip(layers, ours, cotangents, strict=True):
        assert distance(found, networks.gradient(compared.x, compared.theirs[layer], cotangent)) < GRADIENTS, layer


def test_no_convolution_is_slow(compared: Compared) -> None:
    assert [layer.name for layer in compared.model.table() if layer.slow] == []


@pytest.mark.parametrize("settings", [FAST, Settings(platform="gpu")], ids=["cpu", "gpu"])
def test_no_activation_is_turned(compared: Compared, settings: Settings) -> None:
    """But for a flattened map, whose numbers PyTorch orders channels first, and vectors."""
    layer = {"vgg": "features.9"}.get(compared.name, DEPTHS[compared.name][2])
    program, arrays = compared.program([layer], settings)
    jaxpr = jax.make_jaxpr(jax.vmap(lambda image, arrays: program.run(arrays, [image])[0], (0, None)))(
        jnp.zeros((2, *SIZE, 3)), arrays
    )
    turned = [
        equation.invars[0].aval.shape
        for equation in every_equation(jaxpr)
        if equation.primitive.name == "transpose"
        and [n for n in equation.params["permutation"] if equation.invars[0].aval.shape[n] > 1]
        != sorted(n for n in equation.params["permutation"] if equation.invars[0].aval.shape[n] > 1)
    ]
    assert [shape for shape in turned if math.prod(shape) > 2 * 64] == []

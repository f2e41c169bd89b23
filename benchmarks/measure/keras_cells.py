"""In a worker whose Keras runs on JAX: one network of keras.applications against Keras itself, and what others hold."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.settings import INITIAL_RANGE, STEP_SIZE
from jaxviz.ascent import climb
from jaxviz.ascent.objectives import Channel
from jaxviz.ascent.parameterizations import Pixel
from jaxviz.bench.figures import in_turns, rounded
from jaxviz.doors.scaled_pixels import ScaledPixels
from jaxviz.loading import describe_model
from jaxviz.network.model import Model
from jaxviz.network.naming import CONVOLUTIONS
from jaxviz.network.rules import Settings

RULES = {"rules": Settings(platform="cpu"), "autodiff": Settings(rules=False)}
DEPTHS = (0.1, 0.5, 1.0)  # shallow, middle, deep: share of the convolutions
LAYER_SCALE = 0.3  # in place of 1e-6, with which ConvNeXt is born nearly linear
PATCHES = 6  # of color, along a side of an image
SEED = 0


def networks() -> list[str]:
    """All of keras.applications."""
    from jaxviz.doors.keras_models import application_names

    return application_names()


def traced(name: str) -> dict[str, Any]:
    """What a network without its weights says of its layers."""
    began = time.perf_counter()
    table = describe_model(f"keras:{name}").table()
    convolutions = [layer for layer in table if layer.kind in CONVOLUTIONS]
    slow = [f"{layer.name}: {layer.slow}" for layer in convolutions if layer.slow is not None]
    return {
        "network": name,
        "layers": len(table),
        "convolutions": len(convolutions),
        "slow": slow,
        "seconds": rounded(time.perf_counter() - began),
    }


def timed(name: str, size: int, batch: int, steps: int, rounds: int) -> list[dict[str, Any]]:
    """A shallow, a middle and a deep convolution: seconds of both ways in interleaved rounds."""
    network = _network(name, size)
    model = Model.from_keras(network)
    return [
        {
            "network": name,
            "layer": layer,
            "steps": steps,
            "batch": batch,
            "seconds": in_turns(
                rounds, {way: _ascent(model, layer, size, batch, steps, how) for way, how in RULES.items()}
            ),
        }
        for layer in _layers(model, size)
    ]


def compared(name: str, size: int) -> list[dict[str, Any]]:
    """The same three: errors against Keras itself."""
    import keras

    network = _network(name, size)
    model = Model.from_keras(network)
    cells = []
    for layer in _layers(model, size):
        part = keras.Model(network.inputs, network.get_layer(layer).output)
        cells.append({"network": name, "layer": layer, **_errors(model, layer, part, size)})
    return cells


def _layers(model: Model, size: int) -> list[str]:
    convolutions = [layer.name for layer in model.table((size, size)) if layer.kind in CONVOLUTIONS]
    return [convolutions[max(0, math.ceil(share * len(convolutions)) - 1)] for share in DEPTHS]


def _network(name: str, size: int) -> Any:
    """A network with random weights, its activations near one: batch norms have the statistics of noise."""
    import keras

    keras.utils.set_random_seed(SEED)
    build = getattr(keras.applications, name)
    network = build(weights=None, include_top=False, input_shape=(size, size, 3))
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for variable in network.variables:
        if "layer_scale" in variable.path:
            variable.assign(jnp.full(variable.shape, LAYER_SCALE))
        elif not norms and variable.path.endswith("kernel"):
            variable.assign(variable.value * math.sqrt(2))  # Glorot's to He's
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    values = [[variable.value for variable in found] for found in _variables(network)]
    _, statistics = network.stateless_call(*values, _taken(network, _images(16, size, SEED)), training=True)
    for variable, value in zip(network.non_trainable_variables, statistics, strict=True):
        variable.assign(value)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network


def _variables(network: Any) -> tuple[Any, Any]:
    return network.trainable_variables, network.non_trainable_variables


def _images(count: int, size: int, seed: int) -> np.ndarray:
    """Patches of color under noise, in [-1, 1], each image of another contrast.

    Of noise alone all images are alike to a deep layer, and what its batch norm divides by is rounding.
    """
    rng = np.random.default_rng(seed)
    side = -(-size // PATCHES)
    patches = rng.uniform(-1, 1, (count, PATCHES, PATCHES, 3)).repeat(side, axis=1).repeat(side, axis=2)
    contrast = rng.uniform(0.2, 1, (count, 1, 1, 1))
    mixed = 0.7 * contrast * patches[:, :size, :size] + 0.3 * rng.uniform(-1, 1, (count, size, size, 3))
    return mixed.astype(np.float32)


def _taken(network: Any, images: Any) -> Any:
    """Images as a network takes them: pixels, where it brings its own preprocessing."""
    brings = any(type(layer).__name__ in ("Rescaling", "Normalization") for layer in network.layers[:3])
    return images * 127.5 + 127.5 if brings else images


def _errors(model: Model, layer: str, part: Any, size: int) -> dict[str, Any]:
    """Relative L2 of activation and gradient against Keras, from the same pixels on."""
    images = _taken(part, _images(2, size, SEED + 1))
    takes_pixels = isinstance(model.preprocess, ScaledPixels)
    route = model.route(layer, (size, size), RULES["rules"])
    prepared = model.prepare(route)
    variables = [[variable.value for variable in found] for found in _variables(part)]

    def ours(images: Any) -> Any:
        behind = model.preprocess(images) if takes_pixels else images
        return jax.vmap(lambda image: route.activation(prepared, image))(behind)

    def theirs(images: Any) -> Any:
        return part.stateless_call(*variables, images, training=False)[0]

    value, gradient = _value_and_gradient(ours)(images)
    of_keras = _value_and_gradient(theirs)
    their_value, their_gradient = of_keras(images)
    _, moved = of_keras(np.nextafter(images, np.float32(np.inf)))
    return {
        "activation_off": _relative(value, their_value),
        "gradient_off": _relative(gradient, their_gradient),
        "rounding_off": _relative(moved, their_gradient),
        "activation_size": rounded(float(np.sqrt(np.mean(np.square(their_value))))),
    }


def _value_and_gradient(function: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, Any]]:
    """A function of images that gives an activation, and the gradient of the first filter's mean over positions."""

    def score(images: Any) -> tuple[Any, Any]:
        activation = function(images)
        return activation[..., 0].mean(), activation

    compiled = jax.jit(jax.value_and_grad(score, has_aux=True))

    def found(images: Any) -> tuple[Any, Any]:
        (_, activation), gradient = compiled(images)
        return np.asarray(activation, np.float64), np.asarray(gradient, np.float64)

    return found


def _relative(found: Any, expected: Any) -> float:
    return rounded(float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-30)))


def _ascent(model: Model, layer: str, size: int, batch: int, steps: int, settings: Settings) -> Callable[[], float]:
    """The ascent of the preset keras, compiled and warmed up: calling it gives its seconds."""
    (route,), prepared = climb.bind(model, layer, [(size, size)], settings)
    indices = jnp.arange(batch, dtype=jnp.int32) % model.layer(layer, (size, size)).channels
    zeros = jnp.zeros(batch, jnp.int32)
    keys = climb.unit_keys(jnp.uint32(SEED), indices, zeros[:, None], zeros)
    pixel = Pixel((size, size), INITIAL_RANGE)
    loop = climb.Loop(seen=route, final=route, steps=steps, mesh=climb.batch_mesh(jax.local_devices()[:1]))
    start = climb.initial_parameters(keys, pixel)
    arguments = (prepared, indices, keys, start, climb.Numbers(jnp.float32(STEP_SIZE)), Channel(), pixel)
    program = climb.compiled("cpu").lower(*arguments, loop=loop).compile()
    timed = partial(_timed, program, arguments)
    timed()
    return timed


def _timed(program: Any, arguments: tuple[Any, ...]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(program(*arguments))
    return time.perf_counter() - began

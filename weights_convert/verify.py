"""Layer-by-layer comparison with the framework that a model comes from: activations and input gradients.

The source framework loads the weights by its own means; we load them through the converter; both run the same
image. With random weights the framework writes its own file first, which we then convert, so that a mistake in
reading shows as well as one in computing.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxviz.errors import ConfigError, WeightsUnavailableError
from jaxviz.models import architecture, check_model
from jaxviz.models.random_weights import random_weights
from jaxviz.network.model import Model
from jaxviz.network.program import Prepared, Program
from jaxviz.network.rules import Settings
from weights_convert.locate import obtain_weights
from weights_convert.read import ConvertedWeights, read_weights
from weights_convert.references import Array, Reference, build_reference

ACTIVATION_TOLERANCE = 1e-4  # relative L2, float32 on both sides
# Relative L2 of the input gradient. Where rounding flips the sign of a pre-activation near zero, a ReLU's mask
# flips with it and passes or stops a whole gradient; the deeper the target, the more masks there are.
GRADIENT_TOLERANCES = {
    "resnet": {"conv2_block1_1_conv": 1e-4, "conv3_block4_out": 5e-3},
    "efficientnet": {"block1_1_project_conv": 1e-4, "block4_1_out": 5e-3},
}
REFERENCE_SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}  # its padding's
DEFAULT_SIZE = 224
RANDOM: Literal["random"] = "random"


@dataclass(frozen=True)
class Row:
    """One comparison; `quantity` is "activation" or "input gradient"."""

    layer: str
    quantity: str
    max_abs: float
    relative_l2: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the relative error is a number within the tolerance."""
        return self.relative_l2 <= self.tolerance


@dataclass(frozen=True)
class Report:
    """All comparisons of one model."""

    model: str
    weights: str
    framework: str
    rows: tuple[Row, ...]

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows out of tolerance."""
        return tuple(row for row in self.rows if not row.passed)


def verify(
    model_name: str,
    weights: Path | Literal["random"] | None = None,
    *,
    head: bool | None = None,
    size: int | None = None,
    seed: int = 0,
) -> Report:
    """Compare every layer of a model with its source framework.

    Args:
        model_name: one of `jaxviz.list_models()`.
        weights: a file in the framework's format or a converted one; "random"; None takes those that are on
            this machine, else random ones.
        head: with the classifier; None: where the weights have one, and for random weights.
        size: side of the test image in pixels (EfficientNet-Lite: only the reference's own).
        seed: of the image and of random weights.

    Raises:
        WeightsError: the file is broken or does not fit.
        EnvironmentFailure: the framework is not installed.
    """
    check_model(model_name)
    side = _checked_size(model_name, size)
    with tempfile.TemporaryDirectory(prefix="jaxviz-verify-") as folder:
        here = _weights_here(model_name, head) if weights is None else None
        if here is not None:
            found, said = here, f"on this machine: {here.metadata['source']}"
            reference = build_reference(model_name, head=found.has_head, side=side)
            reference.set_arrays(found.arrays)
        elif weights is None or weights == RANDOM:
            has_head = head is not False
            reference = build_reference(model_name, head=has_head, side=side)
            reference.set_arrays(random_weights(architecture(model_name, head=has_head), seed))
            found, said = read_weights(reference.write_file(Path(folder)), model_name), f"random, seed {seed}"
        else:
            found, said = read_weights(weights, model_name), str(weights)
            found = found if head is None else found.for_head(head=head)
            reference = build_reference(model_name, head=found.has_head, side=side)
            if head is None and weights.suffix != ".safetensors" and not found.left_out:
                reference.load_file(weights)
            else:
                reference.set_arrays(found.arrays)
    model = architecture(model_name, head=found.has_head).with_weights(found.arrays)
    return Report(model_name, said, reference.framework, _compare(model, reference, side, seed))


def _weights_here(model_name: str, head: bool | None) -> ConvertedWeights | None:
    for wanted in (True, False) if head is None else (head,):
        try:
            return obtain_weights(model_name, head=wanted, download=False)
        except WeightsUnavailableError:
            continue
    return None


def _compare(model: Model, reference: Reference, side: int, seed: int) -> tuple[Row, ...]:
    image_key, cotangent_key = jax.random.split(jax.random.key(seed))
    image = np.array(jax.random.uniform(image_key, (1, side, side, 3), minval=-1.0, maxval=1.0))
    rows = []
    with jax.default_matmul_precision("highest"):
        ours = _activations(model, image)
        theirs = reference.activations(image)
        for name in model.layers:
            rows.append(_row(name, "activation", np.asarray(ours[name]), theirs[name], ACTIVATION_TOLERANCE))
        family = "resnet" if "conv2_block1_1_conv" in model.layers else "efficientnet"
        for name, tolerance in GRADIENT_TOLERANCES[family].items():
            cotangent = np.array(jax.random.normal(cotangent_key, ours[name].shape))
            gradient = np.asarray(_input_gradient(model, image, name, cotangent))
            rows.append(
                _row(name, "input gradient", gradient, reference.input_gradient(image, name, cotangent), tolerance)
            )
    return tuple(rows)


def _activations(model: Model, image: Array) -> dict[str, jax.Array]:
    """Every layer's activation, by the programs that rendering runs."""
    graph = model.graph((image.shape[1], image.shape[2]))
    program = Program(graph, list(graph.layers.values()), _settings())
    values = _run(program, program.prepare(model.weights), image)
    return dict(zip(graph.layers, values, strict=True))


def _input_gradient(model: Model, image: Array, layer: str, cotangent: Array) -> Any:
    graph = model.graph((image.shape[1], image.shape[2]))
    program = Program(graph, [graph.layers[layer]], _settings())
    return _pulled_back(program, program.prepare(model.weights), image, cotangent)


def _settings() -> Settings:
    return Settings(jax.default_backend())


@partial(jax.jit, static_argnums=0)
def _run(program: Program, prepared: Prepared, images: Array) -> list[jax.Array]:
    return jax.vmap(lambda image: program.run(prepared, [image]))(jnp.asarray(images))


@partial(jax.jit, static_argnums=0)
def _pulled_back(program: Program, prepared: Prepared, image: Array, cotangent: Array) -> jax.Array:
    def score(image: jax.Array) -> jax.Array:
        return jnp.sum(_run(program, prepared, image)[0] * cotangent)

    gradient: jax.Array = jax.grad(score)(jnp.asarray(image))
    return gradient


def _row(layer: str, quantity: str, ours: Array, theirs: Array, tolerance: float) -> Row:
    if ours.shape != theirs.shape:
        return Row(layer, quantity, float("inf"), float("inf"), tolerance)
    difference = ours.astype(np.float64) - theirs
    norm = float(np.linalg.norm(theirs.astype(np.float64)))
    error = float(np.linalg.norm(difference))
    relative = error / norm if norm else (0.0 if error == 0 else float("inf"))
    return Row(layer, quantity, float(np.abs(difference).max()), relative, tolerance)


def _checked_size(model_name: str, size: int | None) -> int:
    fixed = REFERENCE_SIZES.get(model_name)
    if fixed is not None and size not in (None, fixed):
        raise ConfigError(
            f"`image_size` {size} cannot be compared: the reference of {model_name} pads for {fixed} px only",
            argument="image_size",
            value=size,
        )
    if size is not None and size < 1:
        raise ConfigError(f"`image_size` {size} is not a number of pixels above 0", argument="image_size", value=size)
    return fixed or size or DEFAULT_SIZE

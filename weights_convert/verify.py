"""Layer-by-layer comparison with the framework that a model comes from: activations and input gradients.

The source framework loads the weights by its own means; we load them through the converter; both run the same
image. With random weights the framework writes its own file first, which we then convert, so that a mistake in
reading shows as well as one in computing. The only file here that imports TensorFlow or PyTorch.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxviz.errors import ConfigError, EnvironmentFailure, WeightsUnavailableError
from jaxviz.models import architecture
from jaxviz.models.efficientnet_lite import block_settings
from jaxviz.models.graph import Graph
from jaxviz.models.layers import GraphForward
from jaxviz.models.random_weights import random_weights
from weights_convert.locate import obtain_weights
from weights_convert.match import Weights
from weights_convert.read import ConvertedWeights, read_weights
from weights_convert.sources import PACKAGE_FILES
from weights_convert.torch_checkpoint import BATCH_NORM

ACTIVATION_TOLERANCE = 1e-4  # relative L2, float32 on both sides
# Relative L2 of the input gradient. Where rounding flips the sign of a pre-activation near zero, a ReLU's mask
# flips with it and passes or stops a whole gradient; the deeper the target, the more masks there are.
GRADIENT_TOLERANCES = {
    "resnet": {"conv2_block1_1_conv": 1e-4, "conv3_block4_out": 5e-3},
    "efficientnet": {"block1_1_project_conv": 1e-4, "block4_1_out": 5e-3},
}
KERAS_NAMES = {"resnet50v2": "ResNet50V2", "resnet101v2": "ResNet101V2", "resnet152v2": "ResNet152V2"}
REFERENCE_SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}  # its padding's
DEFAULT_SIZE = 224
RANDOM: Literal["random"] = "random"

Array = NDArray[np.float32]


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


class Reference(Protocol):
    """A source framework's own network."""

    framework: str

    def load_file(self, path: Path) -> None:
        """Load a weights file by the framework's own means."""

    def set_arrays(self, weights: Weights) -> None:
        """Set every weight by name."""

    def write_file(self, folder: Path) -> Path:
        """Write the weights in the framework's own format."""

    def activations(self, image: Array) -> dict[str, Array]:
        """Every layer's activation by jaxviz's name."""

    def input_gradient(self, image: Array, layer: str, cotangent: Array) -> Array:
        """Gradient of sum(activation * cotangent) at the image."""


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
    architecture(model_name)
    side = _checked_size(model_name, size)
    with tempfile.TemporaryDirectory(prefix="jaxviz-verify-") as folder:
        here = _weights_here(model_name, head) if weights is None else None
        if here is not None:
            found, said = here, f"on this machine: {here.metadata['source']}"
            reference = _reference(model_name, head=found.has_head, side=side)
            reference.set_arrays(found.arrays)
        elif weights is None or weights == RANDOM:
            has_head = head is not False
            reference = _reference(model_name, head=has_head, side=side)
            reference.set_arrays(random_weights(architecture(model_name, head=has_head).graph, seed))
            found, said = read_weights(reference.write_file(Path(folder)), model_name), f"random, seed {seed}"
        else:
            found, said = read_weights(weights, model_name), str(weights)
            found = found if head is None else found.for_head(head=head)
            reference = _reference(model_name, head=found.has_head, side=side)
            if found.metadata.get("source_format") and weights.suffix != ".safetensors" and head is None:
                reference.load_file(weights)
            else:
                reference.set_arrays(found.arrays)
    graph = architecture(model_name, head=found.has_head).graph
    return Report(model_name, said, reference.framework, _compare(graph, found.arrays, reference, side, seed))


def _weights_here(model_name: str, head: bool | None) -> ConvertedWeights | None:
    for wanted in (True, False) if head is None else (head,):
        try:
            return obtain_weights(model_name, head=wanted, download=False)
        except WeightsUnavailableError:
            continue
    return None


def _compare(graph: Graph, weights: Weights, reference: Reference, side: int, seed: int) -> tuple[Row, ...]:
    image_key, cotangent_key = jax.random.split(jax.random.key(seed))
    image = np.array(jax.random.uniform(image_key, (1, side, side, 3), minval=-1.0, maxval=1.0))
    forward = GraphForward(graph)
    rows = []
    with jax.default_matmul_precision("highest"):
        ours = _activations(forward, weights, image)
        theirs = reference.activations(image)
        for name in graph.targets:
            rows.append(_row(name, "activation", np.asarray(ours[name]), theirs[name], ACTIVATION_TOLERANCE))
        family = "resnet" if "conv2_block1_1_conv" in graph.by_name else "efficientnet"
        for name, tolerance in GRADIENT_TOLERANCES[family].items():
            cotangent = np.array(jax.random.normal(cotangent_key, ours[name].shape))
            gradient = np.asarray(_input_gradient(forward, weights, image, name, cotangent))
            rows.append(
                _row(name, "input gradient", gradient, reference.input_gradient(image, name, cotangent), tolerance)
            )
    return tuple(rows)


@partial(jax.jit, static_argnums=0)
def _activations(forward: GraphForward, weights: Weights, image: Array) -> dict[str, jax.Array]:
    return forward.network(weights).activations(jnp.asarray(image))


@partial(jax.jit, static_argnums=(0, 3))
def _input_gradient(forward: GraphForward, weights: Weights, image: Array, layer: str, cotangent: Array) -> Any:
    def score(image: jax.Array) -> jax.Array:
        return jnp.sum(forward(weights, image, layer) * cotangent)

    return jax.grad(score)(jnp.asarray(image))


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
        raise ConfigError(f"--size {size} cannot be compared: the reference of {model_name} pads for {fixed} px only")
    if size is not None and size < 1:
        raise ConfigError(f"--size {size} is not a number of pixels above 0")
    return fixed or size or DEFAULT_SIZE


def _reference(model_name: str, *, head: bool, side: int) -> Reference:
    try:
        if model_name in KERAS_NAMES:
            return KerasReference(model_name, head=head, side=side)
        return TorchReference(model_name, head=head)
    except ImportError as error:
        raise EnvironmentFailure(
            f"verify compares {model_name} with its source framework, and {error.name} is not installed. "
            "Run: pip install 'jaxviz-atlas[verify]'"
        ) from error


class KerasReference:
    """`keras.applications`, on TensorFlow. Layers are matched by position; names are checked where Keras fixes them."""

    def __init__(self, model_name: str, *, head: bool, side: int) -> None:
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        import keras
        import tensorflow

        self.framework = f"keras {keras.__version__}, tensorflow {tensorflow.__version__}"
        self._tensorflow, self._keras = tensorflow, keras
        build = getattr(keras.applications, KERAS_NAMES[model_name])
        self.network = build(weights=None, include_top=head, input_shape=(side, side, 3))
        names = [layer.name for layer in architecture(model_name, head=head).graph.layers]
        self._layers: Mapping[str, Any] = dict(zip(names, self.network.layers, strict=True))

    def load_file(self, path: Path) -> None:
        """`load_weights`, or `load_model` for a `.keras` file."""
        if path.suffix == ".keras":
            self.network.set_weights(self._keras.models.load_model(path, compile=False).get_weights())
        else:
            self.network.load_weights(path)

    def set_arrays(self, weights: Weights) -> None:
        """By layer and Keras's own variable names."""
        for name, layer in self._layers.items():
            for variable in layer.weights:
                variable.assign(weights[name][variable.name])

    def write_file(self, folder: Path) -> Path:
        """Keras 3's `.weights.h5`."""
        path = folder / "random.weights.h5"
        self.network.save_weights(path)
        return path

    def activations(self, image: Array) -> dict[str, Array]:
        """One forward pass that gives out every layer."""
        outputs = {name: layer.output for name, layer in self._layers.items()}
        found = self._keras.Model(self.network.input, outputs)(image, training=False)
        return {name: value.numpy() for name, value in found.items()}

    def input_gradient(self, image: Array, layer: str, cotangent: Array) -> Array:
        """By gradient tape."""
        part = self._keras.Model(self.network.input, self._layers[layer].output)
        tensor = self._tensorflow.convert_to_tensor(image)
        with self._tensorflow.GradientTape() as tape:
            tape.watch(tensor)
            score = self._tensorflow.reduce_sum(part(tensor, training=False) * cotangent)
        gradient: Array = tape.gradient(score, tensor).numpy()
        return gradient


class TorchReference:
    """The package `efficientnet_lite_pytorch`. NCHW inside, NHWC outside."""

    def __init__(self, model_name: str, *, head: bool) -> None:
        import efficientnet_lite_pytorch
        import torch

        self.framework = f"torch {torch.__version__}, efficientnet_lite_pytorch"
        self._torch, self._head, self._name = torch, head, model_name
        self.network = efficientnet_lite_pytorch.EfficientNet.from_name(model_name.replace("_", "-")).eval()

    def load_file(self, path: Path) -> None:
        """`torch.load` and `load_state_dict`."""
        self.network.load_state_dict(self._torch.load(path, weights_only=True))

    def set_arrays(self, weights: Weights) -> None:
        """By torch's names."""
        state = self.network.state_dict()
        for layer, module in self._modules().items():
            for parameter, array in weights.get(layer, {}).items():
                name = f"{module}.{BATCH_NORM.get(parameter, 'bias' if parameter == 'bias' else 'weight')}"
                state[name] = self._torch.from_numpy(_to_torch_layout(array, parameter)).reshape(state[name].shape)
        self.network.load_state_dict(state)

    def write_file(self, folder: Path) -> Path:
        """A `.pth` file as `torch.save` writes it."""
        path = folder / "random.pth"
        state = self.network.state_dict()
        self._torch.save({name: value for name, value in state.items() if self._head or "_fc." not in name}, path)
        return path

    def activations(self, image: Array) -> dict[str, Array]:
        """One forward pass that gives out every layer."""
        with self._torch.no_grad():
            return {name: _nhwc(value).numpy() for name, value in self._run(self._tensor(image)).items()}

    def input_gradient(self, image: Array, layer: str, cotangent: Array) -> Array:
        """By autograd."""
        tensor = self._tensor(image).requires_grad_()
        (_nhwc(self._run(tensor)[layer]) * self._torch.from_numpy(cotangent)).sum().backward()
        gradient: Array = _nhwc(tensor.grad).numpy()
        return gradient

    def _tensor(self, image: Array) -> Any:
        return self._torch.from_numpy(np.ascontiguousarray(image.transpose(0, 3, 1, 2)))

    def _modules(self) -> dict[str, str]:
        """jaxviz's layer name -> torch's module name, for layers with weights."""
        modules = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "head_conv": "_conv_head", "head_bn": "_bn1"}
        modules["predictions"] = "_fc"
        for number, (stage, repeat, *_) in enumerate(block_settings(self._name)):
            for part, norm in (("expand", "_bn0"), ("depthwise", "_bn1"), ("project", "_bn2")):
                modules[f"block{stage}_{repeat}_{part}_conv"] = f"_blocks.{number}._{part}_conv"
                modules[f"block{stage}_{repeat}_{part}_bn"] = f"_blocks.{number}.{norm}"
        return modules

    def _run(self, tensor: Any) -> dict[str, Any]:
        """Every activation; what has no module of its own (ReLU6, the head) is computed as the reference does."""
        found: dict[str, Any] = {}
        relu6 = self._torch.nn.functional.relu6

        def keep(name: str) -> Any:
            def hook(_module: Any, _inputs: Any, output: Any) -> None:
                found[name] = output
                if name.endswith("_bn") and not name.endswith("project_bn"):
                    found[name.removesuffix("_bn") + "_relu"] = relu6(output)

            return hook

        named = dict(self.network.named_modules())
        modules = {layer: name for layer, name in self._modules().items() if name in named}
        for number, (stage, repeat, *_) in enumerate(block_settings(self._name)):
            modules[f"block{stage}_{repeat}_out"] = f"_blocks.{number}"
        hooks = [named[name].register_forward_hook(keep(layer)) for layer, name in modules.items()]
        try:
            output = self.network(tensor)
        finally:
            for hook in hooks:
                hook.remove()
        found["avg_pool"] = found["head_relu"].mean(dim=(2, 3))
        found["predictions"] = output.softmax(dim=1)
        return found


def _to_torch_layout(array: Array, parameter: str) -> Array:
    """(h, w, in, out) -> (out, in, h, w); depthwise (h, w, c) -> (c, h, w); dense (in, out) -> (out, in)."""
    axes = {4: (3, 2, 0, 1), 3: (2, 0, 1), 2: (1, 0)}.get(array.ndim) if parameter == "kernel" else None
    return np.ascontiguousarray(array.transpose(axes) if axes else array)


def _nhwc(value: Any) -> Any:
    return value.permute(0, 2, 3, 1) if value.ndim == 4 else value

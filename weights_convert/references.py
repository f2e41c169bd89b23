"""The frameworks that models come from, behind one interface: what `verify` compares with.

The only file that imports TensorFlow or PyTorch. Images and activations are NHWC outside, whatever the framework
uses inside.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jaxviz.errors import EnvironmentFailure
from jaxviz.models import architecture
from jaxviz.models.efficientnet_lite import block_settings
from weights_convert.match import Weights
from weights_convert.torch_checkpoint import BATCH_NORM

KERAS_NAMES = {"resnet50v2": "ResNet50V2", "resnet101v2": "ResNet101V2", "resnet152v2": "ResNet152V2"}

Array = NDArray[np.float32]


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


def build_reference(model_name: str, *, head: bool, side: int) -> Reference:
    """The framework's own network, with weights of its own until some are set.

    Raises:
        EnvironmentFailure: the framework is not installed.
    """
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
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no lines about GPUs that are not there
        import keras
        import tensorflow

        self.framework = f"keras {keras.__version__}, tensorflow {tensorflow.__version__}"
        self._tensorflow, self._keras = tensorflow, keras
        build = getattr(keras.applications, KERAS_NAMES[model_name])
        self.network = build(weights=None, include_top=head, input_shape=(side, side, 3))
        names = ["input_layer", *architecture(model_name, head=head).layers]
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
        self.network.load_state_dict(self._torch.load(path, weights_only=True), strict=self._head)

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
        """The module in torch of each layer with weights, by our layer name."""
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

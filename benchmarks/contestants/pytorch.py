"""PyTorch as its performance guide advises for this job: channels_last, weights frozen, a batch a call.

Eager in float32 on the CPU for the race; on a GPU also with bfloat16 autocast and with `torch.compile`. A GPU takes
TF32 for float32 products, as JAX does, and cuDNN's fastest kernels for these shapes.

torchvision has no ResNet50V2, so the network is run from the layer table. A zero pad before a convolution is the
convolution's own padding, as every PyTorch model writes it. The one before the max-pool stays: the pool's own padding
is minus infinity, and Keras's is zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from torch.nn import functional

from benchmarks.contestants import Prepared, UnavailableError
from benchmarks.contestants.stepping import Stepping, one_hot
from benchmarks.settings import MODEL, NORM_EPSILON, Task
from jaxviz.models import architecture


class PyTorch(Stepping):
    """`task.batch` images a call; NCHW shapes in channels_last memory."""

    def __init__(self, task: Task, *, device: str = "cpu", autocast: bool = False, compiler: str | None = None) -> None:
        """`compiler` is a backend of `torch.compile`; None: eager.

        Raises:
            UnavailableError: this PyTorch finds no such device.
        """
        super().__init__(task)
        if device == "cuda":
            if not torch.cuda.is_available():
                raise UnavailableError(f"PyTorch {torch.__version__} finds no GPU")
            torch.set_float32_matmul_precision("high")  # TF32; convolutions take it by default
            torch.backends.cudnn.benchmark = True
        self._device, self._autocast, self._compiler = device, autocast, compiler
        self._graph = architecture(MODEL).graph
        self._weights = {
            name: _parameter(array).to(device) for name, array in safetensors.numpy.load_file(task.weights).items()
        }  # requires_grad is False
        self._rows: tuple[Any, ...] = ()
        self._scores: Callable[[Any, Any], Any] = self._eager_scores

    def prepare(self, layer: str) -> Prepared:
        """A few steps; eager has nothing to compile."""
        self._rows = tuple(self._graph.path_to(layer))
        if self._compiler is not None:
            torch.compiler.reset()
            self._scores = torch.compile(self._eager_scores, backend=self._compiler, dynamic=False)
        times = self.probe(*self.first_batch())
        return Prepared(times.first_extra_s, times.step_s * self.task.steps / self.images_per_call)

    def begin(self, filters: np.ndarray, starts: np.ndarray) -> tuple[Any, Any]:
        """NHWC memory seen as NCHW is channels_last already."""
        selector = torch.from_numpy(one_hot(filters, self._rows[-1].channels))
        images = torch.from_numpy(starts).permute(0, 3, 1, 2)
        return selector.to(self._device), images.to(self._device)

    def step(self, selector: Any, images: Any) -> tuple[Any, Any]:
        """Forward, backward to the image, update."""
        x = images.detach().requires_grad_()
        scores = self._scores(x, selector)
        (gradients,) = torch.autograd.grad(scores.sum(), x)
        with torch.no_grad():
            squares = gradients.square().sum(dim=(1, 2, 3), keepdim=True)
            moved = x + self.task.step_size * gradients * squares.clamp(min=NORM_EPSILON).rsqrt()
        return scores.detach(), moved

    def fetch(self, array: Any) -> np.ndarray:
        """To NumPy."""
        found: np.ndarray = array.cpu().numpy()
        return found

    def _eager_scores(self, images: Any, selector: Any) -> Any:
        with torch.autocast(self._device, torch.bfloat16, enabled=self._autocast):
            activation = self._forward(images)
        return (activation.float().mean(dim=(2, 3)) * selector).sum(dim=1)

    def _forward(self, images: Any) -> Any:
        activations: dict[str, Any] = {}
        borders: dict[str, int] = {}  # pads left to the convolution that follows
        takes_pad = {row.inputs[0] for row in self._rows if row.kind == "conv"}
        for row in self._rows:
            inputs = [activations[name] for name in row.inputs]
            if row.kind == "pad" and row.name in takes_pad:
                activations[row.name], borders[row.name] = inputs[0], row.border_px
            else:
                padding = borders.get(row.inputs[0], 0) if inputs else 0
                activations[row.name] = self._layer(row, inputs, padding) if inputs else images
        return activations[self._rows[-1].name]

    def _layer(self, row: Any, inputs: list[Any], padding: int) -> Any:
        x = inputs[0]
        match row.kind:
            case "conv":
                bias = self._weights[f"{row.name}/bias"] if row.bias else None
                return functional.conv2d(x, self._weights[f"{row.name}/kernel"], bias, row.stride, padding)
            case "batch_norm":
                mean, variance, gamma, beta = (
                    self._weights[f"{row.name}/{name}"] for name in ("moving_mean", "moving_variance", "gamma", "beta")
                )
                return functional.batch_norm(x, mean, variance, gamma, beta, eps=row.epsilon)
            case "relu":
                return functional.relu(x)
            case "pad":
                return functional.pad(x, (row.border_px,) * 4)
            case "max_pool":
                return functional.max_pool2d(x, row.kernel, row.stride)
            case "add":
                return inputs[0] + inputs[1]
            case _:
                raise ValueError(f"{row.name}: {row.kind} does not occur in {MODEL} without its head")


def _parameter(array: np.ndarray) -> Any:
    if array.ndim != 4:
        return torch.from_numpy(array)
    kernel = torch.from_numpy(np.ascontiguousarray(array.transpose(3, 2, 0, 1)))  # HWIO -> OIHW
    return kernel.to(memory_format=torch.channels_last)

"""PyTorch as its performance guide advises for this job: channels_last, weights frozen, a batch a call.

Eager in float32 on the CPU for the race; on a GPU also with bfloat16 autocast and with `torch.compile`. A GPU takes
TF32 for float32 products, as JAX does, and cuDNN's fastest kernels for these shapes.

torchvision has no ResNet50V2, so it is written out here, in the order and with the names of Keras. A zero pad before
a convolution is the convolution's own padding, as every PyTorch model writes it. The one before the max-pool stays: the
pool's own padding is minus infinity, and Keras's is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
import torch
from torch.nn import functional

from benchmarks.contestants import Prepared, UnavailableError
from benchmarks.contestants.stepping import Stepping, one_hot
from benchmarks.settings import NORM_EPSILON, Task

BLOCKS = (3, 4, 6, 3)  # of ResNet50V2's stages
BATCH_NORM_EPSILON = 1.001e-5  # keras/src/applications/resnet.py


class Row(NamedTuple):
    """One operation; `pixels` is the side of a pool's window, or the border of a pad or convolution."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    pixels: int = 0
    stride: int = 1


def resnet50v2() -> Iterator[Row]:
    """Its operations, without the head."""
    yield Row("conv1_conv", "conv", ("images",), 3, 2)
    yield Row("pool1_pad", "pad", ("conv1_conv",), 1)
    yield Row("pool1_pool", "max_pool", ("pool1_pad",), 3, 2)
    x, pools = "pool1_pool", iter(("max_pooling2d", "max_pooling2d_1", "max_pooling2d_2"))
    for stage, count in enumerate(BLOCKS, start=2):
        for number in range(1, count + 1):
            block, stride = f"conv{stage}_block{number}", 2 if number == count and stage <= len(BLOCKS) else 1
            yield from _norm_relu(f"{block}_preact", x)
            yield Row(f"{block}_1_conv", "conv", (f"{block}_preact_relu",))
            yield from _norm_relu(f"{block}_1", f"{block}_1_conv")
            yield Row(f"{block}_2_conv", "conv", (f"{block}_1_relu",), 1, stride)
            yield from _norm_relu(f"{block}_2", f"{block}_2_conv")
            if number == 1:
                x = f"{block}_0_conv"
                yield Row(x, "conv", (f"{block}_preact_relu",))
            elif stride == 2:
                before, x = x, next(pools)
                yield Row(x, "max_pool", (before,), 1, 2)
            yield Row(f"{block}_3_conv", "conv", (f"{block}_2_relu",))
            yield Row(f"{block}_out", "add", (x, f"{block}_3_conv"))
            x = f"{block}_out"
    yield from _norm_relu("post", x)


def _norm_relu(name: str, x: str) -> Iterator[Row]:
    yield Row(f"{name}_bn", "batch_norm", (x,))
    yield Row(f"{name}_relu", "relu", (f"{name}_bn",))


def path_to(layer: str) -> tuple[Row, ...]:
    """The operations that a layer needs, in order. Raises ValueError where there is no such layer."""
    rows = list(resnet50v2())
    needed, found = {layer}, list[Row]()
    for row in reversed(rows):
        if row.name in needed:
            needed.update(row.inputs)
            found.insert(0, row)
    if not found:
        raise ValueError(f"{layer} is none of the layers that are written out here")
    return tuple(found)


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
        self._weights = {
            name: _parameter(array).to(device) for name, array in safetensors.numpy.load_file(task.weights).items()
        }  # requires_grad is False
        self._rows: tuple[Row, ...] = ()
        self._channels = 0
        self._scores: Callable[[Any, Any], Any] = self._eager_scores

    def prepare(self, layer: str) -> Prepared:
        """A few steps; eager has nothing to compile."""
        self._rows = path_to(layer)
        with torch.no_grad():
            side = self.task.size
            self._channels = self._forward(torch.zeros(1, 3, side, side, device=self._device)).shape[1]
        if self._compiler is not None:
            torch.compiler.reset()
            self._scores = torch.compile(self._eager_scores, backend=self._compiler, dynamic=False)
        times = self.probe(*self.first_batch())
        return Prepared(times.first_extra_s, times.step_s * self.task.steps / self.images_per_call)

    def begin(self, filters: np.ndarray, starts: np.ndarray) -> tuple[Any, Any]:
        """NHWC memory seen as NCHW is channels_last already."""
        selector = torch.from_numpy(one_hot(filters, self._channels))
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
        activations: dict[str, Any] = {"images": images}
        for row in self._rows:
            activations[row.name] = self._layer(row, *(activations[name] for name in row.inputs))
        return activations[self._rows[-1].name]

    def _layer(self, row: Row, x: Any, other: Any = None) -> Any:
        weights = self._weights
        match row.kind:
            case "conv":
                kernel, bias = weights[f"{row.name}/kernel"], weights.get(f"{row.name}/bias")
                return functional.conv2d(x, kernel, bias, row.stride, row.pixels)
            case "batch_norm":
                mean, variance, gamma, beta = (
                    weights[f"{row.name}/{name}"] for name in ("moving_mean", "moving_variance", "gamma", "beta")
                )
                return functional.batch_norm(x, mean, variance, gamma, beta, eps=BATCH_NORM_EPSILON)
            case "relu":
                return functional.relu(x)
            case "pad":
                return functional.pad(x, (row.pixels,) * 4)
            case "max_pool":
                return functional.max_pool2d(x, row.pixels, row.stride)
            case _:
                return x + other


def _parameter(array: np.ndarray) -> Any:
    if array.ndim != 4:
        return torch.from_numpy(array)
    kernel = torch.from_numpy(np.ascontiguousarray(array.transpose(3, 2, 0, 1)))  # HWIO -> OIHW
    return kernel.to(memory_format=torch.channels_last)

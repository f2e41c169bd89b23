"""PyTorch as its performance guide advises for this job: channels_last, weights frozen, a batch a call.

Eager, in float32 and with `autocast` to bfloat16; where asked, with `torch.compile`. A GPU takes TF32 for float32
products, as JAX does, and cuDNN's fastest kernels for these shapes.

torchvision has no ResNet50V2, so it is written out here, up to the layer. A zero pad before a convolution is the
convolution's own padding, as every PyTorch model writes it. The one before the max-pool stays: the pool's own padding
is minus infinity, and Keras's is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
import torch
from torch._dynamo.exc import TorchDynamoException
from torch.nn import functional

from benchmarks.contestants import Prepared, UnavailableError
from benchmarks.contestants.stepping import Stepping, one_hot
from benchmarks.settings import NORM_EPSILON, Task

BLOCKS = (3, 4, 6, 3)  # of each stage of ResNet50V2
BATCH_NORM_EPSILON = 1.001e-5  # Keras's
INDUCTOR = "inductor"  # the backend of `torch.compile` that is tried where one is


class _Form(NamedTuple):
    """Images a call, and a backend of `torch.compile`; None: eager."""

    size: int
    compiler: str | None

    def __str__(self) -> str:
        return f"{self.size} a call" + ("" if self.compiler is None else f", compiled by {self.compiler}")


class PyTorch(Stepping):
    """`task.batch` images a call, or of other `sizes` the fastest; NCHW shapes in channels_last memory."""

    def __init__(
        self,
        task: Task,
        *,
        device: str = "cpu",
        autocast: bool = False,
        compiler: str | None = None,
        sizes: Sequence[int] | None = None,
        probe_compiled: bool = False,
    ) -> None:
        """`compiler` is a backend of `torch.compile`; None: eager, or with `probe_compiled` whichever is faster.

        Raises:
            UnavailableError: this PyTorch finds no such device.
        """
        super().__init__(task)
        if device == "cuda":
            if not torch.cuda.is_available():
                raise UnavailableError(f"PyTorch {torch.__version__} finds no GPU")
            torch.set_float32_matmul_precision("high")  # TF32; convolutions take it by default
            torch.backends.cudnn.benchmark = True
        self._device, self._autocast, self._compiler, self._probe_compiled = device, autocast, compiler, probe_compiled
        self._sizes = (task.batch,) if sizes is None else tuple(sizes)
        self._weights = {
            name: _parameter(array).to(device) for name, array in safetensors.numpy.load_file(task.weights).items()
        }  # requires_grad is False
        self._layer = ""
        self._form = _Form(task.batch, None)
        self._scores: Callable[[Any, Any], Any] = self._eager_scores

    def prepare(self, layer: str) -> Prepared:
        """A few steps in every form, and the choice; eager has nothing to compile."""
        self._layer = layer
        filters = len(np.load(self.task.starts, mmap_mode="r"))
        forms = [_Form(size, self._compiler) for size in sorted({min(size, filters) for size in self._sizes})]
        probe: dict[_Form, dict[str, Any]] = {form: self._timed(form) for form in forms}
        best = min(probe, key=lambda form: probe[form]["image_step_s"])
        if self._probe_compiled:
            compiled = best._replace(compiler=INDUCTOR)
            try:
                probe[compiled] = self._timed(compiled)
                best = min(best, compiled, key=lambda form: probe[form]["image_step_s"])
            except TorchDynamoException as error:  # without a C++ compiler too
                probe[compiled] = {"failed": str(error).strip().partition("\n")[0]}
        if best != self._form:
            self._take(best)
        return Prepared(
            probe[best]["compile_s"],
            probe[best]["image_step_s"] * self.task.steps,
            str(best).replace("a call", "images a call", 1),
            {str(form): values for form, values in probe.items()},
        )

    def begin(self, filters: np.ndarray, starts: np.ndarray) -> tuple[Any, Any]:
        """NHWC memory seen as NCHW is channels_last already."""
        kernel = self._weights[f"{self._layer.replace('_out', '_3_conv')}/kernel"]
        selector = torch.from_numpy(one_hot(filters, kernel.shape[0]))
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

    def _take(self, form: _Form) -> None:
        self._form, self.images_per_call, self._scores = form, form.size, self._eager_scores
        if form.compiler is not None:
            torch.compiler.reset()
            self._scores = torch.compile(self._eager_scores, backend=form.compiler, dynamic=False)

    def _timed(self, form: _Form) -> dict[str, float]:
        self._take(form)
        times = self.probe(*self.first_batch())
        return {"compile_s": times.first_extra_s, "image_step_s": times.step_s / form.size}

    def _eager_scores(self, images: Any, selector: Any) -> Any:
        with torch.autocast(self._device, torch.bfloat16, enabled=self._autocast):
            activation = self._forward(images)
        return (activation.float().mean(dim=(2, 3)) * selector).sum(dim=1)

    def _forward(self, images: Any) -> Any:
        """The activation of the layer, a convolution or a block's `_out`."""
        x = self._conv(images, "conv1_conv", 2, 3)
        if self._layer == "conv1_conv":
            return x
        x = functional.max_pool2d(functional.pad(x, (1,) * 4), 3, 2)
        for stage, blocks in enumerate(BLOCKS, start=2):
            for block in range(1, blocks + 1):
                name, stride = f"conv{stage}_block{block}", 2 if block == blocks and stage < len(BLOCKS) + 1 else 1
                preact = self._norm_relu(x, f"{name}_preact_bn")
                y = self._conv(preact, f"{name}_1_conv")
                if self._layer == f"{name}_1_conv":
                    return y
                y = self._conv(self._norm_relu(y, f"{name}_1_bn"), f"{name}_2_conv", stride, 1)
                if self._layer == f"{name}_2_conv":
                    return y
                y = self._conv(self._norm_relu(y, f"{name}_2_bn"), f"{name}_3_conv")
                if self._layer == f"{name}_3_conv":
                    return y
                if block == 1:
                    x = self._conv(preact, f"{name}_0_conv", stride)
                elif stride > 1:
                    x = functional.max_pool2d(x, 1, stride)
                x = x + y
                if self._layer == f"{name}_out":
                    return x
        raise ValueError(f"{self._layer} is no convolution and no block's output of ResNet50V2")

    def _conv(self, x: Any, name: str, stride: int = 1, padding: int = 0) -> Any:
        bias = self._weights.get(f"{name}/bias")
        return functional.conv2d(x, self._weights[f"{name}/kernel"], bias, stride, padding)

    def _norm_relu(self, x: Any, name: str) -> Any:
        mean, variance, gamma, beta = (
            self._weights[f"{name}/{part}"] for part in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        return functional.relu(functional.batch_norm(x, mean, variance, gamma, beta, eps=BATCH_NORM_EPSILON))


def _parameter(array: np.ndarray) -> Any:
    if array.ndim != 4:
        return torch.from_numpy(array)
    kernel = torch.from_numpy(np.ascontiguousarray(array.transpose(3, 2, 0, 1)))  # HWIO -> OIHW
    return kernel.to(memory_format=torch.channels_last)

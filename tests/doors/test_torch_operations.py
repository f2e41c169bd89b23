"""Operations of PyTorch, one by one: the same values and the same input gradients.

All of them are branches of one module, each with channels of the image to itself, so that one export and one compiled
program tell of each.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from helpers.networks import FAST, PLAIN, distance, normal, values_and_gradients

from jaxviz import Model

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[torch]'")
from helpers.torch_networks import unusual  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

TOLERANCE = 1e-5  # float32 in another order, and other approximations of exp, erf and tanh
CHANNELS, SIZE = 8, (11, 14)


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Any, **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class StandardizedConv(nn.Conv2d):
    """As in timm.layers.std_conv."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = functional.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-6)
        return functional.conv2d(x, weight.reshape_as(self.weight), self.bias, self.stride, self.padding)


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.fc2(functional.silu(self.fc1(x.mean((2, 3), keepdim=True)))))


class Attention(nn.Module):
    """Two heads over the cells of an image."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.qkv, self.how = nn.Linear(8, 24), how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).reshape(batch, -1, 3, 2, channels // 2).permute(2, 0, 3, 1, 4).unbind(0)
        if self.how == "sdpa":
            y = functional.scaled_dot_product_attention(q, k, v)
        elif self.how == "einsum":
            y = torch.einsum("bhij,bhjd->bhid", (torch.einsum("bhid,bhjd->bhij", q, k) * 0.5).softmax(-1), v)
        else:
            y = ((q * 0.5) @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        return y.transpose(1, 2).reshape(batch, -1, channels).transpose(1, 2).reshape(batch, channels, height, width)


def shuffled(x: torch.Tensor) -> torch.Tensor:
    batch, channels, height, width = x.shape
    return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous().view(batch, -1, height, width)


def standardized(x: torch.Tensor) -> torch.Tensor:
    variance, mean = torch.var_mean(x, dim=(1, 2, 3), keepdim=True, correction=0)
    return (x - mean) / torch.sqrt(variance + 1e-5)


def response_norm(x: torch.Tensor) -> torch.Tensor:
    size = x.norm(p=2, dim=(2, 3), keepdim=True)
    return x + x * (size / (size.mean(1, keepdim=True) + 1e-6))


CONVOLUTIONS = {
    "grouped": lambda: nn.Conv2d(8, 12, 3, padding=1, groups=4),
    "depthwise": lambda: nn.Conv2d(8, 16, 3, 2, 1, groups=8),
    "dilated": lambda: nn.Conv2d(8, 5, 3, dilation=2, padding=2),
    "dilated, with a stride": lambda: nn.Conv2d(8, 5, 3, stride=2, dilation=2, padding=1),
    "stride of two kinds": lambda: nn.Conv2d(8, 5, (3, 2), stride=(2, 3), padding=(0, 1)),
    "padding 'same'": lambda: nn.Conv2d(8, 5, (4, 3), padding="same", dilation=(1, 2)),
    "padding 'valid'": lambda: nn.Conv2d(8, 5, 3, padding="valid", bias=False),
    "reflected": lambda: nn.Conv2d(8, 5, 3, padding=2, padding_mode="reflect"),
    "replicated": lambda: nn.Conv2d(8, 5, 3, padding=1, padding_mode="replicate"),
    "circular": lambda: nn.Conv2d(8, 5, 3, padding=1, padding_mode="circular"),
    "asymmetric": lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 2, 3)), nn.Conv2d(8, 5, 3, 2)),
    "padded by a number": lambda: Call(lambda x: functional.pad(x, (1, 2, 0, -1), value=0.5)),
    "transposed": lambda: nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1),
    "transposed, grouped, dilated": lambda: nn.ConvTranspose2d(8, 6, (2, 3), stride=(1, 2), groups=2, dilation=2),
    "standardized": lambda: StandardizedConv(8, 5, 3),
    "of one dimension": lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(8, 3, 5, padding=2)),
    "parametrized": lambda: torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 5, 3)),
}
POOLS = {
    "average": lambda: nn.AvgPool2d(3, 2, 1),
    "average, without pads": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "average, ceil": lambda: nn.AvgPool2d((3, 2), (3, 3), 1, ceil_mode=True),
    "average, ceil, without pads": lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    "average, divided by 5": lambda: nn.AvgPool2d(2, divisor_override=5),
    "maximum": lambda: nn.MaxPool2d(3, 2, 1),
    "maximum, ceil": lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
    "maximum, ceil, pads": lambda: nn.MaxPool2d((2, 3), (3, 2), (1, 1), ceil_mode=True),
    "maximum, dilated": lambda: nn.MaxPool2d(3, 1, 1, dilation=2),
    "adaptive average": lambda: nn.AdaptiveAvgPool2d((4, 5)),
    "adaptive average, larger": lambda: nn.AdaptiveAvgPool2d((13, 14)),
    "adaptive average, one size": lambda: nn.AdaptiveAvgPool2d((None, 7)),
    "adaptive average, 1": lambda: nn.AdaptiveAvgPool2d(1),
    "adaptive maximum": lambda: nn.AdaptiveMaxPool2d((4, 5)),
    "adaptive maximum, 1": lambda: nn.AdaptiveMaxPool2d(1),
    "mean": lambda: Call(lambda x: x.mean((2, 3))),
    "power mean": lambda: Call(lambda x: functional.avg_pool2d(x.clamp(min=1e-2).pow(3), 3).pow(1 / 3)),
    "maximum of channels": lambda: Call(lambda x: torch.cat([x.amax(1, True), torch.max(x, 1, True)[0]], 1)),
}
SIZES = {
    "nearest": lambda: nn.Upsample(scale_factor=2),
    "nearest, to a size": lambda: nn.Upsample(size=(13, 9)),
    "nearest-exact": lambda: nn.Upsample(size=(13, 9), mode="nearest-exact"),
    "bilinear": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "bilinear, by 1.7": lambda: nn.Upsample(scale_factor=1.7, mode="bilinear"),
    "bilinear, aligned": lambda: nn.UpsamplingBilinear2d(size=(20, 6)),
    "bicubic": lambda: nn.Upsample(size=(17, 20), mode="bicubic"),
    "pixel shuffle": lambda: nn.PixelShuffle(2),
    "pixel unshuffle": lambda: nn.Sequential(nn.ZeroPad2d((0, 0, 1, 0)), nn.PixelUnshuffle(2)),
}
ACTIVATIONS = {
    "celu": lambda: nn.CELU(0.7),
    "clamped": lambda: Call(lambda x: x.clamp(-0.5, 0.7)),
    "elu": lambda: nn.ELU(0.7),
    "gelu": nn.GELU,
    "gelu, tanh": lambda: nn.GELU("tanh"),
    "glu": lambda: nn.GLU(1),
    "hardsigmoid": nn.Hardsigmoid,
    "hardswish": lambda: nn.Hardswish(inplace=True),
    "hardtanh": lambda: nn.Hardtanh(-0.5, 0.8),
    "leaky relu": lambda: nn.LeakyReLU(0.2, inplace=True),
    "log softmax": lambda: nn.LogSoftmax(1),
    "logsigmoid": nn.LogSigmoid,
    "mish": nn.Mish,
    "prelu": lambda: nn.PReLU(8),
    "prelu, one": nn.PReLU,
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": nn.ReLU6,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softmax": lambda: nn.Softmax(1),
    "softplus": lambda: nn.Softplus(1.5),
    "softsign": nn.Softsign,
    "tanh": nn.Tanh,
    "threshold": lambda: nn.Threshold(0.1, -0.3),
}
NORMS = {
    "batch": lambda: nn.BatchNorm2d(8),
    "batch, not affine": lambda: nn.BatchNorm2d(8, affine=False),
    "batch, of the image": lambda: nn.BatchNorm2d(8, track_running_stats=False),
    "group": lambda: nn.GroupNorm(4, 8),
    "instance": lambda: nn.InstanceNorm2d(8, affine=True),
    "instance, tracked": lambda: nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
    "layer": lambda: nn.LayerNorm([8, *SIZE]),
    "local response": lambda: nn.LocalResponseNorm(3),
    "response": lambda: Call(response_norm),
    "standardized": lambda: Call(standardized),
    "unit length": lambda: Call(lambda x: functional.normalize(x, dim=1)),
}
SHAPES = {
    "attention, matmul": lambda: Attention("matmul"),
    "attention, einsum": lambda: Attention("einsum"),
    "attention, sdpa": lambda: Attention("sdpa"),
    "cat": lambda: Call(lambda x: torch.cat([x[:, 3:], x[:, :2] * 2, x], 1)),
    "channel shuffle": lambda: nn.ChannelShuffle(4),
    "channel shuffle, by hand": lambda: Call(shuffled),
    "chunk": lambda: Call(lambda x: (lambda a, b, c: a * b - c.repeat(1, 2, 1, 1)[:, 1:])(*x.chunk(3, 1))),
    "flip and roll": lambda: Call(lambda x: x.flip(2) + x.roll((1, -2), (2, 3))),
    "in place": lambda: Call(lambda x: x.clone().mul_(2).add_(x, alpha=0.5)),
    "indexed": lambda: Call(lambda x: x[:, [0, 2, 2]] + x[:, 1, None]),
    "masked": lambda: Call(lambda x: torch.where(x > 0.3, x, 0.1 * x).masked_fill(x < -1, 0.0)),
    "numbers": lambda: Call(lambda x: (1 - x) / (2 + x.abs()) + x.pow(2).add(1).rsqrt() - x.detach() // 1),
    "split": lambda: Call(lambda x: sum(part.sum(1, keepdim=True) for part in x.split([3, 5], 1))),
    "squeeze and excite": SqueezeExcite,
    "stack": lambda: Call(lambda x: torch.stack([x, x.sin()], 1).sum(1)),
    "strided slice": lambda: Call(lambda x: x[:, :, ::2, 1::3]),
    "unbind": lambda: Call(lambda x: x.unbind(1)[3][:, None].expand(-1, 3, -1, -1)),
}
CASES = {
    f"{group}: {name}": make
    for group, cases in {
        "convolution": CONVOLUTIONS, "pool": POOLS, "size": SIZES, "activation": ACTIVATIONS, "norm": NORMS,
        "shape": SHAPES,
    }.items()
    for name, make in cases.items()
}  # fmt: skip


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(make() for make in CASES.values())

    def results(self, x: torch.Tensor) -> list[torch.Tensor]:
        parts = x.split(CHANNELS, 1)
        return [branch(part.clone()).flatten(1) for branch, part in zip(self.branches, parts, strict=True)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat(self.results(x), 1)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """By case: values of PyTorch, of every operation as it is and of the fast ones, and the gradients of each."""
    module = unusual(Branches()).eval()
    model = Model.from_torch(module, preprocess=lambda x: x, channels=CHANNELS * len(CASES), usual_size=SIZE)
    images = normal(3, 1, *SIZE, CHANNELS * len(CASES))
    ways: list[Any] = []
    for settings in (PLAIN, FAST):
        route = model.route("cat", SIZE, settings)
        ways.append((jax.vmap(route.activation, (None, 0)), model.prepare(route)))
    ours = values_and_gradients(ways, images)
    x = torch.tensor(np.moveaxis(np.asarray(images), -1, 1)).requires_grad_(True)
    results = module.results(x)
    values = torch.cat(results, 1)
    values.backward(torch.tensor(np.asarray(normal(99, *values.shape))))
    gradients = np.moveaxis(x.grad.numpy(), 1, -1)
    by_case: dict[str, Any] = {}
    start = 0
    for place, (name, result) in enumerate(zip(CASES, results, strict=True)):
        cells, channels = slice(start, start + result.numel()), slice(place * CHANNELS, (place + 1) * CHANNELS)
        start = cells.stop
        by_case[name] = [
            (np.asarray(value)[:, cells], np.asarray(gradient)[..., channels])
            for value, gradient in [(values.detach().numpy(), gradients), *ours]
        ]
    return by_case


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_pytorchs(found: dict[str, Any], name: str) -> None:
    (value, gradient), *ours = found[name]
    for way, (our_value, our_gradient) in zip(("plain", "fast"), ours, strict=True):
        assert distance(our_value, value) < TOLERANCE, f"{way}, value"
        assert distance(our_gradient, gradient) < TOLERANCE, f"{way}, gradient"

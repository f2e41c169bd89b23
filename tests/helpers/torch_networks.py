"""PyTorch networks in the manner of torchvision and timm, small, and what PyTorch itself says of them.

Importing this needs PyTorch.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional


def unusual(module: nn.Module, seed: int = 0) -> nn.Module:
    """With numbers of a seed, and not those of the start: no statistics, scales and shifts of 0 and 1."""
    generator = torch.Generator().manual_seed(seed)

    def normal(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if name.endswith("running_var"):
                tensor.copy_(0.5 + normal(tensor) ** 2)
            elif tensor.is_floating_point() and tensor.ndim <= 1:
                tensor.copy_(float(name.endswith("weight")) + 0.2 * normal(tensor))
            elif tensor.is_floating_point():
                tensor.copy_(normal(tensor) / max(1, tensor[0].numel()) ** 0.5)
    return module


# ResNet, as torchvision.models.resnet has it


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, into: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _downsample(into, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += identity
        return self.relu(out)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, into: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * 4)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _downsample(into, width * 4, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += identity
        return self.relu(out)


def _downsample(into: int, out: int, stride: int) -> nn.Module | None:
    if stride == 1 and into == out:
        return None
    return nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))


class ResNet(nn.Module):
    def __init__(self, block: Any, width: int = 8, depths: tuple[int, ...] = (2, 1), classes: int = 5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        into = width
        for number, depth in enumerate(depths):
            blocks = []
            for place in range(depth):
                blocks.append(block(into, width << number, 2 if number and not place else 1))
                into = (width << number) * block.expansion
            setattr(self, f"layer{number + 1}", nn.Sequential(*blocks))
        self.stages = len(depths)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(into, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for number in range(self.stages):
            x = getattr(self, f"layer{number + 1}")(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


# VGG with batch norm, as torchvision.models.vgg has it


class VGG(nn.Module):
    def __init__(self, widths: tuple[int | str, ...] = (8, "M", 12, 12, "M"), classes: int = 5) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        into = 3
        for width in widths:
            if isinstance(width, str):
                layers.append(nn.MaxPool2d(2, 2))
                continue
            layers += [nn.Conv2d(into, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            into = width
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(into * 49, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, classes), nn.Dropout()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


# ConvNeXt, as timm.models.convnext has it


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class Mlp(nn.Module):
    def __init__(self, width: int, approximate: str) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * width)
        self.act = nn.GELU(approximate)
        self.drop1 = nn.Dropout(0.0)
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.drop1(self.act(self.fc1(x))))


class ConvNeXtBlock(nn.Module):
    def __init__(self, width: int, approximate: str = "none") -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, approximate)
        self.gamma = nn.Parameter(torch.ones(width))
        self.drop_path = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x
        x = self.mlp(self.norm(self.conv_dw(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        x = x.mul(self.gamma.reshape(1, -1, 1, 1))
        return self.drop_path(x) + shortcut


class ConvNeXt(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 4, 4), LayerNorm2d(width))
        second = nn.Sequential(LayerNorm2d(width), nn.Conv2d(width, 2 * width, 2, 2))
        self.stages = nn.ModuleList(
            [nn.Sequential(ConvNeXtBlock(width)), nn.Sequential(second, ConvNeXtBlock(2 * width, "tanh"))]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return x


# What PyTorch itself says


def activations(module: nn.Module, images: np.ndarray) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The images, and what every module gives for them, by its name as jaxviz counts calls; with their graph."""
    x = torch.tensor(np.moveaxis(images, -1, 1)).requires_grad_(True)
    found: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_: Any, __: Any, result: torch.Tensor) -> torch.Tensor:
            count = sum(other == name or other.rpartition("_")[0] == name for other in found)
            found[f"{name}_{count}" if count else name] = result
            return result.clone()  # what comes next may work in place

        return hook

    hooks = [part.register_forward_hook(keep(name)) for name, part in module.named_modules() if name]
    module.eval()(x)
    for hook in hooks:
        hook.remove()
    return x, found


def channels_last(tensor: torch.Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """One image's activation, as (height, width, channels), or whatever shape jaxviz says: modules may have it so."""
    array = tensor.detach().numpy()[0]
    return array if array.shape == shape else np.moveaxis(array, 0, -1)


def gradient(images: torch.Tensor, activation: torch.Tensor, cotangent: jax.Array) -> np.ndarray:
    """Of one image, (height, width, channels), for a cotangent as jaxviz has the layer."""
    weights = torch.tensor(np.asarray(cotangent))
    weights = weights if activation.shape[1:] == weights.shape else weights.movedim(-1, 0)
    (found,) = torch.autograd.grad(activation, images, weights[None], retain_graph=True)
    return np.moveaxis(found.numpy()[0], 0, -1)

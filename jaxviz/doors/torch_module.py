"""A PyTorch module as a function of weights and images: what `Model.from_torch` hands to `Model.from_callable`.

`torch.export` takes the module apart for each image size that is asked for, on a copy that has its structure and none
of its numbers; the module itself is never run and never changed. Arithmetic is float32 whatever its weights are stored
in. Images come (batch, height, width, channels) and are turned to PyTorch's order once, at the door.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxviz.doors.scaled_pixels import ScaledPixels
from jaxviz.doors.torch_graph import Graph, graph_of
from jaxviz.errors import ConfigError, EnvironmentFailure

USUAL = 224  # px, where a module says nothing
RECORDS = ("pretrained_cfg", "default_cfg")  # timm's, which every model of it has
EXAMPLE = (
    "preprocess=lambda rgb: (rgb / 255 - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225]) for "
    "ImageNet's mean and deviation, preprocess=lambda rgb: rgb / 255 for [0, 1], or the transforms that its weights "
    "came with: ResNet50_Weights.DEFAULT.transforms()"
)
Weights = dict[str, dict[str, Any]]  # arrays, by module, as PyTorch calls it, and by parameter


class Opened(NamedTuple):
    """What `Model.from_callable` takes."""

    forward: Callable[[Weights, jax.Array], jax.Array]
    weights: Weights
    preprocess: Callable[[Any], Any]
    name: str
    channels: int
    usual_size: tuple[int, int]


def open_module(
    module: Any, preprocess: Any = None, name: str | None = None, channels: int | None = None, usual_size: Any = None
) -> Opened:
    """A module, ready to be traced.

    Args:
        module: a `torch.nn.Module` whose forward takes images (batch, channels, height, width).
        preprocess: a function, or something with a mean and a deviation; None: what the module says of itself.
        name: what the network is called; None: its class.
        channels: of the image; None: what the module says of itself, or else what its first convolution takes.
        usual_size: (height, width) or one number; None: what the module says of itself, or else 224.

    Raises:
        EnvironmentFailure: PyTorch is not installed.
        ConfigError: the module is none, or nothing says how images are to be prepared.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise EnvironmentFailure(
            "a PyTorch module needs PyTorch, which is not installed",
            try_next="Run: pip install 'jaxviz-atlas[torch]'",
        ) from error

    module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
    if not isinstance(module, torch.nn.Module) or isinstance(module, torch.jit.ScriptModule):
        raise ConfigError(
            f"module {type(module).__name__} is no torch.nn.Module written in Python; give the network itself, with "
            "its weights loaded: module.load_state_dict(torch.load(FILE, weights_only=True))"
        )
    name = name or type(module).__name__
    record = _record(module)
    prepare = _prepared(preprocess) if preprocess is not None else _recorded(record, name)
    size = record.get("input_size") or (channels or _first_channels(module), USUAL, USUAL)
    weights, place = _weights(module)
    skeleton = _skeleton(module, name)
    graphs: dict[tuple[int, ...], Graph] = {}

    def forward(weights: Weights, images: jax.Array) -> jax.Array:
        x = jnp.transpose(images, (0, 3, 1, 2))
        if x.shape not in graphs:
            graphs[x.shape] = graph_of(skeleton, x.shape, name)
        by_name = {name: weights[module][parameter] for name, (module, parameter) in place.items()}
        return graphs[x.shape].run(by_name, x)

    wanted = usual_size if usual_size is not None else tuple(size[1:])
    return Opened(forward, weights, prepare, name, channels or size[0], wanted)


def _first_channels(module: Any) -> int:
    import torch

    found = [part.in_channels for part in module.modules() if isinstance(part, torch.nn.Conv2d)]
    return int(found[0]) if found else 3


# Weights


def _weights(module: Any) -> tuple[Weights, dict[str, tuple[str, str]]]:
    """Arrays by module and parameter, each once, and for each name that PyTorch has where its array is."""
    import torch

    weights: Weights = {}
    first: dict[int, tuple[str, str]] = {}
    place: dict[str, tuple[str, str]] = {}
    parameters = module.named_parameters(remove_duplicate=False)
    buffers = module.named_buffers(remove_duplicate=False)
    for name, tensor in [*parameters, *buffers]:
        if torch.nn.parameter.is_lazy(tensor):
            raise ConfigError(
                f"module {type(module).__name__} has no numbers in {name!r} yet; run it once on an image before it is "
                "given"
            )
        owner, _, own = name.rpartition(".")
        place[name] = first.setdefault(id(tensor), (owner, own))
        if place[name] == (owner, own):
            values = tensor.detach().to(device="cpu", dtype=torch.float32 if tensor.is_floating_point() else None)
            # A copy: what stands there may be trained on. NumPy's, which is checked without compiling anything.
            weights.setdefault(owner, {})[own] = np.array(values.numpy())
    return weights, place


def _skeleton(module: Any, name: str) -> Any:
    """A copy in eval mode with all of the structure, whose tensors have shapes and no memory of the module's."""
    import torch

    def like(tensor: Any) -> Any:
        dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
        empty = torch.empty(tensor.shape, dtype=dtype)  # pages that nobody touches take no memory
        # Without gradients, which torch would follow too.
        return torch.nn.Parameter(empty, requires_grad=False) if isinstance(tensor, torch.nn.Parameter) else empty

    known = {id(tensor): like(tensor) for tensor in (*module.parameters(), *module.buffers())}
    for part in module.modules():
        for tensor in vars(part).values():
            if isinstance(tensor, torch.Tensor):  # neither: its numbers are needed
                plain = tensor.detach().cpu()
                known.setdefault(id(tensor), plain.float() if plain.is_floating_point() else plain)
    try:
        return copy.deepcopy(module, known).eval()
    except (TypeError, RuntimeError) as error:
        raise ConfigError(
            f"module {name} cannot be copied ({type(error).__name__}: {error}); take what is no part of the network "
            "off it: files, locks, processes"
        ) from error


# Preprocessing


def _record(module: Any) -> dict[str, Any]:
    """What timm notes of the images of a module: a dict, or an object with the same names."""
    for attribute in RECORDS:
        noted = getattr(module, attribute, None)
        if noted is not None:
            return dict(noted) if isinstance(noted, dict) else dict(vars(noted))
    return {}


def _recorded(record: dict[str, Any], name: str) -> Callable[[Any], Any]:
    if record.get("mean") is None or record.get("std") is None:
        raise ConfigError(
            f"module {name} does not say how its images are prepared, and `preprocess` is not given; give for example "
            f"{EXAMPLE}"
        )
    return _normalization(record["mean"], record["std"])


def _prepared(preprocess: Any) -> Callable[[Any], Any]:
    """A function of pixels: what is given, or the mean and deviation of a preset of torchvision or timm."""
    inner = getattr(preprocess, "transforms", None)
    if callable(inner):  # torchvision's weights
        preprocess = inner()
    elif isinstance(inner, Sequence):  # a composition, which normalizes somewhere
        preprocess = next((part for part in inner if hasattr(part, "mean") and hasattr(part, "std")), None)
    if hasattr(preprocess, "mean") and hasattr(preprocess, "std"):
        return _normalization(preprocess.mean, preprocess.std)
    if not callable(preprocess):
        raise ConfigError(
            f"preprocess {preprocess!r} is no function and has no mean and deviation; give for example {EXAMPLE}"
        )
    found: Callable[[Any], Any] = preprocess
    return found


def _normalization(mean: Any, deviation: Any) -> ScaledPixels:
    """Pixels of [0, 255] to (pixel / 255 - mean) / deviation, for each channel."""
    numbers = [(float(center), float(width)) for center, width in zip(mean, deviation, strict=True)]
    return ScaledPixels(
        tuple(1 / (255 * width) for _, width in numbers), tuple(-center / width for center, width in numbers)
    )

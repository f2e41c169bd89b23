"""What a benchmark measures: the defaults, and the checks of what is asked for instead."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxviz.bench.records import Settings
from jaxviz.config import DTYPES, RenderConfig
from jaxviz.errors import ConfigError, UnknownLayerError, nearest
from jaxviz.loading import describe_model
from jaxviz.models import KERAS_PREFIX

if TYPE_CHECKING:
    from jaxviz.network.model import Model

DEFAULT_MODEL = "resnet50v2"
# Shallow, middle, deep: those of the race (benchmarks/). Other families: by place among their convolutions.
DEFAULT_LAYERS = ("conv2_block1_1_conv", "conv3_block4_out", "conv5_block3_3_conv")
DEFAULTS: dict[str, Any] = {"size": (180, 180), "steps": 30, "repeats": 5, "batch_sizes": "auto"}
QUICK: dict[str, Any] = {"size": (96, 96), "steps": 10, "repeats": 5, "batch_sizes": (1, 4)}
QUICK_LAYERS = 2  # the first of the default ones
MOST_REPEATS = 1000


def checked_settings(
    *,
    model: str = DEFAULT_MODEL,
    layers: Sequence[str] | None = None,
    batch_sizes: Sequence[Any] | str | None = None,
    dtypes: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    steps: int | None = None,
    repeats: int | None = None,
    seed: int = 0,
    quick: bool = False,
    kernels: str = "auto",
) -> Settings:
    """Settings with defaults where nothing is given, or where `quick` smaller ones; `layers` may be globs.

    Raises:
        UnknownModelError: no model of that name.
        UnknownLayerError: a name or glob that fits no layer of the model.
        ConfigError: a value outside its range, or a size that leaves nothing at a layer.
    """
    defaults = QUICK if quick else DEFAULTS
    if model.startswith(KERAS_PREFIX):
        raise ConfigError(
            "has no random weights to measure with",
            argument="model",
            value=model,
            try_next="give one of jaxviz models, or a network with its weights: FILE.keras or FILE.py:FUNCTION",
        )
    network = describe_model(model)
    size = defaults["size"] if size is None else size
    steps = defaults["steps"] if steps is None else steps
    repeats = defaults["repeats"] if repeats is None else repeats
    batch_sizes = defaults["batch_sizes"] if batch_sizes is None else batch_sizes
    dtypes = DTYPES if dtypes is None else tuple(dict.fromkeys(dtypes))
    for dtype in dtypes:
        RenderConfig.keras(image_size=size, crop=0, steps=steps, seed=seed, dtype=dtype, kernels=kernels)
    if not 1 <= repeats <= MOST_REPEATS:
        raise ConfigError(argument="repeats", value=repeats, allowed=f"a whole number from 1 to {MOST_REPEATS}")
    chosen = default_layers(network, quick=quick) if layers is None else matching_layers(model, network, layers)
    check_sizes(network, chosen, size)
    return Settings(
        model=model,
        layers=chosen,
        batch_sizes="auto" if batch_sizes == "auto" else _checked_batch_sizes(batch_sizes),
        dtypes=tuple(dtypes),
        size=size,
        steps=steps,
        repeats=repeats,
        seed=seed,
        quick=quick,
        kernels=kernels,
    )


def default_layers(network: Model, *, quick: bool) -> tuple[str, ...]:
    """A shallow, a middle and a deep layer; the first two of them for a quick look."""
    chosen: Sequence[str] = DEFAULT_LAYERS
    if not all(layer in network.layers for layer in DEFAULT_LAYERS):
        convolutions = [layer.name for layer in network.table() if layer.kind == "conv"]
        places = (len(convolutions) // 8, len(convolutions) // 2, len(convolutions) - 1)
        chosen = tuple(dict.fromkeys(convolutions[place] for place in places))
    return tuple(chosen[:QUICK_LAYERS] if quick else chosen)


def matching_layers(model: str, network: Model, patterns: Sequence[str]) -> tuple[str, ...]:
    """The layers that the names and globs fit, pattern by pattern, each once."""
    chosen: dict[str, None] = {}
    for pattern in patterns:
        found = fnmatch.filter(network.layers, pattern)
        if not found:
            raise UnknownLayerError(
                f"`layers` {pattern!r} fits no layer of {model}; {nearest(pattern, network.layers)}",
                argument="layers",
                value=pattern,
                try_next=f"See: jaxviz layers {model}",
            )
        chosen.update(dict.fromkeys(found))
    return tuple(chosen)


def command_of(settings: Settings) -> str:
    """The command that measures the same, every option spelled out."""
    sizes = settings.batch_sizes
    words = [
        f"jaxviz bench --model {settings.model} --layers {','.join(settings.layers)}",
        f"--batch-size {sizes if isinstance(sizes, str) else ','.join(map(str, sizes))}",
        f"--dtype {','.join(settings.dtypes)} --size {'x'.join(map(str, settings.size))} --steps {settings.steps}",
        f"--repeats {settings.repeats} --seed {settings.seed} --kernels {settings.kernels}"
        + (" --quick" if settings.quick else ""),
    ]
    return " ".join(words)


def _checked_batch_sizes(sizes: Sequence[Any] | str) -> tuple[int, ...]:
    if isinstance(sizes, str) or not sizes or "auto" in sizes:
        raise ConfigError("is neither 'auto' nor numbers, such as 1,4,16", argument="batch_size", value=sizes)
    for size in sizes:
        RenderConfig.keras(batch_size=size)
    return tuple(sorted(set(sizes)))


def check_sizes(network: Model, layers: Sequence[str], size: tuple[int, int]) -> None:
    """Raise ConfigError if an image of this size leaves nothing at one of the layers."""
    for layer in layers:
        shape = network.layer(layer, size).shape
        if 0 in shape:
            raise ConfigError(
                f"`image_size` {size[0]}x{size[1]} leaves an empty activation {shape} at layer {layer!r}",
                argument="image_size",
                try_next="give a larger `image_size`",
            )

"""What a Keras model does to an image before its first layer: scale and offset of each channel, and their order.

Found by what the operations do to a few colors, whatever they are called: a model space is one that a scale and an
offset lead to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxviz.doors.keras_walk import Call, Walk
from jaxviz.doors.scaled_pixels import ScaledPixels
from jaxviz.errors import ConfigError

# By the name of the class, or its beginning.
ARITHMETIC = ("Add", "Cast", "Divide", "Multiply", "Normalization", "Rescaling", "Subtract", "TrueDivide")
CHANNELS = ("Concatenate", "Flip", "GetItem", "Split", "Stack", "Take", "Unstack")  # take the image apart
SIZES = ("CenterCrop", "Resizing")
AUGMENTATION = ("AugMix", "CutMix", "MaxNumBoundingBoxes", "MixUp", "Pipeline", "RandAugment", "Random", "Solarization")
AT_TRAINING = ("ActivityRegularization", "AlphaDropout", "Dropout", "Gaussian", "Identity", "SpatialDropout")
OTHERS = ("AutoContrast", "CLAHE", "Equalization")  # no scale and offset

PROBE_SIDE = 4  # px; what cuts an image shows in its shape
WHITE = 255.0
ROUNDING = 1e-4  # of the result's largest number: some hundred float32 roundings

Step = Callable[[Any], Any]


@dataclass(frozen=True)
class Affine:
    """Pixels to model space; the network's channel j is channel `order[j]` of that."""

    pixels: ScaledPixels
    order: tuple[int, ...]


@dataclass(frozen=True)
class Beginning:
    """What a model begins with.

    Attributes:
        skipped: the operations, by identity; model space is behind them.
        affine: what they come to.
        has_arithmetic: whether they say what becomes of pixels.
        left_out: what of them is not in `affine`, in words.
        size: (height, width) to which they bring an image; None: as it comes.
    """

    skipped: frozenset[int]
    affine: Affine
    has_arithmetic: bool
    left_out: tuple[str, ...]
    size: tuple[int, int] | None


def read_beginning(walk: Walk, first: Sequence[Step], channels: int, *, is_channels_first: bool) -> Beginning:
    """The preprocessing that a model begins with, after `first`, which is done before it.

    It is the longest beginning that comes to a scale and an offset, and of which nothing but its result is used later.

    Raises:
        ConfigError: an operation is no such arithmetic and cannot be left out.
    """
    affine = _affine(first, channels, is_channels_first)
    assert affine is not None
    length, left_out, known = 0, [], []
    for number, call in enumerate(walk.calls, start=1):
        kind, name = type(call.operation).__name__, f"{type(call.operation).__name__} {call.operation.name!r}"
        if kind.startswith(OTHERS):
            raise ConfigError(
                f"model begins with {name}, which is no scale and offset; give what stands behind it, and its "
                "`preprocess`: jaxviz.Model.from_keras(model, preprocess=...)"
            )
        if kind.startswith(AUGMENTATION):
            known.append(f"{name} (augmentation)")
        elif kind in SIZES:
            known.append(f"{name} (an image has the size that you ask for)")
        elif kind not in (*ARITHMETIC, *CHANNELS) and not kind.startswith(AT_TRAINING):
            break
        if _is_used_later(walk, number):
            continue
        own = partial(_again, walk.image, walk.calls[:number])
        found = _affine([*first, own], channels, is_channels_first)
        if found is not None:
            affine, length, left_out = found, number, list(known)
    skipped = [call.operation for call in walk.calls[:length]]
    has_arithmetic = any(type(operation).__name__ in ARITHMETIC for operation in skipped)
    sizes = [(layer.height, layer.width) for layer in skipped if type(layer).__name__ in SIZES]
    return Beginning(frozenset(map(id, skipped)), affine, has_arithmetic, tuple(left_out), sizes[-1] if sizes else None)


def _is_used_later(walk: Walk, number: int) -> bool:
    """Whether something of the first calls is used behind them, but for the last one's result."""
    calls = walk.calls[:number]
    inside = {id(walk.image), *(id(leaf) for call in calls for leaf in jax.tree.leaves(call.result))}
    inside.discard(id(calls[-1].result))
    later = (leaf for call in walk.calls[number:] for leaf in jax.tree.leaves((call.arguments, call.options)))
    return any(id(leaf) in inside for leaf in later)


def _again(seen: Any, calls: Sequence[Call], image: Any) -> Any:
    """What calls give for another image than the one that they have seen; without what is left out."""
    known = {id(seen): image}

    def replaced(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: known.get(id(leaf), leaf), tree)

    for call in calls:
        kind = type(call.operation).__name__
        arguments, options = replaced(call.arguments), replaced(call.options)
        is_left_out = kind in SIZES or kind.startswith((*AUGMENTATION, *AT_TRAINING))
        result = arguments[0] if is_left_out else call.operation(*arguments, **options)
        known |= dict(zip(map(id, jax.tree.leaves(call.result)), jax.tree.leaves(result), strict=True))
    return known[id(calls[-1].result)]


def _affine(steps: Sequence[Step], channels: int, is_channels_first: bool) -> Affine | None:
    """What steps do to colors; None unless each channel of the result is a scale and offset of one of the image's."""
    mixed = np.linspace(WHITE / 7, WHITE * 6 / 7, channels)
    colors = np.concatenate([np.zeros((1, channels)), WHITE * np.eye(channels), mixed[None]]).astype(np.float32)
    shape = (len(colors), PROBE_SIDE, PROBE_SIDE, channels)
    images = jnp.asarray(np.broadcast_to(colors[:, None, None], shape))
    result = jnp.transpose(images, (0, 3, 1, 2)) if is_channels_first else images
    for step in steps:
        result = step(result)
    result = jnp.transpose(result, (0, 2, 3, 1)) if is_channels_first and result.ndim == 4 else result
    if result.shape != shape:
        return None
    found = np.asarray(result.astype(jnp.float32))[:, 0, 0]
    offset, matrix = found[0], (found[1:-1] - found[0]) / WHITE  # (image's channel, result's channel)
    order = tuple(int(place) for place in np.abs(matrix).argmax(axis=0))
    scale = matrix[order, range(channels)]
    largest = np.abs(found).max()
    wrong = np.abs(mixed[list(order)] * scale + offset - found[-1]).max()
    if sorted(order) != list(range(channels)) or not wrong <= ROUNDING * largest:
        return None
    back = [order.index(channel) for channel in range(channels)]
    return Affine(ScaledPixels(tuple(scale[back].tolist()), tuple(offset[back].tolist())), order)

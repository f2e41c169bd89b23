"""A network whose filters are the colours, and natural images with known scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxviz import Model
from jaxviz.judge.judgement import BATCH
from jaxviz.judge.natural_images import NaturalImages


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Mean:
    """The mean of a filter's map, times a factor; of an objective what `judge` needs."""

    before_softmax: ClassVar[bool] = False
    factor: float = 1.0

    def __call__(self, activation, filter_index):
        return self.factor * activation.mean(axis=tuple(range(activation.ndim - 1)))[filter_index]

    def choices(self, channels):
        return channels

    def to_data(self):
        return ({"weight": self.factor, "name": "mean"},)

    def plain(self):
        return self

    def check(self, activation_shape, layer):
        pass


def channels_times_weights(weights, images, layer):
    return images * weights["gain"]


class Counted:
    """A `preprocess` that counts its calls: one for each batch that is scored."""

    def __init__(self):
        self.calls = 0

    def __call__(self, rgb):
        self.calls += 1
        return rgb / 10.0


def network(forward=channels_times_weights, gain=(1.0, 1.0, 1.0), preprocess=None) -> Model:
    """A network of one layer: filter k is channel k of the RGB image / 10, times a gain."""
    weights = {"gain": jnp.array(gain)}
    return Model.from_callable(forward, weights, preprocess or Counted(), layers=["colours", "again"])


def coloured(*colours: tuple[int, int, int], size: int = 4) -> np.ndarray:
    return np.array(colours, np.uint8)[:, None, None, :].repeat(size, axis=1).repeat(size, axis=2)


def natural_of(images: np.ndarray) -> NaturalImages:
    return NaturalImages(images, f"hash of {images.tobytes()!r}", "a test")


SOME = natural_of(np.random.default_rng(0).integers(0, 256, (2 * BATCH + 4, 4, 4, 3), dtype=np.uint8))  # 3 batches

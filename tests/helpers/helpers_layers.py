"""Folders of pictures made without a network: plain, striped, and of any model, layer and label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from helpers_storage import RECIPE
from msgspec.structs import replace

from jaxviz.judge.values import Judged
from jaxviz.render.recipe import LayerFacts, Picture, Recipe
from jaxviz.store.folder import LayerFolder

LITE0 = "efficientnet_lite0"
SHALLOW, DEEP = "block1_1_depthwise_conv", "block4_2_expand_conv"
SIDE_PX = 48
FACTS = {  # of some, as the network says them
    "stem_conv": LayerFacts("conv", channels=32, place=1, layers=149, receptive_field=3),
    SHALLOW: LayerFacts("depthwise_conv", channels=32, place=4, layers=149, receptive_field=7),
    DEEP: LayerFacts("conv", channels=480, place=55, layers=149, receptive_field=83),
    "block5_2_expand_conv": LayerFacts("conv", channels=672, place=82, layers=149, receptive_field=211),
    "head_conv": LayerFacts("conv", channels=1280, place=145, layers=149, receptive_field=851),
    "predictions": LayerFacts("softmax", channels=1000, place=149, layers=149, receptive_field=None),
}


def recipe_of(model: str = LITE0, layer: str = SHALLOW, **config: Any) -> Recipe:
    """The helpers' recipe for another model or layer, or with other settings."""
    return replace(RECIPE, model=model, layer=layer, config=replace(RECIPE.config, **config))


def grey(values: np.ndarray) -> np.ndarray:
    """Values as a grey picture, rounded and clipped."""
    return np.repeat(np.clip(np.rint(values), 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def stripes(wavelength_px: float, *, side_px: int = SIDE_PX) -> np.ndarray:
    """Upright grey stripes."""
    wave = 127 + 100 * np.sin(2 * np.pi * np.arange(side_px) / wavelength_px)
    return grey(np.tile(wave, (side_px, 1)))


def striped(index: int, recipe: Recipe, *, wavelength_px: float = 6, replica: int = 0, status: Any = "ok") -> Picture:
    """A picture of stripes with the score index + 1."""
    history = np.zeros(4, np.float32)
    return Picture(index, stripes(wavelength_px), index + 1.0, history, status, recipe, replica)


def fill_layer(
    out: Path,
    layer: str = SHALLOW,
    *,
    model: str = LITE0,
    label: str = "keras",
    wavelength_px: float = 6,
    statuses: tuple[str, ...] = ("ok", "ok"),
    judge: Any = None,
    file_format: str = "png",
    **config: Any,
) -> Path:
    """A finished layer's folder, with a picture for each status."""
    recipe = recipe_of(model, layer, **config)
    network = FACTS.get(layer) if model == LITE0 else None
    folder = LayerFolder.open(out, recipe, label=label, file_format=file_format, network=network)
    for index, status in enumerate(statuses):
        folder.write(striped(index, recipe, wavelength_px=wavelength_px, status=status))
    folder.finish(device="a device", timings={"render_s": 1.5}, judge=judge)
    return folder.path


class FixedJudge:
    """Finds rank 1 and percentile 90 for every picture."""

    natural = None

    def __call__(self, pictures: list[np.ndarray], filters: list[int]) -> list[Judged]:
        """The same for all."""
        return [Judged(judged_score=index + 0.25, percentile=90.0, rank=1) for index in filters]

"""A recipe, its pictures, and folders filled with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from PIL import Image

from jaxviz import RenderConfig
from jaxviz.render.recipe import Picture, Recipe
from jaxviz.store.folder import LayerFolder

WEIGHTS_SHA256 = "ab" * 32
CHANNEL = ({"weight": 1.0, "name": "channel"},)
RECIPE = Recipe(
    "toy", WEIGHTS_SHA256, "conv_a", CHANNEL, RenderConfig.keras(steps=4).numbers(), batch_size=2, kernels="lax"
)
OTHER_RECIPE = replace(RECIPE, config=RenderConfig.keras(steps=5).numbers())


def picture(index: int, *, recipe: Recipe = RECIPE, status: Any = "ok", score: float | None = None) -> Picture:
    """A picture whose pixels, score and status follow from its filter."""
    pixels = np.full((20, 20, 3), 10 + index % 200, np.uint8)
    if score is None:
        score = float("nan") if status == "nan" else index + 0.5
    return Picture(index, pixels, score, np.zeros(4, np.float32), status, recipe)


def fill(out: Path, *pictures: Picture, overwrite: bool = False, label: str = "keras") -> LayerFolder:
    """Open, write, finish: a whole run of the command line."""
    recipe = pictures[0].recipe
    folder = LayerFolder.open(out, recipe, label=label, overwrite=overwrite)
    for one in pictures:
        folder.write(one)
    folder.finish(device="a device", timings={"render_s": 1.5})
    return folder


def provenance(file: Path) -> dict[str, Any]:
    with Image.open(file) as image:
        return json.loads(image.text["jaxviz"])

"""Folders of small pictures with real provenance, made without a network, and the site over them."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

import numpy as np
from helpers_layers import FACTS
from helpers_storage import CHANNEL
from msgspec.structs import replace

from jaxviz import RenderConfig
from jaxviz.files import write_atomically
from jaxviz.records import to_json
from jaxviz.render.recipe import Picture, Recipe
from jaxviz.store.folder import folder_path
from jaxviz.store.layer_record import LAYER_JSON, Entry, Grid, LayerRecord
from jaxviz.store.provenance import SCHEMA, picture_bytes, picture_name

MODEL = "efficientnet_lite0"
CONFIG = RenderConfig.keras(image_size=46, crop=7, steps=4)  # pictures of 32 px
RECIPE = Recipe(MODEL, "ab" * 32, "stem_conv", CHANNEL, CONFIG.numbers(), batch_size=4, kernels="lax")
TILE_PX = 32


def colour_of(filter_index: int) -> tuple[int, int, int]:
    """A colour that no other filter near it has, none of them grey."""
    red, green, blue = colorsys.hsv_to_rgb((filter_index * 37 % 360) / 360, 0.9, 0.5 + filter_index % 5 / 10)
    return round(255 * red), round(255 * green), round(255 * blue)


def pixels_of(filter_index: int, *, period: int = 4) -> np.ndarray:
    """Mostly one colour, with stripes of a darker one along the left edge."""
    pixels = np.empty((TILE_PX, TILE_PX, 3), np.uint8)
    pixels[:] = colour_of(filter_index)
    pixels[np.arange(TILE_PX) % period < period // 2, : TILE_PX // 4] //= 2
    return pixels


def write_layer(
    out: Path,
    filters: int,
    *,
    layer: str = "stem_conv",
    label: str = "keras",
    statuses: dict[int, Any] | None = None,
    replicas: int = 1,
    snapshots: tuple[int, ...] = (),
    judged: bool = False,
    period: int = 4,
    **changes: Any,
) -> Path:
    """A layer's folder. Scores fall and rise with the filter: 0 has 1.0, 1 has 101.0, 2 has 3.0 and so on."""
    recipe = replace(RECIPE, layer=layer, **changes)
    folder = folder_path(out, recipe.model, layer, "x").with_name(label)  # a folder may have been renamed
    folder.mkdir(parents=True)
    entries = []
    for index in range(filters):
        for replica in range(replicas):
            status = (statuses or {}).get(index, "ok")
            score = float("nan") if status == "nan" else score_of(index)
            pixels = pixels_of(index, period=period)
            history = np.zeros(4, np.float32)
            frames = dict.fromkeys(snapshots, pixels)
            picture = Picture(index, pixels, score, history, status, recipe, replica, 0, frames)
            for step in snapshots:
                (folder / picture_name(picture_key(picture), step)).write_bytes(picture_bytes(picture, step))
            (folder / picture_name(picture_key(picture))).write_bytes(picture_bytes(picture))
            entries.append(_entry(picture, judged=judged and status == "ok"))
    record = LayerRecord(
        schema=SCHEMA,
        model=recipe.model,
        layer=layer,
        network=FACTS.get(layer),
        label=label,
        format="png",
        weights_sha256=recipe.weights_sha256,
        recipe=recipe,
        counts={},
        grid=Grid(8, numbers=False),
        filters=tuple(entries),
        natural_images=None,
        device="cpu: a device",
        versions={"jaxviz": "0.1.0", "jax": "0.10.2"},
        timings={"render_s": 1.5, "compile_s": None},
    )
    write_atomically(folder / LAYER_JSON, to_json(record).encode(), durable=False)
    return folder


def score_of(filter_index: int) -> float:
    return filter_index + 1.0 + 100.0 * (filter_index % 2)


def picture_key(picture: Picture) -> tuple[int, int]:
    return picture.filter_index, picture.replica


def _entry(picture: Picture, *, judged: bool) -> Entry:
    values: dict[str, Any] = {}
    if judged:
        values = {"judged_score": picture.score - 0.5, "percentile": 99.5, "rank": 1 + picture.filter_index % 3}
    score = None if np.isnan(picture.score) else picture.score
    return Entry(picture.filter_index, picture.replica, score, picture.status, 0, "", **values)

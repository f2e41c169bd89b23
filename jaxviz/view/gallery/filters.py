"""One filter's page: its facts, its recipe, its snapshots, its neighbours and the command that renders it again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxviz.store.provenance import Saved, read_saved
from jaxviz.view.gallery import wording
from jaxviz.view.gallery.command import again_maker
from jaxviz.view.gallery.layers import LayerView, TileView, snapshot_files

Fact = tuple[str, str, str]  # name, value, and what to make of it


@dataclass(frozen=True)
class FilterPage:
    """The values of filter.html; `files` are pictures that it shows, by their address."""

    tile: TileView
    values: dict[str, Any]


def filter_pages(layer: LayerView, address_of: Any) -> Iterator[FilterPage]:
    """The pages of a layer's pictures, in their order; `address_of` gives a picture file's address."""
    recipe = dict(_recipe(layer))
    snapshots = snapshot_files(layer.pictures)
    by_filter: dict[int, list[TileView]] = {}
    for tile in layer.tiles:
        by_filter.setdefault(tile.tile.filter_index, []).append(tile)
    places = _places(layer)
    again = again_maker(layer.pictures.recipe, label=layer.pictures.label)
    for at, tile in enumerate(layer.tiles):
        own = tile.tile
        steps = [(step, address_of(file)) for step, file in snapshots.get(tile.stem, []) if _belongs(file, layer, tile)]
        own_versions = {"jaxlib": own.jaxlib} if own.jaxlib else {}  # layer.json names that of the last run
        values = {
            "tile": tile,
            "picture": address_of(own.file),
            "heading": f"Filter {own.filter_index}" + (f", replica {own.replica}" if own.replica else ""),
            "before": layer.tiles[at - 1] if at else None,
            "after": layer.tiles[at + 1] if at + 1 < len(layer.tiles) else None,
            "facts": list(_facts(layer, tile, places.get(own.key))),
            "replicas": [other for other in by_filter[own.filter_index] if other is not tile],
            "snapshots": steps,
            "again": again(own.filter_index, own.replica),
            "recipe": [*(recipe | own_versions).items(), ("attempt", str(own.attempt)), ("file", own.file.name)],
        }
        yield FilterPage(tile, values)


def _belongs(file: Path, layer: LayerView, tile: TileView) -> bool:
    """Whether a snapshot is whole and of this picture."""
    saved = read_saved(file)
    return isinstance(saved, Saved) and saved.recipe == layer.pictures.recipe and saved.key == tile.tile.key


def _places(layer: LayerView) -> dict[tuple[int, int], int]:
    scored = [tile.tile for tile in layer.tiles if math.isfinite(tile.tile.score)]
    ordered = sorted(scored, key=lambda tile: -tile.score)
    return {tile.key: place for place, tile in enumerate(ordered, start=1)}


def _facts(layer: LayerView, view: TileView, place: int | None) -> Iterator[Fact]:
    tile, measured = view.tile, view.measures
    more = "" if place is None else f"{wording.ordinal(place)} highest of the {len(layer.tiles):,} pictures here"
    yield "Score", f"{tile.score:.5g}" if math.isfinite(tile.score) else "none", more
    failed = wording.count(tile.attempt, "attempt") + " from other noise failed before" if tile.attempt else ""
    meaning = {"dead": "the gradient was zero at every step", "nan": "the ascent left the numbers"}
    yield "Status", tile.status, "; ".join(filter(None, [meaning.get(tile.status, ""), failed]))
    if tile.rank is not None:
        yield (
            "Rank",
            f"{tile.rank:,}",
            "among the layer's filters on this picture, each against its own mean and spread on natural images",
        )
    if tile.percentile is not None:
        seen = f"of its score on the saved picture, {wording.figure(tile.judged_score)}, among natural images"
        yield "Percentile", wording.figure(tile.percentile), seen
    if measured is None:
        return
    if measured.frequency is not None and measured.wavelength is not None:
        longer = f"half the energy is in waves longer than {wording.figure(measured.wavelength)} px"
        yield "Dominant frequency", f"{wording.figure(measured.frequency)} cycles/px", longer
    yield "Colourfulness", wording.figure(measured.colourfulness), "0 grey, 45 average, 82 high"
    if measured.repetition is not None:
        yield "Self-repetition", wording.figure(measured.repetition), "1 is a tiling, near 0 none"
    yield "Hue", "grey" if measured.hue is None else f"{measured.hue:.0f}°", ""


def _recipe(layer: LayerView) -> list[tuple[str, str]]:
    """All values of the recipe, then how the pictures were made, as far as layer.json says it."""
    pictures = layer.pictures
    found = [(_spaced(name), _text(value)) for name, value in pictures.recipe.flat().items() if value is not None]
    found += [("device", pictures.device or "not recorded")]
    found += [(name, version) for name, version in pictures.versions.items()]
    found += [(_spaced(name), _text(value)) for name, value in pictures.timings.items() if value is not None]
    return found


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)

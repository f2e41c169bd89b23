"""One layer as its pages show it: its tiles, its sheets of thumbnails and what was measured on its pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxviz.store.catalogue import LayerPictures, Tile
from jaxviz.store.provenance import PICTURE_NAME
from jaxviz.view.gallery import wording
from jaxviz.view.measures import PictureMeasures, Row

PREVIEW = 24  # tiles of a layer beside another one
# What the pages show of `layer_rows`, with what to make of it. A scale of None: the larger of the values is a full bar.
EXPLAINED: dict[str, tuple[str, str, float | None]] = {
    "frequency": ("Dominant frequency", "half of the energy lies below: low is large shapes, high fine grain", None),
    "high_frequency_share": ("Fine detail", "share of the energy in waves shorter than 4 px of 128", 1.0),
    "repetition": ("Self-repetition", "1 is a tiling, near 0 is noise, one blob or one edge", 1.0),
    "orientation": ("One orientation", "1 is parallel stripes, 0 no direction above others", 1.0),
    "colourfulness": ("Colourfulness", "of Hasler and Süsstrunk: 0 grey, 15 slight, 45 average, 82 high", None),
    "score_spread": ("Score spread", "distance of the filters' quartiles, against the median", None),
    "percentile": ("Beside natural images", "percentile of the score among those on natural images", 100.0),
    "rank": ("Rank of the own filter", "among the layer's filters on its picture; 1 is best", None),
}  # fmt: skip
FACTS = ("frequency", "colourfulness", "repetition", "score_spread")  # on the layer's own page
UNITS = {"frequency": " cycles/px"}


@dataclass(frozen=True)
class Sheet:
    """A sheet of thumbnails: its address in the layer's folder, and how many fit across and down."""

    url: str
    columns: int
    rows: int


@dataclass(frozen=True)
class TileView:
    """A picture on a page. `x` and `y`: its place on its sheet, in the per cent of CSS's background-position."""

    tile: Tile
    measures: PictureMeasures | None
    stem: str
    name: str
    alt: str
    score: str
    rank: str
    percentile: str
    sheet: int
    x: float
    y: float

    @property
    def page(self) -> str:
        """The address of its page, in the layer's folder."""
        return f"{self.stem}.html"

    @property
    def status(self) -> str:
        """Its status."""
        return self.tile.status

    @property
    def sort_score(self) -> str:
        """For sorting: empty where there is none."""
        return f"{self.tile.score:.6g}" if math.isfinite(self.tile.score) else ""

    @property
    def hue(self) -> str:
        """For sorting, in degrees: empty for grey."""
        return "" if self.measures is None or self.measures.hue is None else f"{self.measures.hue:.1f}"


@dataclass(frozen=True)
class Cell:
    """A measured value of one layer; `share` is the length of its bar in per cent."""

    text: str
    more: str
    share: float | None


@dataclass(frozen=True)
class Measured:
    """A measured row: its name, what to make of it, and a value for each layer that stands side by side."""

    name: str
    why: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class LayerView:
    """A layer and all that its pages need; `url` is its folder's address from the site's, `mark` its class in CSS."""

    pictures: LayerPictures
    folder: str
    mark: str
    about: str
    tiles: tuple[TileView, ...]
    sheets: tuple[Sheet, ...]
    rows: tuple[Row, ...]
    ratio: float
    strip: dict[str, Any]

    @property
    def url(self) -> str:
        """Where its pages are, from the site's folder."""
        return wording.address(self.folder) + "/"

    @property
    def id(self) -> str:
        """What the comparison's address calls it."""
        return self.folder.removeprefix("layers/")

    @property
    def model(self) -> str:
        """Its network."""
        return self.pictures.model

    @property
    def name(self) -> str:
        """Its own name."""
        return self.pictures.layer

    @property
    def label(self) -> str:
        """Its label, and its objective where that is not the mean of a filter."""
        objective = self.pictures.recipe.objective_text
        return self.pictures.label + ("" if objective == "channel" else f" · {objective}")

    @property
    def counts(self) -> dict[str, int]:
        """Pictures of each status."""
        return self.pictures.counts

    @property
    def count_text(self) -> str:
        """The same in words."""
        return wording.counts(self.counts)

    @property
    def preview(self) -> tuple[TileView, ...]:
        """The first pictures that are pictures."""
        return tuple(tile for tile in self.tiles if tile.status == "ok")[:PREVIEW]


def folder_of(pictures: LayerPictures) -> str:
    """Where a layer's pages lie in the site."""
    names = (pictures.model, pictures.layer, pictures.label)
    return "layers/" + "/".join(map(wording.slug, names))


def tile_views(
    pictures: LayerPictures,
    measures: Sequence[PictureMeasures | None],
    places: Sequence[tuple[int, float, float]],
) -> tuple[TileView, ...]:
    """The tiles; `places` are sheet, x and y of each."""
    judged = any(tile.rank is not None for tile in pictures.tiles)
    by_score = sorted((tile for tile in pictures.tiles if math.isfinite(tile.score)), key=lambda tile: -tile.score)
    order = {tile.key: place for place, tile in enumerate(by_score, start=1)}
    found = []
    for tile, measured, (sheet, x, y) in zip(pictures.tiles, measures, places, strict=True):
        rank = f"rank {tile.rank:,}" if tile.rank is not None else ""
        if not judged and tile.key in order:
            rank = wording.ordinal(order[tile.key])
        percentile = "" if tile.percentile is None else f"p {tile.percentile:.0f}"
        found.append(
            TileView(
                tile=tile,
                measures=measured,
                stem=tile.file.stem,
                name=tile_name(tile),
                alt=_alt(tile, order.get(tile.key)),
                score=wording.figure(tile.score),
                rank=rank,
                percentile=percentile,
                sheet=sheet,
                x=x,
                y=y,
            )
        )
    return tuple(found)


def tile_name(tile: Tile) -> str:
    """Such as `3`, and `3 r1` for its replica 1."""
    return f"{tile.filter_index}" + (f" r{tile.replica}" if tile.replica else "")


def snapshot_files(pictures: LayerPictures) -> dict[str, list[tuple[int, Path]]]:
    """Files of snapshots by the stem of their picture, in order of steps."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for file in sorted(pictures.path.glob("*.s*")):
        stem, _, step = file.stem.partition(".s")
        if PICTURE_NAME.fullmatch(file.name) and file.is_file():
            found.setdefault(stem, []).append((int(step), file))
    return {stem: sorted(steps) for stem, steps in found.items()}


def measured_rows(*layers: tuple[Row, ...], keys: Sequence[str] = tuple(EXPLAINED)) -> list[Measured]:
    """Rows of one or two layers; without those that no layer has."""
    tables = [{row.key: row for row in rows} for rows in layers]
    found = []
    for key in keys:
        rows = [table[key] for table in tables]
        if all(row.median is None for row in rows):
            continue
        name, why, scale = EXPLAINED[key]
        full = scale or max(abs(row.median) for row in rows if row.median is not None) or 1.0
        found.append(Measured(name, why, tuple(_cell(key, row, full) for row in rows)))
    return found


def comparison(layer: LayerView) -> dict[str, Any]:
    """A layer as compare.js takes it."""
    used = sorted({tile.sheet for tile in layer.preview})
    return {
        "id": layer.id,
        "name": layer.name,
        "model": layer.model,
        "about": layer.about,
        "label": layer.label,
        "settings": layer.pictures.recipe.settings(),
        "url": layer.url,
        "sheets": {str(at): vars(layer.sheets[at]) for at in used},
        "ratio": layer.ratio,
        "tiles": [[tile.page, tile.alt, tile.sheet, tile.x, tile.y] for tile in layer.preview],
        "rows": {
            row.key: [row.median, cell.text, cell.more]
            for row in layer.rows
            if row.key in EXPLAINED and row.median is not None
            for cell in [_cell(row.key, row, 1.0)]
        },
    }


def _cell(key: str, row: Row, full: float) -> Cell:
    if row.median is None:
        return Cell("none", "", None)
    more = ""
    if row.lower is not None and row.upper is not None and row.count > 1:
        more = f"{wording.figure(row.lower)} to {wording.figure(row.upper)} for half"
    share = round(min(max(100 * row.median / full, 0.0), 100.0), 1)
    return Cell(wording.figure(row.median) + UNITS.get(key, ""), more, share)


def _alt(tile: Tile, place: int | None) -> str:
    parts = [f"Filter {tile.filter_index}" + (f", replica {tile.replica}" if tile.replica else "")]
    parts += [f"score {wording.figure(tile.score)}"] if math.isfinite(tile.score) else []
    parts += [f"rank {tile.rank}"] if tile.rank is not None else [f"{wording.ordinal(place)} by score"] if place else []
    return ", ".join([*parts, tile.status])

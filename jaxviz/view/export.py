"""A layer's pictures as one file for other programs: `pictures.npz` for NumPy, `sprite.webp` for pages.

Each layer's files lie in its own folder, beside the pictures, or in the same folder below another root. They are
written whole or not at all, one layer in memory at a time, and the same pictures give the same bytes. No jax.

`pictures.npz` needs no pickle (`np.load(file)`); with n pictures in the order of (filter, replica) it holds:

    pictures uint8 (n, height, width, 3)     filters, replicas, attempts int64 (n,)     status text (n,)
    scores, judged_scores, percentiles float64 (n,), nan where there is none            ranks int64 (n,), 0 for none
    recipe text: JSON, as in the pictures    label text

`sprite.json` says of each sheet its file, columns, and the filters and replicas in it; see sprites.py for the places.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from jaxviz.errors import OutputFolderError, UnknownLayerError, nearest
from jaxviz.files import looking_at, write_atomically
from jaxviz.records import to_json
from jaxviz.store.catalogue import Catalogue, LayerPictures, Tile
from jaxviz.view.sprites import Sheet, sheets, webp_bytes

SCHEMA = 1  # of sprite.json
NPZ, SPRITE, INDEX = "pictures.npz", "sprite.webp", "sprite.json"


class TileSize(Struct, frozen=True):
    """In pixels."""

    height: int
    width: int


class SpriteSheet(Struct, frozen=True):
    """A sheet in sprite.json: its file, how many tiles it has across, and what each of them is."""

    file: str
    columns: int
    filters: tuple[int, ...]
    replicas: tuple[int, ...]
    status: tuple[str, ...]


class SpriteIndex(Struct, frozen=True):
    """sprite.json."""

    schema: int
    model: str
    layer: str
    label: str
    tile: TileSize
    sheets: tuple[SpriteSheet, ...]


@dataclass(frozen=True)
class Exported:
    """The files that were written for a layer."""

    layer: LayerPictures
    files: tuple[Path, ...]


def export(
    catalogue: Catalogue,
    layers: Sequence[LayerPictures] | None = None,
    *,
    npz: bool = False,
    sprite: bool = False,
    tile_px: int | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> Iterator[Exported]:
    """Write files for layers of a catalogue, layer by layer; a generator, so that its caller can say how far it is.

    Args:
        catalogue: what the pictures' folder holds.
        layers: those to export; None for all.
        npz: write `pictures.npz`.
        sprite: write `sprite.webp` and `sprite.json`.
        tile_px: the longer side of a tile in the sprite sheet, None for the pictures' own size.
        out: the root of the folders to write to, named as those in `catalogue.folder`. None: beside the pictures.
        overwrite: replace files that are there.

    Raises:
        OutputFolderError: a file is there already, or a layer's pictures differ in size.
        StorageError: a file cannot be read or written.
    """
    chosen = catalogue.layers if layers is None else layers
    names = [NPZ] * npz + [SPRITE, INDEX] * sprite
    folders = [_folder(catalogue, layer, out) for layer in chosen]
    if not overwrite:
        _check_absent([folder / name for folder in folders for name in names])
    for layer, folder in zip(chosen, folders, strict=True):
        files = [_write_npz(layer, folder)] if npz else []
        files += _write_sprite(layer, folder, tile_px) if sprite else []
        yield Exported(layer, tuple(files))


def matching_layers(catalogue: Catalogue, globs: Sequence[str] | None) -> tuple[LayerPictures, ...]:
    """The layers whose names match one of the patterns, such as `block4*`; several may be in one, with commas.

    Raises:
        UnknownLayerError: a pattern matches nothing.
    """
    if globs is None:
        return catalogue.layers
    patterns = [part.strip() for text in globs for part in text.split(",")]
    for pattern in patterns:
        if not any(fnmatchcase(layer.layer, pattern) for layer in catalogue.layers):
            names = dict.fromkeys(layer.layer for layer in catalogue.layers)
            raise UnknownLayerError(
                f"`layers` {pattern!r} matches no layer in DIR {catalogue.folder}; {nearest(pattern, names)}",
                argument="layers",
                value=pattern,
            )
    return tuple(layer for layer in catalogue.layers if any(fnmatchcase(layer.layer, pattern) for pattern in patterns))


def _folder(catalogue: Catalogue, layer: LayerPictures, out: str | Path | None) -> Path:
    return layer.path if out is None else Path(out) / layer.path.relative_to(catalogue.folder)


def _check_absent(files: Sequence[Path]) -> None:
    with looking_at(files[0].parent):
        there = [file for file in files if file.exists()]
    if there:
        more = f", and {len(there) - 1} more of the files to write" if len(there) > 1 else ""
        raise OutputFolderError(
            f"{there[0]} exists{more}; replace with `overwrite`, or write elsewhere with `out` FOLDER"
        )


def _write_npz(layer: LayerPictures, folder: Path) -> Path:
    pictures = _read_all(layer)
    tiles = layer.tiles
    arrays: dict[str, Any] = {
        "pictures": pictures,
        "filters": np.array([tile.filter_index for tile in tiles], np.int64),
        "replicas": np.array([tile.replica for tile in tiles], np.int64),
        "attempts": np.array([tile.attempt for tile in tiles], np.int64),
        "status": np.array([tile.status for tile in tiles], np.str_),
        "scores": np.array([tile.score for tile in tiles], np.float64),
        "judged_scores": _numbers([tile.judged_score for tile in tiles]),
        "percentiles": _numbers([tile.percentile for tile in tiles]),
        "ranks": np.array([tile.rank or 0 for tile in tiles], np.int64),
        "recipe": np.array(to_json(layer.recipe)),
        "label": np.array(layer.label),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomically(folder / NPZ, buffer.getvalue())
    return folder / NPZ


def _read_all(layer: LayerPictures) -> np.ndarray:
    first = layer.tiles[0].read()
    pictures = np.empty((len(layer.tiles), *first.shape), np.uint8)
    for place, tile in enumerate(layer.tiles):
        pictures[place] = _read_alike(tile, first.shape)
    return pictures


def _read_alike(tile: Tile, shape: tuple[int, ...]) -> np.ndarray:
    picture = tile.read()
    if picture.shape != shape:
        raise OutputFolderError(
            f"{tile.file} has {picture.shape[0]}x{picture.shape[1]} px, the layer's first picture "
            f"{shape[0]}x{shape[1]}; one of them was changed: remove it and render it again"
        )
    return picture


def _write_sprite(layer: LayerPictures, folder: Path, tile_px: int | None) -> list[Path]:
    shape = layer.tiles[0].read().shape
    pictures = (_read_alike(tile, shape) for tile in layer.tiles)
    files: list[Path] = []
    entries: list[SpriteSheet] = []
    for number, sheet in enumerate(sheets(pictures, len(layer.tiles), tile_px=tile_px)):
        file = _sheet_file(folder, number)
        write_atomically(file, webp_bytes(sheet.pixels))
        files.append(file)
        entries.append(_entry(file, sheet, layer))
    index = SpriteIndex(SCHEMA, layer.model, layer.layer, layer.label, TileSize(*sheet.tile), tuple(entries))
    write_atomically(folder / INDEX, (to_json(index) + "\n").encode())  # after the sheets, which are whole now
    for left_over in takewhile(Path.exists, (_sheet_file(folder, number) for number in count(len(files)))):
        left_over.unlink()  # of an export with more sheets
    return [*files, folder / INDEX]


def _sheet_file(folder: Path, number: int) -> Path:
    return folder / (SPRITE if number == 0 else f"sprite-{number + 1}.webp")


def _entry(file: Path, sheet: Sheet, layer: LayerPictures) -> SpriteSheet:
    tiles = layer.tiles[sheet.first : sheet.first + sheet.count]
    return SpriteSheet(
        file=file.name,
        columns=sheet.columns,
        filters=tuple(tile.filter_index for tile in tiles),
        replicas=tuple(tile.replica for tile in tiles),
        status=tuple(tile.status for tile in tiles),
    )


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], np.float64)

"""What a folder of pictures holds, layer by layer: `read_catalogue`, the first step of every look at finished work.

The PNGs are the truth: each says of itself what it is (provenance.py). layer.json beside them only adds what was
measured against natural images and how the pictures were made, where it speaks of the same recipe. Whatever cannot
be used is left out with a reason, so that a damaged or foreign file never hides the rest. Pixels are read only when
asked for (`Tile.read`), and nothing is written. No jax.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from msgspec.structs import asdict
from PIL import Image

from jaxviz.errors import OutputFolderError, StorageError
from jaxviz.judge.values import Judged
from jaxviz.render.recipe import LayerFacts, Recipe, status_counts
from jaxviz.store.contents import is_site
from jaxviz.store.layer_record import LAYER_JSON, Entry, LayerRecord, entry_of, read_layer_record
from jaxviz.store.provenance import PICTURE_NAME, Saved, picture_name, read_picture, read_saved

DEPTH = 3  # DIR/<model>/<layer>/<label>


class Tile(Entry, frozen=True, kw_only=True):
    """One finished picture and its file; the score is nan where it is not finite."""

    score: float
    file: Path

    def read(self) -> UInt8[np.ndarray, "height width 3"]:
        """The pixels.

        Raises:
            StorageError: the file has gone or cannot be read any more.
        """
        try:
            return read_picture(self.file)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise StorageError(f"cannot read picture {self.file}: {error}; was it changed meanwhile?") from error


@dataclass(frozen=True)
class LayerPictures:
    """The finished pictures of one recipe in one folder, sorted by (filter, replica); there is at least one.

    `network`, `device`, `versions` and `timings` are those of layer.json: None and empty where that is missing or of
    another recipe.
    """

    path: Path
    model: str
    layer: str
    label: str
    recipe: Recipe
    tiles: tuple[Tile, ...]
    network: LayerFacts | None
    device: str | None
    versions: dict[str, str]
    timings: dict[str, int | float | None]

    @property
    def name(self) -> str:
        """MODEL/LAYER/LABEL."""
        return f"{self.model}/{self.layer}/{self.label}"

    @property
    def counts(self) -> dict[str, int]:
        """How many pictures have each status."""
        return status_counts(tile.status for tile in self.tiles)


@dataclass(frozen=True)
class Catalogue:
    """All layers of a folder, and in words what was left out, as "place: reason"."""

    folder: Path
    layers: tuple[LayerPictures, ...]
    skipped: tuple[str, ...]


def read_catalogue(folder: str | Path) -> Catalogue:
    """What lies in a folder as `jaxviz render --out` leaves it, or in one model's, layer's or label's part of it.

    Layers are ordered by model name, then as in the network (by the place in layer.json, else by
    name), then by label. Models and layers are named as their recipes name them, labels as their folders.

    Raises:
        OutputFolderError: the folder does not exist, is a file, or holds no picture that can be used.
        StorageError: it cannot be read.
    """
    _check_folder(root := Path(folder))
    skipped: list[str] = []
    layers: dict[str, LayerPictures] = {}
    for path in _folders(root, root, DEPTH, skipped):
        found = _read_layer(root, path, skipped)
        if found is None:
            continue
        if found.name in layers:
            skipped.append(f"{_place(root, path)}: {found.name} is already there in {layers[found.name].path}")
            continue
        layers[found.name] = found
    if not layers:
        reasons = f" that can be used ({'; '.join(skipped[:3])})" if skipped else ""
        raise OutputFolderError(f"DIR {root} holds no pictures{reasons}; {_how_to_render(root)}")
    return Catalogue(root, tuple(_in_order(list(layers.values()))), tuple(skipped))


def _check_folder(root: Path) -> None:
    try:
        if root.exists() and not root.is_dir():
            raise OutputFolderError(f"DIR {root} is a file; give the folder that `jaxviz render --out` wrote to")
        if not root.exists():
            raise OutputFolderError(f"DIR {root} does not exist; {_how_to_render(root)}")
    except OSError as error:
        raise StorageError(f"cannot read DIR {root}: {error.strerror or error}; choose another folder") from error


def _how_to_render(root: Path) -> str:
    return f"make some with: jaxviz render MODEL LAYER --out {root}"


def _folders(root: Path, path: Path, depth: int, skipped: list[str]) -> Iterator[Path]:
    """`path` and the folders below it, sorted; names that start with a dot are nobody's pictures."""
    try:
        below = sorted(child for child in path.iterdir() if not child.name.startswith(".") and child.is_dir())
    except OSError as error:
        if path == root:
            raise StorageError(f"cannot read DIR {root}: {error.strerror or error}; choose another folder") from error
        skipped.append(f"{_place(root, path)}: {error.strerror or error}")
        return
    yield path
    if depth:
        for child in below:
            if not (PICTURE_NAME.fullmatch(child.name) or is_site(child)):
                yield from _folders(root, child, depth - 1, skipped)


def _read_layer(root: Path, path: Path, skipped: list[str]) -> LayerPictures | None:
    """The pictures of a folder that belong together; None where there are none."""
    groups, reasons = _read_pictures(path)
    recorded = read_layer_record(path)
    known = recorded if isinstance(recorded, LayerRecord) else None
    best: _Group | None = None
    if groups:
        own = (group for group in groups if known is not None and group.recipe == known.recipe)
        best = next(own, max(groups, key=lambda group: len(group.saved)))
        for other in groups:
            if other is not best:
                differences = "; ".join(best.recipe.differences(other.recipe))
                reasons[f"it is of another recipe than the rest: {differences}"] = [file.name for file in other.saved]
        if known is not None and known.recipe != best.recipe:
            known, recorded = None, "it is of another recipe or format"
        if isinstance(recorded, str):
            reasons[f"{recorded}, so device, timings and natural images are unknown"] = [LAYER_JSON]
    for reason, names in reasons.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        skipped.append(f"{_place(root, path / names[0])}{more}: {reason}")
    if best is None:
        return None
    judged = {(entry.key, entry.score): entry for entry in known.filters} if known is not None else {}
    tiles = [_tile(file, saved, judged.get((saved.key, saved.score))) for file, saved in best.saved.items()]
    return LayerPictures(
        path=path,
        model=best.recipe.model,
        layer=best.recipe.layer,
        label=path.resolve().name,
        recipe=best.recipe,
        tiles=tuple(sorted(tiles, key=lambda tile: tile.key)),
        network=None if known is None else known.network,
        device=None if known is None else known.device,
        versions={} if known is None else known.versions,
        timings={} if known is None else known.timings,
    )


@dataclass(frozen=True)
class _Group:
    """Pictures of one recipe in a folder."""

    recipe: Recipe
    saved: dict[Path, Saved]


def _read_pictures(path: Path) -> tuple[list[_Group], dict[str, list[str]]]:
    """Pictures by recipe, snapshots left out, and names of unusable files by reason."""
    groups: list[_Group] = []
    reasons: dict[str, list[str]] = {}
    for file in sorted(path.iterdir()):
        match = PICTURE_NAME.fullmatch(file.name)
        if match is None or match[2] is not None:
            continue
        saved: Saved | str = "it is a folder" if file.is_dir() else read_saved(file)
        if isinstance(saved, Saved) and picture_name(saved.key, saved.step, file.suffix[1:]) != file.name:
            saved = f"it is {picture_name(saved.key, saved.step, file.suffix[1:])}"
        if isinstance(saved, str):
            reasons.setdefault(saved, []).append(file.name)
            continue
        group = next((group for group in groups if group.recipe == saved.recipe), None)
        if group is None:
            group = _Group(saved.recipe, {})
            groups.append(group)
        group.saved[file] = saved
    return groups, reasons


def _tile(file: Path, saved: Saved, judged: Judged | None) -> Tile:
    values = asdict(entry_of(saved, judged))
    return Tile(**values | {"score": math.nan if saved.score is None else saved.score}, file=file)


def _in_order(layers: list[LayerPictures]) -> list[LayerPictures]:
    def place(found: LayerPictures) -> tuple[str, float, str, str]:
        known = math.inf if found.network is None else found.network.place
        return found.model, known, found.layer, found.label

    return sorted(layers, key=place)


def _place(root: Path, path: Path) -> str:
    return str(path.relative_to(root)) if path != root else str(path)

"""Grids and layer.json of folders whose pictures came from several processes, made from the pictures alone.

No model and no jax: what the pictures are beside natural images only a run of `atlas` or `render` finds out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jaxviz.errors import OutputFolderError
from jaxviz.files import looking_at
from jaxviz.render.recipe import status_counts
from jaxviz.store.contents import is_site
from jaxviz.store.folder import LayerFolder
from jaxviz.store.locks import FolderLock
from jaxviz.store.provenance import PICTURE_NAME, Saved, read_saved


@dataclass(frozen=True)
class MergedLayer:
    """A folder as it is now; `gaps` are filters missing below the highest number there."""

    folder: Path
    model: str
    layer: str
    label: str
    counts: dict[str, int]
    gaps: tuple[int, ...]


def merge(folder: Path) -> Iterator[MergedLayer]:
    """Bring every layer below a folder up to date, one after the other.

    Raises:
        OutputFolderError: there are no pictures, or a folder holds those of several recipes.
        FolderInUseError: a run is at work in one of the folders.
        StorageError: the disk cannot be read or written.
    """
    paths = layer_folders(folder)
    if not paths:
        raise OutputFolderError(
            f"folder {folder} holds no pictures of jaxviz; give the folder that --out named, or render some first: "
            f"jaxviz render MODEL LAYER --out {folder}"
        )
    for path in paths:
        yield _merged(path)


def layer_folders(folder: Path) -> list[Path]:
    """The folder and those below it that have pictures in them, sorted; a gallery's copies are left out."""
    found = []
    with looking_at(folder):  # os.walk passes over what it cannot read
        if folder.is_dir():
            next(folder.iterdir(), None)
    for path, below, files in os.walk(folder):
        below[:] = [name for name in below if not (name.startswith(".") or is_site(Path(path, name)))]
        below[:] = [name for name in below if not PICTURE_NAME.fullmatch(name)]
        pictures = (Path(path, name) for name in sorted(files) if PICTURE_NAME.fullmatch(name))
        if any(isinstance(read_saved(file), Saved) for file in pictures):
            found.append(Path(path))
    return sorted(found)


def _merged(path: Path) -> MergedLayer:
    with FolderLock.acquire(path):
        layer = LayerFolder.of(path)
        layer.finish(device="", numbers=layer.has_numbers())
    filters = {filter_index for filter_index, _ in layer.done}
    return MergedLayer(
        folder=path,
        model=layer.recipe.model,
        layer=layer.recipe.layer,
        label=layer.label,
        counts=status_counts(saved.status for saved in layer.done.values()),
        gaps=tuple(sorted(set(range(max(filters, default=0))) - filters)),
    )

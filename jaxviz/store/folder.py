"""Pictures on disk: OUT/<model>/<layer>/<label>/<filter:04d>.png or .webp, grid.png and layer.json.

Each picture carries its own provenance (provenance.py), so the pictures are the truth: what is done is read from them,
and layer.json, the grid and its animation are made from them and always describe the whole folder. A folder holds one
recipe. Who may write to it, locks.py decides. No jax here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

import jaxviz
from jaxviz.errors import OutputFolderError, StorageError
from jaxviz.files import check_writable, remove_left_overs, write_atomically
from jaxviz.judge.values import Judged, Natural
from jaxviz.pictures import images
from jaxviz.pictures.animation import animation_bytes
from jaxviz.records import to_json
from jaxviz.render.recipe import LayerFacts, Picture, Recipe, status_counts
from jaxviz.store.contents import Contents, check_format, folder_path, inspect, picture_files
from jaxviz.store.layer_record import LAYER_JSON, Entry, Grid, LayerRecord, entry_of, read_layer_record
from jaxviz.store.provenance import (
    SCHEMA,
    GridSaved,
    Key,
    Saved,
    picture_bytes,
    picture_name,
    png_bytes,
    read_picture,
    read_saved,
    saved_as,
)

RECORDED_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "pillow")


@runtime_checkable
class Judge(Protocol):
    """Puts pictures beside natural images; `natural` says which ones."""

    natural: Natural | None

    def __call__(self, pictures: list[np.ndarray], filters: list[int]) -> list[Judged]:
        """What is found for each picture."""


@dataclass
class LayerFolder:
    """One layer's folder, opened for one recipe; `done` is what it holds of that recipe, by (filter, replica)."""

    path: Path
    label: str
    recipe: Recipe
    done: dict[Key, Saved]
    snapshots: tuple[int, ...]
    file_format: str  # "png" or "webp"
    network: LayerFacts | None = None  # what it says of the layer; None: as layer.json has it
    _stale: list[Path] = field(default_factory=list)  # another recipe's, removed when the first picture is written
    _written: set[Key] = field(default_factory=set)
    entries: tuple[Entry, ...] = ()  # of layer.json, one a picture; from `put_beside`
    _touched: bool = False  # whether something was written
    natural_images: Natural | None = None  # which ones the pictures were put beside
    _contents: Contents = field(default_factory=lambda: Contents({}, {}, {}))

    @classmethod
    def open(
        cls,
        out: str | Path,
        recipe: Recipe,
        *,
        label: str,
        overwrite: bool = False,
        snapshots: Iterable[int] = (),
        file_format: str = "png",
        network: LayerFacts | None = None,
        alone: bool = False,
    ) -> LayerFolder:
        """Look at the folder and make sure that it may be written to.

        A picture that lacks one of the snapshots, steps, is not done. `network`: what that says of the layer, where it
        is known. `alone`: nobody else writes here (the folder's lock is held), so that all temporary files in it are
        left-overs; they are removed.

        Raises:
            OutputFolderError: it holds pictures of another recipe or of unknown origin (unless `overwrite`),
                or a path in it is no folder, or the label is no file name.
            StorageError: it cannot be read or written.
        """
        path = folder_path(out, recipe.model, recipe.layer, label)
        check_format(file_format)
        contents = inspect(path, recipe, file_format)
        if contents.foreign and not overwrite:
            file, reason = next(iter(contents.foreign.items()))
            raise foreign_error(path, file.name, reason)
        check_writable(path)
        remove_left_overs(path, alone=alone)
        wanted = tuple(sorted(set(snapshots)))
        done = {} if overwrite else contents.with_snapshots(wanted)
        return cls(path, label, recipe, done, wanted, file_format, network, list(contents.foreign))

    @classmethod
    def of(cls, path: Path) -> LayerFolder:
        """A folder as it is, for its grid and layer.json: recipe and format are those of its pictures.

        Nobody else may write there: its lock is held.

        Raises:
            OutputFolderError: it holds no pictures, or those of several recipes.
            StorageError: it cannot be read or written.
        """
        read = ((file, read_saved(file)) for file in picture_files(path))
        found = next(((file, saved) for file, saved in read if isinstance(saved, Saved)), None)
        if found is None:
            raise OutputFolderError(f"folder {path} holds no pictures of jaxviz")
        file_format, first = found[0].suffix[1:], found[1]
        contents = inspect(path, first.recipe, file_format)
        if contents.foreign:
            file, reason = next(iter(contents.foreign.items()))
            raise OutputFolderError(f"folder {path} holds pictures that do not belong together: {file.name}: {reason}")
        check_writable(path)
        remove_left_overs(path, alone=True)
        return cls(path, path.resolve().name, first.recipe, contents.done, (), file_format)

    def file(self, key: Key, step: int | None = None) -> Path:
        """Where a picture, or its snapshot, is or will be."""
        return self.path / picture_name(key, step, self.file_format)

    def write(self, picture: Picture) -> None:
        """Write one picture, after its snapshots; once the first one is safe, another recipe's are removed.

        Several threads may write at once, but for the first picture of a folder that is `untouched`.
        """
        key = (picture.filter_index, picture.replica)
        files: dict[Path, bytes] = {}
        for step in (*picture.snapshots, None):
            files[self.file(key, step)] = picture_bytes(picture, step, self.file_format)
            write_atomically(self.file(key, step), files[self.file(key, step)])
            self._touched = True
        self._written.add(key)
        for stale in self._stale:
            if stale not in files:
                _remove(stale)
        self._stale = []
        self.done[key] = saved_as(picture)

    def has_numbers(self) -> bool:
        """Whether the grid that is there has filter numbers written into it."""
        before = self._before()
        return before is not None and before.grid.numbers

    @property
    def untouched(self) -> bool:
        """Whether it still holds another recipe's pictures, which the first new one will replace."""
        return bool(self._stale) and not self._touched

    def finish(
        self,
        *,
        device: str,
        timings: dict[str, int | float | None] | None = None,
        numbers: bool = False,
        judge: Judge | None = None,
        animate: str | None = None,
    ) -> None:
        """`look_again`, `put_beside` and `describe`, for whoever does not do them apart."""
        self.look_again()
        self.put_beside(judge)
        self.describe(device=device, timings=timings, numbers=numbers, animate=animate)

    def look_again(self) -> None:
        """Read from the files what is done: others may write here too."""
        self._contents = inspect(self.path, self.recipe, self.file_format)
        self.done = dict(sorted(self._contents.done.items()))

    @property
    def foreign(self) -> dict[Path, str]:
        """Files of another origin that `look_again` has found, with the reason."""
        return self._contents.foreign

    def put_beside(self, judge: Judge | None) -> None:
        """Make `entries`, one for each picture that is done.

        `judge` puts the pictures beside natural images; what an earlier run found is kept where it holds.
        """
        if not self._stale:
            self.entries, self.natural_images = self._judged(self._before(), judge)

    def describe(
        self,
        *,
        device: str,
        timings: dict[str, int | float | None] | None = None,
        numbers: bool = False,
        animate: str | None = None,
    ) -> None:
        """Make grid.png and layer.json of what `put_beside` has made, unless they describe it already.

        Args:
            device: the device in words; "": as an earlier run has it.
            timings: seconds and counts of this run.
            numbers: write filter numbers into the grid.
            animate: "webp" or "gif": also grid.webp or grid.gif, from the snapshots that all pictures have.
        """
        if self._stale:
            return  # another recipe's folder, still whole
        before = self._before()
        record = self._record(before, device, timings or {}, numbers)
        if self._written or not self._is_described_by(before, record):
            if self.done:
                write_atomically(self.path / "grid.png", png_bytes(self._sheet(numbers), GridSaved(SCHEMA)))
            write_atomically(self.path / LAYER_JSON, (to_json(record, indent=1) + "\n").encode())
        if animate is not None and self.done:
            common = self._contents.common_snapshots()
            steps = [step for step in common if step in self.snapshots or not self.snapshots]
            frames = [self._sheet(numbers, step) for step in steps] + [self._sheet(numbers)]
            write_atomically(self.path / f"grid.{animate}", animation_bytes(frames, file_format=animate))

    def _sheet(self, numbers: bool, step: int | None = None) -> np.ndarray:
        tiles = [read_picture(self.file(key, step)) for key in self.done]
        return images.grid(tiles, numbers=[index for index, _ in self.done] if numbers else None)

    def _before(self) -> LayerRecord | None:
        """layer.json as it is; None where there is none of this recipe."""
        there = read_layer_record(self.path)
        return there if isinstance(there, LayerRecord) and there.recipe == self.recipe else None

    def _is_described_by(self, before: LayerRecord | None, record: LayerRecord) -> bool:
        """Whether the files that are there say what `record` does, but for how and when they were made."""
        told = ("label", "network", "filters", "grid", "natural_images")
        same = before is not None and all(getattr(before, name) == getattr(record, name) for name in told)
        return same and (not self.done or (self.path / "grid.png").is_file())

    def _judged(self, before: LayerRecord | None, judge: Judge | None) -> tuple[tuple[Entry, ...], Natural | None]:
        """The record's `filters`, with what is known of them beside natural images, and `natural_images`."""
        known_natural = None if before is None else before.natural_images
        natural = known_natural if judge is None else judge.natural
        known: dict[Key, Judged] = {}
        if before is not None and natural is not None and natural == known_natural:
            there = (one for one in before.filters if one.judged_score is not None)
            known = {one.key: one for one in there if one.key in self.done and one.key not in self._written}
        missing = [key for key, saved in self.done.items() if key not in known and saved.status == "ok"]
        if judge is not None and missing:
            pictures = [read_picture(self.file(key)) for key in missing]
            known |= dict(zip(missing, judge(pictures, [index for index, _ in missing]), strict=True))
        return tuple(entry_of(saved, known.get(key)) for key, saved in self.done.items()), natural

    def _record(
        self, before: LayerRecord | None, device: str, timings: dict[str, int | float | None], numbers: bool
    ) -> LayerRecord:
        return LayerRecord(
            schema=SCHEMA,
            model=self.recipe.model,
            layer=self.recipe.layer,
            network=before.network if self.network is None and before is not None else self.network,
            label=self.label,
            format=self.file_format,
            weights_sha256=self.recipe.weights_sha256,
            recipe=self.recipe,
            counts=status_counts(saved.status for saved in self.done.values()),
            grid=Grid(images.grid_columns(len(self.done)), numbers),
            timings=timings,
            device=before.device if not device and before is not None else device,
            filters=self.entries,
            natural_images=self.natural_images,
            versions={"jaxviz": jaxviz.__version__} | {name: metadata.version(name) for name in RECORDED_PACKAGES},
        )


def foreign_error(path: Path, name: str, reason: str) -> OutputFolderError:
    """What to raise for a folder with pictures of another origin."""
    return OutputFolderError(
        f"`out` folder {path} holds pictures that this run would not make: {name}: {reason}. "
        "Choose another label, `label` LABEL, another `out`, or replace them with `overwrite`"
    )


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot remove {file}: {error.strerror or error}; choose another `out`") from error

"""Pictures on disk: OUT/<model>/<layer>/<label>/<filter:04d>.png or .webp, grid.png and layer.json.

Each picture carries its own provenance (provenance.py), so the pictures are the truth: what is done is read from them,
and layer.json, the grid and its animation are made from them and always describe the whole folder. A folder holds one
recipe. Who may write to it, locks.py decides. No jax here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

import jaxviz
from jaxviz import images
from jaxviz.animation import animation_bytes
from jaxviz.contents import Contents, check_format, folder_path, inspect, picture_files
from jaxviz.errors import OutputFolderError, StorageError
from jaxviz.files import check_writable, remove_left_overs, write_atomically
from jaxviz.provenance import (
    SCHEMA,
    Key,
    Saved,
    jaxlib_version,
    number,
    picture_bytes,
    picture_name,
    png_bytes,
    read_picture,
    read_saved,
)
from jaxviz.recipe import STATUSES, Picture, Recipe

RECORDED_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "pillow")
JUDGED = ("judged_score", "percentile", "rank")  # of layer.json's entries


@runtime_checkable
class Judge(Protocol):
    """Puts pictures beside natural images; `natural` says in JSON values which ones."""

    natural: dict[str, Any] | None

    def __call__(self, pictures: list[np.ndarray], filters: list[int]) -> list[dict[str, Any]]:
        """For each picture the values of `JUDGED`."""


@dataclass
class LayerFolder:
    """One layer's folder, opened for one recipe; `done` is what it holds of that recipe, by (filter, replica)."""

    path: Path
    label: str
    recipe: Recipe
    done: dict[Key, Saved]
    snapshots: tuple[int, ...]
    file_format: str  # "png" or "webp"
    _stale: list[Path] = field(default_factory=list)  # another recipe's, removed when the first picture is written
    _written: set[Key] = field(default_factory=set)
    entries: list[dict[str, Any]] = field(default_factory=list)  # of layer.json, one a picture; from `put_beside`
    _touched: bool = False  # whether something was written
    natural_images: dict[str, Any] | None = None  # which ones the pictures were put beside
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
        alone: bool = False,
    ) -> LayerFolder:
        """Look at the folder and make sure that it may be written to.

        A picture that lacks one of the snapshots, steps, is not done. `alone`: nobody else writes here (the folder's
        lock is held), so that all temporary files in it are left-overs; they are removed.

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
        return cls(path, label, recipe, done, wanted, file_format, list(contents.foreign))

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
        self.done[key] = Saved(
            picture.filter_index,
            picture.score,
            picture.status,
            picture.recipe,
            picture.replica,
            picture.attempt,
            jaxlib=jaxlib_version(),
        )

    def has_numbers(self) -> bool:
        """Whether the grid that is there has filter numbers written into it."""
        return bool(self._read_record().get("grid", {}).get("numbers", False))

    @property
    def untouched(self) -> bool:
        """Whether it still holds another recipe's pictures, which the first new one will replace."""
        return bool(self._stale) and not self._touched

    def finish(
        self,
        *,
        device: str,
        timings: dict[str, float | None] | None = None,
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
            self.entries, self.natural_images = self._judged(self._read_record(), judge)

    def describe(
        self,
        *,
        device: str,
        timings: dict[str, float | None] | None = None,
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
        before = self._read_record()
        record = self._record(device or before.get("device", ""), timings or {}, numbers)
        if self._written or not self._is_described_by(before, record):
            if self.done:
                write_atomically(
                    self.path / "grid.png", png_bytes(self._sheet(numbers), {"schema": SCHEMA, "kind": "grid"})
                )
            write_atomically(self.path / "layer.json", (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())
        if animate is not None and self.done:
            common = self._contents.common_snapshots()
            steps = [step for step in common if step in self.snapshots or not self.snapshots]
            frames = [self._sheet(numbers, step) for step in steps] + [self._sheet(numbers)]
            write_atomically(self.path / f"grid.{animate}", animation_bytes(frames, file_format=animate))

    def _sheet(self, numbers: bool, step: int | None = None) -> np.ndarray:
        tiles = [read_picture(self.file(key, step)) for key in self.done]
        return images.grid(tiles, numbers=[index for index, _ in self.done] if numbers else None)

    def _read_record(self) -> dict[str, Any]:
        """layer.json as it is; empty where there is none of this format and recipe."""
        try:
            there = json.loads((self.path / "layer.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        same = (
            isinstance(there, dict) and there.get("schema") == SCHEMA and there.get("recipe") == self.recipe.to_json()
        )
        return there if same else {}

    def _is_described_by(self, before: dict[str, Any], record: dict[str, Any]) -> bool:
        """Whether the files that are there say what `record` does, but for how and when they were made."""
        same = all(before.get(key) == record[key] for key in ("label", "filters", "grid", "natural_images"))
        return same and (not self.done or (self.path / "grid.png").is_file())

    def _judged(
        self, before: dict[str, Any], judge: Judge | None
    ) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        """The record's `filters`, with what is known of them beside natural images, and `natural_images`."""
        natural = before.get("natural_images") if judge is None else judge.natural
        known = {}
        if natural is not None and natural == before.get("natural_images"):
            known = {
                (entry["filter_index"], entry["replica"]): {name: entry[name] for name in JUDGED}
                for entry in before["filters"]
                if entry["judged_score"] is not None
            }
        known = {key: values for key, values in known.items() if key in self.done and key not in self._written}
        missing = [key for key, saved in self.done.items() if key not in known and saved.status == "ok"]
        if judge is not None and missing:
            pictures = [read_picture(self.file(key)) for key in missing]
            known |= dict(zip(missing, judge(pictures, [index for index, _ in missing]), strict=True))
        entries = [
            {
                "filter_index": saved.filter_index,
                "replica": saved.replica,
                "score": number(saved.score),
                "status": saved.status,
                "attempt": saved.attempt,
                "jaxlib": saved.jaxlib,
            }
            | known.get(key, dict.fromkeys(JUDGED))
            for key, saved in self.done.items()
        ]
        return entries, natural

    def _record(self, device: str, timings: dict[str, float | None], numbers: bool) -> dict[str, Any]:
        statuses = [saved.status for saved in self.done.values()]
        return {
            "schema": SCHEMA,
            "model": self.recipe.model,
            "layer": self.recipe.layer,
            "label": self.label,
            "format": self.file_format,
            "weights_sha256": self.recipe.weights_sha256,
            "recipe": self.recipe.to_json(),
            "counts": {status: statuses.count(status) for status in STATUSES},
            "grid": {"columns": images.grid_columns(len(statuses)), "numbers": numbers},
            "timings": timings,
            "device": device,
            "filters": self.entries,
            "natural_images": self.natural_images,
            "versions": {"jaxviz": jaxviz.__version__} | {name: metadata.version(name) for name in RECORDED_PACKAGES},
        }


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

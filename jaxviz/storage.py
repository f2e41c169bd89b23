"""Pictures on disk: OUT/<model>/<layer>/<label>/<filter:04d>.png, grid.png and layer.json.

Each PNG carries its own provenance (provenance.py), so the pictures are the truth: what is done is read from them, and
layer.json, the grid and its animation are made from them and always describe the whole folder. A folder holds one
recipe. No jax here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import quote

import numpy as np

import jaxviz
from jaxviz import images
from jaxviz.animation import animation_bytes
from jaxviz.errors import OutputFolderError, StorageError
from jaxviz.files import check_writable, write_atomically
from jaxviz.provenance import (
    PICTURE_NAME,
    SCHEMA,
    Key,
    Saved,
    number,
    picture_bytes,
    picture_name,
    png_bytes,
    read_picture,
    read_saved,
)
from jaxviz.recipe import STATUSES, Picture, Recipe

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
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
    entries: list[dict[str, Any]]  # of layer.json, one for each picture, once finished
    _stale: list[Path]  # another recipe's files, removed when the first new picture is written
    _written: set[Key]

    @classmethod
    def open(
        cls, out: str | Path, recipe: Recipe, *, label: str, overwrite: bool = False, snapshots: Iterable[int] = ()
    ) -> LayerFolder:
        """Look at the folder and make sure that it may be written to.

        A picture that lacks one of the snapshots, steps, is not done.

        Raises:
            OutputFolderError: it holds pictures of another recipe or of unknown origin (unless `overwrite`),
                or a path in it is no folder, or the label is no file name.
            StorageError: it cannot be read or written.
        """
        path = folder_path(out, recipe.model, recipe.layer, label)
        contents = _inspect(path, recipe)
        if contents.foreign and not overwrite:
            file, reason = next(iter(contents.foreign.items()))
            raise OutputFolderError(
                f"--out folder {path} holds pictures that this run would not make: {file.name}: {reason}. "
                "Choose another label with --name LABEL, another --out, or replace them with --overwrite"
            )
        check_writable(path)
        wanted = tuple(sorted(set(snapshots)))
        done = {} if overwrite else contents.with_snapshots(wanted)
        return cls(path, label, recipe, done, wanted, [], list(contents.foreign), set())

    def write(self, picture: Picture) -> None:
        """Write one picture, after its snapshots; once the first one is safe, another recipe's are removed."""
        key = (picture.filter_index, picture.replica)
        files = {self.path / picture_name(key, step): picture_bytes(picture, step) for step in picture.snapshots}
        files[self.path / picture_name(key)] = picture_bytes(picture)
        for file, content in files.items():
            write_atomically(file, content)
        self._written.add(key)
        for stale in self._stale:
            if stale not in files:
                _remove(stale)
        self._stale = []
        self.done[key] = Saved(
            picture.filter_index, picture.score, picture.status, picture.recipe, picture.replica, picture.attempt
        )

    @property
    def untouched(self) -> bool:
        """Whether it still holds another recipe's pictures, which the first new one will replace."""
        return bool(self._stale)

    def finish(
        self,
        *,
        device: str,
        timings: dict[str, float | None] | None = None,
        numbers: bool = False,
        judge: Judge | None = None,
        animate: str | None = None,
    ) -> None:
        """Make grid.png and layer.json from all the pictures in the folder, unless they describe it already.

        Args:
            device: the device in words.
            timings: seconds and counts of this run.
            numbers: write filter numbers into the grid.
            judge: what puts the pictures beside natural images; what an earlier run found is kept where it holds.
            animate: "webp" or "gif": also grid.webp or grid.gif, from the snapshots that all pictures have.
        """
        if self._stale:
            return  # another recipe's folder, still whole
        contents = _inspect(self.path, self.recipe)
        self.done = dict(sorted(contents.done.items()))
        before = self._read_record()
        record = self._record(device, timings or {}, numbers) | self._judged(before, judge)
        self.entries = record["filters"]
        if self._written or not self._is_described_by(before, record):
            if self.done:
                write_atomically(
                    self.path / "grid.png", png_bytes(self._sheet(numbers), {"schema": SCHEMA, "kind": "grid"})
                )
            write_atomically(self.path / "layer.json", (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())
        if animate is not None and self.done:
            steps = [step for step in contents.common_snapshots() if step in self.snapshots or not self.snapshots]
            frames = [self._sheet(numbers, step) for step in steps] + [self._sheet(numbers)]
            write_atomically(self.path / f"grid.{animate}", animation_bytes(frames, file_format=animate))

    def _sheet(self, numbers: bool, step: int | None = None) -> np.ndarray:
        tiles = [read_picture(self.path / picture_name(key, step)) for key in self.done]
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

    def _judged(self, before: dict[str, Any], judge: Judge | None) -> dict[str, Any]:
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
            pictures = [read_picture(self.path / picture_name(key)) for key in missing]
            known |= dict(zip(missing, judge(pictures, [index for index, _ in missing]), strict=True))
        entries = [
            {
                "filter_index": saved.filter_index,
                "replica": saved.replica,
                "score": number(saved.score),
                "status": saved.status,
                "attempt": saved.attempt,
            }
            | known.get(key, dict.fromkeys(JUDGED))
            for key, saved in self.done.items()
        ]
        return {"filters": entries, "natural_images": natural}

    def _record(self, device: str, timings: dict[str, float | None], numbers: bool) -> dict[str, Any]:
        statuses = [saved.status for saved in self.done.values()]
        return {
            "schema": SCHEMA,
            "model": self.recipe.model,
            "layer": self.recipe.layer,
            "label": self.label,
            "weights_sha256": self.recipe.weights_sha256,
            "recipe": self.recipe.to_json(),
            "counts": {status: statuses.count(status) for status in STATUSES},
            "grid": {"columns": images.grid_columns(len(statuses)), "numbers": numbers},
            "timings": timings,
            "device": device,
            "versions": {"jaxviz": jaxviz.__version__} | {name: metadata.version(name) for name in RECORDED_PACKAGES},
        }


def folder_path(out: str | Path, model: str, layer: str, label: str) -> Path:
    """OUT/<model>/<layer>/<label>; characters that no file name should have are percent-encoded."""
    if not LABEL.fullmatch(label):
        raise OutputFolderError(
            f"--name {label!r} is no label; allowed are letters, digits, '.', '_' and '-', starting with a letter or "
            "digit, at most 100 of them"
        )
    return Path(out) / _file_name(model) / _file_name(layer) / label


def recorded_batch_size(path: Path) -> int | None:
    """The batch size N of the pictures in a layer's folder; None where there are none."""
    for file in _picture_files(path):
        saved = read_saved(file)
        if isinstance(saved, Saved):
            return saved.recipe.batch_size
    return None


@dataclass
class _Contents:
    """Finished pictures of a recipe, the steps of their snapshots, and files of another origin with the reason."""

    done: dict[Key, Saved]
    snapshots: dict[Key, set[int]]
    foreign: dict[Path, str]

    def with_snapshots(self, steps: Sequence[int]) -> dict[Key, Saved]:
        return {key: saved for key, saved in self.done.items() if self.snapshots.get(key, set()).issuperset(steps)}

    def common_snapshots(self) -> list[int]:
        return sorted(set.intersection(*(self.snapshots.get(key, set()) for key in self.done)))


def _inspect(path: Path, recipe: Recipe) -> _Contents:
    """What is in a folder; damaged files are nowhere."""
    contents = _Contents({}, {}, {})
    for file in _picture_files(path):
        saved = read_saved(file)
        if isinstance(saved, Saved):
            differences = recipe.differences(saved.recipe)
            if differences:
                contents.foreign[file] = "; ".join(differences)
            elif file.name != picture_name(saved.key, saved.step):
                contents.foreign[file] = f"it is {picture_name(saved.key, saved.step)}"
            elif saved.step is None:
                contents.done[saved.key] = saved
            else:
                contents.snapshots.setdefault(saved.key, set()).add(saved.step)
        elif saved != "damaged":
            contents.foreign[file] = saved
    return contents


def _picture_files(path: Path) -> list[Path]:
    try:
        for folder in (path, *path.parents):
            if folder.exists() and not folder.is_dir():
                raise OutputFolderError(f"--out leads to {folder}, which is a file; give a folder")
        if not path.exists():
            return []
        files = sorted(file for file in path.iterdir() if PICTURE_NAME.fullmatch(file.name))
        folders = [file for file in files if file.is_dir()]
    except OSError as error:
        raise StorageError(f"cannot read folder {path}: {error.strerror or error}; choose another --out") from error
    if folders:
        raise OutputFolderError(f"--out holds {folders[0]}, a folder with a picture's name; choose another --out")
    return files


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot remove {file}: {error.strerror or error}; choose another --out") from error


def _file_name(name: str) -> str:
    encoded = quote(name, safe=" ()[]+,=", errors="surrogatepass")
    return encoded.replace(".", "%2E") if set(encoded) == {"."} else encoded

"""Pictures on disk: OUT/<model>/<layer>/<label>/<filter:04d>.png, grid.png and layer.json.

Each PNG carries its own provenance (recipe, filter, score, status, version) in a text chunk `jaxviz`, so the
pictures are the truth: what is done is read from them, and layer.json and the grid are made from them and
always describe the whole folder. A folder holds one recipe. No jax here.
"""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jaxtyping import UInt8
from PIL import Image, PngImagePlugin

import jaxviz
from jaxviz import images
from jaxviz.errors import OutputFolderError, StorageError
from jaxviz.files import check_writable, write_atomically
from jaxviz.recipe import STATUSES, Picture, Recipe

SCHEMA = 1
CHUNK = "jaxviz"
PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND\xaeB`\x82"  # the last chunk of every whole PNG, with its checksum
PICTURE_NAME = re.compile(r"\d{4,}\.png")
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
RECORDED_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "pillow")


@dataclass(frozen=True)
class Saved:
    """What a finished picture file says of itself."""

    filter_index: int
    score: float
    status: str
    recipe: Recipe


@dataclass
class LayerFolder:
    """One layer's folder, opened for one recipe; `done` is what it holds of that recipe."""

    path: Path
    label: str
    recipe: Recipe
    done: dict[int, Saved]
    _stale: list[Path]  # another recipe's files, removed when the first new picture is written
    _written: int = 0

    @classmethod
    def open(cls, out: str | Path, recipe: Recipe, *, label: str, overwrite: bool = False) -> LayerFolder:
        """Look at the folder and make sure that it may be written to.

        Raises:
            OutputFolderError: it holds pictures of another recipe or of unknown origin (unless `overwrite`),
                or a path in it is no folder, or the label is no file name.
            StorageError: it cannot be read or written.
        """
        path = folder_path(out, recipe.model, recipe.layer, label)
        done, foreign = _inspect(path, recipe)
        if foreign and not overwrite:
            file, reason = next(iter(foreign.items()))
            raise OutputFolderError(
                f"--out folder {path} holds pictures that this run would not make: {file.name}: {reason}. "
                "Choose another label with --name LABEL, another --out, or replace them with --overwrite"
            )
        check_writable(path)
        if overwrite:
            done = {}
        return cls(path, label, recipe, done, list(foreign))

    def write(self, picture: Picture) -> None:
        """Write one picture; once the first one is safe, another recipe's are removed."""
        file = self.path / f"{picture.filter_index:04d}.png"
        write_atomically(file, _png_bytes(picture.picture, _provenance(picture)))
        self._written += 1
        for stale in self._stale:
            if stale != file:
                _remove(stale)
        self._stale = []
        self.done[picture.filter_index] = Saved(picture.filter_index, picture.score, picture.status, picture.recipe)

    @property
    def untouched(self) -> bool:
        """Whether it still holds another recipe's pictures, which the first new one will replace."""
        return bool(self._stale)

    def finish(self, *, device: str, timings: dict[str, float | None] | None = None, numbers: bool = False) -> None:
        """Make grid.png and layer.json from all the pictures in the folder, unless they describe it already.

        Args:
            device: the device in words.
            timings: seconds and counts of this run.
            numbers: write filter numbers into the grid.
        """
        if self._stale:
            return  # another recipe's folder, still whole
        saved, _ = _inspect(self.path, self.recipe)
        self.done = dict(sorted(saved.items()))
        record = self._record(device, timings or {}, numbers)
        if not self._written and self._is_described_by(record):
            return
        if self.done:
            tiles = [_read_picture(self.path / f"{index:04d}.png") for index in self.done]
            sheet = images.grid(tiles, numbers=list(self.done) if numbers else None)
            write_atomically(self.path / "grid.png", _png_bytes(sheet, {"schema": SCHEMA, "kind": "grid"}))
        write_atomically(self.path / "layer.json", (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())

    def _is_described_by(self, record: dict[str, Any]) -> bool:
        """Whether the files that are there say what `record` does, but for how and when they were made."""
        try:
            there = json.loads((self.path / "layer.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            return False
        same = isinstance(there, dict) and all(
            there.get(key) == record[key] for key in ("schema", "recipe", "label", "filters", "grid")
        )
        return same and (not self.done or (self.path / "grid.png").is_file())

    def _record(self, device: str, timings: dict[str, float | None], numbers: bool) -> dict[str, Any]:
        entries = [
            {"filter_index": saved.filter_index, "score": _number(saved.score), "status": saved.status}
            for saved in self.done.values()
        ]
        return {
            "schema": SCHEMA,
            "model": self.recipe.model,
            "layer": self.recipe.layer,
            "label": self.label,
            "weights_sha256": self.recipe.weights_sha256,
            "recipe": self.recipe.to_json(),
            "counts": {status: sum(entry["status"] == status for entry in entries) for status in STATUSES},
            "filters": entries,
            "grid": {"columns": images.grid_columns(len(entries)), "numbers": numbers},
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


def read_saved(file: Path) -> Saved | str:
    """The provenance of a picture file, or in words why it has none; a damaged file is "damaged"."""
    try:
        content = file.read_bytes()
        if not content.startswith(PNG_START[: len(content)]):
            return "it is no PNG file"
        if PNG_END not in content:  # Pillow forgives a missing end; a whole file has it, something may follow
            return "damaged"
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            text = getattr(image, "text", {}).get(CHUNK)
    except Image.DecompressionBombError:
        return "it is larger than any picture"
    except (OSError, SyntaxError, ValueError):
        return "damaged"
    if text is None:
        return "it was not made by jaxviz"
    try:
        values = json.loads(text)
        if values["schema"] != SCHEMA:
            return f"it was written in format {values['schema']}, this jaxviz reads {SCHEMA}"
        score = math.nan if values["score"] is None else float(values["score"])
        return Saved(int(values["filter_index"]), score, str(values["status"]), Recipe.from_json(values["recipe"]))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return "its provenance cannot be read"


def _inspect(path: Path, recipe: Recipe) -> tuple[dict[int, Saved], dict[Path, str]]:
    """(finished pictures of this recipe, files of another origin and why); damaged files are in neither."""
    done: dict[int, Saved] = {}
    foreign: dict[Path, str] = {}
    for file in _picture_files(path):
        saved = read_saved(file)
        if isinstance(saved, Saved):
            differences = recipe.differences(saved.recipe)
            if differences:
                foreign[file] = "; ".join(differences)
            elif file.name == f"{saved.filter_index:04d}.png":
                done[saved.filter_index] = saved
            else:
                foreign[file] = f"it is filter {saved.filter_index}"
        elif saved != "damaged":
            foreign[file] = saved
    return done, foreign


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


def _provenance(picture: Picture) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "filter_index": picture.filter_index,
        "score": _number(picture.score),
        "status": picture.status,
        "recipe": picture.recipe.to_json(),
        "version": jaxviz.__version__,
    }


def _png_bytes(picture: UInt8[np.ndarray, "height width 3"], provenance: dict[str, Any]) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text(CHUNK, json.dumps(provenance, allow_nan=False))
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def _read_picture(file: Path) -> UInt8[np.ndarray, "height width 3"]:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot remove {file}: {error.strerror or error}; choose another --out") from error


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _file_name(name: str) -> str:
    encoded = quote(name, safe=" ()[]+,=", errors="surrogatepass")
    return encoded.replace(".", "%2E") if set(encoded) == {"."} else encoded

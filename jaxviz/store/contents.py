"""What a layer's folder holds, read from the files themselves: finished pictures, snapshots, files of another origin.

OUT/<model>/<layer>/<label>/ is the folder's name. Nothing is written here. No jax.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jaxviz.errors import ConfigError, OutputFolderError, StorageError
from jaxviz.render.recipe import Recipe
from jaxviz.store.provenance import FORMATS, PICTURE_NAME, Key, Saved, jaxlib_version, picture_name, read_saved

SITE = "gallery.json"  # in a folder that `jaxviz gallery` made, which may hold copies of pictures
LONGEST_NAME = 255  # bytes, of file systems
DIGITS = 16  # of the hash
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def folder_path(out: str | Path, model: str, layer: str, label: str) -> Path:
    """OUT/<model>/<layer>/<label>; see `folder_name`."""
    if not LABEL.fullmatch(label):
        raise OutputFolderError(
            f"`label` {label!r} is no label",
            argument="label",
            value=label,
            allowed="letters, digits, '.', '_' and '-', starting with a letter or digit, at most 100 of them",
        )
    return Path(out) / folder_name(model) / folder_name(layer) / label


def folder_name(name: str, *, longest: int = LONGEST_NAME) -> str:
    """What a folder is called for a model, layer or label, whatever characters that has; no two names share one.

    Percent-encoded, and cut with a hash at its end where it has more than `longest` bytes: what is in the folder says
    the true name.
    """
    encoded = quote(name, safe=" ()[]+,=", errors="surrogatepass")
    if set(encoded) <= {"."}:
        encoded = encoded.replace(".", "%2E") or "%"
    if len(encoded) > longest:
        digest = hashlib.sha256(encoded.encode()).hexdigest()[:DIGITS]
        encoded = f"{encoded[: longest - DIGITS - 1]}-{digest}"
    return encoded


def is_site(folder: Path) -> bool:
    """Whether `jaxviz gallery` made a folder; one that cannot be looked into is none."""
    try:
        return (folder / SITE).exists()
    except OSError:
        return False


def first_saved(path: Path) -> Saved | None:
    """What the first whole picture in a layer's folder says of itself; None where there is none.

    Raises:
        OutputFolderError: the path leads through a file, or a folder in it has a picture's name.
        StorageError: it cannot be read.
    """
    return next((saved for saved in map(read_saved, picture_files(path)) if isinstance(saved, Saved)), None)


@dataclass
class Contents:
    """Finished pictures of a recipe, the steps of their snapshots, and files of another origin with the reason."""

    done: dict[Key, Saved]
    snapshots: dict[Key, set[int]]
    foreign: dict[Path, str]

    def with_snapshots(self, steps: Sequence[int]) -> dict[Key, Saved]:
        """The pictures that have all of these snapshots."""
        return {key: saved for key, saved in self.done.items() if self.snapshots.get(key, set()).issuperset(steps)}

    def common_snapshots(self) -> list[int]:
        """The steps of which all pictures have a snapshot."""
        return sorted(set.intersection(*(self.snapshots.get(key, set()) for key in self.done)))


def other_jaxlib(path: Path, done: Iterable[Saved]) -> str | None:
    """What to say where pictures are to be added to those that another jaxlib made; None where there are none.

    Equal recipes then give other bits: up to 221 grey levels apart between neighbouring versions, on deep layers.
    """
    others = Counter(saved.jaxlib or "of unknown version" for saved in done if saved.jaxlib != jaxlib_version())
    if not others:
        return None
    made = ", ".join(f"{count} by jaxlib {version}" for version, count in sorted(others.items()))
    return (
        f"folder {path} holds pictures made with another jaxlib than {jaxlib_version()}, which is installed: {made}. "
        "The same recipe gives other bits there"
    )


def check_format(file_format: str) -> None:
    """Raise ConfigError unless it is a format of picture files."""
    if file_format not in FORMATS:
        raise ConfigError("is unknown", argument="file_format", value=file_format, allowed=", ".join(FORMATS))


def inspect(path: Path, recipe: Recipe, file_format: str) -> Contents:
    """What is in a folder; damaged files are nowhere."""
    contents = Contents({}, {}, {})
    for file in picture_files(path):
        saved = read_saved(file)
        if isinstance(saved, Saved):
            differences = recipe.differences(saved.recipe)
            if differences:
                contents.foreign[file] = "; ".join(differences)
            elif file.suffix != f".{file_format}":
                contents.foreign[file] = f"this run writes {file_format} files (`file_format`)"
            elif file.name != (own := picture_name(saved.key, saved.step, file_format)):
                contents.foreign[file] = f"it is {own}"
            elif saved.step is None:
                contents.done[saved.key] = saved
            else:
                contents.snapshots.setdefault(saved.key, set()).add(saved.step)
        elif saved != "damaged":
            contents.foreign[file] = saved
    return contents


def picture_files(path: Path) -> list[Path]:
    """Files with a picture's name, sorted. Raises as `first_saved`."""
    try:
        for folder in (path, *path.parents):
            if folder.exists() and not folder.is_dir():
                raise OutputFolderError(f"`out` leads to {folder}, which is a file; give a folder")
        if not path.exists():
            return []
        files = sorted(file for file in path.iterdir() if PICTURE_NAME.fullmatch(file.name))
        folders = [file for file in files if file.is_dir()]
    except OSError as error:
        raise StorageError(f"cannot read folder {path}: {error.strerror or error}; choose another `out`") from error
    if folders:
        raise OutputFolderError(f"`out` holds {folders[0]}, a folder with a picture's name; choose another `out`")
    return files

"""The folder of a site: which files are the site's own, so that making it again replaces those and no others.

`gallery.json` lists the files. It is written before the first of them and again after the last, so that a site whose
making was interrupted still knows what is its own. A file that is there already with the same bytes is not written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from msgspec import Struct

from jaxviz.errors import OutputFolderError, StorageError
from jaxviz.files import check_writable, write_atomically
from jaxviz.records import from_json, to_json
from jaxviz.store.contents import SITE

SCHEMA = 1
MADE_BY = "jaxviz gallery"


class Manifest(Struct, frozen=True):
    """gallery.json: the files of the site."""

    schema: int
    made_by: str
    files: tuple[str, ...]


@dataclass
class SiteFolder:
    """A folder that a site may be written to; paths are relative, with forward slashes."""

    path: Path
    before: frozenset[str]  # files of the site that was there
    written: dict[str, bool] = field(default_factory=dict)  # path -> whether its bytes were new

    @classmethod
    def open(cls, path: Path) -> SiteFolder:
        """Look at the folder and make sure that it may be written to.

        Raises:
            OutputFolderError: it is a file, or holds files and no site.
            StorageError: it cannot be read or written.
        """
        try:
            for folder in (path, *path.parents):
                if folder.exists() and not folder.is_dir():
                    raise OutputFolderError(f"`out` {path} leads to {folder}, which is a file; give a folder")
            occupied = path.is_dir() and any(not child.name.startswith(".") for child in path.iterdir())
            before = _read_manifest(path / SITE) if occupied else frozenset()
        except OSError as error:
            raise StorageError(f"cannot read `out` {path}: {error.strerror or error}; choose another `out`") from error
        if before is None:
            raise OutputFolderError(
                f"`out` {path} holds files and no gallery made by jaxviz; nothing there was touched. "
                "Name a new or empty folder: `out` FOLDER"
            )
        check_writable(path)
        return cls(path, before)

    def announce(self, files: list[str]) -> None:
        """Say which files will be written, before the first of them is.

        Raises:
            OutputFolderError: one of them is there and is not the site's.
        """
        foreign = [file for file in files if file not in self.before and (self.path / file).exists()]
        if foreign:
            raise OutputFolderError(
                f"`out` {self.path} holds {foreign[0]}, which jaxviz did not write and a page would replace; "
                "move it away, or name another folder: `out` FOLDER"
            )
        self._write_manifest(self.before | set(files))

    def write(self, file: str, content: bytes) -> None:
        """Write one of the site's files, unless it is there with the same bytes."""
        target = self.path / file
        try:
            same = target.read_bytes() == content
        except OSError:
            same = False
        if not same:
            write_atomically(target, content, durable=False)
        self.written[file] = not same

    def finish(self) -> None:
        """Remove what the site had before and has no more, and the folders that this empties."""
        for file in sorted(self.before - self.written.keys(), reverse=True):
            target = self.path / file
            try:
                target.unlink(missing_ok=True)
                for folder in list(target.relative_to(self.path).parents)[:-1]:
                    if any((self.path / folder).iterdir()):
                        break
                    (self.path / folder).rmdir()
            except NotADirectoryError:
                continue
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StorageError(f"cannot remove {target}: {error.strerror or error}; remove it yourself") from error
        self._write_manifest(frozenset(self.written))

    def _write_manifest(self, files: frozenset[str] | set[str]) -> None:
        self_made = to_json(Manifest(SCHEMA, MADE_BY, tuple(sorted(files))), indent=0).encode() + b"\n"
        manifest = self.path / SITE
        if not manifest.is_file() or manifest.read_bytes() != self_made:
            write_atomically(manifest, self_made)


def _read_manifest(file: Path) -> frozenset[str] | None:
    """The files of the site; None where there is no site. Names that lead elsewhere are not believed."""
    try:
        found = from_json(file.read_bytes(), Manifest)
    except (OSError, ValueError):
        return None
    if (found.schema, found.made_by) != (SCHEMA, MADE_BY):
        return None
    paths = {name: PurePosixPath(name) for name in found.files}
    return frozenset(
        name for name, path in paths.items() if path.parts and not path.is_absolute() and ".." not in path.parts
    )

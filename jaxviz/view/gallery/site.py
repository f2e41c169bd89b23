"""From a catalogue to a static site: `build_site`. Plain files, to be opened from disk; nothing is asked of a network.

    index.html, compare.html, assets/
    layers/<model>/<layer>/<label>/index.html           the layer: every filter a tile
    layers/<model>/<layer>/<label>/0003.html            a page per filter; 0003_r1.html for its replica 1
    layers/<model>/<layer>/<label>/sheet-0.jpg         thumbnails; strip.webp: a few; measured.json: what was measured

Every filter has an HTML file of its own, and not a view that a script makes of data: it can be linked, opened without
JavaScript, printed and searched with grep. Tiles show parts of sheets of thumbnails, so that 2,048 of them are a
handful of files; they are links, and a browser lays out and loads only those near the window. Full-size pictures stay
where they are, at a relative address, unless they are copied. The same pictures give the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2

import jaxviz
from jaxviz.errors import OutputFolderError, StorageError
from jaxviz.render.recipe import STATUSES
from jaxviz.store.catalogue import Catalogue, LayerPictures
from jaxviz.view.comparison import differing_settings
from jaxviz.view.gallery import wording
from jaxviz.view.gallery.filters import filter_pages
from jaxviz.view.gallery.folder import SiteFolder
from jaxviz.view.gallery.layers import (
    EXPLAINED,
    FACTS,
    LayerView,
    Sheet,
    comparison,
    folder_of,
    measured_rows,
    snapshot_files,
    tile_views,
)
from jaxviz.view.gallery.thumbnails import (
    DESCRIPTION,
    STRIP,
    Thumbnails,
    digest_of,
    make_thumbnails,
    read_thumbnails,
    sheet_count,
    sheet_name,
)
from jaxviz.view.measures import layer_rows

DEFAULT_FOLDER = "gallery"  # in DIR
ASSETS = ("gallery.css", "gallery.js", "compare.js", "icon.svg")
KEYS = {
    "index": (("↑ ↓", "from layer to layer"), ("Enter", "open it"), ("/", "find a layer by its name")),
    "layer": (
        ("← → ↑ ↓", "from tile to tile"),
        ("Enter", "open the filter's page"),
        ("/", "jump to a filter number"),
        ("[ ]", "previous and next layer"),
        ("Esc, u", "up to all layers"),
    ),
    "filter": (
        ("← →", "previous and next filter"),
        ("/", "jump to a filter number"),
        ("c", "copy the command"),
        ("Esc, u", "up to the layer"),
    ),
    "compare": (("← → ↑ ↓", "from tile to tile"), ("Enter", "open the filter's page"), ("Esc, u", "up to all layers")),
}
KEYS_EVERYWHERE = (("t", "dark or light"), ("?", "these keys"))


@dataclass(frozen=True)
class Built:
    """A finished site: its first page, how many pages there are, how many files were new."""

    index: Path
    layers: int
    pictures: int
    counts: dict[str, int]
    pages: int
    written: int


def build_site(catalogue: Catalogue, out: Path | None = None, *, copy: bool = False, on_layer: Any = None) -> Built:
    """Make the site, or make it anew.

    Args:
        catalogue: what to show.
        out: the site's folder; None: `gallery` in the catalogue's.
        copy: copy full-size pictures into the site, so that it can be published alone.
        on_layer: called with a layer's pictures before its pages are made.

    Raises:
        OutputFolderError: `out` is a file, or holds files that are not the site's.
        StorageError: the disk is full or read-only, or a picture has gone.
    """
    site = _Site(SiteFolder.open(catalogue.folder / DEFAULT_FOLDER if out is None else out), copy)
    site.folder.announce(sorted(site.files(catalogue)))
    for name in ASSETS:
        site.folder.write(f"assets/{name}", (resources.files(__package__) / "static" / name).read_bytes())
    views = []
    for place, pictures in enumerate(catalogue.layers):
        if on_layer is not None:
            on_layer(pictures)
        views.append(site.read_layer(pictures, mark=f"s{place}-"))
    for before, view, after in zip([None, *views], views, [*views[1:], None], strict=False):
        site.write_layer(view, before, after, comparable=len(views) > 1)
    site.write_first_pages(views)
    site.folder.finish()
    counts = {status: sum(view.counts[status] for view in views) for status in STATUSES}
    pages = sum(name.endswith(".html") for name in site.folder.written)
    index = site.folder.path / "index.html"
    return Built(index, len(views), sum(counts.values()), counts, pages, sum(site.folder.written.values()))


@dataclass(frozen=True)
class _Site:
    folder: SiteFolder
    copy: bool

    @cached_property
    def templates(self) -> jinja2.Environment:
        """Everything that is put into a page is escaped; a value that is missing is an error."""
        return jinja2.Environment(
            loader=jinja2.PackageLoader(__package__ or "jaxviz.view.gallery"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )

    def files(self, catalogue: Catalogue) -> Iterator[str]:
        """Every file that the site will have."""
        yield from ("index.html", *(f"assets/{name}" for name in ASSETS))
        if len(catalogue.layers) > 1:
            yield "compare.html"
        for pictures in catalogue.layers:
            folder = folder_of(pictures)
            yield from (f"{folder}/{name}" for name in ("index.html", STRIP, DESCRIPTION))
            yield from (f"{folder}/{sheet_name(at)}" for at in range(sheet_count(len(pictures.tiles))))
            yield from (f"{folder}/{tile.file.stem}.html" for tile in pictures.tiles)
            if self.copy:
                yield from (f"{folder}/{tile.file.name}" for tile in pictures.tiles)
                yield from (f"{folder}/{file.name}" for steps in snapshot_files(pictures).values() for _, file in steps)

    def read_layer(self, pictures: LayerPictures, *, mark: str) -> LayerView:
        """Read a layer's pictures, unless the site has what is made of them; write its sheets."""
        folder, digest = folder_of(pictures), digest_of(pictures)
        found = self._known_thumbnails(folder, digest) or make_thumbnails(pictures)
        for at, (content, _, _) in enumerate(found.sheets):
            self.folder.write(f"{folder}/{sheet_name(at)}", content)
        content, width, height, shown = found.strip
        self.folder.write(f"{folder}/{STRIP}", content)
        self.folder.write(f"{folder}/{DESCRIPTION}", found.to_json(digest))
        return LayerView(
            pictures=pictures,
            folder=folder,
            mark=mark,
            about=wording.about(pictures.network),
            tiles=tile_views(pictures, found.measures, found.places),
            sheets=tuple(Sheet(sheet_name(at), *size) for at, (_, *size) in enumerate(found.sheets)),
            rows=layer_rows(pictures, found.measures),
            ratio=found.ratio,
            strip={"width": width, "height": height, "alt": f"{shown} of the pictures"},
        )

    def _known_thumbnails(self, folder: str, digest: str) -> Thumbnails | None:
        """Those of an earlier making, if it was of the same pictures."""
        path = self.folder.path / folder
        if f"{folder}/{DESCRIPTION}" not in self.folder.before:
            return None
        try:
            description = (path / DESCRIPTION).read_bytes()
        except OSError:
            return None
        return read_thumbnails(description, digest, lambda name: (path / name).read_bytes())

    def write_layer(
        self, view: LayerView, before: LayerView | None, after: LayerView | None, *, comparable: bool
    ) -> None:
        """The layer's page and those of its filters."""
        root = "../" * (view.folder.count("/") + 1)
        pages = wording.ranges([tile.tile.key for tile in view.tiles])
        shared = {"root": root, "layer": view, "pages": pages}
        up: list[tuple[str, str | None]] = [
            ("All layers", f"{root}index.html"),
            (view.model, f"{root}index.html#model-{wording.address(wording.slug(view.model))}"),
        ]
        up.append((view.name, None))
        self._write(
            "layer",
            f"{view.folder}/index.html",
            title=f"{view.name} · {view.pictures.label} · {view.model}",
            trail=up,
            up=f"{root}index.html",
            before=before,
            after=after,
            rows=measured_rows(view.rows, keys=FACTS),
            comparable=comparable,
            legend=_legend(view),
            **shared,
        )
        for page in filter_pages(view, lambda file: self._picture(view, file)):
            name = f"Filter {page.tile.name}"
            self._write(
                "filter",
                f"{view.folder}/{page.tile.stem}.html",
                title=f"{name} · {view.name} · {view.pictures.label} · {view.model}",
                trail=[("All layers", f"{root}index.html"), (view.name, "index.html"), (name, None)],
                up=f"index.html#f{page.tile.stem}",
                **shared,
                **page.values,
            )

    def write_first_pages(self, views: list[LayerView]) -> None:
        """The first page and the comparison."""
        models = [_model(name, list(found)) for name, found in groupby(views, key=lambda view: view.model)]
        total = {status: sum(view.counts[status] for view in views) for status in STATUSES}
        summary = f"{wording.counts(total)}, {wording.count(len(views), 'layer')}."
        shared = {"root": "", "models": models, "pages": "", "comparable": len(views) > 1}
        self._write("index", "index.html", title="What every filter looks for", trail=[("All layers", None)],
                    up=None, summary=summary, **shared)  # fmt: skip
        if len(views) > 1:
            data = {
                "layers": [comparison(view) for view in views],
                "explained": [[key, *values] for key, values in EXPLAINED.items()],
            }
            trail = [("All layers", "index.html"), ("Two layers", None)]
            self._write("compare", "compare.html", title="Two layers, measured", trail=trail, up="index.html",
                        data=data, **shared)  # fmt: skip

    def _write(self, kind: str, file: str, **values: Any) -> None:
        keys = (*KEYS[kind], *KEYS_EVERYWHERE)
        page = self.templates.get_template(f"{kind}.html")
        text = page.render(kind=kind, keys=keys, version=jaxviz.__version__, **values)
        self.folder.write(file, text.encode("utf-8", "replace"))  # a name may hold what Unicode does not

    def _picture(self, view: LayerView, file: Path) -> str:
        """The address of a full-size picture, copied into the site or where it lies."""
        if self.copy:
            try:
                content = file.read_bytes()
            except OSError as error:
                raise StorageError(f"cannot read {file}: {error.strerror or error}; run the command again") from error
            self.folder.write(f"{view.folder}/{file.name}", content)
            return wording.address(file.name)
        try:
            path = os.path.relpath(file.resolve(), (self.folder.path / view.folder).resolve())
        except ValueError as error:  # two drives have no way between them
            raise OutputFolderError(f"`out` {self.folder.path} is on another drive than DIR; give `copy`") from error
        return wording.address(path)


def _model(name: str, layers: list[LayerView]) -> dict[str, Any]:
    """A network on the first page, with its first and last layer side by side where it has two."""
    total = {status: sum(view.counts[status] for view in layers) for status in STATUSES}
    distinct = {view.name for view in layers}
    pair = _pair(layers)
    unlike = differing_settings(*(view.pictures for view in pair)) if pair else {}
    return {
        "id": f"model-{wording.slug(name)}",
        "unlike": "; ".join(f"{key.replace('_', ' ')} {one} | {other}" for key, (one, other) in unlike.items()),
        "name": name,
        "layers": layers,
        "summary": f"{wording.count(len(distinct), 'layer')} · {wording.counts(total)}",
        "pair": pair,
        "rows": measured_rows(*(view.rows for view in pair)) if pair else [],
    }


def _pair(layers: list[LayerView]) -> list[LayerView]:
    """The layer nearest to the input and the deepest, of the label that has the most layers."""
    labels = [view.pictures.label for view in layers]
    common = max(dict.fromkeys(labels), key=labels.count)
    same = [view for view in layers if view.pictures.label == common]
    return [same[0], same[-1]] if len(same) > 1 else []


def _legend(view: LayerView) -> str:
    """What the small print under a tile says."""
    text = "Under each picture: its filter's number and the score of the final image"
    if any(tile.tile.rank is not None for tile in view.tiles):
        return (
            f"{text}; then the rank of that filter among the layer's on its picture, and the percentile of the "
            "score among those on natural images."
        )
    return f"{text}; then its place by score."

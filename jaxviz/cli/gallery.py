"""`jaxviz gallery DIR`: a static site over what has been rendered."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaxviz.cli.options import Json
from jaxviz.cli.progress import show, spoken_progress
from jaxviz.cli.terminal import reported_errors, show_left_out

if TYPE_CHECKING:
    from jaxviz.store.catalogue import LayerPictures


def gallery(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of pictures, as `jaxviz render --out DIR` leaves it.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the site goes. Default: DIR/gallery.")
    ] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the full-size pictures into it, so that it can be published alone.")
    ] = False,
    in_browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Make a static HTML site of a folder's pictures: every filter a tile, a page for each, layers side by side.

    It opens from disk, without a server. The same command makes it anew and touches no file that is not its own.
    """
    with reported_errors("interrupted: what is there of the gallery is whole files; the same command makes it anew"):
        from jaxviz.store.catalogue import read_catalogue
        from jaxviz.view.gallery.site import build_site

        started = time.perf_counter()
        with spoken_progress() as say:
            say(f"reading {folder}")
            catalogue = read_catalogue(folder)

            def on_layer(pictures: LayerPictures) -> None:
                say(f"{pictures.name}: {len(pictures.tiles)} pictures")

            built = build_site(catalogue, out, copy=copy, on_layer=on_layer)
        took_s = round(time.perf_counter() - started, 3)
        show_left_out(catalogue.skipped)
        if as_json:
            summary = {
                "index": str(built.index),
                "layers": built.layers,
                "pictures": built.pictures,
                "counts": built.counts,
                "pages": built.pages,
                "files_written": built.written,
                "left_out": list(catalogue.skipped),
                "took_s": took_s,
            }
            show(json.dumps(summary))
        else:
            counted = ", ".join(f"{number} {status}" for status, number in built.counts.items())
            layers = f"{built.layers} layer" + ("" if built.layers == 1 else "s")
            pictures = f"{built.pictures} picture" + ("" if built.pictures == 1 else "s")
            show(f"{layers}, {pictures} ({counted}): {built.pages} pages in {took_s:.1f} s")
            show(f"gallery: {built.index}")
        if in_browser:
            import webbrowser

            webbrowser.open(built.index.resolve().as_uri())

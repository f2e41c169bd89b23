"""`jaxviz export DIR`: a layer's pictures as one file for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from jaxviz.cli.options import Json
from jaxviz.cli.progress import show
from jaxviz.cli.terminal import reported_errors, show_left_out
from jaxviz.errors import ConfigError

SMALLEST_TILE_PX = 4
INTERRUPTED = "interrupted: files written so far are whole; go on with --layers GLOB or --overwrite"


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that jaxviz render --out wrote to.")],
    npz: Annotated[bool, typer.Option("--npz", help="pictures.npz: pixels, scores, recipe, for NumPy.")] = False,
    sprite: Annotated[
        bool, typer.Option("--sprite", help="sprite.webp: all pictures in one image, and sprite.json: which is where.")
    ] = False,
    layers: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Layers, with commas or repeated, such as 'block4*'. Default: all."),
    ] = None,
    tile: Annotated[
        int | None, typer.Option(metavar="PX", help="Longer side of a picture in the sprite. Default: as it is.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Root of the same folders as in DIR. Default: beside the pictures."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    as_json: Json = False,
) -> None:
    """Export finished pictures, one file or two for each layer."""
    with reported_errors(INTERRUPTED):
        if not npz and not sprite:
            raise ConfigError(
                "nothing to export: give --npz (arrays for NumPy), --sprite (one image for pages) or both. "
                f"Type for example: jaxviz export {folder} --npz"
            )
        if tile is not None and not sprite:
            raise ConfigError(f"--tile {tile} is the size of a picture in the sprite; add --sprite, or leave it out")
        if tile is not None and tile < SMALLEST_TILE_PX:
            raise ConfigError(f"--tile {tile} is below {SMALLEST_TILE_PX} px. Type for example: --tile 64")
        from jaxviz.store.catalogue import read_catalogue
        from jaxviz.view.export import export as export_layers
        from jaxviz.view.export import matching_layers

        catalogue = read_catalogue(folder)
        chosen = matching_layers(catalogue, layers)
        show_left_out(catalogue.skipped)
        files = []
        for done in export_layers(
            catalogue, chosen, npz=npz, sprite=sprite, tile_px=tile, out=out, overwrite=overwrite
        ):
            for file in done.files:
                files.append({"layer": done.layer.name, "file": str(file), "bytes": file.stat().st_size})
                if not as_json:
                    show(f"{file}  ({len(done.layer.tiles)} pictures, {_size(file)})")
        if as_json:
            show(json.dumps({"files": files}))


def _size(file: Path) -> str:
    size = file.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{max(1, round(size / 1e3))} kB"

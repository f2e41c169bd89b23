"""`jaxviz merge DIR`: grids and layer.json from what all shards wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from jaxviz.cli.options import Json
from jaxviz.cli.progress import show
from jaxviz.cli.terminal import reported_errors

SHOWN_GAPS = 10


def merge(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What --out named, or a folder in it.")],
    as_json: Json = False,
) -> None:
    """Make grids and layer.json anew from the pictures in DIR, after runs with --shard.

    The shard that finds a layer complete does the same; this is for those whose other shards never ran.
    """
    with reported_errors("interrupted: the same command starts again"):
        from jaxviz.store.merge import merge as merged_layers

        layers = []
        for one in merged_layers(folder):
            layers.append(
                {"model": one.model, "layer": one.layer, "label": one.label, "folder": str(one.folder)}
                | {"counts": one.counts, "gaps": list(one.gaps)}
            )
            if not as_json:
                counts = ", ".join(f"{count} {status}" for status, count in one.counts.items())
                show(f"{one.model} {one.layer}: {counts}{_gaps(one.gaps)}: {one.folder}")
        if as_json:
            show(json.dumps({"layers": layers}))


def _gaps(gaps: tuple[int, ...]) -> str:
    if not gaps:
        return ""
    more = f" and {len(gaps) - SHOWN_GAPS} more" if len(gaps) > SHOWN_GAPS else ""
    return f"; without filters {', '.join(map(str, gaps[:SHOWN_GAPS]))}{more}"

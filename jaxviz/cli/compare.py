"""`jaxviz compare DIR LAYER LAYER`: two layers side by side, measured."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from jaxviz.cli.options import Json
from jaxviz.cli.progress import show, spoken_progress
from jaxviz.cli.terminal import reported_errors, show_left_out

SILENT_S = 3.0
LAYER_HELP = "LAYER, LAYER/LABEL, MODEL/LAYER or MODEL/LAYER/LABEL, as they lie in DIR."


def compare(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that jaxviz render --out wrote to.")],
    first: Annotated[str, typer.Argument(metavar="LAYER", help=LAYER_HELP)],
    second: Annotated[str, typer.Argument(metavar="LAYER", help="The other one, likewise.")],
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Of both layers, where DIR has several models.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Of both layers, where they were rendered under several.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two layers: what the network says of them, and what is measured of their pictures.

    Measured values are medians over the pictures, with quartiles in brackets.
    """
    with reported_errors("interrupted: nothing was written"):
        from jaxviz.cli.compare_text import comparison_json, comparison_text
        from jaxviz.store.catalogue import read_catalogue
        from jaxviz.view.comparison import describe, find_layer

        catalogue = read_catalogue(folder)
        chosen = [find_layer(catalogue, text, model=model, label=name) for text in (first, second)]
        show_left_out(catalogue.skipped)
        with _progress(sum(len(layer.tiles) for layer in chosen)) as advance:
            descriptions = describe(chosen[0], progress=advance), describe(chosen[1], progress=advance)
        if as_json:
            show(json.dumps(comparison_json(*descriptions), allow_nan=False))
        else:
            show(comparison_text(*descriptions))


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Says how far measuring is, once it has taken so long that one may wonder."""
    started, done = time.perf_counter(), 0

    def advance() -> None:
        nonlocal done
        if time.perf_counter() - started > SILENT_S:
            say(f"measured {done} of {total} pictures")
        done += 1

    with spoken_progress() as say:
        yield advance

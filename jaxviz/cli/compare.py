"""`jaxviz compare DIR LAYER LAYER`: two layers side by side, measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from jaxviz.cli.options import Json
from jaxviz.cli.terminal import reported_errors, show_left_out

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
        from jaxviz.catalogue import read_catalogue
        from jaxviz.cli.compare_text import comparison_json, comparison_text
        from jaxviz.comparison import describe, find_layer

        catalogue = read_catalogue(folder)
        chosen = [find_layer(catalogue, text, model=model, label=name) for text in (first, second)]
        show_left_out(catalogue.skipped)
        descriptions = describe(chosen[0]), describe(chosen[1])
        if as_json:
            typer.echo(json.dumps(comparison_json(*descriptions), allow_nan=False))
        else:
            typer.echo(comparison_text(*descriptions))

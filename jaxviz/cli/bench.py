"""`jaxviz bench` and `jaxviz bench compare A.json B.json`: the accelerator benchmark from the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaxviz.cli.options import Json, Kernels
from jaxviz.cli.progress import say, show, spoken_progress
from jaxviz.cli.start import start_jax
from jaxviz.cli.terminal import fail, reported_errors, show_log
from jaxviz.errors import ConfigError
from jaxviz.spelling import parse_batch_size, parse_size

if TYPE_CHECKING:
    from jaxviz.bench.records import Report, Settings

NOTHING = "interrupted: nothing was measured to the end and nothing was written"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def bench(
    context: typer.Context,
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="A model, with random weights; see: jaxviz models")
    ] = "resnet50v2",
    layers: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Layers, with commas or repeated. Default: a shallow, a middle, a deep one."),
    ] = None,
    batch_size: Annotated[
        str | None,
        typer.Option(
            metavar="auto|N[,N...]",
            help="Images per device and call. Default: auto, 1, 2, 4, ... until throughput saturates.",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(metavar="float32|bfloat16", help="Operands of the network's products. Default: both."),
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="PX|HxW", help="Size of the optimised image. Default: 180.")
    ] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", help="Updates of the image. Default: 30.")] = None,
    repeats: Annotated[int | None, typer.Option(metavar="N", help="Timed calls of each row. Default: 5.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the starting noise.")] = 0,
    kernels: Kernels = "auto",
    quick: Annotated[
        bool, typer.Option("--quick", help="A look within a minute: smaller defaults, no match for a full run.")
    ] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Where to write the result.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE.json.")] = False,
    as_json: Json = False,
) -> None:
    """Benchmark this machine's accelerator with the ascent itself; no download.

    Random weights with a fixed seed, so the work is the same everywhere. See also: jaxviz bench compare A.json B.json
    """
    if context.invoked_subcommand is not None:
        with reported_errors():
            _refuse_options(context)
        return
    with reported_errors(NOTHING):
        from jaxviz.bench.files import check_out
        from jaxviz.bench.settings import checked_settings

        settings = checked_settings(
            model=model,
            layers=None if layers is None else _split(layers),
            batch_sizes=None if batch_size is None else _parse_batch_sizes(batch_size),
            dtypes=None if dtype is None else _split([dtype]),
            size=None if size is None else parse_size(size),
            steps=steps,
            repeats=repeats,
            seed=seed,
            quick=quick,
            kernels=kernels,
        )
        if out is not None:
            check_out(out, overwrite=overwrite)
        show_log(verbose=False)
        start_jax(keep_compiled=False)
        _measure(settings, out, as_json=as_json)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A.json", help="A result of jaxviz bench --out.")],
    b: Annotated[Path, typer.Argument(metavar="B.json", help="Another; ratios are B over A.")],
    as_json: Json = False,
) -> None:
    """Compare two results: what differs between the runs, how much faster B is, and whether that is noise."""
    with reported_errors():
        from jaxviz.bench.compare import compare_reports
        from jaxviz.bench.files import read_report
        from jaxviz.bench.records import to_json
        from jaxviz.cli.bench_text import comparison_text

        reports = read_report(a), read_report(b)
        comparison = compare_reports(*reports)
        names = str(a), str(b)
        show(to_json(comparison) if as_json else comparison_text(comparison, reports, names))


def _measure(settings: Settings, out: Path | None, *, as_json: bool) -> None:
    """Measure, print, write; what was done before Ctrl-C is kept."""
    from jaxviz.bench import machine
    from jaxviz.bench.measure import measure
    from jaxviz.machine import available_cores

    load, cores = machine.load_average(), available_cores()
    if machine.is_busy(load, cores):
        message = f"warning: others use this machine (load average {load} on {cores} cores): figures will be low"
        say(message)
    report: Report | None = None
    try:
        with spoken_progress() as speak:
            for report in measure(settings, say=speak):  # noqa: B007  # the last one counts
                pass
    except KeyboardInterrupt:
        if report is None:
            fail(NOTHING, 130)
        _show(report, out, as_json=as_json)
        done = f"{len({row.layer for row in report.rows})} of {len(settings.layers)} layers were measured"
        fail(f"interrupted: {done}" + (f"; {out} says so" if out is not None else "; --out would have kept them"), 130)
    assert report is not None
    _show(report, out, as_json=as_json)
    if not any(row.status == "ok" for row in report.rows):
        fail("error: no batch size (--batch-size) fits the memory; try a smaller --size", 1)


def _show(report: Report, out: Path | None, *, as_json: bool) -> None:
    """Print before writing: a disk that is full by now takes nothing away."""
    from jaxviz.bench.files import write_report
    from jaxviz.bench.records import to_json
    from jaxviz.cli.bench_text import report_text

    show(to_json(report) if as_json else report_text(report))
    if out is not None:
        write_report(out, report)
    if not as_json:
        show(f"\nfile: {out}" if out is not None else "\nTo keep this and compare it: --out FILE.json")


def _split(texts: list[str]) -> list[str]:
    return [part.strip() for text in texts for part in text.split(",")]


def _parse_batch_sizes(text: str) -> list[int | str] | str:
    return text if text == "auto" else [parse_batch_size(part) for part in _split([text])]


def _refuse_options(context: typer.Context) -> None:
    """`jaxviz bench --quick compare A B` would silently drop --quick."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given:
        option = given[0].removeprefix("as_").replace("_", "-")
        raise ConfigError(
            f"--{option} stands before {context.invoked_subcommand!r}, which measures nothing. "
            "Type: jaxviz bench compare A.json B.json, and --json after it"
        )

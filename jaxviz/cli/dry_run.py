"""`--dry-run`, of `jaxviz run` and `jaxviz atlas`: what a run would take, on stdout, and nothing rendered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from jaxviz.cli.progress import duration, show, spoken_progress
from jaxviz.cli.start import start_jax
from jaxviz.cli.terminal import show_log, table_lines
from jaxviz.errors import ConfigError
from jaxviz.records import to_json

if TYPE_CHECKING:
    from jaxviz.jobs.estimate import Estimate, LayerEstimate
    from jaxviz.jobs.task import LayerTask

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Render nothing; print filters, FLOP, memory, disk and time of every layer.")
]
NoMeasure = Annotated[
    bool, typer.Option("--no-measure", help="With --dry-run: at once and without weights, but no memory and no time.")
]
UNKNOWN = "?"


def check_dry_run(dry: bool, *, no_measure: bool, shard: str | None) -> None:
    """Raise ConfigError for options that do not go with a dry run, or only with one."""
    if no_measure and not dry:
        raise ConfigError("--no-measure is for --dry-run; add --dry-run, or leave --no-measure out")
    if shard is not None and dry:
        raise ConfigError(
            f"--shard {shard!r} does not go with --dry-run or --check, which are about the whole job; leave it out"
        )


def dry_run(
    tasks: Sequence[LayerTask],
    *,
    started: float,
    measure: bool,
    as_json: bool = False,
    verbose: bool = False,
    progress: str = "auto",
) -> None:
    """Print what rendering these tasks would take. Raises JaxvizError, as a run would.

    `started` is the command's beginning in `time.perf_counter()`: what it has imported since, a run imports too.
    """
    show_log(verbose=verbose, progress=progress)
    start_jax(keep_compiled=False)  # compilation is measured
    from jaxviz.errors import WeightsUnavailableError
    from jaxviz.jobs.estimate import estimate

    try:
        with spoken_progress() as speak:
            spoken = measure and progress in ("auto", "lines")
            say = speak if spoken else lambda _: None
            found = estimate(tasks, measure=measure, started=started, say=say, download_bar=spoken)
    except WeightsUnavailableError as error:
        raise WeightsUnavailableError(
            f"{error.text}. Without weights, `no_measure` tells all but memory and time"
        ) from error
    show(to_json(_values(found)) if as_json else estimate_text(found))


def _values(found: Estimate) -> dict[str, Any]:
    """The estimate for JSON: sizes in bytes, times in seconds, null where nothing was measured."""
    values = {"measured": found.time_s is not None} | msgspec.to_builtins(found)
    return {name: _rounded(value) for name, value in values.items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(below) for name, below in value.items()}
    if isinstance(value, tuple | list):
        return [_rounded(below) for below in value]
    return round(value, 3) if isinstance(value, float) else value


def estimate_text(found: Estimate) -> str:
    """The estimate as a table of layers and their totals."""
    names = len({layer.model for layer in found.layers}) > 1, len({layer.label for layer in found.layers}) > 1
    measured = found.time_s is not None
    heading = [*_names("model", "layer", "label", names), "filters", "to render", "N", "GFLOP", "disk"]
    rows = [heading + (["memory", "compile", "time"] if measured else [])]
    for layer in found.layers:
        rows.append([*_names(layer.model, layer.layer, layer.label, names), *_cells(layer, measured=measured)])
    lines = table_lines(rows, right_from=1 + sum(names))
    left = found.pictures - found.already_there
    lines.append(
        f"{len(found.layers)} layers, {found.filters:,} filters, {left:,} pictures to render"
        + (f", {found.already_there:,} already there" if found.already_there else "")
        + f", {found.flop / 1e12:,.1f} TFLOP"
    )
    if found.time_s is None or found.start_s is None or found.compile_s is None:
        lines.append(f"at most {_size(found.disk_bytes)} on disk; memory and time were not measured (--no-measure)")
    else:
        memory = UNKNOWN if found.memory_bytes is None else _size(found.memory_bytes)
        lines.append(
            f"about {duration(found.time_s)}, {duration(found.start_s)} of it start and "
            f"{duration(found.compile_s)} compilation; {memory} of memory at most; about {_size(found.disk_bytes)} on "
            "disk"
        )
        lines.append(f"measured on {found.device}, with a few steps of each layer")
    return "\n".join(lines)


def _names(model: str, layer: str, label: str, shown: tuple[bool, bool]) -> list[str]:
    return [*([model] if shown[0] else []), layer, *([label] if shown[1] else [])]


def _cells(layer: LayerEstimate, *, measured: bool) -> list[str]:
    left = layer.pictures - layer.already_there
    batch_size = "auto" if layer.batch_size is None else str(layer.batch_size)
    cells = [f"{layer.filters:,}", f"{left:,}", batch_size, f"{layer.flop / 1e9:,.0f}", _size(layer.disk_bytes)]
    if measured:
        memory = UNKNOWN if layer.memory_bytes is None else _size(layer.memory_bytes)
        cells += [memory, f"{layer.compile_s:.1f} s", duration(layer.time_s or 0.0)]
    return cells


def _size(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"

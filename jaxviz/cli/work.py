"""Runs tasks from the terminal: progress on stderr, a summary on stdout, exit codes. For render, atlas and run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from jaxviz.cli.progress import run_progress, show
from jaxviz.cli.render_text import summary_json, summary_text, total_text, totals
from jaxviz.cli.start import start_jax
from jaxviz.cli.terminal import fail, show_log
from jaxviz.jobs.events import Ended, LayerDone
from jaxviz.records import to_json
from jaxviz.render.shard import parse_shard

if TYPE_CHECKING:
    from jaxviz.jobs.atlas import RunInterruptedError
    from jaxviz.jobs.task import LayerTask

Progress = Annotated[
    str, typer.Option(metavar="auto|lines|jsonl|none", help="On stderr; jsonl is one JSON object a line, for scripts.")
]
ShardText = Annotated[
    str | None, typer.Option("--shard", metavar="I/N", help="Part I of N, for as many processes or machines at once.")
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Exit with 1 if a filter is dead or nan; refuse, with 2, to go on in a folder of another jaxlib.",
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Say on stderr what was chosen: batch size, options for XLA.")]

EXIT_STRICT = 1


def work(
    tasks: Sequence[LayerTask],
    *,
    shard: str | None = None,
    progress: str = "auto",
    strict: bool = False,
    verbose: bool = False,
    as_json: bool = False,
    one: bool = False,
) -> None:
    """Render what is missing of all tasks. `one`: the command is about one layer, and its summary is that layer's.

    Raises:
        JaxvizError: as `atlas.run_tasks`.
        typer.Exit: 1, with `strict`, if a filter is dead or nan; 130 after Ctrl-C.
    """
    part = parse_shard(shard)
    with run_progress(progress) as display:
        show_log(verbose=verbose, progress=progress)
        start_jax(keep_compiled=True)
        from jaxviz.jobs.atlas import RunInterruptedError, run_tasks

        try:
            done = run_tasks(tasks, display.report, shard=part, download_bar=progress == "auto", one_jaxlib=strict)
        except RunInterruptedError as stop:
            fail(_interrupted(stop, tasks), 130, progress=progress)
        display.report(Ended(EXIT_STRICT if strict and _has_failed(done) else 0))
    if one:
        show(to_json(summary_json(done[0])) if as_json else summary_text(done[0]))
    else:
        whole = totals(done)
        show(to_json(whole | {"layers": [*map(summary_json, done)]}) if as_json else total_text(done, whole))
    if strict and _has_failed(done):
        raise typer.Exit(EXIT_STRICT)


def _has_failed(summaries: Sequence[LayerDone]) -> bool:
    return any(summary.counts["dead"] + summary.counts["nan"] for summary in summaries)


def _interrupted(stop: RunInterruptedError, tasks: Sequence[LayerTask]) -> str:
    """What is there after Ctrl-C, and how to go on."""
    layers, overwrite = len(tasks), any(task.request.overwrite for task in tasks)
    before = f"{stop.layers} of {layers} layers are done" if layers > 1 or stop.folder is None else ""
    if stop.folder is None:
        found = before
    elif stop.folder.untouched:
        found = (
            f"{before}; nothing was replaced in {stop.folder.path}"
            if before
            else (f"nothing was replaced in {stop.folder.path}")
        )
    else:
        there = f"{stop.there} of {stop.wanted} pictures are whole in {stop.folder.path}"
        found = f"{before}; {there}" if before else there
    return f"interrupted: {found}. {_how_to_go_on(stop, layers, overwrite=overwrite)}"


def _how_to_go_on(stop: RunInterruptedError, layers: int, *, overwrite: bool) -> str:
    if not overwrite:
        return "The same command goes on from there"
    if stop.folder is not None and stop.folder.untouched and not stop.layers:
        return "The same command starts again"
    if stop.layers + 1 >= layers:
        return "The same command, without --overwrite, goes on from there"
    return (
        "The same command renders everything again; to keep what is done, run it without --overwrite, and with it for "
        "the layers that still hold another recipe"
    )

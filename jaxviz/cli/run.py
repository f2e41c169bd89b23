"""`jaxviz run JOB.toml`: several atlases in one file, checked before anything is rendered."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from jaxviz.cli.dry_run import DryRun, NoMeasure, check_dry_run, dry_run
from jaxviz.cli.options import Json
from jaxviz.cli.progress import show
from jaxviz.cli.terminal import reported_errors
from jaxviz.cli.work import Progress, ShardText, Strict, Verbose, work
from jaxviz.errors import ConfigError


def run(
    job: Annotated[
        Path, typer.Argument(metavar="JOB.toml", help="Which atlases to render; see docs/atlases-and-jobs.md.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override the file: out=DIR, defaults.steps=8, atlas.0.label=x, ..."
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only say whether the file is in order.")] = False,
    dry: DryRun = False,
    no_measure: NoMeasure = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Render again; replace other recipes.")] = False,
    shard: ShardText = None,
    progress: Progress = "auto",
    strict: Strict = False,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Render all that a job file asks for: several models, layers and presets in one run.

    Whatever is wrong with the file is found before anything is rendered. Paths in it are relative to the current
    folder. Pictures that are there already are kept, so an interrupted run goes on.
    """
    started = time.perf_counter()
    with reported_errors(progress=progress):
        if check and dry:
            raise ConfigError("--check and --dry-run do not go together; --dry-run checks the file too")
        check_dry_run(dry or check, no_measure=no_measure, shard=shard)
        from jaxviz.jobs.job_file import check_job, read_job

        read = read_job(job, overrides or (), overwrite=overwrite)
        tasks = check_job(read)
        if check:
            layers, atlases = len(tasks), len(read.atlases)
            text = f"{job} is in order: {_count(layers, 'layer', 'layers')} in {_count(atlases, 'atlas', 'atlases')}"
            values = {"file": str(job), "atlases": atlases, "layers": layers}
            show(json.dumps(values) if as_json else text)
        elif dry:
            dry_run(tasks, started=started, measure=not no_measure, as_json=as_json, verbose=verbose, progress=progress)
        else:
            work(tasks, shard=shard, progress=progress, as_json=as_json, strict=strict, verbose=verbose)


def _count(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}"

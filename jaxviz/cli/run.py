"""`jaxviz run JOB.toml`: several atlases in one file, checked before anything is rendered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from jaxviz.cli.dry_run import DryRun, NoMeasure, dry_run
from jaxviz.cli.options import Json
from jaxviz.cli.terminal import printable, reported_errors
from jaxviz.errors import ConfigError


def run(
    job: Annotated[Path, typer.Argument(metavar="JOB.toml", help="Which atlases to render; see the README.")],
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
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Part I of N, for as many processes or machines at once.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a filter is dead or nan.")] = False,
    progress: Annotated[
        str, typer.Option(metavar="auto|lines|jsonl|none", help="On stderr; jsonl is one JSON object a line.")
    ] = "auto",
    verbose: Annotated[bool, typer.Option("--verbose", help="Say on stderr what was chosen.")] = False,
    as_json: Json = False,
) -> None:
    """Render all that a job file asks for: several models, layers and presets in one run.

    Whatever is wrong with the file is found before anything is rendered. Paths in it are relative to the current
    folder. Pictures that are there already are kept, so an interrupted run goes on.
    """
    with reported_errors():
        if no_measure and not dry:
            raise ConfigError(
                "--no-measure is for --dry-run. Type for example: jaxviz run JOB.toml --dry-run --no-measure"
            )
        if shard is not None and (dry or check):
            raise ConfigError(f"--shard {shard!r}: --dry-run and --check are about the whole job; leave it out")
        from jaxviz.jobs import check_job, read_job

        read = read_job(job, overrides or (), overwrite=overwrite)
        tasks = check_job(read)
        if check:
            layers, atlases = len(tasks), len(read.atlases)
            text = f"{job} is in order: {layers} layers in {atlases} atlases"
            values = {"file": printable(str(job)), "atlases": atlases, "layers": layers}
            typer.echo(json.dumps(values) if as_json else printable(text))
        elif dry:
            dry_run(tasks, measure=not no_measure, as_json=as_json, verbose=verbose)
        else:
            from jaxviz.cli.work import work

            work(tasks, shard=shard, progress=progress, as_json=as_json, strict=strict, verbose=verbose)

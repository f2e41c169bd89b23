"""`jaxviz render MODEL LAYER`: the main job from the terminal, and `jaxviz atlas MODEL`: many layers."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from jaxviz.cli.dry_run import DryRun, NoMeasure, check_dry_run, dry_run
from jaxviz.cli.options import Json, ModelName, RenderOptions, takes_render_options
from jaxviz.cli.terminal import reported_errors
from jaxviz.cli.work import Progress, ShardText, Strict, Verbose, work
from jaxviz.jobs.task import LayerChoice, LayerTask, atlas_tasks, render_request
from jaxviz.spelling import parse_filter_rules, parse_filters

Layers = Annotated[
    list[str] | None,
    typer.Option("--layers", metavar="GLOB", help="Layers, such as 'conv2_*'; repeatable. Default: every convolution."),
]


@takes_render_options
def render(
    model: ModelName,
    layer: Annotated[str, typer.Argument(metavar="LAYER", help="A layer; see: jaxviz layers MODEL")],
    options: RenderOptions,
    filters: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="0-63 | all | 3,7,100-120 (inclusive). Default: 0-63, cut to the layer."),
    ] = None,
    progress: Progress = "auto",
    strict: Strict = False,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Render filters of one layer: the main job.

    Pictures of the same recipe that are in the folder already are kept, so an interrupted run goes on.
    """
    with reported_errors(progress=progress):
        chosen = None if filters is None else parse_filters(filters)
        task = LayerTask(render_request(model, options), layer, tuple(chosen) if isinstance(chosen, list) else chosen)
        work([task], progress=progress, strict=strict, verbose=verbose, as_json=as_json, one=True)


@takes_render_options
def atlas(
    model: ModelName,
    options: RenderOptions,
    layers: Layers = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Layers to leave out; repeatable.")] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[GLOB=]LIST", help="0-63 | all | 3,7,100-120, of all layers or those that fit GLOB. Default: all."
        ),
    ] = None,
    order: Annotated[str, typer.Option(metavar="cheapest|network|given", help="Which layer first.")] = "cheapest",
    dry: DryRun = False,
    no_measure: NoMeasure = False,
    shard: ShardText = None,
    progress: Progress = "auto",
    strict: Strict = False,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Render many layers: all filters of every convolution, or what --layers and --filters choose.

    A run that was stopped, however, goes on with the same command and ends with the same files.
    """
    started = time.perf_counter()
    with reported_errors(progress=progress):
        check_dry_run(dry, no_measure=no_measure, shard=shard)
        choice = LayerChoice(
            layers=tuple(layers or ()),
            exclude=tuple(exclude or ()),
            filters=parse_filter_rules(filters or []),
            order=order,
        )
        tasks = atlas_tasks(render_request(model, options), choice)
        if dry:
            dry_run(tasks, started=started, measure=not no_measure, as_json=as_json, verbose=verbose, progress=progress)
            return
        work(tasks, shard=shard, progress=progress, strict=strict, verbose=verbose, as_json=as_json)

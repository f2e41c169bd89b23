"""`jaxviz render MODEL LAYER`: the main job from the terminal."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jaxviz import models as registry
from jaxviz.cli.options import (
    Json,
    ModelName,
    Size,
    parse_batch_size,
    parse_filters,
    parse_size,
    parse_snapshots,
    parse_transforms,
    read_vectors,
)
from jaxviz.cli.progress import render_progress
from jaxviz.cli.render_text import judged_summary, summary_text
from jaxviz.cli.start import start_jax
from jaxviz.cli.terminal import fail, reported_errors, show_log
from jaxviz.config import PRESETS, RenderConfig
from jaxviz.errors import ConfigError, DeviceMemoryError

if TYPE_CHECKING:
    from jaxviz.algebra import Objective
    from jaxviz.models.model import Model
    from jaxviz.plan import Plan
    from jaxviz.recipe import Picture
    from jaxviz.storage import Judge, LayerFolder


def render(
    model: ModelName,
    layer: Annotated[str, typer.Argument(metavar="LAYER", help="A layer; see: jaxviz layers MODEL")],
    filters: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="0-63 | all | 3,7,100-120 (inclusive). Default: 0-63, cut to the layer."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Pictures go to DIR/MODEL/LAYER/LABEL.")] = Path("out"),
    name: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Name of the folder. Default: the preset's name.")
    ] = None,
    preset: Annotated[str, typer.Option(metavar="|".join(PRESETS), help="The recipe to start from.")] = "keras",
    objective: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="channel | neuron[:Y,X] | direction[:POWER] | class_logit | layer: what to maximise."
        ),
    ] = "channel",
    vectors: Annotated[
        Path | None, typer.Option(metavar="FILE.npy", help="For direction: (rows, channels); --filters picks rows.")
    ] = None,
    negative: Annotated[bool, typer.Option("--negative", help="What the filter dislikes.")] = False,
    replicas: Annotated[int, typer.Option(metavar="N", help="Pictures of each filter, from different noise.")] = 1,
    diversity: Annotated[
        float, typer.Option(metavar="WEIGHT", help="Of the replicas' difference, against the score; try 3.")
    ] = 0.0,
    steps: Annotated[int | None, typer.Option(metavar="N", help="Updates of the image (keras: 30).")] = None,
    step_size: Annotated[float | None, typer.Option(metavar="X", help="Length of one update (keras: 10).")] = None,
    size: Size = None,
    crop: Annotated[int | None, typer.Option(metavar="PX", help="Cut from each side at the end (keras: 25).")] = None,
    activation_border: Annotated[
        int | None, typer.Option(metavar="CELLS", help="Cells of the map left out on each side (keras: 0).")
    ] = None,
    parameterization: Annotated[
        str | None, typer.Option(metavar="pixel|fourier|maco", help="What is optimised (keras: pixel).")
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(metavar="normalized|adam|nadam", help="How the image moves (keras: normalized).")
    ] = None,
    transforms: Annotated[
        str | None,
        typer.Option(metavar="LIST|none", help="Before the network: pad:12,jitter:8,scale:0.9:1.1,rotate:10,..."),
    ] = None,
    tv: Annotated[float | None, typer.Option(metavar="WEIGHT", help="Penalty on total variation.")] = None,
    l1: Annotated[float | None, typer.Option(metavar="WEIGHT", help="Penalty on the mean of |x|.")] = None,
    l2: Annotated[float | None, typer.Option(metavar="WEIGHT", help="Penalty on the mean of x^2.")] = None,
    attempts: Annotated[
        int | None, typer.Option(metavar="N", help="Tries for a filter that stays dead or turns nan (keras: 1).")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Of noise and transforms (keras: 0).")] = None,
    batch_size: Annotated[
        str, typer.Option(metavar="auto|N", help="Images per device and call; part of the recipe.")
    ] = "auto",
    dtype: Annotated[
        str, typer.Option(metavar="float32|bfloat16", help="Operands of the network's products; sums stay float32.")
    ] = "float32",
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your weights: .safetensors, Keras .h5/.keras, or .pth.")
    ] = None,
    snapshots: Annotated[
        str | None, typer.Option(metavar="LIST", help="Also the pictures after these steps, such as 1,8,32,128.")
    ] = None,
    animate: Annotated[
        str | None, typer.Option(metavar="webp|gif", help="Also the grid growing out of noise, from the snapshots.")
    ] = None,
    judge: Annotated[
        bool | None,
        typer.Option(
            "--judge/--no-judge",
            help="Put each picture's score beside the filter's scores on natural images. Default: but for keras.",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The natural images. Default: the photographs that scikit-image ships."),
    ] = None,
    numbers: Annotated[bool, typer.Option("--numbers", help="Write filter numbers into the grid.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Render again; replace another recipe.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a filter is dead or nan.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Say on stderr what was chosen: batch size, options for XLA.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Render filters of one layer: the main job.

    Pictures of the same recipe that are in the folder already are kept, so an interrupted run goes on.
    """
    with reported_errors():
        given: dict[str, Any] = {"steps": steps, "step_size": step_size, "crop": crop, "seed": seed}
        given |= {"activation_border": activation_border, "image_size": parse_size(size) if size is not None else None}
        given |= {"parameterization": parameterization, "optimizer": optimizer, "attempts": attempts}
        given |= {"tv": tv, "l1": l1, "l2": l2, "dtype": dtype, "batch_size": parse_batch_size(batch_size)}
        given |= {"transforms": None if transforms is None else parse_transforms(transforms)}
        config = RenderConfig.from_preset(preset, **{key: value for key, value in given.items() if value is not None})
        chosen = parse_filters(filters) if filters is not None else None
        request = _Request(
            layer=layer,
            filters=chosen,
            config=config,
            out=out,
            label=config.preset if name is None else name,
            overwrite=overwrite,
            replicas=replicas,
            snapshots=_chosen_snapshots(snapshots, animate, config),
        )
        show_log(verbose=verbose)
        start_jax(keep_compiled=True)
        request.objective = _objective(objective, config, vectors, negative=negative, diversity=diversity)
        network = _load(model, weights, request)
        plan, folder = _plan(network, request)
        finish = _Finish(numbers, animate, _judge(plan, judge, images))
        while True:
            try:
                summary = _render(plan, folder, finish)
                break
            except DeviceMemoryError as error:
                from jaxviz.plan import smaller_batch

                plan = smaller_batch(plan, error)
                folder = request.folder(plan, overwrite=True)
        typer.echo(json.dumps(summary) if as_json else summary_text(summary))
        if strict and summary["counts"]["ok"] < len(plan.wanted):
            raise typer.Exit(1)


@dataclass
class _Request:
    """What was typed, read and checked as far as it can be without weights."""

    layer: str
    filters: list[int] | Literal["all"] | None
    config: RenderConfig
    out: Path
    label: str
    overwrite: bool
    replicas: int
    snapshots: list[int]
    objective: Objective | None = None

    def folder(self, plan: Plan, *, overwrite: bool) -> LayerFolder:
        """The output folder, opened."""
        from jaxviz.storage import LayerFolder

        return LayerFolder.open(self.out, plan.recipe, label=self.label, overwrite=overwrite, snapshots=plan.snapshots)


@dataclass(frozen=True)
class _Finish:
    """What is made of the pictures once they are there."""

    numbers: bool
    animate: str | None
    judge: Judge | None


def _chosen_snapshots(text: str | None, animate: str | None, config: RenderConfig) -> list[int]:
    """The steps of --snapshots; for an animation without them 0, 1, 2, 4, 8 and so on."""
    from jaxviz.animation import check_format

    if animate is not None:
        check_format(animate)
    if text is not None:
        return parse_snapshots(text)
    doubling = [2**power for power in range(config.steps.bit_length()) if 2**power < config.steps]
    return [0, *doubling] if animate is not None else []


def _objective(text: str, config: RenderConfig, vectors: Path | None, *, negative: bool, diversity: float) -> Objective:
    from jaxviz.objectives import Diversity, parse_objective

    rows = None if vectors is None else read_vectors(vectors)
    found = parse_objective(text, border=config.activation_border, vectors=rows)
    if negative:
        found = -found
    return found + diversity * Diversity() if diversity else found


def _load(model: str, weights: Path | None, request: _Request) -> Model:
    """The model. All that can be checked without weights is checked before any are read or fetched."""
    from jaxviz import storage, transforms
    from jaxviz.models.model import check_layer
    from jaxviz.request import check_replicas, check_request, checked_snapshots

    assert request.objective is not None
    config, layer = request.config, request.layer
    without_head, with_head = (registry.architecture(model, head=head).graph for head in (False, True))
    check_layer(model, layer, with_head.targets)
    _, *seen = transforms.output_size(transforms.from_specs(config.transforms), config.size)
    for size in {config.size, (seen[0], seen[1])}:
        row = with_head.by_name[layer]
        map_size = with_head.output_sizes(*size)[layer]
        flat = with_head.receptive_fields()[layer] is None  # behind the global pool there is no map
        activation = (row.channels,) if flat else (*map_size, row.channels)
        check_request(layer, activation, request.filters, config, request.objective)
    check_replicas(request.replicas)
    checked_snapshots(request.snapshots, config)
    storage.recorded_batch_size(storage.folder_path(request.out, model, layer, request.label))
    return registry.load_model(model, weights=weights, head=layer not in without_head.targets, progress=True)


def _plan(model: Model, request: _Request) -> tuple[Plan, LayerFolder]:
    """What to render and where; an automatic batch size is the one of the pictures that are there."""
    import dataclasses

    from jaxviz import storage
    from jaxviz.plan import plan_render

    config = request.config
    automatic = config.batch_size == "auto"
    if automatic and not request.overwrite:
        path = storage.folder_path(request.out, model.name, request.layer, request.label)
        config = dataclasses.replace(config, batch_size=storage.recorded_batch_size(path) or "auto")
    plan = plan_render(
        model,
        request.layer,
        request.filters,
        config,
        objective=request.objective,
        replicas=request.replicas,
        snapshots=request.snapshots,
    )
    plan = dataclasses.replace(plan, automatic_batch=automatic)
    return plan, request.folder(plan, overwrite=request.overwrite)


def _judge(plan: Plan, wanted: bool | None, images: Path | None) -> Judge | None:
    """The judge that was asked for; where none was and natural images are at hand, one for all but `keras`."""
    from jaxviz.judged import PlanJudge

    asked = wanted or (wanted is None and images is not None)
    if wanted is False or (not asked and plan.config.preset == "keras"):
        return None
    try:
        return PlanJudge(plan, images)
    except ConfigError as error:
        if asked:
            raise
        typer.echo(f"pictures are not put beside natural images: {error}", err=True)
        return None


def _render(plan: Plan, folder: LayerFolder, made: _Finish) -> dict[str, Any]:
    """Render what is missing, write it as it comes, and sum up. Ctrl-C leaves the folder whole."""
    from jaxviz.plan import device_name
    from jaxviz.render import iter_pictures

    missing = plan.without(folder.done)
    started = time.perf_counter()
    compile_s: float | None = None
    rendered: list[Picture] = []

    def compiled(seconds: float) -> None:
        nonlocal compile_s
        compile_s = round(seconds, 3)

    def finish(*, judge: Judge | None, animate: str | None) -> float:
        render_s = round(time.perf_counter() - started, 3)
        timings = {"rendered": len(rendered), "render_s": render_s, "compile_s": compile_s}
        folder.finish(device=device_name(), timings=timings, numbers=made.numbers, judge=judge, animate=animate)
        return render_s

    try:
        with render_progress(f"{plan.model.name} {plan.layer}", len(missing.wanted)) as advance:
            for picture in iter_pictures(missing, on_compiled=compiled):
                folder.write(picture)
                rendered.append(picture)
                advance()
        render_s = finish(judge=made.judge, animate=made.animate)
    except KeyboardInterrupt:
        there = sum(key in folder.done for key in plan.wanted)
        with suppress(KeyboardInterrupt):
            finish(judge=None, animate=None)
        if folder.untouched:
            fail(f"interrupted: nothing was replaced in {folder.path}. The same command starts again", 130)
        fail(
            f"interrupted: {there} of {len(plan.wanted)} pictures are whole in {folder.path}. The same command, "
            "without --overwrite, goes on from there",
            130,
        )
    statuses = [folder.done[key].status for key in plan.wanted]
    entries = {(entry["filter_index"], entry["replica"]): entry for entry in folder.entries}
    judged = [entries[key] for key in plan.wanted if entries[key]["judged_score"] is not None]
    return {
        "model": plan.model.name,
        "layer": plan.layer,
        "folder": str(folder.path),
        "grid": str(folder.path / "grid.png"),
        "animation": str(folder.path / f"grid.{made.animate}") if made.animate else None,
        "filters": list(plan.filters),
        "replicas": plan.replicas,
        "counts": {status: statuses.count(status) for status in ("ok", "dead", "nan")},
        "judged": judged_summary(judged) if judged else None,
        "rendered": len(rendered),
        "already_there": len(plan.wanted) - len(rendered),
        "batch_size": plan.recipe.batch_size,
        "render_s": render_s,
        "compile_s": compile_s,
        "device": device_name(),
    }

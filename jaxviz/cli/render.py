"""`jaxviz render MODEL LAYER`: the main job from the terminal."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jaxviz import models as registry
from jaxviz.cli.options import NUMBER, Json, ModelName, Size, parse_batch_size, parse_size
from jaxviz.cli.progress import render_progress
from jaxviz.cli.start import start_jax
from jaxviz.cli.terminal import fail, printable, reported_errors, show_log
from jaxviz.config import RenderConfig
from jaxviz.errors import DeviceMemoryError, FilterError

if TYPE_CHECKING:
    from jaxviz.models.model import Model
    from jaxviz.recipe import Picture
    from jaxviz.render import Plan
    from jaxviz.storage import LayerFolder


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
    preset: Annotated[str, typer.Option(metavar="keras", help="The recipe to start from.")] = "keras",
    steps: Annotated[int | None, typer.Option(metavar="N", help="Updates of the image (keras: 30).")] = None,
    step_size: Annotated[float | None, typer.Option(metavar="X", help="Length of one update (keras: 10).")] = None,
    size: Size = None,
    crop: Annotated[int | None, typer.Option(metavar="PX", help="Cut from each side at the end (keras: 25).")] = None,
    activation_border: Annotated[
        int | None, typer.Option(metavar="CELLS", help="Cells of the map left out on each side (keras: 0).")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Of the starting noise (keras: 0).")] = None,
    batch_size: Annotated[
        str, typer.Option(metavar="auto|N", help="Images per device and call; part of the recipe.")
    ] = "auto",
    dtype: Annotated[
        str, typer.Option(metavar="float32|bfloat16", help="Operands of the network's products; sums stay float32.")
    ] = "float32",
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your weights: .safetensors, Keras .h5/.keras, or .pth.")
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
        from jaxviz import storage
        from jaxviz.render import smaller_batch

        given: dict[str, Any] = {"steps": steps, "step_size": step_size, "crop": crop, "seed": seed}
        given |= {"activation_border": activation_border, "image_size": parse_size(size) if size is not None else None}
        given |= {"dtype": dtype, "batch_size": parse_batch_size(batch_size)}
        config = RenderConfig.from_preset(preset, **{key: value for key, value in given.items() if value is not None})
        chosen = parse_filters(filters) if filters is not None else None
        label = config.preset if name is None else name
        show_log(verbose=verbose)
        start_jax(keep_compiled=True)
        network = _load(model, layer, chosen, config, weights, storage.folder_path(out, model, layer, label))
        plan, folder = _plan(network, layer, chosen, config, out, label, overwrite)
        while True:
            try:
                summary = _render(plan, folder, numbers=numbers)
                break
            except DeviceMemoryError as error:
                plan = smaller_batch(plan, error)
                folder = storage.LayerFolder.open(out, plan.recipe, label=label, overwrite=True)
        typer.echo(json.dumps(summary) if as_json else _summary_text(summary))
        if strict and summary["counts"]["ok"] < len(plan.filters):
            raise typer.Exit(1)


def parse_filters(text: str) -> list[int] | Literal["all"]:
    """The value of --filters: "all", or numbers and inclusive ranges, sorted and without duplicates.

    Raises:
        FilterError: anything else.
    """
    if text.strip() == "all":
        return "all"
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not NUMBER.fullmatch(first) or (dash and not NUMBER.fullmatch(last)):
            raise FilterError(
                f"--filters {text!r}: {part.strip()!r} is neither a number nor a range. "
                "Type for example: --filters 0-63, --filters 3,7,100-120 or --filters all"
            )
        low, high = int(first), int(last or first)
        if low > high:
            raise FilterError(
                f"--filters {text!r}: {part.strip()!r} is no range; the smaller number comes first, such as 0-63"
            )
        numbers.update(range(low, high + 1))
    return sorted(numbers)


def _load(
    model: str,
    layer: str,
    filters: list[int] | Literal["all"] | None,
    config: RenderConfig,
    weights: Path | None,
    folder: Path,
) -> Model:
    """The model. All that can be checked without weights is checked before any are read or fetched."""
    from jaxviz import storage
    from jaxviz.models.model import check_layer
    from jaxviz.request import check_request

    without_head, with_head = (registry.architecture(model, head=head).graph for head in (False, True))
    check_layer(model, layer, with_head.targets)
    row = with_head.by_name[layer]
    map_size = with_head.output_sizes(*config.size)[layer]
    flat = with_head.receptive_fields()[layer] is None  # behind the global pool there is no map
    check_request(layer, (row.channels,) if flat else (*map_size, row.channels), filters, config)
    storage.recorded_batch_size(folder)
    return registry.load_model(model, weights=weights, head=layer not in without_head.targets, progress=True)


def _plan(
    model: Model,
    layer: str,
    filters: list[int] | Literal["all"] | None,
    config: RenderConfig,
    out: Path,
    label: str,
    overwrite: bool,
) -> tuple[Plan, LayerFolder]:
    """What to render and where; an automatic batch size is the one of the pictures that are there."""
    import dataclasses

    from jaxviz import storage
    from jaxviz.render import plan_render

    automatic = config.batch_size == "auto"
    if automatic and not overwrite:
        recorded = storage.recorded_batch_size(storage.folder_path(out, model.name, layer, label))
        config = dataclasses.replace(config, batch_size=recorded or "auto")
    plan = dataclasses.replace(plan_render(model, layer, filters, config), automatic_batch=automatic)
    return plan, storage.LayerFolder.open(out, plan.recipe, label=label, overwrite=overwrite)


def _render(plan: Plan, folder: LayerFolder, *, numbers: bool) -> dict[str, Any]:
    """Render what is missing, write it as it comes, and sum up. Ctrl-C leaves the folder whole."""
    import dataclasses

    from jaxviz.render import device_name, iter_pictures

    missing = tuple(index for index in plan.filters if index not in folder.done)
    started = time.perf_counter()
    compile_s: float | None = None
    rendered: list[Picture] = []

    def compiled(seconds: float) -> None:
        nonlocal compile_s
        compile_s = round(seconds, 3)

    def finish() -> None:
        render_s = round(time.perf_counter() - started, 3)
        timings = {"rendered": len(rendered), "render_s": render_s, "compile_s": compile_s}
        folder.finish(device=device_name(), timings=timings, numbers=numbers)

    try:
        with render_progress(f"{plan.model.name} {plan.layer}", len(missing)) as advance:
            for picture in iter_pictures(dataclasses.replace(plan, filters=missing), on_compiled=compiled):
                folder.write(picture)
                rendered.append(picture)
                advance()
        finish()
    except KeyboardInterrupt:
        there = sum(index in folder.done for index in plan.filters)
        with suppress(KeyboardInterrupt):
            finish()
        if folder.untouched:
            fail(f"interrupted: nothing was replaced in {folder.path}. The same command starts again", 130)
        fail(
            f"interrupted: {there} of {len(plan.filters)} pictures are whole in {folder.path}. The same command, "
            "without --overwrite, goes on from there",
            130,
        )
    statuses = [folder.done[index].status for index in plan.filters]
    return {
        "model": plan.model.name,
        "layer": plan.layer,
        "folder": str(folder.path),
        "grid": str(folder.path / "grid.png"),
        "filters": list(plan.filters),
        "counts": {status: statuses.count(status) for status in ("ok", "dead", "nan")},
        "rendered": len(rendered),
        "already_there": len(plan.filters) - len(rendered),
        "batch_size": plan.recipe.batch_size,
        "render_s": round(time.perf_counter() - started, 3),
        "compile_s": compile_s,
        "device": device_name(),
    }


def _summary_text(summary: dict[str, Any]) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in summary["counts"].items())
    lines = [f"{summary['model']} {summary['layer']}: {len(summary['filters'])} filters ({counts})"]
    if summary["rendered"]:
        speed = summary["rendered"] / summary["render_s"]
        lines.append(
            f"rendered {summary['rendered']} in {summary['render_s']:.1f} s, {summary['compile_s']:.1f} s of it "
            f"compilation ({speed:.2f} images/s), {summary['batch_size']} images per device and call on "
            f"{summary['device']}"
        )
    if summary["already_there"]:
        lines.append(f"{summary['already_there']} were already there")
    lines.append(f"pictures: {summary['folder']}")
    lines.append(f"grid:     {summary['grid']}")
    return printable("\n".join(lines))

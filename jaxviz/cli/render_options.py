"""The options that say how pictures are made, once for every command that renders.

`RenderOptions` has one field for each; `@takes_render_options` gives them to a command, which gets the object.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from jaxviz.cli.options import Size
from jaxviz.config import PRESETS, RenderConfig
from jaxviz.spelling import default_snapshots, parse_batch_size, parse_size, parse_snapshots, parse_transforms
from jaxviz.task import ObjectiveRequest, RenderRequest


@dataclass(frozen=True)
class RenderOptions:
    """What was typed."""

    out: Annotated[Path, typer.Option(metavar="DIR", help="Pictures go to DIR/MODEL/LAYER/LABEL.")] = Path("out")
    name: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Name of the folder. Default: the preset's name.")
    ] = None
    preset: Annotated[str, typer.Option(metavar="|".join(PRESETS), help="The recipe to start from.")] = "keras"
    objective: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="channel | neuron[:Y,X] | direction[:POWER] | class_logit | layer: what to maximise."
        ),
    ] = "channel"
    vectors: Annotated[
        Path | None, typer.Option(metavar="FILE.npy", help="For direction: (rows, channels); --filters picks rows.")
    ] = None
    negative: Annotated[bool, typer.Option("--negative", help="What the filter dislikes.")] = False
    replicas: Annotated[int, typer.Option(metavar="N", help="Pictures of each filter, from different noise.")] = 1
    diversity: Annotated[
        float, typer.Option(metavar="WEIGHT", help="Of the replicas' difference, against the score; try 3.")
    ] = 0.0
    steps: Annotated[int | None, typer.Option(metavar="N", help="Updates of the image (keras: 30).")] = None
    step_size: Annotated[float | None, typer.Option(metavar="X", help="Length of one update (keras: 10).")] = None
    size: Size = None
    crop: Annotated[int | None, typer.Option(metavar="PX", help="Cut from each side at the end (keras: 25).")] = None
    activation_border: Annotated[
        int | None, typer.Option(metavar="CELLS", help="Cells of the map left out on each side (keras: 0).")
    ] = None
    parameterization: Annotated[
        str | None, typer.Option(metavar="pixel|fourier|maco", help="What is optimised (keras: pixel).")
    ] = None
    optimizer: Annotated[
        str | None, typer.Option(metavar="normalized|adam|nadam", help="How the image moves (keras: normalized).")
    ] = None
    transforms: Annotated[
        str | None,
        typer.Option(metavar="LIST|none", help="Before the network: pad:12,jitter:8,scale:0.9:1.1,rotate:10,..."),
    ] = None
    tv: Annotated[float | None, typer.Option(metavar="WEIGHT", help="Penalty on total variation.")] = None
    l1: Annotated[float | None, typer.Option(metavar="WEIGHT", help="Penalty on the mean of |x|.")] = None
    l2: Annotated[float | None, typer.Option(metavar="WEIGHT", help="Penalty on the mean of x^2.")] = None
    attempts: Annotated[
        int | None, typer.Option(metavar="N", help="Tries for a filter that stays dead or turns nan (keras: 1).")
    ] = None
    seed: Annotated[int | None, typer.Option(metavar="N", help="Of noise and transforms (keras: 0).")] = None
    batch_size: Annotated[
        str, typer.Option(metavar="auto|N", help="Images per device and call; part of the recipe.")
    ] = "auto"
    dtype: Annotated[
        str, typer.Option(metavar="float32|bfloat16", help="Operands of the network's products; sums stay float32.")
    ] = "float32"
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your weights: .safetensors, Keras .h5/.keras, or .pth.")
    ] = None
    snapshots: Annotated[
        str | None, typer.Option(metavar="LIST", help="Also the pictures after these steps, such as 1,8,32,128.")
    ] = None
    animate: Annotated[
        str | None, typer.Option(metavar="webp|gif", help="Also the grid growing out of noise, from the snapshots.")
    ] = None
    judge: Annotated[
        bool | None,
        typer.Option(
            "--judge/--no-judge",
            help="Put each picture's score beside the filter's scores on natural images. Default: but for keras.",
        ),
    ] = None
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The natural images. Default: the photographs that scikit-image ships."),
    ] = None
    numbers: Annotated[bool, typer.Option("--numbers", help="Write filter numbers into the grid.")] = False
    file_format: Annotated[
        str, typer.Option("--format", metavar="png|webp", help="Of the picture files; both are lossless.")
    ] = "png"
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Render again; replace another recipe.")] = False

    def request(self, model: str) -> RenderRequest:
        """The same as values. Raises ConfigError."""
        given: dict[str, Any] = {
            "image_size": parse_size(self.size) if self.size is not None else None,
            "batch_size": parse_batch_size(self.batch_size),
            "transforms": None if self.transforms is None else parse_transforms(self.transforms),
        }
        names = {field.name for field in dataclasses.fields(RenderConfig)} - given.keys() - {"preset"}
        given |= {name: value for name, value in dataclasses.asdict(self).items() if name in names}
        config = RenderConfig.from_preset(
            self.preset, **{name: value for name, value in given.items() if value is not None}
        )
        return RenderRequest(
            model=model,
            config=config,
            out=self.out,
            label=self.name,
            weights=self.weights,
            objective=ObjectiveRequest(self.objective, self.vectors, self.negative, self.diversity),
            replicas=self.replicas,
            snapshots=self._snapshots(config),
            animate=self.animate,
            judge=self.judge,
            images=self.images,
            numbers=self.numbers,
            file_format=self.file_format,
            overwrite=self.overwrite,
        )

    def _snapshots(self, config: RenderConfig) -> tuple[int, ...]:
        """The steps of --snapshots; for an animation without them 0, 1, 2, 4, 8 and so on."""
        if self.snapshots is not None:
            return tuple(parse_snapshots(self.snapshots))
        return () if self.animate is None else tuple(default_snapshots(config.steps))


def takes_render_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's parameter `options: RenderOptions` by the options themselves, before those of its own."""
    hints = get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(command).parameters.items()
        if name != "options"
    ]
    shared = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hint)
        for field, hint in zip(
            dataclasses.fields(RenderOptions), get_type_hints(RenderOptions, include_extras=True).values(), strict=True
        )
    ]

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        options = RenderOptions(**{parameter.name: given.pop(parameter.name) for parameter in shared})
        command(options=options, **given)

    first = [parameter for parameter in own if parameter.default is inspect.Parameter.empty]
    rest = [parameter for parameter in own if parameter.default is not inspect.Parameter.empty]
    with_options.__signature__ = inspect.Signature([*first, *rest, *shared])  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *shared]}
    return with_options

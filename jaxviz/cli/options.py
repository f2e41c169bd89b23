"""Options that several commands share: they mean the same everywhere. How values are written: spelling.py.

Those of a render are declared in jaxviz/render/options.py; `@takes_render_options` gives them to a command.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer
from typer.models import OptionInfo

from jaxviz.render import options
from jaxviz.render.options import Option

ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="See: jaxviz models; or keras:NAME, FILE.keras, FILE.py:FUNCTION")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
RenderOptions = dict[str, Any]  # name in options.OPTIONS -> what was typed


def typer_option(option: Option) -> OptionInfo:
    """A declared option as typer has it."""
    found: OptionInfo = typer.Option(option.declaration, metavar=option.values or None, help=f"{option.help}.")
    return found


CustomObjects = Annotated[str | None, typer_option(options.BY_NAME["custom_objects"])]
Kernels = Annotated[str, typer_option(options.BY_NAME["kernels"])]
Size = Annotated[str | None, typer_option(options.BY_NAME["image_size"])]


def takes_render_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's parameter `options: RenderOptions` by the options themselves, after those of its own."""
    hints = get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(command).parameters.items()
        if name != "options"
    ]
    own.sort(key=lambda parameter: parameter.default is not inspect.Parameter.empty)  # MODEL and LAYER first
    declared = [_parameter(option) for option in options.OPTIONS if option.on_command_line]

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        typed = {parameter.name: given.pop(parameter.name) for parameter in declared}
        command(options=typed, **given)

    with_options.__signature__ = inspect.Signature([*own, *declared])  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *declared]}
    return with_options


def _parameter(option: Option) -> inspect.Parameter:
    kind = str if option.parse is not None else option.type
    annotation: Any = Annotated[kind if option.default is not None else kind | None, typer_option(option)]
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=annotation)

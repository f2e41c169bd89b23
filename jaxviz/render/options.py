"""The options of a render, each declared once; the command line, job files, messages and the table in docs follow.

An option that is a number or a name of the recipe is declared as a field of `RenderConfig` (config.py), with its range;
all others here. `OPTIONS` holds both, in the order of `--help`. No jax here.

    read_options       what was typed, on the command line or in a job file -> values
    for_command_line   an error in the words of the command line
    for_job_file       the same in those of a job file
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from jaxviz.config import PRESETS, RenderConfig
from jaxviz.errors import JaxvizError
from jaxviz.spelling import parse_path, parse_snapshots

OF_THE_COMMAND = ("overwrite", "strict", "verbose", "json", "shard", "progress")  # of `jaxviz run`, not of its file


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option.

    Attributes:
        name: what Python calls it: its field in `RenderConfig`, `RenderRequest` or `ObjectiveRequest`.
        type: of its value.
        help: what it is, without a full stop.
        metavar: its value on the command line, such as N; `choices` make their own.
        choices: all that it may be.
        default: on the command line; None: the preset's, or none.
        option: its name on the command line; default: the field's.
        key: its name in job files; default: that on the command line.
        on_command_line: it is the same option of every command that renders.
        in_job_file: it is a key of [defaults] and [[atlas]].
        parse: reads it from text.
        toml: the types it may have in a job file; default: `type`, and text for a path.
        written: how it is written in a job file, where that is not obvious.
    """

    name: str
    type: Any
    help: str
    metavar: str = ""
    choices: tuple[str, ...] = ()
    default: Any = None
    option: str = ""
    key: str = ""
    on_command_line: bool = True
    in_job_file: bool = True
    parse: Callable[[str], Any] | None = None
    toml: Any = None
    written: str = ""

    @property
    def flag(self) -> str:
        """Such as --step-size."""
        return "--" + (self.option or self.name).replace("_", "-")

    @property
    def declaration(self) -> str:
        """The flag, with its opposite where there is one: --judge/--no-judge."""
        return f"{self.flag}/--no-{self.flag[2:]}" if self.type is bool and self.default is None else self.flag

    @property
    def key_name(self) -> str:
        """Such as step_size."""
        return self.key or self.option or self.name

    @property
    def toml_type(self) -> Any:
        """What it may be in a job file."""
        return self.toml or (str if self.type is Path else self.type)

    @property
    def values(self) -> str:
        """What stands behind it on the command line: its metavar."""
        return self.metavar or "|".join(self.choices)

    def read(self, typed: Any) -> Any:
        """The value of what was typed. Raises RequestError."""
        if not isinstance(typed, str):
            return typed
        if self.type is Path:
            return parse_path(typed, self.name)
        return typed if self.parse is None else self.parse(typed)


def _settings() -> dict[str, Option]:
    """The options that `RenderConfig` declares."""
    types = get_type_hints(RenderConfig)
    return {
        field.name: Option(
            name=field.name,
            type=types[field.name],
            **field.metadata["words"] | {"help": f"{field.metadata['help']} (keras: {_shown(field.default)})"},
        )
        for field in fields(RenderConfig)
        if field.name != "preset"
    }


def _shown(value: Any) -> str:
    """A number of a preset as one would type it."""
    if isinstance(value, tuple):
        return str(value[0]) if value else "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


SETTINGS = _settings()
OPTIONS = (
    Option(
        name="out", type=Path, help="Pictures go to DIR/MODEL/LAYER/LABEL", metavar="DIR", default=Path("out"),
        in_job_file=False,  # it is that of the whole file
    ),
    Option(
        name="label", type=str, help="Name of the folder. Default: the preset's name", metavar="LABEL",
        option="name", key="label",
    ),
    Option(
        name="filters", type=int | str | list[int], help="Which filters. Default: all", metavar="LIST",
        on_command_line=False,  # `render` takes one, `atlas` several with globs: each has an option of its own
        written='`"all"`, `"0-63"`, `"3,7,100-120"` or `[0, 3, 7]`',
    ),
    Option(name="preset", type=str, help="The recipe to start from", choices=tuple(PRESETS), default="keras"),
    Option(
        name="objective", type=str, metavar="NAME", default="channel",
        help="channel | neuron[:Y,X] | direction[:POWER] | class_logit | layer: what to maximise",
    ),
    Option(
        name="vectors", type=Path, metavar="FILE.npy", help="For direction: (rows, channels); --filters picks rows"
    ),
    Option(name="negative", type=bool, help="What the filter dislikes", default=False),
    Option(name="replicas", type=int, help="Pictures of each filter, from different noise", metavar="N", default=1),
    Option(
        name="diversity", type=float, help="Of the replicas' difference, against the score; try 3", metavar="WEIGHT",
        default=0.0,
    ),
    *SETTINGS.values(),
    Option(
        name="weights", type=Path, help="Your weights: .safetensors, Keras .h5/.keras, or .pth", metavar="FILE"
    ),
    Option(
        name="custom_objects", type=str, help="Module or file of the classes that a FILE.keras needs; runs its code",
        metavar="MODULE",
    ),
    Option(
        name="snapshots", type=list[int], help="Also the pictures after these steps, such as 1,8,32,128",
        metavar="LIST", parse=parse_snapshots, toml=int | str | list[int], written='`[1, 8, 32]` or `"1,8,32"`',
    ),
    Option(
        name="animate", type=str, help="Also the grid growing out of noise, from the snapshots",
        choices=("webp", "gif"),
    ),
    Option(
        name="judge", type=bool,
        help="Put each picture's score beside the filter's scores on natural images. Default: but for keras",
    ),
    Option(
        name="images", type=Path, help="The natural images. Default: the photographs that scikit-image ships",
        metavar="DIR",
    ),
    Option(name="numbers", type=bool, help="Write filter numbers into the grid", default=False),
    Option(
        name="file_format", type=str, help="Of the picture files; both are lossless", choices=("png", "webp"),
        default="png", option="format",
    ),
    Option(
        name="overwrite", type=bool, help="Render again; replace another recipe", default=False, in_job_file=False
    ),
)  # fmt: skip
BY_NAME = {option.name: option for option in OPTIONS}


def read_options(typed: Mapping[str, Any]) -> dict[str, Any]:
    """The values of options, by name, of what was typed for them; None: nothing was. Raises RequestError."""
    return {name: BY_NAME[name].read(value) for name, value in typed.items() if value is not None}


def for_command_line(error: JaxvizError) -> str:
    """The message in the words of the command line: `crop (--crop) 3`, and further on `--crop`."""

    def flag(argument: str) -> str:
        return BY_NAME[argument].flag if argument in BY_NAME else "--" + argument.replace("_", "-")

    return error.said(flag, lambda argument: f"{argument} ({flag(argument)})")


def for_job_file(error: JaxvizError) -> str:
    """The message with the keys of a job file: `size 64` for `image_size 64`."""

    def key(argument: str) -> str:
        if argument in OF_THE_COMMAND:
            return "--" + argument
        return BY_NAME[argument].key_name if argument in BY_NAME else argument

    return error.said(key)

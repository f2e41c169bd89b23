"""An option is declared once: the command line, job files, `--set`, docs/options.md and messages have it from there."""

from __future__ import annotations

import dataclasses
import doctest
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from helpers_cli import environment, run, run_python

from jaxviz import errors
from jaxviz.cli import app
from jaxviz.config import RenderConfig
from jaxviz.errors import ConfigError
from jaxviz.jobs.job_file import read_job
from jaxviz.jobs.schema import Atlas, Options
from jaxviz.jobs.task import ObjectiveRequest, RenderRequest, render_request
from jaxviz.pictures.animation import FORMATS as ANIMATIONS
from jaxviz.render.options import BY_NAME, OPTIONS, SETTINGS, Option, for_command_line, for_job_file
from jaxviz.store.contents import FORMATS

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "options_table.py"
JOB = '[[atlas]]\nmodel = "efficientnet_lite0"\nlayers = ["stem_conv"]\n'
ON_COMMAND_LINE = [option for option in OPTIONS if option.on_command_line]
IN_JOB_FILES = [option for option in OPTIONS if option.in_job_file]
TYPED = {  # of options that are no numbers or one of their choices: what is typed, and the value
    "out": ("here", Path("here")),
    "label": ("mine", "mine"),
    "objective": ("layer", "layer"),
    "vectors": ("v.npy", Path("v.npy")),
    "image_size": ("64x96", (64, 96)),
    "transforms": ("pad:12,jitter:8", (("pad", 12), ("jitter", 8))),
    "batch_size": ("4", 4),
    "weights": ("w.h5", Path("w.h5")),
    "custom_objects": ("mine.py", "mine.py"),
    "snapshots": ("1,2", (1, 2)),
    "images": ("photos", Path("photos")),
}
NAMES = pytest.mark.parametrize("option", ON_COMMAND_LINE, ids=lambda option: option.name)


def typed(option: Option) -> tuple[str, Any]:
    """Something to type for an option that is not its default, and its value."""
    if option.type is bool:
        return "true", True
    if option.choices:
        return option.choices[-1], option.choices[-1]
    return TYPED.get(option.name) or {int: ("3", 3), float: ("0.5", 0.5)}[option.type]


def value_in(request: RenderRequest, name: str) -> Any:
    """What a request has of an option."""
    if name in SETTINGS or name == "preset":
        return getattr(request.config, name)
    if name == "objective":
        return request.objective.name
    return getattr(request if hasattr(request, name) else request.objective, name)


def test_every_number_of_a_config_is_an_option() -> None:
    assert set(SETTINGS) == {field.name for field in dataclasses.fields(RenderConfig)} - {"preset"}
    assert all(BY_NAME[name] is option for name, option in SETTINGS.items())


def test_every_option_is_a_field_of_what_a_command_asks_for() -> None:
    fields = {
        field.name for kind in (RenderConfig, RenderRequest, ObjectiveRequest) for field in dataclasses.fields(kind)
    }
    assert set(BY_NAME) - {"filters"} == fields - {"model", "config", "name", "given"}


@pytest.mark.parametrize("command", ["render", "atlas"])
def test_options_stand_in_the_order_of_the_declaration(command: str) -> None:
    options = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    flags = [one.opts[0] for one in options if one.name in {option.name for option in ON_COMMAND_LINE}]
    assert flags == [option.flag for option in ON_COMMAND_LINE]


@NAMES
def test_option_reaches_the_request_from_the_command_line(option: Option) -> None:
    text, value = typed(option)
    words = [option.flag] if option.type is bool else [option.flag, text]
    command = typer.main.get_command(app).commands["render"]  # type: ignore[attr-defined]
    asked = command.make_context("render", ["efficientnet_lite0", "stem_conv", *words]).params
    request = render_request("efficientnet_lite0", {each.name: asked[each.name] for each in ON_COMMAND_LINE})
    assert value_in(request, option.name) == value
    others = set(BY_NAME) - {"filters", option.name, "step_size" if option.name == "preset" else ""}
    if option.name != "preset":
        untouched = render_request("efficientnet_lite0", {})
        assert {name for name in others if value_in(request, name) != value_in(untouched, name)} <= {"snapshots"}


@pytest.mark.parametrize("option", IN_JOB_FILES, ids=lambda option: option.name)
def test_option_reaches_the_request_with_set(tmp_path: Path, option: Option) -> None:
    if option.name == "filters":
        return  # of the choice of layers, not of the request
    text, value = typed(option)
    (tmp_path / "job.toml").write_text(JOB)
    in_defaults = read_job(tmp_path / "job.toml", [f"defaults.{option.key_name}={text}"])
    in_atlas = read_job(tmp_path / "job.toml", [f"atlas.0.{option.key_name}={text}"])
    assert value_in(in_defaults.atlases[0].request, option.name) == value
    assert in_atlas.atlases[0].request == in_defaults.atlases[0].request


def test_keys_of_a_job_file_are_the_options() -> None:
    assert Options.__struct_fields__ == tuple(option.key_name for option in IN_JOB_FILES)
    assert set(Options.__struct_fields__) < set(Atlas.__struct_fields__)


def test_defaults_are_those_of_a_request() -> None:
    command = {option.name: option.default for option in ON_COMMAND_LINE}
    assert render_request("tiny", command) == render_request("tiny", {}) == RenderRequest("tiny", RenderConfig.keras())


def test_choices_are_those_that_there_are() -> None:
    assert BY_NAME["animate"].choices == tuple(ANIMATIONS)
    assert BY_NAME["file_format"].choices == tuple(FORMATS)


def test_table_of_options_is_the_declared_one() -> None:
    done = subprocess.run([sys.executable, TABLE, "--check"], env=environment(), check=False)
    assert done.returncode == 0, "run: python docs/options_table.py"


@NAMES
def test_table_of_options_has(option: Option) -> None:
    assert f"| `{option.declaration}" in (ROOT / "docs" / "options.md").read_text()


# One more option is one more declaration

DUMMY = """
import dataclasses, sys
from pathlib import Path
import jaxviz.config as config

fields = [("glow", float, config.setting(0.25, config.weight, "How much it glows", metavar="X"))]
config.RenderConfig = dataclasses.make_dataclass(
    "RenderConfig", fields, bases=(config.RenderConfig,), frozen=True, kw_only=True
)
config.RecordedConfig = config._recorded(config.RenderConfig)
"""


def with_glow(tmp_path: Path, code: str) -> str:
    """What a piece of Python prints where `RenderConfig` has one more setting, `glow`."""
    return run_python(DUMMY + code, cwd=tmp_path)


def test_new_setting_is_an_option_of_every_command_that_renders(tmp_path: Path) -> None:
    code = "from jaxviz.cli import main\nsys.argv = ['jaxviz', {command!r}, '--help']\nmain()"
    for command in ("render", "atlas"):
        assert "--glow X" in with_glow(tmp_path, code.format(command=command))
        assert "How much it glows (keras: 0.25)." in with_glow(tmp_path, code.format(command=command))


def test_new_setting_is_a_key_of_job_files_and_of_set(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(JOB + "glow = 2\n")
    code = (
        "from jaxviz.jobs.job_file import read_job\n"
        "print(read_job('job.toml', {overrides}).atlases[0].request.config.glow)"
    )
    assert with_glow(tmp_path, code.format(overrides=[])) == "2.0\n"
    assert with_glow(tmp_path, code.format(overrides=["atlas.0.glow=3"])) == "3.0\n"


def test_new_setting_is_in_the_table_of_the_readme(tmp_path: Path) -> None:
    code = f"sys.path.insert(0, {str(TABLE.parent)!r})\nimport options_table\nprint(options_table.table())"
    assert "|  | `glow` | `--glow X` | How much it glows (keras: 0.25). |" in with_glow(tmp_path, code)


def test_new_setting_is_checked_and_part_of_the_recipe(tmp_path: Path) -> None:
    code = "print(config.RenderConfig.keras(glow=2).numbers().glow)\ntry: config.RenderConfig.keras(glow=-1)\n"
    printed = with_glow(tmp_path, code + "except ValueError: pass\nexcept Exception as error: print(error)")
    assert printed == "2.0\nglow -1 is not a finite number from 0 to 1e+30\n"


# Each reader's words


def test_example_of_an_error_is_what_it_says() -> None:
    assert doctest.testmod(errors).failed == 0


def test_error_calls_an_argument_what_its_reader_does() -> None:
    with pytest.raises(ConfigError) as caught:
        RenderConfig.keras(batch_size=0)
    said = "0 is not a whole number from 1 to 65536 or 'auto'"
    assert str(caught.value) == f"batch_size {said}"
    assert for_command_line(caught.value) == f"batch_size (--batch-size) {said}"
    assert for_job_file(caught.value) == f"batch_size {said}"
    assert (caught.value.argument, caught.value.value) == ("batch_size", 0)


def test_what_to_type_next_is_in_the_readers_words() -> None:
    with pytest.raises(ConfigError) as caught:
        RenderConfig.keras(image_size=40)
    assert str(caught.value).endswith("give image_size 51 or more, or crop 19 or less")
    assert for_command_line(caught.value).endswith("give --size 51 or more, or --crop 19 or less")
    assert for_job_file(caught.value).endswith("give size 51 or more, or crop 19 or less")


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--rescue-steps", "-1", "rescue_steps (--rescue-steps) -1 is not a whole number"),
        ("--contrast", "0", "contrast (--contrast) 0.0 is not a finite number above 0"),
        ("--initial-range", "nan", "initial_range (--initial-range) nan is not a finite number above 0"),
    ],
)
def test_option_that_was_a_key_only_is_refused_by_its_name(flag: str, value: str, said: str) -> None:
    ran = run("render", "efficientnet_lite0", "stem_conv", flag, value)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"error: {said}")

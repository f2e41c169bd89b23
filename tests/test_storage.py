"""Files on disk: layout, provenance, the recipe check, and that a failed write leaves what was there."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_cli import LITE, QUICK, TINY, contents, install_tiny_model, left_overs, run, run_process, run_python
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

import jaxviz
from jaxviz import Model, RenderConfig, images
from jaxviz.errors import OutputFolderError, StorageError
from jaxviz.files import check_writable, write_atomically
from jaxviz.provenance import Saved, read_saved
from jaxviz.recipe import Picture, Recipe
from jaxviz.storage import LayerFolder, folder_path, recorded_batch_size

WEIGHTS_SHA256 = "ab" * 32
RECIPE = Recipe("toy", WEIGHTS_SHA256, "conv_a", "channel", RenderConfig.keras(steps=4).numbers(), batch_size=2)
OTHER_RECIPE = dataclasses.replace(RECIPE, config=RenderConfig.keras(steps=5).numbers())
# What `open` says of the difference; it is OTHER_RECIPE that is asked for.
STEPS_DIFFER = "steps is 4 there, 5 here"


def picture(index: int, *, recipe: Recipe = RECIPE, status: Any = "ok", score: float | None = None) -> Picture:
    """A picture whose pixels, score and status follow from its filter."""
    pixels = np.full((20, 20, 3), 10 + index % 200, np.uint8)
    if score is None:
        score = float("nan") if status == "nan" else index + 0.5
    return Picture(index, pixels, score, np.zeros(4, np.float32), status, recipe)


def fill(out: Path, *pictures: Picture, overwrite: bool = False, label: str = "keras") -> LayerFolder:
    """Open, write, finish: a whole run of the command line."""
    recipe = pictures[0].recipe
    folder = LayerFolder.open(out, recipe, label=label, overwrite=overwrite)
    for one in pictures:
        folder.write(one)
    folder.finish(device="a device", timings={"render_s": 1.5})
    return folder


def layer_json(folder: LayerFolder) -> dict[str, Any]:
    """layer.json, read strictly."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"layer.json holds {constant}, which is not JSON")

    return json.loads((folder.path / "layer.json").read_text(), parse_constant=refuse)


def provenance(file: Path) -> dict[str, Any]:
    with Image.open(file) as image:
        return json.loads(image.text["jaxviz"])


def rewrite_chunk(file: Path, text: str | None) -> None:
    """The same picture with another provenance chunk, or with none."""
    with Image.open(file) as image:
        pixels = np.asarray(image)
    info = PngImagePlugin.PngInfo()
    if text is not None:
        info.add_text("jaxviz", text)
    Image.fromarray(pixels).save(file, pnginfo=info)


def edited_provenance(file: Path, **changes: Any) -> str:
    return json.dumps(provenance(file) | changes)


# Layout and provenance


def test_files_lie_under_model_layer_and_label(tmp_path: Path) -> None:
    fill(tmp_path, picture(0), picture(12))
    folder = tmp_path / "toy" / "conv_a" / "keras"
    assert sorted(contents(tmp_path)) == sorted(
        str((folder / name).relative_to(tmp_path)) for name in ("0000.png", "0012.png", "grid.png", "layer.json")
    )


def test_filter_number_beyond_four_digits_is_read_back(tmp_path: Path) -> None:
    fill(tmp_path, picture(12345))
    assert list(LayerFolder.open(tmp_path, RECIPE, label="keras").done) == [(12345, 0)]


def test_png_holds_the_pictures_pixels(tmp_path: Path) -> None:
    folder = fill(tmp_path, picture(3))
    with Image.open(folder.path / "0003.png") as image:
        np.testing.assert_array_equal(np.asarray(image), picture(3).picture)


def test_png_chunk_says_what_the_picture_is(tmp_path: Path) -> None:
    folder = fill(tmp_path, picture(3))
    assert provenance(folder.path / "0003.png") == {
        "schema": 1,
        "recipe": RECIPE.to_json(),
        "filter_index": 3,
        "replica": 0,
        "score": 3.5,
        "status": "ok",
        "attempt": 0,
        "version": jaxviz.__version__,
    }


def test_png_chunk_says_null_for_a_nan_score(tmp_path: Path) -> None:
    folder = fill(tmp_path, picture(3, status="nan"))
    assert provenance(folder.path / "0003.png")["score"] is None


@pytest.mark.parametrize("status", ["ok", "dead", "nan"])
def test_saved_picture_is_read_back_with_its_status(tmp_path: Path, status: str) -> None:
    folder = fill(tmp_path, picture(3, status=status))
    saved = read_saved(folder.path / "0003.png")
    assert isinstance(saved, Saved)
    assert (saved.filter_index, saved.status, saved.recipe) == (3, status, RECIPE)


@pytest.mark.parametrize("score", [float("inf"), float("-inf"), float("nan")])
def test_layer_json_is_strict_json_for_every_score(tmp_path: Path, score: float) -> None:
    folder = fill(tmp_path, picture(0, status="nan", score=score))
    assert layer_json(folder)["filters"] == [
        {
            "filter_index": 0,
            "replica": 0,
            "score": None,
            "status": "nan",
            "attempt": 0,
            "judged_score": None,
            "percentile": None,
            "rank": None,
        }
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", 1),
        ("model", "toy"),
        ("layer", "conv_a"),
        ("label", "keras"),
        ("weights_sha256", WEIGHTS_SHA256),
        ("recipe", RECIPE.to_json()),
        ("device", "a device"),
        ("timings", {"render_s": 1.5}),
    ],
)
def test_layer_json_records(tmp_path: Path, key: str, value: object) -> None:
    assert layer_json(fill(tmp_path, picture(0)))[key] == value


def test_layer_json_records_versions(tmp_path: Path) -> None:
    versions = layer_json(fill(tmp_path, picture(0)))["versions"]
    assert versions["jaxviz"] == jaxviz.__version__
    assert {"jax", "jaxlib", "flax", "numpy"} <= versions.keys()


def test_layer_json_counts_statuses(tmp_path: Path) -> None:
    folder = fill(tmp_path, picture(0), picture(1, status="dead"), picture(2, status="nan"), picture(3))
    assert layer_json(folder)["counts"] == {"ok": 2, "dead": 1, "nan": 1}


# A second call


def test_layer_json_describes_the_whole_folder_after_a_second_call(tmp_path: Path) -> None:
    fill(tmp_path, picture(5), picture(2))
    folder = fill(tmp_path, picture(3, status="dead"))
    assert [entry["filter_index"] for entry in layer_json(folder)["filters"]] == [2, 3, 5]


def test_layer_json_keeps_the_first_calls_scores(tmp_path: Path) -> None:
    fill(tmp_path, picture(2))
    folder = fill(tmp_path, picture(3))
    assert [entry["score"] for entry in layer_json(folder)["filters"]] == [2.5, 3.5]


def test_grid_shows_the_whole_folder_after_a_second_call(tmp_path: Path) -> None:
    fill(tmp_path, picture(5), picture(2))
    folder = fill(tmp_path, picture(3))
    expected = images.grid([picture(index).picture for index in (2, 3, 5)])
    with Image.open(folder.path / "grid.png") as grid:
        np.testing.assert_array_equal(np.asarray(grid), expected)


def test_finished_pictures_of_the_same_recipe_are_found(tmp_path: Path) -> None:
    fill(tmp_path, picture(1), picture(4))
    assert list(LayerFolder.open(tmp_path, RECIPE, label="keras").done) == [(1, 0), (4, 0)]


def test_opening_changes_no_file(tmp_path: Path) -> None:
    fill(tmp_path, picture(1))
    before = contents(tmp_path)
    LayerFolder.open(tmp_path, RECIPE, label="keras")
    assert contents(tmp_path) == before


def test_recorded_batch_size_is_the_pictures(tmp_path: Path) -> None:
    folder = fill(tmp_path, picture(1))
    assert recorded_batch_size(folder.path) == 2


def test_recorded_batch_size_of_no_folder_is_none(tmp_path: Path) -> None:
    assert recorded_batch_size(tmp_path / "missing") is None


def test_result_save_keeps_pictures_that_are_there(toy_model: Model, small: RenderConfig, tmp_path: Path) -> None:
    result = jaxviz.render_layer(toy_model, "conv_a", [0, 1], small)
    folder = result.save(tmp_path)
    before = (folder / "0000.png").stat()
    result.save(tmp_path)
    after = (folder / "0000.png").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_result_save_returns_the_folder(toy_model: Model, small: RenderConfig, tmp_path: Path) -> None:
    result = jaxviz.render_layer(toy_model, "conv_a", [0, 1], small)
    assert result.save(tmp_path, name="mine") == tmp_path / "toy" / "conv_a" / "mine"


def test_result_save_of_another_recipe_is_refused(toy_model: Model, small: RenderConfig, tmp_path: Path) -> None:
    jaxviz.render_layer(toy_model, "conv_a", [0], small).save(tmp_path)
    other = jaxviz.render_layer(toy_model, "conv_a", [0], dataclasses.replace(small, seed=7))
    with pytest.raises(OutputFolderError, match="seed is 0 there, 7 here"):
        other.save(tmp_path)


# Another recipe


@pytest.mark.parametrize("hint", [STEPS_DIFFER, "--name", "--overwrite", "0001.png"])
def test_another_recipe_is_refused_with(tmp_path: Path, hint: str) -> None:
    fill(tmp_path, picture(1))
    with pytest.raises(OutputFolderError) as caught:
        LayerFolder.open(tmp_path, OTHER_RECIPE, label="keras")
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"weights_sha256": "cd" * 32}, "weights_sha256"),
        ({"batch_size": 4}, "batch_size is 2 there, 4 here"),
        ({"objective": "other"}, "objective is 'channel' there, 'other' here"),
        ({"initial_images_sha256": "ef" * 32}, "initial_images_sha256 is None there"),
    ],
)
def test_every_part_of_the_recipe_counts(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    fill(tmp_path, picture(1))
    with pytest.raises(OutputFolderError, match=named):
        LayerFolder.open(tmp_path, dataclasses.replace(RECIPE, **change), label="keras")


def test_refusing_another_recipe_changes_nothing(tmp_path: Path) -> None:
    fill(tmp_path, picture(1))
    before = contents(tmp_path)
    with pytest.raises(OutputFolderError):
        LayerFolder.open(tmp_path, OTHER_RECIPE, label="keras")
    assert contents(tmp_path) == before


def test_another_recipe_under_another_label_is_welcome(tmp_path: Path) -> None:
    fill(tmp_path, picture(1))
    folder = fill(tmp_path, picture(1, recipe=OTHER_RECIPE), label="five-steps")
    assert folder.path == tmp_path / "toy" / "conv_a" / "five-steps"


def test_overwrite_leaves_no_mixture(tmp_path: Path) -> None:
    fill(tmp_path, picture(1), picture(2), picture(9))
    folder = fill(tmp_path, picture(1, recipe=OTHER_RECIPE), overwrite=True)
    assert sorted(contents(folder.path)) == ["0001.png", "grid.png", "layer.json"]


def test_overwrite_makes_layer_json_the_new_recipes(tmp_path: Path) -> None:
    fill(tmp_path, picture(1), picture(2))
    folder = fill(tmp_path, picture(1, recipe=OTHER_RECIPE), overwrite=True)
    record = layer_json(folder)
    assert record["recipe"]["config"]["steps"] == 5
    assert [entry["filter_index"] for entry in record["filters"]] == [1]


def test_overwrite_keeps_the_old_pictures_until_there_is_a_new_one(tmp_path: Path) -> None:
    fill(tmp_path, picture(1))
    before = contents(tmp_path)
    LayerFolder.open(tmp_path, OTHER_RECIPE, label="keras", overwrite=True)
    assert contents(tmp_path) == before


def test_overwrite_without_a_new_picture_leaves_the_folder_describing_itself(tmp_path: Path) -> None:
    """As after Ctrl-C during the compilation."""
    fill(tmp_path, picture(1))
    before = contents(tmp_path)
    LayerFolder.open(tmp_path, OTHER_RECIPE, label="keras", overwrite=True).finish(device="a device")
    assert contents(tmp_path) == before


def test_overwrite_of_the_same_recipe_renders_again(tmp_path: Path) -> None:
    fill(tmp_path, picture(1))
    assert LayerFolder.open(tmp_path, RECIPE, label="keras", overwrite=True).done == {}


# Pictures that are not what they seem


def test_png_without_provenance_is_foreign(tmp_path: Path) -> None:
    folder = fill(tmp_path, picture(1))
    rewrite_chunk(folder.path / "0001.png", None)
    with pytest.raises(OutputFolderError, match=r"0001\.png: it was not made by jaxviz"):
        LayerFolder.open(tmp_path, RECIPE, label="keras")


def test_renamed_png_is_foreign(tmp_path: Path) -> None:
    folder = fill(tmp_path, picture(1))
    (folder.path / "0001.png").rename(folder.path / "0002.png")
    with pytest.raises(OutputFolderError, match=r"0002\.png: it is 0001\.png"):
        LayerFolder.open(tmp_path, RECIPE, label="keras")


def test_provenance_of_another_format_is_foreign(tmp_path: Path) -> None:
    folder = fill(tmp_path, picture(1))
    file = folder.path / "0001.png"
    rewrite_chunk(file, edited_provenance(file, schema=99))
    with pytest.raises(OutputFolderError, match="format 99, this jaxviz reads 1"):
        LayerFolder.open(tmp_path, RECIPE, label="keras")


def test_picture_of_a_later_recipe_with_one_more_field_is_foreign(tmp_path: Path) -> None:
    folder = fill(tmp_path, picture(1))
    file = folder.path / "0001.png"
    rewrite_chunk(file, edited_provenance(file, recipe=RECIPE.to_json() | {"colour_space": "lab"}))
    with pytest.raises(OutputFolderError, match=r"0001\.png"):
        LayerFolder.open(tmp_path, RECIPE, label="keras")


GOOD = {
    "schema": 1,
    "filter_index": 1,
    "score": 1.5,
    "status": "ok",
    "recipe": RECIPE.to_json(),
    "version": "0.1.0",
}


GARBAGE = [
    "",
    "not json",
    "null",
    "7",
    "[]",
    '"jaxviz"',
    "{}",
    json.dumps(GOOD)[:-5],
    json.dumps(GOOD | {"recipe": None}),
    json.dumps(GOOD | {"recipe": []}),
    json.dumps(GOOD | {"recipe": RECIPE.to_json() | {"config": 5}}),
    json.dumps(GOOD | {"recipe": RECIPE.to_json() | {"config": None}}),
    json.dumps(GOOD | {"recipe": RECIPE.to_json() | {"config": [1]}}),
    json.dumps(GOOD | {"recipe": RECIPE.to_json() | {"batch_size": "many"}}),
    json.dumps(GOOD | {"filter_index": "one"}),
    json.dumps(GOOD | {"filter_index": float("inf")}),
    json.dumps(GOOD | {"score": "high"}),
    json.dumps(GOOD | {"score": 10**400}),
    "[" * 100_000,
]
# Opens a folder whose only picture has the chunk number I, for every I, as a user's process would: without the
# tests' run-time type checks, whose exceptions would pass for some of the refusals looked for here.
OPEN_GARBAGE = """
import json, sys
from pathlib import Path
from jaxviz.errors import OutputFolderError
from jaxviz.recipe import Recipe
from jaxviz.storage import LayerFolder, folder_path, recorded_batch_size
recipe = Recipe.from_json(json.loads(Path("recipe.json").read_text()))
answers = []
for out in sorted(Path("outs").iterdir()):
    try:
        LayerFolder.open(out, recipe, label="keras")
        opened = "opened"
    except Exception as error:
        opened = f"{type(error).__name__}: {error}"
    try:
        batch_size = repr(recorded_batch_size(folder_path(out, recipe.model, recipe.layer, "keras")))
    except Exception as error:
        batch_size = f"{type(error).__name__}: {error}"
    answers.append((opened, batch_size))
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def garbage_answers(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """(what opening says, recorded batch size) for every text of GARBAGE."""
    folder = tmp_path_factory.mktemp("garbage")
    (folder / "recipe.json").write_text(json.dumps(RECIPE.to_json()))
    for number, text in enumerate(GARBAGE):
        filled = fill(folder / "outs" / f"{number:04d}", picture(1))
        rewrite_chunk(filled.path / "0001.png", text)
    return json.loads(run_python(OPEN_GARBAGE, cwd=folder))


@pytest.mark.parametrize("number", range(len(GARBAGE)))
def test_garbage_in_the_chunk_is_foreign(garbage_answers: list[tuple[str, str]], number: int) -> None:
    opened, _ = garbage_answers[number]
    assert opened.startswith("OutputFolderError: "), GARBAGE[number][:300]
    assert "0001.png: " in opened


@pytest.mark.parametrize("number", range(len(GARBAGE)))
def test_garbage_in_the_chunk_has_no_batch_size(garbage_answers: list[tuple[str, str]], number: int) -> None:
    assert garbage_answers[number][1] == "None", GARBAGE[number][:300]


def test_overwrite_replaces_garbage(tmp_path: Path) -> None:
    folder = fill(tmp_path, picture(1))
    rewrite_chunk(folder.path / "0001.png", "not json")
    fill(tmp_path, picture(2), overwrite=True)
    assert sorted(contents(folder.path)) == ["0002.png", "grid.png", "layer.json"]


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.95])
def test_truncated_png_is_done_again(tmp_path: Path, kept: float) -> None:
    folder = fill(tmp_path, picture(1), picture(2))
    file = folder.path / "0001.png"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * kept)])
    assert list(LayerFolder.open(tmp_path, RECIPE, label="keras").done) == [(2, 0)]


def test_png_truncated_anywhere_never_counts_as_done(tmp_path: Path) -> None:
    folder = fill(tmp_path, picture(1))
    file = folder.path / "0001.png"
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert read_saved(file) == "damaged", f"{length} of {len(whole)} bytes"


@settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
@example(position=16, value=127)  # the width: two milliard pixels
def test_png_with_a_wrong_byte_is_read_without_an_exception(tmp_path: Path, position: int, value: int) -> None:
    file = tmp_path / "toy" / "conv_a" / "keras" / "0001.png"
    if not file.exists():
        fill(tmp_path, picture(1))
    whole = bytearray(file.read_bytes())
    damaged = bytearray(whole)
    damaged[position % len(whole)] = value
    other = tmp_path / "damaged.png"
    other.write_bytes(damaged)
    assert isinstance(read_saved(other), Saved | str)


def huge_png(width: int, height: int) -> bytes:
    """A valid PNG header of a picture that no memory should be spent on."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_png_that_claims_to_be_enormous_is_no_exception(tmp_path: Path) -> None:
    file = tmp_path / "0000.png"
    file.write_bytes(huge_png(60_000, 60_000))
    assert isinstance(read_saved(file), str)


def test_file_of_other_kind_is_not_replaced_unasked(tmp_path: Path) -> None:
    path = folder_path(tmp_path, "toy", "conv_a", "keras")
    path.mkdir(parents=True)
    (path / "0001.png").write_text("my notes, which only look like a picture")
    with pytest.raises(OutputFolderError, match=r"0001\.png"):
        LayerFolder.open(tmp_path, RECIPE, label="keras")


def test_folder_named_as_a_picture_is_refused(tmp_path: Path) -> None:
    (folder_path(tmp_path, "toy", "conv_a", "keras") / "0001.png").mkdir(parents=True)
    with pytest.raises(OutputFolderError, match=r"0001\.png"):
        LayerFolder.open(tmp_path, RECIPE, label="keras")


def test_overwrite_never_removes_a_folder_named_as_a_picture(tmp_path: Path) -> None:
    path = folder_path(tmp_path, "toy", "conv_a", "keras")
    (path / "0001.png").mkdir(parents=True)
    (path / "0001.png" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputFolderError, match=r"0001\.png, a folder"):
        LayerFolder.open(tmp_path, RECIPE, label="keras", overwrite=True)
    assert (path / "0001.png" / "thesis.txt").read_text() == "mine"


def test_enormous_png_is_not_replaced_unasked(tmp_path: Path) -> None:
    path = folder_path(tmp_path, "toy", "conv_a", "keras")
    path.mkdir(parents=True)
    (path / "0001.png").write_bytes(huge_png(60_000, 60_000))
    with pytest.raises(OutputFolderError, match=r"0001\.png"):
        LayerFolder.open(tmp_path, RECIPE, label="keras")


def test_png_with_something_behind_its_end_is_not_replaced_unasked(tmp_path: Path) -> None:
    folder = fill(tmp_path, picture(1))
    file = folder.path / "0001.png"
    rewrite_chunk(file, None)
    file.write_bytes(file.read_bytes() + b"appended by another program")
    with pytest.raises(OutputFolderError, match=r"0001\.png"):
        LayerFolder.open(tmp_path, RECIPE, label="keras")


def test_files_of_other_names_are_left_alone(tmp_path: Path) -> None:
    folder = fill(tmp_path, picture(1))
    (folder.path / "notes.txt").write_text("mine")
    (folder.path / "me.png").write_bytes(b"mine too")
    fill(tmp_path, picture(1, recipe=OTHER_RECIPE), overwrite=True)
    assert {"notes.txt", "me.png"} <= contents(folder.path).keys()


# Names


@pytest.mark.parametrize(
    "layer",
    ["a/b", "..", ".", "../../x", "/etc/passwd", "a\\b", "", "a\0b", "a\nb", "ü", "%2E%2E", "..%2F", "block1/out:0"],
)
@pytest.mark.parametrize("part", ["model", "layer"])
def test_any_name_stays_inside_out(tmp_path: Path, part: str, layer: str) -> None:
    out = tmp_path / "out"
    recipe = dataclasses.replace(RECIPE, **{part: layer})
    folder = fill(out, picture(1, recipe=recipe))
    assert out.resolve() in folder.path.resolve().parents
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_different_layers_never_share_a_folder(tmp_path: Path) -> None:
    names = ["a/b", "a%2Fb", "a_b", "a", "b", "..", "%2E%2E", ".", "a b", "a+b", "a.b", ""]
    assert len({folder_path(tmp_path, "toy", name, "keras") for name in names}) == len(names)


def test_layer_with_a_slash_is_one_folder(tmp_path: Path) -> None:
    assert folder_path(tmp_path, "toy", "block1/out", "keras").parent.parent == tmp_path / "toy"


def test_layer_with_a_slash_is_written_by_its_own_name(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, layer="block1/out")
    assert layer_json(fill(tmp_path, picture(1, recipe=recipe)))["layer"] == "block1/out"


@pytest.mark.parametrize("label", ["", "a/b", "..", ".", "../x", "/x", ".hidden", "-x", "a\n", "a b", "ä", "x" * 101])
def test_bad_label_is_refused(tmp_path: Path, label: str) -> None:
    with pytest.raises(OutputFolderError, match="--name"):
        LayerFolder.open(tmp_path / "out", RECIPE, label=label)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("label", ["a", "keras", "2", "five-steps", "v1.2_x", "x" * 100])
def test_good_label_is_a_folder(tmp_path: Path, label: str) -> None:
    assert fill(tmp_path, picture(1), label=label).path.name == label


def test_layer_name_too_long_for_the_disk_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="File name too long"):
        LayerFolder.open(tmp_path, dataclasses.replace(RECIPE, layer="x" * 300), label="keras")


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_out_that_is_a_file_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputFolderError, match=r"--out leads to .*file, which is a file"):
        LayerFolder.open(tmp_path / "file" / below, RECIPE, label="keras")
    assert (tmp_path / "file").read_text() == "mine"


# The one writer


def failing(code: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    return fail


# Where a write can fail: making the file, filling it, bringing it to the disk, giving it its name.
INJECTIONS = [(tempfile, "mkstemp"), (os, "fsync"), (os, "fdopen"), (Path, "replace"), (Path, "chmod")]
CODES = [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO]


@pytest.mark.parametrize("code", CODES, ids=[errno.errorcode[code] for code in CODES])
@pytest.mark.parametrize(("owner", "function"), INJECTIONS, ids=[name for _, name in INJECTIONS])
class TestFailingDisk:
    def test_write_raises_storage_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, function: str, code: int
    ) -> None:
        monkeypatch.setattr(owner, function, failing(code))
        with pytest.raises(StorageError, match=os.strerror(code)):
            write_atomically(tmp_path / "file", b"new")

    def test_write_keeps_the_old_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, function: str, code: int
    ) -> None:
        (tmp_path / "file").write_bytes(b"old")
        with monkeypatch.context() as broken:
            broken.setattr(owner, function, failing(code))
            with pytest.raises(StorageError):
                write_atomically(tmp_path / "file", b"new")
        assert contents(tmp_path) == {"file": b"old"}


def test_write_replaces_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    write_atomically(tmp_path / "file", b"new")
    assert contents(tmp_path) == {"file": b"new"}


def test_write_makes_the_folders(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "file", b"new")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"new"


def test_written_file_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", b"new")
    finally:
        os.umask(old)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


def test_check_writable_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "folder")
    assert list((tmp_path / "folder").iterdir()) == []


def test_check_writable_below_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        check_writable(tmp_path / "file" / "folder")


def test_overwrite_on_a_full_disk_loses_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, picture(1), picture(2))
    before = contents(tmp_path)
    folder = LayerFolder.open(tmp_path, OTHER_RECIPE, label="keras", overwrite=True)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", failing(errno.ENOSPC))
        with pytest.raises(StorageError):
            folder.write(picture(1, recipe=OTHER_RECIPE))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS], ids=["ENOSPC", "EROFS"])
@pytest.mark.parametrize(("owner", "function"), [(tempfile, "mkstemp"), (os, "fsync")], ids=["mkstemp", "fsync"])
def test_render_on_a_failing_disk_is_one_message_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, function: str, code: int
) -> None:
    install_tiny_model(monkeypatch)
    with monkeypatch.context() as broken:
        broken.setattr(owner, function, failing(code))
        ran = run("render", TINY, "first_conv", *QUICK, "--filters", "0-2", "--out", tmp_path / "out")
    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert (ran.code, ran.out, len(errors)) == (1, "", 1)
    assert os.strerror(code) in errors[0]
    assert contents(tmp_path) == {}


def test_render_on_a_disk_that_fills_up_keeps_whole_pictures_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_tiny_model(monkeypatch)
    calls = []

    def fill_up(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    command = ("render", TINY, "first_conv", *QUICK, "--filters", "0-2", "--out", tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fill_up)
        assert run(*command).code == 1
    assert sorted(Path(name).name for name in contents(tmp_path)) == ["0000.png", "0001.png"]
    assert run(*command).code == 0


def test_render_under_a_file_size_limit_is_one_message_and_nothing_half_written(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    ran = run_process("render", *LITE, *QUICK, "--filters", "0-3", "--out", "out", cwd=tmp_path, before=limit)
    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert (ran.code, ran.out, len(errors)) == (1, "", 1), ran.err
    assert os.strerror(errno.EFBIG) in errors[0]
    assert "Traceback" not in ran.err
    assert contents(tmp_path) == {}


def test_no_write_leaves_a_temporary_file(tmp_path: Path) -> None:
    fill(tmp_path, picture(1), picture(2))
    assert left_overs(tmp_path) == []

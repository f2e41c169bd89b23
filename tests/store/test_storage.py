"""Files on disk: layout, provenance, the recipe check, and that a failed write leaves what was there."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from helpers_cli import contents
from helpers_storage import OTHER_RECIPE, RECIPE, WEIGHTS_SHA256, fill, picture, provenance
from msgspec.structs import replace
from PIL import Image

import jaxviz
from jaxviz import Model, RenderConfig
from jaxviz.errors import OutputFolderError, StorageError
from jaxviz.pictures import images
from jaxviz.records import to_json
from jaxviz.render.options import for_command_line
from jaxviz.store.catalogue import read_catalogue
from jaxviz.store.contents import first_saved, folder_path
from jaxviz.store.folder import LayerFolder
from jaxviz.store.layer_record import LayerRecord, read_layer_record
from jaxviz.store.provenance import SCHEMA, Saved, jaxlib_version, picture_bytes, read_saved

pytestmark = pytest.mark.quick

# What `open` says of the difference; it is OTHER_RECIPE that is asked for.
STEPS_DIFFER = "steps is 4 there, 5 here"


def layer_json(folder: LayerFolder) -> dict[str, Any]:
    """layer.json, read strictly."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"layer.json holds {constant}, which is not JSON")

    return json.loads((folder.path / "layer.json").read_text(), parse_constant=refuse)


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
        "schema": SCHEMA,
        "recipe": json.loads(to_json(RECIPE)),
        "filter_index": 3,
        "replica": 0,
        "score": 3.5,
        "status": "ok",
        "attempt": 0,
        "step": None,
        "version": jaxviz.__version__,
        "jaxlib": jaxlib_version(),
    }


@pytest.mark.parametrize("layer", ["plain", "é", "层", "\udc80", "<&>"])
@pytest.mark.parametrize("file_format", ["png", "webp"])
def test_picture_of_a_layer_with_any_name_is_read_back(tmp_path: Path, layer: str, file_format: str) -> None:
    file = tmp_path / f"0001.{file_format}"
    file.write_bytes(picture_bytes(picture(1, recipe=replace(RECIPE, layer=layer)), file_format=file_format))
    saved = read_saved(file)
    assert isinstance(saved, Saved)
    assert saved.recipe.layer == layer


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
            "jaxlib": jaxlib_version(),
            "judged_score": None,
            "percentile": None,
            "rank": None,
        }
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", SCHEMA),
        ("model", "toy"),
        ("layer", "conv_a"),
        ("label", "keras"),
        ("weights_sha256", WEIGHTS_SHA256),
        ("recipe", json.loads(to_json(RECIPE))),
        ("device", "a device"),
        ("timings", {"render_s": 1.5}),
    ],
)
def test_layer_json_records(tmp_path: Path, key: str, value: object) -> None:
    assert layer_json(fill(tmp_path, picture(0)))[key] == value


def test_layer_json_records_what_the_network_says_of_the_layer(
    toy_model: Model, small: RenderConfig, tmp_path: Path
) -> None:
    for layer in toy_model.layers[:2]:
        jaxviz.render_layer(toy_model, layer, [0], small).save(tmp_path)
    files = [tmp_path / "toy" / layer / "keras" / "layer.json" for layer in toy_model.layers[:2]]
    assert [json.loads(file.read_text())["network"] for file in files] == [
        {"kind": "conv", "channels": 8, "place": 1, "layers": 3, "receptive_field": 5},
        {"kind": "relu", "channels": 8, "place": 2, "layers": 3, "receptive_field": 5},
    ]


def test_save_refuses_a_folder_of_the_same_function_over_other_arrays(small: RenderConfig, tmp_path: Path) -> None:
    def rendered(seed: int) -> jaxviz.LayerResult:
        kernel = jax.random.normal(jax.random.key(seed), (3, 3, 3, 4))
        numbers = ("NHWC", "HWIO", "NHWC")

        def forward(_: object, images: jax.Array) -> dict[str, jax.Array]:
            return {"conv": jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=numbers)}

        model = Model.from_callable(forward, {}, lambda rgb: rgb / 255.0, name="closed")
        return jaxviz.render_layer(model, "conv", [0], small)

    folder = rendered(1).save(tmp_path)
    before = (folder / "0000.png").read_bytes()
    with pytest.raises(OutputFolderError, match="forward_sha256"):
        rendered(2).save(tmp_path)
    assert (folder / "0000.png").read_bytes() == before
    assert rendered(1).save(tmp_path) == folder


def test_layer_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = fill(tmp_path, picture(0), picture(1, status="nan"))
    record = read_layer_record(folder.path)
    assert isinstance(record, LayerRecord)
    assert to_json(record, indent=1) + "\n" == (folder.path / "layer.json").read_text()


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


def test_first_saved_knows_the_pictures_batch_size(tmp_path: Path) -> None:
    folder = fill(tmp_path, picture(1))
    saved = first_saved(folder.path)
    assert saved is not None
    assert saved.recipe.batch_size == 2


def test_first_saved_of_no_folder_is_none(tmp_path: Path) -> None:
    assert first_saved(tmp_path / "missing") is None


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
    assert hint in for_command_line(caught.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"weights_sha256": "cd" * 32}, "weights_sha256"),
        ({"batch_size": 4}, "batch_size is 2 there, 4 here"),
        (
            {"objective": ({"weight": -1.0, "name": "neuron", "y": 3},)},
            r"objective is channel there, -1.0 \* neuron\(y=3\) here",
        ),
        ({"kernels": "avx512_bf16"}, "kernels is 'lax' there, 'avx512_bf16' here"),
        ({"forward_sha256": "cd" * 32}, "forward_sha256 is None there"),
        ({"initial_images_sha256": "ef" * 32}, "initial_images_sha256 is None there"),
    ],
)
def test_every_part_of_the_recipe_counts(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    fill(tmp_path, picture(1))
    with pytest.raises(OutputFolderError, match=named):
        LayerFolder.open(tmp_path, replace(RECIPE, **change), label="keras")


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


# Names


@pytest.mark.parametrize(
    "layer",
    ["a/b", "..", ".", "../../x", "/etc/passwd", "a\\b", "", "a\0b", "a\nb", "ü", "%2E%2E", "..%2F", "block1/out:0"],
)
@pytest.mark.parametrize("part", ["model", "layer"])
def test_any_name_stays_inside_out(tmp_path: Path, part: str, layer: str) -> None:
    out = tmp_path / "out"
    recipe = replace(RECIPE, **{part: layer})
    folder = fill(out, picture(1, recipe=recipe))
    assert out.resolve() in folder.path.resolve().parents
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_different_layers_never_share_a_folder(tmp_path: Path) -> None:
    names = ["a/b", "a%2Fb", "a_b", "a", "b", "..", "%2E%2E", ".", "a b", "a+b", "a.b", ""]
    assert len({folder_path(tmp_path, "toy", name, "keras") for name in names}) == len(names)


def test_layer_with_a_slash_is_one_folder(tmp_path: Path) -> None:
    assert folder_path(tmp_path, "toy", "block1/out", "keras").parent.parent == tmp_path / "toy"


def test_layer_with_a_slash_is_written_by_its_own_name(tmp_path: Path) -> None:
    recipe = replace(RECIPE, layer="block1/out")
    assert layer_json(fill(tmp_path, picture(1, recipe=recipe)))["layer"] == "block1/out"


@pytest.mark.parametrize("label", ["", "a/b", "..", ".", "../x", "/x", ".hidden", "-x", "a\n", "a b", "ä", "x" * 101])
def test_bad_label_is_refused(tmp_path: Path, label: str) -> None:
    with pytest.raises(OutputFolderError) as caught:
        LayerFolder.open(tmp_path / "out", RECIPE, label=label)
    assert f"--name {label!r} is no label" in for_command_line(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("label", ["a", "keras", "2", "five-steps", "v1.2_x", "x" * 100])
def test_good_label_is_a_folder(tmp_path: Path, label: str) -> None:
    assert fill(tmp_path, picture(1), label=label).path.name == label


def test_out_too_long_for_the_disk_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"File name too long; choose another out"):
        LayerFolder.open(tmp_path / ("x" * 256), RECIPE, label="keras")


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_out_that_is_a_file_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputFolderError, match=r"out leads to .*file, which is a file"):
        LayerFolder.open(tmp_path / "file" / below, RECIPE, label="keras")
    assert (tmp_path / "file").read_text() == "mine"


LONG = ["日" * 100, "日" * 100 + "本", "x" * 256, "😀" * 300, "x" * 255]


def test_names_that_are_too_long_for_a_folder_are_cut_and_stay_apart(tmp_path: Path) -> None:
    names = [folder_path(tmp_path, name, name, "keras").parent.name for name in LONG]
    assert len(set(names)) == len(LONG)
    assert max(map(len, names)) == 255
    assert names[-1] == "x" * 255  # as it is: it fits


@pytest.mark.parametrize("name", ["日" * 100, ".", "..", "con", "a.", " ", "a/b", "a\0b", "😀", ""])
def test_a_picture_says_the_true_name_of_its_layer_whatever_its_folder_is_called(tmp_path: Path, name: str) -> None:
    recipe = replace(RECIPE, model=name, layer=name)
    folder = LayerFolder.open(tmp_path, recipe, label="keras")
    folder.write(picture(1, recipe=recipe))
    folder.finish(device="cpu")
    assert folder.path.parent.parent.parent == tmp_path
    (found,) = read_catalogue(tmp_path).layers
    assert (found.model, found.layer) == (name, name)
    assert set(LayerFolder.open(tmp_path, recipe, label="keras").done) == {(1, 0)}

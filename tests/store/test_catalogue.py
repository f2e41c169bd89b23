"""Reading a folder of pictures: what is found, in which order, and what is left out with which reason."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers_layers import DEEP, LITE0, SHALLOW, FixedJudge, fill_layer, recipe_of, striped
from helpers_storage import OTHER_RECIPE, RECIPE, fill, picture
from msgspec.structs import replace
from PIL import Image

from jaxviz.errors import OutputFolderError, StorageError
from jaxviz.records import to_json
from jaxviz.render.recipe import LayerFacts
from jaxviz.store.catalogue import LayerPictures, read_catalogue
from jaxviz.store.folder import LayerFolder
from jaxviz.store.provenance import SCHEMA, picture_bytes

pytestmark = pytest.mark.quick


def only(folder: Path) -> LayerPictures:
    (layer,) = read_catalogue(folder).layers
    return layer


# What is there


def test_catalogue_names_model_layer_and_label(tmp_path: Path) -> None:
    fill(tmp_path, picture(1), label="mine")
    assert only(tmp_path).name == "toy/conv_a/mine"


def test_tiles_are_sorted_by_filter_and_replica(tmp_path: Path) -> None:
    pictures = [dataclasses.replace(picture(index), replica=replica) for index, replica in ((10, 0), (2, 1), (2, 0))]
    fill(tmp_path, *pictures, picture(12345))
    assert [tile.key for tile in only(tmp_path).tiles] == [(2, 0), (2, 1), (10, 0), (12345, 0)]


def test_tile_has_what_its_picture_says(tmp_path: Path) -> None:
    fill(tmp_path, dataclasses.replace(picture(3), attempt=2))
    (tile,) = only(tmp_path).tiles
    assert (tile.filter_index, tile.score, tile.status, tile.attempt) == (3, 3.5, "ok", 2)


def test_tile_reads_its_pixels(tmp_path: Path) -> None:
    fill(tmp_path, picture(3))
    np.testing.assert_array_equal(only(tmp_path).tiles[0].read(), picture(3).picture)


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_score_that_is_not_finite_is_nan(tmp_path: Path, score: float) -> None:
    fill(tmp_path, picture(3, status="nan", score=score))
    assert math.isnan(only(tmp_path).tiles[0].score)


def test_recipe_is_the_pictures(tmp_path: Path) -> None:
    fill(tmp_path, picture(3))
    assert only(tmp_path).recipe == RECIPE


def test_counts_are_by_status(tmp_path: Path) -> None:
    fill(tmp_path, picture(0), picture(1, status="dead"), picture(2))
    assert only(tmp_path).counts == {"ok": 2, "dead": 1, "nan": 0}


def test_device_and_timings_are_those_of_layer_json(tmp_path: Path) -> None:
    fill(tmp_path, picture(3))
    layer = only(tmp_path)
    assert (layer.device, layer.timings) == ("a device", {"render_s": 1.5})


def test_judged_values_are_those_of_layer_json(tmp_path: Path) -> None:
    fill_layer(tmp_path, statuses=("ok", "dead"), judge=FixedJudge())
    good, dead = only(tmp_path).tiles
    assert (good.judged_score, good.percentile, good.rank, dead.rank) == (0.25, 90.0, 1, None)


def test_whole_folder_leaves_nothing_out(tmp_path: Path) -> None:
    fill(tmp_path, picture(3))
    assert read_catalogue(tmp_path).skipped == ()


def test_snapshots_are_no_tiles(tmp_path: Path) -> None:
    folder = LayerFolder.open(tmp_path, RECIPE, label="keras")
    folder.write(dataclasses.replace(picture(1), snapshots={2: picture(1).picture}))
    assert len(only(tmp_path).tiles) == 1


@pytest.mark.parametrize("part", ["", "toy", "toy/conv_a", "toy/conv_a/keras"])
def test_part_of_the_folder_will_do(tmp_path: Path, part: str) -> None:
    fill(tmp_path, picture(1))
    assert only(tmp_path / part).name == "toy/conv_a/keras"


def test_label_of_the_working_folder_is_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, picture(1))
    monkeypatch.chdir(tmp_path / "toy" / "conv_a" / "keras")
    assert only(Path()).label == "keras"


def test_names_are_the_recipes_not_the_folders(tmp_path: Path) -> None:
    fill(tmp_path, picture(1, recipe=replace(RECIPE, layer="block/conv:1")))
    assert only(tmp_path).layer == "block/conv:1"


def test_layers_are_ordered_as_in_the_network(tmp_path: Path) -> None:
    for layer in (DEEP, "predictions", "stem_conv", SHALLOW, "head_conv"):
        fill_layer(tmp_path, layer, statuses=("ok",))
    found = [layer.layer for layer in read_catalogue(tmp_path).layers]
    assert found == ["stem_conv", SHALLOW, DEEP, "head_conv", "predictions"]


def test_layers_of_an_unknown_network_are_ordered_by_name(tmp_path: Path) -> None:
    for layer in ("b", "c", "a"):
        fill_layer(tmp_path, layer, model="mine", statuses=("ok",))
    assert [layer.layer for layer in read_catalogue(tmp_path).layers] == ["a", "b", "c"]


def facts(place: int) -> LayerFacts:
    return LayerFacts("conv", channels=8, place=place, layers=12, receptive_field=3)


def test_layers_of_an_unknown_network_are_ordered_by_their_recorded_places(tmp_path: Path) -> None:
    for network, layer in ((facts(10), "a"), (facts(2), "b"), (None, "c")):
        folder = LayerFolder.open(tmp_path, recipe_of("mine", layer), label="keras", network=network)
        folder.write(striped(0, folder.recipe))
        folder.finish(device="a device")
    assert [layer.layer for layer in read_catalogue(tmp_path).layers] == ["b", "a", "c"]


def test_what_the_network_says_of_a_layer_stays_when_the_folder_is_described_anew(tmp_path: Path) -> None:
    folder = LayerFolder.open(tmp_path, RECIPE, label="keras", network=facts(3))
    folder.write(picture(1))
    folder.finish(device="a device")
    fill(tmp_path, picture(2))
    assert (only(tmp_path).network, len(only(tmp_path).tiles)) == (facts(3), 2)


def test_models_and_labels_are_ordered_by_name(tmp_path: Path) -> None:
    for model, label in (("b", "keras"), ("a", "keras"), ("a", "distill")):
        fill_layer(tmp_path, "x", model=model, label=label, statuses=("ok",))
    assert [layer.name for layer in read_catalogue(tmp_path).layers] == ["a/x/distill", "a/x/keras", "b/x/keras"]


# What is left out


def skipped(folder: Path) -> str:
    (reason,) = read_catalogue(folder).skipped
    return reason


def test_damaged_picture_is_left_out(tmp_path: Path) -> None:
    path = fill(tmp_path, picture(1), picture(2)).path
    (path / "0002.png").write_bytes((path / "0002.png").read_bytes()[:60])
    assert skipped(tmp_path) == f"{Path('toy/conv_a/keras/0002.png')}: damaged"


def test_foreign_picture_is_left_out(tmp_path: Path) -> None:
    path = fill(tmp_path, picture(1)).path
    Image.new("RGB", (4, 4)).save(path / "0002.png")
    assert skipped(tmp_path).endswith("0002.png: it was not made by jaxviz")


def test_renamed_picture_is_left_out(tmp_path: Path) -> None:
    path = fill(tmp_path, picture(1)).path
    shutil.copy(path / "0001.png", path / "0002.png")
    assert skipped(tmp_path).endswith("0002.png: it is 0001.png")


def test_folder_with_a_pictures_name_is_left_out(tmp_path: Path) -> None:
    path = fill(tmp_path, picture(1)).path
    (path / "0002.png").mkdir()
    assert skipped(tmp_path).endswith("0002.png: it is a folder")


def test_fewer_pictures_of_another_recipe_are_left_out_together(tmp_path: Path) -> None:
    path = fill(tmp_path, *(picture(index) for index in range(3))).path
    for index in (7, 8):
        (path / f"000{index}.png").write_bytes(picture_bytes(picture(index, recipe=OTHER_RECIPE)))
    reason = "0007.png and 1 more: it is of another recipe than the rest: steps is 5 there, 4 here"
    assert skipped(tmp_path).endswith(reason)


def test_recipe_of_layer_json_wins_over_more_pictures(tmp_path: Path) -> None:
    path = fill(tmp_path, picture(0)).path
    for index in (7, 8):
        (path / f"000{index}.png").write_bytes(picture_bytes(picture(index, recipe=OTHER_RECIPE)))
    assert [tile.filter_index for tile in only(tmp_path).tiles] == [0]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b"[]",
        b"null",
        b'{"schema": 1}',
        b'{"versions": 3, "timings": {}, "device": ""}',
        b'{"versions": {}, "timings": {}, "device": "", "filters": [{}]}',
        b'{"versions": {}, "timings": {}, "device": "", "filters": 3}',
        b"[" * 100_000,
    ],
    ids=lambda content: content[:20].decode("latin1"),
)
def test_broken_layer_json_leaves_the_pictures(tmp_path: Path, content: bytes) -> None:
    path = fill(tmp_path, picture(1)).path
    (path / "layer.json").write_bytes(content)
    catalogue = read_catalogue(tmp_path)
    assert len(catalogue.layers[0].tiles) == 1
    assert "layer.json: it cannot be read" in catalogue.skipped[0]


def test_missing_layer_json_leaves_the_pictures(tmp_path: Path) -> None:
    path = fill(tmp_path, picture(1)).path
    (path / "layer.json").unlink()
    assert only(tmp_path).device is None
    assert "layer.json: it is missing" in skipped(tmp_path)


@pytest.mark.parametrize(
    "change", [{"schema": SCHEMA + 1}, {"recipe": json.loads(to_json(OTHER_RECIPE))}], ids=["schema", "recipe"]
)
def test_layer_json_of_another_kind_is_not_believed(tmp_path: Path, change: dict) -> None:
    file = fill(tmp_path, picture(1)).path / "layer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert only(tmp_path).device is None
    assert "layer.json: it is of another recipe or format" in skipped(tmp_path)


def test_judged_values_of_another_score_are_not_believed(tmp_path: Path) -> None:
    path = fill_layer(tmp_path, statuses=("ok",), judge=FixedJudge())
    other = dataclasses.replace(striped(0, recipe_of()), score=99.0)
    (path / "0000.png").write_bytes(picture_bytes(other))
    assert only(tmp_path).tiles[0].rank is None


def test_dot_files_and_folders_are_ignored(tmp_path: Path) -> None:
    path = fill(tmp_path, picture(1)).path
    (path / ".jaxviz-abc").write_bytes(b"half")
    shutil.copytree(path, tmp_path / ".trash" / "toy" / "keras")
    assert (len(read_catalogue(tmp_path).layers), read_catalogue(tmp_path).skipped) == (1, ())


def test_copies_in_a_gallery_are_ignored(tmp_path: Path) -> None:
    path = fill(tmp_path, picture(1)).path
    shutil.copytree(path, tmp_path / "gallery" / "toy")
    (tmp_path / "gallery" / "gallery.json").touch()
    assert (len(read_catalogue(tmp_path).layers), read_catalogue(tmp_path).skipped) == (1, ())


def test_second_copy_of_a_layer_is_left_out(tmp_path: Path) -> None:
    path = fill(tmp_path, picture(1)).path
    shutil.copytree(path, tmp_path / "toy" / "copy" / "keras")
    assert len(read_catalogue(tmp_path).layers) == 1
    assert "is already there" in skipped(tmp_path)


def test_link_to_itself_ends(tmp_path: Path) -> None:
    fill(tmp_path, picture(1))
    (tmp_path / "toy" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert len(read_catalogue(tmp_path).layers) == 1


# Nothing to read


@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_folder_without_pictures_says_what_to_type(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / kind
    if kind == "empty":
        folder.mkdir()
    with pytest.raises(OutputFolderError) as caught:
        read_catalogue(folder)
    assert f"DIR {folder}" in str(caught.value)
    assert f"jaxviz render MODEL LAYER --out {folder}" in str(caught.value)


def test_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputFolderError, match="is a file"):
        read_catalogue(tmp_path / "file")


def test_folder_of_damaged_pictures_says_why_it_has_none(tmp_path: Path) -> None:
    (tmp_path / "0001.png").write_bytes(b"abc")
    with pytest.raises(OutputFolderError, match=r"0001\.png: it is no PNG file"):
        read_catalogue(tmp_path)


def test_picture_that_went_away_is_a_storage_error(tmp_path: Path) -> None:
    path = fill(tmp_path, picture(1)).path
    layer = only(tmp_path)
    (path / "0001.png").unlink()
    with pytest.raises(StorageError, match=r"0001\.png"):
        layer.tiles[0].read()


def test_catalogue_of_a_known_network_has_its_name(tmp_path: Path) -> None:
    fill_layer(tmp_path)
    assert only(tmp_path).model == LITE0


def test_webp_pictures_are_read_as_png_ones_are(tmp_path: Path) -> None:
    fill_layer(tmp_path / "png")
    fill_layer(tmp_path / "webp", file_format="webp")
    (one,), (other,) = (read_catalogue(tmp_path / name).layers for name in ("png", "webp"))
    assert [tile.file.suffix for tile in other.tiles] == [".webp", ".webp"]
    for png, webp in zip(one.tiles, other.tiles, strict=True):
        assert (png.key, png.score, png.status) == (webp.key, webp.score, webp.status)
        np.testing.assert_array_equal(png.read(), webp.read())

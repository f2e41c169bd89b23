"""`jaxviz export`: what is in the files, where they lie, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers_cli import contents, left_overs, run
from helpers_layers import DEEP, LITE0, SHALLOW, SIDE_PX, FixedJudge, fill_layer, recipe_of, striped
from PIL import Image

from jaxviz.records import to_json
from jaxviz.store.catalogue import read_catalogue
from jaxviz.store.folder import LayerFolder
from jaxviz.store.provenance import PICTURE_NAME, picture_bytes
from jaxviz.view import sprites
from jaxviz.view.export import export, matching_layers

pytestmark = pytest.mark.quick

PAGE = (Path(__file__).parents[2] / "docs" / "compare-and-export.md").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two layers: one with a dead filter and judged, one of two pictures."""
    fill_layer(tmp_path, SHALLOW, statuses=("ok", "dead", "ok"), judge=FixedJudge())
    fill_layer(tmp_path, DEEP)
    return tmp_path


def layer_path(folder: Path, layer: str = SHALLOW) -> Path:
    return folder / LITE0 / layer / "keras"


def npz_of(folder: Path) -> dict[str, np.ndarray]:
    assert run("export", folder, "--npz").code == 0
    with np.load(layer_path(folder) / "pictures.npz", allow_pickle=False) as arrays:
        return dict(arrays)


# The arrays


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("filters", [0, 1, 2]),
        ("replicas", [0, 0, 0]),
        ("attempts", [0, 0, 0]),
        ("status", ["ok", "dead", "ok"]),
        ("scores", [1.0, 2.0, 3.0]),
        ("judged_scores", [0.25, np.nan, 2.25]),
        ("percentiles", [90.0, np.nan, 90.0]),
        ("ranks", [1, 0, 1]),
    ],
)
def test_npz_holds(folder: Path, name: str, values: list) -> None:
    np.testing.assert_array_equal(npz_of(folder)[name], values)


def test_npz_holds_the_pixels(folder: Path) -> None:
    pictures = npz_of(folder)["pictures"]
    assert (pictures.dtype, pictures.shape) == (np.uint8, (3, SIDE_PX, SIDE_PX, 3))
    np.testing.assert_array_equal(pictures[2], striped(2, recipe_of()).picture)


def test_npz_holds_the_recipe_as_json(folder: Path) -> None:
    arrays = npz_of(folder)
    assert json.loads(str(arrays["recipe"])) == json.loads(to_json(recipe_of()))
    assert str(arrays["label"]) == "keras"


@pytest.mark.parametrize("flag", ["--npz", "--sprite"])
def test_same_pictures_give_the_same_bytes(folder: Path, tmp_path_factory: pytest.TempPathFactory, flag: str) -> None:
    outs = [tmp_path_factory.mktemp("out") for _ in range(2)]
    for out in outs:
        run("export", folder, flag, "--out", out)
    assert contents(outs[0]) == contents(outs[1])


# The sprite


def sprite_of(folder: Path, *options: str) -> tuple[dict, Path]:
    assert run("export", folder, "--sprite", *options).code == 0
    return json.loads((layer_path(folder) / "sprite.json").read_text()), layer_path(folder)


def test_sprite_index_says_which_filter_is_where(folder: Path) -> None:
    index, _ = sprite_of(folder)
    assert index["tile"] == {"height": SIDE_PX, "width": SIDE_PX}
    assert index["sheets"] == [
        {
            "file": "sprite.webp",
            "columns": 2,
            "filters": [0, 1, 2],
            "replicas": [0, 0, 0],
            "status": ["ok", "dead", "ok"],
        }
    ]


def test_sprite_has_no_margins(folder: Path) -> None:
    index, path = sprite_of(folder)
    with Image.open(path / index["sheets"][0]["file"]) as image:
        assert image.size == (2 * SIDE_PX, 2 * SIDE_PX)


def test_sprite_shows_the_pictures(folder: Path) -> None:
    _, path = sprite_of(folder)
    with Image.open(path / "sprite.webp") as image:
        tile = np.asarray(image.convert("RGB"))[:SIDE_PX, :SIDE_PX]
    assert np.abs(tile.astype(int) - striped(0, recipe_of()).picture).mean() < 5


def test_tile_makes_the_sprite_smaller(folder: Path) -> None:
    index, _ = sprite_of(folder, "--tile", "16")
    assert index["tile"] == {"height": 16, "width": 16}


def test_layer_too_large_for_one_sheet_gets_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sprites.sheets, "__kwdefaults__", {"tile_px": None, "largest_px": SIDE_PX})
    index, path = sprite_of(folder)
    assert [sheet["file"] for sheet in index["sheets"]] == ["sprite.webp", "sprite-2.webp", "sprite-3.webp"]
    assert all((path / sheet["file"]).is_file() for sheet in index["sheets"])


def test_sheets_of_a_larger_export_do_not_stay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sprites.sheets, "__kwdefaults__", {"tile_px": None, "largest_px": SIDE_PX})
        sprite_of(folder)
    index, path = sprite_of(folder, "--overwrite")
    assert [sheet["file"] for sheet in index["sheets"]] == ["sprite.webp"]
    assert [file.name for file in path.glob("sprite*.webp")] == ["sprite.webp"]


# Files and folders


def test_files_lie_beside_the_pictures(folder: Path) -> None:
    before = contents(folder).keys()
    run("export", folder, "--npz", "--sprite")
    new = {name for name in contents(folder).keys() - before if SHALLOW in name}
    assert {Path(name).name for name in new} == {"pictures.npz", "sprite.webp", "sprite.json"}
    assert not any(PICTURE_NAME.fullmatch(Path(name).name) for name in new)


def test_exported_files_do_not_disturb_a_resumed_run(folder: Path) -> None:
    run("export", folder, "--npz", "--sprite")
    assert len(LayerFolder.open(folder, recipe_of(), label="keras").done) == 3


def test_exported_files_do_not_disturb_the_catalogue(folder: Path) -> None:
    before = read_catalogue(folder)
    run("export", folder, "--npz", "--sprite")
    assert repr(read_catalogue(folder)) == repr(before)  # nan scores are never equal


def test_out_has_the_same_folders(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("out")
    run("export", folder, "--npz", "--out", out, "--layers", SHALLOW)
    assert contents(out).keys() == {str(layer_path(Path(), SHALLOW) / "pictures.npz")}


def test_nothing_half_written_is_left(folder: Path) -> None:
    run("export", folder, "--npz", "--sprite")
    assert left_overs(folder) == []


def test_paths_are_printed(folder: Path) -> None:
    ran = run("export", folder, "--npz")
    assert ran.err == ""
    assert [line.split()[0] for line in ran.out.splitlines()] == [
        str(layer_path(folder, layer) / "pictures.npz") for layer in (SHALLOW, DEEP)
    ]


def test_json_is_one_object(folder: Path) -> None:
    (file,) = json.loads(run("export", folder, "--npz", "--json", "--layers", DEEP).out)["files"]
    assert file["layer"] == f"{LITE0}/{DEEP}/keras"
    assert file["bytes"] == Path(file["file"]).stat().st_size


@pytest.mark.parametrize(
    ("globs", "found"),
    [
        (None, [SHALLOW, DEEP]),
        (["block4*"], [DEEP]),
        (["block4*,*"], [SHALLOW, DEEP]),
    ],
    ids=str,
)
def test_globs_choose_layers(folder: Path, globs: list[str] | None, found: list[str]) -> None:
    assert [layer.layer for layer in matching_layers(read_catalogue(folder), globs)] == found


# Refused


def test_neither_flag_says_which_to_give(folder: Path) -> None:
    ran = run("export", folder)
    assert ran.code == 2
    assert "--npz" in ran.err
    assert "--sprite" in ran.err


def test_file_that_is_there_is_kept(folder: Path) -> None:
    run("export", folder, "--npz")
    before = contents(folder)
    ran = run("export", folder, "--npz", "--sprite")
    assert ran.code == 2
    assert f"{layer_path(folder) / 'pictures.npz'} exists" in ran.err
    assert "--overwrite" in ran.err
    assert contents(folder) == before


def test_overwrite_replaces(folder: Path) -> None:
    (layer_path(folder) / "pictures.npz").write_bytes(b"old")
    assert run("export", folder, "--npz", "--overwrite").code == 0
    assert (layer_path(folder) / "pictures.npz").read_bytes() != b"old"


def test_unmatched_glob_names_the_nearest(folder: Path) -> None:
    ran = run("export", folder, "--npz", "--layers", "block4_2_expand_cnv")
    assert ran.code == 2
    assert "'block4_2_expand_cnv' matches no layer" in ran.err
    assert DEEP in ran.err


@pytest.mark.parametrize("options", [["--sprite", "--tile", "0"], ["--npz", "--tile", "64"]], ids=" ".join)
def test_tile_that_means_nothing_is_refused(folder: Path, options: list[str]) -> None:
    ran = run("export", folder, *options)
    assert ran.code == 2
    assert "--tile" in ran.err


@pytest.mark.parametrize("flag", ["--npz", "--sprite"])
def test_pictures_of_two_sizes_are_refused(folder: Path, flag: str) -> None:
    other = striped(2, recipe_of())
    smaller = picture_bytes(type(other)(**vars(other) | {"picture": other.picture[:9, :9]}))
    (layer_path(folder) / "0002.png").write_bytes(smaller)
    ran = run("export", folder, flag)
    assert ran.code == 2
    assert "0002.png has 9x9 px" in ran.err


def test_left_out_pictures_are_named(folder: Path) -> None:
    (layer_path(folder) / "0001.png").write_bytes(b"\x89PNG")
    ran = run("export", folder, "--npz")
    assert ran.code == 0
    assert "left out: " in ran.err
    assert "0001.png: damaged" in ran.err


def test_python_gets_one_answer_a_layer(folder: Path) -> None:
    done = list(export(read_catalogue(folder), npz=True))
    assert [(one.layer.layer, one.files[0].name) for one in done] == [
        (SHALLOW, "pictures.npz"),
        (DEEP, "pictures.npz"),
    ]


def test_python_example_of_the_page_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (example,) = [block for block in PAGE.split("```python\n")[1:] if "pictures.npz" in block]
    run("export", folder, "--npz", "--out", "out")
    exec(compile(example.split("```")[0], "compare-and-export.md", "exec"), {})

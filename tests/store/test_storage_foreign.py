"""Pictures on disk that are damaged, renamed, foreign or hostile: never mixed, never lost, never a traceback."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_cli import contents, run_python
from helpers_storage import OTHER_RECIPE, RECIPE, fill, picture, provenance
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from jaxviz.errors import OutputFolderError
from jaxviz.records import to_json
from jaxviz.store.contents import folder_path
from jaxviz.store.folder import LayerFolder
from jaxviz.store.provenance import SCHEMA, Saved, read_saved

pytestmark = pytest.mark.quick


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


@pytest.mark.parametrize("schema", [1, 2, 3, 99])
def test_provenance_of_another_schema_is_foreign(tmp_path: Path, schema: int) -> None:
    folder = fill(tmp_path, picture(1))
    file = folder.path / "0001.png"
    rewrite_chunk(file, edited_provenance(file, schema=schema, recipe=None))
    with pytest.raises(OutputFolderError, match=f"schema {schema}, this jaxviz makes and reads {SCHEMA}"):
        LayerFolder.open(tmp_path, RECIPE, label="keras")


def test_picture_of_a_later_recipe_with_one_more_field_is_foreign(tmp_path: Path) -> None:
    folder = fill(tmp_path, picture(1))
    file = folder.path / "0001.png"
    rewrite_chunk(file, edited_provenance(file, recipe=json.loads(to_json(RECIPE)) | {"colour_space": "lab"}))
    with pytest.raises(OutputFolderError, match=r"0001\.png"):
        LayerFolder.open(tmp_path, RECIPE, label="keras")


GOOD = {
    "schema": SCHEMA,
    "filter_index": 1,
    "score": 1.5,
    "status": "ok",
    "recipe": json.loads(to_json(RECIPE)),
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
    json.dumps(GOOD | {"recipe": json.loads(to_json(RECIPE)) | {"config": 5}}),
    json.dumps(GOOD | {"recipe": json.loads(to_json(RECIPE)) | {"config": None}}),
    json.dumps(GOOD | {"recipe": json.loads(to_json(RECIPE)) | {"config": [1]}}),
    json.dumps(GOOD | {"recipe": json.loads(to_json(RECIPE)) | {"batch_size": "many"}}),
    json.dumps(GOOD | {"recipe": json.loads(to_json(RECIPE)) | {"batch_size": 0}}),
    json.dumps(GOOD | {"recipe": json.loads(to_json(RECIPE)) | {"config": {"steps": "many"}}}),
    json.dumps(GOOD | {"recipe": json.loads(to_json(RECIPE)) | {"objective": "channel"}}),
    json.dumps(GOOD | {"recipe": json.loads(to_json(RECIPE)) | {"objective": [{"name": "channel"}]}}),
    json.dumps(GOOD | {"status": "alive"}),
    json.dumps({name: value for name, value in GOOD.items() if name != "schema"}),
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
from jaxviz.render.recipe import Recipe
from jaxviz.records import from_json
from jaxviz.store.contents import first_saved, folder_path
from jaxviz.store.folder import LayerFolder
recipe = from_json(Path("recipe.json").read_text(), Recipe)
answers = []
for out in sorted(Path("outs").iterdir()):
    try:
        LayerFolder.open(out, recipe, label="keras")
        opened = "opened"
    except Exception as error:
        opened = f"{type(error).__name__}: {error}"
    try:
        saved = first_saved(folder_path(out, recipe.model, recipe.layer, "keras"))
        batch_size = repr(saved and saved.recipe.batch_size)
    except Exception as error:
        batch_size = f"{type(error).__name__}: {error}"
    answers.append((opened, batch_size))
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def garbage_answers(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """(what opening says, recorded batch size) for every text of GARBAGE."""
    folder = tmp_path_factory.mktemp("garbage")
    (folder / "recipe.json").write_text(to_json(RECIPE))
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

"""`jaxviz compare`: which layers are meant, what is printed of them, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers_cli import contents, run, run_python
from helpers_layers import DEEP, LITE0, SHALLOW, FixedJudge, fill_layer

from jaxviz import Model, RenderConfig, render_layer
from jaxviz.cli import compare as cli_compare
from jaxviz.errors import RequestError, UnknownLayerError
from jaxviz.models import architecture
from jaxviz.render.plan import plan_render
from jaxviz.store.catalogue import read_catalogue
from jaxviz.view.comparison import differing_settings, find_layer

pytestmark = pytest.mark.quick


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A layer with fine stripes near the input, and one with coarse stripes and a dead filter deep inside."""
    fill_layer(tmp_path, SHALLOW, wavelength_px=4, judge=FixedJudge())
    fill_layer(tmp_path, DEEP, wavelength_px=16, statuses=("ok", "dead", "ok"))
    return tmp_path


def line(text: str, start: str) -> list[str]:
    """The cells of the line that starts so, two spaces apart."""
    (found,) = [one for one in text.splitlines() if one.startswith(start)]
    return [cell.strip() for cell in found.split("  ") if cell.strip()]


# What is printed


@pytest.mark.parametrize(
    "cells",
    [
        ["model", LITE0, LITE0],
        ["kind", "depthwise_conv", "conv"],
        ["channels", "32", "480"],
        ["place in the network", "4 of 149", "55 of 149"],
        ["receptive field", "7 px", "83 px"],
        ["pictures", "2 (2 ok)", "3 (2 ok, 1 dead)"],
        ["device", "a device", "a device"],
        ["percentile beside natural images, 0 to 100", "90 (90 - 90)", "-"],
    ],
    ids=lambda cells: cells[0],
)
def test_compare_prints(folder: Path, cells: list[str]) -> None:
    assert line(run("compare", folder, SHALLOW, DEEP).out, cells[0]) == cells


def test_layers_head_the_columns(folder: Path) -> None:
    assert run("compare", folder, DEEP, SHALLOW).out.splitlines()[0].split() == [DEEP, SHALLOW]


def test_measured_wavelengths_are_the_stripes(folder: Path) -> None:
    sides = json.loads(run("compare", folder, SHALLOW, DEEP, "--json").out)["layers"]
    found = [side["measured"]["wavelength"]["median"] for side in sides]
    assert found == [pytest.approx(4, rel=0.1), pytest.approx(16, rel=0.1)]


def test_json_has_the_same_measures_for_both(folder: Path) -> None:
    first, second = json.loads(run("compare", folder, SHALLOW, DEEP, "--json").out)["layers"]
    assert first["measured"].keys() == second["measured"].keys()
    assert first["measured"]["wavelength"].keys() == {"unit", "median", "lower", "upper", "count"}


def test_json_has_the_facts(folder: Path) -> None:
    first, _ = json.loads(run("compare", folder, SHALLOW, DEEP, "--json").out)["layers"]
    assert (first["layer"], first["facts"]["kind"], first["counts"]["ok"]) == (SHALLOW, "depthwise_conv", 2)


def test_json_of_layers_without_a_good_picture_is_null(tmp_path: Path) -> None:
    fill_layer(tmp_path, SHALLOW, statuses=("nan", "dead"))
    first, _ = json.loads(run("compare", tmp_path, SHALLOW, SHALLOW, "--json").out)["layers"]
    assert {measured["median"] for measured in first["measured"].values()} == {None}


def test_layers_without_a_good_picture_are_printed(tmp_path: Path) -> None:
    fill_layer(tmp_path, SHALLOW, statuses=("nan", "dead"))
    assert line(run("compare", tmp_path, SHALLOW, SHALLOW).out, "pictures")[1] == "2 (1 dead, 1 nan)"


def test_folder_that_says_nothing_of_its_network_has_no_facts(tmp_path: Path) -> None:
    fill_layer(tmp_path, "conv", model="mine")
    assert line(run("compare", tmp_path, "conv", "conv").out, "receptive field")[1:] == ["unknown"] * 2


def test_settings_that_differ_are_printed(tmp_path: Path) -> None:
    fill_layer(tmp_path, SHALLOW)
    fill_layer(tmp_path, DEEP, steps=64)
    assert line(run("compare", tmp_path, SHALLOW, DEEP).out, "steps") == ["steps", "4", "64"]


def test_equal_settings_are_not_printed(folder: Path) -> None:
    assert "made differently" not in run("compare", folder, SHALLOW, DEEP).out


def test_compare_writes_nothing(folder: Path) -> None:
    before = contents(folder)
    run("compare", folder, SHALLOW, DEEP)
    assert contents(folder) == before


def test_facts_of_anybodys_network_are_those_that_it_was_rendered_with(tmp_path: Path, toy_model: Model) -> None:
    config = RenderConfig.keras(image_size=32, crop=0, steps=1)
    for layer in ("conv_a", "conv_c"):
        render_layer(toy_model, layer, [0], config).save(tmp_path)
    first, last = json.loads(run("compare", tmp_path, "conv_a", "conv_c", "--json").out)["layers"]
    assert first["facts"] == {"kind": "conv", "channels": 8, "place": 1, "layers": 3, "receptive_field": 5}
    assert last["facts"] == {"kind": "conv", "channels": 6, "place": 3, "layers": 3, "receptive_field": 9}


@pytest.mark.parametrize("head", [False, True])
def test_facts_of_our_networks_count_the_place_from_the_input(head: bool) -> None:
    model = architecture(LITE0, head=head)
    config = RenderConfig.keras()
    first, last = (plan_render(model, layer, [0], config).facts for layer in (model.layers[0], model.layers[-1]))
    assert (first.place, last.place) == (1, len(model.layers))
    assert first.layers == last.layers == len(architecture(LITE0, head=True).layers), "the head counts, loaded or not"
    assert first.receptive_field == 3
    assert (last.receptive_field is None) is head


# Which layers


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """One layer of two models, one of them under two labels."""
    fill_layer(tmp_path, "conv", model="a", label="keras")
    fill_layer(tmp_path, "conv", model="a", label="distill", steps=256)
    fill_layer(tmp_path, "conv", model="b", label="keras")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "model", "label", "found"),
    [
        ("a/conv/keras", None, None, "a/conv/keras"),
        ("b/conv", None, None, "b/conv/keras"),
        ("conv/distill", None, None, "a/conv/distill"),
        ("conv", "b", None, "b/conv/keras"),
        ("conv", "a", "distill", "a/conv/distill"),
        ("conv", None, "distill", "a/conv/distill"),
    ],
)
def test_layer_is_found(several: Path, text: str, model: str | None, label: str | None, found: str) -> None:
    assert find_layer(read_catalogue(several), text, model=model, label=label).name == found


@pytest.mark.parametrize(("text", "label"), [("conv", None), ("a/conv", None), ("conv", "keras")])
def test_ambiguous_layer_says_which_there_are(several: Path, text: str, label: str | None) -> None:
    with pytest.raises(RequestError) as caught:
        find_layer(read_catalogue(several), text, label=label)
    assert "a/conv/keras" in str(caught.value)
    assert "choose with model MODEL and label LABEL" in str(caught.value)


def test_layer_under_another_label_says_where_it_is(several: Path) -> None:
    with pytest.raises(UnknownLayerError, match="with label 'maco', but as a/conv/distill, a/conv/keras"):
        find_layer(read_catalogue(several), "a/conv", label="maco")


def test_slash_in_a_layers_name_is_no_separator(tmp_path: Path) -> None:
    fill_layer(tmp_path, "block/conv", model="mine")
    assert find_layer(read_catalogue(tmp_path), "block/conv").layer == "block/conv"


def test_unknown_layer_names_the_nearest(folder: Path) -> None:
    ran = run("compare", folder, SHALLOW, "block4_2_expand_cnv")
    assert ran.code == 2
    assert f"nearest: '{DEEP}'" in ran.err


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    ran = run("compare", tmp_path / "no", SHALLOW, DEEP)
    assert (ran.code, ran.out) == (2, "")
    assert "jaxviz render MODEL LAYER --out" in ran.err


def test_settings_of_two_models_leave_out_the_weights(several: Path) -> None:
    catalogue = read_catalogue(several)
    first, second = (find_layer(catalogue, text) for text in ("a/conv/keras", "b/conv"))
    assert differing_settings(first, second) == {}


def test_left_out_files_are_counted(folder: Path) -> None:
    path = folder / LITE0 / DEEP / "keras"
    for index in range(20, 28):
        (path / f"00{index}.png").write_bytes(b"abc")
    ran = run("compare", folder, SHALLOW, DEEP)
    assert ran.err.count("left out") == 1
    assert "0020.png and 7 more: it is no PNG file" in ran.err


@pytest.mark.parametrize("command", [["compare", SHALLOW, DEEP], ["export", "--npz"]], ids=lambda words: words[0])
def test_jax_is_not_imported_by(folder: Path, command: list[str]) -> None:
    name, *others = command
    code = f"""
import sys
from jaxviz.cli import main
sys.argv = {["jaxviz", name, str(folder), *others]!r}
try:
    main()
except SystemExit:
    pass
print("loaded:", *sorted({{"jax", "flax"}} & sys.modules.keys()))
"""
    assert run_python(code, cwd=folder).splitlines()[-1].split() == ["loaded:"]


def test_long_measuring_says_how_far_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_compare, "SILENT_S", -1.0)
    assert "measured 0 of 5 pictures" in run("compare", folder, SHALLOW, DEEP).err


def test_short_measuring_says_nothing(folder: Path) -> None:
    assert run("compare", folder, SHALLOW, DEEP).err == ""

"""The command on a filter's page gives the recipe back, and the picture."""

from __future__ import annotations

import html
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from helpers_cli import QUICK, TINY, folder_of, install_tiny_model, run
from helpers_gallery import MODEL, RECIPE
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import jaxviz
from jaxviz import RenderConfig
from jaxviz.ascent.algebra import Objective
from jaxviz.cli import app
from jaxviz.config import PRESETS
from jaxviz.jobs.task import render_request
from jaxviz.objectives import Channel, ClassLogit, Direction, Diversity, LayerActivity, Neuron, parse_objective
from jaxviz.render.options import SETTINGS
from jaxviz.render.recipe import Recipe
from jaxviz.spelling import parse_filters
from jaxviz.view.gallery.command import OUT, render_again

VECTORS = np.eye(4, dtype=np.float32)


def typed(text: str) -> tuple[dict[str, Any], RenderConfig, Objective]:
    """What the command line makes of a command: its parameters, the config and the objective."""
    words = shlex.split(text)
    assert words[:2] == ["jaxviz", "render"]
    command = typer.main.get_command(app).commands["render"]  # type: ignore[attr-defined]
    asked = command.make_context("render", words[2:]).params
    config = render_request("tiny", {name: asked[name] for name in ("preset", *SETTINGS)}).config
    vectors = VECTORS if asked["vectors"] else None
    objective = parse_objective(asked["objective"], border=config.activation_border, vectors=vectors)
    objective = -objective if asked["negative"] else objective
    return asked, config, objective + asked["diversity"] * Diversity() if asked["diversity"] else objective


def recipe_of(config: RenderConfig, objective: Objective | None = None, **changes: Any) -> Recipe:
    made = Channel(config.activation_border) if objective is None else objective
    return replace(RECIPE, config=config.numbers(), objective=made.to_data(), **changes)


numbers = st.floats(1e-3, 1e3)
configs = st.builds(
    lambda preset, image_size, overrides: RenderConfig.from_preset(preset, image_size=image_size, **overrides),
    st.sampled_from(list(PRESETS)),
    st.tuples(st.integers(60, 300), st.integers(60, 300)),
    st.fixed_dictionaries(
        {},
        optional={
            "steps": st.integers(1, 3000),
            "step_size": numbers,
            "seed": st.integers(0, 2**32 - 1),
            "crop": st.integers(0, 25),
            "parameterization": st.sampled_from(["pixel", "fourier", "maco"]),
            "optimizer": st.sampled_from(["normalized", "adam", "nadam"]),
            "tv": numbers,
            "l2": numbers,
            "attempts": st.integers(1, 9),
            "contrast": numbers,
            "initial_range": numbers,
            "rescue_steps": st.integers(0, 99),
            "dtype": st.just("bfloat16"),
            "transforms": st.sampled_from([(), (("pad", 3),), (("scale", 0.5, 1.25), ("noise", 1e-5), ("jitter", 4))]),
        },
    ),
)


@settings(max_examples=60, deadline=None)
@given(config=configs, batch_size=st.integers(1, 999), filter_index=st.integers(0, 4000), replica=st.integers(0, 3))
def test_command_gives_the_recipe_back(config, batch_size, filter_index, replica):
    again = render_again(recipe_of(config, batch_size=batch_size), filter_index, replica=replica, label="keras")
    assert again is not None
    assert again.language == "shell"
    asked, parsed, objective = typed(again.text)
    assert (asked["model"], asked["layer"], parse_filters(asked["filters"])) == (MODEL, "stem_conv", [filter_index])
    assert (parsed.numbers(), parsed.batch_size, parsed.kernels) == (config.numbers(), batch_size, RECIPE.kernels)
    assert objective.describe() == "channel"
    assert asked["replicas"] == replica + 1
    assert str(asked["out"]) == OUT
    assert (asked["label"] or asked["preset"]) == "keras"


@pytest.mark.parametrize(
    "objective",
    [
        Channel(2),
        -Channel(2),
        Neuron(),
        Neuron(3, 4),
        -Neuron(0, 1),
        Direction(VECTORS),
        -Direction(VECTORS, 2.5),
        ClassLogit(),
        LayerActivity(),
        Channel() + 3 * Diversity(),
        -Channel() + 0.1 * Diversity(),
        Channel() - 2 * Diversity(),
        Channel() + Diversity(),
    ],
    ids=lambda objective: objective.describe(),
)
def test_command_gives_the_objective_back(objective):
    replicas = 4 if objective.couples else 1
    config = RenderConfig.keras(activation_border=2 if "border" in objective.describe() else 0)
    again = render_again(recipe_of(config, objective, replicas=replicas, batch_size=8), 7)
    assert again is not None
    assert again.language == "shell"
    asked, parsed, parsed_objective = typed(again.text)
    assert parsed_objective.to_data() == objective.to_data()
    assert parsed.numbers() == config.numbers()
    assert asked["replicas"] == replicas


@pytest.mark.parametrize("preset", PRESETS)
def test_command_names_the_preset_and_nothing_that_it_says(preset):
    again = render_again(recipe_of(RenderConfig.from_preset(preset, seed=5), batch_size=4), 3, label=preset)
    assert again is not None
    assert again.text == (
        f"jaxviz render {MODEL} stem_conv --filters 3 --preset {preset} --seed 5 --batch-size 4 --kernels lax "
        "--out again"
    )


def test_kernels_that_no_option_names_are_left_to_the_machine_and_noted():
    again = render_again(recipe_of(RenderConfig.keras(), kernels="avx512_bf16"), 3)
    assert again is not None
    assert "--kernels" not in again.text
    assert any("avx512_bf16" in note for note in again.notes)


@pytest.mark.parametrize(
    ("changes", "objective", "said"),
    [
        ({}, Channel() - 0.5 * Neuron(y=2, x=2), "the objective channel - 0.5 * neuron(y=2, x=2)"),
        ({}, 2 * Channel(), "the objective 2.0 * channel"),
        ({}, Channel(3), "the objective channel(border=3)"),  # of a config without a border
        ({}, Neuron(y=3), "the objective"),
        ({}, 0.5 * Direction(VECTORS, 2.0), "the objective"),
    ],
)
def test_what_has_no_option_is_said_and_given_as_python(monkeypatch, tmp_path, changes, objective, said):
    config = RenderConfig.keras(image_size=64, **changes)
    recipe = recipe_of(config, objective, batch_size=3)
    again = render_again(recipe, 5, replica=1, label="mine")
    assert again is not None
    assert again.language == "python"
    assert said in again.notes[0]
    calls: list[Any] = []

    class Result:
        def save(self, *where, **named):
            calls.append((where, named))

    def render_layer(*arguments, **named):
        calls.append((arguments, named))
        return Result()

    monkeypatch.setattr(jaxviz, "render_layer", render_layer, raising=False)
    monkeypatch.setattr(jaxviz, "load_model", lambda *names, **named: (*names, named), raising=False)
    np.save(tmp_path / "vectors.npy", VECTORS)
    monkeypatch.chdir(tmp_path)
    exec(compile(again.text, "page", "exec"), {})
    ((model, layer, filters, made), named), saved = calls
    assert (model, layer, filters, named["replicas"]) == ((MODEL, {}), "stem_conv", [5], 2)
    assert (made.numbers(), made.batch_size, made.kernels) == (config.numbers(), 3, RECIPE.kernels)
    assert named["objective"].to_data() == recipe.objective
    assert saved == (("again",), {"name": "mine"})


def test_own_network_and_own_objective_are_left_to_the_reader():
    recipe = replace(RECIPE, model="my 'net'", objective=({"weight": 1.0, "name": "mine", "x": "<1>"},), layer="a'b")
    again = render_again(recipe, 0)
    assert again is not None
    assert again.language == "python"
    compile(again.text, "page", "exec")
    assert "network of your own" in again.notes[0]


def test_starting_images_are_named_by_their_hash():
    again = render_again(replace(RECIPE, initial_images_sha256="cd" * 32), 0)
    assert again is not None
    assert "starting images" in again.notes[0]
    assert any("cd" * 32 in note for note in again.notes)


@pytest.mark.parametrize("change", [{"steps": 0}, {"parameterization": "wavelet"}, {"transforms": ((3,),)}])
def test_recipe_of_another_version_has_no_command(change):
    assert render_again(replace(RECIPE, config=replace(RECIPE.config, **change)), 0) is None


def test_label_that_is_no_name_is_left_out():
    again = render_again(RECIPE, 0, label="a b; rm")
    assert again is not None
    assert "--name" not in again.text


@pytest.mark.parametrize("extra", [(), ("--replicas", "2", "--seed", "4"), ("--negative", "--transforms", "pad:2")])
def test_command_on_the_page_renders_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra) -> None:
    """Once for real, from the page of a rendered picture into another folder."""
    install_tiny_model(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert run("render", TINY, "first_conv", *QUICK, "--filters", "1-3", "--out", "out", *extra).code == 0
    assert run("gallery", "out").code == 0
    (page,) = Path("out/gallery").rglob("0002_r1.html" if "--replicas" in extra else "0002.html")
    found = re.search(r'<pre id="again">(.*?)</pre>', page.read_text(), re.DOTALL)
    assert found is not None
    words = shlex.split(html.unescape(re.sub("<[^>]*>", "", found[1])))
    assert words[0] == "jaxviz"
    assert run(*words[1:]).code == 0
    name = f"{page.stem}.png"
    assert (folder_of(Path(OUT)) / name).read_bytes() == (folder_of(Path("out")) / name).read_bytes()

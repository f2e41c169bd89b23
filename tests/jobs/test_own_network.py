"""Whole jobs on a network of the user's own, a file that the command line is given as FILE.py:FUNCTION."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers_atlas import Running, lasting
from helpers_cli import contents, left_overs, run
from helpers_networks import conv

import jaxviz
from jaxviz.errors import ConfigError
from jaxviz.store.layer_record import read_layer_record

NETWORK = """
import jax
import jax.numpy as jnp
from flax import linen as nn

import beside  # a module in the same folder
import jaxviz


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (5, 5), strides=2, name="stem")(x))
        y = nn.relu(nn.Conv(6, (3, 3), name="left")(x))
        x = nn.relu(y + nn.Conv(6, (1, 1), name="right")(x))
        return nn.softmax(nn.Dense(4, name="head")(x.mean((1, 2))))


def model():
    net = Net()
    with jax.threefry_partitionable(True):
        variables = net.init(jax.random.key(0), jnp.zeros((1, 48, 48, 3), jnp.float32))
    return jaxviz.Model.from_flax(net, variables, preprocess=beside.preprocess, name="mine")


def nothing():
    return 3
"""
SMALL = ("--size", "48", "--crop", "0", "--steps", "3")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the network in it."""
    (tmp_path / "net.py").write_text(NETWORK)
    (tmp_path / "beside.py").write_text("def preprocess(rgb):\n    return rgb / 127.5 - 1.0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    jaxviz.loading.own_model.cache_clear()
    return tmp_path


@pytest.mark.usefixtures("here")
def test_layers_lists_every_target_with_kind_size_field_and_macs() -> None:
    listed = json.loads(run("layers", "net.py:model", "--size", "48", "--json").out)["layers"]
    rows = {row["layer"]: row for row in listed}
    assert list(rows) == [
        "stem", "stem/relu", "left", "left/relu", "right", "right/add", "right/relu", "right/global_avg_pool", "head",
        "head/softmax",
    ]  # fmt: skip
    stem, pooled = rows["stem"], rows["right/global_avg_pool"]
    assert (stem["kind"], stem["channels"], stem["output_size"], stem["receptive_field"]) == ("conv", 8, "24x24", 5)
    assert stem["macs"] == 24 * 24 * 5 * 5 * 3 * 8
    assert (pooled["output_size"], pooled["receptive_field"]) == ("-", "image")


def test_render_distill_writes_whole_pictures(here: Path) -> None:
    ran = run("render", "net.py:model", "left", "--preset", "distill", *SMALL, "--out", "out", "--json")
    assert ran.code == 0
    record = read_layer_record(here / "out" / "mine" / "left" / "distill")
    assert record.counts["ok"] == 6
    assert record.network is not None
    assert (record.network.kind, record.network.place, record.network.layers) == ("conv", 3, 10)
    assert record.recipe.forward_sha256 is not None


@pytest.mark.usefixtures("here")
def test_class_logits_bfloat16_and_rescue_are_for_it_too() -> None:
    options = ("--objective", "class_logit", "--dtype", "bfloat16", "--rescue-steps", "2")
    ran = run("render", "net.py:model", "head/softmax", *options, *SMALL, "--out", "out")
    assert ran.code == 0
    assert "4 ok" in ran.out


@pytest.mark.usefixtures("here")
def test_dry_run_of_a_job_file_measures_it(here: Path) -> None:
    job = '[[atlas]]\nmodel = "net.py:model"\nlayers = ["left", "right"]\nsize = 48\ncrop = 0\nsteps = 3\n'
    (here / "job.toml").write_text(job)
    ran = run("run", "job.toml", "--dry-run", "--json")
    assert ran.code == 0
    assert [layer["pictures"] for layer in json.loads(ran.out)["layers"]] == [6, 6]
    assert not (here / "out").exists()


def test_atlas_in_python_is_that_of_the_command_line(here: Path) -> None:
    assert run("atlas", "net.py:model", "--layers", "left", *SMALL, "--out", "typed").code == 0
    model = jaxviz.load_model("net.py:model")
    config = jaxviz.RenderConfig.keras(image_size=48, crop=0, steps=3)
    (done,) = jaxviz.render_atlas(model, ["lef[t]"], here / "called", config=config)
    assert (done.layer, done.rendered, done.counts["ok"]) == ("left", 6, 6)
    folders = [here / out / "mine" / "left" / "keras" for out in ("typed", "called")]
    first, second = ({name: data for name, data in contents(folder).items() if "png" in name} for folder in folders)
    assert first == second
    (again,) = jaxviz.render_atlas(model, "left", here / "called", config=config)
    assert (again.rendered, again.already_there) == (0, 6)


def test_gallery_and_compare_know_its_layers(here: Path) -> None:
    assert run("atlas", "net.py:model", "--layers", "left", "--layers", "stem", *SMALL, "--out", "out").code == 0
    compared = json.loads(run("compare", "out", "stem", "left", "--json").out)
    assert [side["facts"]["kind"] for side in compared["layers"]] == ["conv", "conv"]
    assert run("gallery", "out").code == 0
    page = (here / "out" / "gallery" / "index.html").read_text()
    assert page.index("stem") < page.index("left"), "in the network's own order"


def test_killed_atlas_goes_on_and_ends_as_an_uninterrupted_one(here: Path) -> None:
    command = ("atlas", "net.py:model", "--layers", "stem", "--layers", "left", *SMALL, "--progress", "jsonl")
    whole = Running(*command, "--out", "whole", cwd=here, cache=here / "cache")
    assert whole.finish() == 0
    killed = Running(*command, "--out", "killed", cwd=here, cache=here / "cache")
    for event in killed.listen():
        if event["event"] == "written":
            break
    killed.kill()
    again = Running(*command, "--out", "killed", cwd=here, cache=here / "cache")
    assert again.finish() == 0
    assert lasting(here / "killed") == lasting(here / "whole")
    assert left_overs(here / "killed") == []


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("net.py:modle", "net.py has no function 'modle'; nearest: 'model'"),
        ("nett.py:model", "there is no file 'nett.py'"),
        ("no_such_module:model", "there is no module 'no_such_module'"),
        ("net.py:nothing", "nothing() returned int; return a jaxviz.Model"),
    ],
)
def test_what_is_no_network_is_one_message(model: str, words: str) -> None:
    ran = run("layers", model)
    assert ran.code == 2
    assert words in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.mark.usefixtures("here")
def test_weights_file_is_for_our_own_networks() -> None:
    with pytest.raises(ConfigError, match="brings its own"):
        jaxviz.load_model("net.py:model", weights="weights.h5")


@pytest.mark.usefixtures("here")
def test_changed_constant_in_the_file_is_another_recipe(here: Path) -> None:
    """Fault R4: what the function closes over is part of what decides a picture."""
    first = jaxviz.load_model("net.py:model").forward_sha256("left", (48, 48))
    (here / "beside.py").write_text("def preprocess(rgb):\n    return rgb / 255.0\n")
    for module in ("beside", "_jaxviz_model_net"):
        sys.modules.pop(module, None)
    jaxviz.loading.own_model.cache_clear()
    assert jaxviz.load_model("net.py:model").forward_sha256("left", (48, 48)) != first


def test_grey_network_gives_grey_pictures() -> None:
    kernel = np.random.default_rng(0).normal(size=(3, 3, 1, 2)).astype(np.float32)
    model = jaxviz.Model.from_callable(
        lambda weights, images: {"conv": conv(images, weights)},
        {"kernel": kernel},
        lambda grey: grey / 255,
        channels=1,
        usual_size=32,
    )
    for preset in ("keras", "distill", "maco"):
        config = jaxviz.RenderConfig.from_preset(preset, image_size=32, crop=0, steps=2)
        pictures = jaxviz.render_layer(model, "conv", "all", config).pictures
        assert pictures.shape == (2, 32, 32, 3)
        assert (pictures == pictures[..., :1]).all(), preset

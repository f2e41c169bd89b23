"""The set of kernels of a folder: settled by the first pictures, recorded, kept, and refused where it cannot run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers_cli import QUICK, RENDER_TINY, TINY, contents, folder_of, install_tiny_model, run
from other_kernels import OTHER, REASON, lose_other_kernels, take_other_kernels

from jaxviz import RenderConfig
from jaxviz.errors import OutputFolderError
from jaxviz.jobs.atlas import run_tasks
from jaxviz.jobs.events import Event, LayerDone, LayerStarted
from jaxviz.jobs.job_file import read_job
from jaxviz.jobs.task import LayerTask, RenderRequest
from jaxviz.network.rules import kernels
from jaxviz.render.plan import device_name
from jaxviz.render.shard import Shard
from jaxviz.store.provenance import Saved, read_saved

pytestmark = pytest.mark.quick

FIRST = (*RENDER_TINY, "--filters", "0-1")
MORE = (*RENDER_TINY, "--filters", "0-3")
DRY = ("atlas", TINY, *QUICK, "--layers", "first_conv", "--dry-run")


def recorded(out: Path, layer: str = "first_conv", label: str = "keras") -> set[str]:
    """The sets that the pictures of a folder name."""
    found = [read_saved(file) for file in folder_of(out, layer, label).glob("0*.png")]
    return {one.recipe.kernels if isinstance(one, Saved) else one for one in found}


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sets that are computed with, on a machine that takes OTHER."""
    install_tiny_model(monkeypatch)
    return take_other_kernels(monkeypatch)


@pytest.fixture
def out(used: list[str], tmp_path: Path) -> Path:
    """A folder with pictures of OTHER."""
    assert run(*FIRST, "--out", tmp_path).code == 0
    return tmp_path


@pytest.fixture
def elsewhere(out: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, on a machine that does not have OTHER."""
    lose_other_kernels(monkeypatch)
    return out


@pytest.mark.parametrize(("options", "name"), [((), OTHER), (("--kernels", "lax"), "lax")], ids=["auto", "lax"])
def test_recipe_names_the_set_that_computed(used, tmp_path, options, name):
    assert run(*FIRST, *options, "--out", tmp_path).code == 0
    assert set(used) == {name}
    assert recorded(tmp_path) == {name}
    assert json.loads((folder_of(tmp_path) / "layer.json").read_text())["recipe"]["kernels"] == name


def test_job_file_has_the_option(tmp_path):
    (tmp_path / "job.toml").write_text(f'[defaults]\nkernels = "lax"\n[[atlas]]\nmodel = "{TINY}"\n')
    with pytest.MonkeyPatch.context() as patch:
        install_tiny_model(patch)
        assert read_job(tmp_path / "job.toml").atlases[0].request.config.kernels == "lax"


def test_other_name_is_refused_with_what_is_allowed(used, tmp_path):
    ran = run(*FIRST, "--kernels", OTHER, "--out", tmp_path / "out")
    assert (ran.code, (tmp_path / "out").exists()) == (2, False)
    assert f"(--kernels) '{OTHER}'" in ran.err
    assert "auto, lax" in ran.err


# Going on


def test_going_on_keeps_the_set_of_the_folder(used, tmp_path):
    assert run(*FIRST, "--kernels", "lax", "--out", tmp_path).code == 0
    assert run(*MORE, "--out", tmp_path).code == 0
    assert set(used) == recorded(tmp_path) == {"lax"}


def test_set_that_cannot_run_here_is_refused_before_anything_is_rendered(elsewhere):
    before = contents(elsewhere)
    ran = run(*MORE, "--out", elsewhere)
    assert (ran.code, contents(elsewhere)) == (2, before)
    assert ran.err.startswith(f"error: folder {folder_of(elsewhere)} ")
    for part in (f"'{OTHER}'", REASON, "--name LABEL", "--overwrite", "--kernels lax"):
        assert part in ran.err


def test_refusal_names_the_machine_of_the_folder_and_this_one(elsewhere):
    file = folder_of(elsewhere) / "layer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"device": "cpu: of the lab"}))
    ran = run(*MORE, "--out", elsewhere)
    assert "cpu: of the lab" in ran.err
    assert device_name() in ran.err
    file.unlink()
    assert "a machine that the folder does not name" in run(*MORE, "--out", elsewhere).err


def test_layer_that_cannot_go_on_is_found_before_the_layers_ahead_of_it(elsewhere):
    before = contents(elsewhere)
    ran = run("atlas", TINY, *QUICK, "--out", elsewhere, "--layers", "odd_conv", "--layers", "first_conv")
    assert (ran.code, contents(elsewhere)) == (2, before)


def test_folder_that_lacks_nothing_is_fine_without_its_set(elsewhere):
    before = contents(elsewhere)
    assert run(*FIRST, "--out", elsewhere).code == 0
    assert contents(elsewhere) == before


@pytest.mark.parametrize("options", [("--overwrite",), ("--name", "new"), ("--kernels", "lax", "--name", "new")])
def test_what_the_refusal_suggests_works(elsewhere, options):
    assert run(*MORE, "--out", elsewhere, *options).code == 0
    assert recorded(elsewhere, label="new" if "--name" in options else "keras") == {"lax"}


def test_lax_beside_another_set_is_another_recipe(out):
    before = contents(out)
    ran = run(*MORE, "--kernels", "lax", "--out", out)
    assert (ran.code, contents(out)) == (2, before)
    assert f"kernels is '{OTHER}' there, 'lax' here" in ran.err


def test_dry_run_is_refused_as_the_run(elsewhere):
    ran = run(*DRY, "--out", elsewhere)
    assert (ran.code, REASON in ran.err) == (2, True)


def test_dry_run_measures_the_set_of_the_folder(used, out):
    used.clear()
    assert run(*DRY, "--out", out).code == 0
    assert set(used) == {OTHER}


# Shards on machines of different kinds


def shard_task(out: Path, layer: str = "first_conv") -> LayerTask:
    config = RenderConfig.keras(image_size=64, crop=7, steps=2, batch_size=2)
    return LayerTask(RenderRequest(TINY, config, out=out), layer, "all")


def quiet(_: Event) -> None:
    """Tells nobody."""


def test_shard_takes_the_set_of_the_one_that_began(used, tmp_path, monkeypatch):
    run_tasks([shard_task(tmp_path)], quiet, shard=Shard(1, 2))
    monkeypatch.setattr(kernels, "automatic", lambda _: "lax")
    run_tasks([shard_task(tmp_path)], quiet, shard=Shard(2, 2))
    assert recorded(tmp_path) == {OTHER}


def test_shards_that_began_with_two_sets_at_once_are_told(used, tmp_path, monkeypatch):
    """Each had planned before the other wrote anything."""
    run_tasks([shard_task(tmp_path / "b")], quiet, shard=Shard(2, 2))
    lose_other_kernels(monkeypatch)

    def report(event: Event) -> None:
        if isinstance(event, LayerStarted):
            shutil.copytree(folder_of(tmp_path / "b"), folder_of(tmp_path / "a"), dirs_exist_ok=True)

    with pytest.raises(OutputFolderError, match=f"kernels is '{OTHER}' there, 'lax' here"):
        run_tasks([shard_task(tmp_path / "a")], report, shard=Shard(1, 2))


def test_shard_that_finds_a_set_settled_meanwhile_renders_nothing_with_it(used, tmp_path, monkeypatch):
    run_tasks([shard_task(tmp_path / "b", "odd_conv")], quiet, shard=Shard(1, 2))
    lose_other_kernels(monkeypatch)
    used.clear()

    def report(event: Event) -> None:
        if isinstance(event, LayerDone):
            there, here = (folder_of(tmp_path / out, "odd_conv") for out in "ba")
            shutil.copytree(there, here, dirs_exist_ok=True)

    tasks = [shard_task(tmp_path / "a"), shard_task(tmp_path / "a", "odd_conv")]
    with pytest.raises(OutputFolderError, match=REASON):
        run_tasks(tasks, report, shard=Shard(1, 2))
    assert set(used) == {"lax"}

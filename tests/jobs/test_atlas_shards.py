"""Several processes share one folder, and `jaxviz merge` for what they leave."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers_atlas import ATLAS, Running, lasting
from helpers_cli import TINY, contents, folder_of, install_tiny_model, left_overs, run

from jaxviz import RenderConfig
from jaxviz.errors import OutputFolderError
from jaxviz.jobs.atlas import run_tasks
from jaxviz.jobs.events import Event, Written
from jaxviz.jobs.task import LayerTask, RenderRequest
from jaxviz.render.shard import Shard
from jaxviz.store.locks import FolderLock

SHARED = ("--batch-size", "2", "--steps", "3")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model `tiny` can be rendered."""
    install_tiny_model(monkeypatch)


def shard(out: Path, part: str) -> dict[str, Any]:
    ran = run(*ATLAS, *SHARED, "--out", out, "--shard", part, "--json")
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def test_three_shards_at_once_leave_the_folder_of_one_run(tmp_path: Path) -> None:
    whole = Running(*ATLAS, *SHARED, "--out", "whole", cwd=tmp_path)
    assert whole.finish() == 0
    shards = [Running(*ATLAS, *SHARED, "--out", "shared", "--shard", f"{index}/3", cwd=tmp_path) for index in (1, 2, 3)]
    assert [one.finish() for one in shards] == [0, 0, 0]
    assert lasting(tmp_path / "shared") == lasting(tmp_path / "whole")
    assert left_overs(tmp_path / "shared") == []
    rendered = Counter(picture for one in shards for picture in one.named("rendered"))
    assert rendered == Counter(whole.named("rendered")), "every picture once"
    assert all(one.named("rendered") for one in shards), "every shard had work"


def test_last_shard_makes_grid_and_summary(tiny: None, tmp_path: Path) -> None:
    first = shard(tmp_path, "1/2")
    assert first["missing"] > 0
    assert not (folder_of(tmp_path, "wide_conv") / "layer.json").exists()
    assert shard(tmp_path, "2/2")["missing"] == 0
    assert (folder_of(tmp_path, "wide_conv") / "grid.png").exists()


def test_shard_that_runs_twice_renders_nothing_the_second_time(tiny: None, tmp_path: Path) -> None:
    shard(tmp_path, "1/2")
    assert shard(tmp_path, "1/2")["rendered"] == 0


def test_whole_run_completes_what_shards_left(tiny: None, tmp_path: Path) -> None:
    done = shard(tmp_path / "a", "1/2")["rendered"]
    rest = json.loads(run(*ATLAS, *SHARED, "--out", tmp_path / "a", "--json").out)
    run(*ATLAS, *SHARED, "--out", tmp_path / "b")
    assert (rest["rendered"], rest["missing"]) == (116 - done, 0)
    assert lasting(tmp_path / "a") == lasting(tmp_path / "b")


def test_run_in_a_folder_in_use_is_told_at_once_and_changes_nothing(tiny: None, tmp_path: Path) -> None:
    with FolderLock.acquire(folder_of(tmp_path, "wide_conv")):
        before = contents(tmp_path)
        ran = run(*ATLAS[:-2], "--out", tmp_path)
        assert (ran.code, contents(tmp_path)) == (1, before)
    assert "wide_conv" in ran.err
    assert "--shard" in ran.err


def test_same_shard_twice_at_once_is_told(tiny: None, tmp_path: Path) -> None:
    with FolderLock.acquire(folder_of(tmp_path), Shard(1, 2)):
        assert run(*ATLAS, *SHARED, "--out", tmp_path, "--shard", "1/2").code == 1
        shard(tmp_path, "2/2")


def test_pictures_of_another_recipe_that_appear_meanwhile_are_an_error(tiny: None, tmp_path: Path) -> None:
    """Such as another shard's that chose another batch size: both would deal out other filters."""
    other = json.loads(run(*ATLAS, "--batch-size", "4", "--steps", "3", "--out", tmp_path / "b", "--json").out)
    assert other["missing"] == 0
    strange = (folder_of(tmp_path / "b") / "0007.png").read_bytes()

    def report(event: Event) -> None:
        if isinstance(event, Written) and event.layer == "first_conv":
            (folder_of(tmp_path / "a") / "0007.png").write_bytes(strange)

    config = RenderConfig.keras(image_size=64, crop=7, steps=3, batch_size=2)
    task = LayerTask(RenderRequest(TINY, config, out=tmp_path / "a"), "first_conv", "all")
    with pytest.raises(OutputFolderError, match="batch_size is 4 there, 2 here"):
        run_tasks([task], report, shard=Shard(1, 2))


# jaxviz merge


def test_merge_makes_grids_and_summaries_of_what_is_there(tiny: None, tmp_path: Path) -> None:
    shard(tmp_path / "a", "1/2")
    shard(tmp_path / "a", "2/2")
    run(*ATLAS, *SHARED, "--out", tmp_path / "b")
    for name in ("grid.png", "layer.json"):
        (folder_of(tmp_path / "a", "wide_conv") / name).unlink()
    assert run("merge", tmp_path / "a").code == 0
    merged, whole = lasting(tmp_path / "a"), lasting(tmp_path / "b")
    record = f"{TINY}/wide_conv/keras/layer.json"
    for name in ("device", "network"):
        merged[record][name] = whole[record][name]  # the pictures do not tell
    assert merged == whole


def test_merge_names_the_filters_that_are_missing(tiny: None, tmp_path: Path) -> None:
    shard(tmp_path, "2/2")
    ran = run("merge", tmp_path, "--json")
    layers = {one["layer"]: one for one in json.loads(ran.out)["layers"]}
    assert layers["first_conv"]["gaps"] == [0, 1, 4, 5]
    assert "first_conv: 4 ok, 0 dead, 0 nan; without filters 0, 1, 4, 5" in run("merge", tmp_path).out


def test_merge_changes_nothing_in_a_finished_folder(tiny: None, tmp_path: Path) -> None:
    run(*ATLAS, *SHARED, "--out", tmp_path, "--numbers")
    before = contents(tmp_path)
    assert run("merge", tmp_path).code == 0
    assert contents(tmp_path) == before


def test_merge_leaves_a_gallery_alone(tiny: None, tmp_path: Path) -> None:
    run(*ATLAS, *SHARED, "--out", tmp_path)
    copied = tmp_path / "gallery" / "copy"
    copied.mkdir(parents=True)
    (tmp_path / "gallery" / "gallery.json").write_text("{}")
    (copied / "0000.png").write_bytes((folder_of(tmp_path) / "0000.png").read_bytes())
    assert len(json.loads(run("merge", tmp_path, "--json").out)["layers"]) == 3
    assert [file.name for file in copied.iterdir()] == ["0000.png"]


def test_merge_leaves_pictures_of_others_alone(tiny: None, tmp_path: Path) -> None:
    run(*ATLAS, *SHARED, "--out", tmp_path)
    (tmp_path / "frames" / "0002.png").mkdir(parents=True)
    (tmp_path / "frames" / "0001.png").write_bytes(b"no picture of ours")
    assert len(json.loads(run("merge", tmp_path, "--json").out)["layers"]) == 3


def test_merge_in_the_layers_own_folder_knows_its_label(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*ATLAS, *SHARED, "--out", tmp_path)
    monkeypatch.chdir(folder_of(tmp_path))
    before = contents(tmp_path)
    assert run("merge", ".").code == 0
    assert contents(tmp_path) == before


def test_merge_waits_for_nobody(tiny: None, tmp_path: Path) -> None:
    shard(tmp_path, "1/2")
    with FolderLock.acquire(folder_of(tmp_path), Shard(2, 2)):
        ran = run("merge", tmp_path)
    assert (ran.code, "in use" in ran.err) == (1, True)


def test_merge_of_nothing_says_what_to_type(tmp_path: Path) -> None:
    ran = run("merge", tmp_path / "nothing")
    assert (ran.code, "jaxviz render MODEL LAYER" in ran.err) == (2, True)

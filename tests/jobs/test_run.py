"""`jaxviz run` renders what the file says, and goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers_cli import DEAD_FILTER, TINY, contents, install_tiny_model, run

JOB = f"""
out = "pictures"
[defaults]
size = 64
crop = 7
steps = 2
filters = "0-2"
[[atlas]]
model = "{TINY}"
layers = ["*_conv"]
exclude = ["odd*"]
[[atlas.layer]]
glob = "wide*"
filters = [99]
[[atlas]]
model = "{TINY}"
layers = ["first_conv"]
label = "other"
seed = 5
format = "webp"
"""
FILES = {
    "first_conv/keras/0000.png", "first_conv/keras/0001.png", "first_conv/keras/0002.png", "wide_conv/keras/0099.png",
    "first_conv/other/0000.webp", "first_conv/other/0001.webp", "first_conv/other/0002.webp",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_tiny_model(monkeypatch)
    monkeypatch.chdir(tmp_path)
    Path("job.toml").write_text(JOB)


def pictures(out: str = "pictures") -> dict[str, bytes]:
    found = {name.removeprefix(f"{TINY}/"): data for name, data in contents(Path(out)).items()}
    return {name: data for name, data in found.items() if Path(name).name[0].isdigit()}


def test_run_renders_what_the_file_says() -> None:
    ran = run("run", "job.toml", "--progress", "none")
    assert ran.code == 0, ran.err
    assert pictures().keys() == FILES
    assert "7" in ran.out


def test_second_run_renders_nothing_and_overwrite_all() -> None:
    run("run", "job.toml", "--progress", "none")
    before = pictures()
    again = json.loads(run("run", "job.toml", "--progress", "none", "--json").out)
    assert sum(layer["rendered"] for layer in again["layers"]) == 0
    anew = json.loads(run("run", "job.toml", "--progress", "none", "--json", "--overwrite").out)
    assert sum(layer["rendered"] for layer in anew["layers"]) == len(FILES)
    assert pictures() == before


def test_set_changes_where_pictures_go() -> None:
    assert run("run", "job.toml", "--progress", "none", "--set", "out=there", "--set", "atlas.1.label=x").code == 0
    assert {name.replace("/x/", "/other/") for name in pictures("there")} == FILES
    assert not Path("pictures").exists()


def test_shards_together_make_the_same_pictures() -> None:
    run("run", "job.toml", "--progress", "none")
    for part in ("1/2", "2/2"):
        assert run("run", "job.toml", "--progress", "none", "--set", "out=parts", "--shard", part).code == 0
    assert pictures("parts") == pictures()


def test_strict_is_1_where_a_filter_is_dead() -> None:
    arguments = ["--set", 'atlas.1.layers=["odd_conv"]', "--set", f"atlas.1.filters={DEAD_FILTER}"]
    assert run("run", "job.toml", "--progress", "none", *arguments, "--strict").code == 1


def test_error_in_the_last_table_renders_nothing() -> None:
    ran = run("run", "job.toml", "--progress", "jsonl", "--set", "atlas.1.filters=[8]")
    assert ran.code == 2
    assert "atlas.1 (label 'other'): filters 8 is out of range" in json.loads(ran.err)["message"]
    assert not Path("pictures").exists()

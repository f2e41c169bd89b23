"""A disk that fills up, really, or fails in the middle of an atlas: nothing is lost, and it goes on.

Failures injected into the one writer are in test_files.py; damaged and foreign pictures in test_storage_foreign.py.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers_atlas import ATLAS, Running, lasting
from helpers_cli import TINY, contents, folder_of, install_tiny_model, left_overs, run

from jaxviz.store import folder as storage
from jaxviz.store.provenance import Saved, read_saved

SMALL_DISK = "300k"  # a fifth of what the atlas takes
FASTER = ("--steps", "3")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model `tiny` can be rendered."""
    install_tiny_model(monkeypatch)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, as large as `SMALL_DISK`."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = mount("-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(path))
    if mounted.returncode:
        pytest.skip(f"mounting a small disk needs rights that are missing: {mounted.stderr}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def mount(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)


def errors(run: Running) -> list[str]:
    return [event["message"] for event in run.events if event["event"] == "end" and event["exit_code"]]


def whole_pictures(folder: Path) -> int:
    files = [file for file in folder.rglob("*.png") if file.name != "grid.png"]
    assert all(isinstance(read_saved(file), Saved) for file in files)
    return len(files)


@pytest.mark.long
def test_full_disk_is_told_once_and_the_same_command_goes_on(tmp_path: Path, disk: Path) -> None:
    stopped = Running(*ATLAS, *FASTER, "--out", "disk/out", cwd=tmp_path)
    assert stopped.finish() == 1
    (message,) = errors(stopped)
    assert os.strerror(errno.ENOSPC) in message
    assert left_overs(disk) == []
    assert 0 < whole_pictures(disk) < 116
    assert mount("-o", "remount,size=10m", str(disk)).returncode == 0
    resumed = Running(*ATLAS, *FASTER, "--out", "disk/out", cwd=tmp_path)
    assert resumed.finish() == 0
    assert set(stopped.named("written")).isdisjoint(resumed.named("rendered"))
    assert Running(*ATLAS, *FASTER, "--out", "whole", cwd=tmp_path).finish() == 0
    assert lasting(disk / "out") == lasting(tmp_path / "whole")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS], ids=["ENOSPC", "EROFS"])
def test_disk_that_fails_in_the_middle_is_told_once_and_the_same_command_goes_on(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A disk in use cannot be turned read-only from outside, so here the failure is injected."""
    left = [True] * 30
    make = tempfile.mkstemp

    def fail_later(*arguments: Any, **options: Any) -> Any:
        try:
            left.pop()  # of a list: several threads write
        except IndexError:
            raise OSError(code, os.strerror(code)) from None
        return make(*arguments, **options)

    with monkeypatch.context() as broken:
        broken.setattr(tempfile, "mkstemp", fail_later)
        stopped = run(*ATLAS, *FASTER, "--out", tmp_path / "a")
    (message,) = [line for line in stopped.err.splitlines() if '"event": "end"' in line]
    assert (stopped.code, os.strerror(code) in message) == (1, True)
    assert left_overs(tmp_path) == []
    there = whole_pictures(tmp_path / "a")
    resumed = json.loads(run(*ATLAS, *FASTER, "--out", tmp_path / "a", "--json").out)
    assert resumed["rendered"] == 116 - there
    run(*ATLAS, *FASTER, "--out", tmp_path / "b")
    assert lasting(tmp_path / "a") == lasting(tmp_path / "b")


def test_layer_json_of_another_version_is_replaced(tiny: None, tmp_path: Path) -> None:
    run(*ATLAS, *FASTER, "--out", tmp_path)
    whole = lasting(tmp_path)
    file = folder_of(tmp_path) / "layer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema": 99, "filters": "unknown"}))
    assert run(*ATLAS, *FASTER, "--out", tmp_path).code == 0
    assert lasting(tmp_path) == whole


@pytest.mark.parametrize("name", ["grid.png", "layer.json"])
def test_lost_summary_is_made_again(tiny: None, tmp_path: Path, name: str) -> None:
    run(*ATLAS, *FASTER, "--out", tmp_path)
    whole = lasting(tmp_path)
    (folder_of(tmp_path) / name).unlink()
    assert run(*ATLAS, *FASTER, "--out", tmp_path).code == 0
    assert lasting(tmp_path) == whole


def test_failure_while_a_grid_is_written_loses_no_picture(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = storage.write_atomically

    def no_grid(path: Path, content: bytes) -> None:
        if path.name == "grid.png":
            raise storage.StorageError(f"cannot write {path}")
        write(path, content)

    with monkeypatch.context() as broken:
        broken.setattr(storage, "write_atomically", no_grid)
        assert run(*ATLAS, *FASTER, "--out", tmp_path / "a").code == 1
    before = contents(tmp_path / "a")
    assert f"{TINY}/first_conv/keras/0007.png" in before
    assert run(*ATLAS, *FASTER, "--out", tmp_path / "a").code == 0
    run(*ATLAS, *FASTER, "--out", tmp_path / "b")
    assert lasting(tmp_path / "a") == lasting(tmp_path / "b")


def test_picture_of_another_origin_stops_before_anything_is_rendered(tiny: None, tmp_path: Path) -> None:
    run(*ATLAS, *FASTER, "--out", tmp_path, "--layers", "wide_conv", "--filters", "0-3")
    folder = folder_of(tmp_path, "wide_conv")
    (folder / "0050.png").write_bytes((folder / "0001.png").read_bytes())
    before = contents(tmp_path)
    ran = run(*ATLAS, *FASTER, "--out", tmp_path, "--layers", "wide_conv")
    assert (ran.code, contents(tmp_path)) == (2, before)
    assert "0050.png: it is 0001.png" in ran.err

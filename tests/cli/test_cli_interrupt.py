"""Ctrl-C: whole files, the exit code 130, and how to go on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers_cli import (
    LITE,
    RENDER_TINY,
    contents,
    environment,
    folder_of,
    install_tiny_model,
    left_overs,
    pngs,
    run,
    run_process,
)

from jaxviz.jobs import atlas
from jaxviz.pictures import images
from jaxviz.store.provenance import Saved, read_saved


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model `tiny` can be rendered."""
    install_tiny_model(monkeypatch)


# Ctrl-C


@pytest.fixture
def interrupted_after(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function: Ctrl-C arrives after so many pictures."""
    whole = atlas.iter_pictures
    with monkeypatch.context() as patch:

        def install(count: int) -> None:
            def some(plan: Any, **options: Any) -> Iterator[Any]:
                for done, picture in enumerate(whole(plan, **options)):
                    if done == count:
                        raise KeyboardInterrupt
                    yield picture

            patch.setattr(atlas, "iter_pictures", some)

        yield install


def test_interrupt_exits_with_130(tiny: None, tmp_path: Path, interrupted_after: Any) -> None:
    interrupted_after(3)
    ran = run(*RENDER_TINY, "--out", tmp_path)
    assert (ran.code, ran.out) == (130, "")


def test_interrupt_says_how_to_go_on(tiny: None, tmp_path: Path, interrupted_after: Any) -> None:
    interrupted_after(3)
    message = run(*RENDER_TINY, "--out", tmp_path).err.splitlines()[-1]
    assert "3 of 8" in message
    assert "same command" in message


def test_interrupt_leaves_a_folder_that_describes_itself(tiny: None, tmp_path: Path, interrupted_after: Any) -> None:
    interrupted_after(3)
    run(*RENDER_TINY, "--out", tmp_path)
    record = json.loads((folder_of(tmp_path) / "layer.json").read_text())
    assert [entry["filter_index"] for entry in record["filters"]] == [0, 1, 2]
    assert sorted(contents(folder_of(tmp_path))) == ["0000.png", "0001.png", "0002.png", "grid.png", "layer.json"]


def test_interrupted_run_is_completed_by_the_same_command(tiny: None, tmp_path: Path, interrupted_after: Any) -> None:
    run(*RENDER_TINY, "--out", tmp_path / "at once")
    interrupted_after(3)
    run(*RENDER_TINY, "--out", tmp_path / "in two")
    interrupted_after(10**6)
    assert json.loads(run(*RENDER_TINY, "--out", tmp_path / "in two", "--json").out)["rendered"] == 5
    assert pngs(tmp_path / "in two") == pngs(tmp_path / "at once")


def test_interrupted_overwrite_before_the_first_picture_changes_nothing(
    tiny: None, tmp_path: Path, interrupted_after: Any
) -> None:
    run(*RENDER_TINY, "--out", tmp_path)
    before = contents(tmp_path)
    interrupted_after(0)
    assert run(*RENDER_TINY, "--seed", "5", "--out", tmp_path, "--overwrite").code == 130
    assert contents(tmp_path) == before


def test_interrupted_overwrite_before_the_first_picture_says_to_repeat_the_whole_command(
    tiny: None, tmp_path: Path, interrupted_after: Any
) -> None:
    """Without --overwrite the old recipe's folder would be refused."""
    run(*RENDER_TINY, "--out", tmp_path)
    interrupted_after(0)
    message = run(*RENDER_TINY, "--seed", "5", "--out", tmp_path, "--overwrite").err.splitlines()[-1]
    assert "same command" in message
    assert "without --overwrite" not in message


def test_interrupt_while_the_grid_is_made_says_what_is_there(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = images.grid
    calls: list[int] = []

    def interrupt_once(*arguments: Any, **options: Any) -> Any:
        calls.append(len(calls))
        if len(calls) == 1:
            raise KeyboardInterrupt
        return grid(*arguments, **options)

    monkeypatch.setattr(images, "grid", interrupt_once)
    ran = run(*RENDER_TINY, "--out", tmp_path)
    assert (ran.code, "8 of 8" in ran.err) == (130, True)


def test_interrupt_before_the_first_picture_exits_with_130(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(atlas, "check_tasks", interrupt)
    ran = run(*RENDER_TINY, "--out", tmp_path / "out")
    assert (ran.code, ran.out, (tmp_path / "out").exists()) == (130, "", False)


def test_interrupt_that_meets_a_callback_is_not_lost(tmp_path: Path) -> None:
    """As jax's callback of the garbage collector would swallow it."""
    code = """
import gc, signal, time
from jaxviz.cli.terminal import keep_interrupts, reported_errors
keep_interrupts()
sent = []
def callback(phase, info):
    if not sent:
        sent.append(phase)
        signal.raise_signal(signal.SIGINT)
gc.callbacks.append(callback)
with reported_errors("stopped"):
    gc.collect()
    time.sleep(100)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=90
    )
    assert "stopped" in ran.stderr
    assert "Exception ignored" not in ran.stderr


def test_sigint_leaves_whole_pictures_that_the_same_command_completes(tmp_path: Path) -> None:
    command = ["render", *LITE, "--size", "64", "--crop", "7", "--steps", "60", "--batch-size", "1", "--out", "out"]
    folder = tmp_path / "out" / LITE[0] / LITE[1] / "keras"
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxviz", *command, "--filters", "0-31"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    give_up = time.monotonic() + 60
    while not (folder / "0000.png").exists() and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    there = [int(name[:4]) for name in contents(folder) if name[0].isdigit()]
    assert (process.returncode, out, "Traceback" in err, left_overs(tmp_path)) == (130, "", False, []), err
    assert "same command" in err.splitlines()[-1]
    assert 1 <= len(there) < 32
    assert all(isinstance(read_saved(folder / f"{index:04d}.png"), Saved) for index in there)

    wanted = [*range(max(there) + 1), max(there) + 1]
    ran = run_process(*command, "--filters", f"0-{wanted[-1]}", "--json", cwd=tmp_path)
    answer = json.loads(ran.out)
    assert (ran.code, answer["already_there"], answer["rendered"]) == (0, len(there), len(wanted) - len(there))

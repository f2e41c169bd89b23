"""An atlas of a network of keras.applications from its cache, killed and resumed, and a job on a fine-tuned file."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from helpers_atlas import Running, lasting
from helpers_cli import left_overs, run_process
from test_keras_door import child

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="keras is not installed"),
]
SMALL = ("--size", "48", "--crop", "4", "--steps", "3", "--filters", "0-5", "--batch-size", "2")
ATLAS = ("atlas", "keras:MobileNetV2", "--layers", "block_1_expand", "--layers", "block_2_project", *SMALL)


def test_atlas_of_an_application_is_resumed_to_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child(tmp_path, "applications")  # puts weights that Keras wrote into its cache
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    whole = run_process(*ATLAS, "--out", "whole", cwd=tmp_path)
    assert whole.code == 0, whole.err
    killed = Running(*ATLAS, "--progress", "jsonl", "--out", "killed", cwd=tmp_path, cache=tmp_path / "cache")
    for event in killed.listen():
        if event["event"] == "rendered":
            break
    killed.kill()
    assert any(event["event"] == "rendered" for event in killed.events)
    resumed = run_process(*ATLAS, "--out", "killed", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    assert lasting(tmp_path / "killed") == lasting(tmp_path / "whole")
    assert left_overs(tmp_path / "killed") == []


def test_fine_tuned_file_is_listed_rendered_and_shown(tmp_path: Path) -> None:
    child(tmp_path, "files")
    listed = run_process("layers", "net.keras", "--json", cwd=tmp_path)
    rows: list[dict[str, Any]] = json.loads(listed.out)["layers"]
    assert [row["layer"] for row in rows][:2] == ["body/stem", "body/stem_bn"]
    rendered = run_process("render", "net.keras", "body/last", *SMALL, "--preset", "distill", cwd=tmp_path)
    assert rendered.code == 0, rendered.err
    assert "left out RandomFlip" in rendered.err
    shown = run_process("gallery", "out", cwd=tmp_path)
    assert shown.code == 0, shown.err
    assert "net.keras" in (tmp_path / "out" / "gallery" / "index.html").read_text()

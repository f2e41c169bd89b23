"""A PyTorch network in whole jobs: a file that the command line is given as FILE.py:FUNCTION."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers_atlas import Running, lasting
from helpers_cli import left_overs, run

import jaxviz

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[torch]'")

NETWORK = """
import torch
from torch import nn

import jaxviz


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 5, 2)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(6, 4, 3, padding=1)

    def forward(self, x):
        return self.relu(self.conv(self.relu(self.stem(x))))


def model():
    torch.manual_seed(0)
    return jaxviz.Model.from_torch(Net(), preprocess=lambda rgb: rgb / 127.5 - 1)
"""
SMALL = ("--size", "32", "--crop", "0", "--steps", "3")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    jaxviz.loading.own_model.cache_clear()
    return tmp_path


def test_layers_render_and_gallery(here: Path) -> None:
    rows = json.loads(run("layers", "net.py:model", "--size", "32", "--json").out)["layers"]
    assert [(row["layer"], row["kind"], row["output_size"]) for row in rows] == [
        ("stem", "conv", "14x14"),
        ("relu", "relu", "14x14"),
        ("conv", "conv", "14x14"),
        ("relu_1", "relu", "14x14"),
    ]
    assert run("render", "net.py:model", "conv", "--filters", "0-1", *SMALL, "--out", "out").code == 0
    assert (here / "out" / "Net" / "conv" / "keras" / "grid.png").is_file()
    assert run("gallery", "out").code == 0
    assert "conv" in (here / "out" / "gallery" / "index.html").read_text()


@pytest.mark.long
def test_killed_atlas_goes_on_and_ends_as_an_uninterrupted_one(here: Path) -> None:
    command = ("atlas", "net.py:model", "--layers", "stem", "--layers", "conv", *SMALL, "--progress", "jsonl")
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

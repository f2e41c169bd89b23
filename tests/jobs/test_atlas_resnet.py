"""An atlas of a real network: three layers of ResNet50V2, all their filters, with a weights file."""

from __future__ import annotations

import json
from pathlib import Path

from helpers_cli import run
from PIL import Image

from jaxviz.models import architecture
from jaxviz.models.random_weights import random_weights
from weights_convert.safetensors_file import write_safetensors

LAYERS = {"conv1_conv": 64, "conv2_block1_1_conv": 64, "conv3_block1_1_conv": 128}


def test_three_layers_of_resnet50v2_with_all_filters(tmp_path: Path) -> None:
    metadata = {"model": "resnet50v2", "head": "false", "source": "random, seed 0"}
    arrays = random_weights(architecture("resnet50v2"))
    write_safetensors(tmp_path / "random.safetensors", arrays, metadata)
    chosen = [word for layer in LAYERS for word in ("--layers", layer)]
    ran = run(
        "atlas", "resnet50v2", *chosen, "--weights", tmp_path / "random.safetensors", "--out", tmp_path / "out",
        "--size", "64", "--crop", "7", "--steps", "3", "--batch-size", "16", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    whole = json.loads(ran.out)
    assert {layer["layer"]: layer["rendered"] for layer in whole["layers"]} == LAYERS
    assert whole["counts"]["ok"] == sum(LAYERS.values())
    for layer, filters in LAYERS.items():
        folder = tmp_path / "out" / "resnet50v2" / layer / "keras"
        assert len(list(folder.glob("[0-9]*.png"))) == filters
        columns = json.loads((folder / "layer.json").read_text())["grid"]["columns"]
        rows = -(-filters // columns)
        with Image.open(folder / "grid.png") as grid:
            assert grid.size == (columns * 55 - 5, rows * 55 - 5)

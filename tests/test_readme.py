"""The README's commands are the ones that work."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_gallery import write_layer
from PIL import Image
from typer.testing import CliRunner

import weights_convert.__main__
from jaxviz import cli

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README.read_text(), flags=re.DOTALL)
SHELL = [line for language, block in BLOCKS if language == "sh" for line in block.strip().splitlines()]


def test_main_command_leaves_a_grid_of_64(tmp_path):
    """The command as it stands there, made quick: fewer steps on a smaller image."""
    (line,) = [line for line in SHELL if "pip install ." in line]
    *_, main_job = line.split("&&")
    words = shlex.split(main_job)
    assert words[0] == ".venv/bin/jaxviz"
    quick = [sys.executable, "-m", "jaxviz", *words[1:], "--steps", "1", "--size", "64", "--crop", "7"]
    subprocess.run(quick, cwd=tmp_path, check=True, env=os.environ | {"PYTHONWARNINGS": "default"})
    folder = tmp_path / "out/efficientnet_lite0/block5_2_expand_conv/keras"
    assert len(list(folder.glob("[0-9]*.png"))) == 64
    with Image.open(folder / "grid.png") as grid:
        assert grid.size == (8 * 50 + 7 * 5, 8 * 50 + 7 * 5)


def test_test_command_is_one_self_contained_line():
    (line,) = [line for line in SHELL if "pytest" in line]
    steps = [step.strip() for step in line.split("&&")]
    assert steps == ["python -m venv .venv", ".venv/bin/pip install -e '.[dev]'", ".venv/bin/pytest"]


def test_resnet_command_is_accepted():
    (line,) = [line for line in SHELL if "resnet50v2" in line]
    words = shlex.split(line)
    from jaxviz.models import architecture

    assert words[:3] == [".venv/bin/jaxviz", "render", "resnet50v2"]
    assert words[3] in architecture("resnet50v2").layers


@pytest.mark.long
def test_bench_commands_run(tmp_path):
    """As they stand there, made small; the file is compared with itself."""
    lines = [shlex.split(line) for line in SHELL if "jaxviz bench" in line]
    assert [words[2] for words in lines] == ["--quick", "--out", "compare"]
    small = ["--model", "efficientnet_lite0", "--layers", "stem_conv", "--size", "32", "--steps", "1"]
    small += ["--repeats", "1", "--batch-size", "1"]
    for words in lines:
        names = {"A.json": "NAME.json", "B.json": "NAME.json"}
        command = [names.get(word, word) for word in words[1:]] + ([] if "compare" in words else small)
        subprocess.run([sys.executable, "-m", "jaxviz", *command], cwd=tmp_path, check=True)
    assert [file.name for file in tmp_path.iterdir()] == ["NAME.json"]


def test_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = next(block for language, block in BLOCKS if language == "python" and "load_model" in block)
    quick = source.replace("steps=30, image_size=180", "steps=1, image_size=64, crop=7, batch_size=16")
    quick = quick.replace('"head_conv", "all"', '"block2_1_expand_conv", range(2)')
    assert quick.count("range(2)") == 1
    quick = quick.replace("block5_2_expand_conv", "block2_1_expand_conv")  # compiles sooner
    exec(compile(quick, "README.md", "exec"), {})
    assert (tmp_path / "grid.png").is_file()


@pytest.mark.long
def test_objectives_example_runs(tmp_path, monkeypatch):
    """As it stands there, made small: fewer steps, two replicas, a layer nearer the input."""
    monkeypatch.chdir(tmp_path)
    source = next(block for language, block in BLOCKS if language == "python" and "jaxviz.objectives" in block)
    for there, quick in (
        ("steps=32, image_size=96", "steps=1, image_size=48"),
        ("replicas=4", "replicas=2"),
        ("block3_2_expand_conv", "block1_1_project_conv"),
    ):
        assert source.count(there) == 1
        source = source.replace(there, quick)
    start = 'import jaxviz\nmodel = jaxviz.load_model("efficientnet_lite0")\n'
    exec(compile(start + source, "README.md", "exec"), {})
    folder = tmp_path / "out/efficientnet_lite0/block1_1_project_conv/diverse"
    assert {file.name for file in folder.iterdir()} == {"0007.png", "0007_r1.png", "grid.png", "layer.json"}


@pytest.mark.long
def test_distill_command_is_accepted(tmp_path):
    """As it stands there, made small."""
    (line,) = [line for line in SHELL if "--preset distill" in line]
    words = [{"block4_2_expand_conv": "block1_1_project_conv"}.get(word, word) for word in shlex.split(line)]
    small = ["--steps", "1", "--size", "48", "--transforms", "none", "--filters", "0", "--no-judge"]
    subprocess.run([sys.executable, "-m", "jaxviz", *words[1:], *small], cwd=tmp_path, check=True)
    assert (tmp_path / "out/efficientnet_lite0/block1_1_project_conv/distill/0000.png").is_file()


def test_gallery_command_is_accepted(tmp_path):
    (line,) = [line for line in SHELL if "jaxviz gallery" in line]
    words = shlex.split(line)
    write_layer(tmp_path / words[2], 2)
    subprocess.run([sys.executable, "-m", "jaxviz", *words[1:]], cwd=tmp_path, check=True)
    assert (tmp_path / "out/gallery/index.html").is_file()


def test_pictures_that_are_shown_are_there():
    shown = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README.read_text())
    assert shown
    for path in shown:
        with Image.open(README.parent / path) as image:
            image.verify()


@pytest.mark.parametrize("command", re.findall(r"^(?:jaxviz|python -m weights_convert) \w+", README.read_text(), re.M))
def test_listed_command_exists(command):
    *program, name = shlex.split(command)
    app = cli.app if program == ["jaxviz"] else weights_convert.__main__.app
    done = CliRunner().invoke(app, [name, "--help"])
    assert (done.exit_code, "Usage" in done.stdout) == (0, True)

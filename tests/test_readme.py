"""What the README and the pages in docs show is what works: commands and examples are run, links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from helpers_cli import run, run_process
from helpers_gallery import write_layer
from PIL import Image
from typer.testing import CliRunner

import jaxviz
import weights_convert.__main__
from jaxviz import RenderConfig, cli
from jaxviz.loading import load_model

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md"]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text() for page in PAGES}
LARGEST_README = 9_000  # bytes: five minutes of reading
BLOCKS = [
    (page, language, block)
    for page, text in TEXTS.items()
    for language, block in re.findall(r"```(\w+)\n(.*?)```", text, flags=re.DOTALL)
]
SHELL = [(page, line) for page, language, block in BLOCKS if language == "sh" for line in block.strip().splitlines()]
LISTED = [
    (page, command)
    for page, text in TEXTS.items()
    for command in re.findall(r"^(?:jaxviz|python -m weights_convert) \w+", text, re.M)
]
NETWORKS = [  # files that a page tells its reader to write
    (page, block.partition("\n")[0].removeprefix("# "), block)
    for page, language, block in BLOCKS
    if language == "python" and re.match(r"# \w+\.py\n", block)
]


def shell(part: str, page: str | None = None) -> str:
    """The one line of a shell block that has this part."""
    (line,) = {line for where, line in SHELL if part in line and page in (None, where)}
    return line


def example(part: str) -> str:
    """The one Python example that has this part."""
    (source,) = [block for _, language, block in BLOCKS if language == "python" and part in block]
    return source


# The pages hang together


def test_readme_is_one_page():
    assert len(README.read_bytes()) < LARGEST_README


@pytest.mark.quick
@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere_from(page):
    links = re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]) + re.findall(r'(?:src|href)="([^"]+)"', TEXTS[page])
    for link in links:
        place, _, heading = link.partition("#")
        if re.match(r"https?:", link):
            continue
        target = ((ROOT / page).parent / place).resolve() if place else ROOT / page
        assert target.exists(), f"{page} links to {link}"
        if heading:
            assert heading in headings(target), f"{page} links to {link}, which has no such heading"


def headings(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.quick
@pytest.mark.parametrize(
    "page", [path.name for path in sorted((ROOT / "docs").glob("*")) if path.suffix not in ("", ".py")]
)
def test_is_shown_or_linked_somewhere(page):
    others = [text for name, text in TEXTS.items() if name != f"docs/{page}"]
    assert any(re.search(rf"[(\"/]{re.escape(page)}[)#\"]", text) for text in others)


def test_pictures_that_are_shown_are_there():
    shown = {
        (ROOT / page).parent / path
        for page, text in TEXTS.items()
        for path in re.findall(r'<img src="([^"]+)"', text)
        if not path.endswith(".svg")
    }
    assert len(shown) >= 4
    for path in shown:
        with Image.open(path) as image:
            image.verify()


# Commands


def test_main_command_leaves_a_grid_of_64(tmp_path):
    """The command as it stands there, made quick: fewer steps on a smaller image."""
    *_, main_job = shell("pip install .").split("&&")
    words = shlex.split(main_job)
    assert words[0] == ".venv/bin/jaxviz"
    quick = [sys.executable, "-m", "jaxviz", *words[1:], "--steps", "1", "--size", "64", "--crop", "7"]
    subprocess.run(quick, cwd=tmp_path, check=True, env=os.environ | {"PYTHONWARNINGS": "default"})
    folder = tmp_path / "out/efficientnet_lite0/block5_2_expand_conv/keras"
    assert f"`{folder.relative_to(tmp_path)}`" in README.read_text()
    assert len(list(folder.glob("[0-9]*.png"))) == 64
    with Image.open(folder / "grid.png") as grid:
        assert grid.size == (8 * 50 + 7 * 5, 8 * 50 + 7 * 5)


def test_test_command_is_one_self_contained_line():
    steps = [step.strip() for step in shell("pytest", "README.md").split("&&")]
    assert steps == ["python -m venv .venv", ".venv/bin/pip install -e '.[dev]'", ".venv/bin/pytest"]
    (line,) = [line for line in README.read_text().splitlines() if ".venv/bin/pytest" in line and "pip install" in line]
    assert line == shell("pytest", "README.md"), ".ci/run takes it from there"


def test_resnet_command_is_accepted():
    words = shlex.split(shell("resnet50v2"))
    from jaxviz.models import architecture

    assert words[:3] == [".venv/bin/jaxviz", "render", "resnet50v2"]
    assert words[3] in architecture("resnet50v2").layers


@pytest.mark.long
def test_bench_commands_run(tmp_path):
    """As they stand there, made small; the file is compared with itself."""
    lines = [shlex.split(line) for _, line in SHELL if "jaxviz bench" in line]
    assert [words[2] for words in lines] == ["--quick", "--out", "compare"]
    small = ["--model", "efficientnet_lite0", "--layers", "stem_conv", "--size", "32", "--steps", "1"]
    small += ["--repeats", "1", "--batch-size", "1"]
    for words in lines:
        names = {"A.json": "NAME.json", "B.json": "NAME.json"}
        command = [names.get(word, word) for word in words[1:]] + ([] if "compare" in words else small)
        subprocess.run([sys.executable, "-m", "jaxviz", *command], cwd=tmp_path, check=True)
    assert [file.name for file in tmp_path.iterdir()] == ["NAME.json"]


@pytest.mark.long
def test_distill_command_is_accepted(tmp_path):
    """As it stands there, made small."""
    line = shell("--preset distill", "docs/pictures.md")
    words = [{"block4_2_expand_conv": "block1_1_project_conv"}.get(word, word) for word in shlex.split(line)]
    small = ["--steps", "1", "--size", "48", "--transforms", "none", "--filters", "0", "--no-judge"]
    subprocess.run([sys.executable, "-m", "jaxviz", *words[1:], *small], cwd=tmp_path, check=True)
    assert (tmp_path / "out/efficientnet_lite0/block1_1_project_conv/distill/0000.png").is_file()


def test_gallery_command_is_accepted(tmp_path):
    words = shlex.split(shell("jaxviz gallery"))
    write_layer(tmp_path / words[2], 2)
    subprocess.run([sys.executable, "-m", "jaxviz", *words[1:]], cwd=tmp_path, check=True)
    assert (tmp_path / "out/gallery/index.html").is_file()


@pytest.mark.parametrize(("page", "command"), LISTED)
def test_listed_command_exists(page, command):
    *program, name = shlex.split(command)
    app = cli.app if program == ["jaxviz"] else weights_convert.__main__.app
    done = CliRunner().invoke(app, [name, "--help"])
    assert (done.exit_code, "Usage" in done.stdout) == (0, True)


def test_every_command_is_listed_in_the_readme():
    listed = {command.removeprefix("jaxviz ") for page, command in LISTED if page == "README.md"}
    assert listed == set(typer.main.get_command(cli.app).commands)


# Examples in Python


def test_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quick = example("iter_render").replace("steps=30, image_size=180", "steps=1, image_size=64, crop=7, batch_size=16")
    quick = quick.replace('"head_conv", "all"', '"block2_1_expand_conv", range(2)')
    assert quick.count("range(2)") == 1
    quick = quick.replace("block5_2_expand_conv", "block2_1_expand_conv")  # compiles sooner
    exec(compile(quick, "README.md", "exec"), {})
    assert (tmp_path / "grid.png").is_file()


@pytest.mark.long
def test_objectives_example_runs(tmp_path, monkeypatch):
    """As it stands there, made small: fewer steps, two replicas, a layer nearer the input."""
    monkeypatch.chdir(tmp_path)
    source = example("jaxviz.ascent.objectives")
    for there, quick in (
        ("steps=32, image_size=96", "steps=1, image_size=48"),
        ("replicas=4", "replicas=2"),
        ("block3_2_expand_conv", "block1_1_project_conv"),
    ):
        assert source.count(there) == 1
        source = source.replace(there, quick)
    start = 'import jaxviz\nmodel = jaxviz.load_model("efficientnet_lite0")\n'
    exec(compile(start + source, "pictures.md", "exec"), {})
    folder = tmp_path / "out/efficientnet_lite0/block1_1_project_conv/diverse"
    assert {file.name for file in folder.iterdir()} == {"0007.png", "0007_r1.png", "grid.png", "layer.json"}


def test_atlas_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = example("render_atlas")
    for there, quick in (
        ("steps=128", "steps=1, image_size=48, transforms=(), attempts=1"),
        ('["block1_*_conv", "block2_*_conv"]', '["block1_1_project_conv"]'),
    ):
        assert source.count(there) == 1
        source = source.replace(there, quick)
    exec(compile(source, "atlases-and-jobs.md", "exec"), {})
    assert len(list((tmp_path / "out/efficientnet_lite0/block1_1_project_conv/distill").glob("[0-9]*.png"))) == 16


def test_family_example_runs():
    found = {}
    exec(compile(example("ResNet50V2"), "weights.md", "exec"), found)
    from jaxviz.models.resnet_v2 import ResNet50V2

    assert isinstance(found["network"], ResNet50V2)


@pytest.mark.parametrize(("page", "file", "source"), NETWORKS, ids=[f"{page}:{file}" for page, file, _ in NETWORKS])
def test_own_network_renders(tmp_path, page, file, source):
    if "from torch import" in source:
        pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[torch]'")
    (tmp_path / file).write_text(source)
    if "import keras" in source:  # on another backend than that of this process
        pytest.importorskip("keras", reason="Keras is not installed: pip install -e '.[keras]'")
        words = shlex.split("body/stem --filters 0-1 --steps 1 --size 48 --crop 4")
        ran = run_process("render", f"{file}:small", *words, cwd=tmp_path, env={"KERAS_BACKEND": "jax"})
        assert ran.code == 0, ran.err
        return
    model = load_model(f"{tmp_path / file}:small")
    config = RenderConfig.keras(steps=1, image_size=48, crop=4, batch_size=2)
    for layer in model.layers[:2]:
        assert jaxviz.render_layer(model, layer, range(2), config).status == ("ok", "ok")


@pytest.mark.parametrize("page", sorted({page for page, _, _ in NETWORKS}))
def test_commands_on_an_own_network_are_accepted(tmp_path, monkeypatch, page):
    monkeypatch.chdir(tmp_path)
    (source,) = [block for where, file, block in NETWORKS if (where, file) == (page, "my_network.py")]
    (tmp_path / "my_network.py").write_text(source)
    lines = [shlex.split(line)[1:] for where, line in SHELL if where == page and "my_network.py" in line]
    assert {words[0] for words in lines} >= {"layers", "render"}
    for words in lines:
        small = {"render": shlex.split("--filters 0 --steps 1 --size 48 --crop 4 --transforms none --no-judge")}
        small["atlas"] = ["--no-measure"]
        ran = run(*words, *small.get(words[0], []))
        assert ran.code == 0, ran.err


def test_command_on_a_network_of_keras_lists_its_layers(tmp_path):
    pytest.importorskip("keras", reason="Keras is not installed: pip install -e '.[keras]'")
    (line,) = [line for _, line in SHELL if "layers keras:" in line]
    ran = run_process(*shlex.split(line)[1:], cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert "block_13_expand" in ran.out


def test_summary_shown_is_that_of_the_network(tmp_path):
    page = "docs/your-own-network.md"
    (source,) = [block for where, file, block in NETWORKS if (where, file) == (page, "my_network.py")]
    (tmp_path / "my_network.py").write_text(source)
    shown = TEXTS[page].partition("<!-- summary:begin -->\n```\n")[2].partition("\n```\n<!-- summary:end -->")[0]
    assert shown == load_model(f"{tmp_path / 'my_network.py'}:small").summary((180, 180))


def test_presets_are_described(tmp_path):
    """The numbers of the presets that docs/pictures.md tells."""
    text = TEXTS["docs/pictures.md"]
    distill, maco, keras = RenderConfig.distill(), RenderConfig.maco(), RenderConfig.keras()
    assert f"{distill.steps} steps at {distill.size[0]} px" in text
    assert f"{maco.steps} steps at {maco.size[0]} px" in text
    assert f"{keras.size[0]} px of uniform noise, {keras.steps} steps of size {keras.step_size:g}" in " ".join(
        text.split()
    )
    assert f"`--rescue-steps {distill.rescue_steps}`" in text
    assert f"`--attempts {distill.attempts}`" in text

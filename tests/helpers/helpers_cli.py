"""Runs the command line, in this process or in one of its own, and a three-layer model for it to render."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from typer.testing import CliRunner

import jaxviz.loading
import jaxviz.models
from jaxviz.cli import app
from jaxviz.files import TEMPORARY_PREFIX
from jaxviz.models import Entry
from jaxviz.models.random_weights import random_weights
from jaxviz.network.model import Model

ESCAPE = "\x1b"
# A render in a process of its own: real weights, cheap to compile.
LITE = ("efficientnet_lite0", "block1_1_depthwise_conv")
QUICK = ("--size", "64", "--crop", "7", "--steps", "2")

TINY = "tiny"
TINY_CHANNELS = 8
DEAD_FILTER = 3  # of `odd_conv`
NAN_FILTER = 5  # of `odd_conv`


class Ran(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str


def run(*arguments: str | Path) -> Ran:
    """`jaxviz ARGUMENTS` in this process; an exception that would be a traceback is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return Ran(result.exit_code, result.stdout, result.stderr)


def environment(**extra: str) -> dict[str, str]:
    """This process's environment for a child: the same code, on a CPU, no colours."""
    paths = [str(Path(jaxviz.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "JAX_PLATFORMS": "cpu"} | extra


def run_process(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None, before: str | None = None
) -> Ran:
    """`python -m jaxviz ARGUMENTS` in a process of its own; `before` is Python to run first in it."""
    start = ["-m", "jaxviz"] if before is None else ["-c", f"{before}\nfrom jaxviz.cli import main\nmain()"]
    command = [sys.executable, *start, *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment(**(env or {})),
        capture_output=True,  # as bytes: text mode would make \n of every \r
        timeout=120,
        check=False,
    )
    return Ran(done.returncode, *(stream.decode(errors="surrogateescape") for stream in (done.stdout, done.stderr)))


def run_python(code: str, *, cwd: Path) -> str:
    """The output of a piece of Python in a fresh interpreter."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def left_overs(folder: Path) -> list[str]:
    """Temporary files that a write left behind."""
    return [str(file) for file in folder.rglob(f"{TEMPORARY_PREFIX}*")]


def install_tiny_model(monkeypatch: pytest.MonkeyPatch) -> Model:
    """Registers the model `tiny`: `first_conv`, `odd_conv` (one dead, one nan filter), `wide_conv` (100 filters)."""
    family = types.ModuleType("jaxviz.models.tiny_family")
    family.Tiny = Tiny  # type: ignore[attr-defined]
    family.preprocess = _tiny_preprocess  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, family.__name__, family)
    monkeypatch.setitem(jaxviz.models.MODELS, TINY, Entry("tiny_family", "Tiny", parameters=872, layers=3))
    model = _tiny_model()
    load_published = jaxviz.loading.load_model

    def load(name: str, **options: object) -> Model:
        return model if name == TINY else load_published(name, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(jaxviz.loading, "load_model", load)
    return model


class Tiny(nnx.Module):
    """Three convolutions of the image."""

    def __init__(self, *, kernel_init: Any, rngs: nnx.Rngs, head: bool = False) -> None:
        for layer in ("first_conv", "odd_conv"):
            conv = nnx.Conv(3, TINY_CHANNELS, (3, 3), strides=2, kernel_init=kernel_init, rngs=rngs)
            setattr(self, layer, conv)
        self.wide_conv = nnx.Conv(3, 100, (1, 1), strides=4, use_bias=False, kernel_init=kernel_init, rngs=rngs)

    def __call__(self, images: jax.Array, *, logits: bool = False) -> jax.Array:
        """The widest one's."""
        for layer in ("first_conv", "odd_conv", "wide_conv"):
            x = checkpoint_name(getattr(self, layer)(images), layer)
        return x


def _tiny_preprocess(rgb: Any) -> Any:
    return rgb / 127.5 - 1.0


def _tiny_model() -> Model:
    jaxviz.models.architecture.cache_clear()  # of another test's class
    known = jaxviz.models.architecture(TINY)
    weights = random_weights(known)
    weights["odd_conv"]["kernel"][..., DEAD_FILTER] = 0
    weights["odd_conv"]["bias"][NAN_FILTER] = float("nan")
    return known.with_weights(jax.tree.map(jnp.asarray, weights))


RENDER_TINY = ("render", TINY, "first_conv", *QUICK)


def folder_of(out: Path, layer: str = "first_conv", label: str = "keras") -> Path:
    return out / TINY / layer / label


def pngs(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name.endswith(".png")}

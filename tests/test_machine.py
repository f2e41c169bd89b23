"""Several devices: with one N the pictures are bit-equal, however many there are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest
import shared_cache
from helpers_cli import LITE as LITE_LAYER
from helpers_cli import QUICK, RENDER_TINY, TINY, install_tiny_model, run, run_process

from jaxviz import machine as devices

LITE = ("render", *LITE_LAYER)

SCRIPT = """
import hashlib, json, sys
sys.path[:0] = [{tests!r}, {tests!r} + "/helpers"]
import jax
jax.config.update("jax_num_cpu_devices", {devices})
from conftest import random_model
from jaxviz import RenderConfig, render_layer
from jaxviz.machine import batch_devices
config = RenderConfig.keras(image_size={size}, crop=7, steps=30, batch_size={batch})
result = render_layer(random_model("resnet50v2"), {layer!r}, range(8), config)
print(json.dumps([len(batch_devices(4)), [hashlib.sha256(p.tobytes()).hexdigest() for p in result.pictures]]))
"""


def rendered(devices: int, *, threads: int, size: int, batch: int, layer: str) -> list:
    """[devices used for 4 calls, hashes of 8 pictures] in a process with so many virtual devices and threads."""
    script = SCRIPT.format(tests=str(Path(__file__).parent), devices=devices, size=size, batch=batch, layer=layer)
    environment = os.environ | {"PJRT_NPROC": str(threads)}
    run = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    return json.loads(run.stdout)


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ("flags : fpu avx2 avx512f avx512_bf16 avx512_fp16", True),
        ("flags : fpu amx_bf16 amx_tile", True),
        ("flags : fpu avx2 fma avx512f", False),
        ("Features : fp asimd bf16", False),
        ("arm64 Apple M2", False),
    ],
)
def test_bfloat16_products_are_those_of_x86_instructions(monkeypatch, features, expected):
    monkeypatch.setattr(devices, "_cpu_features", lambda: features)
    assert devices.multiplies_bfloat16() is expected


SMALL = {"threads": 8, "size": 64, "batch": 2, "layer": "conv2_block1_out"}
# What was seen to come out wrong where two devices computed on two threads.
LONG = {"size": 180, "batch": 4, "layer": "conv3_block4_out"}


@pytest.fixture(scope="module")
def one_device() -> list:
    return rendered(1, **SMALL)


@pytest.mark.parametrize("devices", [2, pytest.param(4, marks=pytest.mark.long)])
def test_pictures_do_not_depend_on_the_number_of_devices(one_device, devices):
    used, hashes = rendered(devices, **SMALL)
    assert (one_device[0], used) == (1, devices)
    assert hashes == one_device[1]


@pytest.mark.long
@pytest.mark.parametrize(("threads", "used"), [(2, 1), (4, 2)])
def test_long_work_on_two_devices_is_that_of_one(threads, used):
    """Two devices on two threads would spoil pictures 0 and 4; the rule takes one of them."""
    expected = rendered(1, threads=threads, **LONG)
    found = rendered(2, threads=threads, **LONG)
    assert found == [used, expected[1]]


def test_a_thread_is_left_over_for_the_work_that_devices_queue(monkeypatch):
    monkeypatch.setattr(devices.jax, "local_devices", lambda: [Device("cpu")] * 4)
    for threads, used in (("4", 3), ("5", 4), ("8", 4), ("1", 3)):  # XLA has at least one thread per device
        monkeypatch.setenv("PJRT_NPROC", threads)
        assert len(devices.batch_devices(99)) == used
    assert len(devices.batch_devices(2)) == 2


def test_all_local_gpus_are_used(monkeypatch):
    monkeypatch.setattr(devices.jax, "local_devices", lambda: [Device("gpu")] * 4)
    assert len(devices.batch_devices(99)) == 4


class Device:
    def __init__(self, platform: str) -> None:
        self.platform = platform


@pytest.mark.parametrize(
    "way",
    [{"JAX_NUM_CPU_DEVICES": "4"}, {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}],
    ids=["of JAX", "of XLA"],
)
def test_a_thread_is_left_over_where_users_make_virtual_devices(way):
    script = "import jax; from jaxviz.machine import batch_devices; print(len(jax.devices()), len(batch_devices(99)))"
    environment = os.environ | {"PJRT_NPROC": "4"} | way
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, env=environment)
    assert run.stdout.split() == ["4", "3"]


def test_importing_jaxviz_changes_no_device(tmp_path):
    script = (
        "import os, jaxviz; jaxviz.render_layer; import jax; print(len(jax.devices()), os.environ.get('PJRT_NPROC'))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PJRT_NPROC"}
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, env=environment)
    assert run.stdout.split() == ["1", "None"]


@pytest.mark.long
def test_compiled_programs_are_kept_and_found_again(tmp_path):
    words = ["render", "efficientnet_lite0", "block1_1_out", "--filters", "0-1", "--steps", "2"]
    words += ["--size", "64", "--crop", "7", "--json", "--overwrite"]
    environment = os.environ | {"JAXVIZ_CACHE": str(tmp_path / "cache")}
    for name in shared_cache.NAMES:
        environment.pop(name, None)
    pictures = []
    for _ in range(2):
        command = [sys.executable, "-m", "jaxviz", *words]
        run = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
        folder = tmp_path / json.loads(run.stdout)["folder"]
        pictures.append([file.read_bytes() for file in sorted(folder.glob("0*.png"))])
        kept = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "cache" / "compiled").rglob("*-cache")}
        assert any("ascend" in name for name in kept)
        assert "Traceback" not in run.stderr
    assert pictures[0] == pictures[1]
    assert len([name for name in kept if "ascend" in name]) == 1


def test_a_compilation_cache_of_the_users_is_left_alone(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", str(tmp_path))
        devices.use_compilation_cache()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path)
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


# A GPU that is there, and JAX on the CPU


NO_PLUGIN = {"jax": "0.12.0.1", "jaxlib": "0.12.0.1"}
OLD_PLUGIN = NO_PLUGIN | {"jax-cuda13-plugin": "0.11.2"}
RIGHT_PLUGIN = NO_PLUGIN | {"jax-cuda13-plugin": "0.12.0.1"}


def pretend(monkeypatch, *, gpu: bool, packages: dict[str, str], backend: str = "cpu", asked: str | None = None):
    """A machine with or without NVIDIA's driver, and with these packages."""

    def version(name):
        try:
            return packages[name]
        except KeyError:
            raise devices.PackageNotFoundError(name) from None

    monkeypatch.setattr(devices, "NVIDIA_FILES", (Path(__file__) if gpu else Path(__file__) / "none",))
    monkeypatch.setattr(devices, "version", version)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(devices, "_asked_platforms", lambda: asked or "")


@pytest.mark.parametrize(
    ("gpu", "packages", "said"),
    [
        (True, NO_PLUGIN, "an NVIDIA GPU is here, .* is not installed: pip install .*jax.cuda13.==0.12.0.1"),
        (True, OLD_PLUGIN, "jax-cuda13-plugin 0.11.2 does not match jaxlib 0.12.0.1: pip install"),
        (True, RIGHT_PLUGIN, "found no GPU that it can use: see nvidia-smi and CUDA_VISIBLE_DEVICES"),
        (False, OLD_PLUGIN, "JAX's plugin for NVIDIA GPUs is installed, .* does not match jaxlib 0.12.0.1"),
    ],
    ids=["no plugin", "another plugin", "the right plugin", "a plugin alone"],
)
@pytest.mark.parametrize("asked", [None, "", "cuda,cpu"])
def test_an_unused_gpu_is_named_with_what_to_install(monkeypatch, gpu, packages, said, asked):
    pretend(monkeypatch, gpu=gpu, packages=packages, asked=asked)
    assert re.search(said, devices.unused_gpu())
    assert "JAX_PLATFORMS=cpu" in devices.unused_gpu()


@pytest.mark.parametrize(
    "machine",
    [
        {"gpu": False, "packages": NO_PLUGIN},
        {"gpu": True, "packages": RIGHT_PLUGIN, "backend": "gpu"},
        {"gpu": True, "packages": NO_PLUGIN, "asked": "cpu"},
        {"gpu": True, "packages": OLD_PLUGIN, "asked": "cpu,cuda"},
    ],
    ids=["no GPU", "the GPU computes", "the CPU is asked for", "the CPU is asked for first"],
)
def test_nothing_is_said_of_a_gpu_that_is_used_or_not_wanted(monkeypatch, machine):
    pretend(monkeypatch, **machine)
    assert devices.unused_gpu() is None


RENDER = (*LITE, *QUICK, "--filters", "0")
COMMANDS = {
    "render": RENDER_TINY,
    "atlas": ("atlas", TINY, "--layers", "first_conv", *QUICK, "--filters", "0"),
    "dry run": ("atlas", TINY, "--layers", "first_conv", *QUICK, "--dry-run"),
    "bench": ("bench", "--model", TINY, "--layers", "first_conv", "--size", "32", "--batch-size", "1", "--quick"),
}


@pytest.mark.parametrize("name", [*list(COMMANDS)[:-1], pytest.param("bench", marks=pytest.mark.long)])
def test_every_command_that_computes_says_once_that_a_gpu_is_unused(name, tmp_path, monkeypatch):
    install_tiny_model(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(devices, "unused_gpu", lambda: "a GPU is unused")
    done = run(*COMMANDS[name])
    assert done.code == 0, done.err
    assert done.err.count("WARNING: a GPU is unused\n") == 1


def test_a_process_beside_an_unused_gpu_says_so_and_renders(tmp_path):
    before = "import pathlib, jaxviz.machine as d; d.NVIDIA_FILES = (pathlib.Path('/'),)"
    done = run_process(*RENDER, cwd=tmp_path, env={"JAX_PLATFORMS": ""}, before=before)
    assert done.code == 0, done.err
    assert done.err.count("WARNING: an NVIDIA GPU is here, but JAX COMPUTES ON THE CPU") == 1


def test_a_platform_that_is_not_there_is_one_message(tmp_path):
    done = run_process(*RENDER, cwd=tmp_path, env={"JAX_PLATFORMS": "tpu"})
    assert done.code == 1
    (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert "JAX_PLATFORMS='tpu'" in line
    assert "Traceback" not in done.err


NET = """
import jax.numpy as jnp, jaxviz

def net():
    return jaxviz.Model.from_callable(lambda weights, images: {"a": images * weights}, jnp.ones(3), lambda rgb: rgb)
"""
JOB = '[[atlas]]\nmodel = "efficientnet_lite0"\nlayers = ["stem_conv"]\n'
# Every road to a device, in one process: where JAX has failed to start, it tries again.
ROADS = """
import json, sys
from helpers_cli import run
from typer.testing import CliRunner
from weights_convert.__main__ import app
import jaxviz
commands = json.loads(sys.argv[1])
said = {}
for command in commands:
    if command[0] == "verify":
        ran = CliRunner().invoke(app, command, catch_exceptions=False)
        said[" ".join(command)] = ran.exit_code, ran.stdout, ran.stderr
    else:
        said[" ".join(command)] = run(*command)
functions = {
    "load_model": lambda: jaxviz.load_model("efficientnet_lite0"),
    "render_layer": lambda: jaxviz.render_layer(
        jaxviz.Model.from_callable(lambda _, images: {"a": images}, {}, lambda rgb: rgb), "a", [0]
    ),
}
for name, function in functions.items():
    try:
        function()
    except jaxviz.errors.EnvironmentFailure as error:
        said[name] = 1, "", f"error: {error}"
print(json.dumps(said))
"""
LITE_STEM = ("efficientnet_lite0", "stem_conv")
ON_A_DEVICE = [
    ("render", *LITE_STEM),
    ("atlas", "efficientnet_lite0", "--layers", "stem_conv"),
    ("atlas", "efficientnet_lite0", "--layers", "stem_conv", "--dry-run"),
    ("run", "job.toml"),
    ("bench", "--quick"),
    ("layers", "net.py:net"),
    ("render", "net.py:net", "a"),
    ("atlas", "net.py:net"),
    ("verify", "efficientnet_lite0", "--weights", "random"),
]
WITHOUT_A_DEVICE = [("models",), ("layers", "efficientnet_lite0"), ("run", "job.toml", "--check")]


@pytest.fixture(scope="module")
def no_device(tmp_path_factory) -> dict[str, tuple[int, str, str]]:
    """(exit code, stdout, stderr) of everything that computes, and of what does not, where there is no device."""
    if any(file.exists() for file in devices.NVIDIA_FILES):
        pytest.skip("there is a GPU here")
    folder = tmp_path_factory.mktemp("no_device")
    (folder / "net.py").write_text(NET)
    (folder / "job.toml").write_text(JOB)
    tests = Path(__file__).parent
    extra = {"JAX_PLATFORMS": "cuda", "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests / 'helpers'}"}
    command = [sys.executable, "-c", ROADS, json.dumps([*ON_A_DEVICE, *WITHOUT_A_DEVICE])]
    done = subprocess.run(command, cwd=folder, env=os.environ | extra, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (folder / "out").exists()
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.quick
@pytest.mark.parametrize("road", [*(" ".join(command) for command in ON_A_DEVICE), "load_model", "render_layer"])
def test_a_device_that_cannot_be_had_is_one_message(no_device, road):
    code, out, err = no_device[road]
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (code, out) == (1, "")
    assert "JAX_PLATFORMS='cuda': no such device is here. JAX has here: cpu" in line
    assert line.endswith("Unset JAX_PLATFORMS, or set it to cpu")


@pytest.mark.quick
@pytest.mark.parametrize("road", [" ".join(command) for command in WITHOUT_A_DEVICE])
def test_what_computes_nothing_needs_no_device(no_device, road):
    code, _, err = no_device[road]
    assert (code, err) == (0, "")


@pytest.mark.quick
@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("jax_disable_jit", True, "JAX_DISABLE_JIT is set"),
        ("jax_transfer_guard", "disallow", "JAX_TRANSFER_GUARD='disallow'"),
        ("jax_transfer_guard", "disallow_explicit", "JAX_TRANSFER_GUARD='disallow_explicit'"),
    ],
)
def test_a_setting_of_jax_that_forbids_the_work_is_one_message(tmp_path, setting, value, said):
    before = getattr(jax.config, setting)
    try:
        jax.config.update(setting, value)
        done = run(*RENDER, "--out", tmp_path)
    finally:
        jax.config.update(setting, before)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith(f"error: {said}")

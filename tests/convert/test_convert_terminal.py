"""`python -m weights_convert`: what it prints, where it writes, how it ends."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner
from weight_files import assert_same_weights, random_weights, write_legacy_h5

from weights_convert import __main__, digests
from weights_convert.__main__ import app
from weights_convert.read import read_weights
from weights_convert.safetensors_file import cache_path

LITE, RESNET = "efficientnet_lite0", "resnet50v2"


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_convert_writes_to_the_cache_and_says_what(tmp_path):
    source = write_legacy_h5(tmp_path / "full.h5", random_weights(RESNET, head=True))
    result = run("convert", RESNET, source)
    path = cache_path(RESNET, head=True)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == str(path)
    assert lines[1].startswith("resnet50v2 with head: 272 arrays, 25,613,800 numbers, ")
    assert lines[2] == f"sha256 {digests.sha256(path)}"
    assert result.stderr == ""
    assert_same_weights(read_weights(path, RESNET).arrays, random_weights(RESNET, head=True))


@pytest.mark.parametrize(("option", "layers"), [("--head", 99), ("--no-head", 98)])
def test_convert_without_source_takes_the_installed_package(tmp_path, option, layers):
    out = tmp_path / "out.safetensors"
    result = run("convert", LITE, option, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert len(read_weights(out, LITE).arrays) == layers


def test_converting_a_converted_file_gives_the_same_file(tmp_path):
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    run("convert", LITE, "--out", first)
    assert run("convert", LITE, first, "--out", second).exit_code == 0
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet50"], "error: MODEL 'resnet50' is unknown; nearest: 'resnet50v2'"),
        ([RESNET, "nowhere.h5"], "error: weights file nowhere.h5 does not exist"),
    ],
)
def test_wrong_request_is_one_message_and_exit_code_2(arguments, message):
    result = run("convert", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_unwritable_out_is_exit_code_1(tmp_path):
    (tmp_path / "file").touch()
    result = run("convert", LITE, "--out", tmp_path / "file" / "out.safetensors")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: cannot write ")


def test_ctrl_c_is_exit_code_130_and_one_line(monkeypatch):
    def interrupted(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(__main__, "published_weights", interrupted)
    result = run("convert", LITE)
    assert result.exit_code == 130
    assert result.stderr.count("\n") == 1


def test_every_argument_and_option_is_documented():
    import typer.main

    for command in typer.main.get_command(app).commands.values():
        assert command.help
        for parameter in command.params:
            assert parameter.help, f"{command.name} {parameter.name}"


def test_conversion_imports_no_source_framework(tmp_path):
    code = (
        "import sys; from weights_convert.__main__ import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(sorted({'tensorflow', 'keras', 'torch'} & set(sys.modules)))"
    )
    arguments = ["convert", LITE, "--out", str(tmp_path / "out.safetensors")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_module_runs_from_the_shell(tmp_path):
    command = [sys.executable, "-m", "weights_convert", "convert", RESNET, str(tmp_path / "absent.h5")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: weights file ")

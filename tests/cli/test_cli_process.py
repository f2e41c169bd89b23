"""The command line as a process of its own, from another folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_cli import (
    ESCAPE,
    LITE,
    QUICK,
    Ran,
    contents,
    environment,
    run_process,
)

# A process of its own, from another folder


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran, Ran]:
    """(working directory, first run, the same again with --json)."""
    cwd = tmp_path_factory.mktemp("elsewhere")
    command = ("render", *LITE, *QUICK, "--filters", "0-3")
    env = {"JAXVIZ_CACHE": str(cwd / "cache")}
    return cwd, run_process(*command, cwd=cwd, env=env), run_process(*command, "--json", cwd=cwd, env=env)


def test_process_exits_with_0(two_runs: tuple[Path, Ran, Ran]) -> None:
    assert [ran.code for ran in two_runs[1:]] == [0, 0]


def test_process_writes_below_its_working_directory(two_runs: tuple[Path, Ran, Ran]) -> None:
    names = contents(two_runs[0] / "out" / LITE[0] / LITE[1] / "keras")
    assert sorted(names) == [*(f"{index:04d}.png" for index in range(4)), "grid.png", "layer.json"]


def test_process_reports_on_stdout(two_runs: tuple[Path, Ran, Ran]) -> None:
    assert "4 filters (4 ok, 0 dead, 0 nan)" in two_runs[1].out


def test_process_prints_one_json_object(two_runs: tuple[Path, Ran, Ran]) -> None:
    assert json.loads(two_runs[2].out)["already_there"] == 4


def test_progress_on_a_pipe_is_plain_lines(two_runs: tuple[Path, Ran, Ran]) -> None:
    err = two_runs[1].err
    assert "\r" not in err
    assert ESCAPE not in err
    assert all(line.startswith(" ".join(LITE)) for line in err.splitlines()), err
    assert "4/4" in err.splitlines()[-1]


def test_nothing_to_do_is_silent_on_stderr(two_runs: tuple[Path, Ran, Ran]) -> None:
    assert two_runs[2].err == ""


def test_output_cut_off_by_a_pipe_is_no_error(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxviz", "layers", "resnet152v2"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)
    assert err == ""


@pytest.mark.long
def test_out_that_is_not_unicode_is_no_traceback(tmp_path: Path) -> None:
    odd = b"caf\xe9".decode(errors="surrogateescape")
    strict = {"PYTHONIOENCODING": "utf-8:strict"}  # as in every locale but C
    ran = run_process("render", *LITE, *QUICK, "--filters", "0", "--out", odd, cwd=tmp_path, env=strict)
    assert (ran.code, "Traceback" in ran.err) == (0, False), ran.err

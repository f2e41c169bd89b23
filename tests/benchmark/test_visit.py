"""The scripts of a visit: what travels with it, and a rehearsal from end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # `benchmarks` is not installed

from helpers_cli import environment  # noqa: E402

from benchmarks.visit import program, tables  # noqa: E402
from benchmarks.visit.settings import REHEARSAL  # noqa: E402
from benchmarks.visit.verdicts import verdicts  # noqa: E402

MIB = 2**20
TOO_LARGE = 61 * MIB


def gather(folder: Path, wheel_bytes: int) -> subprocess.CompletedProcess[str]:
    """`gpu_wheels.sh` with an interpreter whose pip makes one wheel of that size and fetches nothing."""
    python = folder / "python"
    python.write_text(
        f'#!/bin/sh\n[ "$3" = wheel ] && truncate -s {wheel_bytes} {folder}/wheels/a-1-py3-none-any.whl\nexit 0\n'
    )
    python.chmod(0o755)
    command = [str(ROOT / "benchmarks" / "gpu_wheels.sh"), str(folder / "wheels")]
    return subprocess.run(command, env=environment(PYTHON=str(python)), capture_output=True, text=True)


def test_wheels_and_checkout_of_some_megabytes_may_travel(tmp_path):
    done = gather(tmp_path, 2 * MIB)
    assert done.returncode == 0, done.stderr
    assert "    2.00 MiB  a-1-py3-none-any.whl" in done.stdout
    assert "MiB  together" in done.stdout


def test_wheels_that_are_too_large_are_refused(tmp_path):
    done = gather(tmp_path, TOO_LARGE)
    assert done.returncode == 1
    assert "wheels and checkout exceed 60 MiB" in done.stderr


def visit(*words: str, out: Path) -> subprocess.CompletedProcess[str]:
    """`gpu_visit.sh`, without wheels, called from the folder that it writes to."""
    command = [str(ROOT / "benchmarks" / "gpu_visit.sh"), "--out", ".", "--wheels", "none", *words]
    variables = environment(PYTHON=sys.executable, TMPDIR=str(out))
    return subprocess.run(command, cwd=out, env=variables, capture_output=True, text=True)


def test_visit_without_a_gpu_says_what_to_do(tmp_path):
    done = visit("--only", "start", out=tmp_path)
    assert done.returncode == 1
    assert "JAX computes on the CPU here" in done.stderr
    assert "--rehearse" in done.stderr
    (cell,) = json.loads((tmp_path / "visit.json").read_text())["cells"]
    assert cell["status"] == "refused"


@pytest.mark.long
def test_rehearsal_runs_every_cell(tmp_path):
    done = visit("--rehearse", out=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "visit.json").read_text())
    cells = {cell["name"]: cell for cell in record["cells"]}
    assert list(cells) == list(program.by_name(REHEARSAL))
    failed = {name: cell["log"] for name, cell in cells.items() if cell["status"] not in ("complete", "unavailable")}
    assert failed == {}
    assert [verdict for verdict in verdicts(record) if verdict.holds is False] == []
    assert tables.block(record, "a.json").startswith("**A rehearsal")
    assert len(list(tmp_path.glob("*.*"))) <= 8

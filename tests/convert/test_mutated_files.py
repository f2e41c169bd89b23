"""Damaged and hostile files of every format: an error of ours or a harmless load, within 10 s and 1 GiB, nothing run.

The files are of shrunk networks (tests/helpers/tiny_files.py), so that a mutant costs milliseconds. Each format is read
in a process of its own (tests/helpers/read_mutants.py), with limits on time and memory and empty folders around it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_files import FORMATS

SEED = 20261127
HELPERS = Path(__file__).parents[1] / "helpers"
LIMIT_S = 900  # for all of a format; each file has its own limit


@pytest.fixture(scope="module")
def tiny_files(tmp_path_factory):
    pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    folder = tmp_path_factory.mktemp("tiny")
    code = (
        "import sys; from pathlib import Path; import tiny_files;"
        "tiny_files.shrink_families(); tiny_files.write_tiny_files(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, env=_environment(folder))
    return folder


@pytest.mark.parametrize("name", FORMATS)
def test_mutated_file_is_refused_or_harmless(tiny_files, tmp_path, name):
    _check(tiny_files, tmp_path, name, 50)


@pytest.mark.long
@pytest.mark.parametrize("name", FORMATS)
def test_mutated_file_is_refused_or_harmless_a_thousand_times(tiny_files, tmp_path, name):
    _check(tiny_files, tmp_path, name, 1000)


def _check(bases: Path, folder: Path, name: str, count: int) -> None:
    """All mutants of one format; a mutant that ends the process is a failure, and the rest is read by another."""
    failures, first = [], 0
    while first < count:
        said, ended = _read(bases, folder, name, first, count)
        places = [int(line.removeprefix("at ")) for line in said if line.startswith("at ")]
        failures += [json.loads(line) for line in said if line.startswith("{")]
        if not ended:
            break
        assert places, ended
        failures.append({"number": places[-1], "wrong": ended})
        first = places[-1] + 1
    assert not failures, f"seed {SEED}, {name}: {json.dumps(failures, indent=1)}"


def _read(bases: Path, folder: Path, name: str, first: int, last: int) -> tuple[list[str], str]:
    """The lines of one process, and in words how it ended before its time."""
    work = folder / f"from-{first}"
    for part in ("work", "tmp"):
        (work / part).mkdir(parents=True)
    command = [sys.executable, str(HELPERS / "read_mutants.py"), str(bases), name, str(SEED), str(first), str(last)]
    environment = _environment(bases) | {"TMPDIR": str(work / "tmp")}
    done = subprocess.run(command, cwd=work / "work", env=environment, capture_output=True, text=True, timeout=LIMIT_S)
    return done.stdout.splitlines(), "" if done.returncode == 0 else f"exit {done.returncode}: {done.stderr[-2500:]}"


def _environment(folder: Path) -> dict[str, str]:
    root = HELPERS.parents[1]
    paths = os.pathsep.join(map(str, (HELPERS, root, *sys.path)))
    return os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(folder)}

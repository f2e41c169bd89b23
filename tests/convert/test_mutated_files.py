"""Damaged and hostile files of every format: an error of ours or a harmless load, within 10 s and 1 GiB, nothing run.

The files are of shrunk networks (tests/helpers/tiny_files.py), so that a mutant costs milliseconds. They are read in a
process of its own (tests/helpers/read_mutants.py), with limits on time and memory and empty folders around it.
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
LIMIT_S = 1800  # for all; each file has its own limit


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


@pytest.fixture(scope="module")
def failures(tiny_files, tmp_path_factory):
    """What went wrong with 50 mutants of each format; one process for all, because it takes seconds to start."""
    return _failures(tiny_files, tmp_path_factory.mktemp("mutants"), list(FORMATS), 50)


@pytest.mark.parametrize("name", FORMATS)
def test_mutated_file_is_refused_or_harmless(failures, name):
    own = [failure for failure in failures if failure["file"] == name]
    assert not own, f"seed {SEED}: {json.dumps(own, indent=1)}"


@pytest.mark.long
@pytest.mark.parametrize("name", FORMATS)
def test_mutated_file_is_refused_or_harmless_a_thousand_times(tiny_files, tmp_path, name):
    own = _failures(tiny_files, tmp_path, [name], 1000)
    assert not own, f"seed {SEED}: {json.dumps(own, indent=1)}"


def _failures(bases: Path, folder: Path, names: list[str], count: int) -> list[dict[str, object]]:
    """A mutant that ends the process is a failure, and the rest is read by another."""
    found: list[dict[str, object]] = []
    rest = dict.fromkeys(names, 0)  # the first mutant that is not read yet
    while rest:
        said, ended = _read(bases, folder / f"{len(found)}", rest, count)
        found += [json.loads(line) for line in said if line.startswith("{")]
        if not ended:
            return found
        places = [line.split()[1:] for line in said if line.startswith("at ")]
        assert places, ended
        name, number = places[-1]
        found.append({"file": name, "number": int(number), "wrong": ended})
        rest = {other: first for other, first in rest.items() if names.index(other) >= names.index(name)}
        rest[name] = int(number) + 1
    return found


def _read(bases: Path, work: Path, rest: dict[str, int], count: int) -> tuple[list[str], str]:
    """The lines of one process, and in words how it ended before its time."""
    for part in ("work", "tmp"):
        (work / part).mkdir(parents=True)
    files = [f"{name}:{first}" for name, first in rest.items()]
    command = [sys.executable, str(HELPERS / "read_mutants.py"), str(bases), str(SEED), str(count), *files]
    environment = _environment(bases) | {"TMPDIR": str(work / "tmp")}
    done = subprocess.run(command, cwd=work / "work", env=environment, capture_output=True, text=True, timeout=LIMIT_S)
    return done.stdout.splitlines(), "" if done.returncode == 0 else f"exit {done.returncode}: {done.stderr[-2500:]}"


def _environment(folder: Path) -> dict[str, str]:
    root = HELPERS.parents[1]
    paths = os.pathsep.join(map(str, (HELPERS, root, *sys.path)))
    return os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(folder)}

"""What docs/atlases-and-jobs.md says of job files is what they are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from helpers_cli import run
from helpers_jobs import EXAMPLES

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs" / "atlases-and-jobs.md").read_text().partition("## Job files")[2].partition("\n## ")[0]


def test_example_is_the_tested_one() -> None:
    (start,) = [file for file in EXAMPLES if file.stem == "start"]
    assert f"```toml\n{start.read_text()}```" in SECTION


def test_commands_are_accepted(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    lines = [line for block in re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL) for line in block.splitlines()]
    for line in lines:
        words = [word for word in shlex.split(line)[1:] if word != "--dry-run"]
        ran = run(*words, "--check")
        assert ran.code == 0, ran.err


def test_message_is_the_one_that_is_quoted(monkeypatch) -> None:
    monkeypatch.chdir(ROOT / "docs" / "jobs")
    (quoted,) = re.findall(r"`(start\.toml: [^`]*)`", SECTION)
    ran = run("run", "start.toml", "--set", "atlas.1.stepz=3")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"error: {quoted}")


def test_dry_run_shown_has_the_jobs_layers(monkeypatch) -> None:
    """As it was printed once; the figures are a machine's, the layers and filters are the file's."""
    monkeypatch.chdir(ROOT)
    shown = SECTION.partition("<!-- dry-run:begin -->")[2].partition("<!-- dry-run:end -->")[0]
    now = run("run", "docs/jobs/start.toml", "--dry-run", "--no-measure").out
    names = [line.split()[:4] for line in now.splitlines()[1:-2]]
    assert [line.split()[:4] for line in shown.splitlines() if line.startswith("block")] == names
    assert now.splitlines()[-2] in shown

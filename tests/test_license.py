"""License and citation: the files, and what the package's metadata say of them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import jaxviz

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = dict(
    line.split(": ", 1)
    for line in (ROOT / "CITATION.cff").read_text().splitlines()
    if ": " in line and not line.startswith(" ")
)


def test_license_is_whole_and_in_the_metadata():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["license"] == "Apache-2.0"
    assert PROJECT["license-files"] == ["LICENSE"]


def test_citation_is_of_this_version_and_license():
    assert CITATION["version"] == jaxviz.__version__
    assert CITATION["license"] == PROJECT["license"]
    assert {"cff-version", "message", "title", "type"} <= CITATION.keys()

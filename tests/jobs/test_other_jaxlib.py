"""Pictures of one recipe made with two versions of jaxlib: recorded, said, and with --strict refused."""

from __future__ import annotations

import json
import logging
from importlib import metadata

import pytest
from helpers_cli import RENDER_TINY, contents, folder_of, install_tiny_model, run

import jaxviz
from jaxviz.store.provenance import read_saved

pytestmark = pytest.mark.quick

OTHER = "0.1.2"
FIRST = (*RENDER_TINY, "--filters", "0-1")
MORE = (*RENDER_TINY, "--filters", "0-3")


@pytest.fixture
def out(tmp_path, monkeypatch):
    """A folder whose pictures another jaxlib made."""
    install_tiny_model(monkeypatch)
    with monkeypatch.context() as other:
        other.setattr("jaxviz.store.provenance.jaxlib_version", lambda: OTHER)
        assert run(*FIRST, "--out", tmp_path).code == 0
    return tmp_path


def test_every_picture_and_its_entry_record_the_jaxlib_that_made_it(out):
    assert run(*MORE, "--out", out).code == 0
    here = metadata.version("jaxlib")
    assert [read_saved(folder_of(out) / f"{index:04d}.png").jaxlib for index in range(4)] == [OTHER, OTHER, here, here]
    entries = json.loads((folder_of(out) / "layer.json").read_text())["filters"]
    assert [entry["jaxlib"] for entry in entries] == [OTHER, OTHER, here, here]


def test_resuming_under_another_jaxlib_says_so(out):
    done = run(*MORE, "--out", out)
    assert done.code == 0
    assert done.err.count("another jaxlib") == 1
    for part in (f"2 by jaxlib {OTHER}", metadata.version("jaxlib"), "--strict", "--overwrite"):
        assert part in done.err


def test_strict_refuses_to_resume_under_another_jaxlib_before_anything_is_rendered(out):
    before = contents(out)
    done = run(*MORE, "--out", out, "--strict")
    assert done.code == 2
    assert done.err.startswith("error: folder ")
    for part in (f"2 by jaxlib {OTHER}", "--name LABEL", "--overwrite"):
        assert part in done.err
    assert contents(out) == before


@pytest.mark.parametrize("options", [("--strict", "--overwrite"), ("--strict", "--name", "new")])
def test_what_the_refusal_suggests_works(out, options):
    assert run(*MORE, "--out", out, *options).code == 0


def test_strict_accepts_a_folder_that_lacks_nothing(out):
    done = run(*FIRST, "--out", out, "--strict")
    assert done.code == 0
    assert "another jaxlib" not in done.err


def test_saving_a_result_beside_another_jaxlibs_pictures_says_so(toy_model, small, tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as other:
        other.setattr("jaxviz.store.provenance.jaxlib_version", lambda: OTHER)
        jaxviz.render_layer(toy_model, "conv_a", [0], small).save(tmp_path)
    with caplog.at_level(logging.WARNING, "jaxviz"):
        jaxviz.render_layer(toy_model, "conv_a", [0, 1], small).save(tmp_path)
    assert f"1 by jaxlib {OTHER}" in caplog.text

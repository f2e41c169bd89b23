"""Scores on natural images that are kept: found again, checked, never trusted blindly."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from helpers_judge import SOME, Counted, Mean, channels_times_weights, coloured, network

from jaxviz.judge.judgement import default_cache, judge

pytestmark = pytest.mark.quick


def other_channels(weights, images, layer):
    return images[..., ::-1] * weights["gain"]


# Kept scores


def batches(cache: Path | None, **options) -> tuple[int, list[float]]:
    """(how many batches were scored, the percentiles of three pictures)."""
    preprocess = Counted()
    pictures = coloured((130, 130, 130), (120, 120, 120), (128, 128, 128))
    model = network(options.pop("forward", channels_times_weights), preprocess=preprocess)
    layer, objective = options.pop("layer", "colours"), options.pop("objective", Mean())
    found = judge(model, layer, pictures, [0, 1, 2], objective=objective, natural=SOME, cache=cache, **options)
    return preprocess.calls, found.percentile.tolist()


def test_kept_scores_are_used(tmp_path):
    computed, percentiles = batches(tmp_path)
    assert batches(tmp_path) == (2, percentiles)  # the pictures, and a batch for the check
    assert computed >= 1 + 3


def test_kept_scores_are_not_there_without_a_folder(tmp_path):
    batches(tmp_path)
    assert batches(None)[0] >= 1 + 3


@pytest.mark.parametrize("place", [0, 40, -1], ids=["checksum", "first score", "last byte"])
def test_damaged_kept_scores_are_computed_anew(tmp_path, place):
    _, percentiles = batches(tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    spoiled = bytearray(whole)
    spoiled[place] ^= 1
    file.write_bytes(spoiled)
    calls, again = batches(tmp_path)
    assert (calls >= 1 + 3, again) == (True, percentiles)
    assert file.read_bytes() == whole


@pytest.mark.parametrize("length", [0, 10, 100])
def test_truncated_kept_scores_are_computed_anew(tmp_path, length):
    _, percentiles = batches(tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:length])
    calls, again = batches(tmp_path)
    assert (calls >= 1 + 3, again) == (True, percentiles)


def test_kept_scores_under_another_name_are_computed_anew(tmp_path):
    batches(tmp_path, layer="again")
    (file,) = tmp_path.iterdir()
    batches(tmp_path)
    (other,) = set(tmp_path.iterdir()) - {file}
    other.write_bytes(file.read_bytes())
    assert batches(tmp_path)[0] >= 1 + 3


@pytest.mark.parametrize("other", [{"layer": "again"}, {"objective": Mean(2.0)}], ids=["layer", "objective"])
def test_kept_scores_are_not_used_for_another(tmp_path, other):
    batches(tmp_path)
    assert batches(tmp_path, **other)[0] >= 1 + 3
    assert len(list(tmp_path.iterdir())) == 2


def test_kept_scores_are_not_used_for_another_network_of_equal_weights(tmp_path):
    batches(tmp_path)
    calls, percentiles = batches(tmp_path, forward=other_channels)
    assert calls >= 1 + 3
    assert percentiles == batches(None, forward=other_channels)[1]


def test_folder_that_cannot_be_written_is_logged(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.INFO, logger="jaxviz"):
        _, percentiles = batches(tmp_path / "file" / "natural")
    assert percentiles == batches(None)[1]
    assert "not kept" in caplog.text


def test_default_folder_is_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXVIZ_CACHE", str(tmp_path))
    assert default_cache() == tmp_path / "natural"

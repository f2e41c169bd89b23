"""The table of pictures: its figures are those of its filters, and the README's are the newest."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # `benchmarks` is not installed

from benchmarks import gallery, pictures, report  # noqa: E402

FILES = sorted(pictures.RESULTS.glob("*.json"))


def waves(cycles_per_px: float) -> np.ndarray:
    """Stripes of one frequency, at the size that pictures are brought to."""
    phase = 2 * np.pi * cycles_per_px * np.arange(pictures.COMMON_PX)
    row = np.round(127.5 + 100 * np.sin(phase)).astype(np.uint8)
    return np.tile(row[None, :, None], (pictures.COMMON_PX, 1, 3))


@pytest.mark.parametrize(("cycles_per_px", "share"), [(0.1, 0.0), (0.2, 0.0), (0.3, 1.0), (0.45, 1.0)])
def test_high_frequency_share_of_stripes(cycles_per_px, share):
    assert pictures.high_frequency_share(waves(cycles_per_px)) == pytest.approx(share, abs=0.01)


def test_high_frequency_share_of_a_flat_picture_is_none():
    assert pictures.high_frequency_share(np.full((40, 40, 3), 99, np.uint8)) == 0


def row(**values):
    filter_values = {"status": "ok", "rank": 1, "robust_rank": 1, "percentile": 100.0, "high_frequency_share": 0.1}
    return filter_values | values


def test_dead_filters_count_in_every_share():
    dead = row(status="dead", rank=None, robust_rank=None, percentile=None, high_frequency_share=0.9)
    entry = {"filters": [row(), row(rank=5, robust_rank=2), row(rank=6), dead]}
    figures = pictures.summarise({"entries": [entry]})["entries"][0]["figures"]
    assert (figures["ok"], figures["dead"]) == (0.75, 0.25)
    assert (figures["rank_1"], figures["rank_5"], figures["robust_rank_5"]) == (0.25, 0.5, 0.75)
    assert figures["median_percentile"] == 100
    assert figures["median_high_frequency_share"] == 0.1


def test_there_is_a_result():
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_figures_are_those_of_the_filters(file):
    result = json.loads(file.read_text())
    assert pictures.summarise(result) == result
    assert {entry["layer"] for entry in result["entries"]} == set(pictures.LAYERS)


def test_readme_holds_the_newest_pictures():
    path = report.newest(pictures.RESULTS)
    assert path is not None
    assert pictures.block(json.loads(path.read_text()), path.name) in report.FACTS_README.read_text()


def test_small_run_judges_real_pictures(tmp_path, monkeypatch):
    import jaxviz

    def quick(preset):
        return jaxviz.RenderConfig(image_size=48, crop=0, steps=2, preset=preset)

    monkeypatch.setattr(jaxviz.RenderConfig, "from_preset", staticmethod(quick))
    assert pictures.main(["--filters", "2", "--layers", "block2_1_expand_conv", "--out", str(tmp_path)]) == 0
    (file,) = tmp_path.iterdir()
    result = json.loads(file.read_text())
    assert [entry["preset"] for entry in result["entries"]] == ["keras", "distill"]
    assert all(row["percentile"] is not None for entry in result["entries"] for row in entry["filters"])


@pytest.mark.parametrize(("layer", "page"), list(zip(gallery.LAYERS, ("docs/pictures.md", "README.md"), strict=True)))
def test_page_shows_both_presets(layer, page):
    picture = gallery.picture_file(layer)
    shown = picture.relative_to((ROOT / page).parent)
    assert f'src="{shown}"' in (ROOT / page).read_text()
    assert picture.stat().st_size < 300_000

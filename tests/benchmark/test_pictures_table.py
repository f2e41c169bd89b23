"""The table of pictures: its figures are those of its filters, and the README's are the newest."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # `benchmarks` is not installed

from helpers_facts import pictures_raw  # noqa: E402

from benchmarks import gallery  # noqa: E402
from benchmarks.measure import pictures  # noqa: E402
from jaxviz.view.measures import high_frequency_share  # noqa: E402

COMMON_PX = 128  # of `renderer.COMMON_PX`, which needs jax


def waves(cycles_per_px: float) -> np.ndarray:
    """Stripes of one frequency, at the size that pictures are brought to."""
    phase = 2 * np.pi * cycles_per_px * np.arange(COMMON_PX)
    row = np.round(127.5 + 100 * np.sin(phase)).astype(np.uint8)
    return np.tile(row[None, :, None], (COMMON_PX, 1, 3))


@pytest.mark.parametrize(("cycles_per_px", "share"), [(0.1, 0.0), (0.2, 0.0), (0.3, 1.0), (0.45, 1.0)])
def test_high_frequency_share_of_stripes(cycles_per_px, share):
    assert high_frequency_share(waves(cycles_per_px)) == pytest.approx(share, abs=0.01)


def test_high_frequency_share_of_a_flat_picture_is_none():
    assert high_frequency_share(np.full((40, 40, 3), 99, np.uint8)) == 0


def test_dead_filters_count_in_every_share():
    dead = {"status": "dead", "rank": None, "robust_rank": None, "percentile": None, "high_frequency_share": 0.9}
    raw = pictures_raw({}, {"rank": 5, "robust_rank": 2}, {"rank": 6}, dead)
    figures = pictures.figures(raw)["`a_conv` | keras"]
    assert (figures["ok"], figures["dead"]) == (0.75, 0.25)
    assert (figures["rank_1"], figures["rank_5"], figures["robust_rank_5"]) == (0.25, 0.5, 0.75)
    assert figures["median_percentile"] == 100
    assert figures["median_high_frequency_share"] == 0.1


def test_layer_without_an_ok_filter_has_no_high_frequency_share():
    (figures,) = pictures.figures(pictures_raw({"status": "dead"})).values()
    assert figures["median_high_frequency_share"] is None


@pytest.mark.parametrize(("layer", "page"), list(zip(gallery.LAYERS, ("docs/pictures.md", "README.md"), strict=True)))
def test_page_shows_both_presets(layer, page):
    picture = gallery.picture_file(layer)
    shown = picture.relative_to((ROOT / page).parent)
    assert f'src="{shown}"' in (ROOT / page).read_text()
    assert picture.stat().st_size < 300_000

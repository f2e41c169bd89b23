"""Measures of pictures: what they find in pictures whose answer is known, and what they do not depend on."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from helpers_layers import FixedJudge, fill_layer, grey, stripes
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jaxviz.store.catalogue import read_catalogue
from jaxviz.view.measures import (
    colourfulness,
    dominant_frequency,
    high_frequency_share,
    layer_rows,
    mean_hue,
    measure_layer,
    measure_picture,
    orientation_strength,
    score_spread,
)

pytestmark = pytest.mark.quick

SIDE_PX = 96
DOWN, ACROSS = np.mgrid[:SIDE_PX, :SIDE_PX]
TINY_PICTURES = arrays.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3)))


def noise(seed: int = 0, side_px: int = SIDE_PX) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side_px, side_px, 3)).astype(np.uint8)


def wave(frequency: float, angle: float) -> np.ndarray:
    """Grey stripes of so many cycles per pixel, in a direction."""
    along = ACROSS * math.cos(angle) + DOWN * math.sin(angle)
    return grey(127 + 100 * np.sin(2 * np.pi * frequency * along))


# Frequency and orientation


@settings(deadline=None, max_examples=40)
@given(st.floats(0.05, 0.45), st.floats(0, math.pi))
def test_frequency_of_a_wave_is_found(frequency: float, angle: float) -> None:
    assert dominant_frequency(wave(frequency, angle)) == pytest.approx(frequency, abs=0.5 / SIDE_PX)


def test_wavelength_is_the_inverse_of_the_frequency() -> None:
    measured = measure_picture(stripes(8, side_px=64))
    assert measured.frequency is not None
    assert measured.wavelength == 1 / measured.frequency


def test_little_noise_does_not_move_the_frequency() -> None:
    clean = wave(0.1, 0.3)
    noisy = grey(clean[..., 0] + np.random.default_rng(0).normal(0, 25, (SIDE_PX, SIDE_PX)))
    assert dominant_frequency(noisy) == pytest.approx(dominant_frequency(clean), rel=0.1)


def test_wave_of_equal_brightness_counts() -> None:
    swing = 50 * np.sin(2 * np.pi * 0.2 * ACROSS)
    red, blue = 127 + swing, 127 - swing
    picture = np.stack([red, np.full_like(red, 127), blue], axis=-1).astype(np.uint8)
    assert dominant_frequency(picture) == pytest.approx(0.2, abs=0.5 / SIDE_PX)


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 4))
def test_frequency_falls_as_a_picture_is_enlarged(factor: int) -> None:
    small = wave(0.3, 0.4)[:32, :32]
    large = small.repeat(factor, axis=0).repeat(factor, axis=1)
    assert dominant_frequency(large) == pytest.approx(dominant_frequency(small) / factor, rel=0.15)


def test_parallel_stripes_have_one_orientation() -> None:
    assert orientation_strength(wave(0.1, 0.7)) == pytest.approx(1, abs=0.02)


def test_noise_has_no_orientation() -> None:
    assert orientation_strength(noise()) < 0.05


def test_equal_stripes_both_ways_have_no_orientation() -> None:
    both = grey(127 + 50 * np.sin(2 * np.pi * 0.125 * ACROSS) + 50 * np.sin(2 * np.pi * 0.125 * DOWN))
    assert orientation_strength(both) < 0.02


# Colour


@settings(deadline=None, max_examples=30)
@given(arrays.arrays(np.uint8, (7, 9)))
def test_grey_has_no_colour(values: np.ndarray) -> None:
    assert colourfulness(grey(values)) == 0
    assert mean_hue(grey(values)) is None


def test_colourfulness_is_that_of_the_paper() -> None:
    """Two pixels, red and blue, by hand: rg is 255 and 0, yb is 127.5 and -255."""
    picture = np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)
    spread = math.hypot(127.5, 191.25)
    assert colourfulness(picture) == pytest.approx(spread + 0.3 * math.hypot(127.5, -63.75))


def test_more_saturated_is_more_colourful() -> None:
    picture = noise()
    faded = (picture * 0.5 + picture.mean(axis=2, keepdims=True) * 0.5).astype(np.uint8)
    assert colourfulness(faded) < 0.7 * colourfulness(picture)


@pytest.mark.parametrize(
    ("colour", "degrees"),
    [((200, 0, 0), 0), ((200, 200, 0), 60), ((0, 200, 0), 120), ((0, 200, 200), 180), ((0, 0, 200), 240)],
)
def test_hue_of_a_colour(colour: tuple[int, int, int], degrees: float) -> None:
    assert mean_hue(np.full((3, 3, 3), colour, np.uint8)) == pytest.approx(degrees, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(TINY_PICTURES)
def test_hue_turns_by_120_degrees_with_the_channels(picture: np.ndarray) -> None:
    hue, turned = mean_hue(picture), mean_hue(picture[..., [2, 0, 1]])
    if hue is None or turned is None:
        assert hue is turned
    else:
        assert (turned - hue - 120 + 180) % 360 - 180 == pytest.approx(0, abs=1e-6)


# All of them


def same(one: float | None, other: float | None) -> bool:
    return one is other if one is None or other is None else one == pytest.approx(other, rel=1e-3, abs=2e-4)


TURNS = {
    "left to right": lambda picture: picture[:, ::-1],
    "upside down": lambda picture: picture[::-1],
    "a quarter": lambda picture: np.rot90(picture),
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("shape", [(48, 48), (40, 33)], ids=str)
def test_measures_do_not_depend_on(turn: str, shape: tuple[int, int]) -> None:
    picture = noise(3, 64)[: shape[0], : shape[1]] // 2 + stripes(7, side_px=64)[: shape[0], : shape[1]] // 2
    before = measure_picture(picture)
    after = measure_picture(np.ascontiguousarray(TURNS[turn](picture)))
    differing = [name for name in vars(before) if not same(getattr(before, name), getattr(after, name))]
    assert differing == []


@settings(deadline=None, max_examples=60)
@given(TINY_PICTURES)
def test_smallest_pictures_are_measured(picture: np.ndarray) -> None:
    values = [value for value in vars(measure_picture(picture)).values() if value is not None]
    assert all(math.isfinite(value) and value >= 0 for value in values)


@pytest.mark.parametrize("level", [0, 99, 255])
def test_one_colour_has_nothing_to_measure(level: int) -> None:
    measured = measure_picture(np.full((40, 40, 3), level, np.uint8))
    assert (measured.frequency, measured.orientation, measured.repetition, measured.hue) == (None,) * 4


@pytest.mark.parametrize("contrast", [0.1, 0.5])
def test_contrast_does_not_change_where_the_energy_lies(contrast: float) -> None:
    picture = wave(0.2, 0.5)
    faint = np.rint(127 + contrast * (picture - 127.0)).astype(np.uint8)
    assert high_frequency_share(faint) == pytest.approx(high_frequency_share(picture), abs=0.01)
    assert dominant_frequency(faint) == pytest.approx(dominant_frequency(picture), rel=0.02)


# Layers


@pytest.mark.parametrize(
    ("scores", "spread"),
    [([1, 2, 3, 4, 5], 2 / 3), ([4, 4, 4], 0), ([-1, -2, -3], 0.5), ([1], None), ([], None), ([-1, 0, 1], None)],
    ids=str,
)
def test_score_spread_is_quartiles_over_median(scores: list[float], spread: float | None) -> None:
    assert score_spread(scores) == (None if spread is None else pytest.approx(spread))


@given(st.lists(st.floats(0.5, 100), min_size=2), st.floats(0.01, 1000))
def test_score_spread_does_not_depend_on_the_scale(scores: list[float], factor: float) -> None:
    assert score_spread([score * factor for score in scores]) == pytest.approx(score_spread(scores), abs=1e-9)


def test_scores_that_are_not_finite_do_not_spread() -> None:
    assert score_spread([math.nan, 1, 2, math.inf]) == score_spread([1, 2])


def rows_of(folder: Path) -> dict:
    (layer,) = read_catalogue(folder).layers
    return {row.key: row for row in layer_rows(layer)}


def test_layer_rows_find_the_layers_stripes(tmp_path: Path) -> None:
    fill_layer(tmp_path, wavelength_px=6)
    assert rows_of(tmp_path)["wavelength"].median == pytest.approx(6, abs=0.3)


def test_layer_rows_count_only_ok_pictures(tmp_path: Path) -> None:
    fill_layer(tmp_path, statuses=("ok", "dead", "ok", "nan"))
    assert {row.count for key, row in rows_of(tmp_path).items() if key not in ("percentile", "rank")} == {2}


def test_layer_rows_have_medians_and_quartiles(tmp_path: Path) -> None:
    fill_layer(tmp_path, statuses=("ok",) * 5)
    row = rows_of(tmp_path)["score"]
    assert (row.lower, row.median, row.upper) == (2, 3, 4)


def test_layer_rows_without_a_picture_are_none(tmp_path: Path) -> None:
    fill_layer(tmp_path, statuses=("dead", "nan"))
    assert {(row.median, row.count) for row in rows_of(tmp_path).values()} == {(None, 0)}


def test_layer_rows_have_what_was_judged(tmp_path: Path) -> None:
    fill_layer(tmp_path, judge=FixedJudge())
    rows = rows_of(tmp_path)
    assert (rows["percentile"].median, rows["rank"].median) == (90, 1)


def test_measure_layer_says_how_far_it_is(tmp_path: Path) -> None:
    fill_layer(tmp_path, statuses=("ok", "dead"))
    calls: list[None] = []
    measure_layer(read_catalogue(tmp_path).layers[0], progress=lambda: calls.append(None))
    assert len(calls) == 2


def test_share_of_high_frequencies_counts_waves_below_4_px() -> None:
    assert high_frequency_share(wave(0.3, 0)) > 0.99
    assert high_frequency_share(wave(0.2, 0)) < 0.01


def test_share_at_a_common_side_counts_waves_per_picture() -> None:
    small = wave(0.3, 0)[:48, :48]
    assert high_frequency_share(small, side_px=96) < 0.01


def test_measure_layer_has_a_place_for_every_tile(tmp_path: Path) -> None:
    fill_layer(tmp_path, statuses=("ok", "dead"))
    (layer,) = read_catalogue(tmp_path).layers
    first, second = measure_layer(layer)
    assert first is not None
    assert second is None

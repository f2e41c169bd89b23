"""Self-repetition: 1 for tilings, near 0 for noise, a blob, an edge and a ramp; the autocorrelation by definition."""

from __future__ import annotations

import numpy as np
import pytest
from helpers_layers import grey, stripes
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxviz.pictures.repetition import LEAST_VARIANCE, autocorrelation, self_repetition

pytestmark = pytest.mark.quick

SIDE_PX = 96
LEAST_OF_A_TILING = 0.9  # the lowest seen of 3,000 random tiles of 6 to 12 px: 0.914; smaller ones may look flat
DOWN, ACROSS = np.mgrid[:SIDE_PX, :SIDE_PX]
WAVE = stripes(9, side_px=SIDE_PX)[..., 0]
RANDOM = np.random.default_rng(5)

REPEATING = {
    "stripes": stripes(8, side_px=SIDE_PX),
    "slanting stripes": grey(127 + 100 * np.sin((ACROSS + 0.6 * DOWN) / 2)),
    "plaid": grey(127 + 70 * np.sin(ACROSS / 2) + 40 * np.sin(DOWN / 3)),
    "equal brightness": np.stack([WAVE, 254 - WAVE, WAVE], axis=-1),
    "two by two": np.tile(RANDOM.integers(0, 256, (48, 48, 3)).astype(np.uint8), (2, 2, 1)),
}
SINGLE = {
    "grey noise": grey(RANDOM.integers(0, 256, (SIDE_PX, SIDE_PX))),
    "colour noise": RANDOM.integers(0, 256, (SIDE_PX, SIDE_PX, 3)).astype(np.uint8),
    "blob": grey(30 + 200 * np.exp(-((ACROSS - 50) ** 2 + (DOWN - 40) ** 2) / 200)),
    "blob in a corner": grey(30 + 200 * np.exp(-((ACROSS - 8) ** 2 + (DOWN - 8) ** 2) / 60)),
    "edge": grey(np.where(ACROSS + 0.3 * DOWN < 60, 20, 220)),
    "noisy edge": grey(np.where(ACROSS < 40, 60, 180) + RANDOM.normal(0, 20, (SIDE_PX, SIDE_PX))),
    "ramp": grey(2 * ACROSS + 0.5 * DOWN),
}


@pytest.mark.parametrize("picture", REPEATING)
def test_repetition_is_1_for(picture: str) -> None:
    assert self_repetition(REPEATING[picture]) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("picture", SINGLE)
def test_repetition_is_near_0_for(picture: str) -> None:
    assert self_repetition(SINGLE[picture]) < 0.1


@settings(derandomize=True, deadline=None, database=None, max_examples=15)
@given(st.integers(0, 999), st.integers(6, 40), st.integers(6, 40))
def test_any_tile_is_found_to_repeat(seed: int, height: int, width: int) -> None:
    tile = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    picture = np.tile(tile, (-(-SIDE_PX // height), -(-SIDE_PX // width), 1))[:SIDE_PX, :SIDE_PX]
    assert self_repetition(picture) > LEAST_OF_A_TILING


def test_noise_on_stripes_lowers_the_repetition() -> None:
    clean = stripes(8, side_px=SIDE_PX)[..., 0]
    found = [self_repetition(grey(clean + RANDOM.normal(0, sd, clean.shape))) for sd in (0, 40, 80)]
    assert found == sorted(found, reverse=True)
    assert found[2] < 0.7


def test_repetition_does_not_depend_on_brightness_and_contrast() -> None:
    picture = REPEATING["plaid"]
    assert self_repetition(picture // 2 + 30) == pytest.approx(self_repetition(picture), abs=0.01)


@pytest.mark.parametrize("side_px", [1, 2, 15])
def test_too_few_pixels_have_no_repetition(side_px: int) -> None:
    assert self_repetition(RANDOM.integers(0, 256, (side_px, 40, 3)).astype(np.uint8)) is None


def test_autocorrelation_is_the_overlapping_parts_correlation() -> None:
    picture = RANDOM.integers(0, 256, (18, 23, 3)).astype(np.uint8)
    picture[:, :9] //= 4  # darker, flatter parts make the floor of the variance count
    found = autocorrelation(picture)
    assert found.shape == (10, 23)
    pixels = picture.astype(float)
    total = ((pixels - pixels.mean(axis=(0, 1))) ** 2).sum() / (18 * 23)
    for dy, dx in ((0, 0), (3, 5), (9, -11), (0, -7), (6, 11)):
        lower = pixels[dy:, max(dx, 0) : 23 + min(dx, 0)]
        upper = pixels[: 18 - dy, max(-dx, 0) : 23 - max(dx, 0)]
        least = LEAST_VARIANCE * total * lower.shape[0] * lower.shape[1]
        lower, upper = (part - part.mean(axis=(0, 1)) for part in (lower, upper))
        scale = np.sqrt(max((lower**2).sum(), least) * max((upper**2).sum(), least))
        assert found[dy, dx + 11] == pytest.approx((lower * upper).sum() / scale, abs=1e-5), (dy, dx)

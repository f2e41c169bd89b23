"""Sprite sheets: every picture is where `place` says, in as many sheets as the largest side allows."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxviz.view.sprites import sheets, webp_bytes

pytestmark = pytest.mark.quick


def numbered(count: int, *, height: int = 4, width: int = 4) -> list[np.ndarray]:
    """Plain pictures, each of its own grey; none is black."""
    return [np.full((height, width, 3), index + 1, np.uint8) for index in range(count)]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 5), st.integers(5, 40))
def test_every_picture_is_where_its_sheet_says(count: int, height: int, width: int, largest_px: int) -> None:
    pictures = numbered(count, height=height, width=width)
    seen = []
    for sheet in sheets(pictures, count, largest_px=largest_px):
        assert max(sheet.pixels.shape) <= largest_px
        assert sheet.first == len(seen)
        for tile in range(sheet.count):
            top, left = sheet.place(tile)
            part = sheet.pixels[top : top + height, left : left + width]
            np.testing.assert_array_equal(part, pictures[len(seen)])
            seen.append(tile)
    assert len(seen) == count


def test_columns_are_near_square() -> None:
    (sheet,) = sheets(numbered(64), 64)
    assert (sheet.columns, sheet.pixels.shape) == (8, (32, 32, 3))


def test_last_row_is_filled_with_black() -> None:
    (sheet,) = sheets(numbered(3), 3)
    assert not sheet.pixels[4:, 4:].any()


def test_sheets_are_made_while_pictures_are_read() -> None:
    source = iter(numbered(8))
    next(sheets(source, 8, largest_px=8))
    assert len(list(source)) == 4


def test_tiles_are_made_smaller_in_proportion() -> None:
    (sheet,) = sheets(numbered(4, height=20, width=40), 4, tile_px=10)
    assert sheet.tile == (5, 10)


def test_small_pictures_stay_as_they_are() -> None:
    (sheet,) = sheets(numbered(4), 4, tile_px=10)
    assert sheet.tile == (4, 4)


def test_a_thin_picture_keeps_a_pixel() -> None:
    (sheet,) = sheets(numbered(1, height=1, width=100), 1, tile_px=10)
    assert sheet.tile == (1, 10)


@pytest.mark.parametrize(("announced", "message"), [(5, "3 came"), (2, "more came")])
def test_wrong_count_is_refused(announced: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(sheets(numbered(3), announced))


def test_pictures_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="picture 1 is 9x9 px, the ones before are 4x4 px"):
        list(sheets([*numbered(1), *numbered(1, height=9, width=9)], 2))


def test_webp_has_the_sheets_size() -> None:
    with Image.open(io.BytesIO(webp_bytes(np.zeros((8, 12, 3), np.uint8)))) as image:
        assert (image.format, image.size) == ("WEBP", (12, 8))

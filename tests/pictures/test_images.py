"""Array to array: the Keras example's picture, the grid, the placeholder."""

from __future__ import annotations

import numpy as np
import pytest

from jaxviz.pictures.images import GRID_MARGIN_PX, deprocess, grid, grid_columns, placeholder

pytestmark = pytest.mark.quick


def keras_deprocess_image(img: np.ndarray) -> np.ndarray:
    """`deprocess_image` of the Keras example, with the statistics taken before the crop as seed.md says."""
    img = img.copy()
    img -= img.mean()
    img /= img.std() + 1e-5
    img *= 0.15
    img = img[25:-25, 25:-25, :]
    img += 0.5
    img = np.clip(img, 0, 1)
    img *= 255
    return np.clip(img, 0, 255).astype("uint8")


def noise(height: int, width: int, *, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(0.3, scale, (height, width, 3))
    return values.astype(np.float32)


def tiles(count: int, height: int = 10, width: int = 12) -> list[np.ndarray]:
    """Distinct one-coloured pictures, none of them black."""
    return [np.full((height, width, 3), (1 + i % 250, 1 + i // 250, 255), np.uint8) for i in range(count)]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
@pytest.mark.parametrize("size", [(180, 180), (51, 51), (96, 160)])
def test_deprocess_is_the_keras_examples(size: tuple[int, int], scale: float) -> None:
    image = noise(*size, scale=scale)
    np.testing.assert_array_equal(deprocess(image, crop=25, contrast=0.15), keras_deprocess_image(image))


def test_deprocess_takes_its_statistics_before_the_crop() -> None:
    image = noise(60, 60)
    brighter_frame = image.copy()
    brighter_frame[:25] += 10
    assert not np.array_equal(
        deprocess(image, crop=25, contrast=0.15), deprocess(brighter_frame, crop=25, contrast=0.15)
    )


def test_deprocess_truncates() -> None:
    # The frame fixes mean 0 and std 1; the one pixel left is then 0.5 * 255 = 127.5.
    image = np.zeros((3, 3, 3), np.float32)
    image[0], image[2] = 1.0, -1.0
    assert deprocess(image, crop=1, contrast=0.15).tolist() == [[[127, 127, 127]]]


def test_deprocess_of_a_constant_image_is_grey() -> None:
    picture = deprocess(np.full((60, 60, 3), 3.0, np.float32), crop=25, contrast=0.15)
    assert np.unique(picture).tolist() == [127]


def test_deprocess_without_a_crop_keeps_the_size() -> None:
    assert deprocess(noise(7, 9), crop=0, contrast=0.15).shape == (7, 9, 3)


def test_deprocess_keeps_height_and_width_apart() -> None:
    assert deprocess(noise(64, 100), crop=25, contrast=0.15).shape == (14, 50, 3)


def test_deprocess_gives_uint8() -> None:
    assert deprocess(noise(60, 60), crop=25, contrast=0.15).dtype == np.uint8


def test_deprocess_leaves_its_argument_alone() -> None:
    image = noise(60, 60)
    before = image.copy()
    deprocess(image, crop=25, contrast=0.15)
    np.testing.assert_array_equal(image, before)


def test_deprocess_clips_at_strong_contrast() -> None:
    picture = deprocess(noise(60, 60), crop=0, contrast=5.0)
    assert (picture.min(), picture.max()) == (0, 255)


def test_grid_of_64_keras_pictures_is_1075_px() -> None:
    assert grid(tiles(64, 130, 130)).shape == (1075, 1075, 3)


def test_grid_margin_is_5_px() -> None:
    assert GRID_MARGIN_PX == 5


def test_grid_margins_are_black() -> None:
    sheet = grid(tiles(64, 130, 130))
    gap = np.arange(1075) % 135 >= 130
    assert not sheet[gap].any()
    assert not sheet[:, gap].any()


def test_grid_has_no_outer_margin() -> None:
    sheet = grid(tiles(4))
    assert sheet[0, 0].any()
    assert sheet[-1, -1].any()


def test_grid_tiles_stand_in_row_order() -> None:
    pictures = tiles(64, 130, 130)
    sheet = grid(pictures)
    for place, picture in enumerate(pictures):
        top, left = place // 8 * 135, place % 8 * 135
        np.testing.assert_array_equal(sheet[top : top + 130, left : left + 130], picture, err_msg=f"tile {place}")


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (3, 2, 2), (63, 8, 8), (65, 8, 9)])
def test_grid_of_any_number_has_the_squarest_shape(count: int, rows: int, columns: int) -> None:
    assert grid(tiles(count)).shape == (rows * 15 - 5, columns * 17 - 5, 3)


@pytest.mark.parametrize("count", [1, 2, 3, 63, 65])
def test_grid_shows_every_picture_once(count: int) -> None:
    pictures = tiles(count)
    sheet = grid(pictures)
    shown = {tuple(colour) for colour in sheet.reshape(-1, 3).tolist()} - {(0, 0, 0)}
    assert shown == {tuple(picture[0, 0].tolist()) for picture in pictures}
    assert np.count_nonzero(sheet.any(axis=2)) == count * 10 * 12


def test_grid_leaves_missing_tiles_black() -> None:
    sheet = grid(tiles(3))
    assert not sheet[15:, 17:].any()


def test_grid_with_given_columns_fills_rows_of_that_length() -> None:
    assert grid(tiles(7), columns=3).shape == (3 * 15 - 5, 3 * 17 - 5, 3)


@pytest.mark.parametrize("count", range(1, 300))
def test_grid_columns_hold_the_count_without_an_empty_row(count: int) -> None:
    columns = grid_columns(count)
    rows = -(-count // columns)
    assert columns - 1 <= rows <= columns


def test_grid_draws_no_numbers_unasked() -> None:
    picture = np.full((60, 60, 3), 200, np.uint8)
    np.testing.assert_array_equal(grid([picture]), picture)


def test_grid_numbers_differ_between_filters() -> None:
    picture = np.full((60, 60, 3), 200, np.uint8)
    sheet = grid([picture, picture], numbers=[7, 1234])
    assert not np.array_equal(sheet[:, :60], sheet[:, 65:])


def test_grid_number_covers_a_corner_only() -> None:
    picture = np.full((60, 60, 3), 200, np.uint8)
    changed = (grid([picture], numbers=[7]) != 200).any(axis=2)
    assert changed.any()
    assert not changed[30:].any()
    assert not changed[:, 30:].any()


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3)])
def test_grid_numbers_fit_any_size(size: tuple[int, int]) -> None:
    assert grid(tiles(2, *size), numbers=[0, 2047]).shape == (size[0], 2 * size[1] + 5, 3)


def test_grid_leaves_its_pictures_alone() -> None:
    picture = np.full((60, 60, 3), 200, np.uint8)
    grid([picture], numbers=[3])
    assert (picture == 200).all()


@pytest.mark.parametrize("size", [(130, 130), (50, 50), (1, 1), (3, 200), (200, 3), (14, 50)])
def test_placeholder_has_the_asked_size(size: tuple[int, int]) -> None:
    tile = placeholder(*size, filter_index=12, status="dead")
    assert (tile.shape, tile.dtype) == ((*size, 3), np.uint8)


@pytest.mark.parametrize("size", [(130, 130), (50, 50), (1, 1), (3, 200), (200, 3)])
def test_placeholder_differs_between_dead_and_nan(size: tuple[int, int]) -> None:
    assert not np.array_equal(
        placeholder(*size, filter_index=12, status="dead"), placeholder(*size, filter_index=12, status="nan")
    )


def test_placeholder_names_its_filter() -> None:
    assert not np.array_equal(
        placeholder(130, 130, filter_index=12, status="dead"), placeholder(130, 130, filter_index=13, status="dead")
    )


def test_placeholder_is_not_taken_for_a_picture() -> None:
    # A picture is centred on grey 127; a tile is dark.
    assert placeholder(130, 130, filter_index=12, status="dead").mean() < 80

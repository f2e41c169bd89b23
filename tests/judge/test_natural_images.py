"""Natural images: what a folder's files become, scikit-image's photographs, and that nothing is fetched."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers_cli import run_python
from PIL import Image

from jaxviz.errors import ConfigError
from jaxviz.judge import natural_images as module
from jaxviz.judge.natural_images import CROPS, PHOTOGRAPHS, natural_images

pytestmark = pytest.mark.quick

FEWEST_CROPS = 200  # the promise
CROP_COUNT = 225
RED, GREEN, BLUE = (200, 20, 30), (20, 200, 30), (20, 30, 200)
JPEG_LEVELS = 6  # of 255: what JPEG and resampling may change in a flat area
ORIENTATION = 0x0112
TURNED_BY_90 = 6  # "the 0th row is the visual right-hand side"


def flat(colour: tuple[int, ...], mode: str = "RGB", size: tuple[int, int] = (20, 20)) -> Image.Image:
    return Image.new(mode, size, colour)


def stripes(*colours: tuple[int, int, int], width: int = 20, height: int = 20) -> Image.Image:
    """Upright stripes of a width, left to right."""
    return Image.fromarray(np.repeat(np.array([colours], np.uint8), width, axis=1).repeat(height, axis=0))


def images_of(folder: Path, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    found = natural_images(folder, size)
    assert found is not None
    return found.images


def one_of(folder: Path, image: Image.Image, name: str = "a.png", **options: object) -> np.ndarray:
    """What an image becomes, at 8 px; the other image of the folder is there because two are needed."""
    image.save(folder / name, **options)
    flat(GREEN).save(folder / "zzz.png")
    return images_of(folder)[0]


# A folder


def test_folder_gives_uint8_images_of_the_size(tmp_path):
    flat(RED).save(tmp_path / "a.png")
    flat(BLUE, size=(31, 17)).save(tmp_path / "b.png")
    images = images_of(tmp_path, (6, 9))
    assert (images.shape, images.dtype) == ((2, 6, 9, 3), np.uint8)


def test_folder_is_read_with_its_subfolders_in_order_of_path(tmp_path):
    (tmp_path / "b").mkdir()
    for name, colour in (("c.png", BLUE), ("b/x.png", GREEN), ("a.png", RED)):
        flat(colour).save(tmp_path / name)
    assert [tuple(image[0, 0]) for image in images_of(tmp_path)] == [RED, GREEN, BLUE]


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "a.jpeg", "a.webp", "a.bmp", "a.gif", "a.tif"])
def test_image_format_is_read(tmp_path, name):
    found = one_of(tmp_path, flat(RED), name)
    assert np.abs(found.astype(int) - RED).max() <= JPEG_LEVELS


def test_other_and_hidden_files_are_left_out(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._a.png").write_bytes(b"what macOS puts beside a.png")
    one_of(tmp_path, flat(RED))
    assert len(images_of(tmp_path)) == 2


def test_image_is_cropped_to_its_centre(tmp_path):
    assert (one_of(tmp_path, stripes(RED, GREEN, BLUE)) == GREEN).all()


def test_image_keeps_its_aspect_ratio(tmp_path):
    stripes(RED, GREEN, BLUE).save(tmp_path / "a.png")
    flat(RED).save(tmp_path / "b.png")
    wide = images_of(tmp_path, (10, 30))[0]
    assert [tuple(wide[5, x]) for x in (2, 15, 27)] == [RED, GREEN, BLUE]


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = TURNED_BY_90
    stripes(RED, BLUE).save(tmp_path / "a.png", exif=exif)
    flat(GREEN).save(tmp_path / "b.png")
    upright = images_of(tmp_path, (40, 20))[0]
    assert (tuple(upright[5, 10]), tuple(upright[35, 10])) == (RED, BLUE)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (flat((90,), "L"), (90, 90, 90)),
        (Image.fromarray(np.full((20, 20), 90 * 256 + 7, np.uint16)), (90, 90, 90)),
        (flat((90, 0), "LA"), (255, 255, 255)),
        (flat((*RED, 255), "RGBA"), RED),
        (flat((*RED, 0), "RGBA"), (255, 255, 255)),
        (flat(RED).quantize(4), RED),
        (flat((1,), "1"), (255, 255, 255)),
    ],
    ids=["grey", "16 bit", "grey and alpha", "opaque", "transparent", "palette", "black and white"],
)
def test_mode_becomes_rgb(tmp_path, image, expected):
    assert (one_of(tmp_path, image) == expected).all()


def test_transparent_colour_of_a_palette_is_white(tmp_path):
    image = flat(RED).quantize(4)
    assert (one_of(tmp_path, image, transparency=image.getpixel((0, 0))) == 255).all()


def test_first_frame_of_an_animation_is_taken(tmp_path):
    found = one_of(tmp_path, flat(RED), "a.gif", save_all=True, append_images=[flat(BLUE)])
    assert np.abs(found.astype(int) - RED).max() <= JPEG_LEVELS


def test_hash_changes_with_one_pixel(tmp_path):
    one_of(tmp_path, flat(RED))
    before = natural_images(tmp_path, (8, 8)).sha256
    changed = flat(RED)
    changed.putpixel((3, 4), BLUE)
    changed.save(tmp_path / "a.png")
    assert natural_images(tmp_path, (8, 8)).sha256 != before


def test_hash_does_not_depend_on_the_place_of_the_folder(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        one_of(tmp_path / name, flat(RED))
    one, two = (natural_images(tmp_path / name, (8, 8)) for name in ("one", "two"))
    assert one.sha256 == two.sha256
    assert one.source.endswith("one")


def broken(file: Path) -> None:
    file.write_bytes(b"\x89PNG\r\n\x1a\nand then nothing")


def truncated(file: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[:2000])


def floating(file: Path) -> None:
    Image.fromarray(np.zeros((9, 9), np.float32)).save(file, format="TIFF")


@pytest.mark.parametrize("spoil", [broken, truncated, floating])
def test_unreadable_image_is_an_error_that_names_the_file(tmp_path, spoil):
    one_of(tmp_path, flat(RED))
    spoil(tmp_path / "spoiled.png")
    with pytest.raises(ConfigError, match=r"images .*spoiled\.png"):
        natural_images(tmp_path, (8, 8))


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_are_an_error(tmp_path, count):
    for number in range(count):
        flat(RED).save(tmp_path / f"{number}.png")
    with pytest.raises(ConfigError, match=rf"images .* holds {count} images"):
        natural_images(tmp_path, (8, 8))


def test_too_many_images_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST", 2)
    for number in range(3):
        flat(RED).save(tmp_path / f"{number}.png")
    with pytest.raises(ConfigError, match="holds 3 images"):
        natural_images(tmp_path, (8, 8))


def test_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"images .*nowhere does not exist"):
        natural_images(tmp_path / "nowhere", (8, 8))


def test_file_for_a_folder_is_an_error(tmp_path):
    flat(RED).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"images .*a\.png is a file"):
        natural_images(tmp_path / "a.png", (8, 8))


# scikit-image's photographs


@pytest.fixture(scope="module")
def shipped():
    pytest.importorskip("skimage", reason="the photographs come with scikit-image: pip install -e '.[dev]'")
    return natural_images(None, (48, 48))


def test_photographs_give_at_least_the_promised_number_of_crops(shipped):
    assert len(shipped.images) == CROP_COUNT >= FEWEST_CROPS


@pytest.mark.parametrize("size", [(48, 48), (20, 80), (80, 20)])
def test_no_two_crops_are_equal(shipped, size):
    images = natural_images(None, size).images
    assert images.shape == (CROP_COUNT, *size, 3)
    assert len(np.unique(images.reshape(CROP_COUNT, -1), axis=0)) == CROP_COUNT


def test_crops_are_the_same_every_time(shipped):
    again = natural_images(None, (48, 48))
    assert again.sha256 == shipped.sha256
    np.testing.assert_array_equal(again.images, shipped.images)


def test_another_size_has_another_hash(shipped):
    assert natural_images(None, (24, 24)).sha256 != shipped.sha256  # the same crops


def test_another_grid_has_another_hash(shipped, monkeypatch):
    monkeypatch.setattr(module, "CROPS", (*CROPS[:-1], (0.45, 5)))
    assert natural_images(None, (48, 48)).sha256 != shipped.sha256


def test_source_names_scikit_image(shipped):
    assert shipped.source == "225 crops of photographs in scikit-image"


@pytest.mark.parametrize("size", [(48, 48), (20, 80), (80, 20), (7, 5)])
def test_crops_lie_inside_and_have_the_aspect_ratio(size):
    height, width = size
    for left, top, right, bottom in module._boxes(Image.new("L", (451, 300)), CROPS, size):
        assert 0 <= left < right <= 451
        assert 0 <= top < bottom <= 300
        assert abs((right - left) - (bottom - top) * width / height) <= 0.5 + 0.5 * width / height  # whole pixels


def test_crops_reach_every_edge():
    boxes = np.array(module._boxes(Image.new("L", (451, 300)), CROPS, (48, 48)))
    assert (boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()) == ([0, 0], [451, 300])


def test_photographs_are_not_fetched(shipped, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("this would fetch something")

    import pooch

    monkeypatch.setattr(pooch.Pooch, "fetch", refuse)
    monkeypatch.setattr(pooch, "retrieve", refuse)
    monkeypatch.setattr(socket, "socket", refuse)
    assert natural_images(None, (8, 8)) is not None


def test_photographs_are_read_without_importing_scikit_image_or_jax(tmp_path):
    code = (
        "import sys; from jaxviz.judge.natural_images import natural_images; natural_images(None, (8, 8));"
        "print(sorted({'skimage', 'pooch', 'jax'} & sys.modules.keys()))"
    )
    assert run_python(code, cwd=tmp_path) == "[]\n"


def test_there_are_none_without_scikit_image(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    assert natural_images(None, (8, 8)) is None


def test_there_are_none_where_a_photograph_is_missing(monkeypatch):
    monkeypatch.setattr(module, "PHOTOGRAPHS", (*PHOTOGRAPHS, "elsewhere.png"))
    assert natural_images(None, (8, 8)) is None

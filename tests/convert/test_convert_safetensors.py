"""jaxviz's own weight files: written whole, the same bytes every time, read as strictly as foreign ones."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from weight_files import assert_same_weights, random_weights

from jaxviz.errors import StorageError, WeightsError
from weights_convert.read import read_weights
from weights_convert.safetensors_file import write_safetensors

pytestmark = pytest.mark.quick

MODEL = "efficientnet_lite0"
METADATA = {"model": MODEL, "head": "true", "source": "somewhere.pth", "licence": "Apache-2.0"}


@pytest.fixture(scope="module")
def weights():
    return random_weights(MODEL, head=True)


@pytest.fixture
def converted(weights, tmp_path):
    path = tmp_path / "converted.safetensors"
    write_safetensors(path, weights, METADATA)
    return path


def test_written_file_reads_back_bit_equal_with_its_metadata(weights, converted):
    found = read_weights(converted, MODEL)
    assert found.has_head
    assert_same_weights(found.arrays, weights)
    assert METADATA.items() <= found.metadata.items()


def test_same_weights_give_the_same_bytes_in_every_process(weights, converted, tmp_path):
    again = tmp_path / "again.safetensors"
    code = (
        "import sys; from pathlib import Path; from weights_convert.read import read_weights;"
        "from weights_convert.safetensors_file import write_safetensors;"
        f"w = read_weights(Path(sys.argv[1]), {MODEL!r}); write_safetensors(Path(sys.argv[2]), w.arrays, w.metadata)"
    )
    subprocess.run([sys.executable, "-c", code, converted, again], check=True)
    assert again.read_bytes() == converted.read_bytes()


def test_head_can_be_left_out_but_not_made_up(weights, converted):
    found = read_weights(converted, MODEL)
    headless = found.for_head(head=False)
    assert set(weights) - set(headless.arrays) == {"predictions"}
    assert headless.metadata["head"] == "false"
    with pytest.raises(WeightsError, match=r"somewhere\.pth have no head"):
        headless.for_head(head=True)


def test_file_for_another_model_is_refused(converted):
    with pytest.raises(WeightsError, match="is for MODEL 'efficientnet_lite0', not 'efficientnet_lite1'"):
        read_weights(converted, "efficientnet_lite1")


@pytest.mark.parametrize("kept", [0, 5, 9, 500, 100_000, -1])
def test_truncated_file_is_refused(converted, kept):
    converted.write_bytes(converted.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=r"truncated or damaged|of no known kind"):
        read_weights(converted, MODEL)


def test_file_without_our_metadata_is_refused(tmp_path):
    path = tmp_path / "foreign.safetensors"
    safetensors.numpy.save_file({"x": np.zeros(2)}, path, {"format": "pt"})
    with pytest.raises(WeightsError, match="but not of jaxviz"):
        read_weights(path, MODEL)


def test_file_of_a_later_format_says_to_convert_again(tmp_path):
    path = tmp_path / "later.safetensors"
    metadata = {"weights_convert": json.dumps(METADATA | {"format_version": "2"})}
    safetensors.numpy.save_file({"x": np.zeros(2)}, path, metadata)
    with pytest.raises(WeightsError, match=r"format version '2'.*convert efficientnet_lite0 FILE"):
        read_weights(path, MODEL)


def test_missing_unexpected_and_nan_arrays_are_refused(weights, tmp_path):
    path = tmp_path / "wrong.safetensors"
    stem = {"stem_conv": weights["stem_conv"], "extra": {"kernel": np.zeros(1, np.float32)}}
    write_safetensors(path, stem, METADATA)
    with pytest.raises(WeightsError, match=r"244 missing.*1 unexpected: 'extra/kernel'"):
        read_weights(path, MODEL)
    spoilt = weights | {"predictions": weights["predictions"] | {"bias": np.full(1000, np.nan, np.float32)}}
    write_safetensors(path, spoilt, METADATA)
    with pytest.raises(WeightsError, match="hold NaN or infinity: 'predictions/bias'"):
        read_weights(path, MODEL)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failed_write_leaves_the_old_file_and_nothing_else(weights, converted, monkeypatch, code, call):
    before = converted.read_bytes()

    def fail(*_args: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(f"jaxviz.files.os.{call}", fail)
    with pytest.raises(StorageError, match=os.strerror(code)):
        write_safetensors(converted, {"stem_conv": weights["stem_conv"]}, METADATA)
    assert converted.read_bytes() == before
    assert list(converted.parent.iterdir()) == [converted]


def test_missing_file_names_its_neighbours(converted):
    with pytest.raises(WeightsError, match=r"does not exist in .*; nearest: 'converted\.safetensors'"):
        read_weights(converted.with_name("convertd.safetensors"), MODEL)


def test_folder_is_no_weights_file(tmp_path):
    with pytest.raises(WeightsError, match="is a folder"):
        read_weights(tmp_path, MODEL)
    with pytest.raises(WeightsError, match="nor does its folder"):
        read_weights(tmp_path / "nowhere" / "file.h5", MODEL)

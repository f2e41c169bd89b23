"""Keras's own files, in every layout, load to the same bits; anything else is one WeightsError."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from weight_files import (
    KERAS_FORMATS,
    assert_same_weights,
    keras_weights,
    random_weights,
    write_keras_files,
    write_legacy_h5,
)

from jaxviz.errors import WeightsError
from weights_convert.match import without_head
from weights_convert.read import read_weights
from weights_convert.sources import KERAS_FILES

MODEL = "resnet50v2"


@pytest.fixture(scope="session")
def keras_files(tmp_path_factory):
    pytest.importorskip("keras", reason="keras is not installed: pip install keras tensorflow")
    pytest.importorskip("tf_keras", reason="tf_keras (Keras 2) is not installed: pip install tf_keras")
    folder = tmp_path_factory.mktemp("keras_files")
    write_keras_files(folder)
    return folder


@pytest.fixture(scope="session")
def legacy_file(tmp_path_factory):
    """ResNet50V2 without head, written without Keras."""
    folder = tmp_path_factory.mktemp("legacy")
    return write_legacy_h5(folder / "notop.h5", random_weights(MODEL, head=False))


@pytest.fixture
def altered(legacy_file, tmp_path):
    """A copy of the legacy file to be altered."""
    return Path(shutil.copy(legacy_file, tmp_path / "altered.h5"))


@pytest.mark.parametrize("name", KERAS_FORMATS.values(), ids=KERAS_FORMATS.keys())
def test_keras_file_loads_bit_equal_in_every_format(keras_files, name):
    weights = read_weights(keras_files / name, MODEL)
    assert weights.has_head
    assert_same_weights(weights.arrays, keras_weights())


def test_keras_file_without_top_loads_without_head(keras_files):
    weights = read_weights(keras_files / "notop.h5", MODEL)
    assert not weights.has_head
    assert_same_weights(weights.arrays, without_head(keras_weights(), MODEL))


def test_network_within_a_model_of_the_real_size_loads_bit_equal(keras_files):
    weights = read_weights(keras_files / "finetuned.keras", MODEL)
    assert weights.left_out == ("'random_flip' (RandomFlip)", "'layers/dense' (2048, 5), (5,)")
    assert_same_weights(weights.arrays, without_head(keras_weights(), MODEL))


def test_head_called_probs_is_predictions(keras_files, tmp_path):
    path = Path(shutil.copy(keras_files / "k2_weights.h5", tmp_path))
    with h5py.File(path, "r+") as root:
        root.move("predictions/predictions", "predictions/probs")
        root.move("predictions", "probs")
        root["probs"].attrs["weight_names"] = [b"probs/kernel:0", b"probs/bias:0"]
        root.attrs["layer_names"] = [
            b"probs" if name == b"predictions" else name for name in map(_as_bytes, root.attrs["layer_names"])
        ]
    assert_same_weights(read_weights(path, MODEL).arrays, keras_weights())


def test_keras3_file_without_name_attributes_goes_by_counter(keras_files, tmp_path):
    path = Path(shutil.copy(keras_files / "k3.weights.h5", tmp_path))
    with h5py.File(path, "r+") as root:
        for group in root["layers"].values():
            group["vars"].attrs.pop("name")
    assert_same_weights(read_weights(path, MODEL).arrays, keras_weights())


def test_keras3_file_named_on_the_layer_group_goes_by_name(keras_files, tmp_path):
    path = Path(shutil.copy(keras_files / "k3.weights.h5", tmp_path))
    with h5py.File(path, "r+") as root:
        for group in root["layers"].values():
            group.attrs["name"] = group["vars"].attrs.pop("name")
        _swap(root["layers"], "conv2d_3", "conv2d_10")  # by counter these would now be exchanged
        _swap(root["layers"], "batch_normalization", "batch_normalization_10")
    assert_same_weights(read_weights(path, MODEL).arrays, keras_weights())


def test_keras3_file_with_some_names_is_refused(keras_files, tmp_path):
    path = Path(shutil.copy(keras_files / "k3.weights.h5", tmp_path))
    with h5py.File(path, "r+") as root:
        root["layers/conv2d_10/vars"].attrs.pop("name")
    with pytest.raises(WeightsError, match="conv2d_10"):
        read_weights(path, MODEL)


def test_keras3_file_with_the_older_group_name_loads(keras_files, tmp_path):
    path = Path(shutil.copy(keras_files / "k2.weights.h5", tmp_path))
    with h5py.File(path, "r+") as root:
        root.move("layers", "_layer_checkpoint_dependencies")
    assert_same_weights(read_weights(path, MODEL).arrays, keras_weights())


def test_keras3_file_lacking_one_counter_does_not_shift_the_others(keras_files, tmp_path):
    path = Path(shutil.copy(keras_files / "k2.weights.h5", tmp_path))
    with h5py.File(path, "r+") as root:
        del root["layers/conv2d_5"]
    with pytest.raises(WeightsError, match=r"fit MODEL resnet50v2; 1 missing: 'conv2_block2_1_conv/kernel'\."):
        read_weights(path, MODEL)


@pytest.mark.parametrize(
    ("name", "array"),
    [("k3_model.h5", "optimizer_weights/Adam/m/conv1_conv/kernel:0"), ("k3.weights.h5", "optimizer/vars/0")],
)
def test_training_state_is_ignored(keras_files, tmp_path, name, array):
    path = Path(shutil.copy(keras_files / name, tmp_path))
    with h5py.File(path, "r+") as root:
        root[array] = np.zeros(3)
    assert_same_weights(read_weights(path, MODEL).arrays, keras_weights())


def test_legacy_layers_in_another_order_load_by_name(tmp_path):
    weights = random_weights(MODEL, head=False)
    permuted = {layer: weights[layer] for layer in sorted(weights, key=lambda name: name[::-1])}
    path = write_legacy_h5(tmp_path / "permuted.h5", permuted, suffix="", as_bytes=False)
    assert_same_weights(read_weights(path, MODEL).arrays, weights)


def test_legacy_lists_of_names_may_be_split(altered):
    with h5py.File(altered, "r+") as root:
        names = root.attrs.pop("layer_names")
        root.attrs["layer_names0"], root.attrs["layer_names1"] = names[:40], names[40:]
        group = root["post_bn"]
        names = group.attrs.pop("weight_names")
        group.attrs["weight_names0"], group.attrs["weight_names1"] = names[:1], names[1:]
    assert_same_weights(read_weights(altered, MODEL).arrays, random_weights(MODEL, head=False))


def test_double_precision_becomes_float32(altered):
    with h5py.File(altered, "r+") as root:
        _replace(root, "post_bn/post_bn/gamma:0", np.full(2048, 1 / 3))
    gamma = read_weights(altered, MODEL).arrays["post_bn"]["gamma"]
    assert gamma.dtype == np.float32
    assert gamma[0] == np.float32(1 / 3)


def test_all_mistakes_are_named_in_one_error(altered):
    with h5py.File(altered, "r+") as root:
        del root["conv1_conv/conv1_conv/bias:0"]
        _replace(root, "post_bn/post_bn/gamma:0", np.zeros(7, np.float32))
        _replace(root, "post_bn/post_bn/beta:0", np.zeros(2048, np.int64))
        root["surprise/kernel:0"] = np.zeros(2)
    with pytest.raises(WeightsError) as caught:
        read_weights(altered, MODEL)
    message = str(caught.value)
    assert "1 missing: 'conv1_conv/bias'" in message
    assert "1 unexpected: 'surprise/kernel:0'" in message
    assert "1 misshapen: 'post_bn/gamma' is (7,), 'post_bn/gamma' needs (2048,)" in message
    assert "1 not floating point: 'post_bn/beta' (int64)" in message


def test_half_a_head_is_left_out(keras_files, tmp_path):
    path = Path(shutil.copy(keras_files / "k2_weights.h5", tmp_path))
    with h5py.File(path, "r+") as root:
        del root["predictions/predictions/bias:0"]
    weights = read_weights(path, MODEL)
    assert not weights.has_head
    assert weights.left_out == ("'predictions' (2048, 1000)",)


def test_two_arrays_for_one_weight_are_refused(altered):
    with h5py.File(altered, "r+") as root:
        root["post_bn/other/gamma:0"] = np.zeros(2048, np.float32)
        names = [*map(_as_bytes, root["post_bn"].attrs["weight_names"]), b"other/gamma:0"]
        root["post_bn"].attrs["weight_names"] = names
    with pytest.raises(WeightsError, match="1 doubled: 'post_bn/other/gamma:0' and 'post_bn/gamma'"):
        read_weights(altered, MODEL)


def test_head_under_both_its_names_is_left_out(tmp_path):
    weights = random_weights(MODEL, head=True)
    path = write_legacy_h5(tmp_path / "two_heads.h5", weights | {"probs": weights["predictions"]})
    found = read_weights(path, MODEL)
    with pytest.raises(WeightsError, match=r"beside the network 'predictions' \(2048, 1000\), .*'probs'"):
        found.for_head(head=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_weight_that_is_not_finite_is_refused_by_name(altered, value):
    with h5py.File(altered, "r+") as root:
        gamma = np.ones(2048)
        gamma[100] = value
        _replace(root, "post_bn/post_bn/gamma:0", gamma)
    with pytest.raises(WeightsError, match="hold NaN or infinity: 'post_bn/gamma'"):
        read_weights(altered, MODEL)


def test_file_of_another_network_names_what_is_missing(legacy_file):
    with pytest.raises(WeightsError, match=r"272 missing: .*conv4_block7_.* and 264 more.*resnet50v2, resnet101v2"):
        read_weights(legacy_file, "resnet101v2")


def test_keras_file_for_a_torch_model_says_what_that_model_reads(legacy_file):
    with pytest.raises(WeightsError, match=r"is a Keras \.h5 file; MODEL efficientnet_lite0 is read from a PyTorch"):
        read_weights(legacy_file, "efficientnet_lite0")


@pytest.mark.parametrize("kept", [9, 600, 50_000, 40_000_000, -1])
def test_truncated_h5_is_refused(legacy_file, tmp_path, kept):
    path = tmp_path / "cut.h5"
    path.write_bytes(legacy_file.read_bytes()[:kept])
    with pytest.raises(WeightsError, match="truncated or damaged"):
        read_weights(path, MODEL)


@pytest.mark.parametrize("kept", [100, 40_000_000, -1])
def test_truncated_keras_zip_is_refused(keras_files, tmp_path, kept):
    path = tmp_path / "cut.keras"
    path.write_bytes((keras_files / "k3.keras").read_bytes()[:kept])
    with pytest.raises(WeightsError, match="truncated or damaged"):
        read_weights(path, MODEL)


def test_keras_zip_with_a_flipped_bit_is_refused(keras_files, tmp_path):
    path = tmp_path / "flipped.keras"
    content = bytearray((keras_files / "k3.keras").read_bytes())
    content[60_000_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="truncated or damaged"):
        read_weights(path, MODEL)


def test_other_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(WeightsError, match=r"neither a \.keras file"):
        read_weights(tmp_path / "other.keras", MODEL)


@pytest.mark.parametrize("content", [b"", b"hello, world, I am no weights file", b"cos\nsystem\n(S'true'\ntR."])
def test_file_of_no_known_kind_is_refused(tmp_path, content):
    path = tmp_path / "notes.h5"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="of no known kind"):
        read_weights(path, MODEL)


def test_hdf5_of_something_else_is_refused(tmp_path):
    with h5py.File(tmp_path / "physics.h5", "w") as root:
        root["run/temperature"] = np.zeros(4)
    with pytest.raises(WeightsError, match="holds no Keras weights"):
        read_weights(tmp_path / "physics.h5", MODEL)


@pytest.mark.parametrize("way_out", [h5py.ExternalLink("secret.h5", "/x"), h5py.SoftLink("/conv1_conv")])
def test_hdf5_link_is_refused(altered, way_out):
    with h5py.File(altered, "r+") as root:
        root["post_bn/link"] = way_out
    with pytest.raises(WeightsError, match="'post_bn/link' is a link"):
        read_weights(altered, MODEL)


def test_hdf5_data_in_another_file_is_refused(altered):
    with h5py.File(altered, "r+") as root:
        del root["post_bn/post_bn/gamma:0"]
        root["post_bn"].create_dataset("post_bn/gamma:0", (2048,), "<f4", external=[("/etc/passwd", 0, 8192)])
    with pytest.raises(WeightsError, match="keeps its data in another file"):
        read_weights(altered, MODEL)


def test_hdf5_group_linked_into_itself_does_not_hang(altered):
    with h5py.File(altered, "r+") as root:
        root["post_bn/again"] = root["post_bn"]
    assert_same_weights(read_weights(altered, MODEL).arrays, random_weights(MODEL, head=False))


def test_compressed_array_is_refused_with_the_command_that_unpacks_it(altered):
    with h5py.File(altered, "r+") as root:
        del root["post_bn/post_bn/gamma:0"]
        root["post_bn"].create_dataset("post_bn/gamma:0", data=np.ones(2048, "f4"), compression="gzip")
    with pytest.raises(WeightsError, match=r"'post_bn/post_bn/gamma:0' is compressed.*h5repack -f NONE"):
        read_weights(altered, MODEL)


def test_heap_without_an_end_does_not_hang(tmp_path):
    with h5py.File(tmp_path / "texts.h5", "w") as root:
        root.attrs["layer_names"] = ["conv1_conv"] * 50
    content = bytearray((tmp_path / "texts.h5").read_bytes())
    start = content.index(b"GCOL") + 16
    content[start : start + 16] = bytes(16)
    (tmp_path / "texts.h5").write_bytes(content)
    with pytest.raises(WeightsError, match="a heap of texts without end"):
        read_weights(tmp_path / "texts.h5", MODEL)


def test_file_of_a_larger_network_is_not_taken_for_this_one(tmp_path):
    larger = write_legacy_h5(tmp_path / "larger.h5", random_weights("resnet101v2", head=False))
    with pytest.raises(WeightsError, match=r"unexpected: 'conv4_block7_preact_bn/gamma'"):
        read_weights(larger, MODEL)


def test_absurd_shape_is_refused_before_it_is_read(altered):
    with h5py.File(altered, "r+") as root:
        del root["post_bn/post_bn/gamma:0"]
        root["post_bn"].create_dataset("post_bn/gamma:0", (2**40,), "<f4", chunks=(1024,))  # 4 TB, none of it there
    with pytest.raises(WeightsError, match="1 misshapen: 'post_bn/gamma' is \\(1099511627776,\\)"):
        read_weights(altered, MODEL)


def test_published_hashes_are_those_of_keras():
    resnet = pytest.importorskip("keras.src.applications.resnet", reason="keras is not installed")
    published = {model: (files[True].md5, files[False].md5) for model, files in KERAS_FILES.items()}
    assert published == {model: resnet.WEIGHTS_HASHES[model] for model in published}
    assert {files[True].file_name for files in KERAS_FILES.values()} == {
        f"{model}_weights_tf_dim_ordering_tf_kernels.h5" for model in published
    }


def _as_bytes(name: str | bytes) -> bytes:
    return name if isinstance(name, bytes) else name.encode()


def _swap(group: h5py.Group, one: str, other: str) -> None:
    group.move(one, "aside")
    group.move(other, one)
    group.move("aside", other)


def _replace(group: h5py.Group, name: str, array: np.ndarray) -> None:
    del group[name]
    group[name] = array

"""A network that users fine-tuned in Keras, in every shape and format: the same bits as the network saved alone."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings

import h5py
import numpy as np
import pytest
import small_keras
from tiny_files import RESNET, shrink_families
from typer.testing import CliRunner
from weight_files import assert_same_weights

from jaxviz import load_model
from jaxviz.errors import WeightsError
from jaxviz.models import architecture
from weights_convert.__main__ import app
from weights_convert.read import read_weights

KERAS_2, KERAS_3 = "tf_keras", "keras"


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    shrink_families(monkeypatch)
    architecture.cache_clear()
    yield
    architecture.cache_clear()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A function that gives a model's file, written once by Keras, and what the network's own file loads to."""
    folder = tmp_path_factory.mktemp("finetuned")
    kept = {}

    def get(framework: str, shape: str, ending: str):
        keras = pytest.importorskip(framework, reason=f"{framework} is not installed: pip install {framework}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorFlow's and Keras's own
            if (framework, shape) not in kept:
                kept[framework, shape] = small_keras.SHAPES[shape](keras)
            model, network = kept[framework, shape]
            path = small_keras.save(model, folder / f"{framework}-{shape}{ending}")
            alone = small_keras.save(network, folder / f"{framework}-{shape}-alone.weights.h5")
        return path, load_model(RESNET, weights=alone), network

    return get


@pytest.mark.parametrize("ending", small_keras.ENDINGS)
@pytest.mark.parametrize("shape", small_keras.SHAPES)
@pytest.mark.parametrize("framework", [KERAS_3, KERAS_2])
def test_finetuned_network_equals_the_network_saved_alone(saved, framework, shape, ending):
    path, alone, network = saved(framework, shape, ending)
    model = load_model(RESNET, weights=path)
    kernel = network.get_layer("conv1_conv").get_weights()[0]
    np.testing.assert_array_equal(np.asarray(model.weights["conv1_conv"]["kernel"]), kernel)
    assert model.weights_sha256 == alone.weights_sha256
    assert model.is_known
    assert model.preprocess is architecture(RESNET).preprocess


@pytest.mark.parametrize("shape", ["nested", "flat", "five_classes"])
def test_other_head_is_named_with_its_shapes(saved, shape):
    path, *_ = saved(KERAS_3, shape, ".keras")
    (named,) = [text for text in read_weights(path, RESNET).left_out if "dense" in text]
    assert named.startswith("'layers/dense' (")
    assert "(5,)" in named


def test_augmentation_is_named(saved):
    path, *_ = saved(KERAS_3, "nested", ".keras")
    left_out = read_weights(path, RESNET).left_out
    assert [text for text in left_out if "(Random" in text] == [
        text for text in left_out if "random_flip" in text or "random_rotation" in text
    ]
    assert len(left_out) == 3


def test_states_of_optimizer_and_random_generators_are_not_named(saved):
    path, *_ = saved(KERAS_3, "trained", ".weights.h5")
    assert [text.partition(" ")[0] for text in read_weights(path, RESNET).left_out] == ["'layers/dense'"]


def test_what_is_left_out_is_one_warning(saved, caplog):
    path, *_ = saved(KERAS_3, "flat", ".keras")
    with caplog.at_level(logging.WARNING, "jaxviz"):
        load_model(RESNET, weights=path)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"weights file {path}: left out")
    assert "'layers/dense' (32, 5), (5,)" in record.getMessage()


def test_file_of_the_network_alone_warns_of_nothing(saved, caplog):
    saved(KERAS_3, "flat", ".keras")
    with caplog.at_level(logging.WARNING, "jaxviz"):
        _, alone, _ = saved(KERAS_3, "flat", ".keras")
    assert not caplog.records
    assert alone.is_known


def test_head_that_does_not_fit_is_shown_when_it_is_asked_for(saved):
    path, *_ = saved(KERAS_3, "five_classes", ".h5")
    with pytest.raises(
        WeightsError, match=r"no head of MODEL resnet50v2 .*beside the network 'predictions' \(32, 5\), \(5,\)"
    ):
        load_model(RESNET, weights=path, head=True)


def test_convert_names_what_it_leaves_out_on_stderr_and_in_the_file(saved, tmp_path):
    path, alone, _ = saved(KERAS_3, "nested", ".keras")
    out = tmp_path / "out.safetensors"
    result = CliRunner().invoke(app, ["convert", RESNET, str(path), "--out", str(out)])
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith(f"WARNING: weights file {path}: left out")
    assert result.stderr.count("\n") == 1
    assert any("layers/dense" in text for text in json.loads(read_weights(out, RESNET).metadata["left_out"]))
    assert load_model(RESNET, weights=out).weights_sha256 == alone.weights_sha256


def test_two_networks_in_one_file_are_named_and_refused(tmp_path):
    keras = pytest.importorskip("keras", reason="keras is not installed: pip install keras tensorflow")
    i = small_keras.image(keras)
    one, other = (small_keras.base(keras, name=name) for name in ("left", "right"))
    path = small_keras.save(keras.Model(i, [one(i), other(i)]), tmp_path / "two.weights.h5")
    with pytest.raises(WeightsError, match=r"2 whole networks .*'layers/functional/layers'.*_1/layers'\. Save .*alone"):
        read_weights(path, RESNET)


def test_second_network_of_a_process_loads_by_shifted_counters(saved, tmp_path):
    """Other convolutions in front of the network, in a file that has counters and no names."""
    path, alone, _ = saved(KERAS_2, "flat", ".weights.h5")
    shifted = tmp_path / "shifted.weights.h5"
    shifted.write_bytes(path.read_bytes())
    with h5py.File(shifted, "r+") as root:
        layers = root["layers"]
        count = sum(name == "conv2d" or name.startswith("conv2d_") for name in layers)
        for number in reversed(range(count)):
            layers.move("conv2d" if number == 0 else f"conv2d_{number}", f"conv2d_{number + 1}")
        layers["conv2d/vars/0"] = np.zeros((1, 1, 1, 3), np.float32)
    found = read_weights(shifted, RESNET)
    assert_same_weights(found.arrays, {layer: dict(own) for layer, own in alone.weights.items()})
    assert any("'layers/conv2d'" in text for text in found.left_out)


def test_missing_layer_of_a_network_within_a_model_is_named(saved, tmp_path):
    path, *_ = saved(KERAS_3, "nested", ".weights.h5")
    broken = tmp_path / "broken.weights.h5"
    broken.write_bytes(path.read_bytes())
    with h5py.File(broken, "r+") as root:
        del root["layers/functional/layers/conv2d/vars/0"]
    with pytest.raises(
        WeightsError, match=r"1 missing: 'conv1_conv/kernel'.*save a network alone: network\.save_weights"
    ):
        read_weights(broken, RESNET)


def test_larger_network_is_not_taken_for_a_smaller(tmp_path):
    keras = pytest.importorskip("keras", reason="keras is not installed: pip install keras tensorflow")
    network = small_keras.base(keras)
    x = keras.layers.Conv2D(3, 1, name="conv3_block3_1_conv")(network.output)
    path = small_keras.save(keras.Model(network.input, x), tmp_path / "larger.h5")
    with pytest.raises(WeightsError, match=r"2 unexpected: 'conv3_block3_1_conv/kernel'"):
        read_weights(path, RESNET)


@pytest.mark.parametrize("ending", small_keras.ENDINGS)
def test_bfloat16_file_widens_exactly(tmp_path, ending):
    keras = pytest.importorskip("keras", reason="keras is not installed: pip install keras tensorflow")
    keras.config.set_dtype_policy("bfloat16")
    try:
        network = small_keras.base(keras)
        path = small_keras.save(network, tmp_path / f"half{ending}")
    finally:
        keras.config.set_dtype_policy("float32")
    wanted = np.asarray(network.get_layer("conv1_conv").get_weights()[0]).astype(np.float32)
    np.testing.assert_array_equal(read_weights(path, RESNET).arrays["conv1_conv"]["kernel"], wanted)


def test_quantized_head_is_left_out(tmp_path):
    keras = pytest.importorskip("keras", reason="keras is not installed: pip install keras tensorflow")
    i, network = small_keras.image(keras), small_keras.base(keras)
    dense = keras.layers.Dense(10, name="predictions")
    model = keras.Model(i, dense(keras.layers.GlobalAveragePooling2D()(network(i))))
    dense.quantize("int8")
    path = small_keras.save(model, tmp_path / "int8.keras")
    weights = read_weights(path, RESNET)
    assert not weights.has_head
    assert any("(32, 10)" in text for text in weights.left_out)


def test_file_that_another_program_writes_is_read(saved, tmp_path):
    path, alone, _ = saved(KERAS_3, "flat", ".h5")
    held = tmp_path / "held.h5"
    held.write_bytes(path.read_bytes())
    code = "import h5py, sys; root = h5py.File(sys.argv[1], 'r+'); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(held)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        assert load_model(RESNET, weights=held).weights_sha256 == alone.weights_sha256
        writer.stdin.close()


def test_file_that_this_program_has_open_is_called_so(saved, tmp_path):
    path, *_ = saved(KERAS_3, "flat", ".h5")
    with h5py.File(path, "r"), pytest.raises(WeightsError, match="another program has it open"):
        read_weights(path, RESNET)


def test_file_marked_as_being_written_says_so(tmp_path):
    path = tmp_path / "swmr.h5"
    with h5py.File(path, "w", libver="latest") as root:
        root["x"] = np.zeros(3)
        root.flush()
        content = path.read_bytes()
    path.write_bytes(content)  # as a run leaves it that is killed
    with pytest.raises(WeightsError, match="another program has it open"):
        read_weights(path, RESNET)

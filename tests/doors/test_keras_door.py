"""`Model.from_keras`, `keras:NAME`, `FILE.keras` and `FILE.h5`: against Keras itself, in processes of their own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_cli import environment
from weight_files import random_weights, write_legacy_h5

from jaxviz.doors import keras_backend
from jaxviz.errors import ConfigError, EnvironmentFailure, JaxvizError
from jaxviz.loading import describe_model, is_own, load_model
from jaxviz.models import weight_shapes

needs_keras = pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="keras is not installed")
CHILD = Path(__file__).with_name("keras_child.py")
FACTS = ("nested", "preprocessing", "sizes", "refusals", "applications")

# Relative L2 of some ten layers in float32, where sums are added in another order.
ACTIVATIONS_OFF = 1e-5
GRADIENTS_OFF = 1e-5
GREY_LEVELS = 1  # the contract on batches allows as much between batch sizes, on shallow layers


def child(folder: Path, *names: str) -> dict[str, Any]:
    """What functions of `keras_child.py` return."""
    variables = environment(KERAS_HOME=str(folder / "keras"), JAXVIZ_CACHE=str(folder / "jaxviz"))
    words = [sys.executable, str(CHILD), str(folder), *names]
    done = subprocess.run(words, env=variables, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return child(tmp_path_factory.mktemp("keras"), *FACTS)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("files")
    (folder / "files.json").write_text(json.dumps(child(folder, "files")))
    result: dict[str, Any] = child(folder, "opened")["opened"]
    return result


@needs_keras
def test_layers_of_a_nested_model_are_named_by_their_path(found: dict[str, Any]) -> None:
    inner = ["stem", "stem_bn", "stem_relu", "depthwise", "separable", "sum", "pad", "last"]
    assert found["nested"]["in_order"] == [f"body/{name}" for name in inner]
    assert list(found["nested"]["kinds"]) == [*(f"body/{name}" for name in inner), "body", "pool", "drop", "scores"]
    assert found["nested"]["sequential"] == [*(f"body/{name}" for name in inner), "body"]


@needs_keras
def test_kind_of_a_convolution_with_its_own_activation_is_convolution(found: dict[str, Any]) -> None:
    kinds = found["nested"]["kinds"]
    assert kinds["body/separable"] == kinds["body/stem"] == "conv"
    assert (kinds["body/depthwise"], kinds["body/stem_relu"], kinds["scores"]) == ("depthwise_conv", "relu6", "softmax")
    assert found["nested"]["slow"] == []


@needs_keras
def test_activations_and_gradients_are_those_of_keras(found: dict[str, Any]) -> None:
    off = found["nested"]["errors"]
    wrong = {
        name: error
        for name, error in off.items()
        if error["activation"] > ACTIVATIONS_OFF or error["gradient"] > GRADIENTS_OFF
    }
    assert len(off) == 8
    assert not wrong


@needs_keras
def test_model_that_is_given_is_left_as_it_is(found: dict[str, Any]) -> None:
    assert found["nested"]["unchanged"]


@needs_keras
def test_layer_that_is_called_twice_has_two_names(found: dict[str, Any]) -> None:
    assert found["nested"]["twice"] == ["conv", "conv@2"]


@needs_keras
@pytest.mark.parametrize(
    ("beginning", "black", "white"),
    [
        ("rescaling", [-1, -1, -1], [1, 1, 1]),
        ("normalization", [-100 / 60, -110 / 3000**0.5, -120 / 50], [155 / 60, 145 / 3000**0.5, 135 / 50]),
        ("mode tf", [-1, -1, -1], [1, 1, 1]),
        ("mode caffe", [-123.68, -116.779, -103.939], [131.32, 138.221, 151.061]),
        ("mode torch", [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]),
        ("arithmetic", [-0.5, -0.5, -0.5], [0.5, 0.5, 0.5]),
        ("dropout", [0, 0, 0], [1, 1, 1]),
    ],
)
def test_preprocessing_of_a_model_becomes_preprocess(
    found: dict[str, Any], beginning: str, black: list[float], white: list[float]
) -> None:
    case = found["preprocessing"][beginning]
    np.testing.assert_allclose(case["black"], black, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(case["white"], white, rtol=1e-5, atol=1e-5)
    assert case["activation"] < ACTIVATIONS_OFF
    assert case["gradient"] < GRADIENTS_OFF
    assert case["layers"] == ["body/stem"]


@needs_keras
def test_resizing_is_left_out_and_says_the_usual_size(found: dict[str, Any]) -> None:
    assert found["sizes"]["resized"] == [[32, 32], ["body/stem"]]


@needs_keras
def test_layers_below_a_classifier_of_one_size_take_every_size(found: dict[str, Any]) -> None:
    case = found["sizes"]
    assert case["layers"] == ["body", "flat", "scores"]
    assert "scores" not in case["elsewhere"]
    assert "'scores' of" in case["refused"]
    assert "not reached by an image of 48x48" in case["refused"]
    assert "give image_size 32x32" in case["refused"]


@needs_keras
def test_grey_and_channels_first_models_are_taken(found: dict[str, Any]) -> None:
    assert found["sizes"]["grey"] == [1, [28, 28]]
    shape, error = found["sizes"]["channels_first"]
    assert shape == [26, 26, 4]
    assert error < ACTIVATIONS_OFF


@needs_keras
@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("two inputs", "allowed is one image"),
        ("vector", "(None, 10)"),
        ("no model", "`model` 'Conv2D' is not a keras.Model"),
        ("equalization", "Equalization 'equalization', which is no scale and offset"),
        ("unknown preprocess", "'plain' does not say what becomes of pixels"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_name(found: dict[str, Any], case: str, words: str) -> None:
    assert found["refusals"][case].startswith("ConfigError: ")
    assert words.replace("`", "") in found["refusals"][case]


@needs_keras
def test_model_without_known_preprocessing_is_rendered_where_none_is_needed(found: dict[str, Any]) -> None:
    assert found["refusals"]["rendered without it"] == "('ok',)"


@needs_keras
def test_application_has_keras_layers_weights_and_preprocessing(found: dict[str, Any]) -> None:
    case = found["applications"]
    assert case["layers"] == case["names"]
    assert case["head"] == ["global_average_pooling2d", "predictions"]
    assert case["error"] < ACTIVATIONS_OFF
    assert case["white"] == [1, 1, 1]
    np.testing.assert_allclose(case["caffe"], [-123.68, -116.779, -103.939], rtol=1e-6)


@needs_keras
def test_names_that_keras_counts_are_those_of_a_fresh_session(found: dict[str, Any]) -> None:
    assert found["applications"]["counted"]


@needs_keras
def test_convolutions_of_vgg_are_convolutions_and_its_classifier_has_one_size(found: dict[str, Any]) -> None:
    assert found["applications"]["kinds"] == ["conv", "conv", "max_pool"]
    assert "give image_size 224x224" in found["applications"]["head at its size"]


@needs_keras
@pytest.mark.parametrize(
    ("case", "error", "words"),
    [
        ("unknown", "UnknownModelError", "nearest: 'MobileNetV2'"),
        ("unfit", "WeightsError", "does not fit MODEL keras:VGG16"),
        ("not here", "WeightsUnavailableError", "xception_weights_tf_dim_ordering_tf_kernels_notop.h5"),
        ("download", "ConfigError", "give your own file with weights"),
    ],
)
def test_application_that_cannot_be_had_says_why(found: dict[str, Any], case: str, error: str, words: str) -> None:
    assert found["applications"][case].startswith(f"{error}: ")
    assert words in found["applications"][case]


@needs_keras
def test_files_hold_the_network_that_was_saved(opened: dict[str, Any]) -> None:
    assert max(opened["errors"].values()) < ACTIVATIONS_OFF
    assert opened["names"] == ["net.keras", "net.h5"]


@needs_keras
def test_classes_of_a_file_come_from_the_module_that_is_named(opened: dict[str, Any]) -> None:
    assert opened["custom"] == ["doubled", "body/stem"]
    assert "custom_objects 'no_such_module' is no module" in opened["no classes"].replace("`", "")


@needs_keras
@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("net.weights.h5", "holds weights and no network"),
        ("custom.keras", "Could not locate class 'Doubled'"),
        ("unsafe.keras", "holds Python code"),
        ("unsafe.h5", "holds Python code"),
        ("cut.keras", "cannot be read"),
        ("cut.h5", "cannot be"),
        ("text.keras", "is no Keras file"),
        ("no.h5", "there is no such file"),
    ],
)
def test_file_that_cannot_be_opened_says_why(opened: dict[str, Any], file: str, words: str) -> None:
    assert opened["refused"][file].partition(":")[0] in ("WeightsError", "UnknownModelError")
    assert words in opened["refused"][file]


@needs_keras
def test_no_code_of_a_file_is_run(opened: dict[str, Any]) -> None:
    assert not opened["executed"]


@needs_keras
def test_weights_are_not_given_beside_a_file_that_has_its_own(opened: dict[str, Any]) -> None:
    assert "brings its own" in opened["weights"]


@needs_keras
def test_keras_resnet50v2_and_jaxvizs_own_give_the_same_picture(tmp_path: Path) -> None:
    weights = random_weights("resnet50v2", head=False)
    for arrays in weights.values():  # O(1): of He's variance
        if "kernel" in arrays:
            fan_in = np.prod(arrays["kernel"].shape[:-1])
            arrays["kernel"][:] = (arrays["kernel"] - 1) * np.float32(np.sqrt(24 / fan_in))
    assert set(weights) == set(weight_shapes("resnet50v2"))
    write_legacy_h5(tmp_path / "resnet.h5", weights)
    found = child(tmp_path, "same_picture")["same_picture"]
    assert found["levels"] <= GREY_LEVELS
    assert not found["flat"]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("resnet50v2", False),
        ("keras:MobileNetV2", False),
        ("a/net.keras", True),
        ("C:\\net.h5", True),
        ("net.py:model", True),
        ("package.module:model", True),
    ],
)
def test_own_networks_are_files_and_functions(name: str, own: bool) -> None:
    assert is_own(name) is own


@pytest.mark.quick
@pytest.mark.parametrize("name", ["resnet50v2", "net.py:model"])
def test_custom_objects_are_for_keras_files(name: str) -> None:
    with pytest.raises(ConfigError, match="leave custom_objects out"):
        describe_model(name, custom_objects="mine")


def fake_keras(monkeypatch: pytest.MonkeyPatch, *, version: str = "3.15.0", backend: str = "jax") -> None:
    keras = types.ModuleType("keras")
    keras.__version__ = version  # type: ignore[attr-defined]
    keras.backend = types.SimpleNamespace(backend=lambda: backend)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keras", keras)


@pytest.mark.quick
def test_keras_on_another_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_keras(monkeypatch, backend="tensorflow")
    with pytest.raises(ConfigError, match="'tensorflow'; set KERAS_BACKEND=jax"):
        load_model("keras:MobileNetV2")


@pytest.mark.quick
def test_keras_that_runs_code_from_h5_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_keras(monkeypatch, version="3.11.2")
    with pytest.raises(EnvironmentFailure, match=r"3\.11\.2 is too old: .*jaxviz-atlas\[keras\]"):
        keras_backend.keras_on_jax()


@pytest.mark.quick
def test_missing_keras_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(JaxvizError, match=r"pip install 'jaxviz-atlas\[keras\]'") as caught:
        keras_backend.keras_on_jax()
    assert caught.value.exit_code == 1

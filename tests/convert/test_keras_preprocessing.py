"""What a Keras model does to pixels before the known network: honored, left out and named, or refused by name."""

from __future__ import annotations

import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import small_keras
from tiny_files import RESNET, shrink_families

from jaxviz import RenderConfig, load_model, render_layer
from jaxviz.errors import WeightsError
from jaxviz.models import architecture
from weights_convert.keras_config import UnclearConfig, steps_before
from weights_convert.preprocessing import Preprocessing
from weights_convert.read import read_weights
from weights_convert.safetensors_file import write_safetensors

MEAN, VARIANCE = [120.0, 110.0, 100.0], [900.0, 1600.0, 2500.0]
PIXELS = np.random.default_rng(0).integers(0, 256, (1, small_keras.SIDE, small_keras.SIDE, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    shrink_families(monkeypatch)
    architecture.cache_clear()
    yield
    architecture.cache_clear()


@pytest.fixture(params=["keras", "tf_keras"])
def keras(request):
    return pytest.importorskip(request.param, reason=f"{request.param} is not installed: pip install {request.param}")


@pytest.fixture
def keras3():
    return pytest.importorskip("keras", reason="keras is not installed: pip install keras tensorflow")


def built(keras, before, path):
    """(file, network) of the network behind `before`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's and Keras's own
        model, network = small_keras.preprocessed(keras, before)
        return small_keras.save(model, path), network


def of_keras(keras, network):
    part = keras.Model(network.inputs, network.get_layer("conv1_conv").output)
    return part([PIXELS], training=False).numpy()


def normalization(keras):
    return keras.layers.Normalization(mean=MEAN, variance=VARIANCE)


def adapted(keras):
    layer = keras.layers.Normalization()
    layer.adapt(PIXELS * np.array([1.0, 0.5, 0.25], np.float32))
    return layer


def rescaling(keras):
    return keras.layers.Rescaling(1 / 255.0)


def in_a_sequence(keras):
    layers = keras.layers
    return keras.Sequential(
        [layers.RandomFlip(), layers.Rescaling(1 / 255.0), layers.Normalization(mean=MEAN, variance=VARIANCE)]
    )


def operators(keras):
    return lambda x: 2.0 * (x - 10.0) / 255.0 + 0.5


def of_another_network(keras):
    return lambda x: keras.applications.densenet.preprocess_input(x)


HONORED = (rescaling, normalization, adapted, in_a_sequence, operators)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("before", HONORED, ids=lambda before: before.__name__)
def test_same_pixels_give_the_activations_that_keras_gives(keras, tmp_path, before, ending):
    path, network = built(keras, before(keras), tmp_path / f"whole{ending}")
    theirs = of_keras(keras, network)
    model = load_model(RESNET, weights=path)
    ours = np.asarray(model.activation(jnp.asarray(model.preprocess(PIXELS)), "conv1_conv"))
    assert np.linalg.norm(ours - theirs) <= 1e-5 * np.linalg.norm(theirs)
    assert not model.is_known


def test_constants_for_each_channel_are_honored(keras3, tmp_path):
    path, network = built(keras3, of_another_network(keras3), tmp_path / "whole.keras")
    theirs = of_keras(keras3, network)
    model = load_model(RESNET, weights=path)
    ours = np.asarray(model.activation(jnp.asarray(model.preprocess(PIXELS)), "conv1_conv"))
    assert np.linalg.norm(ours - theirs) <= 1e-5 * np.linalg.norm(theirs)


@pytest.mark.parametrize(
    "before",
    [
        lambda keras: keras.layers.Rescaling(1 / 127.5, offset=-1),
        lambda keras: keras.applications.resnet_v2.preprocess_input,
    ],
    ids=["Rescaling", "preprocess_input"],
)
def test_usual_preprocessing_is_the_built_in_one(keras, tmp_path, before):
    path, _ = built(keras, before(keras), tmp_path / "whole.keras")
    assert read_weights(path, RESNET).notice == ""
    model = load_model(RESNET, weights=path)
    assert model.is_known
    assert model.preprocess is architecture(RESNET).preprocess


def test_preprocessing_of_a_model_around_is_composed_with_that_within(keras3, tmp_path):
    layers, i, j = keras3.layers, small_keras.image(keras3), small_keras.image(keras3)
    middle = keras3.Model(i, small_keras.base(keras3)(layers.Rescaling(2.0, offset=-1.0)(i)))
    path = small_keras.save(keras3.Model(j, middle(layers.Rescaling(1 / 255.0)(j))), tmp_path / "two.keras")
    usual = read_weights(path, RESNET).preprocessing  # 2 * x / 255 - 1 is x / 127.5 - 1
    assert usual is None


def test_statistics_of_a_model_within_a_model_are_found(keras3, tmp_path):
    layers, i, j, layer = keras3.layers, small_keras.image(keras3), small_keras.image(keras3), adapted(keras3)
    middle = keras3.Model(i, small_keras.base(keras3)(layer(i)), name="middle")
    model = keras3.Model(j, middle(layers.RandomCrop(64, 64)(j)))
    wanted = Preprocessing().then(*_scale_and_offset(np.ravel(layer.mean), np.ravel(layer.variance)))
    for ending in (".keras", ".h5"):
        found = read_weights(small_keras.save(model, tmp_path / f"two{ending}"), RESNET)
        assert found.preprocessing.is_close(wanted)
        assert found.left_out == ("'random_crop' (RandomCrop)",)


def _scale_and_offset(mean, variance):
    scale = tuple(float(one) for one in 1 / np.sqrt(variance.astype(float)))
    return scale, tuple(-float(one) * factor for one, factor in zip(mean, scale, strict=True))


def test_what_cuts_resizes_or_trains_is_left_out_and_named(keras3, tmp_path):
    layers = keras3.layers
    parts = [layers.Resizing(70, 70), layers.CenterCrop(64, 64), layers.RandomContrast(0.1), layers.GaussianNoise(0.1)]

    def before(x):
        for part in (*parts, layers.Dropout(0.1)):
            x = part(x)
        return x

    path, _ = built(keras3, before, tmp_path / "whole.keras")
    named = [text.partition("(")[2].rstrip(")") for text in read_weights(path, RESNET).left_out]
    assert named == ["Resizing", "CenterCrop", "RandomContrast", "GaussianNoise", "Dropout"]


@pytest.mark.parametrize(
    ("before", "named"),
    [
        (lambda keras: keras.layers.Lambda(lambda x: x / 3.0, name="mine"), r"'mine' \(Lambda\)"),
        (lambda keras: keras.layers.Conv2D(3, 1, name="colors"), r"'colors' \(Conv2D\)"),
        (lambda keras: keras.layers.ZeroPadding2D(2, name="frame"), r"'frame' \(ZeroPadding2D\)"),
    ],
    ids=["Lambda", "Conv2D", "ZeroPadding2D"],
)
def test_layer_that_computes_something_else_is_refused_by_name(keras, tmp_path, before, named):
    path, _ = built(keras, before(keras), tmp_path / "whole.keras")
    with pytest.raises(WeightsError, match=rf"the layer {named} stands before the network.*save_weights"):
        read_weights(path, RESNET)


def test_swapped_colors_are_refused(keras3, tmp_path):
    path, _ = built(keras3, keras3.applications.resnet50.preprocess_input, tmp_path / "whole.keras")
    with pytest.raises(WeightsError, match=r"the layer 'stack.*takes 3 tensors.*save_weights"):
        load_model(RESNET, weights=path)


def test_lambda_is_not_run(keras3, tmp_path):
    canary = str(tmp_path / "canary")
    layer = keras3.layers.Lambda(lambda x, p=canary: (open(p, "w").close(), x)[1], output_shape=(64, 64, 3))  # noqa: PTH123
    path, _ = built(keras3, layer, tmp_path / "whole.keras")
    (tmp_path / "canary").unlink(missing_ok=True)  # Keras itself runs it while it builds
    with pytest.raises(WeightsError, match="Lambda"):
        read_weights(path, RESNET)
    assert not (tmp_path / "canary").exists()


def test_weights_alone_with_a_normalization_say_to_save_the_whole_model(keras, tmp_path):
    path, _ = built(keras, adapted(keras), tmp_path / "some.weights.h5")
    with pytest.raises(
        WeightsError, match=r"holds a Normalization \('layers/normalization'\).*model\.save\('model\.keras'\)"
    ):
        read_weights(path, RESNET)


def test_conversion_keeps_the_preprocessing(keras3, tmp_path):
    path, _ = built(keras3, rescaling(keras3), tmp_path / "whole.keras")
    found = read_weights(path, RESNET)
    write_safetensors(tmp_path / "own.safetensors", found.arrays, found.metadata)
    first, second = (load_model(RESNET, weights=file) for file in (path, tmp_path / "own.safetensors"))
    assert first.preprocess == second.preprocess
    assert first.weights_sha256 == second.weights_sha256
    size = (64, 64)
    assert first.forward_sha256("conv1_conv", size) == second.forward_sha256("conv1_conv", size) is not None


def test_network_with_its_own_preprocessing_is_rendered_and_told_apart(keras3, tmp_path):
    config = RenderConfig.distill(image_size=64, steps=2, batch_size=2)
    results = []
    for name, before in (("own", rescaling), ("usual", lambda keras: keras.layers.Rescaling(1 / 127.5, offset=-1))):
        path, _ = built(keras3, before(keras3), tmp_path / f"{name}.keras")
        results.append(render_layer(load_model(RESNET, weights=path), "conv1_conv", filters=[0], config=config))
    own, usual = results
    assert own.recipe.forward_sha256 != usual.recipe.forward_sha256
    assert not np.array_equal(own.pictures, usual.pictures)


def test_circle_of_layers_ends():
    def layer(name, source):
        tensor = {"class_name": "__keras_tensor__", "config": {"keras_history": [source, 0, 0]}}
        node = {"args": [tensor], "kwargs": {}}
        return {"class_name": "Rescaling", "name": name, "config": {"name": name}, "inbound_nodes": [node]}

    layers = [layer("conv1_conv", "a"), layer("a", "b"), layer("b", "a")]
    with pytest.raises(UnclearConfig, match="follows itself"):
        steps_before({"class_name": "Functional", "config": {"layers": layers}}, "conv1_conv")


def test_configuration_of_a_model_of_its_own_class_is_told(keras3, tmp_path):
    @keras3.saving.register_keras_serializable("jaxviz_tests")
    class Mine(keras3.Model):
        def __init__(self):
            super().__init__()
            self.backbone = small_keras.base(keras3)

        def call(self, x):
            return self.backbone(x)

        def get_config(self):
            return {}

    model = Mine()
    model(PIXELS)
    path = small_keras.save(model, tmp_path / "mine.keras")
    assert "does not say what stands before the network" in read_weights(path, RESNET).notice

"""Run in a process of its own, for `test_keras_door.py`: Keras on its JAX backend. Prints one JSON object.

The process that runs the tests may have imported Keras on TensorFlow, which the converter is compared with. Arguments:
a folder to write into, and the names of the functions below to call.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import keras
import numpy as np
from keras import layers as L  # noqa: N812 - as Keras's own tutorials have it

import jaxviz
from jaxviz.errors import JaxvizError
from jaxviz.loading import describe_model, load_model
from jaxviz.network.rules import Settings

SIDE = 32
SIZE = (SIDE, SIDE)
RGB = np.random.default_rng(0).uniform(0, 255, (2, SIDE, SIDE, 3)).astype(np.float32)


def relative(found: Any, expected: Any) -> float:
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-30))


def body(name: str = "body") -> keras.Model:
    """A small network of what applications are made of."""
    image = keras.Input((None, None, 3))
    x = L.Conv2D(8, 5, strides=2, padding="same", use_bias=False, name="stem")(image)
    x = L.BatchNormalization(name="stem_bn")(x)
    x = y = L.ReLU(6.0, name="stem_relu")(x)
    x = L.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = L.SeparableConv2D(8, 3, padding="same", activation="swish", name="separable")(x)
    x = L.Add(name="sum")([x, y])
    x = L.Conv2D(12, 3, activation="relu", name="last")(L.ZeroPadding2D(1, name="pad")(x))
    model = keras.Model(image, x, name=name)
    rng = np.random.default_rng(1)
    model.get_layer("stem_bn").set_weights([rng.uniform(0.5, 1.5, 8) for _ in range(4)])
    return model


def wrapped(*before: Callable[[Any], Any], inner: keras.Model | None = None) -> keras.Model:
    """A classifier around a network, as the tutorial on transfer learning has it."""
    image = x = keras.Input((*SIZE, 3))
    for step in before:
        x = step(x)
    x = L.GlobalAveragePooling2D(name="pool")((inner or body())(x, training=False))
    return keras.Model(image, L.Dense(5, activation="softmax", name="scores")(L.Dropout(0.5, name="drop")(x)))


def refused(action: Callable[[], Any]) -> str:
    """The error of ours that it ends with."""
    try:
        return f"nothing: {action()!r}"
    except JaxvizError as error:
        return f"{type(error).__name__}: {error}"


def errors(found: jaxviz.Model, name: str, theirs: Callable[[Any], Any]) -> dict[str, float]:
    """How far a layer's activation, and its gradient by the fast rules, are from Keras's, both from pixels on."""
    route = found.route(name, SIZE, Settings(platform="cpu"))
    prepared = found.prepare(route)
    cotangent = np.random.default_rng(2).normal(size=theirs(RGB).shape).astype(np.float32)

    def ours(rgb: Any) -> Any:
        return jax.vmap(lambda image: route.activation(prepared, image))(found.preprocess(rgb))

    def gradient(function: Callable[[Any], Any]) -> Any:
        return jax.jit(jax.grad(lambda rgb: (function(rgb) * cotangent).sum()))(jnp.asarray(RGB))

    return {
        "activation": relative(ours(jnp.asarray(RGB)), theirs(RGB)),
        "gradient": relative(gradient(ours), gradient(theirs)),
    }


def nested(_: Path) -> dict[str, Any]:
    inner = body()
    augmentation = keras.Sequential([L.RandomFlip(), L.RandomRotation(0.1)], name="augmentation")
    model = wrapped(augmentation, L.Rescaling(1 / 127.5, offset=-1), inner=inner)
    nodes = [len(layer._inbound_nodes) for layer in inner.layers]
    found = jaxviz.Model.from_keras(model)

    def theirs(name: str) -> Callable[[Any], Any]:
        part = keras.Model(inner.inputs, inner.get_layer(name).output)
        return lambda rgb: part(rgb / 127.5 - 1, training=False)

    names = ("stem", "stem_bn", "stem_relu", "depthwise", "separable", "sum", "last")
    result = {f"body/{name}": errors(found, f"body/{name}", theirs(name)) for name in names}
    result["scores"] = errors(found, "scores", lambda rgb: model(rgb, training=False))
    table = found.table(SIZE)
    return {
        "errors": result,
        "kinds": {row.name: row.kind for row in table},
        "slow": [row.name for row in table if row.slow],
        "size": found.usual_size,
        "unchanged": nodes == [len(layer._inbound_nodes) for layer in inner.layers],
        "sequential": list(jaxviz.Model.from_keras(keras.Sequential([keras.Input((*SIZE, 3)), body()])).layers),
        "in_order": [name for name in found.layers if name.startswith("body/")],
        "twice": list(jaxviz.Model.from_keras(_called_twice()).layers),
    }


def _called_twice() -> keras.Model:
    image, conv = keras.Input((*SIZE, 3)), L.Conv2D(3, 3, padding="same", name="conv")
    return keras.Model(image, conv(conv(image)))


def preprocessing(_: Path) -> dict[str, Any]:
    applications = keras.applications
    mean = L.Normalization(mean=[100.0, 110.0, 120.0], variance=[3600.0, 3000.0, 2500.0])
    beginnings = {
        "rescaling": [L.Rescaling(1 / 127.5, offset=-1)],
        "normalization": [L.Rescaling(1.0), mean],
        "mode tf": [applications.resnet_v2.preprocess_input],
        "mode caffe": [applications.vgg16.preprocess_input],
        "mode torch": [applications.densenet.preprocess_input],
        "arithmetic": [lambda x: x[..., ::-1] / 255.0 - 0.5],
        "dropout": [L.Rescaling(1 / 255), L.GaussianNoise(0.1)],
    }
    result: dict[str, Any] = {}
    for name, steps in beginnings.items():
        model = wrapped(*steps)
        found = jaxviz.Model.from_keras(model)
        result[name] = {
            **errors(found, "scores", lambda rgb, model=model: model(rgb, training=False)),
            "white": np.asarray(found.preprocess(jnp.full(3, 255.0))).tolist(),
            "black": np.asarray(found.preprocess(jnp.zeros(3))).tolist(),
            "layers": list(found.layers)[:1],
        }
    return result


def sizes(_: Path) -> dict[str, Any]:
    image = keras.Input((None, None, 3))
    resized = keras.Model(image, body()(L.Rescaling(1 / 255)(L.CenterCrop(*SIZE)(L.Resizing(40, 40)(image)))))
    found = jaxviz.Model.from_keras(resized)
    image = keras.Input((*SIZE, 3))
    flat = keras.Model(image, L.Dense(3, name="scores")(L.Flatten(name="flat")(body()(image))))
    one_size = jaxviz.Model.from_keras(flat, preprocess=lambda rgb: rgb / 255)
    grey = keras.Sequential([keras.Input((28, 28, 1)), L.Rescaling(1 / 255), L.Conv2D(4, 3, name="conv")])
    first = keras.Sequential(
        [keras.Input((3, 28, 28)), L.Conv2D(4, 3, name="conv", data_format="channels_first")], name="first"
    )
    turned = jaxviz.Model.from_keras(first, preprocess=lambda rgb: rgb)
    images = RGB[:, :28, :28]
    return {
        "resized": [found.usual_size, list(found.layers)[:1]],
        "layers": list(one_size.layers)[-3:],
        "elsewhere": [row.name for row in one_size.table((48, 48))][-2:],
        "refused": refused(lambda: one_size.route("scores", (48, 48))),
        "grey": [jaxviz.Model.from_keras(grey).channels, jaxviz.Model.from_keras(grey).usual_size],
        "channels_first": [list(turned.layer("conv").shape), relative(
            turned.activation(images, "conv"), jnp.transpose(first(jnp.transpose(images, (0, 3, 1, 2))), (0, 2, 3, 1))
        )],
    }  # fmt: skip


def refusals(_: Path) -> dict[str, str]:
    image = keras.Input((*SIZE, 3))
    two = keras.Model([image, keras.Input((*SIZE, 3), name="second")], L.Conv2D(2, 3)(image))
    vector = keras.Model(i := keras.Input((10,)), L.Dense(3)(i))
    equalized = keras.Sequential([keras.Input((*SIZE, 3)), L.Equalization(value_range=(0, 255)), L.Conv2D(2, 3)])
    plain = jaxviz.Model.from_keras(keras.Model(image, L.Conv2D(2, 3, name="conv")(image), name="plain"))
    settings = jaxviz.RenderConfig.keras(image_size=SIDE, crop=0, steps=2)
    return {
        "two inputs": refused(lambda: jaxviz.Model.from_keras(two)),
        "vector": refused(lambda: jaxviz.Model.from_keras(vector)),
        "no model": refused(lambda: jaxviz.Model.from_keras(L.Conv2D(2, 3))),
        "equalization": refused(lambda: jaxviz.Model.from_keras(equalized)),
        "unknown preprocess": refused(lambda: plain.preprocess(jnp.zeros(3))),
        "rendered without it": str(jaxviz.render_layer(plain, "conv", [0], settings).status),
    }


CUSTOM = """
import keras


@keras.saving.register_keras_serializable("tests")
class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2 * x
"""


def files(folder: Path) -> dict[str, Any]:
    """Only written here: they are opened in another process, which knows nothing of what is registered here."""
    model = wrapped(L.RandomFlip(), L.Rescaling(1 / 255))
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(RGB, np.array([0, 1]), epochs=1, verbose=0)
    model.save(folder / "net.keras")
    model.save(folder / "net.h5")
    model.save_weights(folder / "net.weights.h5")

    @keras.saving.register_keras_serializable("tests")
    class Doubled(L.Layer):
        def call(self, x: Any) -> Any:
            return 2 * x

    custom = keras.Sequential([keras.Input((*SIZE, 3)), L.Rescaling(1 / 255), Doubled(name="doubled"), body()])
    custom.save(folder / "custom.keras")
    (folder / "classes.py").write_text(CUSTOM)
    canary = str(folder / "canary")
    unsafe = keras.Sequential([keras.Input((*SIZE, 3)), L.Lambda(lambda x: (Path(canary).touch(), 2 * x)[1])])
    unsafe.save(folder / "unsafe.keras")
    unsafe.save(folder / "unsafe.h5")
    Path(canary).unlink(missing_ok=True)
    (folder / "cut.keras").write_bytes((folder / "net.keras").read_bytes()[:-1000])
    (folder / "cut.h5").write_bytes((folder / "net.h5").read_bytes()[:5000])
    (folder / "text.keras").write_text("no network")
    return {"scores": np.asarray(model(RGB, training=False)).tolist()}


def opened(folder: Path) -> dict[str, Any]:
    """What `files` wrote."""
    expected = np.asarray(json.loads((folder / "files.json").read_text())["files"]["scores"])

    def error(name: str) -> float:
        found = load_model(str(folder / name))
        return relative(found.activation(found.preprocess(jnp.asarray(RGB)), "scores"), expected)

    bad = ("net.weights.h5", "custom.keras", "unsafe.keras", "unsafe.h5", "cut.keras", "cut.h5", "text.keras", "no.h5")
    refusals = {name: refused(lambda name=name: load_model(str(folder / name))) for name in bad}  # before custom.keras
    custom = load_model(str(folder / "custom.keras"), custom_objects=str(folder / "classes.py"))
    return {
        "errors": {name: error(name) for name in ("net.keras", "net.h5")},
        "names": [load_model(str(folder / name)).name for name in ("net.keras", "net.h5")],
        "custom": list(custom.layers)[:2],
        "refused": refusals,
        "no classes": refused(lambda: load_model(str(folder / "custom.keras"), custom_objects="no_such_module")),
        "executed": (folder / "canary").exists(),
        "weights": refused(lambda: load_model(str(folder / "net.keras"), weights="other.h5")),
    }


CACHED = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"  # what keras.applications looks for


def applications(folder: Path) -> dict[str, Any]:
    """`keras:NAME`; its weights are in Keras's cache as Keras wrote them."""
    first = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(None, None, 3))
    names = [layer.name for layer in first.layers][1:]
    cache = folder / "keras" / "models"
    cache.mkdir(parents=True)
    first.save(cache / CACHED)  # a whole model's file serves as one of weights
    found = load_model("keras:MobileNetV2")
    part = keras.Model(first.inputs, first.get_layer("block_3_expand").output)
    images = RGB / 127.5 - 1
    inception = [describe_model("keras:InceptionV3").layers]
    describe_model.__globals__["_described_application"].cache_clear()  # a second model, whose names Keras counts on
    inception.append(describe_model("keras:InceptionV3").layers)
    return {
        "names": names,
        "layers": list(found.layers),
        "head": list(found.head),
        "error": relative(found.activation(images, "block_3_expand"), part(images, training=False)),
        "white": np.asarray(found.preprocess(jnp.full(3, 255.0))).tolist(),
        "counted": inception[0] == inception[1] and "conv2d" in inception[0],
        "caffe": np.asarray(describe_model("keras:VGG16").preprocess(jnp.zeros(3))).tolist(),
        "kinds": [row.kind for row in describe_model("keras:VGG16").table(SIZE)][:3],
        "head at its size": refused(lambda: describe_model("keras:VGG16", head=True).layer("fc1", SIZE)),
        "unknown": refused(lambda: load_model("keras:MobileNet2")),
        "unfit": refused(lambda: load_model("keras:VGG16", weights=cache / CACHED)),
        "not here": refused(lambda: load_model("keras:Xception")),
        "download": refused(lambda: load_model("keras:Xception", download=False)),
    }


def same_picture(folder: Path) -> dict[str, Any]:
    """Keras's ResNet50V2 and jaxviz's own, from one file."""
    config = jaxviz.RenderConfig.keras(image_size=64, crop=7, steps=8, batch_size=4)
    pictures = [
        jaxviz.render_layer(load_model(name, weights=folder / "resnet.h5"), "conv2_block1_1_conv", range(4), config)
        for name in ("keras:ResNet50V2", "resnet50v2")
    ]
    levels = np.abs(pictures[0].pictures.astype(int) - pictures[1].pictures.astype(int))
    return {"levels": int(levels.max()), "flat": float(pictures[0].pictures.std()) < 1}


if __name__ == "__main__":
    place = Path(sys.argv[1])
    sys.stdout.write("\n" + json.dumps({name: globals()[name](place) for name in sys.argv[2:]}) + "\n")

"""Small weight files of every format, to be damaged: two families shrunk to some 100 kB, around each what users have.

The readers take the shapes of a network from the registry, so a process that calls `shrink_families` reads these files
by the same code as the real ones, which are 18 to 94 MB.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from weight_files import torch_bytes

import jaxviz.models as registry
from jaxviz.models import efficientnet_lite, resnet_v2, weight_shapes

RESNET, LITE = "resnet50v2", "efficientnet_lite0"
RESNET_BLOCKS, RESNET_CHANNELS, CLASSES = (2, 2), (4, 8), 10  # Keras's builder needs two blocks a stage
BLOCKS = [(1, 1, 3, 1, 1, 16), (2, 1, 5, 2, 6, 24)]
FORMATS = {  # file name -> model
    "legacy.h5": RESNET,
    "numbered.weights.h5": RESNET,
    "whole.keras": RESNET,
    "legacy.pth": LITE,
    "zip.pth": LITE,
    "own.safetensors": LITE,
}
CLASS_KEYS = {"conv": "conv2d", "batch_norm": "batch_normalization", "dense": "dense"}


def shrink_families(patch: pytest.MonkeyPatch | None = None) -> None:
    """In this process the two networks are small; until `patch` is undone, if one is given."""
    patch = patch or pytest.MonkeyPatch()
    resnet = partial(resnet_v2.ResNetV2, RESNET_BLOCKS, channels=RESNET_CHANNELS, classes=CLASSES)
    lite = partial(efficientnet_lite.EfficientNetLite, BLOCKS, classes=CLASSES)
    patch.setattr(resnet_v2, "Small", resnet, raising=False)
    patch.setattr(efficientnet_lite, "Small", lite, raising=False)
    patch.setattr(efficientnet_lite, "block_settings", lambda _name: BLOCKS)
    for model in (RESNET, LITE):
        patch.setitem(registry.MODELS, model, registry.MODELS[model]._replace(family="Small"))


def write_tiny_files(folder: Path) -> None:
    """One file of each format, of the shrunk networks."""
    (folder / "legacy.h5").write_bytes(_legacy())
    (folder / "numbered.weights.h5").write_bytes(_numbered(wrapped=False))
    with zipfile.ZipFile(folder / "whole.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps(whole_config()))
        archive.writestr("model.weights.h5", _numbered(wrapped=True))
    checkpoint = lightning_checkpoint()
    (folder / "legacy.pth").write_bytes(torch_bytes(checkpoint, zipped=False))
    (folder / "zip.pth").write_bytes(torch_bytes(checkpoint, zipped=True))
    _write_safetensors(folder / "own.safetensors")


def whole_config() -> dict:
    """What Keras 3 writes of `Model(i, Dense(base(Normalization(RandomFlip(i)))))`."""
    inner = [_layer("InputLayer", "input_1"), _layer("ZeroPadding2D", "conv1_pad", "input_1")]
    inner += [_layer("Conv2D", "conv1_conv", "conv1_pad"), _layer("Activation", "post_relu", "conv1_conv")]
    base = _layer("Functional", "resnet50v2", "normalization")
    base["config"] |= {"layers": inner, "input_layers": ["input_1", 0, 0], "output_layers": ["post_relu", 0, 0]}
    normalization = _layer("Normalization", "normalization", "random_flip")
    normalization["config"] |= {"mean": None, "variance": None, "invert": False}
    layers = [_layer("InputLayer", "input_2"), _layer("RandomFlip", "random_flip", "input_2"), normalization, base]
    layers.append(_layer("Dense", "dense", "resnet50v2"))
    return {"class_name": "Functional", "config": {"name": "outer", "layers": layers}}


def lightning_checkpoint() -> dict:
    """What a training loop keeps: the weights under a prefix, another head, the optimizer, settings of any kind."""
    import torch

    state = {}
    for layer, module in _torch_modules().items():
        for parameter, shape in weight_shapes(LITE, head=True)[layer].items():
            torch_shape = {4: (3, 2, 0, 1), 3: None, 2: (1, 0), 1: (0,)}[len(shape)]
            size = (shape[2], 1, *shape[:2]) if torch_shape is None else tuple(shape[axis] for axis in torch_shape)
            name = {"kernel": "weight", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean"}
            state[f"model.{module}.{name.get(parameter, 'bias' if parameter == 'bias' else 'running_var')}"] = (
                torch.rand(size)
            )
    state["model.fresh.weight"] = torch.rand(5, 1280).to(torch.bfloat16)
    moments = {0: {"exp_avg": torch.zeros(3), "step": 4}}
    return {
        "epoch": 3,
        "state_dict": state,
        "hyper_parameters": argparse.Namespace(lr=0.1),
        "optimizer_states": [{"state": moments, "param_groups": [{"params": [0]}]}],
    }


def _torch_modules() -> dict[str, str]:
    modules = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "head_conv": "_conv_head", "head_bn": "_bn1"}
    for number, (stage, repeat, *_, expansion, _) in enumerate(BLOCKS):
        for part, norm in (("expand", "_bn0"), ("depthwise", "_bn1"), ("project", "_bn2")):
            if part != "expand" or expansion != 1:
                modules[f"block{stage}_{repeat}_{part}_conv"] = f"_blocks.{number}._{part}_conv"
                modules[f"block{stage}_{repeat}_{part}_bn"] = f"_blocks.{number}.{norm}"
    return modules | {"predictions": "_fc"}


def _layer(class_name: str, name: str, *sources: str) -> dict:
    tensors = [{"class_name": "__keras_tensor__", "config": {"keras_history": [one, 0, 0]}} for one in sources]
    nodes = [{"args": tensors, "kwargs": {}}] if tensors else []
    return {"class_name": class_name, "name": name, "config": {"name": name}, "inbound_nodes": nodes}


def _arrays(model: str) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return {
        layer: {name: rng.random(shape, np.float32) for name, shape in shapes.items()}
        for layer, shapes in weight_shapes(model, head=True).items()
    }


def _legacy() -> bytes:
    """A whole model of Keras 2: the network in a wrapper, another head, an optimizer."""
    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        root.attrs["model_config"] = json.dumps(whole_config())
        group = root.create_group("model_weights")
        group.attrs["layer_names"] = [b"normalization", b"resnet50v2", b"dense"]
        arrays = {f"{layer}/{name}:0": array for layer, own in _arrays(RESNET).items() for name, array in own.items()}
        statistics = {"mean:0": np.ones(3, "f4"), "variance:0": np.ones(3, "f4"), "count:0": np.int64(4)}
        dense = {"dense/kernel:0": np.ones((32, 5), "f4"), "dense/bias:0": np.ones(5, "f4")}
        for layer, own in (("normalization", statistics), ("resnet50v2", arrays), ("dense", dense)):
            member = group.create_group(layer)
            member.attrs["weight_names"] = [name.encode() for name in own]
            for name, array in own.items():
                member[name] = array
        root["optimizer_weights/Adam/m/dense/kernel:0"] = np.zeros((32, 5), "f4")
    return file.getvalue()


def _numbered(*, wrapped: bool) -> bytes:
    """The layout of Keras 3, without names."""
    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        inside = "layers/functional/layers/" if wrapped else "layers/"
        counts: dict[str, int] = {}
        for own in _arrays(RESNET).values():
            key = CLASS_KEYS["batch_norm" if "gamma" in own else "conv" if own["kernel"].ndim == 4 else "dense"]
            count = counts.setdefault(key, 0)
            counts[key] += 1
            for number, array in enumerate(own.values()):
                root[f"{inside}{key}{f'_{count}' if count else ''}/vars/{number}"] = array
        if wrapped:
            root["layers/dense/vars/0"], root["layers/dense/vars/1"] = np.ones((32, 5), "f4"), np.ones(5, "f4")
            for number, array in enumerate((np.ones(3, "f4"), np.ones(3, "f4"), np.int64(4))):
                root[f"layers/normalization/vars/{number}"] = array
        root["optimizer/vars/0"] = np.int64(3)
    return file.getvalue()


def _write_safetensors(path: Path) -> None:
    from weights_convert.safetensors_file import write_safetensors

    preprocess = json.dumps({"scale": [0.1, 0.1, 0.1], "offset": [0.0, 0.0, 0.0]})
    write_safetensors(path, _arrays(LITE), {"model": LITE, "head": "true", "source": "x.pth", "preprocess": preprocess})

"""Tiny renders through everything that draws or makes arrays, and what they give, as hashes.

`python tests/helpers_settings.py` prints {case: hash}; run under several settings of JAX it must print the same.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import jax
import numpy as np
from conftest import make_toy_model, random_model
from helpers_pictures import classifier, dead_under_relu, small_preset

from jaxviz import Model, RenderConfig, render_layer
from jaxviz.ascent.objectives import Channel, ClassLogit, Direction, Diversity, LayerActivity, Neuron
from jaxviz.judge.judgement import judge
from jaxviz.judge.natural_images import NaturalImages

TINY = {"image_size": 32, "crop": 0, "steps": 3, "batch_size": 2}
VECTORS = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)
# Of the toy network: (configuration, other options of `render_layer`).
CASES: dict[str, tuple[RenderConfig, dict[str, Any]]] = {
    "keras, penalties, snapshots": (RenderConfig.keras(**TINY, tv=0.1, l1=0.2, l2=0.3), {"snapshots": (0, 2)}),
    "distill": (small_preset("distill"), {"snapshots": (1,)}),
    "maco": (small_preset("maco"), {}),
    "pixel, nadam, every transform": (
        RenderConfig(
            **TINY,
            optimizer="nadam",
            transforms=(("pad", 2), ("jitter", 3), ("rotate", 20), ("crops", 2, 0.5, 0.9, 20), ("scale", 0.9, 1.1),
                        ("noise", 0.1)),
        ),
        {},
    ),
    "fourier, normalized, starting seed": (
        RenderConfig(**TINY | {"image_size": (31, 36)}, parameterization="fourier", seed=2**32 - 1), {}
    ),
    "every objective, replicas": (
        RenderConfig.keras(**TINY, activation_border=1),
        {
            "objective": Channel(1) - 0.5 * Neuron() + Direction(VECTORS, 2.0) + LayerActivity() + 9 * Diversity(),
            "replicas": 2,
        },
    ),
    "initial images": (
        RenderConfig.keras(**TINY),
        {"initial_images": np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)},
    ),
}  # fmt: skip


def hashes() -> dict[str, str]:
    """What every case gives, as a hash of its arrays."""
    toy = make_toy_model()
    found = {name: _rendered(toy, "conv_c", config, **options) for name, (config, options) in CASES.items()}
    resnet = random_model("resnet50v2")
    found["random weights"] = resnet.weights_sha256
    for dtype in ("float32", "bfloat16"):
        config = RenderConfig.keras(**TINY, dtype=dtype)
        found[f"resnet, {dtype}"] = _rendered(resnet, "conv2_block1_out", config)
    found["an accelerator's path"] = _gradient(resnet, "conv2_block1_out")
    found["rescue, attempts"] = _rendered(dead_under_relu(), "relu", RenderConfig(**TINY, rescue_steps=2, attempts=2))
    found["class logit"] = _rendered(classifier(), "predictions", RenderConfig.keras(**TINY), objective=ClassLogit())
    found["judgement"] = _judged(toy)
    return found


def _rendered(model: Model, layer: str, config: RenderConfig, **options: Any) -> str:
    result = render_layer(model, layer, [0, 1], config, **options)
    parts = [array for item in result.items for array in (item.picture, item.history, np.float64(item.score))]
    parts += [snapshot for item in result.items for snapshot in item.snapshots.values()]
    return _hash(parts, *result.status)


def _gradient(model: Model, layer: str) -> str:
    """The score and its gradient through the forward pass as it comes, which a GPU takes."""
    images = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
    score = jax.jit(jax.value_and_grad(lambda images: model.activation(images, layer).mean()))
    return _hash(jax.tree.leaves(score(images)))


def _judged(model: Model) -> str:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    natural = NaturalImages(pictures[::-1], "0" * 64, "noise")
    found = judge(model, "conv_c", pictures, [0, 1, 2], objective=Channel(), natural=natural)
    return _hash([found.scores, found.percentile, found.rank])


def _hash(arrays: list[Any], *words: str) -> str:
    digest = hashlib.sha256(repr(words).encode())
    for array in map(np.asarray, arrays):
        digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    print(json.dumps(hashes()))  # noqa: T201

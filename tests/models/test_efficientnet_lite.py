"""EfficientNet-Lite0's installed real weights recognise real photographs."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.quick

data = pytest.importorskip("skimage.data", reason="the photographs come with scikit-image: pip install -e '.[dev]'")

EGYPTIAN_CAT, TABBY, TIGER_CAT, ESPRESSO = 285, 281, 282, 967


def probabilities(model, photograph):
    image = Image.fromarray(photograph)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    images = model.preprocess(np.asarray(square, np.float32))[None]
    return np.asarray(jax.jit(lambda images: model.activation(images, "predictions"))(images))[0]


def test_the_cat_is_an_egyptian_cat(lite0):
    found = probabilities(lite0, data.chelsea())
    ranked = list(np.argsort(-found)[:3])
    assert ranked[0] == EGYPTIAN_CAT
    assert set(ranked[1:]) == {TABBY, TIGER_CAT}
    assert found[EGYPTIAN_CAT] == pytest.approx(0.38, abs=0.02)


def test_the_cup_is_an_espresso(lite0):
    found = probabilities(lite0, data.coffee())
    assert found.argmax() == ESPRESSO
    assert found[ESPRESSO] > 0.9


def test_probabilities_sum_to_one(lite0):
    assert probabilities(lite0, data.astronaut()).sum() == pytest.approx(1.0, abs=1e-5)

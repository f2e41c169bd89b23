"""The preset `keras` against the loop of the published Keras example, run by Keras itself."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from helpers_tiers import needs

from jaxviz import RenderConfig, render_layer

pytestmark = needs("tensorflow")

FILTERS = (0, 7, 31, 63)
LAYER = "conv2_block1_1_conv"
HISTORY_TOLERANCE = 1e-3  # of the largest absolute score: 30 steps amplify the rounding of two libraries
MEAN_GREY_LEVELS = 2.0


def keras_example(model, layer, filters, initial_images, config):
    """(history, pictures): gradient ascent and deprocessing as the example writes them, one filter at a time."""
    import keras
    import tensorflow as tf

    from weights_convert.references import KerasReference

    reference = KerasReference(model.name, head=False, side=config.size[0])
    reference.set_arrays(jax.tree.map(np.asarray, model.weights))
    extractor = keras.Model(reference.network.input, reference._layers[layer].output)

    @tf.function
    def gradient_ascent_step(image, filter_index, learning_rate):
        with tf.GradientTape() as tape:
            tape.watch(image)
            loss = tf.reduce_mean(extractor(image)[:, :, :, filter_index])
        gradient = tf.math.l2_normalize(tape.gradient(loss, image))
        return loss, image + learning_rate * gradient

    def deprocess_image(img):
        img -= img.mean()
        img /= img.std() + 1e-5
        img *= 0.15
        img = img[25:-25, 25:-25, :]
        img += 0.5
        img = np.clip(img, 0, 1)
        img *= 255
        return np.clip(img, 0, 255).astype("uint8")

    histories, pictures = [], []
    for filter_index, start in zip(filters, initial_images, strict=True):
        image, history = tf.constant(start[None]), []
        for _ in range(config.steps):
            loss, image = gradient_ascent_step(image, tf.constant(filter_index), config.step_size)
            history.append(float(loss))
        histories.append(history)
        pictures.append(deprocess_image(image[0].numpy()))
    return np.array(histories), np.stack(pictures)


@pytest.fixture(scope="module")
def both(resnet):
    config = RenderConfig.keras(batch_size=4)
    starts = np.asarray(jax.random.uniform(jax.random.key(1), (4, 180, 180, 3), minval=-0.125, maxval=0.125))
    ours = render_layer(resnet, LAYER, FILTERS, config, initial_images=starts)
    return ours, *keras_example(resnet, LAYER, FILTERS, starts, config)


def test_score_history_is_the_keras_loops(both):
    ours, history, _ = both
    np.testing.assert_allclose(ours.history, history, rtol=0, atol=HISTORY_TOLERANCE * np.abs(history).max())


def test_pictures_are_the_keras_loops(both):
    ours, _, pictures = both
    assert ours.pictures.shape == (4, 130, 130, 3)
    difference = np.abs(ours.pictures.astype(float) - pictures).mean(axis=(1, 2, 3))
    assert (difference <= MEAN_GREY_LEVELS).all(), dict(zip(FILTERS, difference, strict=True))


def test_the_comparison_notices_another_step_size(resnet, both):
    ours, history, _ = both
    config = dataclasses.replace(ours.config, step_size=9.9)
    starts = np.asarray(jax.random.uniform(jax.random.key(1), (4, 180, 180, 3), minval=-0.125, maxval=0.125))
    other = render_layer(resnet, LAYER, FILTERS, config, initial_images=starts)
    assert np.abs(other.history - history).max() > HISTORY_TOLERANCE * np.abs(history).max()

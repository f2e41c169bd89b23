"""The compiled loop: what history and scores mean, statuses, and that weights are arguments."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxviz import Model, RenderConfig, iter_render, render_layer
from jaxviz.ascent.objectives import Channel

TOLERANCE = 1e-5  # float32 sums in another order


def planes(weights, images, layer):
    """Three filters over the image's red plane: the plane itself, never anything, and NaN once it is bright."""
    red = images[..., 0]
    never = jax.nn.relu(red - 1e9)
    bad = jnp.where(red.max(axis=(1, 2), keepdims=True) > weights["limit"], jnp.nan, red)
    return jnp.stack([red, never, bad], axis=-1)


@pytest.fixture
def three_fates() -> Model:
    return Model.from_callable(planes, {"limit": jnp.float32(0.5)}, lambda rgb: rgb, layers=["planes"], name="fates")


def test_score_rises(toy_model, small):
    for layer in toy_model.layers:
        result = render_layer(toy_model, layer, range(6), small)
        alive = [place for place, status in enumerate(result.status) if status == "ok"]
        assert (result.scores[alive] > result.history[alive, 0]).all(), layer


def test_real_filters_rise(lite0):
    result = render_layer(lite0, "block2_1_expand_conv", range(8), RenderConfig.keras(image_size=64, crop=7, steps=8))
    assert (result.scores > result.history[:, 0]).all()


def test_history_is_before_each_step_and_score_after_the_last(toy_model, small):
    long = render_layer(toy_model, "conv_c", range(2), small)
    short = render_layer(toy_model, "conv_c", range(2), dataclasses.replace(small, steps=small.steps - 1))
    assert long.history.shape == (2, small.steps)
    np.testing.assert_allclose(long.history[:, :-1], short.history, rtol=TOLERANCE)
    np.testing.assert_allclose(long.history[:, -1], short.scores, rtol=TOLERANCE)


def test_one_step_is_the_normalised_gradient(toy_model, small):
    start = jax.random.uniform(jax.random.key(0), (1, 64, 64, 3))
    gradient = jax.grad(lambda x: toy_model.activation(x, "conv_c")[0, :, :, 2].mean())(start)
    moved = start + small.step_size * gradient / jnp.linalg.norm(gradient)
    expected = toy_model.activation(moved, "conv_c")[0, :, :, 2].mean()
    result = render_layer(
        toy_model, "conv_c", [2], dataclasses.replace(small, steps=1), initial_images=np.asarray(start)
    )
    assert result.scores[0] == pytest.approx(float(expected), rel=TOLERANCE)


def test_statuses_are_per_filter_and_in_order(three_fates, small):
    result = render_layer(three_fates, "planes", [2, 0, 1], small)
    assert result.status == ("nan", "ok", "dead")
    assert np.isnan(result.scores[0])
    assert result.scores[2] == 0


def test_dead_and_nan_filters_have_different_labelled_tiles(three_fates, small):
    result = render_layer(three_fates, "planes", [1, 2], small)
    assert result.pictures.shape == (2, 50, 50, 3)
    assert (result.pictures[0] != result.pictures[1]).any()


def test_a_nan_neighbour_does_not_spread(three_fates, small):
    alone = render_layer(three_fates, "planes", [0], small)
    beside = render_layer(three_fates, "planes", [0, 2], small)
    np.testing.assert_array_equal(alone.pictures[0], beside.pictures[0])


def test_a_filter_with_one_gradient_is_not_dead(small):
    def late(weights, images, layer):  # no gradient while the mean is what it starts as, then one
        red = images[..., :1]
        return jnp.where(red.mean() > 0.01, red, jax.lax.stop_gradient(red)) + 0 * weights

    model = Model.from_callable(late, jnp.float32(0), lambda rgb: rgb, layers=["late"])
    bright = np.full((1, 64, 64, 3), 0.02, np.float32)
    dark = np.full((1, 64, 64, 3), 0.0, np.float32)
    assert render_layer(model, "late", [0], small, initial_images=bright).status == ("ok",)
    assert render_layer(model, "late", [0], small, initial_images=dark).status == ("dead",)


def test_activation_border_leaves_cells_out():
    activation = jnp.zeros((6, 6, 2)).at[2:4, 2:4, 1].set(3.0)
    assert Channel(border=0)(activation, jnp.int32(1)) == pytest.approx(3 * 4 / 36)
    assert Channel(border=2)(activation, jnp.int32(1)) == 3
    assert Channel(border=2)(activation, jnp.int32(0)) == 0


def test_objective_ignores_an_infinite_neighbour():
    activation = jnp.zeros((2, 2, 2)).at[..., 0].set(jnp.inf)
    assert Channel()(activation, jnp.int32(1)) == 0


def test_objective_gradient_has_no_scatter():
    text = jax.jit(jax.grad(lambda a: Channel()(a, jnp.int32(1)))).lower(jnp.zeros((6, 6, 8))).as_text()
    assert "scatter" not in text


def test_weights_are_arguments_of_the_compiled_function(toy_model):
    """Two sets of weights share one compilation, so none is a constant in it."""
    config = RenderConfig.keras(image_size=40, crop=5, steps=3, batch_size=2)
    doubled = dataclasses.replace(toy_model, weights=jax.tree.map(lambda array: 2 * array, toy_model.weights))
    one = render_layer(toy_model, "conv_a", range(2), config)
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, _, **__: compiled.append(event))
    try:
        two = render_layer(doubled, "conv_a", range(2), config)
    finally:
        jax.monitoring.clear_event_listeners()
    assert not [event for event in compiled if "backend_compile" in event]
    np.testing.assert_allclose(two.history[:, 0], 2 * one.history[:, 0], rtol=TOLERANCE)


def test_stream_is_one_batch_ahead_and_no_more(toy_model, small, monkeypatch):
    from jaxviz.render import batches as render

    calls = []
    prepared_call = render._prepared_call
    monkeypatch.setattr(render, "_prepared_call", lambda *args: calls.append(1) or prepared_call(*args))
    stream = iter_render(toy_model, "conv_a", range(6), small)
    assert not calls
    next(stream)
    assert len(calls) == 2
    assert len(list(stream)) == 5
    assert len(calls) == 3

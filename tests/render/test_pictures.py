"""Parameterizations, transforms, objectives, optimisers and rescue together, as `render_layer` runs them."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers_pictures import SMALL, classifier, dead_at_first, dead_branch, dead_under_relu, small_preset
from helpers_tiers import thinned
from test_fast_path import slow_operations

from jaxviz import Model, RenderConfig, iter_render, render_layer
from jaxviz.ascent import climb as ascent
from jaxviz.ascent.objectives import Channel, ClassLogit, Direction, Diversity, LayerActivity, Neuron
from jaxviz.ascent.parameterizations import make_parameterization
from jaxviz.ascent.scoring import affine_head, unit_scores
from jaxviz.errors import ConfigError
from jaxviz.judge.judgement import UNRANKED
from jaxviz.network.rules import Settings
from jaxviz.render.plan import plan_render

OBJECTIVES = {
    "channel": Channel(),
    "neuron": Neuron(),
    "direction": Direction(np.eye(6, dtype=np.float32)[:3] + 0.5),
    "direction with a power": Direction(np.eye(6, dtype=np.float32)[:3] + 0.5, cossim_power=2.0),
    "layer": LayerActivity(),
    "negative": -Channel(),
    "sum": 2 * Channel() + 0.5 * Neuron(),
}
SAME_PICTURE = 1  # grey levels: another program for the same numbers rounds otherwise
TOLERANCE = 1e-4  # float32 sums in another order


@thinned("parameterization, objective", ["pixel", "fourier", "maco"], OBJECTIVES, every=8)
def test_score_rises_for_every_objective_and_parameterization(toy_model, parameterization, objective):
    config = RenderConfig(parameterization=parameterization, optimizer="adam", step_size=0.05, steps=24, **SMALL)
    result = render_layer(toy_model, "conv_c", [0], config, objective=OBJECTIVES[objective])
    assert result.status == ("ok",)
    assert result.scores[0] > result.history[0, 0]


@pytest.mark.parametrize(
    ("network", "layer"),
    [("toy_model", "conv_c"), pytest.param("lite0", "block1_1_depthwise_relu", marks=pytest.mark.long)],
)
@pytest.mark.parametrize("preset", ["keras", "distill", pytest.param("maco", marks=pytest.mark.long)])
def test_nothing_couples_the_images_of_a_batch(request, network, layer, preset):
    model, config = request.getfixturevalue(network), small_preset(preset, batch_size=2)
    alone = render_layer(model, layer, [3], config)
    beside = render_layer(model, layer, [5, 3, 4], config)
    np.testing.assert_array_equal(alone.pictures[0], beside.pictures[1])
    np.testing.assert_array_equal(alone.history[0], beside.history[1])


@pytest.fixture
def mean() -> Model:
    """One output for all filters, so that only noise and transforms can tell images apart."""
    return Model.from_callable(
        lambda weights, images, layer: jnp.repeat(images.mean(axis=-1, keepdims=True), 2, axis=-1) + 0 * weights,
        jnp.float32(0),
        lambda rgb: rgb / 127.5 - 1,
        layers=["mean"],
    )


def test_transforms_are_drawn_anew_at_every_step(mean):
    start = np.random.default_rng(0).normal(size=(1, 48, 48, 3)).astype(np.float32)
    jitter, still = (("jitter", 8),), 1e-20  # the image stays what it is
    config = RenderConfig.keras(image_size=48, crop=0, steps=6, step_size=still, transforms=jitter)
    (history,) = render_layer(mean, "mean", [0], config, initial_images=start).history
    assert len(set(history.tolist())) > 4  # of six; two may happen to be equal


@pytest.mark.parametrize(("layer", "affine"), [("stem_conv", True), ("stem_relu", False)])
def test_score_is_the_mean_over_the_views(lite0, layer, affine):
    (route,), prepared = ascent.bind(lite0, layer, [(24, 24)], Settings("cpu"))
    head = affine_head(route, prepared, Channel(), jnp.int32(3))
    assert (head is not None) is affine
    images = jax.random.normal(jax.random.key(0), (2, 3, 24, 24, 3))
    scores = unit_scores(route, prepared, Channel(), jnp.int32(3), head, images)
    each = lite0.activation(images.reshape(6, 24, 24, 3), layer)[..., 3].mean(axis=(1, 2))
    np.testing.assert_allclose(scores, each.reshape(2, 3).mean(axis=1), rtol=TOLERANCE, atol=TOLERANCE)


def test_objective_must_suit_what_the_network_sees_of_the_image(toy_model):
    """A border that the whole image's map has room for, and a crop's has not."""
    config = RenderConfig.keras(image_size=64, crop=0, steps=1, activation_border=5)
    assert plan_render(toy_model, "conv_a", [0], config).filters == (0,)
    with pytest.raises(ConfigError, match="activation_border 5"):
        plan_render(toy_model, "conv_a", [0], dataclasses.replace(config, transforms=(("crops", 2, 0.5, 0.9, 16),)))


def test_transforms_differ_between_the_images_of_a_batch(mean):
    start = np.repeat(np.random.default_rng(0).normal(size=(1, 48, 48, 3)).astype(np.float32), 2, axis=0)
    config = RenderConfig.keras(image_size=48, crop=0, steps=2, batch_size=2, transforms=(("pad", 4), ("jitter", 8)))
    result = render_layer(mean, "mean", [0, 1], config, initial_images=start)
    assert (result.history[0] != result.history[1]).all()
    plain = render_layer(mean, "mean", [0, 1], dataclasses.replace(config, transforms=()), initial_images=start)
    np.testing.assert_array_equal(plain.history[0], plain.history[1])


@pytest.mark.long
def test_more_filters_of_distill_do_not_recompile(toy_model):
    config = small_preset("distill", seed=11, steps=3)
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, _, **__: compiled.append(event))
    try:
        render_layer(toy_model, "conv_a", range(2), config)
        assert any("backend_compile" in event for event in compiled)  # the counter counts
        compiled.clear()
        other = dataclasses.replace(config, seed=12, step_size=0.1)
        render_layer(toy_model, "conv_a", range(3, 8), other)
        assert not [event for event in compiled if "backend_compile" in event]
    finally:
        jax.monitoring.clear_event_listeners()


@pytest.mark.long
@pytest.mark.parametrize("preset", ["distill", "maco"])
def test_loop_body_of_a_preset_holds_nothing_slow(lite0, preset):
    plan = plan_render(lite0, "block2_1_expand_relu", range(2), small_preset(preset, batch_size=2))
    run, weights = ascent.bind(plan.forward, lite0.weights, plan.layer, platform="cpu")
    parameterization = make_parameterization(plan.config, lite0.preprocess)
    keys = ascent.unit_keys(
        jnp.uint32(0), jnp.arange(2, dtype=jnp.int32), jnp.zeros((2, 1), jnp.int32), jnp.zeros(2, jnp.int32)
    )
    loop = ascent.Loop(
        forward=run,
        layer=plan.layer,
        steps=3,
        mesh=ascent.batch_mesh(jax.local_devices()[:1]),
        transforms=plan.transforms,
        optimizer=plan.config.optimizer,
        rescue_steps=plan.config.rescue_steps,
    )
    lowered = ascent.compiled("cpu").lower(
        weights,
        jnp.arange(2, dtype=jnp.int32),
        keys,
        ascent.initial_parameters(keys, parameterization),
        ascent.Numbers(jnp.float32(0.05)),
        plan.objective,
        parameterization,
        loop=loop,
    )
    products, slow = slow_operations(lowered.compile().as_text())
    assert products >= 5
    assert not slow


# What is dead, and what brings it back


def test_filter_that_is_dead_under_relu_is_revived_by_the_redirected_gradient():
    model = dead_under_relu()
    config = RenderConfig.keras(image_size=32, crop=0, steps=20, batch_size=2, step_size=1.0)
    assert render_layer(model, "relu", [0], config).status == ("dead",)
    rescued = render_layer(model, "relu", [0, 1], dataclasses.replace(config, rescue_steps=16))
    assert rescued.status == ("ok", "ok")
    assert rescued.scores[0] > 0


def test_rescue_leaves_an_image_alone_that_has_a_gradient():
    model = dead_under_relu()
    config = RenderConfig.keras(image_size=32, crop=0, steps=6, batch_size=2, step_size=1.0)
    plain = render_layer(model, "relu", [1], config)
    beside = render_layer(model, "relu", [1, 0], dataclasses.replace(config, rescue_steps=16))
    np.testing.assert_allclose(beside.history[0], plain.history[0], rtol=TOLERANCE)


def test_rescue_of_a_neighbour_does_not_revive_a_dead_branch():
    """Filter 0 has a live and a dead branch, filter 1 only dead ones; that one alone is to be rescued."""
    model = dead_branch()
    config = RenderConfig.keras(image_size=32, crop=0, steps=20, batch_size=2, step_size=2.0)
    plain = render_layer(model, "sum", [0, 1], config)
    rescued = render_layer(model, "sum", [0, 1], dataclasses.replace(config, rescue_steps=16))
    assert plain.status == ("ok", "dead")
    assert rescued.status == ("ok", "ok")
    np.testing.assert_allclose(rescued.history[0], plain.history[0], rtol=TOLERANCE)


def test_filter_that_stays_dead_is_tried_again_from_other_noise():
    model = dead_at_first()
    config = RenderConfig.keras(image_size=16, crop=0, steps=4, batch_size=2)
    once = render_layer(model, "late", range(8), config)
    again = render_layer(model, "late", range(8), dataclasses.replace(config, attempts=20))
    assert {"dead", "ok"} == set(once.status)
    assert set(again.status) == {"ok"}
    for before, after in zip(once.items, again.items, strict=True):
        assert (after.attempt > 0) == (before.status == "dead"), before.filter_index
        assert before.filter_index == after.filter_index
        if before.status == "ok":
            np.testing.assert_array_equal(before.picture, after.picture)


def test_attempts_are_bounded_and_end_in_a_labelled_tile():
    def never(weights, images, layer):
        return jax.nn.relu(images[..., :1] - 1e9) + 0 * weights

    model = Model.from_callable(never, jnp.float32(0), lambda rgb: rgb, layers=["never"])
    config = RenderConfig.keras(image_size=16, crop=0, steps=2, attempts=3)
    (item,) = render_layer(model, "never", [0], config).items
    assert (item.status, item.attempt) == ("dead", 2)


# Replicas and diversity


def test_replica_zero_is_the_plain_picture_and_the_others_differ(toy_model, small):
    plain = render_layer(toy_model, "conv_c", [1, 2], small)
    three = render_layer(toy_model, "conv_c", [1, 2], small, replicas=3)
    assert [(item.filter_index, item.replica) for item in three.items] == [(f, r) for f in (1, 2) for r in (0, 1, 2)]
    np.testing.assert_array_equal(three.pictures[[0, 3]], plain.pictures)
    assert (three.pictures[0] != three.pictures[1]).any()
    assert three.recipe == plain.recipe


@pytest.mark.long
def test_diversity_makes_replicas_differ_more(toy_model):
    config = RenderConfig(parameterization="fourier", optimizer="adam", step_size=0.05, steps=48, batch_size=4, **SMALL)
    layer = "conv_c"

    def similarity(objective):
        result = render_layer(toy_model, layer, [5], config, objective=objective, replicas=4)
        images = jnp.asarray(toy_model.preprocess(result.pictures.astype(np.float32)))
        activations = toy_model.activation(images, layer)
        return -float(Diversity().scores(activations, jnp.int32(0)).mean())

    assert similarity(Channel() + 10 * Diversity()) < 0.9 * similarity(Channel())


def test_diversity_couples_the_replicas_of_a_filter_and_nothing_else(toy_model, small):
    objective = Channel() + 10 * Diversity()
    config = dataclasses.replace(small, batch_size=4)
    alone = render_layer(toy_model, "conv_c", [3], config, objective=objective, replicas=2)
    beside = render_layer(toy_model, "conv_c", [1, 3, 5], config, objective=objective, replicas=2)
    np.testing.assert_array_equal(alone.pictures, beside.pictures[2:4])


@pytest.mark.long
def test_score_of_coupled_replicas_leaves_the_coupling_out(toy_model, small):
    start = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    still = dataclasses.replace(small, steps=1, step_size=1e-20)  # the images stay what they are
    plain, coupled = (
        render_layer(toy_model, "conv_c", [3], still, objective=objective, replicas=2, initial_images=start)
        for objective in (Channel(), Channel() + 10 * Diversity())
    )
    np.testing.assert_allclose(coupled.scores, plain.scores, rtol=TOLERANCE)
    assert (coupled.history < plain.history - 1).all()


def test_batch_that_cuts_coupled_replicas_is_an_error(toy_model, small):
    with pytest.raises(ConfigError, match="multiple of 3"):
        render_layer(
            toy_model,
            "conv_c",
            [3],
            dataclasses.replace(small, batch_size=4),
            objective=Channel() + Diversity(),
            replicas=3,
        )


# Beside natural images


def test_tile_of_a_dead_filter_is_not_judged():
    config = RenderConfig.keras(image_size=32, crop=0, steps=2, batch_size=2)
    result = render_layer(dead_under_relu(), "relu", [0, 1], config)
    assert result.status == ("dead", "ok")
    judgement = result.judge()
    assert np.isnan([judgement.scores[0], judgement.percentile[0]]).all()
    assert (judgement.rank[0], judgement.robust_rank[0]) == (UNRANKED, UNRANKED)
    assert judgement.rank[1] > 0


# Scores, history, snapshots


def test_history_is_what_was_optimised_and_score_the_plain_objective(toy_model, small):
    config = dataclasses.replace(small, tv=5.0, l2=1.0)
    start = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
    plain = render_layer(toy_model, "conv_c", [0], small, initial_images=start)
    penalized = render_layer(toy_model, "conv_c", [0], config, initial_images=start)
    variation = np.abs(np.diff(start[0], axis=0)).mean() + np.abs(np.diff(start[0], axis=1)).mean()
    expected = plain.history[0, 0] - 5 * variation - (start**2).mean()
    assert penalized.history[0, 0] == pytest.approx(expected, rel=TOLERANCE)
    assert penalized.scores[0] > penalized.history[0, -1]  # nothing is taken off


@pytest.mark.long
def test_total_variation_makes_smoother_images(toy_model):
    config = RenderConfig(optimizer="adam", step_size=0.02, steps=32, **SMALL)
    rough, smooth = (
        render_layer(toy_model, "conv_c", [0], dataclasses.replace(config, tv=tv)).pictures[0] for tv in (0.0, 10.0)
    )

    def variation(picture):
        return np.abs(np.diff(picture.astype(int), axis=0)).mean()

    assert variation(smooth) < 0.7 * variation(rough)


@pytest.mark.parametrize("preset", ["keras", pytest.param("distill", marks=pytest.mark.long)])
def test_snapshot_is_the_picture_that_so_many_steps_give(toy_model, preset):
    config = small_preset(preset, steps=5)
    layer = "conv_c"
    (item,) = render_layer(toy_model, layer, [2], config, snapshots=(0, 3, 5)).items
    (short,) = render_layer(toy_model, layer, [2], dataclasses.replace(config, steps=3)).items
    assert list(item.snapshots) == [0, 3, 5]
    np.testing.assert_array_equal(item.snapshots[5], item.picture)
    difference = np.abs(item.snapshots[3].astype(int) - short.picture.astype(int))
    assert difference.max() <= SAME_PICTURE
    assert (item.snapshots[0] != item.snapshots[3]).any()


def test_snapshots_do_not_change_the_picture(toy_model, small):
    plain = render_layer(toy_model, "conv_a", [2], small)
    kept = render_layer(toy_model, "conv_a", [2], small, snapshots=(1, 2))
    assert np.abs(plain.pictures.astype(int) - kept.pictures.astype(int)).max() <= SAME_PICTURE
    assert kept.recipe == plain.recipe


@pytest.mark.parametrize(("snapshots", "named"), [((99,), "99"), ((-1,), "-1"), (("x",), "'x'"), (3, "3")])
def test_impossible_snapshots_are_errors(toy_model, small, snapshots, named):
    with pytest.raises(ConfigError, match=named):
        render_layer(toy_model, "conv_a", [2], small, snapshots=snapshots)


# Objectives that concern the request


def test_negative_finds_what_a_filter_dislikes(toy_model, small):
    likes, dislikes = (
        render_layer(toy_model, "conv_c", range(3), small, objective=objective) for objective in (None, -Channel())
    )
    assert (dislikes.scores > dislikes.history[:, 0]).all()
    assert (-dislikes.scores < likes.scores).all()


def test_class_logit_is_the_value_before_the_softmax():
    model = classifier()
    start = np.random.default_rng(0).normal(size=(1, 48, 48, 3)).astype(np.float32)
    config = small_preset("keras", steps=1)
    result = render_layer(model, "predictions", [2], config, objective=ClassLogit(), initial_images=start)
    pooled = model.activation(start, "avg_pool")[0]
    dense = model.weights["predictions"]
    logit = float(pooled @ dense["kernel"][:, 2] + dense["bias"][2])
    assert result.history[0, 0] == pytest.approx(logit, rel=TOLERANCE)


def test_class_logit_elsewhere_is_an_error(lite0, toy_model, small):
    for model, layer in ((lite0, "head_relu"), (toy_model, "conv_a")):
        with pytest.raises(ConfigError, match="class_logit"):
            render_layer(model, layer, [0], small, objective=ClassLogit())


def test_layer_objective_has_one_picture(toy_model, small):
    assert render_layer(toy_model, "conv_c", None, small, objective=LayerActivity()).filters == (0,)


def test_direction_numbers_are_its_rows(toy_model, small):
    start = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    rows = Direction(np.eye(6, dtype=np.float32)[[4, 2]])
    result = render_layer(toy_model, "conv_c", "all", small, objective=rows, initial_images=start)
    channels = render_layer(toy_model, "conv_c", [4, 2], small, initial_images=start)
    assert result.filters == (0, 1)
    np.testing.assert_allclose(result.history, channels.history, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.long
def test_another_weight_does_not_recompile(toy_model, small):
    config = dataclasses.replace(small, batch_size=1)
    list(iter_render(toy_model, "conv_c", [0], config, objective=Channel() + 2 * Neuron()))
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, _, **__: compiled.append(event))
    try:
        list(iter_render(toy_model, "conv_c", [1], config, objective=Channel() + 3 * Neuron()))
        assert not [event for event in compiled if "backend_compile" in event]
    finally:
        jax.monitoring.clear_event_listeners()


def test_preprocess_that_jax_cannot_trace_is_an_error(toy_model):
    model = dataclasses.replace(toy_model, preprocess=lambda rgb: np.asarray(rgb) / 255)
    with pytest.raises(ConfigError, match="preprocess"):
        render_layer(model, "conv_a", [0], RenderConfig.distill(image_size=32))


@pytest.mark.long
@pytest.mark.parametrize("size", [(33, 47), (40, 64)])
def test_any_size_odd_and_not_square(toy_model, size):
    config = small_preset("distill", steps=2, image_size=size)
    assert render_layer(toy_model, "conv_a", [0], config).pictures.shape == (1, *size, 3)

"""Judging pictures: scores, percentiles and ranks against numbers computed by hand, and the scores that are kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers_judge import SOME, Counted, Mean, channels_times_weights, coloured, natural_of, network

from jaxviz.errors import ConfigError
from jaxviz.judge.judgement import BATCH, UNRANKED, Judge, judge
from jaxviz.judge.natural_images import NaturalImages, natural_images

# Two ways to compute one network in float32: sums in another order.
FORWARD_TOLERANCE = 1e-4
LAYER = "block2_2_expand_relu"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Large(Mean):
    """One that needs a map of 5 x 5 cells."""

    def check(self, activation_shape, layer):
        if min(activation_shape[:2]) < 5:
            raise ConfigError(f"too small at {layer}: {activation_shape}")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Coupled(Mean):
    """One that has no value for a single image, only without what couples."""

    def __call__(self, activation, filter_index):
        raise AssertionError("replicas are coupled")

    def plain(self):
        return Mean(self.factor)


# Red: 10, 20, 30, 40 (mean 25, spread 11.18). Green: 0, 0, 200, 200 (mean 100, spread 100). Blue: always 50.
NATURAL = natural_of(coloured((10, 0, 50), (20, 0, 50), (30, 200, 50), (40, 200, 50)))


def judged(colour, filter_index, *, natural: NaturalImages | None = NATURAL, **options):
    model = options.pop("model", None) or network()
    return judge(model, "colours", coloured(colour), [filter_index], objective=Mean(), natural=natural, **options)


# Scores


def test_score_is_the_objective_on_the_preprocessed_picture():
    found = judged((70, 20, 30), 0)
    assert found.scores.dtype == np.float32
    assert found.scores.tolist() == [7.0]


def test_each_picture_is_scored_by_its_own_filter():
    pictures = coloured((10, 20, 30), (10, 20, 30), (40, 50, 60))
    found = judge(network(), "colours", pictures, [2, 0, 1], objective=Mean(), natural=None)
    assert found.scores.tolist() == [3.0, 1.0, 5.0]


def test_pictures_of_several_batches_are_judged_as_they_are_alone():
    pictures = np.random.default_rng(1).integers(0, 256, (2 * BATCH + 1, 4, 4, 3), dtype=np.uint8)
    filters = [place % 3 for place in range(len(pictures))]
    a_judge = Judge(network(), "colours", objective=Mean(), natural=SOME)
    together = a_judge(pictures, filters)
    for place, filter_index in enumerate(filters):
        alone = a_judge(pictures[place : place + 1], [filter_index])
        for name in ("scores", "percentile", "rank"):
            assert getattr(alone, name)[0] == getattr(together, name)[place], (name, place)


def test_coupling_terms_are_left_out():
    found = judge(network(), "colours", coloured((70, 0, 0)), [0], objective=Coupled(), natural=NATURAL)
    assert found.scores.tolist() == [7.0]


def test_no_pictures_are_no_numbers():
    found = judge(network(), "colours", coloured((1, 2, 3))[:0], [], objective=Mean(), natural=NATURAL)
    assert (len(found.scores), len(found.percentile), len(found.rank)) == (0, 0, 0)


def test_objective_that_does_not_suit_the_pictures_size_is_an_error():
    with pytest.raises(ConfigError, match=re.escape("too small at colours: (4, 4, 3)")):
        judge(network(), "colours", coloured((1, 2, 3)), [0], objective=Large(), natural=None)


def test_size_can_be_checked_before_there_are_pictures():
    a_judge = Judge(network(), "colours", objective=Large(), natural=NATURAL)
    a_judge.check((5, 6))
    with pytest.raises(ConfigError, match="too small"):
        a_judge.check((5, 4))


# Percentiles


@pytest.mark.parametrize(
    ("red", "expected"),
    [(5, 0.0), (10, 12.5), (15, 25.0), (30, 62.5), (40, 87.5), (41, 100.0)],
    ids=["below all", "equal to the lowest", "above one", "equal to the third", "equal to the highest", "above all"],
)
def test_percentile_counts_lower_images_and_half_of_equal_ones(red, expected):
    assert judged((red, 0, 0), 0).percentile.tolist() == [expected]


def test_percentile_is_of_the_same_filter():
    pictures = coloured((35, 35, 0), (35, 35, 0))
    found = judge(network(), "colours", pictures, [0, 1], objective=Mean(), natural=NATURAL)
    assert found.percentile.tolist() == [75.0, 50.0]


def test_negative_objective_turns_the_percentile_round():
    found = judge(network(), "colours", coloured((15, 0, 0)), [0], objective=Mean(-1.0), natural=NATURAL)
    assert found.percentile.tolist() == [75.0]


def test_filter_that_never_varies_has_no_percentile():
    assert np.isnan(judged((0, 0, 200), 2).percentile).all()


# Ranks


@pytest.mark.parametrize(
    ("colour", "filter_index", "expected"),
    [
        # Standardised: red (60 - 25) / 11.18 = 3.1, green (200 - 100) / 100 = 1, though green's raw score is larger.
        ((60, 200, 0), 0, 1),
        ((60, 200, 0), 1, 2),
        ((26, 200, 0), 0, 2),
        ((26, 200, 0), 1, 1),
        ((25, 100, 0), 0, 1),  # equal: both are first
        ((25, 100, 0), 1, 1),
    ],
)
def test_rank_is_by_standardised_score(colour, filter_index, expected):
    assert judged(colour, filter_index).rank.tolist() == [expected]


def test_filter_that_never_varies_takes_no_part_in_ranks():
    found = judged((26, 99, 255), 0)
    assert (found.rank.tolist(), found.ranked) == ([1], 2)


def test_filter_that_never_varies_has_no_rank():
    assert judged((0, 0, 255), 2).rank.tolist() == [UNRANKED]


def test_rank_does_not_depend_on_a_filters_own_scale():
    pictures = coloured((60, 200, 0), (26, 200, 0))
    plain, scaled = (
        judge(network(gain=gain), "colours", pictures, [1, 0], objective=Mean(), natural=NATURAL)
        for gain in ((1.0, 1.0, 1.0), (0.001, 1000.0, 1.0))
    )
    assert plain.rank.tolist() == scaled.rank.tolist() == [2, 2]


def test_robust_rank_takes_no_spread_as_smaller_than_the_median():
    found = judged((60, 200, 0), 0)  # the median spread is 55.6: red 35 / 55.6 = 0.6, green 100 / 100 = 1
    assert (found.rank.tolist(), found.robust_rank.tolist()) == ([1], [2])


def overflowing(weights, images, layer):
    """Infinite red where an image is bright."""
    return jnp.where(images > 3.5, jnp.inf, images * weights["gain"])


def test_filter_with_an_infinite_score_has_neither_percentile_nor_rank():
    found = judged((20, 0, 0), 0, model=network(overflowing))
    assert (np.isnan(found.percentile).all(), found.rank.tolist(), found.ranked) == (True, [UNRANKED], 0)


def test_picture_with_an_infinite_score_has_neither_percentile_nor_rank():
    natural = natural_of(coloured((10, 0, 0), (20, 0, 0)))
    found = judged((200, 0, 0), 0, natural=natural, model=network(overflowing))
    assert (np.isnan(found.percentile).all(), found.rank.tolist(), found.ranked) == (True, [UNRANKED], 1)


# The natural images


def test_natural_images_are_recorded():
    found = judged((0, 0, 0), 0)
    recorded = (found.natural_sha256, found.natural_source, found.natural_count)
    assert recorded == (NATURAL.sha256, "a test", 4)


def test_without_natural_images_there_are_scores_only():
    found = judged((70, 0, 0), 0, natural=None)
    assert (found.scores.tolist(), np.isnan(found.percentile).all(), found.rank.tolist()) == ([7.0], True, [UNRANKED])
    assert (found.natural_sha256, found.natural_source, found.natural_count) == (None, None, 0)


def test_pictures_may_have_another_size_than_the_natural_images():
    found = judge(network(), "colours", coloured((35, 0, 0), size=9), [0], objective=Mean(), natural=NATURAL)
    assert found.percentile.tolist() == [75.0]


def test_natural_images_are_scored_once_for_several_calls():
    preprocess = Counted()
    a_judge = Judge(network(preprocess=preprocess), "colours", objective=Mean(), natural=SOME)
    a_judge(coloured((1, 2, 3)), [0])
    before = preprocess.calls
    a_judge(coloured((4, 5, 6)), [1])
    assert preprocess.calls == before + 1


def test_images_of_one_size_are_compiled_for_once():
    model, compiled = network(), []
    jax.monitoring.register_event_duration_secs_listener(lambda event, _, **__: compiled.append(event))
    try:
        natural, pictures = (natural_of(coloured(*[(1, 2, 3)] * 9, size=11)), coloured((4, 5, 6), size=11))
        judge(model, "colours", pictures, [0], objective=Mean(), natural=natural)
        assert any("backend_compile" in event for event in compiled)  # the counter counts
        compiled.clear()
        judge(model, "colours", pictures, [2], objective=Mean(2.0), natural=natural)
        assert not [event for event in compiled if "backend_compile" in event]
    finally:
        jax.monitoring.clear_event_listeners()


# Before softmax


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class OfLogits(Mean):
    before_softmax: ClassVar[bool] = True


def test_objective_of_logits_gets_them():
    model = network(lambda weights, images, layer: jax.nn.softmax(channels_times_weights(weights, images, layer)))
    pictures = coloured((70, 0, 0))
    found = judge(model, "colours", pictures, [0], objective=OfLogits(), natural=NATURAL)
    assert found.scores.tolist() == [7.0]
    probability = judge(model, "colours", pictures, [0], objective=Mean(), natural=NATURAL).scores[0]
    assert probability == pytest.approx(np.exp(7) / (np.exp(7) + 2))


# EfficientNet-Lite0


@pytest.fixture(scope="module")
def photographs() -> NaturalImages:
    pytest.importorskip("skimage", reason="the photographs come with scikit-image: pip install -e '.[dev]'")
    found = natural_images(None, (64, 64))
    assert found is not None
    return found


def test_photograph_is_judged_by_what_the_plain_network_says_of_it(lite0, photographs):
    forward = jax.jit(lambda images: lite0.activation(images, LAYER))
    images = lite0.preprocess(photographs.images.astype(np.float32))
    scores = np.asarray(forward(images)).mean(axis=(1, 2))
    varies = np.ptp(scores, axis=0) > 0
    picture, filter_index = 60, int(scores[60].argmax())
    found = judge(lite0, LAYER, photographs.images[60:61], [filter_index], objective=Mean(), natural=photographs)

    own = scores[:, filter_index]
    standardised = (scores[picture] - scores.mean(axis=0)) / np.where(varies, scores.std(axis=0), np.inf)
    assert found.scores[0] == pytest.approx(own[picture], rel=FORWARD_TOLERANCE)
    assert found.percentile[0] == pytest.approx(100 * ((own < own[picture]).sum() + 0.5) / len(own))
    assert found.rank[0] == 1 + (standardised > standardised[filter_index])[varies].sum()
    assert found.ranked == varies.sum()


def test_photograph_among_the_natural_images_equals_itself(lite0, photographs):
    """One N: a photograph gets the same score, to the bit, as a picture and in the set, whatever its place."""
    a_judge = Judge(lite0, LAYER, objective=Mean(), natural=photographs)
    ends_in_a_half = a_judge(photographs.images[5:6], [0]).percentile * len(photographs.images) / 100 % 1
    assert ends_in_a_half == pytest.approx(0.5)


@pytest.mark.long
def test_class_probabilities_can_be_judged(lite0, photographs):
    few = natural_of(photographs.images[:4])
    found = judge(lite0, "predictions", photographs.images[4:5], [285], objective=Mean(), natural=few)
    assert 0 < found.scores[0] < 1
    assert found.ranked == 1000

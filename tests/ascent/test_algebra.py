"""The arithmetic of objectives: sums, differences and multiples have the right weights."""

from __future__ import annotations

import math
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers_objectives import SHAPE, TOLERANCE, VECTORS, activations, value

from jaxviz.ascent.objectives import (
    Channel,
    Direction,
    LayerActivity,
    Neuron,
)
from jaxviz.errors import ConfigError

pytestmark = pytest.mark.quick

a, b, c = Channel(), Neuron(), LayerActivity()
ARITHMETIC = {
    "a + b": (a + b, lambda a, b, c: a + b),
    "a - b": (a - b, lambda a, b, c: a - b),
    "2a + 3b": (2 * a + 3 * b, lambda a, b, c: 2 * a + 3 * b),
    "-(a - b)": (-(a - b), lambda a, b, c: b - a),
    "a - (b - c)": (a - (b - c), lambda a, b, c: a - b + c),
    "a - 2(b - 3c)": (a - 2 * (b - 3 * c), lambda a, b, c: a - 2 * b + 6 * c),
    "(a - b) - c": ((a - b) - c, lambda a, b, c: a - b - c),
    "a * 2": (a * 2, lambda a, b, c: 2 * a),
    "(a + b) / 4": ((a + b) / 4, lambda a, b, c: (a + b) / 4),
    "-(-a)": (operator.neg(-a), lambda a, b, c: a),
    "a - a": (a - a, lambda a, b, c: 0 * a),
    "sum": (sum([a, b, c]), lambda a, b, c: a + b + c),
    "numpy": (np.float32(2) * a - b * np.int64(3), lambda a, b, c: 2 * a - 3 * b),
}


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_is_that_of_the_scores(name):
    objective, expected = ARITHMETIC[name]
    activation = activations(*SHAPE)
    terms = [value(term, activation) for term in (a, b, c)]
    assert value(objective, activation) == pytest.approx(expected(*terms), rel=TOLERANCE, abs=1e-7)
    scores = objective.scores(activations(2, *SHAPE), jnp.int32(1))
    expected_scores = expected(*(term.scores(activations(2, *SHAPE), jnp.int32(1)) for term in (a, b, c)))
    np.testing.assert_allclose(scores, expected_scores, rtol=TOLERANCE, atol=1e-7)


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf, 1e39])
def test_weight_that_is_not_finite_is_refused(weight):
    with pytest.raises(ConfigError, match="weight"):
        weight * Channel()


def test_weights_that_overflow_together_are_refused():
    with pytest.raises(ConfigError, match="weight"):
        1e30 * (1e30 * Channel())


@pytest.mark.parametrize("divisor", [0, 0.0, math.nan, 1e-320])
def test_divisor_without_a_finite_inverse_is_refused(divisor):
    with pytest.raises(ConfigError):
        Channel() / divisor


@pytest.mark.parametrize("other", ["2", True, None, [1.0], 2j])
@pytest.mark.parametrize("operation", [operator.mul, operator.truediv, operator.add, operator.sub])
def test_arithmetic_with_anything_else_is_a_type_error(operation, other):
    with pytest.raises(TypeError):
        operation(Channel(), other)


def test_other_weights_and_vectors_do_not_recompile():
    score = jax.jit(lambda objective, activation: objective(activation, jnp.int32(1)))
    activation = activations(*SHAPE)
    for weight in (0.5, 2.0):
        objective = Channel() - weight * Direction(weight * VECTORS)
        assert float(score(objective, activation)) == pytest.approx(value(objective, activation), rel=TOLERANCE)
    assert score._cache_size() == 1
    score(Channel() - Direction(VECTORS, 1.0), activation)  # what is static does
    assert score._cache_size() == 2


def test_combination_is_flat():
    assert len((Channel() - 2 * (Neuron() - (Channel() + LayerActivity()))).terms) == 4

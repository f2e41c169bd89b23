"""Objectives: their values against NumPy, their arithmetic, and that each is finite, vmappable and free of scatters."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers_objectives import SHAPE, TOLERANCE, VECTORS, activations, value

from jaxviz.ascent.algebra import Objective
from jaxviz.ascent.objectives import (
    OBJECTIVES,
    Channel,
    ClassLogit,
    Direction,
    Diversity,
    LayerActivity,
    Neuron,
    parse_objective,
)
from jaxviz.errors import ConfigError

MAP_OBJECTIVES = {
    "channel": Channel(),
    "border": Channel(border=1),
    "neuron": Neuron(),
    "neuron at": Neuron(y=1, x=2),
    "direction": Direction(VECTORS),
    "direction cossim": Direction(VECTORS, 2.0),
    "layer": LayerActivity(),
    "negative": -Channel(),
    "difference": Channel() - 0.5 * Neuron(),
    "diverse": Channel() + 1e2 * Diversity(),
}
LINEAR = {"channel", "border", "neuron", "neuron at", "direction", "negative", "difference"}


# Every objective


@pytest.fixture(params=MAP_OBJECTIVES)
def named(request):
    return request.param, MAP_OBJECTIVES[request.param]


@jax.jit
@jax.value_and_grad
def score_and_gradient(replicas, objective):
    return objective.scores(replicas, jnp.int32(1)).sum()


ZERO_CELL = np.ones((*SHAPE[:2], 1), np.float32)
ZERO_CELL[2, 3] = 0


@pytest.mark.parametrize("scale", [1.0, 0.0, 1e-20, 1e6, ZERO_CELL], ids=["1", "0", "1e-20", "1e6", "zero cell"])
def test_value_and_gradient_are_finite(named, scale):
    score, gradient = score_and_gradient(activations(3, *SHAPE) * scale, named[1])
    assert jnp.isfinite(score)
    assert jnp.isfinite(gradient).all()


def test_gradient_is_compiled_without_a_scatter(named):
    def total(objective, replicas, filter_index):
        return objective.scores(replicas, filter_index).sum()

    gradient = jax.jit(jax.vmap(jax.grad(total, argnums=1), in_axes=(None, 0, 0)))
    lowered = gradient.lower(named[1], activations(4, 2, *SHAPE), jnp.arange(4, dtype=jnp.int32))
    assert "scatter" not in lowered.as_text()
    assert "scatter(" not in lowered.compile().as_text()


def test_is_linear_tells_the_truth(named):
    name, objective = named
    a, b = activations(2, *SHAPE, seed=1), activations(2, *SHAPE, seed=2)
    together, apart = (
        objective.scores(3 * a - b, jnp.int32(1)),
        3 * objective.scores(a, jnp.int32(1)) - objective.scores(b, jnp.int32(1)),
    )
    assert objective.is_linear == (name in LINEAR)
    assert np.allclose(together, apart, rtol=TOLERANCE, atol=TOLERANCE) == objective.is_linear


def test_scores_are_each_replicas_own_unless_it_couples(named):
    name, objective = named
    replicas = activations(3, *SHAPE)
    alone = [value(objective, replica) for replica in replicas]
    scores = objective.scores(replicas, jnp.int32(1))
    assert objective.couples == (name == "diverse")
    assert np.allclose(scores, alone, rtol=TOLERANCE, atol=TOLERANCE) != objective.couples


def test_plain_scores_one_image_like_the_objective(named):
    _, objective = named
    assert not objective.plain().couples
    activation = activations(*SHAPE)
    assert value(objective.plain(), activation) == pytest.approx(value(objective, activation), rel=TOLERANCE)


def test_filter_index_selects(named):
    name, objective = named
    different = {value(objective, activations(*SHAPE), index) for index in range(3)}
    assert len(different) == (1 if name == "layer" else 3)


# One by one


def test_channel_is_the_mean_inside_the_border():
    activation = activations(*SHAPE)
    assert value(Channel(), activation, 3) == pytest.approx(float(activation[..., 3].mean()), rel=TOLERANCE)
    assert value(Channel(2), activation, 3) == pytest.approx(float(activation[2:-2, 2:-2, 3].mean()), rel=TOLERANCE)


@pytest.mark.parametrize("objective", [Channel(), Channel(1), Neuron(), Direction(np.eye(8)), ClassLogit()])
def test_where_there_is_no_map_a_filter_is_its_activation(objective):
    activation = activations(8)
    assert value(objective, activation, 5) == pytest.approx(float(activation[5]), rel=TOLERANCE)


def test_neuron_is_one_cell_by_default_the_centre():
    activation = activations(*SHAPE)
    assert value(Neuron(), activation, 4) == activation[2, 3, 4]
    assert value(Neuron(), activation.swapaxes(0, 1), 4) == activation[2, 3, 4]
    assert value(Neuron(y=1, x=5), activation, 4) == activation[1, 5, 4]
    assert value(Neuron(y=0), activation, 4) == activation[0, 3, 4]


def test_neuron_gradient_is_in_its_cell_only():
    gradient = jax.grad(lambda activation: Neuron(1, 5)(activation, jnp.int32(4)))(activations(*SHAPE))
    np.testing.assert_array_equal(np.argwhere(gradient), [[1, 5, 4]])
    assert gradient[1, 5, 4] == 1


@pytest.mark.parametrize("objective", [Channel(), Neuron()])
def test_infinite_neighbour_is_ignored(objective):
    activation = jnp.zeros(SHAPE).at[..., 0].set(jnp.inf)
    assert value(objective, activation, 1) == 0


def reference_direction(activation, vector, power):
    """Lucid's `_dot_cossim`, cell by cell."""
    scores = []
    for x in np.asarray(activation, np.float64).reshape(-1, activation.shape[-1]):
        dot = float(x @ vector)
        cossim = dot / (1e-4 + math.sqrt(x @ x)) / (1e-4 + math.sqrt(vector @ vector))
        scores.append(dot * max(0.1, cossim) ** power if power else dot)
    return sum(scores) / len(scores)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("row", range(3))
def test_direction_is_the_published_formula(power, row):
    activation = activations(*SHAPE) + jnp.asarray(VECTORS[row])  # so that some cells are above the floor, some below
    expected = reference_direction(activation, VECTORS[row].astype(np.float64), power)
    assert value(Direction(VECTORS, power), activation, row) == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize("vector", [list(map(float, VECTORS[0])), VECTORS[0], jnp.asarray(VECTORS[0])])
def test_one_vector_is_one_row(vector):
    direction = Direction(vector)
    assert direction.choices(8) == 1
    direction.check(SHAPE, "layer")
    assert direction.describe() == Direction(VECTORS[:1]).describe()
    expected = value(Direction(VECTORS), activations(*SHAPE), 0)
    assert value(direction, activations(*SHAPE), 0) == pytest.approx(expected, rel=TOLERANCE)


def test_direction_of_a_unit_vector_is_the_channel():
    activation = activations(*SHAPE)
    assert value(Direction(np.eye(8)), activation, 6) == pytest.approx(value(Channel(), activation, 6), rel=TOLERANCE)


def test_layer_is_the_mean_square():
    activation = activations(*SHAPE)
    assert value(LayerActivity(), activation) == pytest.approx(float(np.square(activation).mean()), rel=TOLERANCE)


def reference_diversity(replicas):
    """Minus the inner products of normalised gram matrices, pair by pair."""
    cells = np.asarray(replicas, np.float64).reshape(len(replicas), -1, replicas.shape[-1])
    grams = [x.T @ x for x in cells]
    grams = [gram / math.sqrt(max((gram * gram).sum(), 1e-10)) for gram in grams]
    return [-sum((gram * other).sum() for j, other in enumerate(grams) if j != i) for i, gram in enumerate(grams)]


@pytest.mark.parametrize("shape", [(3, *SHAPE), (3, 8), (2, 2, 2, 40), (1, *SHAPE)])  # many cells; one; few
@pytest.mark.parametrize("scale", [1.0, 1e-3])  # the second is below the epsilon
def test_diversity_is_the_published_formula(shape, scale):
    replicas = activations(*shape) * scale
    scores = Diversity().scores(replicas, jnp.int32(0))
    np.testing.assert_allclose(scores, reference_diversity(replicas), rtol=TOLERANCE)


def test_diversity_of_equal_replicas_is_minus_the_number_of_others():
    replicas = jnp.broadcast_to(activations(*SHAPE), (4, *SHAPE))
    np.testing.assert_allclose(Diversity().scores(replicas, jnp.int32(0)), -3, rtol=TOLERANCE)


def test_diversity_of_one_replica_is_zero():
    assert float(Diversity().scores(activations(1, *SHAPE), jnp.int32(0))[0]) == 0
    assert value(Diversity(), activations(*SHAPE)) == 0


def test_climbing_diversity_makes_replicas_less_alike():
    replicas = activations(3, *SHAPE)

    def total(replicas):
        return Diversity().scores(replicas, jnp.int32(0)).sum()

    assert total(replicas + 0.1 * jax.grad(total)(replicas)) > total(replicas)


# What the recipe, the request and the command line need to know


@pytest.mark.parametrize(
    ("objective", "text"),
    [
        (Channel(), "channel"),
        (Channel(border=2), "channel(border=2)"),
        (Neuron(), "neuron"),
        (Neuron(y=3, x=4), "neuron(y=3, x=4)"),
        (Neuron(x=0), "neuron(x=0)"),
        (ClassLogit(), "class_logit"),
        (LayerActivity(), "layer"),
        (Channel() - 0.5 * Neuron(), "channel - 0.5 * neuron"),
        (-Channel(), "-1.0 * channel"),
        (2 * Channel() + 3 * Neuron() - LayerActivity(), "2.0 * channel + 3.0 * neuron - layer"),
        (Channel() + 1e2 * Diversity(), "channel + 100.0 * diversity"),
    ],
)
def test_description_is(objective, text):
    assert objective.describe() == text


@pytest.mark.parametrize(
    ("objective", "terms"),
    [
        (Channel(), [{"weight": 1.0, "name": "channel"}]),
        (Channel(border=2), [{"weight": 1.0, "name": "channel", "border": 2}]),
        (Neuron(x=0), [{"weight": 1.0, "name": "neuron", "x": 0}]),
        (-0.5 * LayerActivity(), [{"weight": -0.5, "name": "layer"}]),
        (
            Channel() + 100 * Diversity(),
            [{"weight": 1.0, "name": "channel"}, {"weight": 100.0, "name": "diversity"}],
        ),
    ],
)
def test_data_of_a_recipe_are_the_terms(objective, terms):
    assert list(objective.to_data()) == terms


@dataclass(frozen=True)
class Mine(Objective):
    """Somebody's own, without a word about recipes."""

    power: float = 2.0
    places: tuple[int, ...] = ()
    mask: Any = None
    function: Any = None
    name: ClassVar[str] = "mine"


def test_data_of_an_own_objective_are_its_fields_and_hashes_of_its_arrays():
    (term,) = Mine(np.float32(3.0), (1, 2), np.ones(3)).to_data()
    assert (term["name"], term["power"], term["places"], len(term["mask_sha256"])) == ("mine", 3.0, [1, 2], 64)


def test_field_that_has_no_place_in_a_recipe_is_named():
    with pytest.raises(ConfigError, match=r"objective mine: field function .* no place in a recipe"):
        Mine(function=print).to_data()


def test_description_of_a_direction_tells_vectors_apart():
    text = Direction(VECTORS, 2.0).describe()
    assert re.fullmatch(r"direction\(vectors_sha256=[0-9a-f]{12}, cossim_power=2\.0\)", text)
    assert text == Direction(VECTORS.copy(), 2.0).describe()
    others = [
        Direction(VECTORS),
        Direction(VECTORS + 1, 2.0),
        Direction(VECTORS[:2], 2.0),
        Direction(VECTORS[::-1], 2.0),
    ]
    assert len({text, *(other.describe() for other in others)}) == 5


@pytest.mark.parametrize(
    ("objective", "choices"),
    [
        (Channel(), 8),
        (Direction(VECTORS), 3),
        (LayerActivity(), 1),
        (Channel() - Neuron(), 8),
        (Channel() + Direction(VECTORS), 3),
        (Channel() + LayerActivity() + Diversity(), 8),
        (LayerActivity() + Diversity(), 1),
    ],
)
def test_choices_are(objective, choices):
    assert objective.choices(8) == choices


REFUSED = {
    "border": (Channel(3), "activation_border 3 leaves nothing of the 5x6 map of layer 'conv'; give .* 2 or less"),
    "negative border": (Channel(-1), "activation_border -1 must be 0 or more"),
    "y": (Neuron(y=5), "y 5 is outside the 5x6 map of layer 'conv'; give 0 to 4"),
    "x": (Neuron(x=6), "x 6 is outside the 5x6 map of layer 'conv'; give 0 to 5"),
    "negative x": (Neuron(x=-1), "x -1 is outside"),
    "width": (Direction(np.ones((2, 7))), r"vectors of shape \(2, 7\) do not fit layer 'conv'; give \(rows, 8\)"),
    "axes": (Direction(np.ones((2, 2, 8))), "do not fit"),
    "no rows": (Direction(np.ones((0, 8))), "do not fit"),
    "nan": (Direction(np.full(8, np.nan)), "hold NaN"),
    "zero row": (Direction(np.eye(8) * (np.arange(8) != 2)), "zero in row 2"),
    "power": (Direction(np.ones(8), -1.0), "cossim_power -1.0"),
    "nan power": (Direction(np.ones(8), math.nan), "cossim_power nan"),
    "logit of a map": (ClassLogit(), r"needs a classifier's layer.*\(5, 6, 8\)"),
    "diversity": (Diversity(), "add it to another objective"),
    "two diversities": (Diversity() - 2 * Diversity(), "add it to another objective"),
    "in a sum": (LayerActivity() - 2 * Neuron(y=5), "y 5 is outside"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_check_refuses(name):
    objective, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message):
        objective.check(SHAPE, "conv")


def test_logits_and_what_is_after_the_softmax_do_not_mix():
    with pytest.raises(ConfigError, match="class_logit"):
        (ClassLogit() - Channel()).check((8,), "predictions")
    (ClassLogit() - 2 * ClassLogit()).check((8,), "predictions")


def test_check_accepts(named):
    named[1].check(SHAPE, "conv")


def test_vectors_that_are_no_numbers_are_refused():
    with pytest.raises(ConfigError, match="no array of numbers"):
        Direction([[1.0, 2.0], [1.0]])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("channel", Channel(2)),
        ("neuron", Neuron()),
        ("neuron:3,4", Neuron(y=3, x=4)),
        ("class_logit", ClassLogit()),
        ("layer", LayerActivity()),
    ],
)
def test_command_line_text_names(text, expected):
    assert parse_objective(text, border=2 if text == "channel" else 0) == expected


@pytest.mark.parametrize(("text", "power"), [("direction", 0.0), ("direction:1.5", 1.5)])
def test_command_line_direction_takes_vectors_and_power(text, power):
    assert parse_objective(text, vectors=VECTORS).describe() == Direction(VECTORS, power).describe()


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("neurone", {}, "'neurone' is none of channel, neuron, direction, class_logit, layer; nearest: 'neuron'"),
        ("", {}, "is none of"),
        ("channel:3", {}, "takes nothing after the name"),
        ("neuron:3", {}, "neuron:3,4"),
        ("neuron:", {}, "neuron:3,4"),
        ("neuron:1,2,3", {}, "neuron:3,4"),
        ("neuron:a,b", {}, "neuron:3,4"),
        ("direction:x", {"vectors": VECTORS}, "direction:2"),
        ("direction", {}, "without vectors"),
        ("channel", {"vectors": VECTORS}, "with vectors"),
        ("neuron", {"border": 2}, "activation_border"),
    ],
)
def test_command_line_text_is_refused(text, options, message):
    with pytest.raises(ConfigError, match=message) as raised:
        parse_objective(text, **options)
    assert repr(text) in str(raised.value)


def test_every_listed_objective_is_named_by_its_name():
    assert all(OBJECTIVES[name].name == name for name in OBJECTIVES)


def test_objective_rebuilt_by_jax_is_equal():
    for objective in (Channel(1), Neuron(1, 2), ClassLogit(), Channel() - 0.5 * Neuron()):
        assert jax.tree.map(lambda leaf: leaf, objective) == objective
        assert dataclasses.is_dataclass(objective)

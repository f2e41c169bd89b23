"""What an objective is, and the arithmetic of objectives.

`Objective` is the base of everything in objectives.py; sums, differences and multiples are `Combined`, a flat list of
terms with their weights. A score is always maximised, so a negative weight is what to avoid. No objective's formula is
here.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import numbers
from dataclasses import Field, dataclass, fields, is_dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import register_dataclass
from jaxtyping import Array, Float, Integer

from jaxviz.ascent.terms import Term, objective_text
from jaxviz.errors import ConfigError
from jaxviz.records import to_json

LARGEST_WEIGHT = float(np.finfo(np.float32).max)


class Objective:
    """Base of all objectives: their algebra, and what holds for most of them."""

    name: ClassVar[str]
    is_linear: ClassVar[bool] = False  # in the activation
    couples: ClassVar[bool] = False  # an image's score depends on its filter's other replicas
    before_softmax: ClassVar[bool] = False  # takes a classifier's logits where the layer holds probabilities
    uses_filter: ClassVar[bool] = True
    __array_ufunc__ = None  # so that NumPy leaves `number * objective` to us

    def __call__(self, activation: Float[Array, "*map channels"], filter_index: Integer[Array, ""]) -> Float[Array, ""]:
        """The score of one image."""
        raise NotImplementedError

    def scores(
        self, activations: Float[Array, "replicas *map channels"], filter_index: Integer[Array, ""]
    ) -> Float[Array, " replicas"]:
        """The score of each replica of one filter."""
        return jax.vmap(lambda activation: self(activation, filter_index))(activations)

    def plain(self) -> Objective:
        """The objective of one image by itself: without what couples replicas."""
        return self

    def choices(self, channels: int) -> int:
        """How many filter indices there are on a layer of so many channels; valid ones are 0 to this less 1."""
        return channels

    def to_data(self) -> tuple[Term, ...]:
        """The objective in a recipe: JSON values that are equal for equal objectives, a term for each of a sum's.

        A term is `weight`, `name` and the fields of the dataclass other than their defaults, an array as
        `<field>_sha256`: not while they are traced.

        Raises:
            ConfigError: a field has no place in JSON.
        """
        own: tuple[Field[Any], ...] = fields(self) if is_dataclass(self) else ()
        values = [_recorded(self.name, field.name, getattr(self, field.name), field.default) for field in own]
        return (dict([("weight", 1.0), ("name", self.name), *itertools.chain(*values)]),)

    def describe(self) -> str:
        """The same in words, such as `channel(border=2) - 0.5 * neuron`."""
        return objective_text(self.to_data())

    def check(self, activation_shape: tuple[int, ...], layer: str) -> None:
        """Raise ConfigError unless the objective suits a layer with one image's activation of this shape."""

    def __add__(self, other: object) -> Objective:
        return Combined(_terms(self) + _terms(other)) if isinstance(other, Objective) else NotImplemented

    def __radd__(self, other: object) -> Objective:  # `sum` starts with 0
        return self if isinstance(other, numbers.Real) and other == 0 else NotImplemented

    def __sub__(self, other: object) -> Objective:
        return self + (-other) if isinstance(other, Objective) else NotImplemented

    def __neg__(self) -> Objective:
        return self * -1.0

    def __mul__(self, weight: object) -> Objective:
        if isinstance(weight, bool) or not isinstance(weight, numbers.Real):
            return NotImplemented
        terms = tuple((float(weight) * own, objective) for own, objective in _terms(self))
        if not all(abs(product) <= LARGEST_WEIGHT for product, _ in terms):  # nor NaN
            raise ConfigError(f"objective weight {weight!r} is not a finite float32 number; give for example 0.5")
        return Combined(terms)

    __rmul__ = __mul__

    def __truediv__(self, divisor: object) -> Objective:
        if isinstance(divisor, bool) or not isinstance(divisor, numbers.Real):
            return NotImplemented
        if divisor == 0:
            raise ConfigError("objective cannot be divided by 0; give another number")
        return self * (1.0 / float(divisor))


@register_dataclass
@dataclass(frozen=True)
class Combined(Objective):
    """A weighted sum of objectives, as their algebra makes it: (weight, objective) for each term."""

    terms: tuple[tuple[Any, Objective], ...]  # a weight is a float, or whatever jax puts in its place
    name: ClassVar[str] = "combined"

    @property
    def is_linear(self) -> bool:  # type: ignore[override]
        """If every term is."""
        return all(objective.is_linear for _, objective in self.terms)

    @property
    def couples(self) -> bool:  # type: ignore[override]
        """If any term does."""
        return any(objective.couples for _, objective in self.terms)

    @property
    def before_softmax(self) -> bool:  # type: ignore[override]
        """If the terms take logits."""
        return any(objective.before_softmax for _, objective in self.terms)

    @property
    def uses_filter(self) -> bool:  # type: ignore[override]
        """If any term does."""
        return any(objective.uses_filter for _, objective in self.terms)

    def __call__(self, activation: Float[Array, "*map channels"], filter_index: Integer[Array, ""]) -> Float[Array, ""]:
        """The weighted sum of the terms."""
        return sum(
            (weight * term(activation, filter_index) for weight, term in self.terms), start=jnp.zeros((), jnp.float32)
        )

    def scores(
        self, activations: Float[Array, "replicas *map channels"], filter_index: Integer[Array, ""]
    ) -> Float[Array, " replicas"]:
        """The weighted sum of the terms, for each replica."""
        zeros = jnp.zeros(activations.shape[0], jnp.float32)
        return sum((weight * term.scores(activations, filter_index) for weight, term in self.terms), start=zeros)

    def plain(self) -> Objective:
        """Without the terms that couple replicas."""
        if not self.couples:
            return self
        return Combined(tuple((weight, term) for weight, term in self.terms if not term.couples))

    def choices(self, channels: int) -> int:
        """The fewest that a term has."""
        return min((term.choices(channels) for _, term in self.terms if term.uses_filter), default=1)

    def to_data(self) -> tuple[Term, ...]:
        """The terms with their weights in this sum."""
        return tuple(
            data | {"weight": float(weight) * data["weight"]} for weight, term in self.terms for data in term.to_data()
        )

    def check(self, activation_shape: tuple[int, ...], layer: str) -> None:
        """Every term suits the layer, and not all of them are diversity."""
        alone = [term for _, term in self.terms if not term.couples] or [term for _, term in self.terms]
        for term in alone:
            term.check(activation_shape, layer)
        if len({term.before_softmax for _, term in self.terms}) > 1:
            raise ConfigError(
                f"objective {self.describe()}: class_logit is on the values before the softmax, the other terms are on "
                "those after it; combine it with class_logit only"
            )


def _terms(objective: Objective) -> tuple[tuple[Any, Objective], ...]:
    return objective.terms if isinstance(objective, Combined) else ((1.0, objective),)


def _recorded(objective: str, name: str, value: Any, default: Any) -> list[tuple[str, Any]]:
    """A field as a recipe has it, or nothing where it is the default. A vector is a matrix of one row."""
    if isinstance(value, np.ndarray | jax.Array) and value.ndim:
        rows = np.atleast_2d(np.asarray(value, np.float32))
        return [(f"{name}_sha256", hashlib.sha256(f"{rows.shape}".encode() + rows.tobytes()).hexdigest())]
    value = value.item() if isinstance(value, np.generic | np.ndarray | jax.Array) else value
    try:
        return [] if value == default else [(name, json.loads(to_json(value)))]
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"objective {objective}: field {name} {value!r} has no place in a recipe, which is JSON; give a "
            "number, text or array, or override to_data()"
        ) from error

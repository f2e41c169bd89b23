"""Objectives: activation -> one score per image, always maximised.

An objective is a frozen dataclass called with one image's float32 activation, (height, width, channels) or (channels,),
and the traced filter index. It is a pytree: weights and vectors are leaves, so that others need no other compilation,
and the rest is static. Objectives add, subtract and scale (algebra.py): `Channel() - 0.5 * Neuron()`; `-Channel()` is
what a filter dislikes. Selecting is a masked sum or a slice, not an indexing: the gradient of an index is a scatter,
which is slow inside a compiled loop. Values and gradients are finite wherever the activation is.

Formulas: Olah et al. 2017, distill.pub/2017/feature-visualization, as in Lucid's lucid/optvis/objectives.py (which
minimises what these maximise).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import register_dataclass
from jaxtyping import Array, Float, Integer

from jaxviz.ascent.algebra import Combined, Objective
from jaxviz.errors import ConfigError, nearest

COSSIM_EPSILON = 1e-4  # these three: Lucid, _dot_cossim and diversity
COSSIM_FLOOR = 0.1
GRAM_EPSILON = 1e-10
STATIC = {"static": True}  # metadata of a field that is part of the pytree's structure


@register_dataclass
@dataclass(frozen=True)
class Channel(Objective):
    """Mean of one filter over its whole map, less `border` cells on each side (the Keras example's score)."""

    border: int = field(default=0, metadata=STATIC)
    name: ClassVar[str] = "channel"
    is_linear: ClassVar[bool] = True

    def __call__(self, activation: Float[Array, "*map channels"], filter_index: Integer[Array, ""]) -> Float[Array, ""]:
        """The filter's mean activation."""
        if activation.ndim == 3 and self.border:
            activation = activation[self.border : -self.border, self.border : -self.border]
        return _pick(activation.mean(axis=tuple(range(activation.ndim - 1))), filter_index)

    def check(self, activation_shape: tuple[int, ...], layer: str) -> None:
        """The border leaves something of the map."""
        if self.border < 0:
            raise ConfigError("must be 0 or more", argument="activation_border", value=self.border, try_next="give 0")
        if len(activation_shape) == 3 and self.border and min(activation_shape[:2]) <= 2 * self.border:
            height, width = activation_shape[:2]
            raise ConfigError(
                f"activation_border {self.border} leaves nothing of the {height}x{width} map of layer {layer!r}",
                argument="activation_border",
                try_next=f"give `activation_border` {(min(height, width) - 1) // 2} or less, or a larger `image_size`",
            )


@register_dataclass
@dataclass(frozen=True)
class Neuron(Objective):
    """One cell of one filter's map: row `y`, column `x`, by default the centre (`size // 2`, as in Lucid)."""

    y: int | None = field(default=None, metadata=STATIC)
    x: int | None = field(default=None, metadata=STATIC)
    name: ClassVar[str] = "neuron"
    is_linear: ClassVar[bool] = True

    def __call__(self, activation: Float[Array, "*map channels"], filter_index: Integer[Array, ""]) -> Float[Array, ""]:
        """The filter's activation in that cell; where there is no map, its activation."""
        if activation.ndim == 3:
            height, width, channels = activation.shape
            y = height // 2 if self.y is None else self.y
            x = width // 2 if self.x is None else self.x
            activation = activation[y : y + 1, x : x + 1].reshape(channels)
        return _pick(activation, filter_index)

    def check(self, activation_shape: tuple[int, ...], layer: str) -> None:
        """The cell is on the map."""
        *map_shape, _ = activation_shape
        lengths = map_shape or [1, 1]
        if len(lengths) != 2:
            raise ConfigError(f"objective neuron needs a (height, width) map; layer {layer!r} has {tuple(map_shape)}")
        for axis, at, length in (("y", self.y, lengths[0]), ("x", self.x, lengths[1])):
            if at is not None and not 0 <= at < length:
                raise ConfigError(
                    f"`objective` {self.describe()}: {axis} {at} is outside the {lengths[0]}x{lengths[1]} "
                    f"map of layer {layer!r}; give 0 to {length - 1}, or leave it out for the centre"
                )


@register_dataclass
@dataclass(frozen=True, eq=False)
class Direction(Objective):
    """How far the activation goes in the direction of a vector over channels; the filter index picks the vector.

    vectors: (rows, channels), or (channels,) for one row. With `cossim_power` p above 0 each cell's dot product
    is multiplied by max(0.1, cosine similarity) ** p, for pictures that go in no other direction besides.
    """

    vectors: Any  # Float[Array, "rows channels"]; Any, because jax rebuilds the tree with other leaves
    cossim_power: float = field(default=0.0, metadata=STATIC)
    name: ClassVar[str] = "direction"

    def __post_init__(self) -> None:
        if isinstance(self.vectors, list | np.ndarray):
            try:
                rows = np.atleast_2d(np.asarray(self.vectors, np.float32))
            except (TypeError, ValueError) as error:
                raise ConfigError("objective direction: vectors are no array of numbers (rows, channels)") from error
            object.__setattr__(self, "vectors", rows)

    @property
    def is_linear(self) -> bool:  # type: ignore[override]
        """Without the cosine similarity."""
        return self.cossim_power == 0

    def __call__(self, activation: Float[Array, "*map channels"], filter_index: Integer[Array, ""]) -> Float[Array, ""]:
        """The mean over cells of dot * max(0.1, cossim) ** power."""
        vector = jax.lax.dynamic_index_in_dim(self._rows, filter_index, keepdims=False)
        dot: Array = (activation * jnp.broadcast_to(vector, activation.shape)).sum(axis=-1)
        if self.cossim_power:
            cossim = dot / (COSSIM_EPSILON + _norm(activation)) / (COSSIM_EPSILON + _norm(vector))
            dot = dot * jnp.maximum(COSSIM_FLOOR, cossim) ** self.cossim_power
        return dot.mean()

    def choices(self, channels: int) -> int:  # noqa: ARG002
        """As many as there are vectors."""
        return int(self._rows.shape[0])

    def check(self, activation_shape: tuple[int, ...], layer: str) -> None:
        """The vectors are finite, none is zero, and they are as wide as the layer; so is the power."""
        channels, shape = activation_shape[-1], np.shape(self.vectors)
        wrong = f"objective direction: vectors of shape {shape}"
        if len(shape) not in (1, 2) or 0 in shape or shape[-1] != channels:
            raise ConfigError(f"{wrong} do not fit layer {layer!r}; give (rows, {channels}) or ({channels},)")
        rows = np.asarray(self._rows)
        if not np.isfinite(rows).all():
            raise ConfigError(f"{wrong} hold NaN or infinity; give finite numbers")
        if not rows.any(axis=1).all():
            row = int(np.flatnonzero(~rows.any(axis=1))[0])
            raise ConfigError(f"{wrong} are zero in row {row}, which is no direction; leave it out")
        if not 0 <= self.cossim_power < math.inf:
            raise ConfigError(
                f"`objective` direction:POWER: cossim_power {self.cossim_power!r} must be 0 or more; give for example 2"
            )

    @property
    def _rows(self) -> Float[Array, "rows channels"]:
        return jnp.atleast_2d(jnp.asarray(self.vectors)).astype(jnp.float32)


@register_dataclass
@dataclass(frozen=True)
class ClassLogit(Objective):
    """A class's value before the softmax, on a layer of class probabilities; the filter index is the class."""

    name: ClassVar[str] = "class_logit"
    is_linear: ClassVar[bool] = True
    before_softmax: ClassVar[bool] = True

    def __call__(self, activation: Float[Array, " classes"], filter_index: Integer[Array, ""]) -> Float[Array, ""]:
        """The class's logit."""
        return _pick(activation, filter_index)

    def check(self, activation_shape: tuple[int, ...], layer: str) -> None:
        """The layer holds one number per class."""
        if len(activation_shape) != 1:
            raise ConfigError(
                f"`objective` class_logit needs a classifier's layer, of shape (classes,); layer {layer!r} "
                f"has {activation_shape}. Render 'predictions' (in Python with load_model(..., head=True))"
            )


@register_dataclass
@dataclass(frozen=True)
class LayerActivity(Objective):
    """DeepDream: the mean square of the whole layer. It has one picture, whatever the filter index."""

    name: ClassVar[str] = "layer"
    uses_filter: ClassVar[bool] = False

    def __call__(
        self,
        activation: Float[Array, "*map channels"],
        filter_index: Integer[Array, ""],  # noqa: ARG002
    ) -> Float[Array, ""]:
        """The mean of the squared activation."""
        return (activation * activation).mean()

    def choices(self, channels: int) -> int:  # noqa: ARG002
        """One."""
        return 1


@register_dataclass
@dataclass(frozen=True)
class Diversity(Objective):
    """How unlike a filter's replicas are: for each, minus the sum of its similarities to the others.

    The similarity of two images is the inner product of their normalised gram matrices (channels x channels, of the
    activation's cells). To be added to another objective: `Channel() + 1e2 * Diversity()`. Lucid's `diversity` is the
    similarity itself, so that there one writes `channel - 1e2 * diversity`; the weights mean the same.
    """

    name: ClassVar[str] = "diversity"
    couples: ClassVar[bool] = True
    uses_filter: ClassVar[bool] = False

    def __call__(
        self,
        activation: Float[Array, "*map channels"],  # noqa: ARG002
        filter_index: Integer[Array, ""],  # noqa: ARG002
    ) -> Float[Array, ""]:
        """An image by itself resembles no other: 0."""
        return jnp.zeros((), jnp.float32)

    def scores(
        self,
        activations: Float[Array, "replicas *map channels"],
        filter_index: Integer[Array, ""],  # noqa: ARG002
    ) -> Float[Array, " replicas"]:
        """Minus the sum of the similarities to the other replicas."""
        replicas, *_, channels = activations.shape
        if replicas == 1:
            return jnp.zeros(1, jnp.float32)
        cells = activations.reshape(replicas, -1, channels)
        if replicas * cells.shape[1] < channels:  # <A'A, B'B> = |AB'|^2, less to compute where cells are few
            products = jnp.einsum("inc,jmc->ijnm", cells, cells)
            inner = (products * products).sum(axis=(2, 3))
        else:
            grams = jnp.einsum("inc,ind->icd", cells, cells)
            inner = jnp.einsum("icd,jcd->ij", grams, grams)
        itself = jnp.eye(replicas, dtype=bool)
        scale = jax.lax.rsqrt(jnp.maximum(jnp.where(itself, inner, 0.0).sum(axis=1), GRAM_EPSILON))
        similarities = inner * scale[:, None] * scale[None, :]
        return jnp.where(itself, 0.0, -similarities).sum(axis=1)

    def plain(self) -> Objective:
        """Nothing is left of it."""
        return Combined(())

    def choices(self, channels: int) -> int:  # noqa: ARG002
        """One."""
        return 1

    def check(self, activation_shape: tuple[int, ...], layer: str) -> None:  # noqa: ARG002
        """It is not alone."""
        raise ConfigError("objective diversity scores no picture; add it to another objective: Channel() + diversity")


OBJECTIVES: dict[str, Callable[..., Objective]] = {
    objective.name: objective for objective in (Channel, Neuron, Direction, ClassLogit, LayerActivity)
}


def parse_objective(text: str, *, border: int = 0, vectors: Any = None) -> Objective:
    """The objective that the command line names: a name in OBJECTIVES, `neuron:Y,X` or `direction:POWER`.

    `border` is for `channel`, `vectors` (rows, channels) for `direction`. Raises ConfigError.
    """
    name, colon, option = text.partition(":")
    wrong = f"`objective` {text!r}"
    if name not in OBJECTIVES:
        raise ConfigError(f"{wrong} is none of {', '.join(OBJECTIVES)}; {nearest(name, OBJECTIVES)}")
    if colon and name not in ("neuron", "direction"):
        raise ConfigError(f"{wrong} takes nothing after the name; give {name!r}")
    if border and name != "channel":
        raise ConfigError(f"{wrong} has no `activation_border`; leave it out, or give 'channel'")
    if (vectors is not None) != (name == "direction"):
        raise ConfigError(
            f"{wrong} with{'out' if vectors is None else ''} vectors; only and always 'direction' has them"
        )
    if name == "channel":
        return Channel(border)
    try:
        if name == "neuron" and colon:
            y, x = (int(number) for number in option.split(","))
            return Neuron(y, x)
        if name == "direction":
            return Direction(vectors, float(option) if colon else 0.0)
    except ValueError as error:
        example = "'neuron:3,4' (row, column)" if name == "neuron" else "'direction:2' (a power of 0 or more)"
        raise ConfigError(f"{wrong} is not understood; give {name!r} or, for example, {example}") from error
    return OBJECTIVES[name]()


def _pick(values: Float[Array, " channels"], filter_index: Integer[Array, ""]) -> Float[Array, ""]:
    chosen = jnp.arange(values.shape[0], dtype=jnp.int32) == filter_index
    return jax.lax.select(chosen, values, jnp.zeros_like(values)).sum()


def _norm(x: Float[Array, "*map channels"]) -> Float[Array, "*map"]:
    """The norm over channels, with the gradient 0 at 0."""
    squares = (x * x).sum(axis=-1)
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)

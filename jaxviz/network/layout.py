"""Values whose axes stand in another order than the network has them: channels first without a transpose.

Fast convolutions take (1, height, width, channels). What a network with channels first makes is kept in that order as
`Turned`, and elementwise operations, pads, sums and reshapes work on it as it is, so that of the transposes between
layers nothing is left. Axes of length 1 are not stored at all. An array that is not turned is as the network has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxviz.network.geometry import long_axes


class Turned(NamedTuple):
    """An array that holds a value of `shape`; its axes are the value's axes `order`, those longer than 1."""

    array: jax.Array
    order: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def dtype(self) -> Any:
        """The array's."""
        return self.array.dtype

    def astype(self, dtype: Any) -> Turned:
        """The same in another type."""
        return self._replace(array=self.array.astype(dtype))


Stored = jax.Array | Turned


def whole(value: Stored) -> jax.Array:
    """The array as the network has it."""
    if not isinstance(value, Turned):
        return value
    return _ordered(value, sorted(value.order)).reshape(value.shape)


def turned(value: Stored, shape: tuple[int, ...]) -> Turned:
    """A value of `shape` without the axes of length 1."""
    if isinstance(value, Turned):
        return value
    order = tuple(long_axes(shape))
    return Turned(jnp.reshape(value, [shape[axis] for axis in order]), order, shape)


def arranged(value: Stored, shape: tuple[int, ...], axes: Sequence[int]) -> jax.Array:
    """The array with the value's axes in this order, all of them."""
    if not isinstance(value, Turned):
        return value if tuple(axes) == tuple(range(len(shape))) else jnp.transpose(value, axes)
    wanted = [axis for axis in axes if axis in value.order]
    return _ordered(value, wanted).reshape([shape[axis] for axis in axes])


def from_arranged(array: jax.Array, shape: tuple[int, ...], axes: Sequence[int]) -> Stored:
    """The value of `shape` whose axes, in this order, an array has."""
    if tuple(axes) == tuple(range(len(shape))):
        return array
    order = tuple(axis for axis in axes if shape[axis] != 1)
    return Turned(array.reshape([shape[axis] for axis in order]), order, shape)


def in_order(value: Stored, shape: tuple[int, ...], order: Sequence[int]) -> jax.Array:
    """An operand of an elementwise operation: its axes `order`, of length 1 where it has only one."""
    if isinstance(value, Turned) and tuple(value.order) == tuple(order):
        return value.array
    if not shape:
        return whole(value)
    short = [axis for axis in range(len(shape)) if axis not in order]
    logical = jnp.transpose(whole(value), [*order, *short])
    return logical.reshape([shape[axis] for axis in order])


def relabelled(value: Stored, shape: tuple[int, ...], new_shape: tuple[int, ...], moved: dict[int, int]) -> Turned:
    """The same array as a value of another shape; `moved`: where each long axis goes."""
    kept = turned(value, shape)
    return Turned(kept.array, tuple(moved[axis] for axis in kept.order), new_shape)


def same_long_axes(shape: tuple[int, ...], new_shape: tuple[int, ...]) -> dict[int, int] | None:
    """Where each long axis goes in a reshape that only adds and removes axes of length 1; None for others."""
    before, after = long_axes(shape), long_axes(new_shape)
    if [shape[axis] for axis in before] != [new_shape[axis] for axis in after]:
        return None
    return dict(zip(before, after, strict=True))


def _ordered(value: Turned, wanted: Sequence[int]) -> jax.Array:
    if tuple(wanted) == value.order:
        return value.array
    return jnp.transpose(value.array, [value.order.index(axis) for axis in wanted])

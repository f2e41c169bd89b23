"""Where height, width and channels are in every value of a network, how much of the image one cell sees, and MACs.

Found by walking the equations once, from the image (1, height, width, channels) on; no array is needed. What an
operation does to these axes that is not known here makes them unknown: such a value has no channels, and is no layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any, NamedTuple

from jaxviz.network.jaxprs import Equation, Literal, Operand, Trace, Value, inner_jaxprs

ELEMENTWISE = frozenset(
    {
        "abs",
        "add",
        "add_any",
        "and",
        "atan2",
        "cbrt",
        "ceil",
        "clamp",
        "convert_element_type",
        "copy",
        "cos",
        "div",
        "eq",
    }
    | {"erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le", "log"}
    | {"log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not", "optimization_barrier", "or"}
    | {"pow", "reduce_precision", "rem", "round", "rsqrt", "select_n", "sign", "sin", "sqrt", "square", "stop_gradient"}
    | {"sub", "tan", "tanh", "xor"}
)


class Geometry(NamedTuple):
    """Of one value.

    Attributes:
        rows, columns, channels: the axis of each; None where it is gone (one row) or, for channels, not known.
        field: rows and columns of the image that one cell sees; None: the whole image, or not known.
        jump: rows and columns of the image between neighbouring cells.
    """

    rows: int | None
    columns: int | None
    channels: int | None
    field: tuple[float, float] | None = (1, 1)
    jump: tuple[float, float] = (1, 1)

    def moved(self, to: Callable[[int], int | None]) -> Geometry:
        """The same with every axis where `to` says."""
        rows, columns, channels = (None if axis is None else to(axis) for axis in self[:3])
        return Geometry(rows, columns, channels, self.field, self.jump)


def geometries(trace: Trace, depending: Container[Operand]) -> dict[Value, Geometry]:
    """Of every value that depends on the image, which `depending` holds, and whose axes are known.

    A convolution says itself which are its axes: behind a norm of groups of channels they are known again.
    """
    found = {trace.image: Geometry(1, 2, 3)}
    for equation in trace.equations:
        if any(operand in found for operand in equation.inputs):
            made = {output: _of_output(equation, output, found) for output in equation.outputs}
            found |= {output: geometry for output, geometry in made.items() if geometry is not None}
        elif equation.name == "conv_general_dilated" and equation.inputs[0] in depending:
            (output,), axes = equation.outputs, equation.params["dimension_numbers"].out_spec
            if len(axes) == 4:
                found[output] = Geometry(axes[2], axes[3], axes[1], None)
    return found


def _of_output(equation: Equation, output: Value, found: dict[Value, Geometry]) -> Geometry | None:
    inputs = [operand for operand in equation.inputs if operand in found]
    # An elementwise operation's axes are those of what has its shape; any of them may see more of the image.
    alike = [operand for operand in inputs if operand.shape == output.shape]
    first = (alike or inputs)[0]
    assert isinstance(first, Value)
    own, rule = found[first], _RULES.get(equation.name)
    if rule is not None:
        geometry = rule(equation, first, own, output)
    elif equation.name in ELEMENTWISE or alike:
        geometry = own
    else:
        return None
    if geometry is None or equation.name in ("select_n", "clamp") or len(inputs) == 1:
        return geometry
    fields = [found[operand].field for operand in inputs if isinstance(operand, Value)]
    local = [field for field in fields if field is not None]
    if len(local) < len(fields) or geometry.field is None:
        return geometry._replace(field=None)
    return geometry._replace(
        field=(max(f[0] for f in [*local, geometry.field]), max(f[1] for f in [*local, geometry.field]))
    )


def _grown(
    geometry: Geometry, window: tuple[int, int], stride: tuple[int, int], upsampled: tuple[int, int] = (1, 1)
) -> Geometry:
    """What a window of cells sees."""
    jump = (geometry.jump[0] / upsampled[0], geometry.jump[1] / upsampled[1])
    field = geometry.field
    if field is not None:
        field = (field[0] + (window[0] - 1) * jump[0], field[1] + (window[1] - 1) * jump[1])
    return geometry._replace(field=field, jump=(jump[0] * stride[0], jump[1] * stride[1]))


def _convolution(equation: Equation, first: Value, own: Geometry, output: Value) -> Geometry | None:
    params = equation.params
    numbers = params["dimension_numbers"]
    if first is not equation.inputs[0] or len(numbers.lhs_spec) != 4:
        return None
    places = [numbers.lhs_spec.index(axis) - 2 if axis is not None else None for axis in own[:2]]
    if sorted(place for place in places if place is not None) not in ([0, 1], [0], [1], []):
        return None
    rows = places[0] if places[0] is not None else 1 - places[1] if places[1] is not None else 0
    order = (rows, 1 - rows)  # of rows and columns among the convolution's spatial axes
    apart, kernel = params["rhs_dilation"], equation.inputs[1].shape
    window = [(kernel[numbers.rhs_spec[2 + place]] - 1) * apart[place] + 1 for place in order]
    grown = _grown(
        own,
        (window[0], window[1]),
        (params["window_strides"][order[0]], params["window_strides"][order[1]]),
        (params["lhs_dilation"][order[0]], params["lhs_dilation"][order[1]]),
    )
    out = numbers.out_spec
    return grown._replace(rows=out[2 + order[0]], columns=out[2 + order[1]], channels=out[1])


def _window(equation: Equation, first: Value, own: Geometry, output: Value) -> Geometry | None:
    def of(key: str, axis: int | None) -> int:
        return 1 if axis is None else int(equation.params[key][axis])

    window = [(of("window_dimensions", axis) - 1) * of("window_dilation", axis) + 1 for axis in own[:2]]
    stride = [of("window_strides", axis) for axis in own[:2]]
    return _grown(own, (window[0], window[1]), (stride[0], stride[1]))


def _slice(equation: Equation, first: Value, own: Geometry, output: Value) -> Geometry:
    strides = equation.params["strides"]
    if strides is None:
        return own
    taken = [1 if axis is None else int(strides[axis]) for axis in own[:2]]
    return _grown(own, (1, 1), (taken[0], taken[1]))


def _transpose(equation: Equation, first: Value, own: Geometry, output: Value) -> Geometry:
    return own.moved(equation.params["permutation"].index)


def _broadcast(equation: Equation, first: Value, own: Geometry, output: Value) -> Geometry:
    return own.moved(lambda axis: int(equation.params["broadcast_dimensions"][axis]))


def _without(removed: Iterable[int], first: Value, own: Geometry) -> Geometry:
    gone = {axis % len(first.shape) for axis in removed}
    field = own.field
    if any(axis in gone and first.shape[axis] > 1 for axis in own[:2] if axis is not None):
        field = None
    left = [axis for axis in range(len(first.shape)) if axis not in gone]
    return own.moved(lambda axis: None if axis in gone else left.index(axis))._replace(field=field)


def _squeeze(equation: Equation, first: Value, own: Geometry, output: Value) -> Geometry:
    return _without(equation.params["dimensions"], first, own)


def _reduce(equation: Equation, first: Value, own: Geometry, output: Value) -> Geometry:
    return _without(equation.params["axes"], first, own)


def _reshape(equation: Equation, first: Value, own: Geometry, output: Value) -> Geometry | None:
    """Rows and columns that keep their length keep their place; channels may be split into groups and joined again."""
    after = long_axes(output.shape)
    if len(after) == 1 and len(long_axes(first.shape)) > 1:  # flattened: every number is a channel
        return Geometry(None, None, after[0], None, own.jump)
    moved: dict[int, int] = {}
    others: list[int] = []  # axes that are no single one of before
    for old, new in _blocks(first.shape, output.shape):
        if len(old) == len(new) == 1:
            moved[old[0]] = new[0]
            continue
        if any(axis in old for axis in own[:2] if axis is not None):
            return None
        others += new
    kept = own.moved(moved.get)
    if kept.channels is None:
        left = [axis for axis in after if axis not in (kept.rows, kept.columns)]
        kept = kept._replace(channels=left[0] if len(left) == 1 and left[0] in others else None)
    return kept


def _blocks(before: tuple[int, ...], after: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
    """The smallest groups of long axes, of before and of after, that hold the same numbers in the same order."""
    waiting, coming = long_axes(before), long_axes(after)
    while waiting and coming:
        old, new = [waiting.pop(0)], [coming.pop(0)]
        while (short := math.prod(before[axis] for axis in old)) != (long := math.prod(after[axis] for axis in new)):
            if short < long:
                old.append(waiting.pop(0))
            else:
                new.append(coming.pop(0))
        yield old, new


def _dot(equation: Equation, first: Value, own: Geometry, output: Value) -> Geometry | None:
    (contracted, batch) = equation.params["dimension_numbers"]
    side = equation.inputs.index(first)
    other = equation.inputs[1 - side]
    if any(batch[0]):
        return None
    mine = tuple(contracted[side])
    free = [axis for axis in range(len(first.shape)) if axis not in mine]
    others_free = [axis for axis in range(len(other.shape)) if axis not in tuple(contracted[1 - side])]
    start = 0 if side == 0 else len(others_free)
    moved = _without(mine, first, own).moved(lambda axis: axis + start)
    new = (len(free) if side == 0 else 0) if len(others_free) == 1 else None
    if own.channels in mine and new is not None:
        return moved._replace(channels=new)
    if len(mine) == 1 and new is not None and mine[0] in own[:2]:  # rows or columns of another number
        moved = moved._replace(rows=new) if mine[0] == own.rows else moved._replace(columns=new)
        return moved._replace(field=None)
    return moved if own.channels not in mine and not others_free else None


_RULES: dict[str, Callable[[Equation, Value, Geometry, Value], Geometry | None]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": lambda equation, first, own, output: own,
    "conv_general_dilated": _convolution,
    "dot_general": _dot,
    "pad": lambda equation, first, own, output: own,
    "reduce_and": _reduce,
    "reduce_max": _reduce,
    "reduce_min": _reduce,
    "reduce_sum": _reduce,
    "reduce_window_max": _window,
    "reduce_window_min": _window,
    "reduce_window_sum": _window,
    "reshape": _reshape,
    "rev": lambda equation, first, own, output: own,
    "slice": _slice,
    "split": lambda equation, first, own, output: own,
    "squeeze": _squeeze,
    "transpose": _transpose,
}


def long_axes(shape: tuple[int, ...]) -> list[int]:
    """The axes that are longer than 1."""
    return [axis for axis, length in enumerate(shape) if length != 1]


def macs(equation: Equation) -> int:
    """Multiply-adds of an equation: convolutions and matrix products, nothing else."""
    return _macs(equation.name, equation.params, equation.inputs, equation.outputs)


def _macs(name: str, params: dict[str, Any], inputs: Iterable[Any], outputs: Iterable[Any]) -> int:
    if name == "conv_general_dilated":
        _, kernel = inputs
        (output,) = outputs
        channels = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
        cells = math.prod(output.shape) // math.prod(params["lhs_dilation"])
        return int(cells * math.prod(kernel.shape) // channels)
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        (output,) = outputs
        left = next(iter(inputs))
        summed = math.prod(left.shape[axis] for axis in contracted)
        return int(math.prod(output.shape) * summed)
    times = params["length"] if name == "scan" else 1
    total = 0
    for inner in inner_jaxprs(params):
        for equation in getattr(inner, "jaxpr", inner).eqns:
            avals = [[variable.aval for variable in side] for side in (equation.invars, equation.outvars)]
            total += times * _macs(equation.primitive.name, equation.params, *avals)
    return total


def is_number(operand: Operand, value: float) -> bool:
    """Whether an operand is this number, written into the computation."""
    return isinstance(operand, Literal) and operand.shape == () and float(operand.value) == value

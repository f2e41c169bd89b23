"""Resampling an image turned, zoomed and shifted, with a gradient that is as cheap: what the transforms are made of.

float32 images (height, width, channels); what lies outside an image is 0. Interpolation is linear in each direction
with no smoothing beforehand, so far below a zoom of 1 pixels are skipped. Placements are random numbers or constants:
they get no gradient.

Two passes of one-dimensional resampling after Catmull and Smith ("3-D transformations of images in scanline order",
SIGGRAPH 1980), arranged so that each is a weighted sum of slices of whole rows, which a CPU reads fast. The gradient
is the same sum the other way round; autodiff's would be a scatter, slow inside a loop.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

MAX_ANGLE = math.radians(45)  # beyond it the first pass shrinks the image to less than 0.7, and the second blurs it up

Size = tuple[int, int]  # (height, width)
Scalar = Float[Array, ""] | float


class Placement(NamedTuple):
    """Where the pixels q of an output lie in an input: p - centre = shift + rotation(angle) / zoom * (q - centre).

    `angle` in radians, `zoom` and `shift` (y, x) in pixels of the input may be traced. Static are the output's `size`,
    the largest angle either way, `steepest`, the largest zoom, `largest`, and `slack`: where there are only shifts
    and they put pixels on pixels, how many pixels the shift ranges over, the middle being 0; else None.
    """

    size: Size
    angle: Scalar = 0.0
    zoom: Scalar = 1.0
    shift: tuple[Scalar, Scalar] = (0.0, 0.0)
    steepest: float = 0.0
    largest: float = 1.0
    slack: int | None = 0


def fit_in_one(first: Placement, second: Placement) -> bool:
    """Whether the two composed turn by no more than the limit."""
    return first.steepest + second.steepest <= MAX_ANGLE


def compose(first: Placement, second: Placement) -> Placement:
    """The placement of `second`'s output in `first`'s input."""
    y, x = second.shift
    if first.steepest:
        cosine, sine = jnp.cos(first.angle), jnp.sin(first.angle)
        y, x = cosine * y + sine * x, cosine * x - sine * y
    return Placement(
        second.size,
        first.angle + second.angle,
        first.zoom * second.zoom,
        (first.shift[0] + y / first.zoom, first.shift[1] + x / first.zoom),
        first.steepest + second.steepest,
        first.largest * second.largest,
        None if first.slack is None or second.slack is None else first.slack + second.slack,
    )


def size_of(image: Float[Array, "height width channels"]) -> Size:
    """Its height and width."""
    return image.shape[0], image.shape[1]


def resample(placement: Placement, image: Float[Array, "height width channels"]) -> Float[Array, "h w channels"]:
    """The image at a placement; where that is only shifts by whole pixels, its pixels themselves."""
    source, size, slack = size_of(image), placement.size, placement.slack
    if slack is None:
        values = jnp.stack([jnp.asarray(v, jnp.float32) for v in (placement.angle, placement.zoom, *placement.shift)])
        return _two_passes(_frame(source, placement), values, image)
    if slack == 0 and size == source:
        return image
    corner = [shift + (n - m) / 2 for shift, n, m in zip(placement.shift, source, size, strict=True)]
    return _window(source, size, slack, jnp.stack([jnp.int32(jnp.round(number)) for number in corner]), image)


# Shifts by whole pixels: a window whose corner is `slack` / 2 at most from where it is in the middle, zeros around.


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _window(source: Size, size: Size, slack: int, corner: Array, image: Array) -> Array:
    least = [(n - m - slack) // 2 for n, m in zip(source, size, strict=True)]
    before = [max(0, -low) for low in least]
    after = [max(0, low + slack + m - n) for low, m, n in zip(least, size, source, strict=True)]
    rows, pixel = image.reshape(source[0], -1), image.shape[2]  # of pixel * width numbers
    padded = jnp.pad(rows, ((before[0], after[0]), (pixel * before[1], pixel * after[1])))
    start = (corner[0] + before[0], pixel * (corner[1] + before[1]))
    return jax.lax.dynamic_slice(padded, start, (size[0], pixel * size[1])).reshape(*size, -1)


def _window_forward(source: Size, size: Size, slack: int, corner: Array, image: Array) -> tuple[Array, Array]:
    return _window(source, size, slack, corner, image), corner


def _window_backward(source: Size, size: Size, slack: int, corner: Array, gradient: Array) -> tuple[None, Array]:
    return None, _window(size, source, slack, -corner, gradient)


_window.defvjp(_window_forward, _window_backward)


# Everything else. With slope = tan(angle), the first pass makes row v of a middle image from rows y = step * v + start
# of the input, each shifted by -slope * (y - centre). The second does the same with columns: column u of the output
# comes from columns of the middle image, shifted by slope * (u - centre). The middle image is as wide as the input and
# as high as the output, plus a margin on each side that holds the largest of these shifts.
#
# An image is a table of rows here, (height, channels * width), or turned, (channels * width, height), with as many rows
# to a column as there are channels.


class _Frame(NamedTuple):
    source: Size
    size: Size
    margin: Size
    reach: Size  # the most output rows, and columns, that one of the input contributes to


class _Lines(NamedTuple):
    """A pass: line i of its output lies at line step * i + start of its input."""

    step: Array
    start: Array
    inputs: int
    outputs: int
    reach: int


def _frame(source: Size, placement: Placement) -> _Frame:
    slope, zoom = math.tan(placement.steepest), placement.largest
    margin = [math.ceil(slope * (n - 1) / 2) + 1 if slope else 0 for n in (placement.size[1], source[0])]
    reach = math.ceil(2 * zoom / math.cos(placement.steepest)), math.ceil(2 * zoom)
    return _Frame(source, placement.size, (margin[0], margin[1]), reach)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _two_passes(frame: _Frame, values: Array, image: Array) -> Array:
    down, across, slope = _passes(frame, values)
    margin_y, margin_x = frame.margin
    rows, weights = _read_lines(down)
    shifts = margin_x - slope * (rows - _centre(frame.source[0]))
    channels = image.shape[2]
    table = _widen(image.reshape(frame.source[0], -1), channels * 2 * margin_x)
    middle = _add_lines(table, rows, weights, shifts, margin_x, pixel=channels)
    columns, weights = _read_lines(across)
    shifts = margin_y + slope * (_numbers(frame.size[1]) - _centre(frame.size[1]))[:, None]
    turned = _add_lines(middle.T, columns, weights, shifts, margin_y, rows_per_line=channels)
    return turned.T.reshape(*frame.size, channels)


def _two_passes_forward(frame: _Frame, values: Array, image: Array) -> tuple[Array, Array]:
    return _two_passes(frame, values, image), values


def _two_passes_backward(frame: _Frame, values: Array, gradient: Array) -> tuple[None, Array]:
    """Every weight of the forward passes, from its output to its input."""
    down, across, slope = _passes(frame, values)
    margin_y, margin_x = frame.margin
    columns, weights = _reached_lines(across)
    shifts = margin_y - slope * (columns - _centre(frame.size[1]))
    turned = _widen(gradient.reshape(frame.size[0], -1).T, 2 * margin_y)
    channels = gradient.shape[2]
    middle = _add_lines(turned, columns, weights, shifts, margin_y, rows_per_line=channels)
    rows, weights = _reached_lines(down)
    shifts = margin_x + slope * (_numbers(frame.source[0]) - _centre(frame.source[0]))[:, None]
    return None, _add_lines(middle.T, rows, weights, shifts, margin_x, pixel=channels).reshape(*frame.source, channels)


_two_passes.defvjp(_two_passes_forward, _two_passes_backward)


def _passes(frame: _Frame, values: Array) -> tuple[_Lines, _Lines, Array]:
    """Rotation(angle) / zoom as a shear along x, steps in y and x, and a shear along y."""
    angle, zoom, shift_y, shift_x = values
    slope, cosine = jnp.tan(angle), jnp.cos(angle)
    (rows, columns), (height, width), (margin_y, margin_x) = frame.source, frame.size, frame.margin
    step_y, step_x = cosine / zoom, 1 / (zoom * cosine)
    start_y = _centre(rows) + shift_y - step_y * (_centre(height) + margin_y)
    start_x = _centre(columns) + margin_x + shift_x + slope * shift_y - step_x * _centre(width)
    down = _Lines(step_y, start_y, rows, height + 2 * margin_y, frame.reach[0])
    across = _Lines(step_x, start_x, columns + 2 * margin_x, width, frame.reach[1])
    return down, across, slope


def _read_lines(lines: _Lines) -> tuple[Array, Array]:
    """(outputs, 2): the input lines that an output line lies between, and their weights."""
    position = lines.step * _numbers(lines.outputs)[:, None] + lines.start
    near = jnp.floor(position) + _numbers(2)[None]
    return _within(near, _tent(position - near), lines.inputs)


def _reached_lines(lines: _Lines) -> tuple[Array, Array]:
    """(inputs, reach): the output lines that an input line contributes to, and its weights there."""
    line = _numbers(lines.inputs)[:, None]
    reached = jnp.floor((line - 1 - lines.start) / lines.step) + 1 + _numbers(lines.reach)[None]
    return _within(reached, _tent(lines.step * reached + lines.start - line), lines.outputs)


def _within(lines: Array, weights: Array, count: int) -> tuple[Array, Array]:
    return jnp.clip(lines, 0, count - 1), jnp.where((lines >= 0) & (lines < count), weights, 0)


def _add_lines(
    table: Array,
    lines: Array,
    weights: Array,
    shifts: Array,
    margin: int,
    *,
    pixel: int = 1,
    rows_per_line: int = 1,
) -> Array:
    """Line i of the result: the sum over k of weights[i, k] times line lines[i, k] of the table, from shifts[i, k] on.

    A pixel is `pixel` numbers of a row, and a line so many rows. The result's lines are shorter by 2 * margin pixels;
    where that is 0, lines are read whole. The loop over k is what keeps XLA from fusing one pass into the next, which
    made both many times slower on a CPU.
    """
    width = table.shape[1]
    length = width - 2 * margin * pixel
    first = jnp.int32(lines) * (rows_per_line * width)
    parts = [weights]
    if margin:
        whole = jnp.floor(shifts)
        first, parts = first + jnp.int32(whole) * pixel, [weights * (1 - (shifts - whole)), weights * (shifts - whole)]
    first = jnp.repeat(first, rows_per_line, axis=0)
    first = first + width * (jnp.arange(first.shape[0], dtype=jnp.int32) % rows_per_line)[:, None]
    parts = [jnp.repeat(part, rows_per_line, axis=0) for part in parts]
    flat = table.reshape(-1)

    def read(start: Array) -> Array:
        return jax.lax.dynamic_slice(flat, (start,), (length,))

    def add(k: Array, total: Array) -> Array:
        for i, part in enumerate(parts):
            total = total + part[:, k, None] * jax.vmap(read)(first[:, k] + i * pixel)
        return total

    added: Array = jax.lax.fori_loop(0, lines.shape[1], add, jnp.zeros((first.shape[0], length), jnp.float32))
    return added


def _widen(table: Array, margin: int) -> Array:
    """Zeros left and right; `concatenate` is faster here than `pad`."""
    zeros = jnp.zeros((table.shape[0], margin), jnp.float32)
    return jnp.concatenate([zeros, table, zeros], axis=1) if margin else table


def _tent(distance: Array) -> Array:
    return jnp.maximum(0, 1 - jnp.abs(distance))


def _centre(count: int) -> float:
    return (count - 1) / 2


def _numbers(count: int) -> Array:
    return jnp.arange(count, dtype=jnp.float32)

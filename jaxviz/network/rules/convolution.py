"""Convolutions with fast input gradients, and matrix products. The mathematics is in `cpu.py` and `plain.py`.

Any stride, padding and number of groups; kernels may be dilated where the stride is 1. A zero pad in front of a
convolution is left to it. Channels may stand anywhere: the convolution's own dimension numbers say where. Transposed
convolutions, those of other than two dimensions and those whose kernel depends on the image run as they are.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxviz.network.geometry import is_number
from jaxviz.network.graph import Graph
from jaxviz.network.jaxprs import Equation, Operand
from jaxviz.network.layout import arranged, from_arranged, whole
from jaxviz.network.rules import cpu, plain
from jaxviz.network.rules.base import Fixed, Replayed, Settings
from jaxviz.network.rules.kernels import LAX, takes_bfloat16

Pads = plain.Pads


class Convolution(NamedTuple):
    """A convolution of (1, height, width, channels), in words and numbers."""

    stride: tuple[int, int]
    pads: Pads
    groups: int
    dilation: tuple[int, int]
    image_axes: tuple[int, ...]  # batch, rows, columns, channels among the image's axes
    kernel_axes: tuple[int, ...]  # rows, columns, in, out among the kernel's
    out_axes: tuple[int, ...]


def read(graph: Graph, equation: Equation) -> Convolution | str:
    """The convolution, or in words why there is no fast one for it."""
    params, numbers = equation.params, equation.params["dimension_numbers"]
    image, kernel = equation.inputs
    if not graph.depends(image) or graph.depends(kernel):
        return "its kernel depends on the image"
    if len(numbers.lhs_spec) != 4:
        return f"it has {len(numbers.lhs_spec) - 2} dimensions"
    if max(params["lhs_dilation"]) > 1:
        return "it is transposed"
    if params["batch_group_count"] != 1:
        return "it groups the batch"
    dilation, stride = _two(params["rhs_dilation"]), _two(params["window_strides"])
    if max(dilation) > 1 and max(stride) > 1:
        return "its kernel is dilated and its stride is not 1"
    pads = tuple((int(low), int(high)) for low, high in params["padding"])
    if min(min(pair) for pair in pads) < 0:
        return "it cuts its input"
    batch, channels, *rest = numbers.lhs_spec
    out, into, *window = numbers.rhs_spec
    made_batch, made_channels, *made = numbers.out_spec
    return Convolution(
        stride=stride,
        pads=(pads[0], pads[1]),
        groups=params["feature_group_count"],
        dilation=dilation,
        image_axes=(batch, *rest, channels),
        kernel_axes=(*window, into, out),
        out_axes=(made_batch, *made, made_channels),
    )


def padded_input(graph: Graph, equation: Equation, found: Convolution) -> tuple[Operand, Convolution]:
    """What a convolution takes where it does the zero padding in front of it too."""
    image = equation.inputs[0]
    maker = graph.maker(image)
    if maker is None or maker.name != "pad" or not is_number(maker.inputs[1], 0):
        return image, found
    config = maker.params["padding_config"]
    low_high = [(int(low), int(high)) for low, high, _ in config]
    _, rows, columns, _ = found.image_axes
    elsewhere = [pair for axis, pair in enumerate(low_high) if axis not in (rows, columns)]
    if any(inner for *_, inner in config) or any(pair != (0, 0) for pair in elsewhere):
        return image, found
    if min(min(pair) for pair in low_high) < 0:
        return image, found
    more = (low_high[rows], low_high[columns])
    pads = tuple((own[0] + new[0], own[1] + new[1]) for own, new in zip(found.pads, more, strict=True))
    return maker.inputs[0], found._replace(pads=(pads[0], pads[1]))


def fast(graph: Graph, equation: Equation, settings: Settings) -> Replayed | None:
    """A convolution of all channels, or of groups of them."""
    found = read(graph, equation)
    if isinstance(found, str):
        return None
    image, found = padded_input(graph, equation, found)
    kernel = equation.inputs[1]
    shape = tuple(kernel.shape[axis] for axis in found.kernel_axes)
    in_bfloat16 = settings.dtype == "bfloat16" and (settings.platform != "cpu" or _gains(shape, found, settings))
    rounded = in_bfloat16 and settings.platform == "cpu" and not settings.multiplies_bfloat16
    form = f"kernel {found.kernel_axes} {'rounded' if rounded else 'bfloat16' if in_bfloat16 else 'float32'}"
    turn = partial(_kernel, axes=found.kernel_axes, in_bfloat16=in_bfloat16, rounded=rounded)
    inputs: tuple[Any, ...] = (image, Fixed(kernel, form, turn))
    if settings.platform == "cpu":
        turned_form = f"{form} gradient {found.stride} {found.groups}"

        def gradient_kernel(array: Any) -> jax.Array:
            return cpu.gradient_kernel(turn(array), stride=found.stride, groups=found.groups)

        inputs = (*inputs, Fixed(kernel, turned_form, gradient_kernel))
    precision = equation.params["precision"]

    def run(arguments: list[Any], redirected: bool) -> list[Any]:
        x, *kernels = arguments
        x = arranged(x, image.shape, found.image_axes)
        if settings.platform == "cpu":
            y = cpu.conv(
                x if settings.keeps_bfloat16 else x.astype(jnp.float32), *kernels, kernels=settings.kernels,
                stride=found.stride, pads=found.pads, rounded=rounded, groups=found.groups, dilation=found.dilation,
            )  # fmt: skip
        else:
            y = lax.conv_general_dilated(
                x.astype(kernels[0].dtype), kernels[0], found.stride, found.pads,
                rhs_dilation=found.dilation, dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=found.groups, precision=precision,
            )  # fmt: skip
        return [from_arranged(_typed(y, equation, settings), equation.outputs[0].shape, found.out_axes)]

    where = settings.kernels if settings.platform == "cpu" else settings.platform
    return Replayed(inputs, run, f"conv {found} {image.shape} {form} {where} {precision}")


def depthwise(graph: Graph, equation: Equation, settings: Settings) -> Replayed | None:
    """A convolution of every channel by itself: shifted multiply-adds on every platform."""
    found = read(graph, equation)
    if isinstance(found, str):
        return None
    kernel = equation.inputs[1]
    shape = tuple(kernel.shape[axis] for axis in found.kernel_axes)
    if shape[2] != 1 or found.groups == 1 or max(found.dilation) > 1:
        return None
    image, found = padded_input(graph, equation, found)
    times = shape[3] // found.groups
    dtype = "bfloat16" if settings.keeps_bfloat16 and settings.platform != "cpu" else "float32"

    def taps(array: Any) -> jax.Array:
        return jnp.transpose(array, found.kernel_axes)[:, :, 0].astype(dtype)

    def run(arguments: list[Any], redirected: bool) -> list[Any]:
        x = arranged(arguments[0], image.shape, found.image_axes).astype(dtype)
        if times > 1:
            x = jnp.repeat(x, times, axis=-1)
        convolve = cpu.depthwise_conv if settings.platform == "cpu" else plain.depthwise_conv
        y = convolve(x, arguments[1], stride=found.stride, pads=found.pads)
        y = y.astype(jnp.bfloat16) if settings.keeps_bfloat16 else y
        return [from_arranged(_typed(y, equation, settings), equation.outputs[0].shape, found.out_axes)]

    inputs = (image, Fixed(kernel, f"taps {found.kernel_axes} {dtype}", taps))
    return Replayed(inputs, run, f"depthwise {found} {image.shape} {shape} {settings.platform} {dtype}")


def product(graph: Graph, equation: Equation, settings: Settings) -> Replayed:
    """A matrix product as `lax.dot_general` has it, which asks for the precision that is set."""
    params = equation.params
    half = settings.keeps_bfloat16 and not all(graph.depends(operand) for operand in equation.inputs)

    def run(arguments: list[Any], redirected: bool) -> list[Any]:
        left, right = (whole(argument) for argument in arguments)
        if half:
            left, right = left.astype(jnp.bfloat16), right.astype(jnp.bfloat16)
        return [
            lax.dot_general(
                left,
                right,
                params["dimension_numbers"],
                precision=params["precision"],
                preferred_element_type=jnp.float32 if half else params["preferred_element_type"],
            )
        ]

    said = f"dot {params['dimension_numbers']} {params['precision']} {params['preferred_element_type']} {half}"
    return Replayed(equation.inputs, run, said, keeps_bfloat16=half)


def slow_reason(graph: Graph, equation: Equation) -> str | None:
    """In words why a convolution has no fast rule; None for those that have one."""
    found = read(graph, equation)
    return found if isinstance(found, str) else None


def _gains(shape: tuple[int, ...], found: Convolution, settings: Settings) -> bool:
    rows, columns, channels_in, channels_out = shape
    kernels = settings.kernels if settings.multiplies_bfloat16 else LAX
    is_plain = found.groups == 1 and max(found.dilation) == 1
    return is_plain and takes_bfloat16(kernels, (rows, columns), (channels_in, channels_out))


def _kernel(array: Any, *, axes: tuple[int, ...], in_bfloat16: bool, rounded: bool) -> jax.Array:
    kernel = jnp.transpose(array, axes).astype(jnp.float32)
    if rounded:
        return cpu.to_bfloat16_numbers(kernel)
    return kernel.astype(jnp.bfloat16) if in_bfloat16 else kernel


def _typed(y: jax.Array, equation: Equation, settings: Settings) -> jax.Array:
    """In the type that the network computes in, but for float32 where activations are kept in bfloat16."""
    dtype = equation.outputs[0].dtype
    return y if settings.keeps_bfloat16 and dtype == jnp.float32 else y.astype(dtype)


def _two(numbers: Any) -> tuple[int, int]:
    first, second = numbers
    return int(first), int(second)

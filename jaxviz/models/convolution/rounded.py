"""The path of `cpu` for dtype bfloat16 on a CPU that has no products of bfloat16.

Operands are rounded to bfloat16 and multiplied as float32, kernels beforehand. A product of two bfloat16 numbers is
exact in float32, so scores are those of a CPU that has such products, but for the order of sums. It takes as long as
float32; left to XLA such products took 1.4 times as long.
"""

from __future__ import annotations

from jaxtyping import Array, Float

from jaxviz.models.convolution import cpu
from jaxviz.models.convolution.cpu import depthwise_conv, max_pool, zero_pad
from jaxviz.models.convolution.plain import Pads

__all__ = ["conv", "depthwise_conv", "max_pool", "zero_pad"]


def conv(
    x: Float[Array, "batch height width in"],
    kernel: Float[Array, "kernel_h kernel_w in out"],
    gradient_kernel: Float[Array, "taps_h taps_w out phases_in"],
    *,
    stride: int = 1,
    pads: Pads = cpu.NO_PADS,
) -> Float[Array, "batch height_out width_out out"]:
    """Convolution, no bias; operands are rounded where `cpu` would take bfloat16 ones."""
    rounded = cpu.takes_bfloat16(kernel.shape)
    return cpu.conv(x, kernel, gradient_kernel, stride=stride, pads=pads, rounded=rounded)

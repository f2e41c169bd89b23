"""EfficientNet-Lite0, 1 and 2 (TensorFlow's efficientnet/lite; Tan and Le 2019, arXiv:1905.11946).

No squeeze-and-excitation, ReLU6 everywhere, TensorFlow's SAME padding at the actual size, stem and head not
scaled. Model space: (RGB - 127) / 128. With `head=True` the last layer, `predictions`, holds class
probabilities.
"""

from __future__ import annotations

import math

from jaxviz.models.graph import Graph, GraphBuilder

BATCH_NORM_EPSILON = 1e-3
STEM_CHANNELS, HEAD_CHANNELS, CLASSES = 32, 1280, 1000
CHANNEL_DIVISOR = 8

SCALING = {  # (width, depth)
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
}
STAGES = (  # repeats, kernel, stride of the first block, expansion, output channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def build(name: str, *, head: bool) -> Graph:
    """The table of `efficientnet_lite0`, `_lite1` or `_lite2`."""
    net = GraphBuilder()
    x = net.conv("input_layer", "stem_conv", channels=STEM_CHANNELS, kernel=3, stride=2, padding="SAME")
    x = _norm_relu6(net, x, "stem")
    for stage, repeat, kernel, stride, expansion, channels in block_settings(name):
        x = _block(net, x, f"block{stage}_{repeat}", kernel, stride, expansion, channels)
    x = net.conv(x, "head_conv", channels=HEAD_CHANNELS)
    x = _norm_relu6(net, x, "head")
    if head:
        x = net.global_avg_pool(x, "avg_pool")
        net.dense_softmax(x, "predictions", channels=CLASSES)
    return net.graph()


def block_settings(name: str) -> list[tuple[int, int, int, int, int, int]]:
    """(stage, repeat, kernel, stride, expansion, channels) of every block, in order; stages count from 1."""
    width, depth = SCALING[name]
    blocks = []
    for stage, (repeats, kernel, stride, expansion, channels) in enumerate(STAGES, start=1):
        fixed = stage in (1, len(STAGES))  # the lite variants do not repeat the first and last stage more often
        count = repeats if fixed else math.ceil(depth * repeats)
        for repeat in range(1, count + 1):
            first = repeat == 1
            blocks.append((stage, repeat, kernel, stride if first else 1, expansion, _round_channels(channels * width)))
    return blocks


def preprocess(rgb):  # type: ignore[no-untyped-def]  # any array library
    """RGB in [0, 255] to model space, about [-1, 1]."""
    return (rgb - 127.0) / 128.0


def _block(net: GraphBuilder, x: str, name: str, kernel: int, stride: int, expansion: int, channels: int) -> str:
    y = x
    if expansion != 1:
        y = net.conv(y, f"{name}_expand_conv", channels=expansion * net.channels(x))
        y = _norm_relu6(net, y, f"{name}_expand")
    y = net.depthwise_conv(y, f"{name}_depthwise_conv", kernel=kernel, stride=stride)
    y = _norm_relu6(net, y, f"{name}_depthwise")
    y = net.conv(y, f"{name}_project_conv", channels=channels)
    y = net.batch_norm(y, f"{name}_project_bn", epsilon=BATCH_NORM_EPSILON)
    if stride == 1 and net.channels(x) == channels:
        return net.add(x, y, f"{name}_out")
    return net.identity(y, f"{name}_out")  # every block has an `_out`, so that a glob finds them all


def _norm_relu6(net: GraphBuilder, x: str, prefix: str) -> str:
    x = net.batch_norm(x, f"{prefix}_bn", epsilon=BATCH_NORM_EPSILON)
    return net.relu6(x, f"{prefix}_relu")


def _round_channels(channels: float) -> int:
    """Nearest multiple of 8 that is not below 90 % of the wanted number (TensorFlow's rule)."""
    rounded = max(CHANNEL_DIVISOR, int(channels + CHANNEL_DIVISOR / 2) // CHANNEL_DIVISOR * CHANNEL_DIVISOR)
    return rounded + CHANNEL_DIVISOR if rounded < 0.9 * channels else rounded

"""ResNet50V2, 101V2, 152V2 as `keras.applications` builds them (He et al. 2016, arXiv:1603.05027).

Every layer has the name that Keras gives it in a fresh session and stands in the order of `model.summary()`.
Model space: RGB in [-1, 1]. With `head=True` the last layer, `predictions`, holds class probabilities.
"""

from __future__ import annotations

from jaxviz.models.graph import Graph, GraphBuilder

BATCH_NORM_EPSILON = 1.001e-5  # keras/src/applications/resnet.py

BLOCKS = {
    "resnet50v2": (3, 4, 6, 3),
    "resnet101v2": (3, 4, 23, 3),
    "resnet152v2": (3, 8, 36, 3),
}
CHANNELS = (64, 128, 256, 512)  # of the bottleneck, per stage; a block's output has four times as many
CLASSES = 1000


def build(name: str, *, head: bool) -> Graph:
    """The table of `resnet50v2`, `resnet101v2` or `resnet152v2`."""
    net = GraphBuilder()
    x = net.pad("input_layer", "conv1_pad", border_px=3)
    x = net.conv(x, "conv1_conv", channels=64, kernel=7, stride=2, bias=True)
    x = net.pad(x, "pool1_pad", border_px=1)
    x = net.max_pool(x, "pool1_pool", kernel=3, stride=2)
    pools = 0  # Keras numbers the unnamed pools of the strided shortcuts
    for stage, (blocks, channels) in enumerate(zip(BLOCKS[name], CHANNELS, strict=True), start=2):
        for block in range(1, blocks + 1):
            stride = 2 if block == blocks and stage < 5 else 1
            pool_name = f"max_pooling2d_{pools}" if pools else "max_pooling2d"
            pools += stride > 1
            x = _block(net, x, f"conv{stage}_block{block}", channels, stride, block == 1, pool_name)
    x = _norm_relu(net, x, "post")
    if head:
        x = net.global_avg_pool(x, "avg_pool")
        net.dense_softmax(x, "predictions", channels=CLASSES)
    return net.graph()


def preprocess(rgb):  # type: ignore[no-untyped-def]  # any array library
    """RGB in [0, 255] to model space, [-1, 1] (Keras's mode "tf")."""
    return rgb / 127.5 - 1.0


def _block(
    net: GraphBuilder, x: str, name: str, channels: int, stride: int, conv_shortcut: bool, pool_name: str
) -> str:
    preact = _norm_relu(net, x, f"{name}_preact")
    y = net.conv(preact, f"{name}_1_conv", channels=channels)
    y = _norm_relu(net, y, f"{name}_1")
    y = net.pad(y, f"{name}_2_pad", border_px=1)
    y = net.conv(y, f"{name}_2_conv", channels=channels, kernel=3, stride=stride)
    y = _norm_relu(net, y, f"{name}_2")
    shortcut = x
    if conv_shortcut:
        shortcut = net.conv(preact, f"{name}_0_conv", channels=4 * channels, stride=stride, bias=True)
    elif stride > 1:
        shortcut = net.max_pool(x, pool_name, kernel=1, stride=stride)
    y = net.conv(y, f"{name}_3_conv", channels=4 * channels, bias=True)
    return net.add(shortcut, y, f"{name}_out")


def _norm_relu(net: GraphBuilder, x: str, prefix: str) -> str:
    x = net.batch_norm(x, f"{prefix}_bn", epsilon=BATCH_NORM_EPSILON)
    return net.relu(x, f"{prefix}_relu")

"""EfficientNet-Lite0, 1 and 2 (TensorFlow's efficientnet/lite; Tan and Le 2019, arXiv:1905.11946), in Flax NNX.

    model = EfficientNetLite0(rngs=nnx.Rngs(0))  # random weights; `keras_weights.to_state` takes converted ones
    model.eval()                                 # batch norms use their moving statistics, as in any NNX module
    probabilities = model(images)                # (batch, classes)

No squeeze-and-excitation, ReLU6 everywhere, TensorFlow's SAME padding at the actual size, stem and head not scaled.
Model space: (RGB - 127) / 128. Every layer is named where it is made (`checkpoint_name`, an identity), in Keras's
manner; what holds weights is stored under the same name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

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
LECUN_NORMAL = nnx.initializers.lecun_normal()  # as in Flax's own layers


class EfficientNetLite(nnx.Module):
    """A network of inverted residual blocks.

    Args:
        blocks: (stage, repeat, kernel, stride, expansion, channels) of each block, as `block_settings` gives them.
        classes: number of classes.
        head: whether it ends in the classifier (`avg_pool`, `predictions`), or in the last map (`head_relu`).
        kernel_init: initializer of all kernels.
        rngs: source of the random initial weights.

    Example:
        >>> from flax import nnx
        >>> import jax.numpy as jnp
        >>> small = EfficientNetLite([(1, 1, 3, 1, 1, 16), (2, 1, 5, 2, 6, 24)], classes=10, rngs=nnx.Rngs(0))
        >>> small(jnp.zeros((2, 32, 32, 3))).shape
        (2, 10)
    """

    def __init__(
        self,
        blocks: Sequence[tuple[int, int, int, int, int, int]],
        *,
        classes: int = CLASSES,
        head: bool = True,
        kernel_init: nnx.Initializer = LECUN_NORMAL,
        rngs: nnx.Rngs,
    ) -> None:
        conv = partial(nnx.Conv, padding="SAME", use_bias=False, kernel_init=kernel_init, rngs=rngs)
        norm = partial(nnx.BatchNorm, epsilon=BATCH_NORM_EPSILON, rngs=rngs)
        self.stem_conv = conv(3, STEM_CHANNELS, (3, 3), strides=2)
        self.stem_bn = norm(STEM_CHANNELS)
        self.blocks: nnx.List[Block] = nnx.List([])
        width = STEM_CHANNELS
        for stage, repeat, kernel, stride, expansion, channels in blocks:
            block = Block(
                f"block{stage}_{repeat}",
                width,
                channels,
                kernel=kernel,
                stride=stride,
                expansion=expansion,
                kernel_init=kernel_init,
                rngs=rngs,
            )
            self.blocks.append(block)
            width = channels
        self.head_conv = conv(width, HEAD_CHANNELS, (1, 1))
        self.head_bn = norm(HEAD_CHANNELS)
        self.predictions = nnx.Linear(HEAD_CHANNELS, classes, kernel_init=kernel_init, rngs=rngs) if head else None

    def __call__(
        self, images: Float[Array, "batch height width 3"], *, logits: bool = False
    ) -> Float[Array, "batch ..."]:
        """Class probabilities (batch, classes), or logits; without a head the last map."""
        x: Array = checkpoint_name(self.stem_conv(images), "stem_conv")
        x = checkpoint_name(self.stem_bn(x), "stem_bn")
        x = checkpoint_name(nnx.relu6(x), "stem_relu")
        for block in self.blocks:
            x = block(x)
        x = checkpoint_name(self.head_conv(x), "head_conv")
        x = checkpoint_name(self.head_bn(x), "head_bn")
        x = checkpoint_name(nnx.relu6(x), "head_relu")
        if self.predictions is None:
            return x
        x = checkpoint_name(x.mean(axis=(1, 2)), "avg_pool")
        x = self.predictions(x)
        x = checkpoint_name(x if logits else nnx.softmax(x), "predictions")
        return x


class Block(nnx.Module):
    """An inverted residual block: 1x1 up, one kernel a channel, 1x1 down, and a shortcut where the shape stays.

    Args:
        name: first part of its layers' names, `block2_1`.
        in_channels: channels of its input.
        channels: channels of its output.
        kernel: side of the depthwise kernels.
        stride: of the depthwise convolution.
        expansion: how many times wider the middle is; 1: no convolution up.
        kernel_init: initializer of all kernels.
        rngs: source of the random initial weights.
    """

    def __init__(
        self,
        name: str,
        in_channels: int,
        channels: int,
        *,
        kernel: int,
        stride: int,
        expansion: int,
        kernel_init: nnx.Initializer,
        rngs: nnx.Rngs,
    ) -> None:
        conv = partial(nnx.Conv, padding="SAME", use_bias=False, kernel_init=kernel_init, rngs=rngs)
        norm = partial(nnx.BatchNorm, epsilon=BATCH_NORM_EPSILON, rngs=rngs)
        middle = expansion * in_channels
        self.name = name
        self.expands = expansion != 1
        self.has_shortcut = stride == 1 and in_channels == channels
        layers = {"expand_conv": conv(in_channels, middle, (1, 1)), "expand_bn": norm(middle)} if self.expands else {}
        layers |= {
            "depthwise_conv": conv(middle, middle, (kernel, kernel), strides=stride, feature_group_count=middle),
            "depthwise_bn": norm(middle),
            "project_conv": conv(middle, channels, (1, 1)),
            "project_bn": norm(channels),
        }
        self.layers = nnx.Dict({f"{name}_{layer}": module for layer, module in layers.items()})

    def __call__(self, x: Float[Array, "batch height width in"]) -> Float[Array, "batch height_out width_out out"]:
        """The shortcut, if there is one, plus what the convolutions make of it."""
        y = self._conv_norm_relu6("expand", x) if self.expands else x
        y = self._conv_norm_relu6("depthwise", y)
        y = self._layer("project_conv", y)
        y = self._layer("project_bn", y)
        x = checkpoint_name(x + y if self.has_shortcut else y, f"{self.name}_out")  # every block has one
        return x

    def _conv_norm_relu6(self, prefix: str, x: jax.Array) -> jax.Array:
        x = self._layer(f"{prefix}_conv", x)
        x = self._layer(f"{prefix}_bn", x)
        x = checkpoint_name(nnx.relu6(x), f"{self.name}_{prefix}_relu")
        return x

    def _layer(self, layer: str, x: jax.Array) -> jax.Array:
        name = f"{self.name}_{layer}"
        x = checkpoint_name(self.layers[name](x), name)
        return x


class EfficientNetLite0(EfficientNetLite):
    """`EfficientNetLite` of width 1.0 and depth 1.0; it takes the same settings."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(block_settings("efficientnet_lite0"), **settings)


class EfficientNetLite1(EfficientNetLite):
    """`EfficientNetLite` of width 1.0 and depth 1.1; it takes the same settings."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(block_settings("efficientnet_lite1"), **settings)


class EfficientNetLite2(EfficientNetLite):
    """`EfficientNetLite` of width 1.1 and depth 1.2; it takes the same settings."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(block_settings("efficientnet_lite2"), **settings)


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


def _round_channels(channels: float) -> int:
    """Nearest multiple of 8 that is not below 90 % of the wanted number (TensorFlow's rule)."""
    rounded = max(CHANNEL_DIVISOR, int(channels + CHANNEL_DIVISOR / 2) // CHANNEL_DIVISOR * CHANNEL_DIVISOR)
    return rounded + CHANNEL_DIVISOR if rounded < 0.9 * channels else rounded

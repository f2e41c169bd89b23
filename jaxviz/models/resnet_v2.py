"""ResNet50V2, 101V2 and 152V2 as `keras.applications` builds them (He et al. 2016, arXiv:1603.05027), in Flax NNX.

    model = ResNet50V2(rngs=nnx.Rngs(0))  # random weights; `keras_weights.to_state` takes Keras's
    model.eval()                          # batch norms use their moving statistics, as in any NNX module
    probabilities = model(images)         # (batch, classes)

Model space: RGB in [-1, 1]. Every layer is named where it is made (`checkpoint_name`, an identity) as Keras names it in
a fresh session, in the order of `model.summary()`; what holds weights is stored under the same name.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
from flax import nnx
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

BATCH_NORM_EPSILON = 1.001e-5  # keras/src/applications/resnet.py

BLOCKS = {
    "resnet50v2": (3, 4, 6, 3),
    "resnet101v2": (3, 4, 23, 3),
    "resnet152v2": (3, 8, 36, 3),
}
CHANNELS = (64, 128, 256, 512)  # of the bottleneck, per stage; a block's output has four times as many
CLASSES = 1000
STEM_CHANNELS = 64
EXPANSION = 4  # a block's output has so many times the channels of its bottleneck
LECUN_NORMAL = nnx.initializers.lecun_normal()  # as in Flax's own layers


class ResNetV2(nnx.Module):
    """A residual network of pre-activation bottlenecks.

    Args:
        blocks: number of blocks in each stage.
        channels: channels of the bottlenecks in each stage.
        classes: number of classes.
        head: whether it ends in the classifier (`avg_pool`, `predictions`), or in the last map (`post_relu`).
        kernel_init: initializer of all kernels.
        rngs: source of the random initial weights.

    Example:
        >>> from flax import nnx
        >>> import jax.numpy as jnp
        >>> small = ResNetV2((1, 1), channels=(8, 16), classes=10, rngs=nnx.Rngs(0))
        >>> small(jnp.zeros((2, 32, 32, 3))).shape
        (2, 10)
    """

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        channels: Sequence[int] = CHANNELS,
        classes: int = CLASSES,
        head: bool = True,
        kernel_init: nnx.Initializer = LECUN_NORMAL,
        rngs: nnx.Rngs,
    ) -> None:
        conv = partial(nnx.Conv, kernel_init=kernel_init, rngs=rngs)
        self.conv1_conv = conv(3, STEM_CHANNELS, (7, 7), strides=2, padding="VALID")
        self.blocks: nnx.List[Block] = nnx.List([])
        width = STEM_CHANNELS
        for stage, (count, narrow) in enumerate(zip(blocks, channels, strict=True), start=2):
            for number in range(1, count + 1):
                name = f"conv{stage}_block{number}"
                halves = number == count and stage <= len(blocks)  # the last block, but in the last stage
                pool = _pool_name(stage - 2) if halves else None
                self.blocks.append(Block(name, width, narrow, pool=pool, kernel_init=kernel_init, rngs=rngs))
                width = EXPANSION * narrow
        self.post_bn = nnx.BatchNorm(width, epsilon=BATCH_NORM_EPSILON, rngs=rngs)
        self.predictions = nnx.Linear(width, classes, kernel_init=kernel_init, rngs=rngs) if head else None

    def __call__(
        self, images: Float[Array, "batch height width 3"], *, logits: bool = False
    ) -> Float[Array, "batch ..."]:
        """Class probabilities (batch, classes), or logits; without a head the last map."""
        x: Array = checkpoint_name(_zero_pad(images, 3), "conv1_pad")
        x = checkpoint_name(self.conv1_conv(x), "conv1_conv")
        x = checkpoint_name(_zero_pad(x, 1), "pool1_pad")
        x = checkpoint_name(nnx.max_pool(x, (3, 3), (2, 2)), "pool1_pool")
        for block in self.blocks:
            x = block(x)
        x = checkpoint_name(self.post_bn(x), "post_bn")
        x = checkpoint_name(nnx.relu(x), "post_relu")
        if self.predictions is None:
            return x
        x = checkpoint_name(x.mean(axis=(1, 2)), "avg_pool")
        x = self.predictions(x)
        x = checkpoint_name(x if logits else nnx.softmax(x), "predictions")
        return x


class Block(nnx.Module):
    """A pre-activation bottleneck: 1x1, 3x3 and 1x1 convolutions, and a shortcut around them.

    Where the block changes the number of channels, the shortcut is a convolution of the pre-activation. Where it halves
    the map, the 3x3 convolution has stride 2 and the shortcut is a max pool of single cells with stride 2.

    Args:
        name: first part of its layers' names, `conv2_block1`.
        in_channels: channels of its input.
        channels: channels of the bottleneck; the output has `EXPANSION` times as many.
        pool: name of the shortcut's pool where the map is halved, or None.
        kernel_init: initializer of all kernels.
        rngs: source of the random initial weights.
    """

    def __init__(
        self,
        name: str,
        in_channels: int,
        channels: int,
        *,
        pool: str | None,
        kernel_init: nnx.Initializer,
        rngs: nnx.Rngs,
    ) -> None:
        conv = partial(nnx.Conv, padding="VALID", kernel_init=kernel_init, rngs=rngs)
        norm = partial(nnx.BatchNorm, epsilon=BATCH_NORM_EPSILON, rngs=rngs)
        stride = 2 if pool else 1
        out_channels = EXPANSION * channels
        self.name, self.pool = name, pool
        self.convolves_shortcut = in_channels != out_channels
        layers = {
            "preact_bn": norm(in_channels),
            "1_conv": conv(in_channels, channels, (1, 1), use_bias=False),
            "1_bn": norm(channels),
            "2_conv": conv(channels, channels, (3, 3), strides=stride, use_bias=False),
            "2_bn": norm(channels),
        }
        if self.convolves_shortcut:
            layers["0_conv"] = conv(in_channels, out_channels, (1, 1), strides=stride)
        layers["3_conv"] = conv(channels, out_channels, (1, 1))
        self.layers = nnx.Dict({f"{name}_{layer}": module for layer, module in layers.items()})

    def __call__(self, x: Float[Array, "batch height width in"]) -> Float[Array, "batch height_out width_out out"]:
        """The shortcut plus what the convolutions add to it."""
        preact = self._norm_relu("preact", x)
        y = self._layer("1_conv", preact)
        y = self._norm_relu("1", y)
        y = checkpoint_name(_zero_pad(y, 1), f"{self.name}_2_pad")
        y = self._layer("2_conv", y)
        y = self._norm_relu("2", y)
        shortcut = x
        if self.convolves_shortcut:
            shortcut = self._layer("0_conv", preact)
        elif self.pool:
            shortcut = checkpoint_name(nnx.max_pool(x, (1, 1), (2, 2)), self.pool)
        y = self._layer("3_conv", y)
        x = checkpoint_name(shortcut + y, f"{self.name}_out")
        return x

    def _norm_relu(self, prefix: str, x: jax.Array) -> jax.Array:
        x = self._layer(f"{prefix}_bn", x)
        x = checkpoint_name(nnx.relu(x), f"{self.name}_{prefix}_relu")
        return x

    def _layer(self, layer: str, x: jax.Array) -> jax.Array:
        name = f"{self.name}_{layer}"
        x = checkpoint_name(self.layers[name](x), name)
        return x


class ResNet50V2(ResNetV2):
    """`ResNetV2` of 16 blocks; it takes the same settings."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(BLOCKS["resnet50v2"], **settings)


class ResNet101V2(ResNetV2):
    """`ResNetV2` of 33 blocks; it takes the same settings."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(BLOCKS["resnet101v2"], **settings)


class ResNet152V2(ResNetV2):
    """`ResNetV2` of 50 blocks; it takes the same settings."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(BLOCKS["resnet152v2"], **settings)


def preprocess(rgb):  # type: ignore[no-untyped-def]  # any array library
    """RGB in [0, 255] to model space, [-1, 1] (Keras's mode "tf")."""
    return rgb / 127.5 - 1.0


def _zero_pad(x: jax.Array, border_px: int) -> jax.Array:
    border = (border_px, border_px, 0)
    return lax.pad(x, x.dtype.type(0), ((0, 0, 0), border, border, (0, 0, 0)))


def _pool_name(halvings: int) -> str:
    """Keras counts the pools that its builder leaves without a name."""
    return f"max_pooling2d_{halvings}" if halvings else "max_pooling2d"

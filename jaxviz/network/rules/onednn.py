"""oneDNN's convolutions, which jaxlib has inside for x86: called by the name that XLA itself has for them.

That name, the settings behind it and the two options of the compiler are inner matters of XLA, and of another jaxlib
they may mean something else. So only jaxlibs are asked with which it was tried, and each is tried once more before it
is relied on (`refusal`): an older one, 0.8.0, ends the process where it should raise.
So does every one on a CPU without products of bfloat16 that is asked for them.
"""

from __future__ import annotations

import json
import platform
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Shaped

from jaxviz.machine import ONEDNN_OPTIONS, multiplies_bfloat16, not_kept
from jaxviz.network.rules import plain
from jaxviz.network.rules.plain import Pads

TRIED_JAXLIBS = ((0, 10, 2), (0, 11))  # from the first, below the second; 0.12.0.1 crashes at some shapes
TARGET = "__onednn$convolution"  # of XLA's custom call
NHWC = {"batch_dim": "0", "feature_dim": "3", "spatial_dims": ["1", "2"]}
HWIO = {"input_feature_dim": "2", "output_feature_dim": "3", "spatial_dims": ["0", "1"]}
# Of sums of 30 products of normal numbers: in another order; operands, and the result, of 8 bits.
TOLERANCES = {("float32", "float32"): 1e-4, ("bfloat16", "float32"): 1e-4, ("bfloat16", "bfloat16"): 0.1}


def conv(
    x: Shaped[Array, "batch height width in"],
    kernel: Shaped[Array, "kernel_h kernel_w in out"],
    *,
    stride: tuple[int, int],
    pads: Pads,
    dtype: Any,
) -> Shaped[Array, "batch height_out width_out out"]:
    """A convolution of float32 or bfloat16 operands of one type, summed in float32, with a result of `dtype`.

    To be compiled with `machine.ONEDNN_OPTIONS`. It has no derivative.
    """

    @custom_vmap
    def convolve(x: Array, kernel: Array) -> Array:
        return _call(x, kernel, stride, pads, dtype)

    @convolve.def_vmap
    def of_many(size: int, batched: list[bool], x: Array, kernel: Array) -> tuple[Array, bool]:
        assert batched == [True, False], "the weights are those of all images"
        y = convolve(x.reshape(-1, *x.shape[2:]), kernel)
        return y.reshape(size, -1, *y.shape[1:]), True

    convolved: Array = convolve(x, kernel)
    return convolved


@lru_cache(maxsize=1)
def refusal() -> str | None:
    """In words why it cannot be relied on here; None: it computes what `lax` does."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"oneDNN is for x86 CPUs, and this is {platform.machine()}"
    jaxlib = version("jaxlib")
    oldest, too_new = TRIED_JAXLIBS
    if not oldest <= tuple(map(int, jaxlib.split(".")[:3])) < too_new:
        return f"oneDNN was not tried inside jaxlib {jaxlib}"
    draw = np.random.default_rng(0).normal
    image, kernel = (  # numbers that bfloat16 has, so that nothing is rounded but the result
        draw(size=shape).astype(jnp.bfloat16).astype(np.float32) for shape in ((2, 9, 7, 5), (3, 2, 5, 6))
    )
    try:
        with not_kept():
            found, expected = jax.jit(_both, compiler_options=ONEDNN_OPTIONS)(image, kernel)
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        return f"this XLA does not take oneDNN's convolution: {str(error).splitlines()[0]}"
    for name, ours in found.items():
        operands, result = name.split(" to ")
        if not float(jnp.abs(ours - expected).max()) <= TOLERANCES[operands, result]:
            return f"oneDNN's convolution of {name} is not that of lax here"
    return None


def _both(image: Array, kernel: Array) -> tuple[dict[str, Array], Array]:
    """A strided convolution with uneven pads, oneDNN's by the types of operands and result, and lax's."""
    stride, pads = (2, 1), ((1, 2), (0, 3))
    ours = {}
    for operands, result in TOLERANCES:
        if operands == "bfloat16" and not multiplies_bfloat16():
            continue
        y = conv(image.astype(operands), kernel.astype(operands), stride=stride, pads=pads, dtype=jnp.dtype(result))
        ours[f"{operands} to {result}"] = y.astype(jnp.float32)
    return ours, plain.conv(image, kernel, stride=stride, pads=pads)


def _call(x: Array, kernel: Array, stride: tuple[int, int], pads: Pads, dtype: Any) -> Array:
    images, *shape, _ = x.shape
    made = [
        (length + before + after - window) // step + 1
        for length, (before, after), window, step in zip(shape, pads, kernel.shape[:2], stride, strict=True)
    ]
    (top, bottom), (left, right) = pads
    config = {
        "dims": "4",
        "input": {"data": NHWC},
        "kernel": {"filter": HWIO},
        "output": {"data": NHWC},
        "window": {
            "size": [],
            "pad_left": [str(top), str(left)],
            "pad_right": [str(bottom), str(right)],
            "strides": [str(step) for step in stride],
            "window_dilations": ["1", "1"],
        },
        "feature_groups": "1",
    }
    called: Array = jax.ffi.ffi_call(
        TARGET,
        jax.ShapeDtypeStruct((images, *made, kernel.shape[3]), dtype),
        custom_call_api_version=2,
        legacy_backend_config=json.dumps({"outer_dimension_partitions": [], "onednn_conv_config": config}),
    )(x, kernel)
    return called

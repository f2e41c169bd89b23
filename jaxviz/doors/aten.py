"""PyTorch's operations in JAX: the table. Its files are by topic; a new operation is one row of one of them.

A row takes what PyTorch's operation takes, in its order and by its names where those matter, and gives an array, or a
sequence of arrays. Whatever is not here PyTorch takes apart into its core operations, as far as they are.
"""

from __future__ import annotations

from jaxviz.doors import aten_convolution, aten_elementwise, aten_pooling, aten_products, aten_shapes

OPERATIONS: dict[str, aten_elementwise.Operation] = {
    **aten_convolution.OPERATIONS,
    **aten_elementwise.OPERATIONS,
    **aten_pooling.OPERATIONS,
    **aten_products.OPERATIONS,
    **aten_shapes.OPERATIONS,
}
FUNCTIONAL = {  # operations that are layers where a module does them by itself, and what they are called there
    **{name: name.partition(".")[0] for name in OPERATIONS if name.startswith(("conv", "avg_pool", "max_pool"))},
    **{name: name for name in ("celu", "elu", "gelu", "glu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu")},
    **{name: name for name in ("mish", "prelu", "relu", "relu6", "selu", "sigmoid", "silu", "softplus", "tanh")},
    **{name: name for name in ("adaptive_avg_pool2d", "adaptive_max_pool2d", "cat", "group_norm", "layer_norm")},
    **{name: "interpolate" for name in OPERATIONS if "upsample" in name},
    "_native_batch_norm_legit_no_training": "batch_norm",
    "add.Tensor": "add",
    "linear": "linear",
    "max_pool2d_with_indices": "max_pool2d",
    "mean.dim": "mean",
    "mul.Tensor": "mul",
    "softmax.int": "softmax",
}
OF_TWO = frozenset({"add.Tensor", "mul.Tensor"})  # those that are layers only where both operands are activations

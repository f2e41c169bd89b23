"""How convolutions and pools, and with them their input gradients, are computed: the one place where speed is tuned.

Three paths with the same functions and signatures:

    plain   `lax` convolutions and autodiff: a GPU's or TPU's fast path; differentiable in everything
    cpu     hand-written input gradients that XLA:CPU runs fast inside a loop; no weight gradients
    rounded the same for bfloat16 on a CPU that multiplies only float32

`GraphForward.fast` (models/layers.py) chooses one. Images are (batch, height, width, channels), kernels
(height, width, in, out), depthwise ones (height, width, channels). Depthwise convolutions are shifted
multiply-adds on both paths: XLA fuses them, where a grouped convolution is several times slower on a CPU.
"""

from __future__ import annotations

from types import ModuleType

from jaxviz.models.convolution import cpu, plain, rounded

PATHS: dict[str, ModuleType] = {"plain": plain, "cpu": cpu, "rounded": rounded}

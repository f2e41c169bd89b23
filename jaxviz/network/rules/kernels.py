"""Which library multiplies on a CPU: named sets of kernels, of which one belongs to the recipe of a picture.

A set says for a convolution which kernel computes it. A machine's set is found by its instruction sets, never by a
clock, so that a machine always takes the same. `LAX` runs everywhere; each other set rests on a recorded sweep
(`python -m benchmarks.kernels`), whose measured kind of CPU it is named after.

    automatic       the set that a machine takes
    why_not         why a set cannot run here
    kernel_of       the kernel that a set has for a convolution
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from jaxviz.machine import instruction_sets
from jaxviz.network.rules import onednn

log = logging.getLogger("jaxviz")

Kernel = Literal["lax", "rows", "onednn"]
"""`lax`: Eigen's convolution. `rows`: the windows as the rows of a matrix, and one product. `onednn`: see onednn.py."""

LAX = "lax"
WIDE = 256  # channels from which building the rows of a matrix costs less than bfloat16 gains


class Product(NamedTuple):
    """A convolution of one image, as far as sets look at it.

    Attributes:
        window: rows and columns of its kernel.
        channels_in, channels_out: of one group.
        cells: rows times columns of its image, over the stride: about those of its result.
        overhangs: whether the window is larger than the image.
        bfloat16: whether its operands are.
        is_plain: neither grouped nor dilated.
    """

    window: tuple[int, int]
    channels_in: int
    channels_out: int
    cells: int
    overhangs: bool
    bfloat16: bool
    is_plain: bool


@dataclass(frozen=True)
class KernelSet:
    """One set.

    Attributes:
        choose: the kernel of a convolution that is plain.
        needs: instruction sets without which it does not run.
        sweep: the file of its sweep in benchmarks/kernels/, which is the name of a CPU; "": there is none.
        keeps_bfloat16: whether activations stay bfloat16 between layers, with that dtype.
    """

    choose: Callable[[Product], Kernel]
    needs: frozenset[str] = frozenset()
    sweep: str = ""
    keeps_bfloat16: bool = False


def _by_xla(product: Product) -> Kernel:
    # XLA has no convolution of bfloat16. Where a window overhangs, it takes image and kernel for each other, turns the
    # kernel at every step, and is 50 times slower.
    return "rows" if product.window == (1, 1) or product.bfloat16 or product.overhangs else "lax"


def _on_zen4(product: Product) -> Kernel:
    if product.window == (1, 1):
        return "onednn" if product.bfloat16 and product.cells >= 400 else "rows"
    return "rows" if product.overhangs or product.cells < 9 else "onednn"


SETS: dict[str, KernelSet] = {
    LAX: KernelSet(_by_xla),
    "avx512_bf16": KernelSet(_on_zen4, frozenset({"avx2"}), "amd-epyc-family-25-model-17", keeps_bfloat16=True),
}


@lru_cache(maxsize=4)
def automatic(platform: str) -> str:
    """The name of the set that a platform of this machine takes; the log (level INFO) says why."""
    if platform != "cpu":
        return LAX
    name, reason = "avx512_bf16", ""
    refused = why_not(name, platform)
    if refused is not None:
        log.info("kernels %s: %s", LAX, refused)
        return LAX
    if name not in instruction_sets():
        reason = f"; this CPU has {', '.join(sorted(instruction_sets()))}, of which no sweep is recorded"
    log.info("kernels %s, measured on %s%s", name, SETS[name].sweep, reason)
    return name


def why_not(name: str, platform: str) -> str | None:
    """In words why a set cannot run on a platform of this machine; None: it can."""
    if name == LAX:
        return None
    if name not in SETS:
        return f"this jaxviz has no kernels {name!r}"
    if platform != "cpu":
        return f"kernels {name!r} are for CPUs"
    missing = SETS[name].needs - instruction_sets()
    if missing:
        return f"this CPU has no {', '.join(sorted(missing))}"
    return onednn.refusal()


def kernel_of(name: str, product: Product) -> Kernel:
    """The kernel of a convolution in a set. What is grouped or dilated, XLA alone computes."""
    return SETS[name].choose(product) if product.is_plain else "lax"


def takes_bfloat16(name: str, window: tuple[int, int], channels: tuple[int, int]) -> bool:
    """Whether a plain convolution gains from bfloat16 operands in a set."""
    return SETS[name].keeps_bfloat16 or window == (1, 1) or min(channels) >= WIDE

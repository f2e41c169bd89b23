"""Which library multiplies on a CPU: named sets of kernels, of which one belongs to the recipe of a picture.

A set says for the shape of a product which kernel computes it. It is chosen by the instruction sets of the CPU, never
by a clock, so that a machine always chooses the same. `LAX` is what XLA does by itself, on every machine and platform;
each other set rests on a recorded sweep (benchmarks/kernels/, `python -m benchmarks.kernels`).

    automatic       the set that a machine takes
    why_not         why a set cannot run here
"""

from __future__ import annotations

LAX = "lax"


def automatic(platform: str) -> str:  # noqa: ARG001
    """The name of the set that a platform of this machine takes."""
    return LAX


def why_not(name: str, platform: str) -> str | None:  # noqa: ARG001
    """In words why a set cannot run on a platform of this machine; None: it can."""
    return None if name == LAX else "this jaxviz has no such set"

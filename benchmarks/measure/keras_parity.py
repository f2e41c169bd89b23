"""Keras's applications through the door: activations and input gradients against Keras itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.measure.fact import Claim, Column, Fact
from benchmarks.measure.keras_networks import CELLS, KERAS_ON_JAX
from jaxviz.bench.figures import rounded

if TYPE_CHECKING:
    from benchmarks.measure.bench import Bench

# Where a deep ReLU's input is near zero, rounding decides its mask, and with it a part of the gradient.
GRADIENT_TOLERANCE = 5e-3


def measure(bench: Bench) -> dict[str, Any]:
    """A process for each family."""
    cells = []
    for name in bench.settings.keras_networks:
        with bench.worker(f"keras-{name}", KERAS_ON_JAX) as worker:
            cells += worker.ask(f"{CELLS}.compared", name=name, size=bench.settings.keras_size)
    return {"cells": cells}


def figures(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Errors of every cell; that of the gradient also as a share of what is allowed for."""
    names = ("activation_off", "gradient_off", "rounding_off", "activation_size")
    return {
        f"{cell['network']} | `{cell['layer']}`": {
            **{name: cell[name] for name in names},
            "gradient_share": rounded(cell["gradient_off"] / max(GRADIENT_TOLERANCE, cell["rounding_off"])),
        }
        for cell in raw["cells"]
    }


FACT = Fact(
    title="Keras's applications through `keras:NAME`: parity",
    work="The smallest member of each family, random weights, a shallow, a middle and a deep convolution, {keras_size} "
    "px: activations, and gradients by the fast rules, against Keras itself, relative L2",
    cases="network | layer",
    columns=(
        Column("activation off", "activation_off", ".0e"),
        Column("gradient off", "gradient_off", ".0e"),
        Column("Keras's own, image rounded otherwise", "rounding_off", ".0e"),
        Column("activation, RMS", "activation_size", ".2g"),
    ),
    claims=(
        Claim("activations are Keras's within 1e-4", "activation_off", "<=", 1e-4, "{:.0e}"),
        Claim(
            "gradients are Keras's within 5e-3, or twice what its own move by when the image's last bits do",
            *("gradient_share", "<=", 2.0, "{:.2f} of the larger one"),
        ),
    ),
    measure=measure,
    figures=figures,
)

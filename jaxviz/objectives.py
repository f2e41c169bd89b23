"""The objectives, under the name by which users import them: `from jaxviz.objectives import Channel`."""

from __future__ import annotations

from jaxviz.ascent.algebra import Combined, Objective
from jaxviz.ascent.objectives import (
    OBJECTIVES,
    Channel,
    ClassLogit,
    Direction,
    Diversity,
    LayerActivity,
    Neuron,
    parse_objective,
)

__all__ = [
    "OBJECTIVES",
    "Channel",
    "ClassLogit",
    "Combined",
    "Direction",
    "Diversity",
    "LayerActivity",
    "Neuron",
    "Objective",
    "parse_objective",
]

"""A model's table as text: what `Model.summary()` gives and `jaxviz layers` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxviz.network.table import Layer

if TYPE_CHECKING:
    from jaxviz.network.model import Model

HEADINGS = ("layer", "kind", "channels", "size", "receptive field", "MACs")


def summary(model: Model, size: tuple[int, int]) -> str:
    """One line a layer, and a line for each convolution that has no fast gradient."""
    table = model.table(size)
    rows = [HEADINGS, *(_row(layer) for layer in table)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [_line(row, widths) for row in rows]
    slow = [f"no fast gradient: {layer.name} ({layer.slow})" for layer in table if layer.slow is not None]
    return "\n".join([*lines, *slow])


def _row(layer: Layer) -> tuple[str, ...]:
    size = "-" if layer.size is None else f"{layer.size[0]}x{layer.size[1]}"
    field = "whole image" if layer.receptive_field is None else str(layer.receptive_field)
    return layer.name, layer.kind, str(layer.channels), size, field, f"{layer.macs:,}"


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    texts = [
        text.ljust(width) if place < 2 else text.rjust(width)
        for place, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(texts).rstrip()

"""What `jaxviz compare` says of two layers, as lines and as JSON values."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import msgspec

from jaxviz.cli.terminal import table_lines
from jaxviz.view.comparison import Description, differing_settings
from jaxviz.view.measures import Row

NONE = "-"


def comparison_text(first: Description, second: Description) -> str:
    """Facts, measured values and settings that differ: a line each, a column for each layer."""
    sides = first, second
    cells = [["", *(side.pictures.layer for side in sides)]]
    cells += [list(line) for line in zip(_FACT_NAMES, *map(_facts, sides), strict=True)]
    facts = len(cells)
    for one, other in zip(first.rows, second.rows, strict=True):
        if one.count or other.count:
            cells.append([f"{one.label}, {one.unit}" if one.unit else one.label, _measured(one), _measured(other)])
    measured = len(cells)
    for name, values in differing_settings(first.pictures, second.pictures).items():
        cells.append([name, *map(_setting, values)])
    lines = table_lines(cells)
    blocks = [lines[:facts], ["measured: median (quartiles)", *lines[facts:measured]]]
    if lines[measured:]:
        blocks.append(["made differently, which measured values may show", *lines[measured:]])
    return "\n\n".join("\n".join(block) for block in blocks)


def comparison_json(first: Description, second: Description) -> dict[str, Any]:
    """The same as JSON values."""
    return {
        "layers": [_side_json(first), _side_json(second)],
        "differing_settings": {
            name: list(values) for name, values in differing_settings(first.pictures, second.pictures).items()
        },
    }


_FACT_NAMES = ("model", "label", "kind", "place in the network", "channels", "receptive field", "pictures", "device")


def _facts(side: Description) -> list[str]:
    pictures, facts = side.pictures, side.facts
    counts = ", ".join(f"{count} {status}" for status, count in pictures.counts.items() if count)
    known = ["unknown"] * 4
    if facts is not None:
        field = "the whole image" if facts.receptive_field is None else f"{facts.receptive_field} px"
        known = [facts.kind, f"{facts.place} of {facts.layers}", str(facts.channels), field]
    made = f"{len(pictures.tiles)} ({counts})"
    return [pictures.model, pictures.label, *known, made, pictures.device or "unknown"]


def _measured(row: Row) -> str:
    if row.median is None:
        return NONE
    if row.lower is None or row.upper is None:
        return _number(row.median)
    return f"{_number(row.median)} ({_number(row.lower)} - {_number(row.upper)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _setting(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "x".join(map(str, value)) if all(isinstance(item, int) for item in value) and value else str(value)
    return NONE if value is None else str(value)


def _side_json(side: Description) -> dict[str, Any]:
    pictures = side.pictures
    return {
        "model": pictures.model,
        "layer": pictures.layer,
        "label": pictures.label,
        "folder": str(pictures.path),
        "facts": None if side.facts is None else msgspec.to_builtins(side.facts),
        "pictures": len(pictures.tiles),
        "counts": pictures.counts,
        "device": pictures.device,
        "measured": {
            row.key: {
                name: _finite(value)
                for name, value in asdict(row).items()
                if name in ("unit", "median", "lower", "upper", "count")
            }
            for row in side.rows
        },
    }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value

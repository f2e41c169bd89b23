"""An objective as data, as recipes have it: the terms of a weighted sum, and what they are in words. No jax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Term = dict[str, Any]  # `weight`, `name` and the objective's own fields, where they are not its defaults


def objective_text(terms: Sequence[Term]) -> str:
    """An objective in words, such as `channel(border=2) - 0.5 * neuron(y=3, x=4)`."""
    text = ""
    for term in terms:
        weight, name = term["weight"], term["name"]
        sign = (" - " if weight < 0 else " + ") if text else ""
        weight = abs(weight) if text else weight
        values = ", ".join(_field_text(*item) for item in term.items() if item[0] not in ("weight", "name"))
        text += sign + ("" if weight == 1 else f"{weight!r} * ") + name + (f"({values})" if values else "")
    return text


def _field_text(name: str, value: Any) -> str:
    return f"{name}={value[:12] if name.endswith('_sha256') else repr(value)}"
